"""Which share of a plan lies outside the lane that the vehicle drives in.

`trajectory_steps.py` measures the lane once a clip, in its original frames, so that both arms are held against the same
boundaries: those on the road, not those that an edit paints. `results.py` counts waypoints against it. Finding lines in
pictures is `lanepaint_assets.lanes`' business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.evaluation.lane_boundaries import lane_boundaries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lanepaint_assets.lanes.inspector import LaneInspector, RoadView

    Float = NDArray[np.float64]

# Passed within a second at town speed: a share over less says nothing about a plan of 6.4 s.
MIN_SEEN_M = 10.0
# One look sees 45 m. The lane is measured anew where the vehicle has come 30 m on, while the look before still reaches
# there and shows whether it is the same lane; where a boundary is hidden there, 37 m on. On ten
# sample drives the boundaries of all looks lie within 9 cm of the true ones, half of them within 6 mm.
NEXT_LOOK_M = (30.0, 37.0)
# Two looks at one lane differ by centimetres; to the next lane it is 3 m.
MAX_JUMP_M = 0.5


class NoLaneError(ValueError):
    """The lane cannot be measured in these frames; the message says why."""


@dataclass(frozen=True)
class LanePiece:
    """Both boundaries as one look shows them, in the rig frame of the place that they were looked at from.

    Attributes:
        x_m, y_m, yaw_rad: that place in the rig frame at t0.
        left, right: (4,) coefficients of y = c0 + c1 x + c2 x^2 + c3 x^3, metres.
        from_m, to_m: x between which both were seen.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    left: tuple[float, ...]
    right: tuple[float, ...]
    from_m: float
    to_m: float

    def local(self, points_m: Float) -> Float:
        """(N, 2) points of the rig frame at t0, seen from this place."""
        shifted = points_m - (self.x_m, self.y_m)
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.stack([cos * shifted[:, 0] + sin * shifted[:, 1], cos * shifted[:, 1] - sin * shifted[:, 0]], axis=1)

    def bounds(self, x_m: Float) -> tuple[Float, Float]:
        """(N,) y of the left and the right boundary at (N,) x."""
        left, right = (np.polynomial.polynomial.polyval(x_m, line) for line in (self.left, self.right))
        return left.astype(np.float64), right.astype(np.float64)


@dataclass(frozen=True)
class EgoLane:
    """The lane that the vehicle drives in at t0, piece by piece along its way.

    Attributes:
        pieces: the first at t0, each next one further on; what they show overlaps.
        seen_to_m: way ahead from t0 over which both boundaries are known.
        source: the inspector that measured them.
    """

    pieces: tuple[LanePiece, ...]
    seen_to_m: float
    source: str


@dataclass(frozen=True)
class OffLane:
    """Waypoints outside the lane, of those that lie where both boundaries are known; all samples of an arm together.

    A waypoint is the middle of the rear axle. Where an arm has no waypoint on the known part, its share is unknown and
    the whole is absent.

    Attributes:
        original_share, edited_share: 0..1.
        ground_truth_share: 0..1, the same of the driven path: above 0 the vehicle left its lane itself, and a plan that
            does so is no fault. None without ground truth.
        seen_to_m: how far ahead the boundaries are known.
        lane_source: the inspector that measured them.
    """

    original_share: float
    edited_share: float
    ground_truth_share: float | None
    seen_to_m: float
    lane_source: str


def measure_ego_lane(inspector: LaneInspector, view: RoadView, t0_us: int) -> EgoLane:
    """The lane of the vehicle from t0 on, as far as it is the same lane.

    Args:
        view: original frames with a calibrated camera and ego motion; its target frame is the one shown at t0. Frames
            behind it are what the lane ahead is measured in.
        t0_us: whose rig frame the lane is given in; its frame was taken up to a source frame earlier.

    Raises:
        NoLaneError: the camera is not calibrated (metres would be a guess), there is no ego motion, or not both
            boundaries were measured over `MIN_SEEN_M` at t0.
    """
    if view.camera is None or view.camera.quality != "calibrated":
        quality = "unknown" if view.camera is None else view.camera.quality
        raise NoLaneError(f"the camera's geometry is {quality}, not calibrated: lane boundaries have no sure place")
    if view.ego is None:
        raise NoLaneError("without ego motion the lane ahead has no place")
    xyz, rotation = view.ego.relative(view.timestamps_us, t0_us)
    poses = np.column_stack([xyz[:, :2], np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])])
    gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1))])
    gone -= gone[view.target_index]

    pieces = [_look(inspector, view, view.target_index, poses)]
    here = view.target_index
    while True:
        found = _next_look(inspector, view, poses, gone, here, pieces[-1])
        if found is None:
            break
        here, piece = found
        pieces.append(piece)
    return EgoLane(
        pieces=tuple(pieces),
        seen_to_m=float(gone[here] + pieces[-1].to_m),
        source=f"{inspector.name} {inspector.version}",
    )


