"""A lane line and the asphalt on both sides of it, sampled from one frame as a straight strip.

Called by frame registration and marking removal. Stations run along the line, equally spaced in the picture rather than
on the road; columns run across it. No decisions about what the strip shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.road_course import RigPose, RoadCourse
from lanepaint_assets.editing.shading import LINEAR_OF_BYTE, LUMINANCE
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class StripGrid:
    """Where strips are sampled: `count` stations between two distances ahead, columns to `half_width_m` each side."""

    count: int
    first_m: float
    last_m: float
    half_width_m: float
    column_m: float = 0.05

    @cached_property
    def ahead_m(self) -> Float:
        """(J,) metres ahead of the rig: equal steps of 1 / distance are equal steps in the picture."""
        result: Float = 1.0 / np.linspace(1.0 / self.first_m, 1.0 / self.last_m, self.count)
        return result

    @cached_property
    def columns_m(self) -> Float:
        """(M,) metres to the left of the line."""
        side = round(self.half_width_m / self.column_m)
        return np.arange(-side, side + 1, dtype=np.float64) * self.column_m


@dataclass(frozen=True, eq=False)
class LineStrip:
    """One line in one frame.

    Attributes:
        grid: how it was sampled.
        s: (J,) road coordinate of the stations.
        rig: (J, M, 2) where they are in the rig frame.
        pixels: (J, M, 2) where they are in the picture.
        light: (J, M, 3) linear light.
        valid: (J, M) inside the picture and the paint mask.
        beyond: (J, M) inside the picture and the second mask that was asked for; nowhere without one.
    """

    grid: StripGrid
    s: Float
    rig: Float
    pixels: Float32
    light: Float32
    valid: NDArray[np.bool_]
    beyond: NDArray[np.bool_]

    def asphalt(self, low_m: float, high_m: float) -> Float32:
        """(J, 3) median colour of the valid columns between two distances from the line; NaN where most are not."""
        columns = self.grid.columns_m
        chosen = np.flatnonzero((columns >= low_m) & (columns <= high_m))
        result = np.empty((len(self.s), 3), np.float32)
        _medians(self.light, self.valid, int(chosen[0]), int(chosen[-1]) + 1, result)
        return result

    def markedness(self, base: Float32) -> Float32:
        """(J, M) how much more like paint than asphalt: excess of luminance, or of yellow; 0 where it cannot tell."""
        return markedness(self.light, base[:, None, :], self.valid)


@compiled()
def _medians(
    light: NDArray[np.float32], valid: NDArray[np.bool_], first: int, end: int, result: NDArray[np.float32]
) -> None:
    values = np.empty(end - first, np.float32)
    for j in range(light.shape[0]):
        for c in range(3):
            n = 0
            for i in range(first, end):
                if valid[j, i]:
                    values[n] = light[j, i, c]
                    n += 1
            result[j, c] = np.median(values[:n]) if 3 * n >= end - first and n > 0 else np.nan


def markedness(light: Float32, base: Float32, valid: NDArray[np.bool_]) -> Float32:
    """Paint against asphalt of colour `base`, as a share of the asphalt's luminance.

    Yellow on concrete hardly differs in luminance, so its missing blue counts too.
    """
    weights = np.asarray(LUMINANCE, np.float32)
    bright = light @ weights / np.maximum(base @ weights, 1e-4) - 1.0
    yellow = _yellowness(light) - _yellowness(base)
    result = np.maximum(bright, 2.0 * (yellow - 0.08))
    return np.where(valid & np.isfinite(result), np.maximum(result, 0.0), 0.0).astype(np.float32)


def _yellowness(light: Float32) -> Float32:
    warm = np.minimum(light[..., 0], light[..., 1])
    result = (warm - light[..., 2]) / np.maximum(warm + light[..., 2], np.float32(1e-3))
    return result.astype(np.float32)


def sample_strip(
    frame: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    camera: RigCamera,
    course: RoadCourse,
    pose: RigPose,
    here_s: float,
    offset_m: Float,
    grid: StripGrid,
    beyond: NDArray[np.bool_] | None = None,
) -> LineStrip:
    """Sample the strip of one line.

    Args:
        frame: (H, W, 3) sRGB.
        mask: (H, W) paint mask.
        camera: with the frame's own pitch.
        course, pose, here_s: the road, the frame's pose and its s.
        offset_m: (J,) d of the line at `here_s + grid.ahead_m`.
        grid: stations and columns.
        beyond: (H, W) ground off the mask whose cells are told apart, or None.
    """
    s = here_s + grid.ahead_m
    shape = (grid.count, grid.columns_m.size)
    points, normals = course.at(s)
    left_m = offset_m[:, None] + grid.columns_m
    rig = np.zeros((*shape, 3))
    rig[..., :2] = pose.to_rig(points)[:, None] + left_m[..., None] * pose.directions_to_rig(normals)[:, None]
    pixels, seen = camera.project(rig.reshape(-1, 3))
    at = pixels.reshape(*shape, 2).astype(np.float32)
    valid = seen.reshape(shape)
    light = np.empty((*shape, 3), np.float32)
    outside = np.zeros(shape, np.bool_) if beyond is None else valid.copy()
    _gather(
        np.ascontiguousarray(frame), mask, mask if beyond is None else beyond, at, LINEAR_OF_BYTE, light, valid, outside
    )
    return LineStrip(grid, s, rig[..., :2], at, light, valid, outside)


@compiled()
def _gather(
    frame: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    beyond: NDArray[np.bool_],
    pixels: NDArray[np.float32],
    to_linear: NDArray[np.float32],
    light: NDArray[np.float32],
    valid: NDArray[np.bool_],
    outside: NDArray[np.bool_],
) -> None:
    """Linear light between the four pixels around each place, the border's where the place is off the picture.

    `valid` loses what is off `mask`, `outside` what is off `beyond`.

    Converting what is looked at is a tenth of the work of converting the frame.
    """
    height, width = mask.shape
    for j in range(pixels.shape[0]):
        for i in range(pixels.shape[1]):
            x = min(max(pixels[j, i, 0], 0.0), width - 1.0)
            y = min(max(pixels[j, i, 1], 0.0), height - 1.0)
            u = min(int(x), width - 2)
            v = min(int(y), height - 2)
            fx = x - u
            fy = y - v
            for c in range(3):
                top = to_linear[frame[v, u, c]] * (1.0 - fx) + to_linear[frame[v, u + 1, c]] * fx
                bottom = to_linear[frame[v + 1, u, c]] * (1.0 - fx) + to_linear[frame[v + 1, u + 1, c]] * fx
                light[j, i, c] = top * (1.0 - fy) + bottom * fy
            if valid[j, i]:
                valid[j, i] = mask[int(y + 0.5), int(x + 0.5)]
            if outside[j, i]:
                outside[j, i] = beyond[int(y + 0.5), int(x + 0.5)]
