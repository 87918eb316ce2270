"""Camera and ego motion of a clip: what its data set recorded, and estimates for whatever is missing.

Called once a clip by the editing and evaluation stages and by inspectors. Reading calibration files is `clips`' work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.birds_eye import pitched
from lanepaint_assets.lanes.ego_estimation import estimate_egomotion, registration_quality, standing_still
from lanepaint_assets.lanes.vanishing_point import find_vanishing_point
from lanepaint_assets.rendering.cameras import (
    ASSUMED_FORWARD_M,
    ASSUMED_HEIGHT_M,
    PinholeLens,
    RigCamera,
    camera_by_name,
    mounting_rotation,
)

# Dash cameras and phone cameras see 55 to 75 degrees across; a clip without calibration cannot tell.
ASSUMED_HFOV_RAD = np.deg2rad(60.0)
# Frames that vote for the horizon: more add little, each costs some 10 ms.
HORIZON_FRAMES = 8
# Under this confidence the vanishing point is chance, and the camera is taken to look along the road.
MIN_HORIZON_CONFIDENCE = 0.10

# Cosine of the largest yaw at which a vanishing point is looked for: 30 degrees.
LOOKS_AHEAD_COS = 0.866

# Pitch is searched this far around the vanishing point's; hills between the near road and the horizon hide more.
PITCH_STEPS_RAD = (-0.02, -0.01, 0.0, 0.01, 0.02)
# How firmly the vanishing point holds the pitch against the road's motion: the quality lost per squared radian. A road
# with texture loses 200 to 600 when the pitch is wrong, a smooth one under 20 (measured on four clips).
PITCH_HOLD = 40.0
# Frames that tell the pitch: neighbours, from the clip's middle.
PITCH_FRAMES = 13


@dataclass(frozen=True)
class ClipGeometry:
    """The camera and the vehicle's path, each known or estimated; `quality` of both says which."""

    camera: RigCamera
    ego: Egomotion


def assumed_camera(width: int, height: int) -> RigCamera:
    """A pinhole that looks along the road, for pictures of which nothing is known."""
    focal = width / (2.0 * np.tan(ASSUMED_HFOV_RAD / 2.0))
    lens = PinholeLens(width, height, float(focal), float(focal), (width - 1) / 2, (height - 1) / 2)
    # The road's vanishing point lies a little under the middle in most dash camera pictures.
    pitch_up = np.arctan(0.03 * height / focal)
    return RigCamera(
        lens,
        mounting_rotation(0.0, -float(pitch_up)),
        np.array([ASSUMED_FORWARD_M, 0.0, ASSUMED_HEIGHT_M]),
        quality="assumed",
    )


def estimate_camera(frames: NDArray[np.uint8]) -> RigCamera:
    """A pinhole of the assumed field of view, with pitch and yaw from where the road's lines meet.

    Args:
        frames: (T, H, W, 3) sRGB uint8; up to `HORIZON_FRAMES` of them are read, evenly spread.

    Returns:
        A camera of quality `estimated`, or `assumed` where no lines of a road agree.
    """
    camera = assumed_camera(frames.shape[2], frames.shape[1])
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(HORIZON_FRAMES, len(frames))).round().astype(int))
    point = find_vanishing_point(frames[chosen])
    if point.confidence < MIN_HORIZON_CONFIDENCE:
        return camera
    lens = camera.lens
    assert isinstance(lens, PinholeLens)
    right = (point.u_px - lens.cx) / lens.fx
    down = (point.v_px - lens.cy) / lens.fy
    # The road's direction is rig x: seen right of the centre means that the camera is turned to the left.
    yaw = float(np.arctan(right))
    pitch_down = -float(np.arctan2(down, np.hypot(1.0, right)))
    return RigCamera(lens, mounting_rotation(yaw, pitch_down), camera.position_m, quality="estimated")


def clip_geometry(
    frames: NDArray[np.uint8],
    timestamps_us: NDArray[np.int64],
    camera: RigCamera | None,
    ego: Egomotion | None,
    camera_name: str = "",
) -> ClipGeometry:
    """Fill in what is not known of a clip's geometry.

    Args:
        frames: (T, H, W, 3) sRGB uint8.
        timestamps_us: (T,) int64, when each frame was taken, not decreasing; a frame shown again has the same time.
        camera: calibrated camera of the frames' size, or None.
        ego: recorded ego motion, or None.
        camera_name: says where a camera looks that does not look ahead, and how wide it sees where the pictures do not
            tell; empty where nothing is known.

    Returns:
        The same objects where they were given, estimates elsewhere. Deterministic.
    """
    fresh = np.concatenate([[True], np.diff(timestamps_us) > 0])
    if not fresh.all() and (camera is None or ego is None):
        # The same picture twice is no standstill.
        frames, timestamps_us = frames[fresh], timestamps_us[fresh]
    known_camera = camera
    if known_camera is None:
        known_camera = _estimated_or_named(frames, camera_name)
        if len(frames) >= 3 and _looks_ahead(known_camera):
            known_camera = _pitched_to_motion(frames, timestamps_us, known_camera)
    if ego is not None:
        return ClipGeometry(known_camera, ego)
    if len(frames) < 2:
        return ClipGeometry(known_camera, standing_still(timestamps_us))
    return ClipGeometry(known_camera, estimate_egomotion(frames, timestamps_us, known_camera))


def _estimated_or_named(frames: NDArray[np.uint8], camera_name: str) -> RigCamera:
    """Only a camera that looks ahead sees the point where the road's lines meet; others are as their name says."""
    named = camera_by_name(camera_name, frames.shape[2], frames.shape[1])
    if named is not None and not _looks_ahead(named):
        return named
    estimated = estimate_camera(frames)
    return estimated if named is None or estimated.quality == "estimated" else named


def _looks_ahead(camera: RigCamera) -> bool:
    return bool(camera.rotation[0, 2] > LOOKS_AHEAD_COS)


def _pitched_to_motion(frames: NDArray[np.uint8], timestamps_us: NDArray[np.int64], camera: RigCamera) -> RigCamera:
    """Correct an estimated pitch by how the road moves; see `registration_quality`."""
    first = max(0, (len(frames) - PITCH_FRAMES) // 2)
    some = slice(first, first + PITCH_FRAMES)
    steps = np.asarray(PITCH_STEPS_RAD)
    quality = np.array([registration_quality(frames[some], timestamps_us[some], pitched(camera, p)) for p in steps])
    score = quality - PITCH_HOLD * steps**2
    best = int(np.argmax(score))
    correction = float(steps[best])
    if 0 < best < steps.size - 1:
        before, top, after = score[best - 1 : best + 2]
        bend = before - 2.0 * top + after
        if bend < 0:
            correction += float(0.5 * (before - after) / bend * (steps[1] - steps[0]))
    return pitched(camera, correction)
