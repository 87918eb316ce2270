"""Smoke checks of the real engines on tiny checkpoints: sound ones pass, and each kind of broken one is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.smoke_check import Outcome, in_this_process
from lanepaint_assets.engines import ENGINES, Checkable, EngineEntry, engine_reading
from lanepaint_assets.segmentation.sam2 import engine as sam2_engine
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES, build_predictor
from lanepaint_assets.settings import Settings
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.cogvideox import save_tiny_branch, save_tiny_cogvideox
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux
from lanepaint_assets_tests.tiny_models.qwen import save_tiny_qwen
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY

SAM2, FLUX, QWEN = "sam2_checkpoint", "flux_fill_checkpoint", "qwen_vl_checkpoint"
COG, BRANCH = "cogvideox_checkpoint", "videopainter_branch_checkpoint"


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(autouse=True)
def own_residency(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check finds the models of another."""
    monkeypatch.setattr(Residency, "_all", {})


@pytest.fixture(autouse=True)
def tiny_sam2(monkeypatch: pytest.MonkeyPatch) -> None:
    named = replace(TINY, name=ARCHITECTURES["tiny"].name)
    monkeypatch.setattr(sam2_engine, "ARCHITECTURES", {**ARCHITECTURES, "tiny": named})


@dataclass(frozen=True)
class Root:
    """A store's root with checkpoints in it."""

    path: Path

    def folder(self, asset: str) -> Path:
        return self.path / "checkpoints" / CHECKPOINT_FOLDERS[asset]

    def put(self, asset: str) -> None:
        if asset == SAM2:
            torch.manual_seed(0)
            self.folder(asset).mkdir(parents=True)
            weights = build_predictor(TINY, torch.device("cpu")).state_dict()
            torch.save({"model": weights}, self.folder(asset) / "sam2.1_hiera_tiny.pt")
            return
        writers: dict[str, Callable[[Path], Path]] = {
            FLUX: save_tiny_flux,
            COG: save_tiny_cogvideox,
            BRANCH: save_tiny_branch,
            QWEN: save_tiny_qwen,
        }
        writers[asset](self.folder(asset))

    def check(self, asset: str) -> Outcome:
        entry = engine_reading(asset)
        devices: Any = dict.fromkeys(("device", "flux_device", "cog_device", "qwen_device"), "cpu")
        return in_this_process(Settings(root=str(self.path), sam2_model="tiny", **devices), entry)

    def weights(self, asset: str, part: str = "") -> Path:
        (file,) = (self.folder(asset) / part).glob("*.safetensors")
        return file


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


def damage(file: Path, change: Callable[[torch.Tensor], torch.Tensor], name: str = "") -> str:
    """Change the first weight whose name holds `name`; returns its name."""
    weights = load_file(file)
    chosen = next(key for key in sorted(weights) if name in key)
    weights[chosen] = change(weights[chosen])
    save_file(weights, file, metadata={"format": "pt"})
    return chosen


def with_nan(weight: torch.Tensor) -> torch.Tensor:
    return torch.full_like(weight, float("nan"))


def one_longer(weight: torch.Tensor) -> torch.Tensor:
    return torch.cat([weight, weight[:1]])


# A part of each checkpoint, a weight that every input meets, and what a reason calls the part.
PARTS = [
    (FLUX, "transformer", "proj_out.weight", "flux transformer"),
    (FLUX, "vae", "decoder.conv_out.weight", "flux autoencoder"),
    (FLUX, "text_encoder", "final_layer_norm.weight", "clip"),
    (FLUX, "text_encoder_2", "final_layer_norm.weight", "t5"),
    (COG, "transformer", "proj_out.weight", "cogvideox transformer"),
    (COG, "vae", "decoder.conv_out.conv.weight", "cogvideox autoencoder"),
    (COG, "text_encoder", "final_layer_norm.weight", "t5"),
    (BRANCH, "", "branch_blocks.0.weight", "videopainter branch"),
    (QWEN, "", "lm_head.weight", "qwen"),
    (QWEN, "", "visual.merger.mlp.2.weight", "qwen"),
]


