"""The road seen from above: metric grids on the ground and how pictures are sampled onto them.

Called by ego-motion estimation, lane detection and painters. Nothing here knows what a lane line is.

Axis layout of every grid, so that a grid looks like a map when shown as a picture: row 0 is the farthest ahead (rig x
falls with the row), column 0 is the farthest left (rig y falls with the column).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Columns between two exactly projected ones: a row of the ground is a nearly straight line in the picture, and 0.2 m
# apart the deviation of a 120 degree f-theta lens from it stays under 0.1 pixels at 960 columns.
_COLUMN_STEP = 4


@dataclass(frozen=True)
class GroundGrid:
    """A rectangle of the plane z = 0 of the rig frame, cut into cells.

    Attributes:
        x_min_m, x_max_m: extent ahead.
        y_min_m, y_max_m: extent to the sides, left positive.
        metres_per_pixel: size of a cell across the road.
        metres_per_row: size of a cell along the road; the same as across where None.
    """

    x_min_m: float
    x_max_m: float
    y_min_m: float
    y_max_m: float
    metres_per_pixel: float
    metres_per_row: float | None = None

    @property
    def row_m(self) -> float:
        """Size of a cell along the road."""
        return self.metres_per_pixel if self.metres_per_row is None else self.metres_per_row

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (
            round((self.x_max_m - self.x_min_m) / self.row_m),
            round((self.y_max_m - self.y_min_m) / self.metres_per_pixel),
        )

    @property
    def x_m(self) -> Float:
        """(rows,) rig x of the cell centres, falling."""
        return self.x_max_m - (np.arange(self.shape[0], dtype=np.float64) + 0.5) * self.row_m

    @property
    def y_m(self) -> Float:
        """(columns,) rig y of the cell centres, falling."""
        return self.y_max_m - (np.arange(self.shape[1], dtype=np.float64) + 0.5) * self.metres_per_pixel

    def rows_of(self, x_m: Float) -> Float:
        """Fractional row of rig x."""
        return (self.x_max_m - np.asarray(x_m, dtype=np.float64)) / self.row_m - 0.5

    def columns_of(self, y_m: Float) -> Float:
        """Fractional column of rig y."""
        return (self.y_max_m - np.asarray(y_m, dtype=np.float64)) / self.metres_per_pixel - 0.5


def pitched(camera: RigCamera, pitch_down_rad: float) -> RigCamera:
    """The camera turned further towards the ground, as when the vehicle's nose dips while it brakes."""
    if pitch_down_rad == 0.0:
        return camera
    c, s = np.cos(pitch_down_rad), np.sin(pitch_down_rad)
    nod = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return replace(camera, rotation=nod @ camera.rotation)


def planar_poses(ego: Egomotion, times_us: NDArray[np.int64], t0_us: int) -> Float:
    """Poses on the road plane at `times_us` in the rig frame at `t0_us`: (M, 3) of x, y in metres and yaw in radians.

    Height, pitch and roll are left out on purpose: the ground of each picture is the road under its own wheels, which
    follows hills that a single world plane would not. How the vehicle nods on it is `road_pitch`.

    Raises:
        ValueError: a time lies outside the ego motion's span.
    """
    positions, rotations = ego.relative(times_us, t0_us)
    yaw = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    return np.column_stack([positions[:, 0], positions[:, 1], yaw])


# Half of the stretch of path that tells the road's slope: longer than a nod of the suspension, shorter than a hill.
_SLOPE_HALF_WINDOW_US = 600_000


def road_pitch(ego: Egomotion, times_us: NDArray[np.int64]) -> Float:
    """How far the vehicle's nose points below the road's slope at `times_us`, (M,) radians.

    Recorded orientation holds hills and the suspension's nods alike. The path's own slope around each moment is the
    hill; what is left tilts the camera against the road: 0.5 degrees move the ground 30 m ahead by 5 m. Use it as
    `pitch_down_rad` of the functions here. Estimated ego motion is planar and gives 0.

    Raises:
        ValueError: a time lies outside the ego motion's span.
    """
    times = np.asarray(times_us, dtype=np.int64)
    _, rotations = ego.poses(times)
    nose_down = -np.arcsin(np.clip(rotations.as_matrix()[:, 2, 0], -1.0, 1.0))
    first, last = ego.span_us
    before, _ = ego.poses(np.clip(times - _SLOPE_HALF_WINDOW_US, first, last))
    after, _ = ego.poses(np.clip(times + _SLOPE_HALF_WINDOW_US, first, last))
    step = after - before
    run = np.hypot(step[:, 0], step[:, 1])
    # A standing vehicle draws no path: its road is taken as level with it.
    slope = np.where(run > 1.0, np.arctan2(step[:, 2], np.maximum(run, 1.0)), -nose_down)
    return np.asarray(nose_down + slope, dtype=np.float64)


