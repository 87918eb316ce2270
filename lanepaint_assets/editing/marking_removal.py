"""Taking old markings off the road: putting asphalt in their place.

The asphalt's light comes from both borders of the old paint at the same distance, so shadows and the camera's vignette
stay; its texture is the road's own, mirrored about both borders, so that it continues what lies beside and grain, blur
and noise fit. Called by the procedural painter's analysis, once a clip. What lies beside a line is read by
`road_surface.py`; new paint is `lane_paint.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.marking_map import MAP_M_M, MAP_S_M
from lanepaint_assets.editing.road_band import BandPixels
from lanepaint_assets.editing.road_surface import BESIDE_CENTRE_M, BESIDE_M, SURFACE_GRID, Surface
from lanepaint_assets.editing.shading import LUMINANCE

Float32 = NDArray[np.float32]

# A copied pixel is kept within this share of the darkest and the brightest asphalt of the stations around it: that
# leaves grain (a fifth) and the edges of shadows, and nothing of a vehicle, a post or a glint on the windscreen.
_GRAIN_RANGE = (0.8, 1.25)
_GRAIN_STATIONS = 3

# Two mirrored sides meet in the middle of the old paint, over this share of its width: a wider seam would average the
# grain away.
_SEAM = 0.3

# Width of the seams and cracks that run along lines, metres; they are no colour of the road.
_SEAM_M = 0.15

# Kernels read plain numbers.
_COLUMN_M = SURFACE_GRID.column_m

# Borders of the old paint are smoothed along the line, in cells of the map, or the copied texture would jump.
_BORDER_CELLS = 9

# Markedness between which a single pixel is taken for paint.
_PIXEL_MARKED = (0.10, 0.25)

# Asphalt is read for its colour this far beyond the old paint's border, metres: more than a column of `across`.
_HALO_M = 0.08


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
def _colour(across: NDArray[np.float32], k: int, j: int, f: float, m: float, c: int) -> float:
    """A channel of the road's colour without grain at m, a share f behind station j."""
    at = min(max(m / _COLUMN_M + 0.5 * (across.shape[2] - 1), 0.0), across.shape[2] - 1.001)
    i = int(at)
    g = at - i
    near = across[k, j, i, c] * (1 - g) + across[k, j, i + 1, c] * g
    far = across[k, j + 1, i, c] * (1 - g) + across[k, j + 1, i + 1, c] * g
    return float(near * (1 - f) + far * f)


@compiled()
def _beside(across: NDArray[np.float32], k: int, j: int, f: float, m: float, seam_m: float, c: int) -> float:
    """The same at a line's border: the median of three places outwards from m, which a seam along the line is not."""
    a = _colour(across, k, j, f, m, c)
    b = _colour(across, k, j, f, m + seam_m, c)
    d = _colour(across, k, j, f, m + 2.0 * seam_m, c)
    return max(min(a, b), min(max(a, b), d))


