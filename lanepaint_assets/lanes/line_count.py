"""Single or double, and how wide a stroke: the line's mean cross-section against blurred models of both.

Called by `line_style.py` with the line's ribbon and its painted rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Count
from lanepaint_assets.lanes.ribbon import RIBBON_CELL_M, RIBBON_HALF_M, Ribbon

Float = NDArray[np.float64]

# Rows are read together that were seen from about the same distance, nearest first: beyond the last, strokes blend.
LOOK_BANDS_M = ((0.0, 8.0), (8.0, 14.0), (14.0, 22.0))
# Fewer rows than this, 1.2 m of line, are no mean.
MIN_ROWS = 6
# Two metres of paint are a stretch: longer than the wear's patches in one stroke, enough rows for a median.
STRETCH_ROWS = 10
# A single line is judged double in no stretch as a rule (a development drive: none of 800), a worn double one in most.
MIN_DOUBLE_STRETCHES = 2
MIN_DOUBLE_SHARE = 0.2
# The cross-section's part that is compared: the widest double line of the models and asphalt on both sides.
SECTION_HALF_M = 0.5
# Beyond this from its middle no line of the models has paint left but blur.
FLANK_M = 0.28
# Strokes of the tables, and widths between the strokes of a double line (the tables name no number; streets vary).
STROKES_M = (0.08, 0.10, 0.12, 0.15, 0.20, 0.25, 0.30)
DOUBLE_STROKES_M = (0.08, 0.10, 0.12, 0.15)
SPACINGS_M = (0.08, 0.10, 0.12, 0.15, 0.20, 0.25)
BLURS_M = (0.02, 0.04, 0.06, 0.08, 0.10, 0.13, 0.16)
SHIFTS_M = tuple(round(0.025 * k, 3) for k in range(-4, 5))
# Over its brighter side a line rises by at least this share of what it rises by over the darker one. Plain rims of
# verges stay below it; with 0.4 a far edge line of the development drives was lost.
MIN_RISE = 0.35
# A double line whose strokes blur into one without this much of a dip is told from no wide single one.
MIN_DIP = 0.15
# The cross-section must look like one of the models: share of its variation that the better one leaves unexplained.
MAX_LEFT_OVER = 0.25
# A double line must be clearly the better model, and a single one not clearly the worse.
DOUBLE_LEAVES = 0.5
SINGLE_LEAVES = 0.8
# The widest single stroke of the tables is 0.30 m; blur adds to it.
MAX_SINGLE_STROKE_M = 0.42


@dataclass(frozen=True)
class CrossSection:
    """Strokes side by side; `width_m` is one stroke's width at half height, blur included.

    The width is NaN where it is unknown, and that of the whole section where something wider than a stroke lies there.
    """

    count: Count
    confidence: float
    width_m: float


@dataclass(frozen=True, eq=False)
class _Models:
    """Cross-sections of unit energy with what every road may add (slopes, a step of pavement) taken out.

    `shapes` is (models, cells); `widths_m` holds each model's stroke width at half height; the first `singles` models
    are single lines.
    """

    shapes: Float
    widths_m: Float
    singles: int
    nuisance: Float


@cache
def _models() -> _Models:
    d = _section_m()
    fine = np.arange(-SECTION_HALF_M - 0.5, SECTION_HALF_M + 0.5, 0.005)
    rows: list[Float] = []
    widths: list[float] = []
    singles = 0
    for blur in BLURS_M:
        for stroke in STROKES_M:
            shape = _blurred((np.abs(fine) <= stroke / 2).astype(np.float64), blur)
            for shift in SHIFTS_M:
                rows.append(np.interp(d - shift, fine, shape))
                widths.append(_width_at_half(shape))
    singles = len(rows)
    for blur in BLURS_M:
        for stroke in DOUBLE_STROKES_M:
            for spacing in SPACINGS_M:
                off = (stroke + spacing) / 2
                shape = _blurred((np.abs(np.abs(fine) - off) <= stroke / 2).astype(np.float64), blur)
                dip = 1.0 - float(np.interp(0.0, fine, shape) / shape.max())
                if dip < MIN_DIP:
                    continue
                one = _width_at_half(_blurred((np.abs(fine) <= stroke / 2).astype(np.float64), blur))
                for shift in SHIFTS_M:
                    rows.append(np.interp(d - shift, fine, shape))
                    widths.append(min(one, off * 2))
    nuisance, _ = np.linalg.qr(np.column_stack([np.ones_like(d), d, np.tanh(d / 0.1)]))
    shapes = np.asarray(rows)
    shapes = shapes - (shapes @ nuisance) @ nuisance.T
    return _Models(shapes / np.linalg.norm(shapes, axis=1, keepdims=True), np.asarray(widths), singles, nuisance)


def _section_m() -> Float:
    cells = round(2 * SECTION_HALF_M / RIBBON_CELL_M)
    return SECTION_HALF_M - (np.arange(cells, dtype=np.float64) + 0.5) * RIBBON_CELL_M


def _blurred(shape: Float, blur_m: float) -> Float:
    reach = np.arange(-0.4, 0.4001, 0.005)
    kernel = np.exp(-0.5 * (reach / blur_m) ** 2)
    return np.convolve(shape, kernel / kernel.sum(), mode="same")


def _width_at_half(shape: Float) -> float:
    return float((shape > shape.max() / 2).sum() * 0.005)


def cross_section(ribbon: Ribbon, painted: NDArray[np.bool_]) -> CrossSection:
    """Compare the mean cross-section of the painted rows with single and double lines.

    A worn double line shows both strokes in some places only, and its mean one: its stretches are asked, too.
    """
    answer = CrossSection(Count.UNKNOWN, 0.0, float("nan"))
    for near, far in LOOK_BANDS_M:
        rows = painted & (ribbon.look_m >= near) & (ribbon.look_m < far)
        if rows.sum() < MIN_ROWS:
            continue
        section = _judged(_aligned_section(ribbon, rows), int(rows.sum()))
        if section.count is not Count.DOUBLE:
            section = _worn_double(ribbon, rows) or section
        if section.count is not Count.UNKNOWN:
            return section
        # Of unknowns the nearest one's width stands: it is the least blurred.
        answer = section if np.isnan(answer.width_m) else answer
    return answer


def _worn_double(ribbon: Ribbon, rows: NDArray[np.bool_]) -> CrossSection | None:
    """A double line of which enough stretches show both strokes; None where they do not."""
    at = np.flatnonzero(rows)
    if at.size < 2 * STRETCH_ROWS:
        return None
    stretches: list[CrossSection] = []
    for part in np.array_split(at, at.size // STRETCH_ROWS):
        stretch = np.zeros_like(rows)
        stretch[part] = True
        stretches.append(_judged(_aligned_section(ribbon, stretch), part.size))
    known = [stretch for stretch in stretches if stretch.count is not Count.UNKNOWN]
    doubles = [stretch for stretch in known if stretch.count is Count.DOUBLE]
    if len(doubles) < max(MIN_DOUBLE_STRETCHES, MIN_DOUBLE_SHARE * len(known)):
        return None
    sure = float(np.median([stretch.confidence for stretch in doubles])) * len(doubles) / len(known)
    return CrossSection(Count.DOUBLE, sure, float(np.median([stretch.width_m for stretch in doubles])))


def _judged(section: Float, rows: int) -> CrossSection:
    if not _is_stroke(section):
        return CrossSection(Count.UNKNOWN, 0.0, 2 * SECTION_HALF_M)
    models = _models()
    rest = section - models.nuisance @ (models.nuisance.T @ section)
    total = float(rest @ rest)
    if total <= 0.0:
        return CrossSection(Count.UNKNOWN, 0.0, float("nan"))
    # Paint is brighter than asphalt: a model that fits upside down does not fit.
    fits = np.maximum(models.shapes @ rest, 0.0) ** 2 / total
    single = int(np.argmax(fits[: models.singles]))
    double = models.singles + int(np.argmax(fits[models.singles :]))
    left_single, left_double = 1.0 - float(fits[single]), 1.0 - float(fits[double])
    enough = min(1.0, rows * 0.2 / 6.0)
    if min(left_single, left_double) > MAX_LEFT_OVER:
        return CrossSection(Count.UNKNOWN, 0.0, float("nan"))
    ratio = left_double / max(left_single, 1e-6)
    if ratio < DOUBLE_LEAVES:
        sure = enough * min(1.0, 0.5 + (DOUBLE_LEAVES - ratio) / DOUBLE_LEAVES)
        return CrossSection(Count.DOUBLE, float(sure), float(models.widths_m[double]))
    width = float(models.widths_m[single])
    if ratio > SINGLE_LEAVES and width <= MAX_SINGLE_STROKE_M:
        sure = enough * min(1.0, 0.4 + 0.6 * (ratio - SINGLE_LEAVES) / SINGLE_LEAVES)
        return CrossSection(Count.SINGLE, float(sure), width)
    # A bar this wide is a blended double or a worn band: say nothing.
    return CrossSection(Count.UNKNOWN, 0.0, width)


def _is_stroke(section: Float) -> bool:
    """Whether it stands out over both sides; the rim of a pale verge or kerb stands out over one of them."""
    sides = float(section[:4].mean()), float(section[-4:].mean())
    top = float(section.max())
    return top - max(sides) > MIN_RISE * (top - min(sides))


def _aligned_section(ribbon: Ribbon, rows: NDArray[np.bool_]) -> Float:
    """Median log light across the line, each row shifted so that its paint lies where its neighbours' does."""
    d = ribbon.distance_m
    light = ribbon.light[rows]
    # The brighter side counts as ground: a pale verge beside an edge line would else draw the middle to itself.
    sides = [np.median(light[:, ribbon.between(low, low + 0.3)], axis=1) for low in (0.35, -0.65)]
    mass = np.clip(light - np.maximum(*sides)[:, None], 0.0, None) * (np.abs(d) <= 0.35)
    centre = (mass * d).sum(axis=1) / np.maximum(mass.sum(axis=1), 1e-6)
    # 9 rows: wander of the fit is slow, noise of one row's centre is not.
    smooth = np.convolve(np.pad(centre, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    wanted = _section_m()[None, :] + smooth[:, None]
    columns = ((RIBBON_HALF_M - wanted) / RIBBON_CELL_M - 0.5).astype(np.float32)
    lines = np.repeat(np.arange(light.shape[0], dtype=np.float32)[:, None], columns.shape[1], axis=1)
    aligned = cv2.remap(light, columns, lines, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _without_verges(np.asarray(np.median(aligned, axis=0), dtype=np.float64))


def _without_verges(section: Float) -> Float:
    """Cut off what rises again beyond the line's flanks: a pale verge or kerb beside an edge line."""
    flank = round((SECTION_HALF_M - FLANK_M) / RIBBON_CELL_M)
    section = section.copy()
    section[:flank] = np.minimum.accumulate(section[:flank][::-1])[::-1]
    section[-flank:] = np.minimum.accumulate(section[-flank:])
    return section