def _next_look(
    inspector: LaneInspector, view: RoadView, poses: Float, gone: Float, here: int, before: LanePiece
) -> tuple[int, LanePiece] | None:
    """The next frame further on in which the same lane was measured, and what it shows; None where there is none."""
    for ahead_m in NEXT_LOOK_M:
        there = int(np.searchsorted(gone, gone[here] + ahead_m))
        if there >= len(gone) or gone[there] - gone[here] > before.to_m:
            continue
        try:
            piece = _look(inspector, view, there, poses)
        except NoLaneError:
            continue
        place = before.local(poses[there : there + 1, :2])
        known = np.concatenate(before.bounds(place[:, 0])) - place[0, 1]
        if np.abs(known - np.concatenate(piece.bounds(np.zeros(1)))).max() <= MAX_JUMP_M:
            return there, piece
    return None


def _look(inspector: LaneInspector, view: RoadView, index: int, poses: Float) -> LanePiece:
    """Both boundaries at one frame of `view`.

    Raises:
        NoLaneError: not both were measured over `MIN_SEEN_M`.
    """
    inspection = inspector.inspect(replace(view, target_index=index))
    seen = lane_boundaries(inspection.lines)
    if seen is None:
        raise NoLaneError(f"no boundary of the ego lane was measured ({inspection.reason or 'none is clear enough'})")
    if seen.left is None or seen.right is None:
        side = "right" if seen.left is None else "left"
        raise NoLaneError(f"only the {side} boundary of the ego lane is sure")
    from_m = max(seen.left.x_range_m[0], seen.right.x_range_m[0])
    to_m = min(seen.left.x_range_m[1], seen.right.x_range_m[1])
    if to_m - max(from_m, 0.0) < MIN_SEEN_M:
        raise NoLaneError(f"both boundaries of the ego lane were seen over {max(to_m - from_m, 0.0):.0f} m only")
    return LanePiece(
        x_m=float(poses[index, 0]),
        y_m=float(poses[index, 1]),
        yaw_rad=float(poses[index, 2]),
        left=tuple(float(c) for c in seen.left.coefficients),
        right=tuple(float(c) for c in seen.right.coefficients),
        from_m=float(from_m),
        to_m=float(to_m),
    )


def off_lane(original_m: Float, edited_m: Float, ground_truth_m: Float | None, lane: EgoLane) -> OffLane:
    """Count both arms' waypoints (K, 64, 3) against the lane.

    Raises:
        NoLaneError: an arm has no waypoint on the part of the road where the boundaries are known.
    """
    shares = []
    for name, arm in (("original", original_m), ("edited", edited_m)):
        share = outside_share(arm, lane)
        if share is None:
            raise NoLaneError(
                f"no waypoint of the {name} arm lies on the {lane.seen_to_m:.0f} m of road where the lane is known"
            )
        shares.append(share)
    return OffLane(
        original_share=shares[0],
        edited_share=shares[1],
        ground_truth_share=None if ground_truth_m is None else outside_share(ground_truth_m, lane),
        seen_to_m=lane.seen_to_m,
        lane_source=lane.source,
    )


def outside_share(waypoints_m: Float, lane: EgoLane) -> float | None:
    """Share of waypoints (..., 3) outside the lane where it is known; None where none of them lies there.

    Each waypoint is held against the piece that was looked at from nearest to it.
    """
    points = waypoints_m[..., :2].reshape(-1, 2)
    nearest = np.full(len(points), np.inf)
    is_outside = np.zeros(len(points), dtype=np.bool_)
    for piece in lane.pieces:
        x, y = piece.local(points).T
        left, right = piece.bounds(x)
        is_nearer = (x >= piece.from_m) & (x <= piece.to_m) & (np.abs(x) < nearest)
        nearest[is_nearer] = np.abs(x[is_nearer])
        is_outside[is_nearer] = ((y > left) | (y < right))[is_nearer]
    known = np.isfinite(nearest)
    return float(np.mean(is_outside[known])) if known.any() else None