def ground_map(
    camera: RigCamera, grid: GroundGrid, pose: tuple[float, float, float] = (0.0, 0.0, 0.0), pitch_down_rad: float = 0.0
) -> tuple[Float32, Float32, NDArray[np.bool_], Float32]:
    """Where each cell of a grid lies in the picture taken from `pose`.

    Args:
        camera: the camera.
        grid: cells in the reference rig frame.
        pose: x, y, yaw of the picture's rig frame in the reference rig frame.
        pitch_down_rad: correction of the camera's pitch for this picture.

    Returns:
        Picture columns and rows (rows, columns) float32, a flag that is True where the cell is in the picture, and the
        cell's distance ahead of the lens in metres, all of the grid's shape.
    """
    rows, columns = grid.shape
    # The last knot lies at or beyond the last column, so that the interpolation below never extrapolates.
    knots = np.arange(0, columns + _COLUMN_STEP, _COLUMN_STEP)
    y_knots = grid.y_max_m - (knots + 0.5) * grid.metres_per_pixel
    x, y = np.meshgrid(grid.x_m, y_knots, indexing="ij")
    c, s = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = x - pose[0], y - pose[1]
    local = np.stack([c * dx + s * dy, -s * dx + c * dy, np.zeros_like(dx)], axis=-1).reshape(-1, 3)
    view = pitched(camera, pitch_down_rad)
    in_camera = (local - view.position_m) @ view.rotation
    # One column of knots beyond each side is needed to interpolate up to the picture's edge, so the lens alone decides
    # here and the picture's bounds are tested on the full grid.
    pixels, seen = view.lens.project(in_camera)
    seen &= in_camera[:, 2] > 0.5
    values = np.where(seen[:, None], pixels, -1e4).reshape(rows, knots.size, 2)
    depth = (local[:, 0] - view.position_m[0]).reshape(rows, knots.size)

    part = np.arange(_COLUMN_STEP) / _COLUMN_STEP
    flags = seen.reshape(rows, knots.size)

    def spread(array: Float) -> Float32:
        between = array[:, :-1, None] * (1 - part) + array[:, 1:, None] * part
        return between.reshape(rows, -1)[:, :columns].astype(np.float32)

    u, v, ahead = spread(values[..., 0]), spread(values[..., 1]), spread(depth)
    valid = np.repeat(flags[:, :-1] & flags[:, 1:], _COLUMN_STEP, axis=1)[:, :columns]
    valid &= (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1)
    return u, v, valid, ahead


@dataclass(frozen=True, eq=False)
class _MapKey:
    """Identity of a camera and grid for the cache below; cameras hold arrays and cannot be hashed by value."""

    camera: RigCamera
    grid: GroundGrid
    pitch_down_rad: float

    def _key(self) -> tuple[object, ...]:
        camera = self.camera
        return (camera.lens, camera.rotation.tobytes(), camera.position_m.tobytes(), self.grid, self.pitch_down_rad)

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _MapKey) and self._key() == other._key()


# A clip uses one camera and two or three grids; 16 maps are at most some 30 MB.
@lru_cache(maxsize=16)
def _cached_map(key: _MapKey) -> tuple[Float32, Float32, NDArray[np.bool_], Float32]:
    return ground_map(key.camera, key.grid, pitch_down_rad=key.pitch_down_rad)


def sample_ground(
    frame: NDArray[np.uint8], camera: RigCamera, grid: GroundGrid, pitch_down_rad: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Look at the ground of one picture from above.

    Args:
        frame: (H, W) or (H, W, 3) uint8, of the camera's size.
        camera: the camera; maps are cached by its value.
        grid: the cells, in the rig frame of this picture.
        pitch_down_rad: correction of the camera's pitch for this picture.

    Returns:
        The grid's cells, (rows, columns) or (rows, columns, 3) uint8, bilinearly sampled, 0 outside the picture; and
        (rows, columns) bool, True where the cell is in the picture.

    Raises:
        ValueError: the picture is not of the camera's size.
    """
    if frame.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"the picture is {frame.shape[1]}x{frame.shape[0]} but the camera {camera.width}x{camera.height}; "
            "use camera.resized(...)"
        )
    u, v, valid, _ = _cached_map(_MapKey(camera, grid, pitch_down_rad))
    bev = cv2.remap(frame, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(bev, dtype=np.uint8), valid
