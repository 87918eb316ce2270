"""Road strips made in numpy, for tests of what is read along one line: asphalt with grain, and paint by a rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from lanepaint_assets.lanes.birds_eye import GroundGrid
from lanepaint_assets.lanes.curves import CurveFit
from lanepaint_assets.lanes.strip import RoadStrip
from lanepaint_assets_tests.unit.lanes.flat_road import ASPHALT, GRASS, PaintedLine

Float = NDArray[np.float64]

GRID = GroundGrid(-18.0, 45.0, -4.0, 4.0, 0.05, 0.2)


def painted_strip(
    line: PaintedLine,
    *,
    wear: float = 0.0,
    far_from_m: float = 45.0,
    shade: tuple[float, float] | None = None,
    verge_m: float | None = None,
    asphalt: tuple[float, float, float] = ASPHALT,
    seed: int = 0,
) -> RoadStrip:
    """A strip with one line.

    Args:
        line: paint by x and y of the strip.
        wear: share of the paint that is gone, in patches of some 0.3 m.
        far_from_m: pictures were taken up to here; beyond, looks grow longer and blur the ground.
        shade: stretch of x that lies in a quarter of the light.
        verge_m: grass from this far to the right of the line.
        asphalt: linear light of the ground.
    """
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(GRID.x_m, GRID.y_m, indexing="ij")
    # Four samples across a cell, for strokes are only two cells wide.
    cover = np.mean([line.covers(x, y + off) for off in (-0.019, -0.006, 0.006, 0.019)], axis=0)
    patches = gaussian_filter(random.normal(size=x.shape), (1.5, 1.5))
    cover = cover * (patches > np.quantile(patches, wear) if wear else 1.0)
    grain = 1.0 + 0.08 * random.normal(size=x.shape)
    ground = np.asarray(asphalt) * grain[..., None]
    if verge_m is not None:
        ground = np.where((y < line.offset_m - verge_m)[..., None], 2.0 * np.asarray(GRASS) * grain[..., None], ground)
    linear = ground + cover[..., None] * (np.asarray(line.color) - ground)
    if shade is not None:
        linear = linear * np.where((x > shade[0]) & (x < shade[1]), 0.25, 1.0)[..., None]
    look = np.maximum(4.0, GRID.x_m - far_from_m + 4.0)
    # A pixel covers about 3 mm across and 0.5 mm along the road for each metre, and metre squared, of the look.
    for row, distance in enumerate(look):
        linear[row] = gaussian_filter1d(linear[row], 0.003 * distance / 0.05, axis=0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.clip(linear, 1e-6, 1.0) ** (1 / 2.4) - 0.055) * 255
    everywhere = np.ones(x.shape, dtype=np.bool_)
    return RoadStrip(GRID, srgb.astype(np.float32), everywhere, everywhere.copy(), look, 12, 0.0)


def straight_fit(offset_m: float = 0.0, first_m: float = -17.0, last_m: float = 44.0) -> CurveFit:
    """The course of a line at y = `offset_m`."""
    return CurveFit(np.array([offset_m, 0.0, 0.0, 0.0]), 20.0, (first_m, last_m), 0.01, 20.0, np.zeros((4, 4)), 1.0)


def hidden(strip: RoadStrip, first_m: float, last_m: float, rgb: tuple[int, int, int] = (200, 30, 30)) -> RoadStrip:
    """The strip with a vehicle on it from `first_m` to `last_m`: other colours there, and no road."""
    rows = (strip.grid.x_m > first_m) & (strip.grid.x_m < last_m)
    colors, on_road = strip.rgb.copy(), strip.on_road.copy()
    colors[rows] = rgb
    on_road[rows] = False
    return replace(strip, rgb=colors, on_road=on_road)
