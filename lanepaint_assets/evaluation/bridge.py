"""From a clip and its edited video to what a driver is given: the moment, its frames, its history and its future.

The evaluation assets call it once for the original arm and once a prompt (`replace_camera`). It neither decodes video
nor parses file names, and no driver may look around it: what is not in a `DriverInput` does not exist for the driver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from lanepaint_assets.evaluation.driver import FRAMES_PER_CAMERA, FUTURE_STEPS, HISTORY_STEPS, STEP_S, DriverInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lanepaint_assets.clips.egomotion import Egomotion
    from lanepaint_assets.clips.records import ClipGridName
    from lanepaint_assets.evaluation.driver import Driver
    from lanepaint_assets.rendering.cameras import RigCamera

    Float = NDArray[np.float64]

STEP_US = round(STEP_S * 1e6)
# One step more than the 16 history poses span, so that a driver which differentiates them stays inside the recording.
HISTORY_SPAN_US = HISTORY_STEPS * STEP_US
FUTURE_SPAN_US = FUTURE_STEPS * STEP_US
# Another camera may run on its own clock and, at worst, on an 8 fps grid of its own: 125 ms, and as much again for a
# dropped frame. Anything older shows another moment and would be passed to the driver as if it were now.
MAX_FRAME_AGE_US = 250_000
# Velocity for extending a short history: long enough to average out pose noise, short against a change of speed.
EXTENSION_BASE_US = 500_000

# Mid grey: no marking, no edge, and the mean that picture encoders subtract. Black would be night or a failed camera,
# to which a driving model may have been trained to react.
BLANK_LEVEL = 128

OFF_DISTRIBUTION_NOTE = (
    "frames are 0.125 s apart (spec_8fps); driving models were trained on 0.1 s: use clip_grid=model_10hz to publish"
)


class BridgeError(ValueError):
    """A clip, a camera or an edited video does not fit the moment; its item fails with this reason."""


class CameraModeError(BridgeError):
    """The driver does not allow the cameras that the settings ask for: no item can be made."""


@dataclass(frozen=True)
class Moment:
    """When the driver is asked.

    Attributes:
        t0_us: the time of the last frame that the driver sees, on the clip's clock.
        grid_index: the grid frame at t0.
        has_future: True where 6.4 s of ego motion follow t0, so that there is a ground truth.
        extended_history_steps: how many of the 16 history poses lie before the recording and are continued backwards
            at constant velocity.
        reason: why something is missing; None where nothing is.
    """

    t0_us: int
    grid_index: int
    has_future: bool
    extended_history_steps: int
    reason: str | None


@dataclass(frozen=True, eq=False)
class CameraView:
    """What one camera saw, before the driver's frames are picked from it.

    Attributes:
        frames: (N, H, W, 3) sRGB uint8.
        timestamps_us: (N,) int64, rising: the grid's times for the edited camera, the source frames' for the others.
        camera: geometry in pixels of `frames`.
    """

    frames: NDArray[np.uint8]
    timestamps_us: NDArray[np.int64]
    camera: RigCamera


def find_t0(grid_timestamps_us: NDArray[np.int64], ego_span_us: tuple[int, int]) -> Moment:
    """The last grid time with 1.6 s of ego motion before it and 6.4 s after it.

    Where a clip has no such time (shorter than 8 s), the last grid time inside the ego motion: as much history as there
    is and no ground truth.

    Args:
        grid_timestamps_us: (T,) int64, rising.
        ego_span_us: first and last time of the ego motion, on the same clock.

    Raises:
        BridgeError: fewer than four grid frames lie up to the last time of the ego motion, or none inside it.

    Source: ARCHITECTURE, "Time, pictures and seeds".
    """
    times = np.asarray(grid_timestamps_us, dtype=np.int64)
    first, last = ego_span_us
    enough_frames = np.arange(times.size) >= FRAMES_PER_CAMERA - 1
    complete = enough_frames & (times >= first + HISTORY_SPAN_US) & (times + FUTURE_SPAN_US <= last)
    if complete.any():
        index = int(np.flatnonzero(complete)[-1])
        return Moment(int(times[index]), index, has_future=True, extended_history_steps=0, reason=None)

    inside = enough_frames & (times >= first) & (times <= last)
    if not inside.any():
        raise BridgeError(
            f"no moment to drive from: {times.size} grid frames and ego motion from {first} to {last} us leave no "
            f"frame inside the ego motion with {FRAMES_PER_CAMERA - 1} before it; the clip is too short or its clocks "
            "differ"
        )
    index = int(np.flatnonzero(inside)[-1])
    t0 = int(times[index])
    extended = int(np.count_nonzero(history_times_us(t0) < first))
    reason = (
        f"no ground truth: ego motion covers {(last - first) / 1e6:.1f} s, no frame has "
        f"{HISTORY_SPAN_US / 1e6:.1f} s of it before and {FUTURE_SPAN_US / 1e6:.1f} s after"
    )
    if extended:
        reason += f"; {extended} of {HISTORY_STEPS} history poses continued backwards at constant velocity"
    return Moment(t0, index, has_future=False, extended_history_steps=extended, reason=reason)


def driver_timestamps_us(grid_timestamps_us: NDArray[np.int64], moment: Moment) -> NDArray[np.int64]:
    """(4,) int64: the grid's last four times up to t0, the same for every camera and in every arm."""
    end = moment.grid_index + 1
    return np.asarray(grid_timestamps_us[end - FRAMES_PER_CAMERA : end], dtype=np.int64)


