"""Where the procedural painter goes beyond a frame's paint mask: along lines, where there is road or old paint.

Masks end early: at a white edge line, at a shadow, before a vehicle. The composite grows them anyway, so there is room
to clear a line and to paint it whole. Called by the painter's analysis, once a frame. What stands on the road over time
is `occlusion.py`'s business; how the composite softens masks is `mask_edges.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, uniform_filter

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.line_strips import LineStrip
from lanepaint_assets.editing.road_band import BandPixels
from lanepaint_assets.editing.road_surface import BESIDE_M, SURFACE_GRID
from lanepaint_assets.editing.shading import LUMINANCE

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

# Of the 24 px that the composite grows a mask by: its feather leaves 84 % of the painter's colour there.
REACH_PX = 16

# Farther out `occlusion.py` does not know vehicles, and 16 px are tens of metres.
_REACH_M = 45.0
# Half width of what may be cleared or painted beyond a mask: a double line of wide strokes and its soft edge.
_HALF_WIDTH_M = 0.5

# Natural logarithms against the asphalt of the ego lane's side at the same station. Asphalt: worn tracks and the edges
# of shadows; a car's body is seldom so near. Colour is red and blue over green: grass, earth and gravel differ more.
_ASPHALT_LIGHT, _ASPHALT_RED, _ASPHALT_BLUE = 0.5, 0.10, 0.20
# Old paint where it was measured to lie, blurred into asphalt or earth: brighter and not green.
_PAINT_LIGHT, _WHITE_RED, _WHITE_BLUE = 0.15, (-0.15, 0.25), (-0.5, 0.3)
_YELLOW_RED, _YELLOW_BLUE = (-0.15, 0.9), -0.8
# Darker than this no place of the road is that showed road to other frames: a vehicle stands on it.
_DARKEST = -0.9

# Cells, metres along a line, in which frames vote; more than this share of those that were near must have seen road.
_CELL_M, _AGREED = 0.5, 0.5


def beyond_mask(mask: Bool) -> Bool:
    """(H, W) True within `REACH_PX` of a paint mask and not on it, without the objects that it encloses."""
    outside = (~mask).astype(np.uint8)
    side = 2 * REACH_PX + 1
    near = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8))
    # Whatever of the outside does not hang together with the picture's border is enclosed. The picture's upper row is
    # sky; a frame of one pixel joins what the mask splits.
    framed = cv2.copyMakeBorder(outside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    return np.asarray((framed[1:-1, 1:-1] == 2) & (near > 0))


@dataclass(frozen=True, eq=False)
class Seen:
    """What a frame's strip (J, M) shows beyond its mask.

    `asked` are the cells in reach, `light_enough` those of them that no dark body hides, `road` those that look like
    the road or like old paint.
    """

    asked: Bool
    light_enough: Bool
    road: Bool


def look_beyond(strip: LineStrip, inner: int, old_half_width_m: float, s_range_m: tuple[float, float]) -> Seen:
    """Look at one line's cells beyond the mask.

    Args:
        strip: on `SURFACE_GRID`, with its `beyond`.
        inner: the side (0 right, 1 left) that is road for certain, which lends the asphalt's look.
        old_half_width_m: how far from the line's middle old paint may lie.
        s_range_m: where the line's course was measured.
    """
    columns = np.abs(SURFACE_GRID.columns_m)
    asked = strip.beyond & (columns <= _HALF_WIDTH_M)
    asked[(SURFACE_GRID.ahead_m > _REACH_M) | (strip.s < s_range_m[0]) | (strip.s > s_range_m[1])] = False
    nothing = Seen(asked, np.zeros_like(asked), np.zeros_like(asked))
    if not asked.any():
        return nothing
    asphalt = strip.asphalt(*BESIDE_M) if inner else strip.asphalt(-BESIDE_M[1], -BESIDE_M[0])
    seen = np.flatnonzero(np.isfinite(asphalt).all(axis=1))
    if not seen.size:
        return nothing
    stations = np.arange(len(asphalt))
    base = np.stack([np.interp(stations, seen, asphalt[seen, c]) for c in range(3)], axis=1)
    light, red, blue = _against(strip.light, base.astype(np.float32))
    road = _asphalt(light, red, blue)
    white = _within(red, _WHITE_RED) & _within(blue, _WHITE_BLUE)
    yellow = _within(red, _YELLOW_RED) & (blue < _YELLOW_BLUE)
    paint = (light > _PAINT_LIGHT) & (white | yellow) & (columns <= old_half_width_m)
    return Seen(asked, asked & (light > _DARKEST), asked & (road | paint))


def is_asphalt(light: Float32, base: Float32) -> Bool:
    """(J, M) whether linear light (J, M, 3) looks like asphalt of colour `base` (J, 3)."""
    return _asphalt(*_against(light, base))


def _asphalt(light: Float32, red: Float32, blue: Float32) -> Bool:
    near = (np.abs(light) < _ASPHALT_LIGHT) & (np.abs(red) < _ASPHALT_RED) & (np.abs(blue) < _ASPHALT_BLUE)
    return np.asarray(near)


def _against(light: Float32, base: Float32) -> tuple[Float32, Float32, Float32]:
    """Natural logarithms of luminance, and of red and blue over green, against those of `base`."""
    weights = np.asarray(LUMINANCE, np.float32)
    ratio = np.log(np.maximum(light, 1e-3) / np.maximum(base, 1e-3)[:, None])
    bright = np.log(np.maximum(light @ weights, 1e-3) / np.maximum(base @ weights, 1e-3)[:, None])
    return bright, ratio[..., 0] - ratio[..., 1], ratio[..., 2] - ratio[..., 1]


def _within(values: Float32, ends: tuple[float, float]) -> Bool:
    return np.asarray((values > ends[0]) & (values < ends[1]))


class ReachVotes:
    """What all frames saw beyond their masks, by place of the road: one frame alone would make paint flicker."""

    def __init__(self, lines: int, length_m: float) -> None:
        shape = lines, int(length_m / _CELL_M) + 2, SURFACE_GRID.columns_m.size
        self._asked, self._road = np.zeros(shape), np.zeros(shape)
        self._frames: list[tuple[Bool, Bool, NDArray[np.int64]]] = []

    def add(self, seen: Sequence[Seen], valid: Bool, s: Float) -> None:
        """The next frame: one `Seen` a line, (L, J, M) where its strips are valid, (J,) the stations' s."""
        asked, road = np.stack([one.asked for one in seen]), np.stack([one.road for one in seen])
        place = np.clip((s / _CELL_M).astype(np.int64), 0, self._asked.shape[1] - 1)
        for line in np.flatnonzero(asked.any(axis=(1, 2))):
            np.add.at(self._asked[line], place, asked[line])
            np.add.at(self._road[line], place, road[line])
        self._frames.append((valid & ~road, np.stack([one.light_enough for one in seen]), place))

    def reached(self, strange: Sequence[Bool]) -> tuple[Bool, ...]:
        """For every frame (L, J, M): cells on its mask, and those beyond it that most frames saw road in.

        Args:
            strange: of every frame (L, J, M), cells that hide the road now, see `Occlusion`: votes are of all times.
        """
        size = (1, 3, 1)
        asked, road = (uniform_filter(votes, size, mode="nearest") for votes in (self._asked, self._road))
        agreed = (asked > 0) & (road > _AGREED * asked)
        # The border of paint blurs into what lies beside it.
        agreed = binary_dilation(agreed, np.ones((1, 1, 3), np.bool_))
        return tuple(
            valid | (light & agreed[:, place] & ~odd)
            for (valid, light, place), odd in zip(self._frames, strange, strict=True)
        )


