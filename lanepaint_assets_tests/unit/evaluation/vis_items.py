"""A small `VisData` with coded frames: every picture says in bars which source frame it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.evaluation.vis_data import ShownClip, VisData, encoded_frames
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera, mounting_rotation
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, LEFT, circle_drive, grid_times, numbered_frames

WIDTH, HEIGHT = 480, 270
# Bars of the code, most significant first, where overlay and comparison draw nothing: right of the plan's lines.
BITS, BAR_PX = 10, 16
CODE_X, CODE_Y = 300, 80


def coded_frames(
    codes: NDArray[np.int64], width: int = WIDTH, height: int = HEIGHT, base: int = 96
) -> NDArray[np.uint8]:
    """(T, H, W, 3): grey, with frame k's number in black and white bars."""
    frames = np.full((len(codes), height, width, 3), base, dtype=np.uint8)
    for frame, code in zip(frames, codes, strict=True):
        for bit in range(BITS):
            lit = int(code) >> (BITS - 1 - bit) & 1
            left = CODE_X + bit * BAR_PX
            frame[CODE_Y : CODE_Y + BAR_PX, left : left + BAR_PX] = 235 if lit else 20
    return frames


def read_code(frame: NDArray[np.uint8], panel: int = 0, width: int = WIDTH) -> int:
    """The number in one panel of a (H, n W, 3) frame."""
    middle = panel * width + CODE_X + BAR_PX // 2 + BAR_PX * np.arange(BITS)
    levels = frame[CODE_Y + BAR_PX // 2, middle].mean(axis=1)
    return int("".join("1" if level > 128 else "0" for level in levels), 2)


def paths(count: int = 3, lateral_m: float = 0.0) -> NDArray[np.float64]:
    """(count, 64, 3) at 12 m/s, the samples 0.5 m apart."""
    ahead = np.arange(1, 65) * 1.2
    return np.stack([np.stack([ahead, np.full(64, lateral_m + 0.5 * k), 0 * ahead], axis=1) for k in range(count)])


def fisheye_camera(width: int = WIDTH, height: int = HEIGHT) -> RigCamera:
    lens = FThetaLens(1920, 1080, 958.0, 543.0, (0.0, 927.5, 23.14, -58.5, 16.51)).resized(width, height)
    return RigCamera(lens, mounting_rotation(0.01, 0.03, 0.005), np.array([1.75, 0.1, 1.45]), "calibrated")


def shown_clip(codes: NDArray[np.int64] | None = None, **changes: Any) -> ShownClip:
    """Twelve coded frames, half a metre of road after each other; the edited arm is brighter."""
    wanted = np.arange(12, dtype=np.int64) if codes is None else codes
    times = grid_times(len(wanted), start_us=2_000_000)
    built = ShownClip(
        original_mp4=encoded_frames(coded_frames(wanted), 8.0),
        edited_mp4=encoded_frames(coded_frames(wanted, base=140), 8.0),
        timestamps_us=times,
        taken_us=times - 20_000,
        rate_hz=8.0,
        size=(WIDTH, HEIGHT),
        camera=fisheye_camera(),
        ego=circle_drive(12.0, 0.002),
        engines=(EngineLabel("painter", "procedural", "3", False), EngineLabel("driver", "alpamayo", "1.5", True)),
    )
    return replace(built, **changes)


def vis_data(shown: ShownClip | None = None, **changes: Any) -> VisData:
    """One item: three samples in each arm, the edited ones a metre further left."""
    clip = shown_clip() if shown is None else shown
    t0_index = len(clip.timestamps_us) - 3
    built = VisData(
        original_trajectories_m=paths(),
        edited_trajectories_m=paths(lateral_m=1.0),
        ground_truth_m=paths(1)[0],
        history_m=np.stack([np.arange(-15, 1) * 1.2, np.zeros(16), np.zeros(16)], axis=1),
        t0_us=int(clip.timestamps_us[t0_index]),
        frame_timestamps_us=clip.timestamps_us[t0_index - 3 : t0_index + 1],
        camera_names=(FRONT, LEFT),
        edited_camera=FRONT,
        original_frames=(numbered_frames(4), numbered_frames(4, offset=7)),
        edited_frames=numbered_frames(4, offset=90),
        shown=clip,
        clip_id="clip-1",
        prompt_key="single_white_solid",
        prompt_text="Paint single white solid lines, größer",
        original_min_ade_m=1.25,
        edited_min_ade_m=1.5,
        min_ade_reason=None,
        original_reasoning=("Keep the lane", "Keep the lane", "Slow down"),
        edited_reasoning=("Move left", "Keep the lane", ""),
    )
    return replace(built, **changes)