def history_times_us(t0_us: int) -> NDArray[np.int64]:
    """(16,) int64: t0 - 1.5 s ... t0, every 0.1 s, whatever the frame grid (ego motion is always 10 Hz)."""
    return t0_us + STEP_US * np.arange(1 - HISTORY_STEPS, 1, dtype=np.int64)


def future_times_us(t0_us: int) -> NDArray[np.int64]:
    """(64,) int64: t0 + 0.1 s ... t0 + 6.4 s."""
    return t0_us + STEP_US * np.arange(1, FUTURE_STEPS + 1, dtype=np.int64)


def ego_history(ego: Egomotion, t0_us: int) -> tuple[Float, Float]:
    """The 16 poses up to t0 in the rig frame at t0: positions (16, 3) and rotations (16, 3, 3).

    Poses before the recording's first one continue it backwards at constant velocity and orientation.
    """
    wanted = history_times_us(t0_us)
    first, last = ego.span_us
    positions, rotations = ego.relative(np.maximum(wanted, first), t0_us)
    before = wanted < first
    if before.any():
        base_us = min(EXTENSION_BASE_US, last - first)
        ends, _ = ego.relative(np.array([first, first + base_us], dtype=np.int64), t0_us)
        velocity_m_per_us = (ends[1] - ends[0]) / base_us if base_us > 0 else np.zeros(3)
        positions[before] += (wanted[before] - first)[:, None] * velocity_m_per_us
    return positions, rotations


def ground_truth(ego: Egomotion, moment: Moment) -> Float | None:
    """(64, 3): where the vehicle really went, rig frame at t0; None where the recording ends before t0 + 6.4 s."""
    if not moment.has_future:
        return None
    return ego.relative(future_times_us(moment.t0_us), moment.t0_us)[0]


def driver_moment(
    moment: Moment,
    edited_camera: str,
    grid_timestamps_us: NDArray[np.int64],
    views: Mapping[str, CameraView],
    ego: Egomotion,
    driver_cameras: tuple[str, ...],
) -> DriverInput:
    """What the driver is given in the original arm.

    Args:
        moment: from `find_t0` on the same grid.
        edited_camera: the camera that edits will replace; its view must have the four grid times exactly.
        grid_timestamps_us: (T,) int64, the grid of the edited camera.
        views: what each camera saw. Cameras outside `driver_cameras` are left out; those of the driver that were not
            recorded may be missing, except the edited one.
        ego: the vehicle's motion on the same clock.
        driver_cameras: the cameras that the driver is given (`cameras_shown`).

    Raises:
        BridgeError: the driver does not see the edited camera, or a camera has no frame for one of the four times.
    """
    _refuse_unseen(edited_camera, driver_cameras)
    if edited_camera not in views:
        raise BridgeError(f"camera {edited_camera} is to be edited but was not decoded; given: {_names(views)}")
    timestamps = driver_timestamps_us(grid_timestamps_us, moment)
    used = tuple(name for name in driver_cameras if name in views)
    frames = {
        name: (
            _frames_exactly_at(name, views[name].frames, views[name].timestamps_us, timestamps)
            if name == edited_camera
            else _latest_frames(name, views[name], timestamps)
        )
        for name in used
    }
    history_xyz_m, history_rotation = ego_history(ego, moment.t0_us)
    return DriverInput(
        frames=MappingProxyType(frames),
        frame_timestamps_us=timestamps,
        cameras=MappingProxyType({name: views[name].camera for name in used}),
        history_xyz_m=history_xyz_m,
        history_rotation=history_rotation,
        ego_quality=ego.quality,
    )


def replace_camera(
    moment: DriverInput,
    camera: str,
    edited_frames: NDArray[np.uint8],
    edited_timestamps_us: NDArray[np.int64],
) -> DriverInput:
    """The same moment with one camera's frames taken from an edited video; everything else is shared, not copied.

    Args:
        moment: the original arm's input.
        camera: the edited camera.
        edited_frames: (N, H', W', 3) sRGB uint8, the edited video or just its four frames.
        edited_timestamps_us: (N,) int64 from the video's sidecar.

    Raises:
        BridgeError: the driver does not see the camera, or the edited video lacks one of the moment's four times.

    Source: spec 10, temporal alignment and frame replacement; by timestamp instead of by position.
    """
    _refuse_unseen(camera, tuple(moment.frames))
    if len(edited_frames) != len(edited_timestamps_us):
        raise BridgeError(
            f"edited video of camera {camera} has {len(edited_frames)} frames but its timestamps sidecar "
            f"{len(edited_timestamps_us)} entries; materialize `edited_videos` of this clip again"
        )
    picked = _frames_exactly_at(camera, edited_frames, edited_timestamps_us, moment.frame_timestamps_us)
    original = moment.frames[camera]
    resized = resize_bilinear(picked, width=original.shape[2], height=original.shape[1])
    return replace(moment, frames=MappingProxyType({**moment.frames, camera: resized}))


