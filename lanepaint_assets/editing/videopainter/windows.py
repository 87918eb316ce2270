"""How a clip of any length is cut into the model's windows, and how their results are joined.

Called by `engine.py`. Windows start on the latent grid, so that the latents of two overlapping windows are of the same
frames: latent 0 is of a window's first frame alone, latent i of its frames 4i - 3 to 4i. No model is known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What CogVideoX-5B was trained with; other lengths give noise.
WINDOW_FRAMES = 49

# Frames of a latent after the first.
LATENT_FRAMES = 4

# Frames that two windows share: the one that the later window starts from, and those of two whole latents. The stride
# of 40 lies on the latent grid.
OVERLAP_FRAMES = 9


@dataclass(frozen=True)
class WindowPlan:
    """Windows of a clip, in the order in which they are painted; made by `plan_windows`.

    Attributes:
        frames: of the clip.
        length: of each window, 1 + 4k.
        stride: between all but the last two windows.
        starts: first frame of each window: multiples of 4, ascending.
    """

    frames: int
    length: int
    stride: int
    starts: tuple[int, ...]

    def sources(self, index: int) -> NDArray[np.int64]:
        """(length,) clip frames of a window; beyond the clip's end its last frame, again and again."""
        return np.minimum(np.arange(self.starts[index], self.starts[index] + self.length), self.frames - 1)

    def alpha(self, index: int) -> NDArray[np.float64]:
        """(length,) how much of a window's frames covers what earlier windows have painted; 1 in the first window.

        It rises over the overlap of two windows at full stride, also where the last window overlaps more: there the
        two agree best, for the later one starts from a frame of the earlier one.
        """
        alpha = np.ones(self.length)
        if index:
            fade = self.length - self.stride
            alpha[:fade] = np.arange(1, fade + 1) / (fade + 1)
        return alpha

    def lay(self, index: int, painted: NDArray[np.uint8], onto: NDArray[np.uint8]) -> None:
        """Join a window's frames to those of the windows before it.

        Args:
            index: of the window; the windows before it have been laid.
            painted: (length, H, W, 3).
            onto: (frames, H, W, 3), changed in place; frames beyond the clip's end are dropped.
        """
        start = self.starts[index]
        for offset, alpha in enumerate(self.alpha(index)[: self.frames - start]):
            before, new = onto[start + offset], painted[offset]
            onto[start + offset] = new if alpha == 1 else np.rint(before + alpha * (new.astype(np.float32) - before))

    def shared_latents(self, index: int) -> int:
        """How many latents a window is held by the one before it: its latents 1 to n; 0 in the first window."""
        if index == 0:
            return 0
        common = self.length - 1 - (self.starts[index] - self.starts[index - 1])
        return min(common, self.length - 1 - self.stride) // LATENT_FRAMES

    def latent_shift(self, index: int) -> int:
        """Latent i of a window, i >= 1, is latent i + n of the one before it."""
        return (self.starts[index] - self.starts[index - 1]) // LATENT_FRAMES

    def hold(self, index: int) -> NDArray[np.float32]:
        """(latents,) for what share of the steps a window's latents are those of the window before it, falling."""
        hold = np.zeros(1 + (self.length - 1) // LATENT_FRAMES, dtype=np.float32)
        shared = self.shared_latents(index)
        hold[1 : 1 + shared] = 1.0 - np.arange(1, shared + 1) / (shared + 1)
        return hold


def plan_windows(frames: int, length: int = WINDOW_FRAMES, stride: int = WINDOW_FRAMES - OVERLAP_FRAMES) -> WindowPlan:
    """Cut a clip into windows.

    The last one starts at the first point of the latent grid from which it reaches the end: it may overlap more than
    the others, and fewer than 4 of its frames lie beyond the clip. A clip shorter than a window is one window.

    Args:
        frames: of the clip.
        length: of a window.
        stride: from window to window.

    Raises:
        ValueError: no frames, or a length or stride that the latent grid does not allow.
    """
    if frames < 1:
        raise ValueError("a clip without frames has no windows")
    if length % LATENT_FRAMES != 1 or stride % LATENT_FRAMES or not 0 < stride < length:
        raise ValueError(f"windows of {length} frames every {stride} do not meet on the latent grid")
    last = -(-max(frames - length, 0) // LATENT_FRAMES) * LATENT_FRAMES
    return WindowPlan(frames, length, stride, (*range(0, last, stride), last))
