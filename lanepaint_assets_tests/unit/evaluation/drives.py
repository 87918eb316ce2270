"""Small drives and driver inputs built in code, for the tests of this room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.bridge import driver_timestamps_us, ego_history, find_t0
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets.rendering.cameras import PinholeLens, RigCamera, mounting_rotation

FRONT = "camera_front_wide_120fov"
LEFT = "camera_cross_left_120fov"


def camera(width: int = 64, height: int = 36) -> RigCamera:
    lens = PinholeLens(width, height, fx=width / 2, fy=width / 2, cx=(width - 1) / 2, cy=(height - 1) / 2)
    return RigCamera(lens, mounting_rotation(0.0, 0.05), np.array([1.7, 0.0, 1.5]), "assumed")


def circle_drive(
    speed_mps: float = 12.0, curvature_1pm: float = 0.0, start_us: int = 0, duration_s: float = 14.0, rate_hz: int = 100
) -> Egomotion:
    """Constant speed on a circle (or straight), from anywhere in the world and in any direction."""
    time_s = np.arange(round(duration_s * rate_hz) + 1) / rate_hz
    yaw = 0.7 + speed_mps * curvature_1pm * time_s
    if abs(curvature_1pm) > 1e-9:
        xy = np.stack([np.sin(yaw), -np.cos(yaw)], axis=1) / curvature_1pm
    else:
        xy = speed_mps * time_s[:, None] * np.array([np.cos(0.7), np.sin(0.7)])
    positions = np.column_stack([xy + np.array([100.0, -40.0]), np.zeros_like(time_s)])
    quaternions = Rotation.from_euler("z", yaw[:, None]).as_quat()
    times_us = start_us + np.arange(time_s.size, dtype=np.int64) * (1_000_000 // rate_hz)
    return Egomotion(times_us, positions, quaternions, "recorded")


def grid_times(frame_count: int = 100, step_us: int = 125_000, start_us: int = 0) -> NDArray[np.int64]:
    return start_us + step_us * np.arange(frame_count, dtype=np.int64)


def numbered_frames(count: int, width: int = 64, height: int = 36, offset: int = 0) -> NDArray[np.uint8]:
    """Frame i is filled with the value i + offset, so that a test sees which one it was given."""
    values = (np.arange(count) + offset).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, height, width, 3)).copy()


def moment_of(ego: Egomotion, frames: NDArray[np.uint8] | None = None) -> DriverInput:
    times = grid_times(start_us=ego.span_us[0])
    moment = find_t0(times, ego.span_us)
    xyz, rotation = ego_history(ego, moment.t0_us)
    return DriverInput(
        frames={FRONT: numbered_frames(4) if frames is None else frames},
        frame_timestamps_us=driver_timestamps_us(times, moment),
        cameras={FRONT: camera()},
        history_xyz_m=xyz,
        history_rotation=rotation,
        ego_quality="recorded",
    )
