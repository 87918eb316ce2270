"""What an edit painted along one line, told from what was there before: paint in cells that the edit changed.

Called by `edit_reading.py`. A picture by itself shows few rows of a dashed line and many sunspots, seams and verges;
none of those is in cells that changed and stayed as bright as they were. What the readings mean is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Color, Count
from lanepaint_assets.lanes.curves import CurveFit
from lanepaint_assets.lanes.line_count import cross_section
from lanepaint_assets.lanes.line_style import COLOR_LOOK_M, WHITE_ABOVE, YELLOW_BELOW
from lanepaint_assets.lanes.paint_filter import linear_light
from lanepaint_assets.lanes.ribbon import straighten
from lanepaint_assets.lanes.strip import RoadStrip

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

# Grey levels by which a cell that was left as it was differs at most.
SAME_LEVELS = 3.0
# Evidence of paint, 0..1, that counts as paint.
PAINT = 0.3
# Red is what white and yellow paint have in common. Where old paint was taken away it falls to a half and less.
STAYS_BRIGHT = 0.65

# Offsets from the line's middle, metres: a double line of wide strokes, and asphalt on both sides of it.
_OFFSETS_M = np.arange(-0.9, 0.9001, 0.05)
_PAINT_WITHIN_M, _ASPHALT_M = 0.35, (0.45, 0.9)
# Fewer rows, a metre of road, say nothing; and paint this faint over the asphalt has no colour to read.
_ENOUGH_ROWS, _FAINT = 5, 0.12
# Scatter of the rows' colours at which a reading's certainty is halved.
_SCATTER = 0.15


@dataclass(frozen=True)
class NewPaint:
    """The colour and the count of new strokes with their confidences, 0..1 (0 where unknown), and their length."""

    color: Color
    color_confidence: float
    count: Count
    count_confidence: float
    length_m: float


def changed_cells(before: RoadStrip, after: RoadStrip) -> Bool:
    """(rows, columns) where an edit changed the ground."""
    return np.asarray(np.abs(after.rgb - before.rgb).max(axis=-1) >= SAME_LEVELS)


def beside(strip: RoadStrip, values: Float32, rows: NDArray[np.int64], lateral_m: Float, offsets_m: Float) -> Float32:
    """(rows, offsets[, channels]) of a strip's `values` beside a course that has `lateral_m` in `rows`."""
    columns = strip.grid.columns_of(lateral_m[:, None] + offsets_m[None, :]).astype(np.float32)
    along = np.repeat(rows.astype(np.float32)[:, None], offsets_m.size, axis=1)
    looked = cv2.remap(values, columns, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(looked, dtype=np.float32)


def read_new_paint(before: RoadStrip, after: RoadStrip, evidence: Float32, fit: CurveFit) -> NewPaint:
    """Read the strokes that an edit painted along a line.

    Args:
        before, after: ground of the same moments, on one grid.
        evidence: paint in `after`.
        fit: the line's course.
    """
    red = linear_light(np.stack([before.rgb[..., 0], after.rgb[..., 0]]))
    new = changed_cells(before, after) & (red[1] > STAYS_BRIGHT * red[0])
    x = after.grid.x_m
    rows = np.flatnonzero((x >= fit.x_range_m[0]) & (x <= fit.x_range_m[1]))
    lateral = np.polynomial.polynomial.polyval(x[rows], fit.coefficients).astype(np.float64)
    paint = beside(after, np.where(new, evidence, np.float32(0.0)), rows, lateral, _OFFSETS_M)
    paint[:, np.abs(_OFFSETS_M) > _PAINT_WITHIN_M + 1e-6] = 0.0
    paint[paint < PAINT] = 0.0
    painted = paint.any(axis=1)
    color, sure = _color(after, rows[painted], lateral[painted], paint[painted])
    ribbon = straighten(after, fit)
    on_rows = np.isin(np.round(ribbon.x_m, 3), np.round(x[rows[painted]], 3))
    section = cross_section(ribbon, on_rows & ribbon.whole)
    return NewPaint(color, sure, section.count, section.confidence, float(painted.sum()) * after.grid.row_m)


def _color(strip: RoadStrip, rows: NDArray[np.int64], lateral_m: Float, paint: Float32) -> tuple[Color, float]:
    """The share of blue in what paint adds to the asphalt, over all rows; see `line_style.py` for the two limits."""
    near = strip.look_m[rows] < COLOR_LOOK_M
    if near.sum() < _ENOUGH_ROWS:
        return Color.UNKNOWN, 0.0
    rgb = linear_light(beside(strip, strip.rgb, rows[near], lateral_m[near], _OFFSETS_M)).astype(np.float64)
    weights = paint[near, :, None]
    colour = (rgb * weights).sum(axis=1) / weights.sum(axis=1)
    sides = [
        rgb[:, (side * _OFFSETS_M > _ASPHALT_M[0]) & (side * _OFFSETS_M < _ASPHALT_M[1])].mean(axis=1)
        for side in (-1, 1)
    ]
    # The greyer side is asphalt; the other may be soil or grass.
    saturation = [np.median((s.max(axis=1) - s.min(axis=1)) / (s.mean(axis=1) + 0.004)) for s in sides]
    asphalt = sides[int(np.argmin(saturation))] + 0.002
    gain = (colour - asphalt) / asphalt
    warm = 0.5 * (gain[:, 0] + gain[:, 1])
    clear = warm > _FAINT
    if clear.sum() < _ENOUGH_ROWS:
        return Color.UNKNOWN, 0.0
    ratio = float(gain[clear, 2].sum() / warm[clear].sum())
    low, high = np.percentile(gain[clear, 2] / warm[clear], [25, 75])
    error = float(high - low) / np.sqrt(min(float(clear.sum()), 40.0) / 4.0)
    if ratio < YELLOW_BELOW:
        return Color.YELLOW, float(np.clip((YELLOW_BELOW - ratio) / (_SCATTER + error), 0.2, 1.0))
    if ratio > WHITE_ABOVE:
        return Color.WHITE, float(np.clip((ratio - YELLOW_BELOW) / (_SCATTER + error), 0.2, 1.0))
    return Color.UNKNOWN, 0.0
