"""What an edit painted, read by comparing two pictures of the same flat road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lanepaint_assets.lanes.attributes import Color
from lanepaint_assets.lanes.curves import CurveFit, refine_line, row_trust
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.lanes.new_paint import changed_cells, read_new_paint
from lanepaint_assets.lanes.paint_filter import find_paint
from lanepaint_assets.lanes.strip import RoadStrip, accumulate_strip
from lanepaint_assets_tests.unit.lanes.flat_road import WHITE, YELLOW, FlatRoad, PaintedLine, camera, drive, render

LEFT = 1.75


def strip(*lines: PaintedLine, shadow: bool = False) -> RoadStrip:
    """The ground of one picture."""
    view, ego = camera(), drive(1, 14.0)
    picture = render(FlatRoad(lines, shadow=shadow), view, ego)
    return accumulate_strip(RoadView(picture, ego.timestamps_us, 0, camera=view, ego=ego), view, ego)


def course(before: RoadStrip) -> CurveFit:
    """The solid line's."""
    fit = refine_line(
        find_paint(before).evidence, before.grid, row_trust(before.look_m), np.array([LEFT, 0.0, 0.0, 0.0]), 0.0
    )
    assert fit is not None
    return replace(fit, x_range_m=(4.0, 25.0))


def dashes(color: tuple[float, float, float]) -> PaintedLine:
    return PaintedLine(LEFT, color, dash_m=3.0, period_m=12.0)


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "color"),
    [(WHITE, YELLOW, Color.YELLOW), (YELLOW, WHITE, Color.WHITE), (YELLOW, (0.50, 0.32, 0.05), Color.YELLOW)],
)
def test_the_colour_of_few_new_dashes_is_read_whatever_lay_there_before(
    old: tuple[float, float, float], new: tuple[float, float, float], color: Color, shadow: bool
):
    before, after = strip(PaintedLine(LEFT, old), shadow=shadow), strip(dashes(new), shadow=shadow)
    found = read_new_paint(before, after, find_paint(after).evidence, course(before))
    assert found.color is color
    assert found.color_confidence > 0.5
    assert 2.0 < found.length_m < 9.0


def test_a_road_that_was_not_changed_shows_no_new_paint():
    ground = strip(PaintedLine(LEFT))
    found = read_new_paint(ground, ground, find_paint(ground).evidence, course(ground))
    assert not changed_cells(ground, ground).any()
    assert (found.color, found.color_confidence, found.length_m) == (Color.UNKNOWN, 0.0, 0.0)


def test_old_paint_that_is_only_darker_now_is_not_new():
    before = strip(PaintedLine(LEFT))
    after = replace(before, rgb=(0.75 * before.rgb).astype(np.float32))
    assert changed_cells(before, after).any()
    assert read_new_paint(before, after, find_paint(after).evidence, course(before)).length_m == 0.0
