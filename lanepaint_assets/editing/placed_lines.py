"""Boundaries that nobody saw, placed a lane's width from the other one, are moved onto the road where they miss it.

Called by the painter's analysis, once a clip. Country roads without edge lines are often narrower than the standard's
lane: paint on gravel or grass looks wrong and is not on the road. Measured lines are never moved here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import grey_closing

from lanepaint_assets.editing.lane_tracks import LaneTrack
from lanepaint_assets.editing.line_strips import LineStrip
from lanepaint_assets.editing.mask_reach import is_asphalt
from lanepaint_assets.editing.road_surface import BESIDE_M, SURFACE_GRID

Bool = NDArray[np.bool_]

# Where the road is looked at: near enough to tell gravel from asphalt.
_NEAR_M, _FAR_M = 4.0, 22.0
# Columns on the lane for certain; what share of their looks at asphalt the road keeps up to its edge; and the asphalt
# that a line needs on its outer side: half of a double one.
_CERTAIN, _ASPHALT_SHARE, _MARGIN_M = 8, 0.6, 0.3
# Columns that the widest stroke (0.3 m) covers, with its borders.
_STROKE_COLUMNS = 7
# Narrower lanes than this are none.
_NARROWEST_M = 2.4
# Frames of a clip that are looked at.
_FRAMES = 12


def moved_onto_road(
    tracks: tuple[LaneTrack, ...], frames: int, sample: Callable[[int, LaneTrack], LineStrip]
) -> tuple[LaneTrack, ...]:
    """The tracks, the placed ones moved towards the ego lane as far as they must, or left where that does not help.

    Args:
        tracks: with both boundaries of the ego lane.
        frames: how many the clip has.
        sample: the strip of a line in a frame, on `SURFACE_GRID`.
    """
    seen = next((t for t in tracks if t.role != "other" and t.measured), None)
    if seen is None:
        return tracks
    chosen = np.unique(np.linspace(0, frames - 1, _FRAMES).astype(np.int64))
    return tuple(t if t.measured else _moved(t, seen, chosen, sample) for t in tracks)


def _moved(
    placed: LaneTrack, seen: LaneTrack, frames: NDArray[np.int64], sample: Callable[[int, LaneTrack], LineStrip]
) -> LaneTrack:
    inwards = float(np.sign(np.median(seen.offset_m - placed.offset_m)))
    near = (SURFACE_GRID.ahead_m > _NEAR_M) & (SURFACE_GRID.ahead_m < _FAR_M)
    looks, asphalt = np.zeros(SURFACE_GRID.columns_m.size), np.zeros(SURFACE_GRID.columns_m.size)
    for k in frames:
        beside = sample(int(k), seen)
        base = beside.asphalt(-BESIDE_M[1], -BESIDE_M[0]) if inwards > 0 else beside.asphalt(*BESIDE_M)
        strip = sample(int(k), placed)
        rows = near & np.isfinite(base).all(axis=1)
        looks += rows.sum()
        asphalt += (strip.valid & is_asphalt(strip.light, base))[rows].sum(axis=0)
    # Columns from the one farthest inside outwards: the road ends where asphalt does for the first time.
    order = np.argsort(-inwards * SURFACE_GRID.columns_m)
    outwards = -inwards * SURFACE_GRID.columns_m[order]
    share = np.convolve(asphalt[order] / np.maximum(looks[order], 1), np.ones(3) / 3, mode="valid")
    # A stroke that nobody measured is no end of the road.
    share = grey_closing(share, size=(_STROKE_COLUMNS,))
    # In the shadows of trees only part of the looks tell asphalt, on the lane for certain as well.
    off = np.flatnonzero(share < _ASPHALT_SHARE * np.median(share[:_CERTAIN]))
    ends = outwards[1:-1][off[0]] if off.size else np.inf
    by = _MARGIN_M - float(ends)
    width = float(np.median(np.abs(seen.offset_m - placed.offset_m)))
    if by <= 0.0 or width - by < _NARROWEST_M:
        return placed
    return replace(placed, offset_m=placed.offset_m + inwards * by)
