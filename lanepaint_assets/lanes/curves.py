"""Lines through paint evidence: the road's one shared course, the lines parallel to it, and each line's own cubic.

Called by lane detection. Lines of a road are offsets of one curve, so all of them vote for it together: a faint dashed
line is found by its neighbours' help, and a lone streak (a shadow, a vehicle's side) that runs across the road is not.
Attributes of a line are measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.lanes.birds_eye import GroundGrid

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Votes are counted on cells of this size: as wide as the narrowest stroke, and short against any dash.
VOTE_ACROSS_M = 0.10
VOTE_ALONG_M = 0.8
# Bins beyond both sides of the grid, 8 m: a course may bend out of it.
MARGIN_BINS = 80
# A vehicle that follows its lane stands within 9 degrees of it, lane changes included; mostly within this spread.
MAX_HEADING = 0.16
HEADING_SPREAD = 0.06
# Radius 40 m: a tight town bend; beyond it a cubic over 45 m describes nothing. Most roads bend within this spread.
MAX_CURVATURE = 0.025
CURVATURE_SPREAD = 0.012
# Curvature changes along a road by its whole range in some 100 m.
SHARPNESS_SPREAD = 2e-4
# Votes of one line count in full up to about this many cells, 10 m of paint: one long streak must not outvote several
# dashed lines.
FULL_VOTES = 12.0
# Whatever stands upright is seen from above as a streak that runs to the camera. Lines under the vehicle itself, this
# near to its middle, are such streaks far more often than paint, and count by this share.
UNDER_VEHICLE_M = 0.6
UNDER_VEHICLE_SHARE = 0.15
# Two lines of one road stand at least this far apart; two strokes closer than half a metre are one double line.
MIN_LINE_SPACING_M = 1.0
# A line needs this much paint along it, metres: less than the shortest dash at full strength (UK: 1 m) twice.
MIN_PAINT_M = 1.8
# A shorter way, less than a dash and its gap, tells no share of paint.
MIN_SHARE_WAY_M = 8.0

# Bending is counted in metres over this length: powers of x over it are of one size.
BEND_SCALE_M = 20.0
# How firmly a line keeps the road's course, in evidence rows a square metre off; its offset is free.
LINE_HOLD = (0.0, 0.5, 4.0, 12.0)
# How firmly the joint course keeps to the voted one, which already weighed how common it is: heading, bend, its change.
JOINT_HOLD = (0.5, 1.0, 6.0)
# How far the joint fit reaches in each step, and how far from its course evidence may lie then.
JOINT_STEPS = ((18.0, 0.45), (25.0, 0.30), (32.0, 0.30), (100.0, 0.30))
# Evidence farther than this from the curve counts half.
OFF_CURVE_M = 0.08
# Where clutter beside a line is counted, metres from its middle.
BESIDE_M = (0.5, 1.3)
# Errors double their variance from here on, and go on growing with the distance.
TRUSTED_LOOK_M = 20.0
# A cell of the strip; no scatter is known better.
MIN_SCATTER_M = 0.02
# Rows within this length err alike, for they share pixels, paint edges and the vehicle's pose: with it the fits' errors
# are as large as their covariance says (sample drives, four frames, 6 to 40 m ahead).
ALIKE_M = 6.0


@dataclass(frozen=True)
class CurveFit:
    """One line's course.

    Attributes:
        coefficients: (4,) y of x, rig frame.
        paint_m: length of paint evidence along it.
        x_range_m: first and last evidence.
        residual_m: typical distance of the evidence from the curve.
        contrast_ratio: evidence on the line over evidence beside it.
        covariance: (4, 4) of the coefficients, from the evidence's scatter and from how roads bend.
        paint_share: of its way within `TRUSTED_LOOK_M`, evidence covers this share; 1 where that way is too short.
    """

    coefficients: Float
    paint_m: float
    x_range_m: tuple[float, float]
    residual_m: float
    contrast_ratio: float
    covariance: Float
    paint_share: float


@compiled()
def _vote(
    evidence: Float32,
    x: Float,
    heading: float,
    curvature: float,
    sharpness: float,
    cell_m: float,
    shares: Float,
    out: Float,
) -> float:
    """Add up evidence along parallel curves into `out`, one bin an offset; returns how well they gather in few bins."""
    rows, columns = evidence.shape
    bins = out.shape[0]
    pad = (bins - columns) // 2
    for b in range(bins):
        out[b] = 0.0
    for r in range(rows):
        shift = (heading * x[r] + 0.5 * curvature * x[r] ** 2 + sharpness * x[r] ** 3 / 6.0) / cell_m
        whole = int(np.floor(shift))
        part = shift - whole
        for c in range(columns):
            e = evidence[r, c]
            if e > 0.0:
                b = c + whole + pad
                if 0 <= b < bins - 1:
                    out[b] += e * (1.0 - part)
                    out[b + 1] += e * part
    score = 0.0
    for b in range(1, bins - 1):
        v = 0.5 * out[b] + 0.25 * (out[b - 1] + out[b + 1])
        score += shares[b] * v * v / (v + FULL_VOTES)
    return score


@compiled()
def _search(
    evidence: Float32, x: Float, headings: Float, curvatures: Float, sharpnesses: Float, cell_m: float, shares: Float
) -> tuple[float, float, float, float]:
    """Best shared course on a lattice, by votes and by how common such a course is."""
    out = np.zeros(shares.size)
    best = (-1.0, 0.0, 0.0, 0.0)
    for s in sharpnesses:
        for k in curvatures:
            for h in headings:
                score = _vote(evidence, x, h, k, s, cell_m, shares, out)
                score /= (1.0 + (h / HEADING_SPREAD) ** 2) * (1.0 + (k / CURVATURE_SPREAD) ** 2)
                score /= 1.0 + (s / SHARPNESS_SPREAD) ** 2
                if score > best[0]:
                    best = (score, h, k, s)
    return best


def _pooled(evidence: Float32, grid: GroundGrid) -> tuple[Float32, Float]:
    """Evidence on voting cells: the strongest across, the mean along; and the cells' rig x."""
    across = max(1, round(VOTE_ACROSS_M / grid.metres_per_pixel))
    along = max(1, round(VOTE_ALONG_M / grid.row_m))
    rows = evidence.shape[0] // along * along
    columns = evidence.shape[1] // across * across
    blocks = evidence[:rows, :columns].reshape(rows // along, along, columns // across, across)
    pooled = blocks.max(axis=3).mean(axis=1).astype(np.float32)
    x = grid.x_m[:rows].reshape(-1, along).mean(axis=1)
    return np.ascontiguousarray(pooled), x


def shared_course(evidence: Float32, grid: GroundGrid) -> tuple[Float, Float, float]:
    """The course all lines share.

    Returns:
        (4,) coefficients with c0 = 0; (bins,) paint along each offset in metres; and the rig y of bin 0 (bins fall in y
        like columns, `VOTE_ACROSS_M` apart).
    """
    pooled, x = _pooled(evidence, grid)
    # Columns fall in y, so a course bending to the left (y growing) moves evidence to smaller columns; adding its shift
    # back gathers a line in one bin.
    bins = pooled.shape[1] + 2 * MARGIN_BINS
    y_first = _first_offset_m(grid)
    offsets = y_first - VOTE_ACROSS_M * np.arange(bins)
    shares = np.where(np.abs(offsets) < UNDER_VEHICLE_M, UNDER_VEHICLE_SHARE, 1.0)
    headings = np.linspace(-MAX_HEADING, MAX_HEADING, 33)
    curvatures = np.linspace(-MAX_CURVATURE, MAX_CURVATURE, 51)
    _, h, k, s = _search(pooled, x, headings, curvatures, np.zeros(1), VOTE_ACROSS_M, shares)
    for shrink in (1.0, 0.3):
        _, h, k, s = _search(
            pooled,
            x,
            h + shrink * np.linspace(-0.012, 0.012, 9),
            k + shrink * np.linspace(-0.0012, 0.0012, 9),
            s + shrink * np.linspace(-0.0003, 0.0003, 7),
            VOTE_ACROSS_M,
            shares,
        )
    votes = np.zeros(bins)
    _vote(pooled, x, h, k, s, VOTE_ACROSS_M, shares, votes)
    return np.array([0.0, h, k / 2.0, s / 6.0]), votes * VOTE_ALONG_M, y_first


def course_votes(evidence: Float32, grid: GroundGrid, course: Float) -> tuple[Float, float]:
    """Paint along each offset from a known course.

    Returns:
        (bins,) metres, and the rig y of bin 0, as `shared_course` gives them.
    """
    pooled, x = _pooled(evidence, grid)
    votes = np.zeros(pooled.shape[1] + 2 * MARGIN_BINS)
    _vote(pooled, x, course[1], 2.0 * course[2], 6.0 * course[3], VOTE_ACROSS_M, np.ones(votes.size), votes)
    return votes * VOTE_ALONG_M, _first_offset_m(grid)


def _first_offset_m(grid: GroundGrid) -> float:
    """Rig y of bin 0 of the votes."""
    return grid.y_max_m - (0.5 - MARGIN_BINS) * VOTE_ACROSS_M


def line_offsets(votes_m: Float, y_first: float) -> list[tuple[float, float]]:
    """Offsets at x = 0 with enough paint along them, strongest first: (rig y, metres of paint)."""
    smooth = np.convolve(votes_m, [0.5, 1.0, 1.0, 1.0, 0.5], mode="same")
    # What random streaks (grass, shadows, a wall) add up to beside each offset: the mean of 0.5 to 1.2 m to both sides.
    ring = np.ones(25)
    ring[8:17] = 0.0
    clutter = np.convolve(smooth, ring / ring.sum(), mode="same")
    peaks = [
        (float(smooth[i]), y_first - i * VOTE_ACROSS_M)
        for i in range(1, smooth.size - 1)
        if smooth[i] >= smooth[i - 1] and smooth[i] > smooth[i + 1] and smooth[i] > 1.5 * clutter[i]
    ]
    chosen: list[tuple[float, float]] = []
    for paint, y in sorted(peaks, reverse=True):
        if paint < MIN_PAINT_M:
            break
        if all(abs(y - other) >= MIN_LINE_SPACING_M for other, _ in chosen):
            chosen.append((y, paint))
    return chosen


def row_trust(look_m: Float) -> Float:
    """(rows,) weight 0..1 of evidence that was seen from `look_m` away, see `RoadStrip`.

    What lies far is blurred, is displaced by every nod of the vehicle, and may be another line than the one followed
    so far; near evidence decides where it is heading.
    """
    return 1.0 / (1.0 + (look_m / TRUSTED_LOOK_M) ** 2)


@dataclass(frozen=True, eq=False)
class _Followed:
    """Evidence near a curve, one entry a row of the grid that has some.

    Attributes:
        x_m: rig x; `off_m` the evidence's middle left of the curve; `strength` its weight.
        design: (N, 4) powers of `x_m` over `BEND_SCALE_M`.
    """

    x_m: Float
    off_m: Float
    strength: Float
    design: Float


def _along(evidence: Float32, grid: GroundGrid, coefficients: Float, reach_m: float) -> tuple[Float32, Float]:
    """Evidence up to `reach_m` beside a curve, 0 beyond it and off the grid; and how far left of the curve it lies."""
    centre: Float = np.polynomial.polynomial.polyval(grid.x_m, coefficients).astype(np.float64)
    reach = round(reach_m / grid.metres_per_pixel) + 1
    columns = np.round(grid.columns_of(centre)).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    distance = grid.y_max_m - (columns + 0.5) * grid.metres_per_pixel - centre[:, None]
    inside = (columns >= 0) & (columns < evidence.shape[1]) & (np.abs(distance) <= reach_m)
    near = np.take_along_axis(evidence, np.clip(columns, 0, evidence.shape[1] - 1), axis=1)
    return np.where(inside, near, np.float32(0.0)), distance


def _followed(evidence: Float32, grid: GroundGrid, trust: Float, coefficients: Float, window_m: float) -> _Followed:
    weight, distance = _along(evidence, grid, coefficients, window_m)
    mass = weight.sum(axis=1)
    rows = np.flatnonzero(mass > 0.3)
    x = grid.x_m[rows]
    return _Followed(
        x,
        (weight[rows] * distance[rows]).sum(axis=1) / np.maximum(mass[rows], 1e-9),
        np.minimum(mass[rows], 3.0) * trust[rows],
        np.vander(x / BEND_SCALE_M, 4, increasing=True),
    )


def _contrast_ratio(evidence: Float32, grid: GroundGrid, coefficients: Float, window_m: float) -> float:
    """Evidence on a curve over evidence beside it, 20 at most; where the more cluttered side counts most."""
    near, distance = _along(evidence, grid, coefficients, BESIDE_M[1])
    on = float(near[np.abs(distance) <= window_m].sum()) / (2 * window_m)
    # In grass both sides are cluttered, beside an edge line only one.
    quiet, busy = sorted(
        float(near[side > BESIDE_M[0]].sum()) / float(np.ptp(BESIDE_M)) for side in (distance, -distance)
    )
    return on / max(0.4 * quiet + 0.6 * busy, 0.05 * on, 1e-9)


def joint_course(
    evidence: Float32, grid: GroundGrid, look_m: Float, course: Float, offsets_m: Sequence[float]
) -> Float:
    """The shared course fitted to all lines at once, finer than votes count it.

    Each line has its own offset; heading, curvature and its change are one for all, so that the dashes of one line
    stand in the gaps of another. The fit reaches out from near to far, so that far away it is the line's continuation
    that is followed and not another line beside it.

    Args:
        look_m: (rows,) see `RoadStrip`.
        course: (4,) from `shared_course`.
        offsets_m: of the lines that take part.

    Returns:
        (4,) coefficients with c0 = 0; `course` where too little evidence follows it.
    """
    offsets = np.array(offsets_m, dtype=np.float64)
    for reach_m, window_m in JOINT_STEPS:
        trust = np.where(look_m <= reach_m, row_trust(look_m), 0.0)
        lines = [_followed(evidence, grid, trust, course + np.array([o, 0.0, 0.0, 0.0]), window_m) for o in offsets]
        count = len(lines)
        off = np.concatenate([line.off_m for line in lines])
        if off.size * grid.row_m < MIN_PAINT_M:
            return course
        which = np.repeat(np.arange(count), [line.off_m.size for line in lines])
        design = np.concatenate([np.eye(count)[which], np.concatenate([line.design for line in lines])[:, 1:]], axis=1)
        strength = np.concatenate([line.strength for line in lines])
        hold = np.diag(np.concatenate([np.full(count, 1e-3), JOINT_HOLD]))
        solution, _ = _robust_fit(design, off, strength, hold)
        offsets += solution[:count]
        course = course + np.concatenate([[0.0], solution[count:]]) / BEND_SCALE_M ** np.arange(4)
    return course


def _robust_fit(design: Float, off_m: Float, strength: Float, hold: Float) -> tuple[Float, Float]:
    """Weighted ridge regression, evidence off the curve weighted down; the solution and its normal matrix."""
    solution: Float = np.zeros(design.shape[1])
    normal: Float = hold
    for _ in range(4):
        robust = strength / (1.0 + ((off_m - design @ solution) / OFF_CURVE_M) ** 2)
        normal = design.T @ (design * robust[:, None]) + hold
        solution = np.linalg.solve(normal, design.T @ (robust * off_m)).astype(np.float64)
    return solution, normal


def _paint_share(x_m: Float, grid: GroundGrid, trust: Float) -> float:
    """Share of a line's way on which it has evidence, at rig `x_m`, as far as it was seen from near by."""
    rows = (trust > 0.5) & (grid.x_m >= x_m.min()) & (grid.x_m <= x_m.max())
    if rows.sum() * grid.row_m < MIN_SHARE_WAY_M:
        return 1.0
    return float(np.isin(grid.x_m[rows], x_m).mean())


def refine_line(evidence: Float32, grid: GroundGrid, trust: Float, course: Float, offset_m: float) -> CurveFit | None:
    """Fit one line's own cubic to the evidence near the shared course.

    The fit is of the difference from the course, and bending away from it is held back: a line seen over a few metres
    keeps the road's bend instead of inventing its own.

    Returns:
        None where too little evidence follows any curve.
    """
    coefficients = course.copy()
    coefficients[0] += offset_m
    fit: CurveFit | None = None
    for window_m in (0.30, 0.22):
        seen = _followed(evidence, grid, trust, coefficients, window_m)
        if seen.x_m.size * grid.row_m < MIN_PAINT_M / 2:
            return None
        contrast = _contrast_ratio(evidence, grid, coefficients, window_m)
        # The shorter the view, the firmer the road's course is kept.
        hold = np.diag(LINE_HOLD) * max(1.0, BEND_SCALE_M / max(float(np.ptp(seen.x_m)), 1.0)) ** 2
        solution, normal = _robust_fit(seen.design, seen.off_m, seen.strength, hold)
        error = seen.off_m - seen.design @ solution
        scale = BEND_SCALE_M ** np.arange(4)
        coefficients = coefficients + solution / scale
        good = np.abs(error) < 0.15
        if good.sum() * grid.row_m < MIN_PAINT_M / 2:
            return None
        scatter = max(float(np.median(np.abs(error[good]))), MIN_SCATTER_M)
        fit = CurveFit(
            coefficients,
            paint_m=float(good.sum() * grid.row_m),
            x_range_m=(float(seen.x_m[good].min()), float(seen.x_m[good].max())),
            residual_m=float(np.median(np.abs(error[good]))),
            contrast_ratio=contrast,
            covariance=(ALIKE_M / grid.row_m * scatter**2) * np.linalg.inv(normal) / np.outer(scale, scale),
            paint_share=_paint_share(seen.x_m[good], grid, trust),
        )
    return fit
