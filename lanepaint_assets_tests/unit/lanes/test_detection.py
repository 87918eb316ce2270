"""Lines of known place and style are measured within stated bounds, over a drive and in one picture."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lanepaint_assets.lanes.attributes import Color, Count, Pattern
from lanepaint_assets.lanes.detection import detect_lines
from lanepaint_assets.lanes.inspector import LaneLine, RoadView
from lanepaint_assets_tests.unit.lanes.flat_road import YELLOW, FlatRoad, PaintedLine, camera, drive, render

STRAIGHT = FlatRoad((PaintedLine(1.75, YELLOW, double=True), PaintedLine(-1.75, dash_m=3.0, period_m=9.0)))
LEFT_BEND = FlatRoad((PaintedLine(1.75, dash_m=6.0, period_m=18.0), PaintedLine(-1.75)), curvature=1 / 150)
RIGHT_BEND = FlatRoad(
    (PaintedLine(1.9, YELLOW, dash_m=3.05, period_m=12.19), PaintedLine(-1.6, double=True)), curvature=-1 / 120
)
SHADED = FlatRoad((PaintedLine(1.75, YELLOW), PaintedLine(-1.75, dash_m=3.05, period_m=12.19)), shadow=True)
DASHED_BEND = FlatRoad(
    (PaintedLine(1.75, dash_m=3.0, period_m=9.0), PaintedLine(-1.75, dash_m=3.0, period_m=9.0)), curvature=1 / 130
)
ROADS = {
    "straight": STRAIGHT,
    "left_bend": LEFT_BEND,
    "right_bend": RIGHT_BEND,
    "shaded": SHADED,
    "dashed_bend": DASHED_BEND,
}
FISHEYE = {"right_bend", "shaded"}


@cache
def _view(name: str) -> RoadView:
    road = ROADS[name]
    view = camera(fisheye=name in FISHEYE)
    ego = drive(20, 12.0, yaw_rate=12.0 * road.curvature)
    return RoadView(render(road, view, ego), ego.timestamps_us, 8, camera=view, ego=ego)


def _boundaries(view: RoadView) -> dict[str, LaneLine]:
    assert view.camera is not None
    return {line.role: line for line in detect_lines(view, view.camera, view.ego).lines}


@cache
def _driven(name: str) -> dict[str, LaneLine]:
    return _boundaries(_view(name))


@cache
def _pictured(name: str) -> dict[str, LaneLine]:
    whole = _view(name)
    one = replace(whole, frames=whole.frames[8:9], timestamps_us=whole.timestamps_us[8:9], target_index=0, ego=None)
    return _boundaries(one)


@pytest.mark.parametrize("name", ROADS)
def test_both_boundaries_lie_where_they_were_painted(name: str) -> None:
    road, lines = ROADS[name], _driven(name)
    # The road has constant curvature and the vehicle follows it: its lines look the same from every frame.
    x = np.array([6.0, 12.0, 20.0, 28.0])
    for role, painted in zip(("ego_left", "ego_right"), road.lines, strict=True):
        true = road.middle_y(x, painted.offset_m)
        assert np.abs(lines[role].lateral_m(x) - true) == pytest.approx(0.0, abs=0.12)
        assert np.abs(lines[role].lateral_m(x) - true)[:2] == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize("name", ROADS)
def test_one_picture_is_enough_for_the_course(name: str) -> None:
    road, lines = ROADS[name], _pictured(name)
    x = np.array([8.0, 15.0, 25.0])
    for role, painted in zip(("ego_left", "ego_right"), road.lines, strict=True):
        assert np.abs(lines[role].lateral_m(x) - road.middle_y(x, painted.offset_m)) == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("name", ROADS)
def test_a_course_is_off_by_no_more_than_a_few_of_its_own_standard_deviations(name: str) -> None:
    x = np.array([8.0, 15.0, 25.0])
    powers = np.vander(x, 4, increasing=True)
    for role, painted in zip(("ego_left", "ego_right"), ROADS[name].lines, strict=True):
        line = _driven(name)[role]
        assert line.covariance is not None
        std = np.sqrt(np.diag(powers @ line.covariance @ powers.T))
        assert (std < 0.2).all()
        # A cell of the strip is 5 cm wide, which no scatter shows.
        assert (np.abs(line.lateral_m(x) - ROADS[name].middle_y(x, painted.offset_m)) < 4.0 * std + 0.025).all()


@pytest.mark.parametrize("name", ROADS)
def test_count_color_and_pattern_are_those_painted(name: str) -> None:
    for role, painted in zip(("ego_left", "ego_right"), ROADS[name].lines, strict=True):
        style = _driven(name)[role].style
        assert style.count == (Count.DOUBLE if painted.double else Count.SINGLE)
        assert style.color == (Color.YELLOW if painted.color == YELLOW else Color.WHITE)
        assert style.pattern == (Pattern.SOLID if painted.dash_m is None else Pattern.DASHED)


@pytest.mark.parametrize("name", ROADS)
def test_one_picture_never_gives_a_wrong_attribute(name: str) -> None:
    for role, painted in zip(("ego_left", "ego_right"), ROADS[name].lines, strict=True):
        style = _pictured(name)[role].style
        assert style.count in (Count.DOUBLE if painted.double else Count.SINGLE, Count.UNKNOWN)
        assert style.color in (Color.YELLOW if painted.color == YELLOW else Color.WHITE, Color.UNKNOWN)
        assert style.pattern in (Pattern.SOLID if painted.dash_m is None else Pattern.DASHED, Pattern.UNKNOWN)


@pytest.mark.parametrize(
    ("name", "role"), [("straight", "ego_right"), ("left_bend", "ego_left"), ("shaded", "ego_right")]
)
def test_dash_and_period_are_measured_in_metres(name: str, role: str) -> None:
    painted = ROADS[name].lines[0 if role == "ego_left" else 1]
    line = _driven(name)[role]
    assert line.period_m == pytest.approx(painted.period_m, abs=0.5)
    assert line.dash_m == pytest.approx(painted.dash_m, abs=0.7)


def test_a_dash_starts_where_the_phase_says() -> None:
    line = _driven("straight")["ego_right"]
    view = _view("straight")
    assert view.ego is not None
    world = view.ego.positions_m[view.target_index, 0] + line.phase_m
    away = world % 9.0
    assert min(away, 9.0 - away) < 0.5


def test_stroke_width_is_measured_in_metres() -> None:
    assert _driven("left_bend")["ego_right"].width_m == pytest.approx(0.12, abs=0.06)


def test_polylines_lie_on_the_paint_in_the_picture() -> None:
    view = _view("straight")
    assert view.camera is not None
    line = _driven("straight")["ego_left"]
    x = np.linspace(9.0, 20.0, 12)
    true, _ = view.camera.project(np.column_stack([x, np.full_like(x, 1.75), np.zeros_like(x)]))
    far_to_near = line.polyline_px[::-1]
    assert np.all(np.diff(far_to_near[:, 1]) > 0)
    assert np.interp(true[:, 1], far_to_near[:, 1], far_to_near[:, 0]) == pytest.approx(true[:, 0], abs=4.0)


def _beside_the_mask(half_width_m: float) -> tuple[LaneLine, ...]:
    """Lines of a road of three, with a mask that holds the own lane only; the third lies 5 m to the left."""
    road = FlatRoad((PaintedLine(1.75), PaintedLine(-1.75), PaintedLine(5.0)), half_width_m=half_width_m)
    view, ego = camera(), drive(1, 10.0)
    ys, xs = np.mgrid[:360, :640]
    ground, below = view.ground(np.column_stack([xs.ravel(), ys.ravel()]).astype(np.float64))
    mask = (below & (np.abs(ground[:, 1]) < 3.0)).reshape(1, 360, 640)
    seen = RoadView(render(road, view, ego), ego.timestamps_us, 0, camera=view, road_masks=mask)
    return detect_lines(seen, view, None).lines


def test_a_line_beyond_the_mask_is_found_where_the_pavement_goes_on() -> None:
    lines = _beside_the_mask(half_width_m=7.0)
    assert {round(float(line.lateral_m(np.array([10.0]))[0])) for line in lines} == {5, 2, -2}


def test_a_streak_on_the_grass_beyond_the_mask_is_no_line() -> None:
    lines = _beside_the_mask(half_width_m=3.5)
    assert {line.role for line in lines} == {"ego_left", "ego_right"}


def test_asphalt_without_paint_has_no_lines() -> None:
    view, ego = camera(), drive(1, 10.0)
    frames = render(FlatRoad((), half_width_m=40.0), view, ego)
    assert detect_lines(RoadView(frames, ego.timestamps_us, 0), view, None).lines == ()


def test_a_kerb_is_a_step_and_not_a_line() -> None:
    class Kerb(PaintedLine):
        def covers(self, along, across):  # type: ignore[no-untyped-def]
            return across > self.offset_m

    view, ego = camera(), drive(1, 10.0)
    frames = render(FlatRoad((Kerb(2.0, (0.3, 0.3, 0.3)),), half_width_m=40.0), view, ego)
    assert detect_lines(RoadView(frames, ego.timestamps_us, 0), view, None).lines == ()
