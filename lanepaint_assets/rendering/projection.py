"""Trajectories, planned at t0, as lines in the frames before and after t0.

Called by the overlay. A frame at another time is taken from another place: the plan goes through the ego poses into the
rig frame of the frame's own time, onto its ground plane, and through the camera. No drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.rendering.cameras import MIN_DEPTH_M, FThetaLens, RigCamera

Float = NDArray[np.float64]

# Points a waypoint step is cut into: at 30 m/s they are 0.75 m apart, so that the part of a step that passes under the
# camera is dropped without a visible gap, and straight road still bends as a fisheye bends it.
POINTS_PER_STEP = 4
# Points this many picture sizes outside are dropped: near the lens plane coordinates grow without bound.
OUTSIDE_MARGIN = 1.0


@dataclass(frozen=True, eq=False)
class ProjectedLine:
    """One connected visible stretch of a trajectory.

    Attributes:
        points_px: (N, 2), N >= 2, in driving order; may reach past the picture's edge.
        depths_m: (N,) distance along the camera's axis.
        reaches_tip: True where the stretch ends with the trajectory's last revealed point.
    """

    points_px: Float
    depths_m: Float
    reaches_tip: bool


def rig_motion(ego: Egomotion | None, timestamps_us: NDArray[np.int64], t0_us: int) -> tuple[Float, Float, np.ndarray]:
    """How to carry points from the rig frame at t0 into the rig frame at each time.

    Returns:
        Rotations (T, 3, 3) and offsets (T, 3): `p_t = R p_t0 + d`; and (T,) bool, True where the pose is known. Without
        ego motion every row is the identity: the plan is fixed to the vehicle, and the flag is False.
    """
    count = len(timestamps_us)
    rotations = np.repeat(np.eye(3)[None], count, axis=0)
    offsets = np.zeros((count, 3))
    known = np.zeros(count, dtype=np.bool_)
    if ego is None:
        return rotations, offsets, known
    first, last = ego.span_us
    if not first <= t0_us <= last:
        return rotations, offsets, known
    times = np.asarray(timestamps_us, dtype=np.int64)
    known = (times >= first) & (times <= last)
    if known.any():
        positions, orientations = ego.relative(times[known], t0_us)
        inverse = np.swapaxes(orientations, 1, 2)
        rotations[known] = inverse
        offsets[known] = -np.einsum("tij,tj->ti", inverse, positions)
    return rotations, offsets, known


def densified(trajectory_m: Float) -> Float:
    """Cut every step of an (N, 3) trajectory into `POINTS_PER_STEP`, the first one from the rig's place at t0.

    Row `POINTS_PER_STEP * k` is then waypoint k of 1..N (k = 0 is the origin).
    """
    knots = np.vstack([np.zeros((1, 3)), trajectory_m])
    wanted = np.arange((len(knots) - 1) * POINTS_PER_STEP + 1) / POINTS_PER_STEP
    steps = np.arange(len(knots))
    return np.stack([np.interp(wanted, steps, knots[:, axis]) for axis in range(3)], axis=1)


def project_line(camera: RigCamera, points_t0_m: Float, rotation: Float, offset: Float) -> list[ProjectedLine]:
    """Project one line into the frame whose rig pose is (`rotation`, `offset`) of `rig_motion`.

    Heights are set to the ground plane of the frame's own rig: a plan is a line on the road, and neither a driver's nor
    a recording's height is good enough over a whole clip to keep it there.

    Args:
        camera: of the frame.
        points_t0_m: (N, 3) in the rig frame at t0, in driving order.
        rotation, offset: (3, 3) and (3,).

    Returns:
        Visible stretches; empty where all points are behind the camera (depth at most 0.5 m, spec 11), beyond the lens
        or far outside the picture.
    """
    if len(points_t0_m) < 2:
        return []
    points = points_t0_m @ rotation.T + offset
    points[:, 2] = 0.0
    depth = (points - camera.position_m) @ camera.rotation[:, 2]
    in_camera = (points - camera.position_m) @ camera.rotation
    pixels, seen = camera.lens.project(in_camera)
    margin_x, margin_y = OUTSIDE_MARGIN * camera.width, OUTSIDE_MARGIN * camera.height
    near = (
        (pixels[:, 0] > -margin_x)
        & (pixels[:, 0] < camera.width + margin_x)
        & (pixels[:, 1] > -margin_y)
        & (pixels[:, 1] < camera.height + margin_y)
    )
    usable = seen & near & (depth > MIN_DEPTH_M)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(np.int8)))
    lines = []
    for start, end in zip(edges[0::2], edges[1::2], strict=True):
        if end - start >= 2:
            lines.append(ProjectedLine(pixels[start:end], depth[start:end], bool(end == len(points))))
    return lines


def focal_px(camera: RigCamera) -> float:
    """Pixels a radian near the camera's axis: what turns a width in metres at a depth into pixels."""
    lens = camera.lens
    if isinstance(lens, FThetaLens):
        return float(lens.fw_poly[1]) if len(lens.fw_poly) > 1 else lens.width / 2
    return float(lens.fx)


def revealed_count(frame_index: int, frame_count: int, steps: int) -> int:
    """Waypoints shown in frame `frame_index` of `frame_count`: linear in its index, all in the last (spec 11)."""
    return -(-(frame_index + 1) * steps // frame_count)
