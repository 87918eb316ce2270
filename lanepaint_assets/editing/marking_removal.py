"""Taking old markings off the road: where they are, and what the asphalt under them looks like.

The asphalt's light comes from both sides of the line at the same distance, so shadows and the camera's vignette stay; its
texture is the road's own, copied from beside the line at the same distance, so grain, blur and noise fit. Called by the
procedural painter's analysis, once a clip; new paint is `lane_paint.py`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_closing, grey_dilation, median_filter

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.road_band import BandPixels
from lanepaint_assets.editing.shading import (
    CEILING_RANGE,
    CONTRAST_RANGE,
    DEFAULT_CEILING,
    DEFAULT_CONTRAST,
    LUMINANCE,
    PaintBrightness,
)

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Strips that show a line and the asphalt beside it from the bonnet to where paint ends.
SURFACE_GRID = StripGrid(count=176, first_m=3.0, last_m=90.0, half_width_m=1.35, column_m=0.075)

# Asphalt beside a line: past the outer edge of a double line, short of the wheel track.
_BESIDE_M = (0.42, 1.20)
_BESIDE_CENTRE_M = 0.5 * (_BESIDE_M[0] + _BESIDE_M[1])

# Two sides of one road surface: sun and shadow differ fivefold in light but little in colour; grass and earth differ in
# colour.
_SAME_SURFACE_LOG_LIGHT = 1.7
_SAME_SURFACE_CHROMA = 0.035

# Light over its surroundings, within which a copied pixel is grain or the edge of a shadow rather than another thing.
_GRAIN_RANGE = (0.2, 2.5)

# What hides a line: asphalt this much brighter or darker (natural logarithm) than the other lines' and than the median of
# the stations before it, from where vehicles become too small for the paint mask.
_UNLIKE = 0.45
_BEFORE = 20
_HIDDEN_FROM_M = 25.0

# Cells of the map of old markings, metres; half of its width covers a double line of wide strokes.
_MAP_S_M = 0.25
_MAP_M_M = 0.05
_MAP_HALF_M = 0.4

# Markedness from which a map cell is marking (and at least this share of the line's own paint: seams and tar shine too),
# and that between which a single pixel is taken for one.
_MARKED = 0.15
_MARKED_OF_PEAK = 0.25
_PIXEL_MARKED = (0.10, 0.25)

# Strips say where markings are while a map cell is wider than half a pixel.
_MAP_REACH_M = 28.0

# Paint is read for its brightness this near to a line's centre, where it is this much brighter than asphalt, from so many
# samples on.
_PAINT_CORE_M = 0.08
_PAINT_RATIO = 1.6
_ENOUGH_PAINT = 200

# Growth of the map: paint's frayed border and what registration leaves.
_GROW_M = 0.05
_GROW_S_M = 0.5


@dataclass(frozen=True, eq=False)
class Surface:
    """The asphalt beside every line of a frame, by station of `SURFACE_GRID`.

    Attributes:
        here_s: s of the rig.
        sides: (L, J, 2, 3) linear colour to the right (0) and to the left (1) of each line.
        shift: (L, J, 2, 2) pixels from the line to the middle of the asphalt on each side.
        usable: (L, J, 2) whether texture may be copied from there.
        known: (L, J) whether any asphalt was seen.
        hidden: (L, J) 1 where something stands on the line that the paint mask does not know, 0 elsewhere.
    """

    here_s: float
    sides: Float32
    shift: Float32
    usable: NDArray[np.bool_]
    known: NDArray[np.bool_]
    hidden: Float32


def surface_of(strips: Sequence[LineStrip], here_s: float, inner: Sequence[int]) -> Surface:
    """Read the asphalt beside each line.

    Args:
        strips: one a line, on `SURFACE_GRID`.
        here_s: s of the rig.
        inner: for each line the side (0 right, 1 left) that is road for certain: the one towards the ego lane.
    """
    sides, shifts, usable, known = [], [], [], []
    columns = SURFACE_GRID.columns_m
    middle = columns.size // 2
    at = [int(np.argmin(np.abs(columns - c))) for c in (-_BESIDE_CENTRE_M, _BESIDE_CENTRE_M)]
    for strip, road_side in zip(strips, inner, strict=True):
        pair = np.stack([strip.asphalt(-_BESIDE_M[1], -_BESIDE_M[0]), strip.asphalt(*_BESIDE_M)], axis=1)
        ok = np.isfinite(pair).all(axis=2)
        ok[:, 1 - road_side] &= _same_surface(pair[:, road_side], pair[:, 1 - road_side])
        for side in (0, 1):
            other = 1 - side
            pair[:, side] = np.where((~ok[:, side] & ok[:, other])[:, None], pair[:, other], pair[:, side])
        seen = ok.any(axis=1)
        sides.append(_along(pair, seen))
        # Pixels lie between two stations: next to one that was seen is near enough.
        known.append(grey_dilation(seen.astype(np.uint8), 5) > 0)
        usable.append(grey_dilation(ok.astype(np.uint8), (5, 1)) > 0)
        shifts.append(np.stack([strip.pixels[:, a] - strip.pixels[:, middle] for a in at], axis=1))
    stacked = np.stack(sides).astype(np.float32)
    return Surface(
        here_s,
        stacked,
        np.stack(shifts).astype(np.float32),
        np.stack(usable),
        np.stack(known),
        _hidden(stacked),
    )


def _hidden(sides: Float32) -> Float32:
    """(L, J) 1 where a far line is hidden: its asphalt is unlike that of all lines at this distance and unlike itself nearer.

    Paint masks leave out vehicles from some size on; smaller ones, far away, show here.
    """
    light = np.log(np.maximum((sides @ np.asarray(LUMINANCE, np.float32)).mean(axis=2), 1e-4))
    across = np.abs(light - np.median(light, axis=0))
    nearer = np.abs(light - median_filter(light, size=(1, 2 * _BEFORE + 1), origin=(0, _BEFORE), mode="nearest"))
    odd = (across > _UNLIKE) & (nearer > _UNLIKE) & (SURFACE_GRID.ahead_m > _HIDDEN_FROM_M)
    return np.stack([grey_dilation(row.astype(np.float32), 5) for row in odd]).astype(np.float32)


def _same_surface(sure: Float32, asked: Float32) -> NDArray[np.bool_]:
    """(J,) whether the asked side is the same road as the sure one; yes where there is no sure one to compare with."""
    weights = np.asarray(LUMINANCE, np.float32)
    ratio = np.abs(np.log(np.maximum(asked @ weights, 1e-4) / np.maximum(sure @ weights, 1e-4)))
    # Only green against the others: shadow moves light between red and blue, plants between green and both.
    green = [2 * x[:, 1] / np.maximum(x[:, 0] + x[:, 2], 1e-4) for x in (sure, asked)]
    chroma = np.abs(np.log(np.maximum(green[1], 1e-3) / np.maximum(green[0], 1e-3)))
    same = (ratio < _SAME_SURFACE_LOG_LIGHT) & (chroma < 4 * _SAME_SURFACE_CHROMA)
    same = np.where(np.isfinite(ratio) & np.isfinite(chroma), same, True)
    return median_filter(same.astype(np.uint8), 9, mode="nearest") > 0


def _along(pair: Float32, seen: NDArray[np.bool_]) -> Float32:
    """Fill stations where nothing was seen from their neighbours and take the grain out along the line."""
    stations = np.arange(len(pair))
    if not seen.any():
        return np.zeros_like(pair)
    flat = pair.reshape(len(pair), -1)
    filled = np.stack([np.interp(stations, stations[seen], flat[seen, c]) for c in range(flat.shape[1])], axis=1)
    smooth: Float32 = gaussian_filter1d(filled, 0.7, axis=0, mode="nearest").reshape(pair.shape).astype(np.float32)
    return smooth


class MarkingMap:
    """Where old markings lie along each line, gathered over all frames in the road's coordinates.

    One frame misses worn paint and mistakes glare for it; the average over the frames that saw a place does not flicker.
    """

    def __init__(self, lines: int, length_m: float) -> None:
        self._rows = int(length_m / _MAP_S_M) + 2
        self._columns = 2 * round(_MAP_HALF_M / _MAP_M_M) + 1
        self._sum = np.zeros((lines, self._rows, self._columns))
        self._weight = np.zeros((lines, self._rows, self._columns))
        self._contrasts: list[Float32] = []
        self._lights: list[Float32] = []

    def add(self, line: int, strip: LineStrip, base: Float32) -> None:
        """Add what a frame's strip shows; `base` (J, 3) is the asphalt's colour at each station."""
        near = strip.grid.ahead_m < _MAP_REACH_M
        signal = strip.markedness(base)
        wanted = (np.arange(self._columns) - self._columns // 2) * _MAP_M_M
        columns = strip.grid.columns_m
        rows = np.clip((strip.s[near] / _MAP_S_M).astype(np.int64), 0, self._rows - 1)
        values = np.stack([np.interp(wanted, columns, row) for row in signal[near]])
        seen = np.stack([np.interp(wanted, columns, row.astype(np.float64)) > 0.99 for row in strip.valid[near]])
        weight = seen / strip.grid.ahead_m[near, None]
        np.add.at(self._sum[line], rows, values * weight)
        np.add.at(self._weight[line], rows, weight)
        # Only the middle of the line, where a pixel is paint and nothing else.
        middle = np.abs(columns) < _PAINT_CORE_M
        core, weights = strip.valid[near][:, middle], np.asarray(LUMINANCE, np.float32)
        light = (strip.light[near][:, middle] @ weights)[core]
        ratio = light / np.maximum(np.broadcast_to((base[near] @ weights)[:, None], core.shape)[core], 1e-4)
        painted = ratio > _PAINT_RATIO
        self._contrasts.append(ratio[painted])
        self._lights.append(light[painted])

    def removal(self, reach_m: Sequence[float]) -> Float32:
        """(L, S, M) how surely a cell is marking, grown by its margins; where no frame came near, the line's whole width."""
        seen = self._weight > 0
        mean = np.divide(self._sum, self._weight, out=np.zeros_like(self._sum), where=seen)
        bright = mean > _MARKED
        peaks = [np.percentile(mean[i][bright[i]], 90) if bright[i].any() else 0.0 for i in range(len(mean))]
        marked = (mean > np.maximum(_MARKED, _MARKED_OF_PEAK * np.asarray(peaks))[:, None, None]) & seen
        grow_s, grow_m = 2 * round(_GROW_S_M / _MAP_S_M) + 1, 2 * math.ceil(_GROW_M / _MAP_M_M) + 1
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

    def brightness(self) -> PaintBrightness:
        """How bright the clip's own paint is, for new paint to look alike."""
        ratios = np.concatenate(self._contrasts) if self._contrasts else np.zeros(0, np.float32)
        if ratios.size < _ENOUGH_PAINT:
            return PaintBrightness(DEFAULT_CONTRAST, DEFAULT_CEILING)
        return PaintBrightness(
            float(np.clip(np.percentile(ratios, 75), *CONTRAST_RANGE)),
            float(np.clip(np.percentile(np.concatenate(self._lights), 90), *CEILING_RANGE)),
        )


