"""The driver on NVIDIA's own classes with tiny random weights, where the package is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from lanepaint_assets.evaluation.alpamayo.engine import AlpamayoDriver
from lanepaint_assets.evaluation.alpamayo.repositories import COMPANIONS, LocalCheckpoint
from lanepaint_assets.evaluation.alpamayo.worker import RELEASES, offline_hub
from lanepaint_assets.evaluation.driver import ask
from lanepaint_assets_tests import torchvision_ops  # noqa: F401  # before transformers
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import FRONT, moment
from lanepaint_assets_tests.unit.evaluation.alpamayo.tiny_alpamayo import save_companions, save_tiny_alpamayo

SEEDS = (11, 12, 13, 14)


def linked_companions(folder: Path, hub: Path) -> Path:
    save_companions(folder)
    files = {repository: {p.name: p for p in (folder / repository.folder_name).iterdir()} for repository in COMPANIONS}
    LocalCheckpoint(folder, files).link(hub)
    return hub


@pytest.fixture(scope="module", params=sorted(RELEASES))
def release(request: pytest.FixtureRequest) -> str:
    package = RELEASES[request.param].package
    pytest.importorskip(package, reason=f"{package} is not importable here; it is NVIDIA's, and on no registry")
    return str(request.param)


@pytest.fixture(scope="module")
def folder(release: str, tmp_path_factory: pytest.TempPathFactory) -> UPath:
    place = tmp_path_factory.mktemp("tiny_alpamayo")
    return UPath(save_tiny_alpamayo(place, release, linked_companions(place, tmp_path_factory.mktemp("cache") / "hub")))


def test_the_real_class_answers_in_shape_and_repeats_itself(folder: UPath, release: str) -> None:
    """Chunks of one: the second asks with tokens that the first must not have taken anything out of."""
    driver = AlpamayoDriver.from_checkpoint(folder, model=release, device="cpu", max_tokens=12, chunk=1)
    first, again = (ask(driver, moment(), SEEDS[:2]) for _ in range(2))
    assert first.trajectories_m.shape == (2, 64, 3)
    np.testing.assert_array_equal(first.trajectories_m, again.trajectories_m)
    assert first.reasoning == again.reasoning


def test_a_reasoning_one_token_shorter_moves_the_real_class_far_less_than_another_seed(
    folder: UPath, release: str
) -> None:
    longer, shorter = (
        AlpamayoDriver.from_checkpoint(folder, model=release, device="cpu", max_tokens=length) for length in (12, 11)
    )
    original = ask(longer, moment(), SEEDS).trajectories_m
    cut = ask(shorter, moment(), SEEDS).trajectories_m
    other = ask(longer, moment(), tuple(seed + 100 for seed in SEEDS)).trajectories_m

    def distance(paths: np.ndarray) -> float:
        return float(np.linalg.norm(paths - original, axis=-1).mean())

    assert distance(cut) < 0.1 * distance(other)


def test_only_1_5_answers_for_one_camera(folder: UPath, release: str) -> None:
    driver = AlpamayoDriver.from_checkpoint(folder, model=release, device="cpu", max_tokens=4)
    if not driver.accepts_one_camera:
        pytest.skip("R1 was trained on four cameras")
    assert ask(driver, moment(cameras=(FRONT,)), SEEDS[:1]).trajectories_m.shape == (1, 64, 3)


def test_the_tiny_companions_are_what_the_real_processor_reads(tmp_path: Path) -> None:
    """Runs everywhere: the companions' half of the tiny model, through transformers' own classes."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    hub = linked_companions(tmp_path / "companions", tmp_path / "hub")
    with offline_hub(hub):
        snapshot = next((hub / COMPANIONS[1].cache_name / "snapshots").iterdir())
        processor = transformers.AutoProcessor.from_pretrained(snapshot)
        config = transformers.AutoConfig.from_pretrained(snapshot)
    picture = moment().frames[FRONT][0].transpose(2, 0, 1)
    message = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "drive"}]}]
    tokens = processor.apply_chat_template(message, tokenize=True, return_dict=True, return_tensors="pt")
    assert type(processor).__name__ == "Qwen3VLProcessor"
    assert int((tokens["input_ids"] == config.image_token_id).sum()) == int(tokens["image_grid_thw"].prod()) // 4
    network = transformers.Qwen3VLForConditionalGeneration(config).eval()
    assert network(**tokens).logits.shape[-1] == config.text_config.vocab_size
