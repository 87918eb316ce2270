"""The road's own coordinates over a clip: s along the vehicle's path, d to its left, both in world metres.

Called by the procedural painter's analysis. A curve only: which lines run beside it is `lane_tracks.py`'s
business, what is seen of them `frame_registration.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

Float = NDArray[np.float64]

# Fine against the shortest radius of a road (a 10 m radius turns 3 degrees in a step), coarse enough to be cheap.
STEP_M = 0.5

# The course goes on this far behind the first pose and ahead of the last one: as far as a camera resolves a line.
BEHIND_M = 10.0
AHEAD_M = 120.0

# Positions closer than this say nothing about direction: a standing vehicle's poses jitter by centimetres.
_MIN_MOVE_M = 1.0

# Slopes of roads change over seconds, bodies bounce at one to two hertz; under 2 cm a frame a vehicle stands.
_SLOPE_S = 1.5
_STANDING_M = 0.02

# Takes the noise of positions out of the direction; lines are measured against the result, so a bend cut by it is no
# error.
_SMOOTHING_M = 4.0


@dataclass(frozen=True)
class RigPose:
    """Where the rig stands on the world's (x, y) plane.

    `origin` (2,) metres; `axes` (2, 2) turns rig (x, y) into world (x, y): the plan view of the rig's rotation.
    """

    origin: Float
    axes: Float

    def to_world(self, points: Float) -> Float:
        """(N, 2) rig to (N, 2) world."""
        return points @ self.axes.T + self.origin

    def to_rig(self, points: Float) -> Float:
        """(N, 2) world to (N, 2) rig."""
        rig: Float = (points - self.origin) @ self._inverse_axes.T
        return rig

    def directions_to_rig(self, directions: Float) -> Float:
        """(N, 2) world to (N, 2) rig, without the move."""
        rig: Float = directions @ self._inverse_axes.T
        return rig

    @cached_property
    def _inverse_axes(self) -> Float:
        return np.asarray(np.linalg.inv(self.axes), dtype=np.float64)

    def moved(self, left_m: float, yaw_rad: float) -> RigPose:
        """The pose corrected by a step to the left and a turn to the left."""
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        return RigPose(self.origin + self.axes @ np.array([0.0, left_m]), self.axes @ np.array([[c, -s], [s, c]]))


def body_pitch(times_s: Float, positions_m: Float, rotations: Rotation) -> Float:
    """(T,) how far the body's nose dips towards the road, radians: its recorded pitch less the road's slope.

    The ground of a picture is the road, not the plane of the rig: over bumps the two differ by milliradians, which is
    decimetres of road at 30 m. The slope comes from the path's heights, over ways that are long against a bump.
    """
    forward = rotations.as_matrix()[:, :, 0]
    down = -np.arcsin(np.clip(forward[:, 2], -1.0, 1.0))
    rate = 1.0 / max(float(np.median(np.diff(times_s))), 1e-3) if len(times_s) > 1 else 1.0
    smooth = gaussian_filter1d(positions_m, _SLOPE_S * rate, axis=0, mode="nearest")
    step = np.gradient(smooth, axis=0) if len(smooth) > 1 else np.zeros_like(smooth)
    way = np.hypot(step[:, 0], step[:, 1])
    slope_down = -np.divide(step[:, 2], way, out=np.zeros_like(way), where=way > _STANDING_M)
    dip: Float = np.where(way > _STANDING_M, down - slope_down, 0.0)
    return dip


def plan_poses(positions_m: Float, rotations: Rotation) -> tuple[RigPose, ...]:
    """Plan views of world poses: positions (T, 3) and T rotations."""
    matrices = rotations.as_matrix()
    return tuple(RigPose(p[:2].copy(), r[:2, :2].copy()) for p, r in zip(positions_m, matrices, strict=True))


@dataclass(frozen=True)
class RoadCourse:
    """A smooth curve at every `STEP_M` of its length.

    Attributes:
        points: (N, 2) world metres; s of point i is `i * STEP_M`.
        tangents: (N, 2) unit.
    """

    points: Float
    tangents: Float

    @property
    def length_m(self) -> float:
        return (len(self.points) - 1) * STEP_M

    def at(self, s_m: Float) -> tuple[Float, Float]:
        """World points (N, 2) of the course and its normals (N, 2) to the left."""
        at = np.clip(np.asarray(s_m) / STEP_M, 0, len(self.points) - 1.001)
        i = at.astype(np.int64)
        f = (at - i)[:, None]
        tangent = self.tangents[i] * (1 - f) + self.tangents[i + 1] * f
        return self.points[i] * (1 - f) + self.points[i + 1] * f, np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)

    def world(self, s_m: Float, d_m: Float) -> Float:
        """World (N, 2) of road coordinates."""
        points, normals = self.at(s_m)
        result: Float = points + normals * np.asarray(d_m)[:, None]
        return result

    def road(self, points: Float, near_s_m: Float) -> tuple[Float, Float]:
        """Road coordinates of world points (N, 2), searched from the guess `near_s_m` (N,)."""
        s = np.asarray(near_s_m, dtype=np.float64).copy()
        d = np.zeros_like(s)
        for _ in range(4):
            at = np.clip(s / STEP_M, 0, len(self.points) - 1.001)
            i = at.astype(np.int64)
            f = (at - i)[:, None]
            tangent = self.tangents[i] * (1 - f) + self.tangents[i + 1] * f
            offset = points - (self.points[i] * (1 - f) + self.points[i + 1] * f)
            s = at * STEP_M + (offset * tangent).sum(axis=1)
            d = offset[:, 1] * tangent[:, 0] - offset[:, 0] * tangent[:, 1]
        return s, d

    def along(self, pose: RigPose) -> float:
        """The s of a pose."""
        nearest = int(np.argmin(((self.points - pose.origin) ** 2).sum(axis=1)))
        s, _ = self.road(pose.origin[None], np.array([nearest * STEP_M]))
        return float(s[0])


def course_of(poses: tuple[RigPose, ...], bend_ahead: Float | None = None) -> RoadCourse:
    """The course along the poses of a clip.

    Args:
        poses: one a frame.
        bend_ahead: (M, 2) world points that the road takes ahead of the last pose (from a measured lane), or None to go
            on straight.
    """
    kept = [poses[0].origin]
    for pose in poses[1:]:
        if np.hypot(*(pose.origin - kept[-1])) >= _MIN_MOVE_M:
            kept.append(pose.origin)
    path = np.array(kept)
    first_way = poses[0].axes[:, 0] if len(path) < 2 else path[1] - path[0]
    last_way = poses[-1].axes[:, 0]
    first_way, last_way = first_way / np.hypot(*first_way), last_way / np.hypot(*last_way)
    if bend_ahead is not None and len(bend_ahead) >= 2:
        path = np.concatenate([path, bend_ahead])
        last_way = bend_ahead[-1] - bend_ahead[-2]
        last_way = last_way / np.hypot(*last_way)
    path = np.concatenate([[path[0] - BEHIND_M * first_way], path, [path[-1] + AHEAD_M * last_way]])
    return _resampled(path)


def _resampled(path: Float) -> RoadCourse:
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    s = np.arange(0.0, lengths[-1], STEP_M)
    dense = np.stack([np.interp(s, lengths, path[:, i]) for i in range(2)], axis=1)
    # Smoothing the steps rather than the points keeps the straight ends in place.
    steps = gaussian_filter1d(np.diff(dense, axis=0), _SMOOTHING_M / STEP_M, axis=0, mode="nearest")
    tangents = steps / np.maximum(np.hypot(steps[:, 0], steps[:, 1])[:, None], 1e-9)
    points = dense[0] + np.concatenate([np.zeros((1, 2)), np.cumsum(tangents * STEP_M, axis=0)])
    along = np.concatenate([tangents[:1], (tangents[1:] + tangents[:-1]) / 2, tangents[-1:]])
    along /= np.hypot(along[:, 0], along[:, 1])[:, None]
    return RoadCourse(points, along)
