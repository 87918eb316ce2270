"""The `Driver` role: what a driving model is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]

FRAMES_PER_CAMERA = 4
HISTORY_STEPS = 16
FUTURE_STEPS = 64
STEP_S = 0.1


@dataclass(frozen=True)
class DriverInput:
    """One moment of driving (DESIGN part 6).

    Attributes:
        frames: camera name to (4, H, W, 3) sRGB uint8, oldest first, the last one at t0.
        frame_timestamps_us: (4,) int64, the same on every camera and in every arm.
        cameras: camera name to its geometry; a camera of unknown geometry carries an estimated one.
        history_xyz_m: (16, 3) positions at 10 Hz up to and including t0, rig frame at t0.
        history_rotation: (16, 3, 3) the same for orientation.
        ego_quality: whether the history was recorded or estimated.
    """

    frames: Mapping[str, NDArray[np.uint8]]
    frame_timestamps_us: NDArray[np.int64]
    cameras: Mapping[str, RigCamera]
    history_xyz_m: Float
    history_rotation: Float
    ego_quality: Literal["recorded", "estimated"]


@dataclass(frozen=True)
class DriverOutput:
    """K sampled futures: (K, 64, 3) rig-frame positions at t0 + 0.1 s ... t0 + 6.4 s, and a reasoning text each.

    `note` says what limited the prediction (for example that no lane was seen); None where nothing did.
    """

    trajectories_m: Float
    reasoning: tuple[str, ...]
    note: str | None = None


class Driver(Protocol):
    """A driving model. One instance serves all items of a step."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras it sees; an edit to any other camera is refused by the bridge."""
        ...

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        """One trajectory a seed; the same seeds and the same frames give identical output."""
        ...
