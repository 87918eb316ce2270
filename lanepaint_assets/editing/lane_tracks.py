"""Lane lines of a whole clip: what the inspector measured in several frames, joined into one course per line.

Called by the procedural painter's analysis. It knows the road's coordinates and the inspector's answers; no pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from lanepaint_assets.editing.road_course import STEP_M, RigPose, RoadCourse
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole

Float = NDArray[np.float64]

# Lines of one road are at least a narrow lane (2.3 m) apart: nearer than half of it is the same line.
_SAME_LINE_M = 1.1

# Samples of a measured cubic; the measuring itself resolves no more.
_SAMPLE_M = 1.0

# Spacing of the spline that a line's distance to the course is fitted with, and how strongly it resists bending: low
# enough to follow a lane change of the recording vehicle (3.5 m in 60 m), high enough to average over 10 m.
_KNOT_M = 2.5
_STIFFNESS = 40.0

# Length of the mean of unit vectors; 0.5 is a scatter of about a fifth of a period.
_PHASES_AGREE = 0.5

# A measured point's lateral error grows with its distance; 2 cm near the bonnet, 12 cm at 40 m.
_NEAR_ERROR_M = 0.02
_ERROR_PER_M = 0.0025


@dataclass(frozen=True, eq=False)
class LaneTrack:
    """One lane line in road coordinates.

    Attributes:
        role: its role in most inspections.
        offset_m: (N,) d of the line's centre at each step of the course.
        s_range_m: where it was seen.
        style: each attribute as most inspections saw it, weighted by confidence.
        width_m: painted width of one stroke, NaN where it was not measured.
        dash_m, period_m, phase_m: length, repeat and start (as s) of the measured dashes, NaN where there are none.
        confidence: 0..1, mean over the inspections that saw it.
        measured: False for a boundary that was placed at a lane's width from the other one.
    """

    role: LineRole
    offset_m: Float
    s_range_m: tuple[float, float]
    style: LaneStyle
    width_m: float
    dash_m: float
    period_m: float
    phase_m: float
    confidence: float
    measured: bool = True

    def at(self, s_m: Float) -> Float:
        """Distance of the line's centre from the course at s, left positive."""
        return np.interp(np.asarray(s_m) / STEP_M, np.arange(len(self.offset_m)), self.offset_m)

    def arc_length_m(self, course: RoadCourse) -> Float:
        """(N,) length along the line itself at each step of the course; differs from s in bends."""
        points = course.world(np.arange(len(self.offset_m), dtype=np.float64) * STEP_M, self.offset_m)
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


@dataclass(frozen=True)
class _Sighting:
    line: LaneLine
    here_s: float
    s: Float
    d: Float
    error: Float


def join_lines(
    course: RoadCourse, poses: Sequence[RigPose], inspections: Sequence[LaneInspection]
) -> tuple[LaneTrack, ...]:
    """Tracks of all lines, left to right.

    Args:
        course: the road.
        poses: of the inspected frames.
        inspections: one for each pose.

    Returns:
        Lines seen once are kept only where they are a boundary of the ego lane, or where there was one inspection.
    """
    groups: list[list[_Sighting]] = []
    for pose, inspection in zip(poses, inspections, strict=True):
        start = course.along(pose)
        for line in inspection.lines:
            sighting = _sighting(course, pose, start, line)
            group = _group_of(groups, sighting)
            if group is None:
                groups.append([sighting])
            else:
                group.append(sighting)
    enough = 1 if len(inspections) < 3 else 2
    kept = [g for g in groups if len(g) >= enough or any(x.line.role != "other" for x in g)]
    tracks = [track for track in (_track(course, group) for group in kept) if _is_marking(track)]
    return tuple(sorted(tracks, key=lambda t: -float(np.mean(t.at(np.array(t.s_range_m))))))


def _sighting(course: RoadCourse, pose: RigPose, start_s: float, line: LaneLine) -> _Sighting:
    low, high = line.x_range_m
    x = np.arange(low, max(high, low + _SAMPLE_M) + 1e-6, _SAMPLE_M)
    s, d = course.road(pose.to_world(np.stack([x, line.lateral_m(x)], axis=1)), start_s + x)
    return _Sighting(line, start_s, s, d, _NEAR_ERROR_M + _ERROR_PER_M * x)


def _group_of(groups: list[list[_Sighting]], new: _Sighting) -> list[_Sighting] | None:
    """The line seen before whose latest sightings run nearest to the new one."""
    best: list[_Sighting] | None = None
    nearest = _SAME_LINE_M
    for group in groups:
        s = np.concatenate([x.s for x in group[-3:]])
        d = np.concatenate([x.d for x in group[-3:]])
        order = np.argsort(s)
        # np.interp holds the end values, which bridges a stretch where the line was not seen.
        distance = float(np.median(np.abs(np.interp(new.s, s[order], d[order]) - new.d)))
        if distance < nearest:
            best, nearest = group, distance
    return best


def _track(course: RoadCourse, group: list[_Sighting]) -> LaneTrack:
    s = np.concatenate([x.s for x in group])
    d = np.concatenate([x.d for x in group])
    error = np.concatenate([x.error / max(x.line.confidence, 0.05) for x in group])
    lines = [x.line for x in group]
    period = _median([line.period_m for line in lines])
    roles: list[LineRole] = [line.role for line in lines]
    return LaneTrack(
        role=max(sorted(set(roles)), key=roles.count),
        offset_m=smooth_offsets(len(course.points), s, d, error),
        s_range_m=(float(s.min()), float(s.max())),
        style=_majority_style(lines),
        width_m=_median([line.width_m for line in lines]),
        dash_m=_median([line.dash_m for line in lines]),
        period_m=period,
        phase_m=_mean_phase([x.here_s + x.line.phase_m for x in group], period),
        confidence=float(np.mean([line.confidence for line in lines])),
    )


