"""A map of a clip's old markings along each line, gathered from all frames in the road's coordinates.

Called by the procedural painter's analysis, which fills it frame by frame; `marking_removal.py` reads where to remove.
No pixels of a picture are changed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_closing, grey_dilation

from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.shading import PaintBrightness, PaintSamples

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Cells of the map of old markings, metres; half of its width covers a double line of wide strokes.
MAP_S_M = 0.25
MAP_M_M = 0.05
_MAP_HALF_M = 0.4

# Markedness from which a map cell is marking, and at least this share of the line's own paint: seams and tar shine too.
_MARKED = 0.15
_MARKED_OF_PEAK = 0.25

# Strips say where markings are while a map cell is wider than half a pixel.
_MAP_REACH_M = 28.0

# Paint is read for its brightness this near to a line's centre.
_PAINT_CORE_M = 0.08

# Growth of the map: paint's frayed border and what registration leaves.
_GROW_M = 0.05
_GROW_S_M = 0.5


class MarkingMap:
    """Where old markings lie along each line, gathered over all frames in the road's coordinates.

    One frame misses worn paint and mistakes glare for it; the mean over the frames that saw a place does not flicker.
    """

    def __init__(self, lines: int, length_m: float) -> None:
        self._rows = int(length_m / MAP_S_M) + 2
        self._columns = 2 * round(_MAP_HALF_M / MAP_M_M) + 1
        self._sum = np.zeros((lines, self._rows, self._columns))
        self._weight = np.zeros((lines, self._rows, self._columns))
        self._paint = PaintSamples()

    def add(self, line: int, strip: LineStrip, base: Float32) -> None:
        """Add what a frame's strip shows; `base` (J, 3) is the asphalt's colour at each station."""
        near = strip.grid.ahead_m < _MAP_REACH_M
        signal = strip.markedness(base)
        columns = strip.grid.columns_m
        to_cells = self._cells_of_columns(strip.grid)
        rows = np.clip((strip.s[near] / MAP_S_M).astype(np.int64), 0, self._rows - 1)
        values = signal[near] @ to_cells
        seen = strip.valid[near] @ to_cells > 0.99
        weight = seen / strip.grid.ahead_m[near, None]
        np.add.at(self._sum[line], rows, values * weight)
        np.add.at(self._weight[line], rows, weight)
        # Only the middle of the line, where a pixel is paint and nothing else.
        middle = np.abs(columns) < _PAINT_CORE_M
        core = strip.valid[near][:, middle]
        light = strip.light[near][:, middle]
        self._paint.add(light[core], np.broadcast_to(base[near][:, None], light.shape)[core])

    def _cells_of_columns(self, grid: StripGrid) -> Float:
        """(M, cells) what each column of a strip counts for each cell across the line: linear between columns."""
        cells = (np.arange(self._columns) - self._columns // 2) * MAP_M_M
        return np.stack([np.interp(cells, grid.columns_m, one) for one in np.eye(grid.columns_m.size)])

    def removal(self, reach_m: Sequence[float]) -> Float32:
        """(L, S, M) how surely a cell is marking, grown by its margins.

        Args:
            reach_m: for each line how far from its middle old paint may lie. Where no frame came near, all of that is
                taken for marking.
        """
        seen = self._weight > 0
        mean = np.divide(self._sum, self._weight, out=np.zeros_like(self._sum), where=seen)
        bright = mean > _MARKED
        peaks = [np.percentile(mean[i][bright[i]], 90) if bright[i].any() else 0.0 for i in range(len(mean))]
        marked = (mean > np.maximum(_MARKED, _MARKED_OF_PEAK * np.asarray(peaks))[:, None, None]) & seen
        grow_s, grow_m = 2 * round(_GROW_S_M / MAP_S_M) + 1, 2 * math.ceil(_GROW_M / MAP_M_M) + 1
        result = np.zeros(marked.shape, np.float32)
        for i in range(len(marked)):
            share = marked[i].sum(axis=0) / np.maximum(seen[i].sum(axis=0), 1)
            everywhere = _around_centre(share, reach_m[i])
            own = marked[i] & everywhere
            cells = np.where(seen[i].any(axis=1)[:, None], own, everywhere[None])
            closed = grey_closing(cells.astype(np.uint8), size=(5, 3))
            grown = grey_dilation(closed, size=(grow_s, grow_m)).astype(np.float32)
            # A soft border, so that asphalt that is not quite like its sides does not end in a step.
            result[i] = np.maximum(grey_dilation(closed, size=(3, 3)), gaussian_filter1d(grown, 1.5, axis=0))
        return result

    def marked_share(self) -> Float:
        """(L,) share of each line's way that shows a stroke: brighter than the road on both of its sides.

        The road's edge is brighter than asphalt too, but goes on being so beyond a stroke's width.
        """
        seen = self._weight > 0
        mean = np.divide(self._sum, self._weight, out=np.zeros_like(self._sum), where=seen)
        columns = np.abs(np.arange(self._columns) - self._columns // 2) * MAP_M_M
        centre = mean[:, :, columns <= 0.2].max(axis=2)
        outside = columns >= _MAP_HALF_M - 0.05 - 1e-9
        left, right = (mean[:, :, outside & side].mean(axis=2) for side in _halves(self._columns))
        stroke = (centre > _MARKED) & (centre > 1.5 * np.maximum(left, right))
        looked = seen.any(axis=2)
        share: Float = (stroke & looked).sum(axis=1) / np.maximum(looked.sum(axis=1), 1)
        return share

    def brightness(self) -> PaintBrightness:
        """How bright the clip's own paint is, for new paint to look alike."""
        return self._paint.brightness()


def _halves(columns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    index = np.arange(columns)
    return index < columns // 2, index > columns // 2


def _around_centre(share: Float, reach_m: float) -> NDArray[np.bool_]:
    """(M,) columns that are marking along much of the line, within `reach_m` of the peak nearest to its centre."""
    columns = (np.arange(share.size) - share.size // 2) * MAP_M_M
    if share.max() <= 0:
        return np.zeros(share.size, dtype=np.bool_)
    peak = columns[int(np.argmax(share * np.exp(-((columns / 0.25) ** 2))))]
    result: NDArray[np.bool_] = (share > 0.15 * share.max()) & (np.abs(columns - peak) <= reach_m)
    return result
