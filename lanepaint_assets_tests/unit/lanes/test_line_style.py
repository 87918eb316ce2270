"""Attributes of one line, read in strips whose paint is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.line_style import StyleMeasurement, measure_style
from lanepaint_assets.lanes.strip import RoadStrip
from lanepaint_assets_tests.unit.lanes.flat_road import WHITE, YELLOW, PaintedLine
from lanepaint_assets_tests.unit.lanes.painted_strip import hidden, painted_strip, straight_fit

CONCRETE = (0.36, 0.35, 0.32)
# Dash and period of the standards' lane lines, metres: US, German motorway, German rural, Austrian town.
DASHES_M = ((3.05, 12.19), (6.0, 18.0), (4.0, 12.0), (3.0, 6.0))


def _measured(strip: RoadStrip, offset_m: float = 0.0) -> StyleMeasurement:
    return measure_style(strip, straight_fit(offset_m))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("color", "word"), [(WHITE, Color.WHITE), (YELLOW, Color.YELLOW)])
@pytest.mark.parametrize("dash", [None, (3.05, 12.19)])
def test_every_style_is_read_as_painted(
    double: bool, color: tuple[float, float, float], word: Color, dash: tuple[float, float] | None
) -> None:
    line = PaintedLine(0.0, color, double, dash[0] if dash else None, dash[1] if dash else 12.0)
    measured = _measured(painted_strip(line))
    count = Count.DOUBLE if double else Count.SINGLE
    assert measured.style == LaneStyle(count, word, Pattern.DASHED if dash else Pattern.SOLID)
    assert measured.confidence > 0.5


def test_a_double_line_whose_one_stroke_is_mostly_worn_off_is_still_double() -> None:
    strip = painted_strip(PaintedLine(0.0, YELLOW, double=True))
    right = (strip.grid.y_m > -0.22) & (strip.grid.y_m < 0.0)
    worn = np.mod(strip.grid.x_m, 12.0) < 8.0
    rgb = strip.rgb.copy()
    rgb[np.ix_(worn, right)] = np.median(rgb[:, strip.grid.y_m > 1.0], axis=(0, 1))
    assert _measured(replace(strip, rgb=rgb)).style.count is Count.DOUBLE


@pytest.mark.parametrize(("dash", "period"), DASHES_M)
def test_dash_and_period_are_those_of_the_paint(dash: float, period: float) -> None:
    measured = _measured(painted_strip(PaintedLine(0.0, dash_m=dash, period_m=period), wear=0.2))
    assert measured.style.pattern is Pattern.DASHED
    assert measured.dash_m == pytest.approx(dash, abs=0.5)
    assert measured.period_m == pytest.approx(period, abs=0.3)
    # A dash starts at every multiple of the period.
    off = measured.phase_m % period
    assert min(off, period - off) < 0.5


@settings(max_examples=25, deadline=None)
@given(
    wear=st.floats(0.0, 0.45),
    dash=st.sampled_from([None, *DASHES_M]),
    start=st.floats(-9.0, 9.0),
    far_from_m=st.floats(5.0, 45.0),
    seed=st.integers(0, 99),
)
def test_wear_and_distance_make_no_pattern_wrong(
    wear: float, dash: tuple[float, float] | None, start: float, far_from_m: float, seed: int
) -> None:
    line = PaintedLine(0.0, dash_m=dash[0] if dash else None, period_m=dash[1] if dash else 12.0)
    strip = painted_strip(line, wear=wear, far_from_m=far_from_m, seed=seed)
    # Where the pictures begin moves against the dashes.
    strip = replace(strip, seen=strip.seen & (strip.grid.x_m[:, None] > start))
    pattern = _measured(strip).style.pattern
    assert pattern in (Pattern.UNKNOWN, Pattern.DASHED if dash else Pattern.SOLID)


@pytest.mark.parametrize("wear", [0.2, 0.45])
def test_a_worn_solid_line_seen_in_one_picture_is_solid(wear: float) -> None:
    strip = painted_strip(PaintedLine(0.0), wear=wear, far_from_m=5.0)
    strip = replace(strip, seen=strip.seen & (strip.grid.x_m[:, None] > 5.0))
    assert _measured(strip).style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)


def test_a_vehicle_on_the_line_is_no_gap_and_no_paint() -> None:
    strip = hidden(painted_strip(PaintedLine(0.0)), 12.0, 20.0)
    assert _measured(strip).style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)
    dashed = hidden(painted_strip(PaintedLine(0.0, dash_m=3.0, period_m=12.0)), 1.0, 6.0, (250, 250, 250))
    assert _measured(dashed).style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)


def test_one_dash_with_bare_ground_on_both_sides_is_dashed() -> None:
    strip = painted_strip(PaintedLine(0.0, dash_m=6.0, period_m=18.0))
    x = strip.grid.x_m[:, None]
    measured = _measured(replace(strip, seen=strip.seen & (x > -4.0) & (x < 12.0)))
    assert measured.style.pattern is Pattern.DASHED
    assert measured.dash_m == pytest.approx(6.0, abs=0.5)
    assert np.isnan(measured.period_m)


def test_paint_longer_than_any_dash_is_solid_though_part_of_it_is_bare() -> None:
    strip = painted_strip(PaintedLine(0.0))
    bare = painted_strip(PaintedLine(3.0))
    # As where the wheels of a turning lane wore the line off.
    worn_off = (strip.grid.x_m > 16.0) & (strip.grid.x_m < 32.0)
    colors = np.where(worn_off[:, None, None], bare.rgb, strip.rgb)
    assert _measured(replace(strip, rgb=colors)).style.pattern is Pattern.SOLID


def test_less_of_a_line_than_a_dash_is_long_has_no_pattern() -> None:
    strip = painted_strip(PaintedLine(0.0))
    x = strip.grid.x_m[:, None]
    measured = _measured(replace(strip, seen=strip.seen & (x > 5.0) & (x < 10.5)))
    assert measured.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.UNKNOWN)
    assert measured.pattern_confidence == 0.0


@pytest.mark.parametrize("shade", [(5.0, 12.0), (-18.0, 45.0)])
@pytest.mark.parametrize("line", [PaintedLine(0.0), PaintedLine(0.0, YELLOW, double=True)])
def test_shade_changes_nothing(shade: tuple[float, float], line: PaintedLine) -> None:
    assert _measured(painted_strip(line, shade=shade)).style == _measured(painted_strip(line)).style


@pytest.mark.parametrize("color", [WHITE, YELLOW])
@pytest.mark.parametrize("ground", [(0.05, 0.05, 0.052), (0.19, 0.185, 0.18), CONCRETE])
def test_a_color_is_right_or_unknown_on_every_ground(
    color: tuple[float, float, float], ground: tuple[float, float, float]
) -> None:
    said = _measured(painted_strip(PaintedLine(0.0, color), asphalt=ground, wear=0.2)).style.color
    assert said in (Color.UNKNOWN, Color.YELLOW if color == YELLOW else Color.WHITE)


@pytest.mark.parametrize("verge_m", [0.25, 0.35, 0.5])
def test_a_pale_verge_beside_an_edge_line_is_no_second_stroke(verge_m: float) -> None:
    measured = _measured(painted_strip(PaintedLine(0.0), verge_m=verge_m))
    assert measured.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)


@pytest.mark.parametrize("width_m", [0.10, 0.15, 0.30])
def test_the_stroke_width_is_measured(width_m: float) -> None:
    measured = _measured(painted_strip(PaintedLine(0.0, width_m=width_m)))
    assert measured.style.count is Count.SINGLE
    # The strip's cells are 0.05 m wide.
    assert measured.width_m == pytest.approx(width_m, abs=0.06)


def test_bare_ground_tells_nothing() -> None:
    measured = _measured(painted_strip(PaintedLine(3.0)))
    assert measured.style == UNKNOWN_STYLE
    assert measured.confidence == 0.0


def test_a_line_out_of_the_picture_tells_nothing() -> None:
    strip = painted_strip(PaintedLine(0.0))
    nowhere = np.zeros_like(strip.seen)
    measured = _measured(replace(strip, seen=nowhere, on_road=nowhere, look_m=np.full_like(strip.look_m, np.inf)))
    assert measured.style == UNKNOWN_STYLE
    assert np.isnan(measured.width_m)
