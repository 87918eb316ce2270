"""The asphalt beside a frame's lane lines: its light and colour at every place, and what hides a line.

Called by the procedural painter's analysis, once a frame. What is done with it is `marking_removal.py`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_dilation, median_filter

from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.shading import LUMINANCE

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Strips that show a line and the asphalt beside it from the bonnet to where paint ends.
SURFACE_GRID = StripGrid(count=176, first_m=3.0, last_m=90.0, half_width_m=1.35, column_m=0.075)

# Asphalt beside a line: past the outer edge of a double line, short of the wheel track.
BESIDE_M = (0.42, 1.20)
BESIDE_CENTRE_M = 0.5 * (BESIDE_M[0] + BESIDE_M[1])

# Two sides of one road surface: sun and shadow differ fivefold in light but little in colour; grass and earth differ in
# colour.
_SAME_SURFACE_LOG_LIGHT = 1.7
_SAME_SURFACE_CHROMA = 0.035

# What hides a line: asphalt so much brighter or darker (natural logarithm) than the other lines' and than the median of
# the stations before it, from where `occlusion.py` no longer looks on. Vehicles' shadows take 0.7 to 1.2;
# lines go on in them.
_BRIGHTER, _DARKER = 0.45, 1.3
_BEFORE = 20
_HIDDEN_FROM_M = 45.0

# Cells, metres, in which asphalt that looks odd from afar is compared with what it is from nearby.
_PLACE_M = 1.0

# Colours across a line are averaged along it over so many stations (one standard deviation): enough to lose the grain,
# few enough to keep the edges of shadows.
_ACROSS_STATIONS = 1.5


@dataclass(frozen=True, eq=False)
class Surface:
    """The asphalt beside every line of a frame, by station of `SURFACE_GRID`.

    Attributes:
        here_s: s of the rig.
        sides: (L, J, 2, 3) linear colour to the right (0) and to the left (1) of each line.
        across: (L, J, M, 3) linear colour without grain across each line, one a column of the strip; where a
            side is no asphalt, the other one's.
        shift: (L, J, 2, 2) pixels from the line to the middle of the asphalt on each side.
        usable: (L, J, 2) whether texture may be copied from there.
        known: (L, J) whether any asphalt was seen.
        hidden: (L, J) 1 where something stands on the line that the paint mask does not know, 0 elsewhere.
    """

    here_s: float
    sides: Float32
    across: Float32
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
            self.across[chosen],
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
    sides, across, shifts, usable, known = [], [], [], [], []
    columns = SURFACE_GRID.columns_m
    middle = columns.size // 2
    at = [int(np.argmin(np.abs(columns - c))) for c in (-BESIDE_CENTRE_M, BESIDE_CENTRE_M)]
    for strip, road_side in zip(strips, inner, strict=True):
        pair = np.stack([strip.asphalt(-BESIDE_M[1], -BESIDE_M[0]), strip.asphalt(*BESIDE_M)], axis=1)
        ok: NDArray[np.bool_] = np.asarray(np.isfinite(pair).all(axis=2))
        ok[:, 1 - road_side] &= _same_surface(pair[:, road_side], pair[:, 1 - road_side])
        for side in (0, 1):
            other = 1 - side
            pair[:, side] = np.where((~ok[:, side] & ok[:, other])[:, None], pair[:, other], pair[:, side])
        seen: NDArray[np.bool_] = np.asarray(ok.any(axis=1))
        sides.append(_along(pair, seen))
        across.append(_across(strip, sides[-1], ok))
        known.append(_reaching_near(seen))
        usable.append(np.stack([_reaching_near(ok[:, side]) for side in (0, 1)], axis=1))
        shifts.append(np.stack([strip.pixels[:, a] - strip.pixels[:, middle] for a in at], axis=1))
    stacked = np.stack(sides).astype(np.float32)
    return Surface(
        here_s,
        stacked,
        np.stack(across),
        np.stack(shifts).astype(np.float32),
        np.stack(usable),
        np.stack(known),
        _hidden(stacked),
    )


def _across(strip: LineStrip, sides: Float32, ok: NDArray[np.bool_]) -> Float32:
    """(J, M, 3) colours across a line without grain; `sides` where a pixel or a whole side shows something else."""
    middle = SURFACE_GRID.columns_m.size // 2
    halves = (slice(0, middle), slice(middle, None))
    light = strip.light.copy()
    for side, half in enumerate(halves):
        shown = strip.valid[:, half] & ok[:, side, None]
        light[:, half] = np.where(shown[..., None], light[:, half], sides[:, side, None])
    flat = np.ascontiguousarray(light.reshape(len(light), -1))
    smooth = cv2.GaussianBlur(flat, (1, 0), sigmaX=1e-3, sigmaY=_ACROSS_STATIONS, borderType=cv2.BORDER_REPLICATE)
    return smooth.reshape(light.shape).astype(np.float32)


def _hidden(sides: Float32) -> Float32:
    """(L, J) 1 where a far line is hidden: its asphalt is unlike all lines' at this distance and unlike itself nearer.

    Paint masks leave out vehicles from some size on; smaller ones, far away, show here.
    """
    light = _log_light(sides)
    across = light - np.median(light, axis=0)
    nearer = light - median_filter(light, size=(1, 2 * _BEFORE + 1), origin=(0, _BEFORE), mode="nearest")
    odd = (np.minimum(across, nearer) > _BRIGHTER) | (np.maximum(across, nearer) < -_DARKER)
    odd &= SURFACE_GRID.ahead_m > _HIDDEN_FROM_M
    return np.stack([grey_dilation(row.astype(np.float32), size=(5,)) for row in odd]).astype(np.float32)


def _log_light(sides: Float32) -> Float:
    """(L, J) natural logarithm of the luminance of both sides."""
    light: Float = np.log(np.maximum((sides @ np.asarray(LUMINANCE, np.float32)).mean(axis=2), 1e-4)).astype(np.float64)
    return light


def without_lasting(surfaces: Sequence[Surface]) -> tuple[Surface, ...]:
    """The same frames, where what looks odd from afar hides nothing if it looks the same from nearby.

    New pavement stays where it is on the road; vehicles do not.
    """
    ahead = SURFACE_GRID.ahead_m
    near = ahead <= _HIDDEN_FROM_M
    places = 1 + int((max(x.here_s for x in surfaces) + SURFACE_GRID.last_m) / _PLACE_M)
    total, count = np.zeros((len(surfaces[0].sides), places)), np.zeros(places)
    seen = [(_log_light(x.sides), np.maximum((x.here_s + ahead) / _PLACE_M, 0.0).astype(np.int64)) for x in surfaces]
    for light, place in seen:
        np.add.at(count, place[near], 1.0)
        for row, values in zip(total, light, strict=True):
            np.add.at(row, place[near], values[near])
    known = total / np.maximum(count, 1.0)
    result = []
    for surface, (light, place) in zip(surfaces, seen, strict=True):
        lasting = (count[place] > 0) & (np.abs(light - known[:, place]) < _BRIGHTER)
        result.append(replace(surface, hidden=np.where(lasting, 0.0, surface.hidden).astype(np.float32)))
    return tuple(result)


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