def _around_centre(share: Float, reach_m: float) -> NDArray[np.bool_]:
    """(M,) columns that are marking along much of the line, within `reach_m` of the peak nearest to its centre."""
    columns = (np.arange(share.size) - share.size // 2) * _MAP_M_M
    if share.max() <= 0:
        return np.zeros(share.size, dtype=np.bool_)
    peak = columns[int(np.argmax(share * np.exp(-((columns / 0.25) ** 2))))]
    result: NDArray[np.bool_] = (share > 0.15 * share.max()) & (np.abs(columns - peak) <= reach_m)
    return result


@dataclass(frozen=True, eq=False)
class CleanBand:
    """A frame's pixels near lines, without their old markings.

    Attributes:
        pixels: which ones.
        removed: (N,) 0..1, how much of the pixel was replaced.
        base: (N, 3) linear colour after removal.
        shade: (N, 3) linear colour of plain asphalt under the pixel's light.
        texture: (N,) the asphalt's grain, luminance over that of `shade`.
    """

    pixels: BandPixels
    removed: Float32
    base: Float32
    shade: Float32
    texture: Float32


@compiled()
def _clean(
    linear: NDArray[np.float32],
    mask: NDArray[np.float32],
    index: NDArray[np.int32],
    line: NDArray[np.int16],
    s: NDArray[np.float32],
    m: NDArray[np.float32],
    step: NDArray[np.float32],
    here_s: float,
    station: NDArray[np.float64],
    sides: NDArray[np.float32],
    shift: NDArray[np.float32],
    usable: NDArray[np.bool_],
    known: NDArray[np.bool_],
    hidden: NDArray[np.float32],
    inner: NDArray[np.int64],
    removal: NDArray[np.float32],
    alpha: NDArray[np.float32],
    removed: NDArray[np.float32],
    base: NDArray[np.float32],
    shade: NDArray[np.float32],
    texture: NDArray[np.float32],
) -> None:
    height, width = mask.shape
    stations = sides.shape[1]
    middle = removal.shape[2] // 2
    for n in range(index.size):
        k = line[n]
        v = index[n] // width
        u = index[n] % width
        ahead = max(s[n] - here_s, 0.5)
        at = (1.0 / station[0] - 1.0 / ahead) / (1.0 / station[0] - 1.0 / station[1]) * (stations - 1)
        at = min(max(at, 0.0), stations - 1.001)
        j = int(at)
        f = at - j
        # 1. Plain asphalt here: between what lies to the right and to the left.
        t = min(max(0.5 + 0.5 * m[n] / _BESIDE_CENTRE_M, 0.0), 1.0)
        light = 0.0
        for c in range(3):
            right = sides[k, j, 0, c] * (1 - f) + sides[k, j + 1, 0, c] * f
            left = sides[k, j, 1, c] * (1 - f) + sides[k, j + 1, 1, c] * f
            shade[n, c] = right * (1 - t) + left * t
            light += LUMINANCE[c] * shade[n, c]
        # 2. Grain, from beside the line.
        grain = 1.0
        for attempt in range(2):
            side = inner[k] if attempt == 0 else 1 - inner[k]
            if not usable[k, j, side]:
                continue
            x = u + shift[k, j, side, 0] * (1 - f) + shift[k, j + 1, side, 0] * f
            y = v + shift[k, j, side, 1] * (1 - f) + shift[k, j + 1, side, 1] * f
            # Whole pixels: interpolating would smooth the grain and the camera's noise.
            iu = int(np.floor(x + 0.5))
            iv = int(np.floor(y + 0.5))
            if iu < 0 or iv < 0 or iu >= width or iv >= height or mask[iv, iu] < 0.99:
                continue
            there = 0.0
            around = 0.0
            for c in range(3):
                there += LUMINANCE[c] * linear[iv, iu, c]
                around += LUMINANCE[c] * (sides[k, j, side, c] * (1 - f) + sides[k, j + 1, side, c] * f)
            ratio = there / max(around, 1e-5)
            if _GRAIN_RANGE[0] < ratio < _GRAIN_RANGE[1]:
                grain = ratio
                break
        texture[n] = grain
        # 3. Is there old paint: on the map of the clip, or plainly in this pixel?
        wide_m = 1.2 * (abs(step[n, 1]) + abs(step[n, 3]))
        wide_s = abs(step[n, 0]) + abs(step[n, 2])
        on_map = 0.0
        beside_map = 0.0
        for p in range(-1, 2):
            row = int((s[n] + p * wide_s) / _MAP_S_M)
            if row < 0 or row >= removal.shape[1]:
                continue
            for q in range(-2, 3):
                column = int(np.floor((m[n] + 0.5 * q * wide_m) / _MAP_M_M + 0.5)) + middle
                if column >= 0 and column < removal.shape[2]:
                    on_map = max(on_map, removal[k, row, column])
                column = min(max(column + q, 0), removal.shape[2] - 1)
                beside_map = max(beside_map, removal[k, row, column])
        here = 0.0
        for c in range(3):
            here += LUMINANCE[c] * linear[v, u, c]
        warm = min(linear[v, u, 0], linear[v, u, 1])
        warm_shade = min(shade[n, 0], shade[n, 1])
        yellow = (warm - linear[v, u, 2]) / max(warm + linear[v, u, 2], 1e-3) - (warm_shade - shade[n, 2]) / max(
            warm_shade + shade[n, 2], 1e-3
        )
        marked = max(here / max(light, 1e-5) - 1.0, 2.0 * (yellow - 0.08))
        plain = (marked - _PIXEL_MARKED[0]) / (_PIXEL_MARKED[1] - _PIXEL_MARKED[0])
        plain = min(max(plain, 0.0), 1.0) * min(1.0, 2.0 * beside_map)
        gone = max(on_map, plain)
        if not known[k, j]:
            gone = 0.0
        alpha[n] *= 1.0 - max(hidden[k, j], hidden[k, j + 1])
        removed[n] = gone
        for c in range(3):
            base[n, c] = linear[v, u, c] + gone * (shade[n, c] * grain - linear[v, u, c])


def clean_band(
    linear: Float32, mask: Float32, pixels: BandPixels, surface: Surface, inner: Sequence[int], removal: Float32
) -> CleanBand:
    """Replace old markings of one frame by asphalt.

    Args:
        linear: (H, W, 3) the frame in linear light.
        mask: (H, W) soft paint mask.
        pixels: the frame's band.
        surface: the asphalt beside its lines.
        inner: see `surface_of`.
        removal: see `MarkingMap.removal`.
    """
    n = len(pixels)
    removed, texture = np.zeros(n, np.float32), np.ones(n, np.float32)
    base, shade = np.zeros((n, 3), np.float32), np.zeros((n, 3), np.float32)
    alpha = pixels.alpha.copy()
    _clean(
        linear,
        mask,
        pixels.index,
        pixels.line,
        pixels.s,
        pixels.m,
        pixels.step,
        surface.here_s,
        np.array([SURFACE_GRID.first_m, SURFACE_GRID.last_m]),
        surface.sides,
        surface.shift,
        surface.usable,
        surface.known,
        surface.hidden,
        np.asarray(inner, dtype=np.int64),
        removal,
        alpha,
        removed,
        base,
        shade,
        texture,
    )
    return CleanBand(replace(pixels, alpha=alpha), removed, base, shade, texture)
