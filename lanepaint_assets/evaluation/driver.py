"""The `Driver` role: what a driving model is given and what it answers, and the one door through which it is asked.

Engines implement `Driver`; everything else calls `ask`, so that no unchecked answer gets further. No metrics here.
"""

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

# What `ask` says of an answer with NaN or infinity; the asset check looks for it among the reasons of failed items.
NOT_FINITE = "gave positions that are not finite"


@dataclass(frozen=True)
class DriverInput:
    """One moment of driving (ARCHITECTURE, "Time, pictures and seeds").

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
    """K sampled futures.

    Attributes:
        trajectories_m: (K, 64, 3) rig-frame positions at t0 + 0.1 s ... t0 + 6.4 s.
        reasoning: a text each, in the driver's own words.
        note: what limited the prediction (for example that no lane was seen); None where nothing did.
        decisions: what each sample decides to do, in words that are the same for the same decision (a meta action, or
            the first sentence of a reasoning that begins with it); None for a driver that names none.
    """

    trajectories_m: Float
    reasoning: tuple[str, ...]
    note: str | None = None
    decisions: tuple[str, ...] | None = None


class DriverError(ValueError):
    """A driver gave an answer that is none; the message names the driver and what to do."""


class Driver(Protocol):
    """A driving model. One instance serves all items of a step.

    One that holds a device or a process may have a method `release`, which is called when a step has asked its last
    question; a later question is answered all the same.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras it sees; an edit to any other camera is refused by the bridge."""
        ...

    @property
    def accepts_one_camera(self) -> bool:
        """Whether it may be given any single one of its cameras alone.

        False for models that were trained on a fixed set: `edited_camera_only` is then refused, because what such a
        model does with missing cameras says nothing about markings.
        """
        ...

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        """One trajectory a seed; the same seeds and the same frames give identical output."""
        ...


def ask(driver: Driver, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
    """The driver's answer, checked.

    Raises:
        DriverError: it has another shape than (K, 64, 3), numbers that are not finite, or not one text a sample.
    """
    output = driver.predict(moment, seeds)
    label = f"driver {driver.name} {driver.version}"
    trajectories = output.trajectories_m
    wanted = (len(seeds), FUTURE_STEPS, 3)
    if trajectories.shape != wanted:
        raise DriverError(
            f"{label} gave trajectories of shape {trajectories.shape} where {wanted} was asked for; this is a fault of "
            "the engine, not of the clip: choose another LANEPAINT_DRIVER until it is mended"
        )
    broken = ~np.isfinite(trajectories).all(axis=-1)
    if broken.any():
        sample, step = (int(number[0]) for number in np.nonzero(broken))
        raise DriverError(
            f"{label} {NOT_FINITE}: {int(broken.sum())} of {broken.size}, the first in sample "
            f"{sample} at {STEP_S * (step + 1):.1f} s. Materialize the item again; if it stays, the model's numbers "
            "overflow on this device: run it on another one, or leave this clip out of the study"
        )
    for name, texts in (("reasoning texts", output.reasoning), ("decisions", output.decisions)):
        if texts is not None and len(texts) != len(seeds):
            raise DriverError(
                f"{label} gave {len(texts)} {name} for {len(seeds)} samples; this is a fault of the engine, not of "
                "the clip: choose another LANEPAINT_DRIVER until it is mended"
            )
    return output
