"""Taking old markings off the road: what the asphalt under them looks like, and putting it in their place.

The asphalt's light comes from both sides of the line at the same distance, so shadows and the camera's vignette stay;
its texture is the road's own, copied from beside the line at the same distance, so grain, blur and noise fit. Called by
the procedural painter's analysis, once a clip; new paint is `lane_paint.py`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_dilation, median_filter

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.marking_map import MAP_M_M, MAP_S_M
from lanepaint_assets.editing.road_band import BandPixels
from lanepaint_assets.editing.shading import LUMINANCE

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

# What hides a line: asphalt this much brighter or darker (natural logarithm) than the other lines' and than the median
# of the stations before it, from where vehicles become too small for the paint mask.
_UNLIKE = 0.45
_BEFORE = 20
_HIDDEN_FROM_M = 25.0

# Markedness between which a single pixel is taken for paint.
_PIXEL_MARKED = (0.10, 0.25)


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

    def of_lines(self, lines: Sequence[int]) -> Surface:
        """The same frame, some lines only."""
        chosen = list(lines)
        return Surface(
            self.here_s,
            self.sides[chosen],
            self.shift[chosen],
            self.usable[chosen],
            self.known[chosen],
            self.hidden[chosen],
        )


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
        ok: NDArray[np.bool_] = np.asarray(np.isfinite(pair).all(axis=2))
        ok[:, 1 - road_side] &= _same_surface(pair[:, road_side], pair[:, 1 - road_side])
        for side in (0, 1):
            other = 1 - side
            pair[:, side] = np.where((~ok[:, side] & ok[:, other])[:, None], pair[:, other], pair[:, side])
        seen: NDArray[np.bool_] = np.asarray(ok.any(axis=1))
        sides.append(_along(pair, seen))
        known.append(_reaching_near(seen))
        usable.append(np.stack([_reaching_near(ok[:, side]) for side in (0, 1)], axis=1))
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
    """(L, J) 1 where a far line is hidden: its asphalt is unlike all lines' at this distance and unlike itself nearer.

    Paint masks leave out vehicles from some size on; smaller ones, far away, show here.
    """
    light = np.log(np.maximum((sides @ np.asarray(LUMINANCE, np.float32)).mean(axis=2), 1e-4))
    across = np.abs(light - np.median(light, axis=0))
    nearer = np.abs(light - median_filter(light, size=(1, 2 * _BEFORE + 1), origin=(0, _BEFORE), mode="nearest"))
    odd = (across > _UNLIKE) & (nearer > _UNLIKE) & (SURFACE_GRID.ahead_m > _HIDDEN_FROM_M)
    return np.stack([grey_dilation(row.astype(np.float32), size=(5,)) for row in odd]).astype(np.float32)


def _reaching_near(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(J,) stations next to one that was seen, and all before the first: the picture's border cuts their sides off."""
    result: NDArray[np.bool_] = np.asarray(grey_dilation(seen.astype(np.uint8), size=(5,)) > 0)
    if seen.any():
        result[: int(np.argmax(seen))] = True
    return result


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
            row = int((s[n] + p * wide_s) / MAP_S_M)
            if row < 0 or row >= removal.shape[1]:
                continue
            for q in range(-2, 3):
                column = int(np.floor((m[n] + 0.5 * q * wide_m) / MAP_M_M + 0.5)) + middle
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