def all_of(asset: str) -> list[str]:
    return [checkpoint.asset for checkpoint in engine_reading(asset).checkpoints]


@pytest.mark.parametrize("asset", [SAM2, FLUX, COG, QWEN])
def test_a_sound_checkpoint_passes(root: Root, asset: str) -> None:
    for each in all_of(asset):
        root.put(each)
    outcome = root.check(asset)
    assert outcome.reason is None
    assert outcome.is_final


@pytest.mark.parametrize(("asset", "part", "weight", "told"), PARTS, ids=lambda value: str(value))
def test_weights_that_are_nan_are_refused_by_name(root: Root, asset: str, part: str, weight: str, told: str) -> None:
    for each in all_of(asset):
        root.put(each)
    damage(root.weights(asset, part), with_nan, weight)
    outcome = root.check(asset)
    assert outcome.is_final
    assert re.match(rf"{told} .*: its weight \S*{re.escape(weight)} is NaN or infinite", outcome.reason or "")


@pytest.mark.parametrize(
    ("asset", "part"), [(FLUX, "transformer"), (FLUX, "text_encoder_2"), (COG, "vae"), (BRANCH, ""), (QWEN, "")]
)
def test_weights_of_another_shape_or_cut_short_are_refused(root: Root, asset: str, part: str) -> None:
    for each in all_of(asset):
        root.put(each)
    file = root.weights(asset, part)
    whole = file.read_bytes()
    name = damage(file, one_longer, "weight")
    outcome = root.check(asset)
    assert outcome.is_final
    assert re.search(rf"1 weights are of another shape \(\S*{re.escape(name)}: \[", outcome.reason or "")
    file.write_bytes(whole[:-8])
    outcome = root.check(asset)
    assert outcome.is_final
    assert f"{file.name}: this file of the checkpoint is damaged or cut short" in (outcome.reason or "")


def test_a_missing_weight_is_refused_and_not_drawn_at_random(root: Root) -> None:
    root.put(FLUX)
    file = root.weights(FLUX, "transformer")
    weights = load_file(file)
    del weights["proj_out.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    assert "1 weights are missing (proj_out.weight)" in (root.check(FLUX).reason or "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights["no_mem_embed"].fill_(float("nan")), None),
        (lambda weights: weights["image_encoder.trunk.patch_embed.proj.weight"].fill_(float("nan")), "NaN or infinite"),
        (lambda weights: weights.pop("no_mem_embed"), "1 weights are missing (no_mem_embed)"),
        (
            lambda weights: weights.update(no_mem_embed=torch.zeros(1, 1, 5)),
            "no_mem_embed: [1, 1, 5] instead of [1, 1, 32]",
        ),
    ],
)
def test_a_broken_sam_2_is_refused(root: Root, change: Callable[[Any], object], told: str | None) -> None:
    root.put(SAM2)
    path = root.folder(SAM2) / "sam2.1_hiera_tiny.pt"
    content = torch.load(path, weights_only=True)
    change(content["model"])
    torch.save(content, path)
    outcome = root.check(SAM2)
    assert outcome.is_final
    assert outcome.reason is not None
    assert (told or "NaN or infinite") in outcome.reason


def test_another_models_folder_is_refused(root: Root) -> None:
    root.put(QWEN)
    config = root.folder(QWEN) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "llama"}))
    assert "it is of a 'llama' model" in (root.check(QWEN).reason or "")


@pytest.mark.parametrize("entry", [entry for entry in ENGINES if entry.checkpoints], ids=lambda entry: entry.name)
def test_every_engine_with_checkpoints_can_be_checked(entry: EngineEntry) -> None:
    module, name = entry.target.split(":")
    engine = getattr(import_module(module), name)
    assert issubclass(engine, Checkable)
