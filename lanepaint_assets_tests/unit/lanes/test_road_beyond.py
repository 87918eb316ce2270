"""Pavement goes on beyond a mask's end where the ground keeps the road's colour, and only as far as it touches it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lanepaint_assets.lanes.road_beyond import pavement_beyond
from lanepaint_assets.lanes.strip import RoadStrip
from lanepaint_assets_tests.unit.lanes.flat_road import PaintedLine
from lanepaint_assets_tests.unit.lanes.painted_strip import GRID, painted_strip

LINE = PaintedLine(0.0)


def _masked(strip: RoadStrip, first_m: float, last_m: float) -> RoadStrip:
    inside = (GRID.y_m > first_m) & (GRID.y_m < last_m)
    return replace(strip, on_road=np.broadcast_to(inside, strip.seen.shape).copy())


def _share(ground: np.ndarray, first_m: float, last_m: float) -> float:
    return float(ground[:, (GRID.y_m > first_m) & (GRID.y_m < last_m)].mean())


def test_pavement_in_the_sun_continues_a_mask_that_ends_at_a_shadow() -> None:
    strip = painted_strip(LINE)
    dark = strip.rgb.copy()
    dark[:, GRID.y_m < 1.0] *= 0.5
    ground = pavement_beyond(_masked(replace(strip, rgb=dark), -4.0, 1.0))
    assert _share(ground, 1.5, 4.0) > 0.99
    assert _share(ground, -4.0, 1.0) == 0.0


def test_grass_beside_the_mask_is_no_pavement() -> None:
    strip = painted_strip(LINE, verge_m=2.0)
    assert _share(pavement_beyond(_masked(strip, -1.0, 4.0)), -4.0, -2.5) < 0.01


def test_pavement_behind_a_strip_of_grass_is_another_road() -> None:
    strip = painted_strip(LINE)
    rgb = strip.rgb.copy()
    rgb[:, np.abs(GRID.y_m + 1.5) < 1.0] = (60.0, 95.0, 30.0)
    ground = pavement_beyond(_masked(replace(strip, rgb=rgb), 0.0, 4.0))
    assert _share(ground, -4.0, -2.75) == 0.0


def test_a_mask_of_a_few_cells_tells_no_colour() -> None:
    strip = painted_strip(LINE)
    few = np.zeros_like(strip.on_road)
    few[:20, :20] = True
    assert not pavement_beyond(replace(strip, on_road=few)).any()
