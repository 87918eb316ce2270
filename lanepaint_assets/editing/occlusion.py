"""What hides a line though the paint mask takes it for road, told by the look of the same place at other times.

Called by the procedural painter's analysis, once a clip. A vehicle covers a place of the road for a few frames; the
median of all frames that see the place is the road. Shadows are the road's, too: what is darker is left alone on the
mask unless no shadow is as dark. Off the mask only the look says road, so that less hides it (`strange`). Nothing here
knows a mask or a picture; where lines lie is `lane_tracks.py`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.frame_threads import in_order
from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.shading import LUMINANCE

Float32 = NDArray[np.float32]

# Beyond this a pixel spans more road than registration is good to, and paint masks know little else than vehicles.
_REACH_M = 45.0
# Columns of a strip that new paint and the removal of old paint may touch, with a column to spare; and those that tell
# a body from a line: `_NO_LINE_M` of it must show beside half of a double line.
_HALF_WIDTH_M, _SEEN_HALF_WIDTH_M = 0.55, 1.0
# Every second station is enough: they are a quarter of a pixel apart near the bonnet.
_EVERY = 2

# Cells of the road's look along a line; a place seen in fewer frames has none.
_CELL_M = 0.5
_ENOUGH_VIEWS = 5

# The look of the road within this much of the way counts, for a registration that is a little off; it grows where a
# pixel spans more of the road.
_NEAR_M, _AROUND_NEAR_CELLS, _AROUND_FAR_CELLS = 15.0, 3, 5

# Light that no asphalt has: this much above what nearly all of the ego lane's asphalt stays below in the whole clip
# (natural logarithm), over a width that no line has. White vehicles beside the own lane are hidden from the comparison
# over time by their keeping pace.
_NO_ASPHALT, _NEARLY_ALL, _NO_LINE_M = 0.6, 97.0, 0.6

# Natural logarithms. Brighter than the road by 40 %; darker than a cast shadow, which takes four fifths; of another
# colour (red or blue over green) by more than compression bleeds.
_BRIGHTER, _DARKER, _COLORED = 0.35, 2.0, 0.25
# The same off the mask, where a moving shadow may be left alone: dark and grey cars differ from asphalt by no more.
_STRANGE_DARKER, _STRANGE_COLORED = 0.5, 0.15
# A white body shows on both sides of a white line and not on it: gaps as wide as a double one with its soft edges
# belong to the body.
_DOUBLE_LINE_M = 0.75


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Where something stands on the lines of one frame.

    Attributes:
        hidden: (L, S, M') whatever the mask says: every `every`th station, columns from `first_column` on.
        strange: (L, J, M) whether cells of strips differ from the road so much that off the mask they are none.
    """

    grid: StripGrid
    every: int
    first_column: int
    hidden: NDArray[np.bool_]
    strange: NDArray[np.bool_]

    def dim(self, here_s: float, line: NDArray[np.int16], s: Float32, m: Float32, alpha: Float32) -> None:
        """Set `alpha` (N,) of pixels of `line` at `s` and `m` to 0 in place where they are hidden."""
        if self.hidden.any():
            grid = self.grid
            ends = np.array([1.0 / grid.first_m, 1.0 / grid.last_m])
            per_station = (ends[1] - ends[0]) / (grid.count - 1) * self.every
            first_m = float(grid.columns_m[self.first_column])
            _dim(self.hidden, here_s, ends[0], per_station, first_m, grid.column_m, line, s, m, alpha)


@compiled()
def _dim(
    hidden: NDArray[np.bool_],
    here_s: float,
    first_inverse: float,
    per_station: float,
    first_m: float,
    column_m: float,
    line: NDArray[np.int16],
    s: NDArray[np.float32],
    m: NDArray[np.float32],
    alpha: NDArray[np.float32],
) -> None:
    for n in range(line.size):
        ahead = max(s[n] - here_s, 0.5)
        station = int((1.0 / ahead - first_inverse) / per_station + 0.5)
        if station >= hidden.shape[1]:
            continue
        column = int((m[n] - first_m) / column_m + 0.5)
        column = min(max(column, 0), hidden.shape[2] - 1)
        if hidden[line[n], max(station, 0), column]:
            alpha[n] = 0.0


