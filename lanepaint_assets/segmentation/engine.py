"""The `RoadSegmenter` role. Engines implement it; clean-up and files are the stage's own."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class RoadSegmenter(Protocol):
    """Finds the road. One instance serves all clips of a step; weights are loaded at the first call."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def segment_video(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Raw road masks (T, H, W) of sRGB frames (T, H, W, 3), seeded by the point grid on frame 0."""
        ...

    def segment_picture(self, frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Raw road mask (H, W) of one sRGB frame (H, W, 3)."""
        ...