def smooth_offsets(steps: int, s_m: Float, d_m: Float, error_m: Float) -> Float:
    """A smooth line through scattered measurements, straight where there are none.

    Args:
        steps: points of the course.
        s_m, d_m, error_m: (N,) measurements and their standard errors.

    Returns:
        (steps,) d at each step of the course: piecewise linear over knots, second differences penalized, outliers
        weighted down by the square of their distance: many that agree must not outvote the line.
    """
    per_knot = round(_KNOT_M / STEP_M)
    knots = steps // per_knot + 2
    at = np.clip(s_m / _KNOT_M, 0, knots - 1.001)
    left = at.astype(np.int64)
    f = at - left
    weight = 1.0 / np.maximum(error_m, 1e-3) ** 2
    # Neighbouring samples are not independent, so only their relative weight counts: one unit a knot on average, which
    # makes the stiffness a length (its fourth root, in knots) whatever the number of samples.
    weight *= len(np.unique(left)) / weight.sum()
    robust = np.ones_like(weight)
    values = np.zeros(knots)
    for _ in range(6):
        w = weight * robust
        bands = np.zeros((3, knots))
        np.add.at(bands[2], left, w * (1 - f) ** 2)
        np.add.at(bands[2], left + 1, w * f**2)
        np.add.at(bands[1], left + 1, w * f * (1 - f))
        right = np.zeros(knots)
        np.add.at(right, left, w * (1 - f) * d_m)
        np.add.at(right, left + 1, w * f * d_m)
        _add_bending(bands)
        values = solveh_banded(bands, right)
        residual = np.abs(values[left] * (1 - f) + values[left + 1] * f - d_m)
        scale = max(1.5 * float(np.median(residual)), 0.02)
        robust = np.minimum(1.0, 2.0 * scale / np.maximum(residual, 1e-6)) ** 2
    fitted: Float = np.interp(np.arange(steps) * STEP_M, np.arange(knots) * _KNOT_M, values).astype(np.float64)
    return fitted


def _add_bending(bands: Float) -> None:
    """Add the penalty on second differences to an upper-banded matrix of bandwidth 2."""
    n = bands.shape[1]
    inner = np.arange(n - 2)
    for a, ca in ((0, 1.0), (1, -2.0), (2, 1.0)):
        np.add.at(bands[2], inner + a, _STIFFNESS * ca * ca)
    np.add.at(bands[1], inner + 1, _STIFFNESS * -2.0)
    np.add.at(bands[1], inner + 2, _STIFFNESS * -2.0)
    np.add.at(bands[0], inner + 2, _STIFFNESS)
    bands[2] += 1e-9


def _is_marking(track: LaneTrack) -> bool:
    """Other lines that show neither colour nor pattern are kerbs, seams or the road's edge."""
    return track.role != "other" or (
        track.style.color is not Color.UNKNOWN and track.style.pattern is not Pattern.UNKNOWN
    )


def _median(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.median(known)) if known else float("nan")


def _mean_phase(phases_s: list[float], period_m: float) -> float:
    """The s at which a dash begins, from sightings that agree up to whole periods; NaN where they do not."""
    known = np.array([p for p in phases_s if np.isfinite(p)])
    if not known.size or not np.isfinite(period_m) or period_m <= 0:
        return float("nan")
    mean = np.exp(2j * np.pi * known / period_m).mean()
    if abs(mean) < _PHASES_AGREE:
        return float("nan")
    return float(np.angle(mean)) * period_m / (2 * np.pi)


def _majority_style(lines: list[LaneLine]) -> LaneStyle:
    def vote(words: list[str], neutral: frozenset[str]) -> str:
        totals: dict[str, float] = {}
        for word, line in zip(words, lines, strict=True):
            if word not in neutral:
                totals[word] = totals.get(word, 0.0) + max(line.style_confidence, 1e-3)
        return max(sorted(totals), key=lambda w: totals[w]) if totals else "unknown"

    unsure = frozenset({"unknown", "mixed"})
    return LaneStyle(
        Count(vote([line.style.count.value for line in lines], unsure)),
        Color(vote([line.style.color.value for line in lines], unsure)),
        Pattern(vote([line.style.pattern.value for line in lines], unsure)),
    )


def with_both_boundaries(tracks: tuple[LaneTrack, ...], lane_width_m: float) -> tuple[LaneTrack, ...]:
    """Add the boundary of the ego lane that was not seen, parallel to the one that was.

    Returns:
        `tracks` unchanged where both are there or none is.
    """
    roles = {track.role for track in tracks}
    if "ego_left" in roles and "ego_right" not in roles:
        seen, role, side = "ego_left", "ego_right", -1.0
    elif "ego_right" in roles and "ego_left" not in roles:
        seen, role, side = "ego_right", "ego_left", 1.0
    else:
        return tracks
    known = max((t for t in tracks if t.role == seen), key=lambda t: t.s_range_m[1] - t.s_range_m[0])
    placed_role: LineRole = "ego_right" if role == "ego_right" else "ego_left"
    placed = replace(
        known, role=placed_role, offset_m=known.offset_m + side * lane_width_m, measured=False, confidence=0.0
    )
    clashing = [t for t in tracks if float(np.median(np.abs(t.offset_m - placed.offset_m))) < _SAME_LINE_M]
    if clashing:
        # A line is already where the boundary belongs: it is the boundary, seen as another line.
        return tuple(replace(t, role=placed_role) if t is clashing[0] else t for t in tracks)
    return tuple(sorted((*tracks, placed), key=lambda t: -float(np.mean(t.at(np.array(t.s_range_m))))))
