"""Which LoRA an edit is painted with, and what of it enters fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.editing.loras import catalogue_version, chosen_lora, promoted_fingerprints
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items
from lanepaint_assets.store.promoted_loras import ASSET, BASE_ASSET, WEIGHTS_FILE, promote

STYLE = "double_yellow_solid"


def platform(root: Path, **settings: Any) -> Platform:
    return Platform(Settings(root=str(root), **{"first_frame_painter": "flux_fill", **settings}))


def put_base(root: Path, content: str = "weights") -> None:
    folder = root / "checkpoints" / CHECKPOINT_FOLDERS[BASE_ASSET]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(content)


def train(root: Path, base: str, version: str = "20260101t000000", fingerprint: str = "a" * 64) -> None:
    """Publish and promote a LoRA as a finished training does."""

    def write(_: ItemTask, folder: Path) -> ItemOutput:
        (folder / WEIGHTS_FILE).write_bytes(b"lora")
        return ItemOutput(facts={"base": base})

    store = platform(root).store
    outcome = run_items(store, ASSET, STYLE, [ItemTask(version, fingerprint)], write, run_id="run")
    promote(store, STYLE, outcome.manifest.rows[version], "training")


def base_digest(root: Path) -> str:
    return platform(root).checkpoint_digests("first_frame_painter")[BASE_ASSET]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put_base(tmp_path)
    return tmp_path


def test_a_style_without_a_lora_is_painted_with_the_base_model(root: Path) -> None:
    assert chosen_lora(platform(root), platform(root).catalogue[STYLE]) is None


def test_the_promoted_lora_of_the_prompts_style_is_taken_and_no_other(root: Path) -> None:
    train(root, base_digest(root))
    here = platform(root, flux_lora_scale=0.5)
    lora = chosen_lora(here, here.catalogue[STYLE])
    assert lora is not None
    assert (lora.digest, lora.scale, lora.refusal) == ("a" * 64, 0.5, None)
    assert lora.weights(here).path.read_bytes() == b"lora"
    assert chosen_lora(here, here.catalogue["single_white_dashed"]) is None
    assert chosen_lora(here, here.catalogue["repaint_as_measured"]) is None


def test_a_painter_without_a_model_knows_of_no_lora(root: Path) -> None:
    train(root, base_digest(root))
    here = platform(root, first_frame_painter="procedural")
    assert chosen_lora(here, here.catalogue[STYLE]) is None


def test_a_lora_of_another_base_is_refused_by_name(root: Path) -> None:
    train(root, base_digest(root))
    put_base(root, "other weights")
    here = platform(root)
    lora = chosen_lora(here, here.catalogue[STYLE])
    assert lora is not None
    assert "20260101t000000 of double_yellow_solid was trained on another FLUX.1 Fill checkpoint" in str(lora.refusal)


def test_a_persons_file_wins_for_every_prompt(root: Path, tmp_path: Path) -> None:
    train(root, base_digest(root))
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"own")
    here = platform(root, flux_lora=str(own))
    for prompt in (here.catalogue[STYLE], here.catalogue["single_white_dashed"]):
        lora = chosen_lora(here, prompt)
        assert lora is not None
        assert lora.weights(here).path == own
    own.unlink()
    with pytest.raises(CheckpointError, match=r"own\.safetensors: there is no such checkpoint"):
        chosen_lora(platform(root, flux_lora=str(own)), here.catalogue[STYLE])


def test_a_promotion_changes_the_catalogues_version(root: Path) -> None:
    here = platform(root)
    before = catalogue_version(here.catalogue, promoted_fingerprints(here.store, here.catalogue))
    train(root, base_digest(root))
    promoted = promoted_fingerprints(here.store, here.catalogue)
    assert promoted == {STYLE: "a" * 64}
    assert catalogue_version(here.catalogue, promoted) != before
