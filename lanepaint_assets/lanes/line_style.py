"""Count, colour, pattern and width of one line, read along it in the road strip.

Called by lane detection with a fitted course. Every answer comes with a confidence, and `unknown` is an answer: a wrong
attribute misleads a study, a missing one only costs a sample.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.curves import CurveFit
from lanepaint_assets.lanes.paint_filter import linear_light, stroke_response
from lanepaint_assets.lanes.strip import RoadStrip

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Ribbon across the line: wide enough for a double line and asphalt on both of its sides.
RIBBON_HALF_M = 1.0
RIBBON_CELL_M = 0.025
# Beyond this look distance strokes of a double line blend, and gaps fill with the blur of neighbouring dashes.
COUNT_LOOK_M = 14.0
PATTERN_LOOK_M = 32.0
COLOR_LOOK_M = 22.0
# Strokes of a double line lie this far apart, centre to centre (the tables name no number; streets vary).
DOUBLE_SPACING_M = (0.10, 0.45)
# A stroke of a double line is as wide as a single one; wider, the dip is texture of a pale band.
MAX_DOUBLE_STROKE_M = 0.35
# The widest single stroke of the tables is 0.30 m; blur adds to it.
MAX_SINGLE_STROKE_M = 0.42
# Gaps shorter than this are wear or a tar seam; the tables' shortest gap of a lane line is 2 m (dotted lines: 0.6 m).
MIN_GAP_M = 1.2
# Paint shorter than this is a reflector or a spot.
MIN_DASH_M = 0.5
# Full paint is what the clearest eighth of a line shows: even a US dash covers a quarter of its line.
FULL_PAINT_PERCENTILE = 88
# Paint must stand out at least twice as far as bare ground does by chance.
MIN_CLEARNESS = 0.5
# And at least this much in itself, logarithms of light and of yellowness: white paint is never quite as neutral as the
# asphalt beside it, and would otherwise be sought in a trace of colour.
MIN_FULL_PAINT = (0.10, 0.30)
PAINTED_ABOVE = 0.4
# Thin paint of a worn line shows more than this in its thinnest stretches, a dash's gap less.
BARE_BELOW = 0.16
# In every standard of the tables a gap is at least as long as its dash; blur and the picture's edge add a little.
MAX_DASHED_DUTY = 0.66
MAX_DASH_M = 9.0
# A solid line covers nearly all of its course over a stretch in which any dashed line would show a gap.
MIN_SOLID_DUTY = 0.78
MIN_SOLID_M = 8.0
# Share of yellow paint's gain over asphalt that is left in blue, against red and green: white keeps about all of it,
# fresh yellow almost none. Between the two limits nothing is said.
YELLOW_BELOW = 0.58
WHITE_ABOVE = 0.72


@dataclass(frozen=True)
class StyleMeasurement:
    """Measured attributes of one line, each with a confidence 0..1 (0 where the attribute is unknown)."""

    style: LaneStyle
    count_confidence: float
    color_confidence: float
    pattern_confidence: float
    width_m: float
    dash_m: float
    period_m: float
    phase_m: float

    @property
    def confidence(self) -> float:
        """Of the least certain known attribute; 0 where none is known."""
        known = [c for c in (self.count_confidence, self.color_confidence, self.pattern_confidence) if c > 0]
        return min(known) if known else 0.0


@dataclass(frozen=True)
class _Ribbon:
    """The strip straightened along one line: rows run with x rising, columns from left (+1 m) to right (-1 m)."""

    x_m: Float
    arc_m: Float
    distance_m: Float
    rgb: Float32
    light: Float32
    seen: NDArray[np.bool_]
    look_m: Float


def _ribbon(strip: RoadStrip, fit: CurveFit) -> _Ribbon:
    x = strip.grid.x_m[::-1]
    x_low, x_high = fit.x_range_m
    # Look a little past the last paint, or a line's ending gap would never be seen.
    x = x[(x >= x_low - 12.0) & (x <= x_high + 12.0)]
    y = np.polynomial.polynomial.polyval(x, fit.coefficients)
    slope = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyder(fit.coefficients))
    norm = np.sqrt(1.0 + slope**2)
    d = RIBBON_HALF_M - (np.arange(round(2 * RIBBON_HALF_M / RIBBON_CELL_M), dtype=np.float64) + 0.5) * RIBBON_CELL_M
    px = x[:, None] - (slope / norm)[:, None] * d[None, :]
    py = y[:, None] + (1.0 / norm)[:, None] * d[None, :]
    columns = strip.grid.columns_of(py).astype(np.float32)
    rows = strip.grid.rows_of(px).astype(np.float32)
    rgb = cv2.remap(strip.rgb, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    seen = cv2.remap(strip.seen.astype(np.uint8), columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    linear = linear_light(np.asarray(rgb, dtype=np.float32))
    light = np.log(linear @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32) + np.float32(0.004))
    look = np.interp(x, strip.grid.x_m[::-1], np.where(np.isfinite(strip.look_m), strip.look_m, 1e3)[::-1])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    return _Ribbon(x, arc.astype(np.float64), d, linear, light.astype(np.float32), seen.astype(bool), look)


def _between(distance_m: Float, low: float, high: float) -> NDArray[np.bool_]:
    return (distance_m >= low) & (distance_m <= high)


def measure_style(strip: RoadStrip, fit: CurveFit) -> StyleMeasurement:
    """Measure one line. Never raises; what cannot be told is `unknown` with confidence 0, or NaN."""
    ribbon = _ribbon(strip, fit)
    d = ribbon.distance_m
    whole: NDArray[np.bool_] = np.asarray(ribbon.seen[:, np.abs(d) < 0.6].all(axis=1), dtype=bool)
    if whole.sum() < 5:
        return StyleMeasurement(
            LaneStyle(Count.UNKNOWN, Color.UNKNOWN, Pattern.UNKNOWN), 0.0, 0.0, 0.0, *(float("nan"),) * 4
        )
    presence, clear = _paint_presence(ribbon, whole)
    painted = whole & (presence > PAINTED_ABOVE)
    pattern, pattern_confidence, dash, period, phase = _pattern(ribbon, whole, presence, clear)
    count, count_confidence, width = _count(ribbon, painted)
    color, color_confidence = _color(ribbon, painted)
    return StyleMeasurement(
        LaneStyle(count, color, pattern),
        count_confidence,
        color_confidence,
        pattern_confidence,
        width,
        dash,
        period,
        phase,
    )


def _paint_presence(ribbon: _Ribbon, whole: NDArray[np.bool_]) -> tuple[Float, float]:
    """How much paint each row shows: 0 for bare ground, 1 for full paint; and how clear the difference is, 0..1."""
    d = ribbon.distance_m
    # Colour counts as much as light: yellow paint on pale concrete is no brighter than it.
    gain = np.log(ribbon.rgb + np.float32(0.004))
    yellowness = 0.5 * (gain[..., 0] + gain[..., 1]) - gain[..., 2]
    responses = [stroke_response(channel, RIBBON_CELL_M) for channel in (ribbon.light, yellowness)]
    middle = np.abs(d) <= 0.28
    rise = [r[:, middle].max(axis=1) for r in responses]
    # The quieter side is asphalt; the other may be grass, whose blades are strokes too.
    chance = [
        min(
            float(
                np.median(r[:, _between(d, low, high)].max(axis=1)[ribbon.seen[:, _between(d, low, high)].all(axis=1)])
            )
            for low, high in ((0.42, 0.84), (-0.84, -0.42))
            if ribbon.seen[:, _between(d, low, high)].all(axis=1).any()
        )
        if any(ribbon.seen[:, _between(d, low, high)].all(axis=1).any() for low, high in ((0.42, 0.84), (-0.84, -0.42)))
        else np.inf
        for r in responses
    ]
    # Each channel counts in units of its own full paint: yellow on asphalt is bright, on concrete it is only yellow,
    # and one line may cross both. A channel in which the line hardly stands out says nothing.
    shares = []
    for response, by_chance, least in zip(rise, chance, MIN_FULL_PAINT, strict=True):
        # Rows are smoothed over 0.6 m: shorter than any dash, longer than a pixel row of road at 20 m.
        smooth = np.convolve(np.pad(response, 1, mode="edge"), np.ones(3) / 3, mode="valid")
        level = float(np.percentile(smooth[whole], FULL_PAINT_PERCENTILE))
        clear = float(np.clip((level - by_chance) / max(level, 1e-9), 0.0, 1.0))
        if clear > MIN_CLEARNESS and level > least:
            shares.append(((smooth - by_chance) / (level - by_chance), clear))
    if not shares:
        return np.zeros(ribbon.arc_m.size), 0.0
    presence = np.max([s for s, _ in shares], axis=0)
    return presence.astype(np.float64), max(c for _, c in shares)


@dataclass(frozen=True)
class _Run:
    start_m: float
    end_m: float
    painted: bool
    open_start: bool
    open_end: bool

    @property
    def length_m(self) -> float:
        return self.end_m - self.start_m

    @property
    def is_whole(self) -> bool:
        return not (self.open_start or self.open_end)


def _runs(arc: Float, usable: NDArray[np.bool_], painted: NDArray[np.bool_]) -> list[_Run]:
    """Stretches of paint and gap; one that touches unseen ground is open at that end."""
    rows = np.flatnonzero(usable)
    step = float(np.median(np.diff(arc)))
    runs: list[_Run] = []
    breaks = np.flatnonzero((np.diff(rows) > 1) | (np.diff(painted[rows].astype(np.int8)) != 0))
    for part in np.split(rows, breaks + 1):
        first, last = int(part[0]), int(part[-1])
        runs.append(
            _Run(
                float(arc[first]) - step / 2,
                float(arc[last]) + step / 2,
                bool(painted[first]),
                open_start=first == 0 or not usable[first - 1],
                open_end=last == arc.size - 1 or not usable[last + 1],
            )
        )
    return runs


def _without_short(painted: NDArray[np.bool_], usable: NDArray[np.bool_], arc: Float) -> NDArray[np.bool_]:
    """Close gaps shorter than `MIN_GAP_M`, then drop paint shorter than `MIN_DASH_M`."""
    step = float(np.median(np.diff(arc)))
    as_row = (painted | ~usable).astype(np.uint8)[None, :]
    close = max(1, round(MIN_GAP_M / step)) | 1
    wear_free = cv2.morphologyEx(as_row, cv2.MORPH_CLOSE, np.ones((1, close), np.uint8))
    keep = max(1, round(MIN_DASH_M / step)) | 1
    clean = cv2.morphologyEx(wear_free, cv2.MORPH_OPEN, np.ones((1, keep), np.uint8))
    kept: NDArray[np.bool_] = clean[0].astype(bool) & usable
    return kept


def _pattern(
    ribbon: _Ribbon, whole: NDArray[np.bool_], presence: Float, clear: float
) -> tuple[Pattern, float, float, float, float]:
    """Solid or dashed from the stretches of paint and gap; dash length, period and phase where dashed."""
    nan = float("nan")
    usable = whole & (ribbon.look_m < PATTERN_LOOK_M)
    if usable.sum() < 10 or clear == 0.0:
        return Pattern.UNKNOWN, 0.0, nan, nan, nan
    clean = _without_short(usable & (presence > PAINTED_ABOVE), usable, ribbon.arc_m)
    runs = _runs(ribbon.arc_m, usable, clean)
    seen_m = sum(r.length_m for r in runs)
    longest_m = max((r.length_m for r in runs if r.painted), default=0.0)
    # The line may simply begin or end: only a gap with paint on both sides speaks.
    inner = [r for r in runs if not r.painted and r.is_whole and r.length_m >= MIN_GAP_M]
    duty = sum(r.length_m for r in runs if r.painted) / max(seen_m, 1e-6)
    bare = _gaps_are_bare(ribbon.arc_m, presence, inner)
    if inner and bare and duty < MAX_DASHED_DUTY and longest_m < MAX_DASH_M:
        dash, period, phase, regularity = _rhythm(ribbon, runs)
        evidence = min(1.0, 0.45 + 0.25 * len(inner))
        return Pattern.DASHED, float(clear * evidence * (0.6 + 0.4 * regularity)), dash, period, phase
    # Worn paint leaves patches, not bare asphalt: a solid line's stretches count together with their thin places.
    covered_m = sum(r.length_m for r in runs if r.painted or (r in inner and not bare))
    if covered_m / max(seen_m, 1e-6) > MIN_SOLID_DUTY and covered_m >= MIN_SOLID_M:
        return Pattern.SOLID, float(clear * min(1.0, covered_m / 18.0) * min(1.0, 0.4 + duty)), nan, nan, nan
    return Pattern.UNKNOWN, 0.0, nan, nan, nan


def _gaps_are_bare(arc: Float, presence: Float, gaps: list[_Run]) -> bool:
    """Whether the middles of the gaps show asphalt and no thin paint."""
    middles = [
        presence[(arc > gap.start_m + 0.25 * gap.length_m) & (arc < gap.end_m - 0.25 * gap.length_m)] for gap in gaps
    ]
    inside = np.concatenate(middles) if middles else np.zeros(0)
    return inside.size > 0 and float(np.median(inside)) < BARE_BELOW


def _rhythm(ribbon: _Ribbon, runs: list[_Run]) -> tuple[float, float, float, float]:
    """Dash length, period, start of a dash along rig x, and how regular the dashes are (0..1)."""
    # Road studs between dashes look like short dashes from afar.
    longest = max((r.length_m for r in runs if r.painted), default=0.0)
    dashes = [r for r in runs if r.painted and r.length_m > 0.55 * longest]
    complete = [r.length_m for r in dashes if r.is_whole]
    gaps = [b.start_m - a.end_m for a, b in itertools.pairwise(dashes)]
    dash = float(np.median(complete)) if complete else float("nan")
    centres = np.array([(r.start_m + r.end_m) / 2 for r in dashes if r.is_whole])
    steps = np.diff(centres)
    steps = steps[steps > 1.0]
    if steps.size:
        period = float(np.median(steps))
        regularity = float(np.clip(1.0 - 2.0 * np.median(np.abs(steps - period)) / period, 0.0, 1.0))
    elif complete and gaps:
        period, regularity = dash + float(np.median(gaps)), 0.5
    else:
        return dash, float("nan"), float("nan"), 0.3
    first = next((r for r in dashes if r.is_whole), None)
    phase = float(np.interp(first.start_m, ribbon.arc_m, ribbon.x_m)) if first else float("nan")
    return dash, period, phase, regularity


def _count(ribbon: _Ribbon, painted: NDArray[np.bool_]) -> tuple[Count, float, float]:
    """Single or double from the mean profile across painted rows, and the width of a stroke."""
    near = painted & (ribbon.look_m < COUNT_LOOK_M)
    if near.sum() < 6:
        near = painted & (ribbon.look_m < COUNT_LOOK_M * 1.6)
    if near.sum() < 5:
        return Count.UNKNOWN, 0.0, float("nan")
    d = ribbon.distance_m
    profile = _aligned_profile(ribbon, near)
    beside = np.concatenate([profile[_between(d, 0.5, 0.9)], profile[_between(d, -0.9, -0.5)]])
    ground = float(np.median(beside))
    height = profile - ground
    middle = np.abs(d) <= 0.5
    top = float(height[middle].max())
    if top <= 0:
        return Count.UNKNOWN, 0.0, float("nan")
    peaks = [
        i
        for i in np.flatnonzero(middle)
        if height[i] >= height[i - 1] and height[i] > height[i + 1] and height[i] > 0.4 * top
    ]
    best_dip, pair = 0.0, None
    for i in peaks:
        for j in peaks:
            if j > i and DOUBLE_SPACING_M[0] <= d[i] - d[j] <= DOUBLE_SPACING_M[1]:
                dip = 1.0 - float(height[i:j].min()) / min(height[i], height[j])
                if dip > best_dip:
                    best_dip, pair = dip, (i, j)
    main = int(np.argmax(np.where(middle, height, -np.inf)))
    width = _half_width(height, main)
    enough = min(1.0, float(near.sum()) * 0.2 / 6.0)
    if pair is not None and best_dip > 0.25 and width <= MAX_DOUBLE_STROKE_M:
        return Count.DOUBLE, float(enough * min(1.0, 0.5 + best_dip)), width
    if width > MAX_SINGLE_STROKE_M or (pair is not None and best_dip > 0.25):
        # A bar this wide is a blended double or a worn band: say nothing.
        return Count.UNKNOWN, 0.0, width
    return Count.SINGLE, float(enough * np.clip(1.3 - 2.0 * best_dip, 0.0, 1.0)), width


def _aligned_profile(ribbon: _Ribbon, rows: NDArray[np.bool_]) -> Float:
    """Mean log-light across the line, each row shifted so that its paint lies where its neighbours' does."""
    d = ribbon.distance_m
    light = ribbon.light[rows].astype(np.float64)
    middle = np.abs(d) <= 0.45
    ground = np.median(light[:, np.abs(d) > 0.5], axis=1, keepdims=True)
    mass = np.clip(light - ground, 0.0, None) * middle
    centre = (mass * d).sum(axis=1) / np.maximum(mass.sum(axis=1), 1e-6)
    # 9 rows: wander of the fit is slow, noise of one row's centre is not.
    smooth = np.convolve(np.pad(centre, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    aligned = np.stack([np.interp(d + c, d[::-1], row[::-1]) for c, row in zip(smooth, light, strict=True)])
    return np.asarray(np.median(aligned, axis=0), dtype=np.float64)


def _half_width(height: Float, peak: int) -> float:
    """Width at half height around a peak, metres."""
    half = height[peak] / 2
    left, right = peak, peak
    while left > 0 and height[left] > half:
        left -= 1
    while right < height.size - 1 and height[right] > half:
        right += 1
    return float((right - left - 1) * RIBBON_CELL_M)


def _color(ribbon: _Ribbon, painted: NDArray[np.bool_]) -> tuple[Color, float]:
    """White or yellow from what the paint adds to the ground under it, channel by channel.

    With paint P, ground G and asphalt A under one light, (P - G) / A per channel is free of the light's colour, and the
    ratio between channels is free of how far blur mixed paint with ground. Beside soil or grass the blur (and the
    halved colour resolution of video) mixes in that side too, by an unknown share: an answer must hold for all shares.
    """
    near = painted & (ribbon.look_m < COLOR_LOOK_M)
    if near.sum() < 5:
        return Color.UNKNOWN, 0.0
    d = ribbon.distance_m
    rgb = ribbon.rgb[near].astype(np.float64)
    middle = np.abs(d) <= 0.3
    brightness = rgb[:, middle].sum(axis=2)
    order = np.argsort(brightness, axis=1)[:, -4:]
    paint = np.take_along_axis(rgb[:, middle], order[..., None], axis=1).mean(axis=1)
    flanks = [rgb[:, _between(d, 0.17, 0.40)].mean(axis=1), rgb[:, _between(d, -0.40, -0.17)].mean(axis=1)]
    sides = [rgb[:, _between(d, 0.40, 0.9)].mean(axis=1), rgb[:, _between(d, -0.9, -0.40)].mean(axis=1)]
    # The greyer side is asphalt; the other may be soil or grass.
    saturation = [np.median((s.max(axis=1) - s.min(axis=1)) / (s.mean(axis=1) + 0.004)) for s in sides]
    inner = int(np.argmin(saturation))
    asphalt = sides[inner] + 0.002
    ratios, errors = [], []
    for share in (0.25, 0.5, 0.75):
        ground = share * flanks[inner] + (1.0 - share) * flanks[1 - inner]
        gain = (paint - ground) / asphalt
        warm = 0.5 * (gain[:, 0] + gain[:, 1])
        clear = warm > 0.12
        if clear.sum() < 5:
            return Color.UNKNOWN, 0.0
        low, ratio, high = (float(q) for q in np.percentile(gain[clear, 2] / warm[clear], [25, 50, 75]))
        ratios.append(ratio)
        errors.append((high - low) / np.sqrt(min(float(clear.sum()), 40.0) / 4.0))
    error = max(errors) + 0.5 * (max(ratios) - min(ratios))
    if max(ratios) < YELLOW_BELOW:
        return Color.YELLOW, float(np.clip((YELLOW_BELOW - max(ratios)) / (0.15 + error), 0.2, 1.0))
    if min(ratios) > YELLOW_BELOW and ratios[1] > WHITE_ABOVE:
        return Color.WHITE, float(np.clip((ratios[1] - YELLOW_BELOW) / (0.15 + error), 0.2, 1.0))
    return Color.UNKNOWN, 0.0
