"""SAM 2 on a GPU: replayed graphs and batches change nothing, frames look as on the CPU, memory is given back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lanepaint_assets.segmentation.sam2 import engine as engine_module
from lanepaint_assets.segmentation.sam2.engine import Sam2RoadSegmenter
from lanepaint_assets.segmentation.sam2.predictor import network_pictures, on_device
from lanepaint_assets.segmentation.sam2.weights import RandomWeights
from lanepaint_assets.store.items import ItemError
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY, moving_texture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

# Enough clips that every shape has been captured.
CLIPS = 4


def on_gpu(batch: int = 1) -> Sam2RoadSegmenter:
    return Sam2RoadSegmenter(RandomWeights(0), TINY, device="cuda", encoder_batch=batch)


def test_replayed_graphs_give_what_launching_every_kernel_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving_texture(24, 240, 135)
    replayed = on_gpu()
    masks = [replayed.segment_video(frames) for _ in range(CLIPS)]
    monkeypatch.setattr(engine_module, "_replay_small_parts", lambda _: None)
    launched = on_gpu().segment_video(frames)
    assert 0.02 < launched.mean() < 0.98
    for found in masks:
        assert (found == launched).mean() > 0.9999


def test_batches_of_frames_give_what_single_frames_give() -> None:
    frames = moving_texture(20, 240, 135)
    assert (on_gpu(8).segment_video(frames) == on_gpu(1).segment_video(frames)).mean() > 0.995


def test_frames_are_resized_as_on_the_cpu() -> None:
    frames = moving_texture(2, 300, 170)
    gpu = network_pictures(on_device(frames, torch.device("cuda")), 128).cpu()
    cpu = network_pictures(on_device(frames, torch.device("cpu")), 128)
    assert (gpu - cpu).abs().max() < 1.01 / 255 / 0.224
    assert ((gpu - cpu).abs() > 1e-4).float().mean() < 1e-3


def test_a_clip_that_does_not_fit_leaves_the_memory_as_it_was() -> None:
    engine = on_gpu()
    frames = moving_texture(4, 240, 135)
    before = engine.segment_video(frames)
    held = torch.cuda.memory_allocated()
    limit = torch.cuda.memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit + 1e-4))
    try:
        with pytest.raises(ItemError, match="does not fit into the memory of cuda"):
            engine.segment_video(np.zeros((8, 8192, 8192, 3), dtype=np.uint8))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_allocated() <= held + (1 << 20)
    np.testing.assert_array_equal(engine.segment_video(frames), before)
