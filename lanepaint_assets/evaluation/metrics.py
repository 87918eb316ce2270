"""Numbers that say how well a trajectory fits the ground truth, and how far two arms of a comparison differ.

The evaluation assets call `accuracy` for each arm and `divergence` for each pair. Pure geometry on arrays: no files, no
drivers, no statistics over clips (`statistics.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lanepaint_assets.evaluation.driver import FUTURE_STEPS, STEP_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]

LateralFrame = Literal["ground_truth", "original_prediction"]

# Spread over the horizon; 6.4 s is its end.
LATERAL_TIMES_S = (1.0, 3.0, 5.0, 6.4)
# Final speed is averaged over this many steps (0.5 s): one step divides centimetres of jitter by 0.1 s.
FINAL_SPEED_STEPS = 5
# Points closer than this give directions of noise, not of the road.
MIN_PATH_STEP_M = 0.1
# A path shorter than this has no direction of its own: the vehicle stands, and rig x serves instead.
MIN_PATH_LENGTH_M = 1.0


@dataclass(frozen=True)
class AccuracyMetrics:
    """How well K samples fit the ground truth, metres, XY plane; all None with a reason where there is none.

    Attributes:
        min_ade_m: smallest mean displacement of a sample (spec 10).
        mean_ade_m: mean over the samples.
        medoid_ade_m: that of the sample with the least total distance to the others: one trajectory, chosen without
            looking at the ground truth.
        min_fde_m: smallest displacement at 6.4 s.
        reason: why there are no numbers.
    """

    min_ade_m: float | None
    mean_ade_m: float | None
    medoid_ade_m: float | None
    min_fde_m: float | None
    reason: str | None = None


@dataclass(frozen=True)
class LateralShift:
    """Mean over paired samples of (edited - original) lateral position at one time, metres, left positive."""

    time_s: float
    shift_m: float


@dataclass(frozen=True)
class DivergenceMetrics:
    """How far the edited arm's trajectories lie from the original arm's; sample i is paired with sample i.

    Attributes:
        ade_m: mean displacement between paired samples.
        lateral: signed lateral shift at `LATERAL_TIMES_S`.
        lateral_frame: the path whose left is positive: the ground truth, or, without one, the original arm's mean.
        final_speed_change_mps: mean of (edited - original) speed over the last 0.5 s.
    """

    ade_m: float
    lateral: tuple[LateralShift, ...]
    lateral_frame: LateralFrame
    final_speed_change_mps: float

    def lateral_at(self, time_s: float) -> float:
        """The lateral shift at one of `LATERAL_TIMES_S`.

        Raises:
            KeyError: no shift was measured at that time.
        """
        return {shift.time_s: shift.shift_m for shift in self.lateral}[time_s]


def accuracy(trajectories_m: Float, ground_truth_m: Float | None, reason: str | None = None) -> AccuracyMetrics:
    """Compare K samples (K, 64, 3) with the ground truth (64, 3).

    Args:
        trajectories_m: rig frame at t0.
        ground_truth_m: the same frame; None where the recording has no 6.4 s after t0.
        reason: why there is no ground truth, passed through to the result.

    Raises:
        ValueError: a shape is wrong or a number is not finite.
    """
    _check_samples(trajectories_m, "trajectories_m")
    if ground_truth_m is None:
        return AccuracyMetrics(None, None, None, None, reason or "no ground truth")
    _check_path(ground_truth_m, "ground_truth_m")
    displacement = np.linalg.norm(trajectories_m[..., :2] - ground_truth_m[None, :, :2], axis=-1)
    ade = displacement.mean(axis=1)
    return AccuracyMetrics(
        min_ade_m=float(ade.min()),
        mean_ade_m=float(ade.mean()),
        medoid_ade_m=float(ade[medoid_index(trajectories_m)]),
        min_fde_m=float(displacement[:, -1].min()),
    )


def medoid_index(trajectories_m: Float) -> int:
    """The sample with the least total ADE to all others; the first one among equals."""
    xy = trajectories_m[..., :2]
    total = np.linalg.norm(xy[:, None] - xy[None, :], axis=-1).mean(axis=-1).sum(axis=1)
    # Rounded to a micrometre: for two samples both totals are equal, and the last bit must not choose.
    return int(np.round(total, 6).argmin())


def farthest_m(*arms_m: Float) -> float:
    """Distance of the position farthest from the rig origin, over all samples (K, 64, 3) of all arms, metres."""
    return max(float(np.linalg.norm(arm_m, axis=-1).max()) for arm_m in arms_m)


def ade_between(first_m: Float, second_m: Float) -> float:
    """Mean XY displacement between sample i of one arm and sample i of the other, both (K, 64, 3).

    Raises:
        ValueError: the arms differ in shape: without common samples there is no pairing.
    """
    _check_samples(first_m, "first_m")
    _check_samples(second_m, "second_m")
    if first_m.shape != second_m.shape:
        raise ValueError(f"paired arms need the same samples, but have shapes {first_m.shape} and {second_m.shape}")
    return float(np.linalg.norm(first_m[..., :2] - second_m[..., :2], axis=-1).mean())


def divergence(original_m: Float, edited_m: Float, ground_truth_m: Float | None) -> DivergenceMetrics:
    """Compare two arms (K, 64, 3) sample by sample.

    Lateral positions are measured in the Frenet frame of the ground truth, or of the original arm's mean trajectory
    where there is none: the difference between arms needs a direction, not a truth.
    """
    ade = ade_between(original_m, edited_m)
    if ground_truth_m is not None:
        _check_path(ground_truth_m, "ground_truth_m")
    reference = original_m.mean(axis=0) if ground_truth_m is None else ground_truth_m
    path = np.concatenate([np.zeros((1, 2)), reference[:, :2]])
    shifts = []
    for time_s in LATERAL_TIMES_S:
        step = round(time_s / STEP_S) - 1
        difference = lateral_offset_m(edited_m[:, step, :2], path) - lateral_offset_m(original_m[:, step, :2], path)
        shifts.append(LateralShift(time_s, float(difference.mean())))
    return DivergenceMetrics(
        ade_m=ade,
        lateral=tuple(shifts),
        lateral_frame="original_prediction" if ground_truth_m is None else "ground_truth",
        final_speed_change_mps=float((final_speed_mps(edited_m) - final_speed_mps(original_m)).mean()),
    )


def final_speed_mps(trajectories_m: Float) -> Float:
    """(K,) speed over the last 0.5 s of (K, 64, 3) trajectories, in the XY plane."""
    steps = np.diff(trajectories_m[:, -FINAL_SPEED_STEPS - 1 :, :2], axis=1)
    speed: Float = np.linalg.norm(steps, axis=-1).mean(axis=1) / STEP_S
    return speed


def lateral_offset_m(points_m: Float, path_m: Float) -> Float:
    """Signed distance of points from a path, left of its direction positive.

    Args:
        points_m: (N, 2).
        path_m: (M, 2) in order of travel. It is continued straight beyond both ends. Where it is too short to have a
            direction (the vehicle stands), the direction is +x.

    Returns:
        (N,) metres.
    """
    path = _thinned(path_m)
    start, vector = path[:-1], np.diff(path, axis=0)
    length = np.linalg.norm(vector, axis=1)
    tangent = vector / length[:, None]
    from_start = points_m[:, None, :] - start[None, :, :]
    along = np.einsum("nmk,mk->nm", from_start, tangent)
    lowest = np.zeros_like(length)
    highest = length.copy()
    lowest[0], highest[-1] = -np.inf, np.inf
    clipped = np.clip(along, lowest, highest)
    offset = from_start - clipped[..., None] * tangent[None]
    distance = np.linalg.norm(offset, axis=-1)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(points_m))
    side = tangent[nearest, 0] * from_start[rows, nearest, 1] - tangent[nearest, 1] * from_start[rows, nearest, 0]
    signed: Float = np.copysign(distance[rows, nearest], side)
    return signed


def _thinned(path_m: Float) -> Float:
    """The path without points that are closer than `MIN_PATH_STEP_M` to the one kept before."""
    kept = [path_m[0]]
    for point in path_m[1:]:
        if np.linalg.norm(point - kept[-1]) >= MIN_PATH_STEP_M:
            kept.append(point)
    thinned = np.array(kept)
    if np.linalg.norm(np.diff(thinned, axis=0), axis=1).sum() < MIN_PATH_LENGTH_M:
        return np.array([path_m[0], path_m[0] + (1.0, 0.0)])
    return thinned


def _check_samples(trajectories_m: Float, name: str) -> None:
    if trajectories_m.ndim != 3 or trajectories_m.shape[1:] != (FUTURE_STEPS, 3) or len(trajectories_m) == 0:
        raise ValueError(f"{name} must have shape (K >= 1, {FUTURE_STEPS}, 3), not {trajectories_m.shape}")
    if not np.isfinite(trajectories_m).all():
        raise ValueError(f"{name} holds numbers that are not finite")


def _check_path(path_m: Float, name: str) -> None:
    if path_m.shape != (FUTURE_STEPS, 3):
        raise ValueError(f"{name} must have shape ({FUTURE_STEPS}, 3), not {path_m.shape}")
    if not np.isfinite(path_m).all():
        raise ValueError(f"{name} holds numbers that are not finite")
