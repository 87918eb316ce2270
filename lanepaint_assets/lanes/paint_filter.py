"""Which cells of a road strip look like lane paint: brighter or yellower than the ground on both sides of them.

Called by lane detection. Works on ratios (logarithms) of linear light, so that a shadow over paint and asphalt alike
changes nothing, and asks both sides, so that a shadow's edge or a kerb, a step and not a stroke, gives nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.strip import RoadStrip

Float32 = NDArray[np.float32]

# Stroke widths looked for, metres: single strokes of every standard, wide lines, and close doubles that blend into one.
STROKE_WIDTHS_M = (0.10, 0.15, 0.20, 0.30, 0.45)
# Light below this share of white is sensor noise: it keeps logarithms of near black bounded.
DARK_FLOOR = 0.004
# An edge line's middle lies at most this far beyond the road that a segmenter saw: its own width and its blur.
EDGE_LINE_M = 0.25
# A stroke under 6 % brighter than the asphalt is not visible to a person either.
MIN_CONTRAST = 0.06


@dataclass(frozen=True)
class PaintEvidence:
    """What the filter found, all of the strip's shape.

    Attributes:
        light: float32, log luminance.
        yellowness: float32, log of (red and green) over blue; 0 for grey.
        evidence: float32 0..1, soft decision that the cell is in the middle of a stroke on the road.
        anywhere: the same wherever ground was seen.
    """

    light: Float32
    yellowness: Float32
    evidence: Float32
    anywhere: Float32


def linear_light(srgb: Float32) -> Float32:
    """Turn sRGB 0..255 into linear light 0..1 (IEC 61966-2-1)."""
    scaled = srgb / np.float32(255.0)
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _box_mean(values: Float32, half: int) -> Float32:
    """Mean over 2*half+1 columns, edges repeated."""
    mean = cv2.boxFilter(values, cv2.CV_32F, (2 * half + 1, 1), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean, dtype=np.float32)


def stroke_response(values: Float32, cell_m: float) -> Float32:
    """How far each cell's stroke stands out over both of its sides, the best over all widths."""
    halves = {max(0, round((width_m / cell_m - 1) / 2)) for width_m in STROKE_WIDTHS_M}
    side_half = 1
    # One cell of air between stroke and side: the paint's blurred edge belongs to neither.
    reach = max(halves) + side_half + 2
    columns = values.shape[1]
    sides = cv2.copyMakeBorder(_box_mean(values, side_half), 0, 0, reach, reach, cv2.BORDER_REPLICATE)
    best = np.full(values.shape, -np.inf, dtype=np.float32)
    for half in halves:
        offset = half + side_half + 2
        right = sides[:, reach + offset : reach + offset + columns]
        left = sides[:, reach - offset : reach - offset + columns]
        np.maximum(best, _box_mean(values, half) - np.maximum(right, left), out=best)
    return best


def find_paint(strip: RoadStrip) -> PaintEvidence:
    """Soft decision per cell of the strip."""
    linear = linear_light(strip.rgb) + np.float32(DARK_FLOOR)
    light = np.log(linear @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)).astype(np.float32)
    yellowness = (0.5 * np.log(linear[..., 0] * linear[..., 1]) - np.log(linear[..., 2])).astype(np.float32)
    cell = strip.grid.metres_per_pixel
    evidence = np.zeros(light.shape, dtype=np.float32)
    for channel in (light, yellowness):
        response = stroke_response(channel, cell)
        noise = _row_noise(response, strip.seen)[:, None]
        # Grass, gravel and foliage are full of strokes: there a line must stand out from its surroundings, too. Paint
        # itself lifts this mean by no more than a seventh of its contrast (0.12 m and its flanks in 1.6 m).
        around = cv2.blur(np.where(strip.seen, np.abs(response), 0.0), (round(1.6 / cell), 7))
        threshold = np.maximum(MIN_CONTRAST, np.maximum(2.5 * noise, 2.0 * around))
        evidence = np.maximum(evidence, np.clip((response - threshold) / threshold, 0.0, 1.0))
    # A stroke needs both of its sides in the picture.
    reach = round(0.35 / cell)
    whole = strip.seen & _shift_bool(strip.seen, reach) & _shift_bool(strip.seen, -reach)
    evidence[~whole] = 0.0
    return PaintEvidence(light, yellowness, near_road(evidence, strip.on_road, cell), evidence)


def near_road(evidence: Float32, on_road: NDArray[np.bool_], cell_m: float) -> Float32:
    """(rows, columns) evidence on a road and at its edges, 0 elsewhere; `cell_m` is a cell's width."""
    # A segmenter takes the edge line for the road's end as often as what lies beyond it.
    width = 2 * round(EDGE_LINE_M / cell_m) + 1
    road = cv2.dilate(on_road.astype(np.uint8), np.ones((1, width), np.uint8))
    return np.where(road > 0, evidence, np.float32(0.0)).astype(np.float32)


def _shift_bool(values: NDArray[np.bool_], columns: int) -> NDArray[np.bool_]:
    index = np.clip(np.arange(values.shape[1]) + columns, 0, values.shape[1] - 1)
    return values[:, index]


def _row_noise(response: Float32, seen: NDArray[np.bool_]) -> Float32:
    """Typical size of the response on bare asphalt, per row, from the median over the row and its neighbours."""
    magnitude = np.where(seen, np.abs(response), np.nan)
    rows = np.full(response.shape[0], np.nan, dtype=np.float32)
    some = seen.sum(axis=1) > 20
    if some.any():
        rows[some] = np.nanmedian(magnitude[some], axis=1)
    fill = float(np.nanmedian(rows)) if some.any() else 1.0
    rows = np.where(np.isfinite(rows), rows, fill)
    # 1.48 makes a median absolute deviation a standard deviation; 11 rows are about 2 m.
    smooth = np.convolve(np.pad(rows, 5, mode="edge"), np.ones(11) / 11, mode="valid")
    return (1.48 * smooth).astype(np.float32)
