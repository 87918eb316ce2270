"""Small scenes with a known camera and a known drive, for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.planes import Planes
from lanepaint_assets.rendering.cameras import PinholeLens, RigCamera, mounting_rotation
from lanepaint_assets.rendering.scene import EngineLabel, TrajectoryScene

WIDTH, HEIGHT, FRAMES = 320, 180, 12
SPEED_MPS = 10.0
GREY = 96


def front_camera(width: int = WIDTH, height: int = HEIGHT, pitch_rad: float = 0.0, yaw_rad: float = 0.0) -> RigCamera:
    """Pinhole 1.5 m above the ground, 2 m before the axle, axis through the picture's centre."""
    lens = PinholeLens(width, height, fx=width / 2, fy=width / 2, cx=(width - 1) / 2, cy=(height - 1) / 2)
    return RigCamera(lens, mounting_rotation(yaw_rad, pitch_rad), np.array([2.0, 0.0, 1.5]), "calibrated")


def straight_drive(seconds: float = 20.0, yaw_rad: float = 0.0) -> Egomotion:
    """10 m/s along a straight line that points `yaw_rad` from the world's x axis."""
    times = np.arange(0, seconds + 0.05, 0.1)
    along = SPEED_MPS * times[:, None]
    positions = along * np.array([[np.cos(yaw_rad), np.sin(yaw_rad), 0.0]])
    orientation = Rotation.from_euler("z", np.full((len(times), 1), yaw_rad)).as_quat()
    return Egomotion(np.round(times * 1e6).astype(np.int64), positions, orientation, "recorded")


def straight_future(lateral_m: float = 0.0) -> NDArray[np.float64]:
    """(64, 3) at 10 m/s, `lateral_m` to the left."""
    ahead = np.arange(1, 65) * SPEED_MPS * 0.1
    return np.stack([ahead, np.full(64, lateral_m), np.zeros(64)], axis=1)


def history() -> NDArray[np.float64]:
    """(16, 3) up to the origin."""
    back = np.arange(-15, 1) * SPEED_MPS * 0.1
    return np.stack([back, np.zeros(16), np.zeros(16)], axis=1)


@lru_cache
def grey_video(width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES, level: int = GREY) -> bytes:
    """A video of one grey."""
    return video_of(np.full((frames, height, width, 3), level, dtype=np.uint8))


def video_of(frames: NDArray[np.uint8]) -> bytes:
    """(T, H, W, 3) as an H.264 file, nearly without loss."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mp4"
        write_video(path, frames, 8.0, crf=4, preset="ultrafast")
        return path.read_bytes()


def pictures(frames: Iterable[av.VideoFrame]) -> list[NDArray[np.uint8]]:
    """Drawn frames as (H, W, 3) RGB."""
    return [Planes.of(frame).to_rgb() for frame in frames]


def scene(width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES, **changes: Any) -> TrajectoryScene:
    """A grey scene: the driven path straight ahead, two samples 3 m to the left; t0 at the last frame but one."""
    timestamps = np.arange(frames, dtype=np.int64) * 125_000 + 2_000_000
    built = TrajectoryScene(
        original_mp4=grey_video(width, height, frames),
        edited_mp4=grey_video(width, height, frames),
        size=(width, height),
        timestamps_us=timestamps,
        taken_us=timestamps,
        rate_hz=8.0,
        t0_us=int(timestamps[max(0, frames - 2)]),
        camera=front_camera(width, height),
        ego=straight_drive(),
        gt_future_m=straight_future(),
        history_m=history(),
        original_trajectories_m=np.stack([straight_future(3.0), straight_future(3.0)]),
        edited_trajectories_m=np.stack([straight_future(3.0), straight_future(3.0)]),
        clip_id="clip_0001",
        camera_name="camera_front_wide_120fov",
        prompt_key="double_yellow_solid",
        prompt_text="double yellow solid",
        engines=(EngineLabel("painter", "procedural", "3", False), EngineLabel("driver", "lane_follow", "2", False)),
        original_min_ade_m=1.0,
        edited_min_ade_m=2.0,
    )
    return replace(built, **changes)