def paint_borders(removal: Float32) -> Float32:
    """(L, R, 2) m of the right and the left border of the old paint in each row of a map; both 0 where there is none.

    Args:
        removal: see `MarkingMap.removal`.
    """
    columns = (np.arange(removal.shape[2]) - removal.shape[2] // 2) * MAP_M_M
    on = removal > 0.5
    right = np.where(on, columns - MAP_M_M / 2, 0.0).min(axis=2)
    left = np.where(on, columns + MAP_M_M / 2, 0.0).max(axis=2)
    right = gaussian_filter1d(minimum_filter1d(right, _BORDER_CELLS, axis=1), _BORDER_CELLS / 3, axis=1)
    left = gaussian_filter1d(maximum_filter1d(left, _BORDER_CELLS, axis=1), _BORDER_CELLS / 3, axis=1)
    return np.stack([right, left], axis=2).astype(np.float32)


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
    across: NDArray[np.float32],
    luminance: NDArray[np.float32],
    shift: NDArray[np.float32],
    usable: NDArray[np.bool_],
    known: NDArray[np.bool_],
    hidden: NDArray[np.float32],
    removal: NDArray[np.float32],
    borders: NDArray[np.float32],
    alpha: NDArray[np.float32],
    removed: NDArray[np.float32],
    base: NDArray[np.float32],
    shade: NDArray[np.float32],
    texture: NDArray[np.float32],
) -> None:
    height, width = mask.shape
    stations = across.shape[1]
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
        # 1. Plain asphalt here: from border to border of the old paint, as it is beside it.
        wide_m = 1.2 * (abs(step[n, 1]) + abs(step[n, 3]))
        wide_s = abs(step[n, 0]) + abs(step[n, 2])
        row = min(max(int(s[n] / MAP_S_M), 0), borders.shape[1] - 1)
        right_m = borders[k, row, 0] - 0.6 * wide_m
        left_m = borders[k, row, 1] + 0.6 * wide_m
        t = (m[n] - right_m) / max(left_m - right_m, 1e-3)
        t = min(max(t, 0.0), 1.0)
        light = 0.0
        for c in range(3):
            right = _beside(across, k, j, f, min(m[n], right_m - _HALO_M), -_SEAM_M, c)
            left = _beside(across, k, j, f, max(m[n], left_m + _HALO_M), _SEAM_M, c)
            shade[n, c] = right * (1 - t) + left * t
            light += LUMINANCE[c] * shade[n, c]
        # 2. Grain: mirrored from both sides of the old paint.
        t = min(max((t - 0.5 + 0.5 * _SEAM) / _SEAM, 0.0), 1.0)
        t = t * t * (3.0 - 2.0 * t)
        found = 0.0
        grain = 0.0
        for side in range(2):
            if not usable[k, j, side]:
                continue
            border = right_m if side == 0 else left_m
            # Outside of the old paint that is the pixel itself.
            there_m = border + (2 * side - 1) * abs(m[n] - border)
            there_m = min(max(there_m, -BESIDE_M[1]), BESIDE_M[1])
            clear_m = min(there_m, border - _HALO_M) if side == 0 else max(there_m, border + _HALO_M)
            # Pixels to the middle of the asphalt on that side, for so many metres of the way.
            part = abs(there_m - m[n]) / BESIDE_CENTRE_M
            x = u + part * (shift[k, j, side, 0] * (1 - f) + shift[k, j + 1, side, 0] * f)
            y = v + part * (shift[k, j, side, 1] * (1 - f) + shift[k, j + 1, side, 1] * f)
            # Whole pixels: interpolating would smooth the grain and the camera's noise.
            iu = int(np.floor(x + 0.5))
            iv = int(np.floor(y + 0.5))
            if iu < 0 or iv < 0 or iu >= width or iv >= height or mask[iv, iu] < 0.99:
                continue
            there = 0.0
            for c in range(3):
                there += LUMINANCE[c] * linear[iv, iu, c]
            seam_m = (2 * side - 1) * _SEAM_M
            around = _colour(luminance, k, j, f, clear_m, 0)
            without_seam = _beside(luminance, k, j, f, clear_m, seam_m, 0)
            darkest = without_seam
            brightest = without_seam
            for way in range(-1, 2, 2):
                q = min(max(j + way * _GRAIN_STATIONS, 0), stations - 2)
                near = _beside(luminance, k, q, 0.0, clear_m, seam_m, 0)
                darkest = min(darkest, near)
                brightest = max(brightest, near)
            there = min(max(there, _GRAIN_RANGE[0] * darkest), _GRAIN_RANGE[1] * brightest)
            # A side that stands in for the other one counts, however little it would beside it.
            weight = max(t if side == 1 else 1.0 - t, 1e-3)
            # Off a seam or on it: whichever explains the pixel.
            rough = there / max(around, 1e-5)
            other = there / max(without_seam, 1e-5)
            grain += weight * (other if abs(other - 1.0) < abs(rough - 1.0) else rough)
            found += weight
        texture[n] = grain / found if found > 0.0 else 1.0
        # 3. Is there old paint: on the map of the clip, or plainly in this pixel?
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
            base[n, c] = linear[v, u, c] + gone * (shade[n, c] * texture[n] - linear[v, u, c])


def clean_band(linear: Float32, mask: Float32, pixels: BandPixels, surface: Surface, removal: Float32) -> CleanBand:
    """Replace old markings of one frame by asphalt.

    Args:
        linear: (H, W, 3) the frame in linear light.
        mask: (H, W) soft paint mask.
        pixels: the frame's band.
        surface: the asphalt beside its lines, see `road_surface.surface_of`.
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
        surface.across,
        (surface.across @ np.asarray(LUMINANCE, np.float32))[..., None],
        surface.shift,
        surface.usable,
        surface.known,
        surface.hidden,
        removal,
        paint_borders(removal),
        alpha,
        removed,
        base,
        shade,
        texture,
    )
    return CleanBand(replace(pixels, alpha=alpha), removed, base, shade, texture)
