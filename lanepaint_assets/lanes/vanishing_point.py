"""Where the road's parallel lines meet in a picture: the direction of the road, from which pitch and yaw follow.

Called by geometry estimation for clips that come without calibration. It reads straight segments in the lower part of
the picture and lets them vote; curved roads vote with their near, straight part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

# Votes are cast on pictures of this width: segments of lane paint stay several pixels wide and noise does not.
WORK_WIDTH_PX = 640
# Dash cameras look along the road: the horizon lies in the picture's middle third in nearly all of them.
EXPECTED_ROW_SHARE = 0.53
ROW_SPREAD_SHARE = 0.10
COLUMN_SPREAD_SHARE = 0.10
# Segments flatter than this are shadows across the road, bonnets and horizons; steeper ones are posts and walls.
MIN_SLOPE_RAD = 0.18
MAX_SLOPE_RAD = 1.45


@dataclass(frozen=True)
class VanishingPoint:
    """Pixel (u, v) of the full picture, and a confidence 0..1 from how much of the road agrees."""

    u_px: float
    v_px: float
    confidence: float


def _segments(frame: NDArray[np.uint8]) -> tuple[Float, Float]:
    """Midpoints and unit normals with lengths of road-like segments: (N, 2), (N, 3), in working pixels."""
    height = round(frame.shape[0] * WORK_WIDTH_PX / frame.shape[1])
    small = cv2.resize(frame, (WORK_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    top = int(0.5 * height)
    found = cv2.createLineSegmentDetector().detect(grey[top : int(0.97 * height)])[0]
    if found is None:
        return np.zeros((0, 2)), np.zeros((0, 3))
    ends = found.reshape(-1, 4).astype(np.float64)
    ends[:, [1, 3]] += top
    delta = ends[:, 2:] - ends[:, :2]
    length = np.hypot(delta[:, 0], delta[:, 1])
    angle = np.abs(np.arctan2(delta[:, 1], delta[:, 0]))
    slope = np.minimum(angle, np.pi - angle)
    keep = (length > 12) & (slope > MIN_SLOPE_RAD) & (slope < MAX_SLOPE_RAD)
    ends, delta, length = ends[keep], delta[keep], length[keep]
    middle = (ends[:, :2] + ends[:, 2:]) / 2
    normal = np.column_stack([-delta[:, 1], delta[:, 0]]) / length[:, None]
    return middle, np.column_stack([normal, length])


def find_vanishing_point(frames: NDArray[np.uint8]) -> VanishingPoint:
    """Vote over (T, H, W, 3) sRGB frames; the camera is taken as fixed on the vehicle."""
    height_px, width_px = frames.shape[1:3]
    scale = WORK_WIDTH_PX / width_px
    work_height = height_px * scale
    parts = [_segments(frame) for frame in frames]
    middle = np.concatenate([p[0] for p in parts])
    line = np.concatenate([p[1] for p in parts])
    centre = np.array([WORK_WIDTH_PX / 2, EXPECTED_ROW_SHARE * work_height])
    if len(middle) < 3:
        return VanishingPoint(float(centre[0] / scale), float(centre[1] / scale), 0.0)
    spread = np.array([COLUMN_SPREAD_SHARE * WORK_WIDTH_PX, ROW_SPREAD_SHARE * work_height])
    best, score = centre, -1.0
    for step, reach in ((8.0, 2.5), (2.0, 0.0), (0.5, 0.0)):
        extent = reach * spread if reach else np.array([5.0, 5.0]) * step
        us = np.arange(best[0] - extent[0], best[0] + extent[0] + step / 2, step)
        vs = np.arange(best[1] - extent[1], best[1] + extent[1] + step / 2, step)
        grid = np.stack(np.meshgrid(us, vs), axis=-1).reshape(-1, 2)
        votes = _votes(grid, middle, line)
        prior = np.exp(-0.5 * (((grid - centre) / spread) ** 2).sum(axis=1))
        winner = int(np.argmax(votes * prior))
        best, score = grid[winner], float(votes[winner])
    share = score / max(float(np.minimum(line[:, 2], 60.0).sum()), 1e-9)
    return VanishingPoint(
        float((best[0] + 0.5) / scale - 0.5),
        float((best[1] + 0.5) / scale - 0.5),
        float(np.clip(share * 2.0, 0.0, 1.0)),
    )


def _votes(points: Float, middle: Float, line: Float) -> Float:
    """Support of each candidate point; the two sides of the road must both vote, or a wall would decide alone."""
    offset = points[:, None, :] - middle[None, :, :]
    miss = np.abs((offset * line[None, :, :2]).sum(axis=-1))
    away = np.hypot(offset[..., 0], offset[..., 1]) + 1.0
    # A segment's direction is known to about one pixel over its length.
    sigma = 1.5 + away * np.minimum(0.05, 1.0 / line[None, :, 2])
    below = offset[..., 1] < 0
    weight = np.minimum(line[None, :, 2], 60.0) * np.exp(-0.5 * (miss / sigma) ** 2) / np.sqrt(sigma) * below
    left_side = middle[None, :, 0] < points[:, None, 0]
    left = (weight * left_side).sum(axis=1)
    right = (weight * ~left_side).sum(axis=1)
    total: Float = left + right + 2.0 * np.sqrt(left * right)
    return total / 2.0
