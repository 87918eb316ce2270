"""Lane lines of one frame: strip, evidence, course, lines, attributes, roles.

Called by the measured inspector, painters and the lane-following driver. Cameras and ego motion come in as known or
estimated by `geometry.py`; words (captions, verdicts) are the inspector's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.attributes import Count, Pattern
from lanepaint_assets.lanes.birds_eye import pitched
from lanepaint_assets.lanes.curves import (
    MIN_LINE_SPACING_M,
    CurveFit,
    course_votes,
    joint_course,
    line_offsets,
    refine_line,
    row_trust,
    shared_course,
)
from lanepaint_assets.lanes.inspector import LaneLine, LineRole, RoadView
from lanepaint_assets.lanes.line_count import MAX_SINGLE_STROKE_M
from lanepaint_assets.lanes.line_style import StyleMeasurement, measure_style
from lanepaint_assets.lanes.look_agreement import MIN_LOOKS
from lanepaint_assets.lanes.paint_filter import find_paint, near_road
from lanepaint_assets.lanes.road_beyond import pavement_beyond
from lanepaint_assets.lanes.strip import RoadStrip, accumulate_strip
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]

# Where the ego lane's boundaries are compared: about where the driver's own lane is best seen.
ROLE_X_M = 8.0
# A lane boundary lies no farther than this from the vehicle's middle: 3.75 m lanes, driven off centre, camera height
# off by a fifth.
MAX_BOUNDARY_M = 3.6
# Chance lines in grass, walls and vehicles reach 0.4 on roads without a mask; faint true lines start at 0.6.
MIN_LINE_CONFIDENCE = 0.45
# Most lines a road of 16 m has: six, and two for chance.
MAX_LINES = 8


# Specks along a verge's rim cover less of their way than worn solid lines do (0.43 and more in 99 of 100), and a dashed
# line shows at least 1 m in 9 m, less wear; one of which the pattern cannot be told may be either.
MIN_PAINT_SHARE = {Pattern.SOLID: 0.40, Pattern.DASHED: 0.125, Pattern.UNKNOWN: 0.24, Pattern.MIXED: 0.24}
# Specks scatter across their window, paint keeps to its course (0.035 m in 98 of 100 lines): what is looser must cover
# more of its way.
LOOSE_M = 0.04
MIN_LOOSE_SHARE = 0.45


@dataclass(frozen=True)
class Detection:
    """Lines of the target frame, and what they were read from."""

    lines: tuple[LaneLine, ...]
    strip: RoadStrip
    course: Float


@dataclass(frozen=True)
class _Found:
    """A course with paint, and whether only ground beyond the road mask told of it."""

    fit: CurveFit
    is_beyond: bool


def detect_lines(view: RoadView, camera: RigCamera, ego: Egomotion | None) -> Detection:
    """Find and measure the lane lines of `view.frames[view.target_index]`.

    Args:
        view: pictures; its own `camera` and `ego` are not read, so that estimates can be passed.
        camera: of the frames' size.
        ego: None reads the target frame alone.
    """
    strip = accumulate_strip(view, camera, ego)
    paint = find_paint(strip)
    course, votes, y_first = shared_course(paint.evidence, strip.grid)
    offsets = [offset for offset, _ in line_offsets(votes, y_first)[:MAX_LINES]]
    if not offsets:
        return Detection((), strip, course)
    course = joint_course(paint.evidence, strip.grid, strip.look_m, course, offsets)
    # Lines go on where the mask ends, and there are others beyond it.
    wide = replace(strip, on_road=strip.on_road | pavement_beyond(strip))
    evidence = near_road(paint.anywhere, wide.on_road, strip.grid.metres_per_pixel)
    beyond = [
        offset
        for offset, _ in line_offsets(*course_votes(evidence, strip.grid, course))
        if all(abs(offset - other) >= MIN_LINE_SPACING_M for other in offsets)
    ]
    trust = row_trust(strip.look_m)
    found: list[_Found] = []
    for offset in offsets + beyond[:MAX_LINES]:
        fit = refine_line(evidence, strip.grid, trust, course, offset)
        if fit is not None and _confidence(fit) >= MIN_LINE_CONFIDENCE:
            found.append(_Found(fit, offset in beyond))
    measured = [(line.fit, _style(strip, wide, line), line.is_beyond) for line in _distinct(found)]
    lines_kept = [(fit, style) for fit, style, is_beyond in measured if _is_line(fit, style, is_beyond)]
    roles = _roles([fit for fit, _ in lines_kept])
    level = pitched(camera, strip.pitch_down_rad)
    lines = [_line(fit, role, style, level) for (fit, style), role in zip(lines_kept, roles, strict=True)]
    return Detection(tuple(lines), strip, course)


def _style(strip: RoadStrip, wide: RoadStrip, line: _Found) -> StyleMeasurement:
    """The line's style on the road and what continues it.

    In one picture that may be a vehicle's flank, which looks like a gap between dashes: gaps then count on the mask
    only. A line beyond the mask has no other witness.
    """
    style = measure_style(wide, line.fit)
    if strip.frames_used < MIN_LOOKS and style.style.pattern is Pattern.DASHED and not line.is_beyond:
        return measure_style(strip, line.fit)
    return style


def _is_line(fit: CurveFit, style: StyleMeasurement, is_beyond: bool) -> bool:
    """Whether it is a marking: no verge, no specks in a row, and beyond the mask nothing that leaves a doubt."""
    if is_beyond and not style.style.is_known:
        return False
    least = MIN_PAINT_SHARE[style.style.pattern]
    if fit.residual_m > LOOSE_M:
        least = max(least, MIN_LOOSE_SHARE)
    return fit.paint_share >= least and not _is_verge(style)


def _is_verge(style: StyleMeasurement) -> bool:
    """A pale strip too wide for paint and without gaps: a gravel verge, a concrete kerb."""
    too_wide = style.width_m > MAX_SINGLE_STROKE_M and style.style.count is Count.UNKNOWN
    return too_wide and style.style.pattern is not Pattern.DASHED


def _at(fit: CurveFit, x: float) -> float:
    return float(np.polynomial.polynomial.polyval(x, fit.coefficients))


def _distinct(found: list[_Found]) -> list[_Found]:
    """Drop the weaker of two fits that ran into the same paint; order from left to right."""
    kept: list[_Found] = []
    for line in sorted(found, key=lambda f: -f.fit.paint_m):
        if all(abs(_at(line.fit, ROLE_X_M) - _at(other.fit, ROLE_X_M)) > 0.5 for other in kept):
            kept.append(line)
    return sorted(kept, key=lambda f: -_at(f.fit, ROLE_X_M))


def _roles(fits: list[CurveFit]) -> list[LineRole]:
    """The nearest convincing line on each side bounds the ego lane."""
    roles: list[LineRole] = ["other"] * len(fits)
    lateral = [_at(f, ROLE_X_M) for f in fits]
    left = [i for i, y in enumerate(lateral) if 0.2 < y < MAX_BOUNDARY_M]
    right = [i for i, y in enumerate(lateral) if -MAX_BOUNDARY_M < y < -0.2]
    if left:
        roles[min(left, key=lambda i: lateral[i])] = "ego_left"
    if right:
        roles[max(right, key=lambda i: lateral[i])] = "ego_right"
    return roles


def _confidence(fit: CurveFit) -> float:
    """0..1 from the paint along the curve, how closely it follows it, and how bare the ground beside it is."""
    support = 1.0 - np.exp(-fit.paint_m / 5.0)
    tidy = np.exp(-fit.residual_m / 0.10)
    lone = np.clip((fit.contrast_ratio - 1.0) / 4.0, 0.0, 1.0)
    return float(np.clip(support * tidy * (0.4 + 0.6 * lone), 0.0, 1.0))


def _line(fit: CurveFit, role: LineRole, measured: StyleMeasurement, camera: RigCamera) -> LaneLine:
    return LaneLine(
        role=role,
        coefficients=fit.coefficients,
        x_range_m=fit.x_range_m,
        polyline_px=_polyline(fit, camera),
        style=measured.style,
        confidence=_confidence(fit),
        style_confidence=measured.confidence,
        width_m=measured.width_m,
        dash_m=measured.dash_m,
        period_m=measured.period_m,
        phase_m=measured.phase_m,
        covariance=fit.covariance,
    )


def _polyline(fit: CurveFit, camera: RigCamera) -> Float:
    """The line in the target frame, near to far, every half metre where it is in the picture."""
    x = np.arange(max(fit.x_range_m[0], camera.position_m[0] + 1.0), fit.x_range_m[1] + 0.25, 0.5)
    y = np.polynomial.polynomial.polyval(x, fit.coefficients)
    pixels, seen = camera.project(np.column_stack([x, y, np.zeros_like(x)]))
    return pixels[seen]
