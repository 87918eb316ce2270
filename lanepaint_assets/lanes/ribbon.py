"""The road strip straightened along one line: what count, colour and pattern of the line are read from.

Called by `line_style.py` and `line_pattern.py`. No decisions here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.curves import CurveFit
from lanepaint_assets.lanes.paint_filter import linear_light
from lanepaint_assets.lanes.strip import RoadStrip

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Wide enough for a double line and asphalt on both of its sides.
RIBBON_HALF_M = 1.0
RIBBON_CELL_M = 0.025
# Looked at beyond the line's first and last paint, or its ending gap would never be seen.
BEYOND_M = 12.0
# Light below this share of white is sensor noise: it keeps logarithms of near black bounded.
DARK_FLOOR = 0.004


@dataclass(frozen=True)
class Ribbon:
    """Rows run with x rising, columns from left (+1 m) to right (-1 m).

    Attributes:
        x_m, arc_m: (rows,) rig x and arc length of the rows.
        distance_m: (columns,) to the left of the line.
        rgb: (rows, columns, 3) linear light 0..1.
        light: (rows, columns) log luminance.
        whole: (rows,) the line and its surroundings are in the picture, and no vehicle stands on it.
        seen: (rows, columns) in the picture.
        look_m: (rows,) distance of the nearest look.
    """

    x_m: Float
    arc_m: Float
    distance_m: Float
    rgb: Float32
    light: Float32
    whole: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    look_m: Float

    def between(self, low_m: float, high_m: float) -> NDArray[np.bool_]:
        """(columns,) flag of the columns that far to the left."""
        return (self.distance_m >= low_m) & (self.distance_m <= high_m)


def straighten(strip: RoadStrip, fit: CurveFit) -> Ribbon:
    """Sample the strip along a line."""
    x = strip.grid.x_m[::-1]
    x_low, x_high = fit.x_range_m
    x = x[(x >= x_low - BEYOND_M) & (x <= x_high + BEYOND_M)]
    y = np.polynomial.polynomial.polyval(x, fit.coefficients)
    slope = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyder(fit.coefficients))
    norm = np.sqrt(1.0 + slope**2)
    d = RIBBON_HALF_M - (np.arange(round(2 * RIBBON_HALF_M / RIBBON_CELL_M), dtype=np.float64) + 0.5) * RIBBON_CELL_M
    px = x[:, None] - (slope / norm)[:, None] * d[None, :]
    py = y[:, None] + (1.0 / norm)[:, None] * d[None, :]
    columns = strip.grid.columns_of(py).astype(np.float32)
    rows = strip.grid.rows_of(px).astype(np.float32)
    rgb = cv2.remap(strip.rgb, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    known = strip.seen.astype(np.uint8) + 2 * strip.on_road.astype(np.uint8)
    flags = cv2.remap(known, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    linear = linear_light(np.asarray(rgb, dtype=np.float32))
    light = np.log(linear @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32) + np.float32(DARK_FLOOR))
    seen = np.asarray(flags, dtype=np.uint8) % 2 == 1
    # Where no road is, a vehicle stands; but beside an edge line road lies on one side only, and may end before it.
    whole = seen[:, np.abs(d) < 0.6].all(axis=1) & ((flags[:, np.abs(d) < 0.3] >= 2).mean(axis=1) > 0.3)
    look = np.interp(x, strip.grid.x_m[::-1], np.where(np.isfinite(strip.look_m), strip.look_m, 1e3)[::-1])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    return Ribbon(x, arc.astype(np.float64), d, linear, light.astype(np.float32), whole, seen, look)