class RoadLook:
    """The look of a clip's lines, gathered frame by frame, and what differs from it."""

    def __init__(self, grid: StripGrid, length_m: float) -> None:
        """`grid` is that of all strips, `length_m` the course's length."""
        self._grid = grid
        self._columns, touched = (_columns_within(grid, m) for m in (_SEEN_HALF_WIDTH_M, _HALF_WIDTH_M))
        # Of the looks' columns those that paint may touch.
        self._touched = slice(touched.start - self._columns.start, touched.stop - self._columns.start)
        self._stations = slice(0, int(np.count_nonzero(grid.ahead_m < _REACH_M)), _EVERY)
        self._cells = int(length_m / _CELL_M) + 2
        self._looks: list[Float32] = []
        self._road: list[NDArray[np.bool_]] = []
        self._lights: list[Float32] = []
        self._asphalt: list[Float32] = []
        self._places: list[NDArray[np.int64]] = []

    def add(self, strips: Sequence[LineStrip], asked: NDArray[np.bool_], ego_lane: Float32) -> None:
        """The next frame.

        Args:
            strips: one a line, valid where they show the road.
            asked: (L, J, M) cells beside it that paint may reach, whatever they show.
            ego_lane: (E, J, 3) asphalt of the ego lane at the strips' stations.
        """
        part = self._stations, self._columns
        weights = np.asarray(LUMINANCE, np.float32)
        self._asphalt.append(np.log(np.maximum(ego_lane[:, self._stations] @ weights, 1e-3)).ravel())
        bright = np.stack([strip.light[self._stations] @ weights for strip in strips])
        road = np.stack([strip.valid[self._stations] for strip in strips])
        bright[~(road | asked[:, self._stations])] = 0.0
        self._lights.append(np.log(np.maximum(bright, 1e-3)).astype(np.float32))
        light = np.log(np.maximum(np.stack([strip.light[part] for strip in strips]), 1e-3))
        green = light[..., 1]
        look = np.stack([green, light[..., 0] - green, light[..., 2] - green], axis=-1)
        # Bodies end nowhere at the mask: what lies off it tells how wide they are.
        self._looks.append(look.astype(np.float32))
        self._road.append(road[..., self._columns])
        place = (strips[0].s[self._stations] / _CELL_M).astype(np.int64)
        self._places.append(np.clip(place, 0, self._cells - 1))

    def occlusions(self) -> tuple[Occlusion, ...]:
        """One for each frame added."""
        looks, on_road, places = np.stack(self._looks), np.stack(self._road), np.stack(self._places)
        order = np.argsort(places.ravel(), kind="stable")
        starts = np.searchsorted(places.ravel()[order], np.arange(self._cells + 1))

        def median(line: int) -> Float32:
            result = np.full((self._cells, looks.shape[3], 3), np.nan, np.float32)
            shown = np.where(on_road[:, line, ..., None], looks[:, line], np.float32(np.nan))
            _medians_by_cell(shown.reshape(-1, *looks.shape[3:]), order, starts, result)
            return result

        road = np.stack(list(in_order(median, looks.shape[1])))
        ranges = [_range_around(road, cells) for cells in (_AROUND_NEAR_CELLS, _AROUND_FAR_CELLS)]
        near = int(np.count_nonzero(self._grid.ahead_m[self._stations] < _NEAR_M))
        asphalt = np.concatenate(self._asphalt)
        brightest = float(np.percentile(asphalt, _NEARLY_ALL)) + _NO_ASPHALT if asphalt.size else np.inf

        def compare(k: int) -> Occlusion:
            look, place = looks[k], places[k]
            # The camera's exposure is not the road's.
            usual = road[:, place][..., 0]
            off = (look[..., 0] - usual)[on_road[k]]
            exposure = np.nanmedian(off) if np.isfinite(off).any() else 0.0
            low, high = (
                np.concatenate([a[:, place[:near]], b[:, place[near:]]], axis=1) for a, b in zip(*ranges, strict=True)
            )
            bright = look[..., 0] - exposure
            above, below = bright - high[..., 0], low[..., 0] - bright
            colored = np.maximum(look[..., 1:] - high[..., 1:], low[..., 1:] - look[..., 1:]).max(axis=-1)
            odd = ((above > _BRIGHTER) | (colored > _COLORED))[..., self._touched]
            dark = (below > _DARKER)[..., self._touched]
            whole = np.stack([_whole(self._no_line(one) | other) for one, other in zip(odd, dark, strict=True)])
            touched = slice(self._columns.start + self._touched.start, self._columns.start + self._touched.stop)
            hidden = whole | self._too_bright(k, brightest)[..., touched]
            strange = (above > _BRIGHTER) | (below > _STRANGE_DARKER) | (colored > _STRANGE_COLORED)
            return Occlusion(self._grid, _EVERY, touched.start, hidden, self._on_grid(strange))

        return tuple(in_order(compare, len(looks)))

    def _no_line(self, odd: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(J, M) without what is as narrow as a line: where ego motion is estimated, old dashes drift off the road's
        median, and would be kept for something that stands on it.
        """
        across = np.ones((1, 2 * round(0.5 * _NO_LINE_M / self._grid.column_m) + 1), np.uint8)
        return np.asarray(cv2.morphologyEx(odd.astype(np.uint8), cv2.MORPH_OPEN, across) > 0)

    def _on_grid(self, strange: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(L, J, M) bodies on the whole strips, their soft borders and their places on a line included.

        Far away a vehicle is a station or two long, so that its width alone tells it from specks.
        """
        result = np.zeros((len(strange), self._grid.count, self._grid.columns_m.size), np.bool_)
        across = np.ones((1, 2 * round(0.5 * _DOUBLE_LINE_M / self._grid.column_m) + 1), np.uint8)
        around = np.ones((3, 5), np.uint8)
        for line, cells in enumerate(strange):
            bodies = cv2.morphologyEx(self._no_line(cells).astype(np.uint8), cv2.MORPH_CLOSE, across)
            rows = np.repeat(cv2.dilate(bodies, around) > 0, _EVERY, axis=0)[: self._grid.count]
            result[line, : len(rows), self._columns] = rows
        return result

    def _too_bright(self, k: int, brightest: float) -> NDArray[np.bool_]:
        """(L, J, M) where frame k shows light that is too bright for asphalt and too wide for a line."""
        across = 2 * round(0.5 * _NO_LINE_M / self._grid.column_m) + 1
        wide, around = np.ones((3, across), np.uint8), np.ones((7, 7), np.uint8)
        bright = (self._lights[k] > brightest).astype(np.uint8)
        return np.stack([cv2.dilate(cv2.morphologyEx(one, cv2.MORPH_OPEN, wide), around) > 0 for one in bright])


def _columns_within(grid: StripGrid, half_width_m: float) -> slice:
    """The columns up to a distance from the line."""
    columns = np.flatnonzero(np.abs(grid.columns_m) <= half_width_m)
    return slice(int(columns[0]), int(columns[-1]) + 1)


def _whole(odd: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without specks, with the border that blurs into the road."""
    opened = cv2.morphologyEx(odd.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((9, 5), np.uint8))
    return np.asarray(cv2.dilate(closed, np.ones((3, 5), np.uint8)) > 0)


def _range_around(road: Float32, cells: int) -> tuple[Float32, Float32]:
    """Lowest and highest look (L, S, M, 3) within a window of the way and a column to each side; without any: all."""
    known = np.isfinite(road)
    size = (1, cells, 3, 1)
    low = minimum_filter(np.where(known, road, np.inf), size=size, mode="nearest")
    high = maximum_filter(np.where(known, road, -np.inf), size=size, mode="nearest")
    none = ~np.isfinite(low)
    low[none], high[none] = -np.inf, np.inf
    return low.astype(np.float32), high.astype(np.float32)


@compiled()
def _medians_by_cell(
    looks: NDArray[np.float32], order: NDArray[np.int64], starts: NDArray[np.int64], result: NDArray[np.float32]
) -> None:
    """Medians of looks (N, M, 3) over the rows `order[starts[i]:starts[i + 1]]` of each cell i."""
    room = 0
    for i in range(starts.size - 1):
        room = max(room, starts[i + 1] - starts[i])
    values = np.empty(max(room, 1), np.float32)
    for i in range(starts.size - 1):
        for m in range(looks.shape[1]):
            for c in range(3):
                n = 0
                for p in range(starts[i], starts[i + 1]):
                    value = looks[order[p], m, c]
                    if not np.isnan(value):
                        values[n] = value
                        n += 1
                if n >= _ENOUGH_VIEWS:
                    result[i, m, c] = np.median(values[:n])
