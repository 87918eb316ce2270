"""A SAM 2.1 of the package's own classes that runs on a CPU in seconds, and pictures for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.sam2.architecture import Architecture
from lanepaint_assets.segmentation.sam2.engine import Sam2RoadSegmenter
from lanepaint_assets.segmentation.sam2.weights import RandomWeights

TINY = Architecture(
    name="sam2.1_hiera_test",
    embed_dim=16,
    heads=1,
    stages=(1, 1, 2, 1),
    global_blocks=(3,),
    image_size=128,
    hidden_dim=32,
    memory_dim=16,
    memory_layers=1,
    feedforward_dim=64,
    fuser_layers=1,
)


def tiny_segmenter(*, seed: int = 0, encoder_batch: int | None = None) -> Sam2RoadSegmenter:
    return Sam2RoadSegmenter(RandomWeights(seed), TINY, device="cpu", encoder_batch=encoder_batch)


def moving_texture(count: int, width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(T, H, W, 3): a rough surface that slides through the picture."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0.0, 6.0, (height + 2 * count, width, 3)).cumsum(axis=1).cumsum(axis=0)
    surface = (128 + 60 * np.sin(rough / 60)).astype(np.uint8)
    return np.stack([surface[2 * index : 2 * index + height] for index in range(count)])
