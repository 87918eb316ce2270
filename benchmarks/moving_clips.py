"""Made-up clips for benchmarks of speed: a texture that moves towards the camera, at the size of real ones.

How long decoding takes depends on size, codec and motion, not on what is shown; quality is measured on drives instead.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_video

SOURCE_RATE_HZ = 30
GRID_RATE_HZ = 8

# About 5 Mb/s at 1080p.
CRF = 23

# The texture grows by so much over the clip.
ZOOM = 0.3


def write_clip(path: Path, frames: int, size: tuple[int, int], seed: int) -> None:
    """Write an mp4 that is long enough for an 8 Hz grid of `frames`, (width, height) pixels, 30 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    count = int(np.ceil(frames / GRID_RATE_HZ * SOURCE_RATE_HZ)) + 2
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3)).astype(np.float32)
    texture = np.sum([cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.0, 4.0, 16.0)], axis=0)
    picture = np.clip(128 + 40 * texture, 0, 255).astype(np.uint8)

    def shown(index: int) -> NDArray[np.uint8]:
        scale = 1.0 + ZOOM * index / count
        matrix = np.array([[scale, 0, width / 2 * (1 - scale)], [0, scale, height / 2 * (1 - scale)]])
        return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)

    write_video(path, map(shown, range(count)), SOURCE_RATE_HZ, crf=CRF)
