"""The sample vehicle's seven cameras: lenses, places, and when each of them takes its pictures.

Called by `render.py` and `write.py`. The front wide lens is the public fleet's median; the others are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive.profile import Conditions
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera, mounting_rotation

FRONT_CAMERA = "camera_front_wide_120fov"
# Median f-theta polynomial of the fleet's front wide camera, pixels at 1920 columns.
FRONT_WIDE_POLY = (0.0, 927.5, 23.14, -58.5, 16.51)
FULL_WIDTH = 1920


@dataclass(frozen=True)
class Mount:
    """Where a camera sits: yaw to the left and pitch down in degrees, field of view, place in the rig frame."""

    yaw_deg: float
    pitch_deg: float
    view_deg: int
    position_m: tuple[float, float, float]


MOUNTS: dict[str, Mount] = {
    "camera_cross_left_120fov": Mount(55.0, 2.0, 120, (2.3, 0.95, 0.90)),
    FRONT_CAMERA: Mount(0.0, 0.0, 120, (1.75, 0.0, 1.45)),
    "camera_cross_right_120fov": Mount(-55.0, 2.0, 120, (2.3, -0.95, 0.90)),
    "camera_rear_left_70fov": Mount(150.0, 1.0, 70, (2.1, 1.0, 0.95)),
    "camera_rear_tele_30fov": Mount(180.0, 0.0, 30, (-0.9, 0.0, 1.20)),
    "camera_rear_right_70fov": Mount(-150.0, 1.0, 70, (2.1, -1.0, 0.95)),
    "camera_front_tele_30fov": Mount(0.0, 0.0, 30, (1.75, 0.0, 1.45)),
}


def sample_camera(name: str, conditions: Conditions, width: int, height: int) -> RigCamera:
    """One of the seven cameras at the picture size in use, as mounted in this clip."""
    mount = MOUNTS[name]
    scale = width / FULL_WIDTH
    if mount.view_deg == 120:
        poly = FRONT_WIDE_POLY
    else:
        # A long lens is nearly a pinhole: r = f tan(theta), to third order.
        focal = FULL_WIDTH / 2 / float(np.tan(np.radians(mount.view_deg / 2)))
        poly = (0.0, focal, 0.0, focal / 3, 0.0)
    front = name == FRONT_CAMERA
    row = conditions.principal_row if front else 0.5
    lens = FThetaLens(
        width=width,
        height=height,
        cx=(958.0 / FULL_WIDTH if front else 0.5) * width - 0.5,
        cy=row * height - 0.5,
        fw_poly=tuple(c * scale for c in poly),
    )
    pitch = conditions.camera_pitch_down if front else float(np.radians(mount.pitch_deg))
    return RigCamera(
        lens=lens,
        rotation=mounting_rotation(float(np.radians(mount.yaw_deg)), pitch),
        position_m=np.asarray(mount.position_m, dtype=np.float64),
        quality="calibrated",
    )


def frame_times_us(name: str, seconds: float, fps: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Times of a camera's frames: a fixed lag of its own (0.4 ms apart) and up to 0.1 ms of jitter."""
    count = round(seconds * fps)
    lag = 400 * list(MOUNTS).index(name)
    jitter = random.integers(0, 100, count)
    return np.asarray(np.arange(count) * 1_000_000 // fps + lag + jitter, dtype=np.int64)