def blanked(moment: DriverInput, camera: str) -> DriverInput:
    """The same moment with nothing to see in one camera: all of its pixels mid grey.

    Raises:
        BridgeError: the driver does not see the camera.
    """
    _refuse_unseen(camera, tuple(moment.frames))
    frames = np.full_like(moment.frames[camera], BLANK_LEVEL)
    return replace(moment, frames=MappingProxyType({**moment.frames, camera: frames}))


def cameras_shown(driver: Driver, edited_camera: str, edited_camera_only: bool) -> tuple[str, ...]:
    """The cameras that the driver is given, in every arm.

    Raises:
        BridgeError: it does not see the edited camera.
        CameraModeError: it is to see the edited camera alone and does not allow that.
    """
    _refuse_unseen(edited_camera, driver.cameras)
    if not edited_camera_only:
        return driver.cameras
    if not driver.accepts_one_camera:
        raise CameraModeError(
            f"the driver {driver.name} {driver.version} needs all of its cameras ({', '.join(driver.cameras)}), so it "
            "cannot be shown the edited one alone; unset LANEPAINT_EDITED_CAMERA_ONLY, or choose another driver"
        )
    return (edited_camera,)


def resize_bilinear(frames: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize (N, H, W, 3) to (N, height, width, 3), bilinear, mapping (x + 0.5) s - 0.5.

    Frames that already have the size are returned as they are, bit for bit.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    # OpenCV's linear mode uses exactly this mapping of pixel centres.
    return np.stack(
        [cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8) for frame in frames]
    )


def grid_note(grid_name: ClipGridName) -> str | None:
    """What every report must say about the grid's frame spacing; None for the spacing that models were trained on."""
    notes: dict[Literal["spec_8fps", "model_10hz"], str | None] = {
        "spec_8fps": OFF_DISTRIBUTION_NOTE,
        "model_10hz": None,
    }
    return notes[grid_name]


def _refuse_unseen(camera: str, driver_cameras: tuple[str, ...]) -> None:
    if camera not in driver_cameras:
        raise BridgeError(
            f"the driver does not see {camera}, so editing it cannot change what it does; "
            f"it sees {', '.join(driver_cameras) or 'no camera'}. Edit one of those, or choose another driver"
        )


def _frames_exactly_at(
    camera: str, frames: NDArray[np.uint8], timestamps_us: NDArray[np.int64], wanted_us: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The frames whose times equal `wanted_us`."""
    times = np.asarray(timestamps_us, dtype=np.int64)
    missing = np.setdiff1d(wanted_us, times)
    if missing.size:
        raise BridgeError(
            f"camera {camera} has no frame at {_times(missing)}: the moment's frames are at {_times(wanted_us)}, the "
            f"video's at {_times(times)}. They lie on different frame grids; materialize the clip's videos again"
        )
    return frames[np.searchsorted(times, wanted_us)]


def _latest_frames(camera: str, view: CameraView, wanted_us: NDArray[np.int64]) -> NDArray[np.uint8]:
    """For each wanted time the latest frame at or before it."""
    index = np.searchsorted(view.timestamps_us, wanted_us, side="right") - 1
    if (index < 0).any():
        raise BridgeError(
            f"camera {camera} starts at {int(view.timestamps_us[0])} us, after the moment's frame at "
            f"{int(wanted_us[0])} us; leave this camera out of the driver's cameras for this clip"
        )
    age = wanted_us - view.timestamps_us[index]
    if int(age.max()) > MAX_FRAME_AGE_US:
        raise BridgeError(
            f"camera {camera} has no frame within {MAX_FRAME_AGE_US / 1e6:.2f} s before {int(wanted_us[age.argmax()])} "
            f"us (the latest is {int(age.max()) / 1e6:.2f} s old); leave this camera out for this clip"
        )
    return view.frames[index]


def _times(times_us: NDArray[np.int64]) -> str:
    """A short list of times for a message."""
    shown = [str(int(t)) for t in times_us]
    if len(shown) > 2 * FRAMES_PER_CAMERA:
        shown = [*shown[:2], "...", *shown[-2:]]
    return ", ".join(shown) + " us"


def _names(views: Mapping[str, CameraView]) -> str:
    return ", ".join(sorted(views)) or "none"