@compiled()
def _extend(
    reached: NDArray[np.bool_],
    here_s: float,
    first_inverse: float,
    per_station: float,
    first_m: float,
    column_m: float,
    inside: NDArray[np.float32],
    index: NDArray[np.int32],
    line: NDArray[np.int16],
    s: NDArray[np.float32],
    m: NDArray[np.float32],
    alpha: NDArray[np.float32],
) -> None:
    for n in range(index.size):
        within = inside[index[n]]
        if within >= 1.0:
            continue
        ahead = max(s[n] - here_s, 0.5)
        y = min(max((1.0 / ahead - first_inverse) / per_station, 0.0), reached.shape[1] - 1.001)
        x = min(max((m[n] - first_m) / column_m, 0.0), reached.shape[2] - 1.001)
        j = int(y)
        i = int(x)
        fy = y - j
        fx = x - i
        k = line[n]
        near = reached[k, j, i] * (1.0 - fx) + reached[k, j, i + 1] * fx
        far = reached[k, j + 1, i] * (1.0 - fx) + reached[k, j + 1, i + 1] * fx
        share = near * (1.0 - fy) + far * fy
        alpha[n] = within + (1.0 - within) * alpha[n] * share


def limit_to_reached(pixels: BandPixels, inside: Float32, reached: Bool, here_s: float) -> None:
    """Set the alpha of pixels of a grown mask, in place: the mask's own, and beyond it that of the strips' cells.

    Args:
        pixels: of the grown mask.
        inside: (H, W) the soft paint mask itself.
        reached: (L, J, M) cells of the strips, by line as in `pixels`, that are in the mask or were reached beyond it.
        here_s: s of the rig.
    """
    ends = 1.0 / SURFACE_GRID.first_m, 1.0 / SURFACE_GRID.last_m
    _extend(
        reached,
        here_s,
        ends[0],
        (ends[1] - ends[0]) / (SURFACE_GRID.count - 1),
        float(SURFACE_GRID.columns_m[0]),
        SURFACE_GRID.column_m,
        inside.ravel(),
        pixels.index,
        pixels.line,
        pixels.s,
        pixels.m,
        pixels.alpha,
    )
