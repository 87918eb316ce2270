"""Solid or dashed: how much paint each stretch of one line shows, and the rhythm of its dashes.

Called by `line_style.py` with the line's ribbon. Count and colour are read there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Pattern
from lanepaint_assets.lanes.paint_filter import stroke_response
from lanepaint_assets.lanes.ribbon import DARK_FLOOR, RIBBON_CELL_M, Ribbon

Float = NDArray[np.float64]

# Beyond this look distance gaps fill with the blur of neighbouring dashes.
PATTERN_LOOK_M = 32.0
# Gaps shorter than this are wear or a tar seam; the tables' shortest gap of a lane line is 2 m (dotted lines: 0.6 m).
MIN_GAP_M = 1.2
# One of which an end is out of sight counts from this length on.
MIN_OPEN_GAP_M = 2.5
# Paint shorter than this is a reflector or a spot.
MIN_DASH_M = 0.5
# Full paint is what the clearest eighth of a line shows: even a US dash covers a quarter of its line.
FULL_PAINT_PERCENTILE = 88
# Paint must stand out at least twice as far as bare ground does by chance.
MIN_CLEARNESS = 0.5
# And at least this much in itself, logarithms of light and of yellowness: white paint is never quite as neutral as the
# asphalt beside it, and would otherwise be sought in a trace of colour.
MIN_FULL_PAINT = (0.10, 0.30)
# Paint fades with the look distance, for a pixel then covers more than the stroke: by half at about this distance.
FADE_SCALE_M = 12.0
# What full paint shows at a place is judged over the longest period of the tables around it, 18 m.
LEVEL_HALF_M = 9.0
# Where full paint shows less than this share of what it shows near by, or no more than chance, nothing can be told.
MIN_LEVEL = 0.12
PAINTED_ABOVE = 0.4
# Thin paint of a worn line shows more than this in its thinnest stretches, a dash's gap less.
BARE_BELOW = 0.16
# Thin paint shows more than this many times what bare ground shows by chance in one row of six.
NOISE_MARGIN = 1.5
# In every standard of the tables a gap is at least as long as its dash; blur and the picture's edge add a little.
MAX_DASHED_DUTY = 0.66
MAX_DASH_M = 9.0
# A solid line covers nearly all of its course over a stretch in which any dashed line would show a gap.
MIN_SOLID_DUTY = 0.78
MIN_SOLID_M = 8.0
# Or it shows one unbroken stretch of twice the longest dash of the tables, whatever else hides parts of it; farther off
# blur bridges short gaps. A line that is mostly gap is none, or has another pattern elsewhere.
UNBROKEN_M = 12.0
UNBROKEN_LOOK_M = 20.0
MIN_UNBROKEN_DUTY = 0.55


@dataclass(frozen=True)
class PaintPresence:
    """Paint along a line.

    Attributes:
        share: (rows,) 0 for bare ground, 1 for full paint as it shows at that distance.
        readable: (rows,) full paint would stand out there.
        clearness: 0..1, how far full paint stands out over chance; 0 where nothing does.
        noise: how far bare ground scatters about 0.
    """

    share: Float
    readable: NDArray[np.bool_]
    clearness: float
    noise: float


@dataclass(frozen=True)
class Rhythm:
    """What the paint along a line says: pattern with its confidence, and metres where it is dashed, else NaN.

    `phase_m` is where a dash starts, rig x.
    """

    pattern: Pattern
    confidence: float
    dash_m: float
    period_m: float
    phase_m: float


NO_RHYTHM = Rhythm(Pattern.UNKNOWN, 0.0, float("nan"), float("nan"), float("nan"))


def paint_presence(ribbon: Ribbon) -> PaintPresence:
    """How much paint each row of the ribbon shows."""
    whole = ribbon.whole
    # Colour counts as much as light: yellow paint on pale concrete is no brighter than it.
    gain = np.log(ribbon.rgb + np.float32(DARK_FLOOR))
    yellowness = 0.5 * (gain[..., 0] + gain[..., 1]) - gain[..., 2]
    middle = np.abs(ribbon.distance_m) <= 0.28
    shares, clearness, spread = [], [], []
    for channel, least in zip((ribbon.light, yellowness), MIN_FULL_PAINT, strict=True):
        response = stroke_response(channel, RIBBON_CELL_M)
        by_chance, scatter = _chance(ribbon, response)
        # Rows are smoothed over 0.6 m: shorter than any dash, longer than a pixel row of road at 20 m.
        rise = response[:, middle].max(axis=1)
        smooth = np.convolve(np.pad(rise, 1, mode="edge"), np.ones(3) / 3, mode="valid")
        level = float(np.percentile(smooth[whole], FULL_PAINT_PERCENTILE))
        clear = float(np.clip((level - by_chance) / max(level, 1e-9), 0.0, 1.0))
        # Each channel counts in units of its own full paint: yellow on asphalt is bright, on concrete it is only
        # yellow, and one line may cross both. A channel in which the line hardly stands out says nothing.
        if clear > MIN_CLEARNESS and level > least:
            shares.append((smooth - by_chance) / (level - by_chance))
            clearness.append(clear)
            spread.append(scatter / (level - by_chance))
    if not shares:
        return PaintPresence(np.zeros(whole.size), np.zeros(whole.size, dtype=np.bool_), 0.0, 0.0)
    share = np.max(shares, axis=0).astype(np.float64)
    level_here = _level(ribbon, share)
    readable = whole & (ribbon.look_m < PATTERN_LOOK_M) & (level_here > max(MIN_LEVEL, 2.0 * min(spread)))
    return PaintPresence(share / np.maximum(level_here, 1e-3), readable, max(clearness), min(spread))


def _chance(ribbon: Ribbon, response: NDArray[np.float32]) -> tuple[float, float]:
    """What bare ground shows in a row, typically, and how far it scatters; infinite where no side is seen.

    The quieter side is asphalt; the other may be grass, whose blades are strokes too.
    """
    best = (float("inf"), float("inf"))
    for low, high in ((0.42, 0.84), (-0.84, -0.42)):
        columns = ribbon.between(low, high)
        rows = ribbon.whole & ribbon.seen[:, columns].all(axis=1)
        if rows.any():
            highest = response[rows][:, columns].max(axis=1)
            typical, high_end = np.percentile(highest, [50, 84])
            best = min(best, (float(typical), float(high_end - typical)))
    return best


def _level(ribbon: Ribbon, share: Float) -> Float:
    """What full paint shows at each row, against what it shows near by."""
    fade = 1.0 / np.sqrt(1.0 + (ribbon.look_m / FADE_SCALE_M) ** 2)
    rows = np.flatnonzero(ribbon.whole)
    arc = ribbon.arc_m
    steady = share / fade
    level = np.zeros(share.size)
    # One value every two metres: the level changes slowly.
    knots = np.arange(arc[rows[0]], arc[rows[-1]] + 2.0, 2.0)
    values = []
    for knot in knots:
        near = rows[np.abs(arc[rows] - knot) <= LEVEL_HALF_M]
        values.append(float(np.percentile(steady[near], FULL_PAINT_PERCENTILE)) if near.size else 0.0)
    level = np.interp(arc, knots, values) * fade
    return np.minimum(level, 1.0)


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


def line_rhythm(ribbon: Ribbon, presence: PaintPresence) -> Rhythm:
    """Solid or dashed from the stretches of paint and gap; dash length, period and phase where dashed."""
    usable, clear = presence.readable, presence.clearness
    if usable.sum() < 10 or clear == 0.0:
        return NO_RHYTHM
    clean = _without_short(usable & (presence.share > PAINTED_ABOVE), usable, ribbon.arc_m)
    runs = _runs(ribbon.arc_m, usable, clean)
    seen_m = sum(r.length_m for r in runs)
    longest_m = max((r.length_m for r in runs if r.painted), default=0.0)
    gaps = _interruptions(runs)
    duty = sum(r.length_m for r in runs if r.painted) / max(seen_m, 1e-6)
    in_gaps = _share_within(ribbon.arc_m, presence.share, gaps)
    if gaps and in_gaps < BARE_BELOW and duty < MAX_DASHED_DUTY and longest_m < MAX_DASH_M:
        dash, period, phase, regularity = _dashes(ribbon, runs)
        evidence = min(1.0, 0.45 + 0.25 * len(gaps))
        return Rhythm(Pattern.DASHED, float(clear * evidence * (0.6 + 0.4 * regularity)), dash, period, phase)
    # Worn paint leaves patches, not bare asphalt: a solid line's stretches count together with their thin places. On
    # mottled ground thin paint must stand out from the mottle, too.
    thin = in_gaps > max(BARE_BELOW, NOISE_MARGIN * presence.noise)
    covered_m = sum(r.length_m for r in runs if r.painted or (r in gaps and thin))
    is_covered = covered_m / max(seen_m, 1e-6) > MIN_SOLID_DUTY and covered_m >= MIN_SOLID_M
    if is_covered or (duty > MIN_UNBROKEN_DUTY and _longest_near_m(ribbon, runs) > UNBROKEN_M):
        sure = float(clear * min(1.0, covered_m / 18.0) * min(1.0, 0.4 + duty))
        return Rhythm(Pattern.SOLID, sure, float("nan"), float("nan"), float("nan"))
    return NO_RHYTHM


def _longest_near_m(ribbon: Ribbon, runs: list[_Run]) -> float:
    """The longest unbroken paint, as far as it is seen from near enough that blur bridges no gap."""
    near = ribbon.look_m < UNBROKEN_LOOK_M
    step = float(np.median(np.diff(ribbon.arc_m)))
    inside = [near & (ribbon.arc_m >= r.start_m) & (ribbon.arc_m <= r.end_m) for r in runs if r.painted]
    return max((float(rows.sum()) * step for rows in inside), default=0.0)


def _interruptions(runs: list[_Run]) -> list[_Run]:
    """The gaps that speak for dashes.

    A line may simply begin or end, so a gap counts with paint somewhere before and behind it (what cannot be read in
    between, a vehicle or a deep shadow, changes nothing), or beside a stretch of paint with both of its ends in sight.
    """
    painted = [i for i, r in enumerate(runs) if r.painted]
    if not painted:
        return []
    long_enough = [
        i for i, r in enumerate(runs) if not r.painted and r.length_m >= (MIN_GAP_M if r.is_whole else MIN_OPEN_GAP_M)
    ]
    between = [runs[i] for i in long_enough if painted[0] < i < painted[-1]]
    if between:
        return between
    alone = [i for i in painted if runs[i].is_whole and i - 1 in long_enough and i + 1 in long_enough]
    return [runs[k] for i in alone for k in (i - 1, i + 1) if runs[k].length_m >= MIN_OPEN_GAP_M]


def _share_within(arc: Float, share: Float, gaps: list[_Run]) -> float:
    """How much paint the middles of the gaps show, typically; 0 without gaps."""
    middles = [
        share[(arc > gap.start_m + 0.25 * gap.length_m) & (arc < gap.end_m - 0.25 * gap.length_m)] for gap in gaps
    ]
    inside = np.concatenate(middles) if middles else np.zeros(0)
    return float(np.median(inside)) if inside.size else 0.0


def _is_readable(runs: list[_Run], first: _Run, last: _Run) -> bool:
    """Whether all between two runs can be read."""
    way = runs[runs.index(first) : runs.index(last) + 1]
    return not any(r.open_end for r in way[:-1]) and not any(r.open_start for r in way[1:])


def _dashes(ribbon: Ribbon, runs: list[_Run]) -> tuple[float, float, float, float]:
    """Dash length, period, start of a dash along rig x, and how regular the dashes are (0..1)."""
    # Road studs between dashes look like short dashes from afar.
    longest = max((r.length_m for r in runs if r.painted), default=0.0)
    dashes = [r for r in runs if r.painted and r.length_m > 0.55 * longest]
    complete = [r.length_m for r in dashes if r.is_whole]
    # Where part of the way cannot be read, another dash may lie there.
    neighbours = [(a, b) for a, b in itertools.pairwise(dashes) if _is_readable(runs, a, b)]
    gaps = [b.start_m - a.end_m for a, b in neighbours]
    dash = float(np.median(complete)) if complete else float("nan")
    steps = np.array(
        [(b.start_m + b.end_m - a.start_m - a.end_m) / 2 for a, b in neighbours if a.is_whole and b.is_whole]
    )
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
