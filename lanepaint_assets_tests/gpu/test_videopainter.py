"""The video model on GPUs: the same clips wherever its weights were, compiled or not, and within its working memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanepaint_assets.editing.videopainter.engine import (
    _AUTOENCODER_BYTES_A_PIXEL,
    _DENOISING_BYTES,
    _TILED_BYTES,
    random_cogvideox,
)
from lanepaint_assets.editing.videopainter.pipeline import WindowSettings
from lanepaint_assets.editing.videopainter.sampler import HostNoiseSampler
from lanepaint_assets.torch_models.residency import GIB, Residency
from lanepaint_assets_tests.tiny_models.cogvideox import save_tiny_branch, save_tiny_cogvideox, tiny_architecture
from lanepaint_assets_tests.tiny_models.tokenizers import t5_tokenizer
from lanepaint_assets_tests.unit.editing.videopainter.clips import engine_of, painted, parts_of, scene_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def own_residency(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the models of another."""
    monkeypatch.setattr(Residency, "_all", {})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videopainter")
    save_tiny_cogvideox(folder / "model")
    save_tiny_branch(folder / "branch")
    return folder


def test_a_clip_is_the_same_after_the_weights_were_away(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, device="cuda:0", steps=2)
    before = painted(engine, scene_of(30))
    engine._residency.release(*parts_of(engine))
    assert {weight.device.type for weight in engine._parts.denoisers.transformer.module.parameters()} == {"cpu"}
    np.testing.assert_array_equal(painted(engine, scene_of(30)), before)
    assert [part.loads for part in parts_of(engine)] == [1, 1, 1, 1]


def test_a_step_of_the_sampler_does_not_wait_for_the_device() -> None:
    sampler = HostNoiseSampler.from_config(tiny_architecture().scheduler().config)
    sampler.set_timesteps(4, GPU)
    sample = torch.randn(1, 3, 4, 5, 6)
    results = []
    for device in ("cpu", "cuda:0"):
        given, generator = sample.to(device), torch.Generator().manual_seed(1)
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            earlier = sampler.step(given, None, sampler.timesteps[0], None, given, generator)
            results.append(sampler.step(given, earlier[1], *sampler.timesteps[[1, 0]], earlier[0], generator)[0])
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    torch.testing.assert_close(results[1].cpu(), results[0])


@pytest.mark.parametrize("faster", [{"compiled": True}, {"compiled": True, "second_device": "cuda:1"}])
def test_a_faster_form_paints_the_same_but_for_rounding(checkpoint: Path, faster: dict[str, Any]) -> None:
    if "second_device" in faster and torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU here")
    expected = painted(engine_of(checkpoint, device="cuda:0", steps=2), scene_of())
    # Weights rounded to bfloat16 are the same in both; sums are not.
    found = painted(engine_of(checkpoint, device="cuda:0", steps=2, **faster), scene_of())
    assert np.abs(expected.astype(int) - found).mean() < 8


def test_compiled_blocks_are_not_compiled_again_when_weights_come_back(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, device="cuda:0", steps=2, compiled=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    painted(engine, scene_of())
    engine._residency.release(*parts_of(engine))
    painted(engine, scene_of(seed=1))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_a_full_size_model_stays_within_its_working_memory() -> None:
    """Draws 11 billion weights and paints a window in one step."""
    engine = random_cogvideox(t5_tokenizer(), device="cuda:0", settings=WindowSettings(steps=1))
    scene = scene_of(49, 480, 720)
    # The first call draws the weights and starts the libraries.
    latents = []
    real = engine._decoded
    engine._decoded = lambda found, tight: latents.append(found) or real(found, tight)
    assert painted(engine, scene).shape == scene.frames.shape
    residency, parts = engine._residency, engine._parts
    generator = torch.Generator().manual_seed(0)
    text = parts.words.encode(["a white line", ""], 226)
    window = engine._encoded(scene.frames, scene.paint_masks, generator, generator.get_state(), False)
    for limit, part, work in (
        (
            480 * 720 * _AUTOENCODER_BYTES_A_PIXEL,
            (parts.autoencoder,),
            lambda: engine._encoded(scene.frames, scene.paint_masks, generator, generator.get_state(), False),
        ),
        (480 * 720 * _AUTOENCODER_BYTES_A_PIXEL, (parts.autoencoder,), lambda: real(latents[0], False)),
        (_TILED_BYTES, (parts.autoencoder,), lambda: real(latents[0], True)),
        (
            _DENOISING_BYTES,
            (parts.denoisers.transformer, parts.denoisers.branch),
            lambda: engine._denoised(window, text, generator, generator.get_state(), None, "a window", False),
        ),
        (
            _DENOISING_BYTES // 2,
            (parts.denoisers.transformer, parts.denoisers.branch),
            lambda: engine._denoised(window, text, generator, generator.get_state(), None, "a window", True),
        ),
    ):
        with residency.holding(*part):
            torch.cuda.reset_peak_memory_stats(GPU)
            start = torch.cuda.memory_allocated(GPU)
            work()
            assert torch.cuda.max_memory_allocated(GPU) - start < limit
    assert sum(one.bytes for one in parts_of(engine)) < 21.5 * GIB
    residency.release(*parts_of(engine), forget=True)
