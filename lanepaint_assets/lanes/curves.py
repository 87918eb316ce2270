"""Lines through paint evidence: the road's one shared course, the lines parallel to it, and each line's own cubic.

Called by lane detection. Lines of a road are offsets of one curve, so all of them vote for it together: a faint dashed
line is found by its neighbours' help, and a lone streak (a shadow, a vehicle's side) that runs across the road is not.
Attributes of a line are measured elsewhere.
"""

from __future__ import annotations

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
# A vehicle that follows its lane stands within 9 degrees of it, lane changes included.
MAX_HEADING = 0.16
# Radius 40 m: a tight town bend; beyond it a cubic over 45 m describes nothing.
MAX_CURVATURE = 0.025
# Two lines of one road stand at least this far apart; two strokes closer than half a metre are one double line.
MIN_LINE_SPACING_M = 1.0
# A line needs this much paint along it, metres: less than the shortest dash at full strength (UK: 1 m) twice.
MIN_PAINT_M = 1.8


@dataclass(frozen=True)
class CurveFit:
    """One line's course.

    Attributes:
        coefficients: (4,) y of x, rig frame.
        paint_m: length of paint evidence along it.
        x_range_m: first and last evidence.
        residual_m: typical distance of the evidence from the curve.
        contrast_ratio: evidence on the line over evidence beside it.
    """

    coefficients: Float
    paint_m: float
    x_range_m: tuple[float, float]
    residual_m: float
    contrast_ratio: float


@compiled()
def _vote(
    evidence: Float32, x: Float, heading: float, curvature: float, sharpness: float, cell_m: float, out: Float
) -> float:
    """Add up evidence along parallel curves into `out`, one bin an offset; returns the sum of squares."""
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
        score += v * v
    return score


@compiled()
def _search(
    evidence: Float32, x: Float, headings: Float, curvatures: Float, sharpnesses: Float, cell_m: float, bins: int
) -> tuple[float, float, float, float]:
    """Best shared course on a lattice, with a weak preference for straight ahead that only breaks ties."""
    out = np.zeros(bins)
    best = (-1.0, 0.0, 0.0, 0.0)
    for s in sharpnesses:
        for k in curvatures:
            for h in headings:
                score = _vote(evidence, x, h, k, s, cell_m, out)
                score *= 1.0 - 0.5 * abs(h) - 4.0 * abs(k)
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
    bins = pooled.shape[1] + 160
    headings = np.linspace(-MAX_HEADING, MAX_HEADING, 33)
    curvatures = np.linspace(-MAX_CURVATURE, MAX_CURVATURE, 51)
    _, h, k, s = _search(pooled, x, headings, curvatures, np.zeros(1), VOTE_ACROSS_M, bins)
    for shrink in (1.0, 0.3):
        _, h, k, s = _search(
            pooled,
            x,
            h + shrink * np.linspace(-0.012, 0.012, 9),
            k + shrink * np.linspace(-0.0012, 0.0012, 9),
            s + shrink * np.linspace(-0.0003, 0.0003, 7),
            VOTE_ACROSS_M,
            bins,
        )
    votes = np.zeros(bins)
    _vote(pooled, x, h, k, s, VOTE_ACROSS_M, votes)
    pad = (bins - pooled.shape[1]) // 2
    y_first = grid.y_max_m - (0.5 - pad) * VOTE_ACROSS_M
    return np.array([0.0, h, k / 2.0, s / 6.0]), votes * VOTE_ALONG_M, y_first


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


def refine_line(evidence: Float32, grid: GroundGrid, course: Float, offset_m: float) -> CurveFit | None:
    """Fit one line's own cubic to the evidence near the shared course.

    The fit is of the difference from the course, and bending away from it is held back: a line seen over a few metres
    keeps the road's bend instead of inventing its own.

    Returns:
        None where too little evidence follows any curve.
    """
    x_rows, y_columns = grid.x_m, grid.y_m
    coefficients = course.copy()
    coefficients[0] += offset_m
    fit: CurveFit | None = None
    for window in (0.45, 0.30, 0.22):
        centre = np.polynomial.polynomial.polyval(x_rows, coefficients)
        distance = y_columns[None, :] - centre[:, None]
        near = np.abs(distance) <= window
        weight = np.where(near, evidence, 0.0)
        mass = weight.sum(axis=1)
        rows = np.flatnonzero(mass > 0.3)
        if rows.size * grid.row_m < MIN_PAINT_M / 2:
            return None
        along = x_rows[rows]
        off = (weight[rows] * distance[rows]).sum(axis=1) / mass[rows]
        strength = np.minimum(mass[rows], 3.0)
        span = float(along.max() - along.min())
        # Ridge in metres of bending over 20 m; the shorter the view, the firmer the road's course is kept.
        design = np.column_stack([np.ones_like(along), along / 20.0, (along / 20.0) ** 2, (along / 20.0) ** 3])
        hold = np.diag([0.0, 0.5, 4.0, 12.0]) * max(1.0, 20.0 / max(span, 1.0)) ** 2
        solution = np.zeros(4)
        for _ in range(4):
            error = off - design @ solution
            robust = strength / (1.0 + (error / 0.08) ** 2)
            solution = np.linalg.solve(design.T @ (design * robust[:, None]) + hold, design.T @ (robust * off))
        error = off - design @ solution
        coefficients = coefficients + solution / np.array([1.0, 20.0, 400.0, 8000.0])
        good = np.abs(error) < 0.15
        if good.sum() * grid.row_m < MIN_PAINT_M / 2:
            return None
        # The more cluttered side counts most: in grass both sides are, beside an edge line only one.
        quiet, busy = sorted(
            float(np.where((side > 0.5) & (side < 1.3), evidence, 0.0).sum()) / 0.8 for side in (distance, -distance)
        )
        beside = 0.4 * quiet + 0.6 * busy
        on = weight.sum() / (2 * window)
        fit = CurveFit(
            coefficients,
            paint_m=float(good.sum() * grid.row_m),
            x_range_m=(float(along[good].min()), float(along[good].max())),
            residual_m=float(np.median(np.abs(error[good]))),
            contrast_ratio=float(on / max(beside, 0.05 * on, 1e-9)),
        )
    return fit
