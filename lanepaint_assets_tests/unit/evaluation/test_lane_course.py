"""The lane's course is read from the lines where they were seen, and says how little is known beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.evaluation.ego_state import EgoState
from lanepaint_assets.evaluation.lane_course import PIECE_M, LaneCourse, estimate_course
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE
from lanepaint_assets.lanes.inspector import LaneLine

Float = NDArray[np.float64]
NAN = float("nan")


def arc_line(offset_m: float, curvature_1pm: float, seen_to_m: float = 45.0) -> LaneLine:
    """A line `offset_m` left of a circle through the rig's origin along rig x, as the cubic that fits it best."""
    x = np.linspace(5.0, seen_to_m, 80)
    if abs(curvature_1pm) > 1e-6:
        radius = 1.0 / curvature_1pm
        y = radius - np.sign(radius) * np.sqrt((radius - offset_m) ** 2 - x**2)
    else:
        y = np.full(x.size, offset_m)
    cubic = np.polynomial.polynomial.polyfit(x, y, 3).astype(np.float64)
    return LaneLine("ego_left", cubic, (5.0, seen_to_m), np.zeros((2, 2)), UNKNOWN_STYLE, 0.9, 0.0, 0.15, NAN, NAN, NAN)


def state(speed_mps: float = 15.0, curvature_1pm: float = 0.0) -> EgoState:
    return EgoState(speed_mps, 0.5, 0.0, speed_mps * curvature_1pm, 0.003)


def spread_m(course: LaneCourse, arc_m: float) -> float:
    """Standard deviation across the course of where it may be."""
    draws = np.random.default_rng(0).standard_normal((300, len(course.factor)))
    points = np.array([course.sample(draw).at(np.array([arc_m]))[0][0] for draw in draws])
    _, heading = course.at(np.array([arc_m]))
    return float((points @ np.array([-np.sin(heading[0]), np.cos(heading[0])])).std())


@settings(deadline=None, max_examples=40)
@given(st.floats(-1.0, 1.0), st.floats(1.5, 2.0), st.floats(-0.005, 0.005))
def test_the_course_lies_in_the_middle_of_the_lines(centre_m: float, half_m: float, curvature: float) -> None:
    lines = arc_line(centre_m + half_m, curvature), arc_line(centre_m - half_m, curvature)
    course = estimate_course(*lines, state(curvature_1pm=curvature))
    arc = np.linspace(5.0, 40.0, 8)
    points, _ = course.at(arc)
    middle = arc_line(centre_m, curvature)
    np.testing.assert_allclose(points[:, 1], middle.lateral_m(points[:, 0]), atol=0.06)
    assert course.half_width_m == pytest.approx(half_m, abs=0.03)
    assert course.ego_offset_m == pytest.approx(-centre_m, abs=0.05)


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.01, 0.01), st.floats(-3.0, 60.0))
def test_it_goes_on_smoothly_where_the_lane_was_no_longer_seen(curvature: float, arc: float) -> None:
    course = estimate_course(arc_line(1.8, curvature, 20.0), None, state(8.0, curvature))
    points, headings = course.at(np.array([arc, arc + 0.01]))
    step = points[1] - points[0]
    assert np.linalg.norm(step) == pytest.approx(0.01, rel=0.02)
    assert np.arctan2(step[1], step[0]) == pytest.approx(headings[0], abs=0.02)


def test_what_a_cubic_does_beyond_its_range_is_not_read() -> None:
    seen = arc_line(1.8, 0.0, 30.0)
    # The same to 2 cm where it was seen, and 3 m off at 60 m.
    exploding = replace(seen, coefficients=seen.coefficients + np.array([0.0, 0.0, 0.0, 0.02 / 27e3 * 20]))
    calm, wild = (estimate_course(line, None, state()).at(np.array([60.0]))[0][0] for line in (seen, exploding))
    assert abs(exploding.lateral_m(np.array([60.0]))[0] - 1.8) > 3.0
    assert abs(wild[1] - calm[1]) < 2.0


def test_bends_far_ahead_are_open_and_straighten_out_on_the_mean() -> None:
    course = estimate_course(arc_line(1.8, 0.004), arc_line(-1.8, 0.004), state(15.0, 0.004))
    assert course.curvature_1pm[4] == pytest.approx(0.004, abs=4e-4)
    assert abs(course.curvature_1pm[-1]) < 2e-4
    assert spread_m(course, 20.0) < 0.1
    assert spread_m(course, 100.0) > 1.0


def test_without_lines_ahead_the_own_turning_tells_the_bend() -> None:
    near = arc_line(1.8, 0.0, 8.0)
    left, straight = (estimate_course(near, None, state(15.0, k)).curvature_1pm[2] for k in (0.004, 0.0))
    assert left > straight + 0.001


def test_a_measured_covariance_is_believed() -> None:
    line = arc_line(1.8, 0.0)
    sure = replace(line, covariance=np.diag([1e-6, 1e-10, 1e-14, 1e-18]))
    unsure = replace(line, covariance=np.diag([0.3**2, 1e-10, 1e-14, 1e-18]))
    spreads = [spread_m(estimate_course(left, None, state()), 5.0) for left in (sure, unsure)]
    assert spreads[1] > 1.3 * spreads[0]


def test_the_pieces_are_as_long_as_stated() -> None:
    course = estimate_course(arc_line(1.8, 0.003), None, state())
    points, _ = course.at(PIECE_M * np.arange(10.0))
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=0), axis=1), PIECE_M, rtol=1e-3)
