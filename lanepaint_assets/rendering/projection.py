"""Trajectories, planned at t0, as lines in the frames before and after t0.

Called by the overlay. A frame at another time is taken from another place: the plan goes through the ego poses into the
rig frame of the frame's own time, onto its ground plane, and through the camera. No drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.rendering.cameras import MIN_DEPTH_M, FThetaLens, RigCamera

Float = NDArray[np.float64]

# Parts a waypoint step is cut into: at 33 m/s a straight part then lies at most 0.4 px of a 1080p fisheye beside
# the bent one (0.8 px uncut, 0.2 px in four).
POINTS_PER_STEP = 2


@dataclass(frozen=True, eq=False)
class ProjectedLine:
    """One connected visible stretch of a trajectory.

    Attributes:
        line: which of the projected lines it is of.
        points_px: (N, 2), N >= 2, in driving order.
        depths_m: (N,) distance along the camera's axis.
        reaches_tip: True where the stretch ends with the trajectory's last point.
    """

    line: int
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


def project_lines(
    camera: RigCamera, lines_t0_m: Sequence[Float], rotation: Float, offset: Float, margin_px: float = 0.0
) -> list[ProjectedLine]:
    """Project lines into the frame whose rig pose is (`rotation`, `offset`) of `rig_motion`.

    Heights are set to the ground plane of the frame's own rig: a plan is a line on the road, and neither a driver's nor
    a recording's height is good enough over a whole clip to keep it there.

    Args:
        camera: of the frame.
        lines_t0_m: each (N, 3) in the rig frame at t0, in driving order; rows that are not finite break a line.
        rotation, offset: (3, 3) and (3,).
        margin_px: how far outside the picture a line still goes on, so that its end's width is not seen.

    Returns:
        Visible stretches in the order of their lines: cut in space where the depth is 0.5 m (what is nearer is dropped,
        spec 11), and in the picture at its edges plus the margin. None of a line that is not seen.
    """
    # All lines at once: numpy's calls cost more than what they do on one of them.
    points = np.concatenate([np.empty((0, 3)), *lines_t0_m]) @ rotation.T + offset
    points[:, 2] = 0.0
    of_line = np.repeat(np.arange(len(lines_t0_m)), [len(line) for line in lines_t0_m])
    if len(points) < 2:
        return []
    in_camera, of_line = _cut_at_depth((points - camera.position_m) @ camera.rotation, of_line)
    pixels, seen = camera.lens.project(in_camera)
    # A point on the cut itself is kept; rounding may put it a hair before the camera.
    usable = seen & (in_camera[:, 2] > MIN_DEPTH_M - 1e-9) & np.isfinite(pixels).all(axis=1)
    low = np.array([-0.5 - margin_px, -0.5 - margin_px])
    high = np.array([camera.width - 0.5 + margin_px, camera.height - 0.5 + margin_px])
    start, end = _cut_at_edges(pixels, low, high)
    shown = usable[:-1] & usable[1:] & (of_line[:-1] == of_line[1:]) & (start < end)
    # A stretch goes on where a segment is shown to its end and the next one from its beginning.
    joined = shown[:-1] & shown[1:] & (end[:-1] == 1) & (start[1:] == 0)
    firsts = np.flatnonzero(shown & ~np.concatenate([[False], joined]))
    lasts = np.flatnonzero(shown & ~np.concatenate([joined, [False]]))
    tips = np.append(np.flatnonzero(np.diff(of_line)), len(of_line) - 1)
    all_knots = np.column_stack([pixels, in_camera[:, 2]])
    found = []
    for first, last in zip(firsts, lasts, strict=True):
        knots = all_knots[first : last + 2].copy()
        head = knots[0] + start[first] * (knots[1] - knots[0])
        tail = knots[-2] + end[last] * (knots[-1] - knots[-2])
        knots[0], knots[-1] = head, tail
        tip = bool(end[last] == 1 and last + 1 in tips)
        found.append(ProjectedLine(int(of_line[first]), knots[:, :2], knots[:, 2], tip))
    return found


def _cut_at_depth(in_camera: Float, of_line: NDArray[np.int64]) -> tuple[Float, NDArray[np.int64]]:
    """(N, 3) points, and the line of each, with one more wherever a line crosses the least depth."""
    depth = in_camera[:, 2]
    front = depth > MIN_DEPTH_M
    crossing = np.flatnonzero((front[:-1] != front[1:]) & (of_line[:-1] == of_line[1:]))
    before, after = in_camera[crossing], in_camera[crossing + 1]
    share = (MIN_DEPTH_M - before[:, 2]) / (after[:, 2] - before[:, 2])
    cuts = before + share[:, None] * (after - before)
    cuts[:, 2] = MIN_DEPTH_M
    return np.insert(in_camera, crossing + 1, cuts, axis=0), np.insert(of_line, crossing + 1, of_line[crossing])


def _cut_at_edges(points: Float, low: Float, high: Float) -> tuple[Float, Float]:
    """The share of each of the N-1 segments at which it enters and leaves a box; enters at or after leaving: outside.

    Source: Liang and Barsky, A new concept and method for line clipping, 1984.
    """
    first, step = points[:-1], np.diff(points, axis=0)
    enter, leave = np.zeros(len(first)), np.ones(len(first))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_low, to_high = (low - first) / step, (high - first) / step
    outside = ((step == 0) & ((first < low) | (first > high))).any(axis=1)
    moves = step != 0
    near = np.where(moves, np.minimum(to_low, to_high), -np.inf).max(axis=1)
    far = np.where(moves, np.maximum(to_low, to_high), np.inf).min(axis=1)
    enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    enter[outside] = np.inf
    return enter, leave


def focal_px(camera: RigCamera) -> float:
    """Pixels a radian near the camera's axis: what turns a width in metres at a depth into pixels."""
    lens = camera.lens
    if isinstance(lens, FThetaLens):
        return float(lens.fw_poly[1]) if len(lens.fw_poly) > 1 else lens.width / 2
    return float(lens.fx)


def revealed_count(frame_index: int, frame_count: int, steps: int) -> int:
    """Waypoints shown in frame `frame_index` of `frame_count`: linear in its index, all in the last (spec 11)."""
    return -(-(frame_index + 1) * steps // frame_count)
