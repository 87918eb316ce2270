"""LoRAs act on the pictures that ask for them, at the scale asked for, and leave nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from lanepaint_assets.editing.engine import LoraWeights
from lanepaint_assets.editing.flux_fill.engine import FluxFillPainter
from lanepaint_assets.store.items import ItemError
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_lora
from lanepaint_assets_tests.unit.editing.flux_fill.tasks import instruction, painter, scene

# One of the weights in a LoRA's file.
KEY = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"


@pytest.fixture
def flux(checkpoint: Path, tmp_path: Path) -> FluxFillPainter:
    """With a transformer of its own: engines on one checkpoint share theirs, and its LoRAs."""
    return painter(Path(shutil.copytree(checkpoint, tmp_path / "checkpoint")))


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return save_tiny_lora(tmp_path / "dashed.safetensors", seed=1)


def painted(flux: FluxFillPainter, file: Path | None = None, scale: float = 1.0) -> NDArray[np.uint8]:
    weights = None if file is None else LoraWeights(file, scale)
    return flux.paint_first_frame(scene(), instruction(lora=weights))


def loaded(flux: FluxFillPainter) -> int:
    model: Any = flux._parts.transformer.module
    return len(getattr(model, "peft_config", {}))


def test_a_lora_changes_the_picture_as_its_scale_says(flux: FluxFillPainter, lora: Path) -> None:
    plain, half, full = painted(flux), painted(flux, lora, 0.5), painted(flux, lora)
    assert (half != plain).mean() > 0.1
    assert (full != half).mean() > 0.1
    np.testing.assert_array_equal(painted(flux, lora, 0.5), half)


def test_without_a_lora_and_at_scale_0_it_is_the_model_itself_to_the_last_bit(
    flux: FluxFillPainter, lora: Path
) -> None:
    plain = painted(flux)
    np.testing.assert_array_equal(painted(flux, lora, 0.0), plain)
    assert loaded(flux) == 0
    painted(flux, lora)
    np.testing.assert_array_equal(painted(flux), plain)
    np.testing.assert_array_equal(painted(flux, lora, 0.0), plain)


def test_only_one_lora_acts_at_a_time(flux: FluxFillPainter, lora: Path, tmp_path: Path) -> None:
    other = save_tiny_lora(tmp_path / "solid.safetensors", seed=2)
    alone = painted(flux, lora)
    assert (painted(flux, other) != alone).mean() > 0.1
    np.testing.assert_array_equal(painted(flux, lora), alone)


def test_each_file_is_loaded_once(flux: FluxFillPainter, lora: Path, tmp_path: Path) -> None:
    for scale in (1.0, 0.5, 1.0):
        painted(flux, lora, scale)
        painted(flux)
    painted(flux, Path(shutil.copy(lora, tmp_path / "copy.safetensors")))
    assert loaded(flux) == 1


def test_a_lora_that_was_trained_again_is_another_one(flux: FluxFillPainter, lora: Path) -> None:
    before = painted(flux, lora)
    save_tiny_lora(lora, seed=3)
    assert (painted(flux, lora) != before).mean() > 0.1
    assert loaded(flux) == 2


def test_the_alpha_that_a_lora_was_trained_with_counts(flux: FluxFillPainter, lora: Path, tmp_path: Path) -> None:
    # The rank is 4: alphas of 8 and 2 are scales of 2 and 0.5.
    weak = save_tiny_lora(tmp_path / "weak.safetensors", seed=1, alpha=2)
    np.testing.assert_array_equal(painted(flux, weak, 4.0), painted(flux, lora))


def test_the_dropout_that_a_lora_was_trained_with_does_not_act(flux: FluxFillPainter, lora: Path) -> None:
    plain = painted(flux, lora)
    dropping = save_tiny_lora(lora, seed=1, dropout=0.5)
    np.testing.assert_array_equal(painted(flux, dropping), plain)
    model = flux._parts.transformer.module
    assert not any(module.training for module in model.modules())
    assert not any(weight.requires_grad for weight in model.parameters())


def test_a_lora_acts_on_weights_of_8_bits_too(flux: FluxFillPainter, lora: Path, tmp_path: Path) -> None:
    exact = painted(flux, lora)
    small = painter(tmp_path / "checkpoint", fp8=True)
    plain = painted(small)
    assert np.abs(painted(small, lora).astype(int) - exact).mean() < 5
    np.testing.assert_array_equal(painted(small), plain)


def refused(flux: FluxFillPainter, file: Path, reason: str) -> None:
    """The file is refused by name, and the transformer is as before."""
    plain = painted(flux)
    with pytest.raises(ItemError, match=rf"{file.name}.*{reason}"):
        painted(flux, file)
    assert loaded(flux) == 0
    np.testing.assert_array_equal(painted(flux), plain)


def test_a_file_that_is_not_there_is_refused(flux: FluxFillPainter, tmp_path: Path) -> None:
    refused(flux, tmp_path / "dotted.safetensors", "there is no such LoRA")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_is_no_checkpoint_is_refused(flux: FluxFillPainter, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dotted.safetensors").write_bytes(content)
    refused(flux, tmp_path / "dotted.safetensors", "not a readable LoRA of FLUX")


def test_a_lora_that_was_cut_short_is_refused(flux: FluxFillPainter, lora: Path) -> None:
    lora.write_bytes(lora.read_bytes()[:-100])
    refused(flux, lora, "not a readable LoRA of FLUX")


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("transformer.transformer_blocks.7.attn.to_q.lora_A.weight", (4, 32)),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", (4, 32)),
        ("text_encoder.layers.0.q_proj.lora_A.weight", (4, 32)),
        ("transformer.norm_out.lora_A.weight", (4, 32)),
        ("unet.down.weight", (4, 32)),
        (KEY, (4, 31)),
        (KEY.replace("lora_A", "lora_B"), (31, 4)),
        (KEY, (4,)),
    ],
)
def test_a_lora_of_another_network_is_refused(
    flux: FluxFillPainter, lora: Path, key: str, shape: tuple[int, ...]
) -> None:
    save_file({**load_file(lora), key: torch.zeros(shape)}, lora)
    refused(flux, lora, "not a LoRA of FLUX.1 Fill's transformer: it has no place for")


def test_a_lora_with_nan_is_refused(flux: FluxFillPainter, lora: Path) -> None:
    weights = load_file(lora)
    weights[KEY][0, 0] = torch.nan
    save_file(weights, lora)
    refused(flux, lora, "NaN or infinite")


def test_a_lora_without_weights_is_refused(flux: FluxFillPainter, lora: Path) -> None:
    save_file({}, lora)
    refused(flux, lora, "holds no weights")
