"""FLUX.1 Fill on a GPU: the same pictures wherever its weights were meanwhile, within the memory that it announces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lanepaint_assets.editing.engine import LoraWeights
from lanepaint_assets.editing.flux_fill.engine import _BYTES_A_PIXEL, CAPTION_TOKENS, random_flux
from lanepaint_assets.torch_models.residency import GIB
from lanepaint_assets.torch_models.text_encoder import BATCH, BYTES_A_PAIR
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux, save_tiny_lora
from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer
from lanepaint_assets_tests.unit.editing.flux_fill.tasks import instruction, painter, parts, scene

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

GPU = torch.device("cuda:0")


def test_pictures_are_the_same_after_the_weights_were_away(tmp_path: Path) -> None:
    flux = painter(save_tiny_flux(tmp_path / "flux"), device="cuda:0")
    lora = LoraWeights(save_tiny_lora(tmp_path / "dashed.safetensors"), 0.5)
    orders = [instruction(), instruction(lora=lora)]
    before = [flux.paint_first_frame(scene(50, 82), order) for order in orders]
    assert (before[0] != before[1]).mean() > 0.1
    flux._residency.release(*parts(flux))
    assert {weight.device.type for weight in flux._parts.transformer.module.parameters()} == {"cpu"}
    for picture, order in zip(before, orders, strict=True):
        np.testing.assert_array_equal(flux.paint_first_frame(scene(50, 82), order), picture)
    flux._residency.release(*parts(flux), forget=True)


def test_compiled_blocks_paint_the_same_but_for_rounding(tmp_path: Path) -> None:
    folder = save_tiny_flux(tmp_path / "flux")
    lora = LoraWeights(save_tiny_lora(tmp_path / "dashed.safetensors"), 0.5)
    plain, compiled = painter(folder, device="cuda:0"), painter(folder, device="cuda:0", compiled=True)
    for order in (instruction(), instruction(lora=lora), instruction()):
        expected, found = (flux.paint_first_frame(scene(), order) for flux in (plain, compiled))
        assert np.abs(expected.astype(int) - found).mean() < 8
    plain._residency.release(*parts(plain), *parts(compiled), forget=True)


def test_a_full_size_model_stays_within_its_working_memory() -> None:
    """Draws 17 billion weights, half a minute."""
    flux = random_flux(clip_tokenizer(), t5_tokenizer(), device="cuda:0", steps=1)
    residency, (t5, clip, *paint) = flux._residency, parts(flux)
    # The first calls draw the weights and start the libraries.
    flux.prepare(["warm up"])
    torch.cuda.reset_peak_memory_stats(GPU)
    start = torch.cuda.memory_allocated(GPU)
    flux.prepare([f"caption {index}" for index in range(BATCH)])
    heads = t5.module.config.num_heads
    assert torch.cuda.max_memory_allocated(GPU) - start < BATCH * heads * CAPTION_TOKENS**2 * BYTES_A_PAIR
    residency.release(t5, clip)

    flux.paint_first_frame(scene(1080, 1920), instruction("caption 0"))
    torch.cuda.reset_peak_memory_stats(GPU)
    start = torch.cuda.memory_allocated(GPU)
    picture = flux.paint_first_frame(scene(1080, 1920), instruction("caption 0", seed=1))
    assert picture.shape == (1080, 1920, 3)
    assert torch.cuda.max_memory_allocated(GPU) - start < 1088 * 1920 * _BYTES_A_PIXEL
    assert sum(part.bytes for part in paint) < 22.5 * GIB
    residency.release(*parts(flux), forget=True)
