from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.evaluation.off_lane import (
    EgoLane,
    LanePiece,
    NoLaneError,
    measure_ego_lane,
    off_lane,
    outside_share,
)
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, RoadView
from lanepaint_assets.lanes.measured import MeasuredLaneInspector
from lanepaint_assets_tests.unit.evaluation.drives import camera, circle_drive, numbered_frames

TIMES_S = 0.1 * np.arange(1, 65)
PIECE = LanePiece(0.0, 0.0, 0.0, (1.8, 0.0, 0.002, 0.0), (-1.8, 0.0, 0.002, 0.0), 0.0, 40.0)
LANE = EgoLane((PIECE,), 40.0, "drawn 1")
# 12 m/s for 6.4 s in a bend of 200 m radius, looked at four times a second, two seconds before t0 too.
EGO = circle_drive(12.0, 0.005, duration_s=14.0)
T0_US = 3_000_000
FRAMES_US = np.arange(1_000_000, 9_400_001, 250_000, dtype=np.int64)


def plan(speed_mps: float, left_m: float, drift: float = 0.0) -> NDArray[np.float64]:
    """(1, 64, 3): along the lane of `LANE`, `left_m` from its middle and drifting by metre."""
    x = speed_mps * TIMES_S
    return np.column_stack([x, 0.002 * x**2 + left_m + drift * x, 0 * x])[None]


def line(role: str, c0: float, to_m: float = 45.0) -> LaneLine:
    return LaneLine(
        role=role,  # type: ignore[arg-type]
        coefficients=np.array([c0, 0.0, 0.0, 0.0]),
        x_range_m=(-5.0, to_m),
        polyline_px=np.zeros((0, 2)),
        style=LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID),
        confidence=0.9,
        style_confidence=0.9,
        width_m=0.12,
        dash_m=float("nan"),
        period_m=float("nan"),
        phase_m=float("nan"),
    )


class DrawnLines(MeasuredLaneInspector):
    """Sees the lines that it is told, or those that it is told for the frame it is asked about."""

    name, version = "drawn", "1"

    def __init__(self, *lines: LaneLine, by_frame: Callable[[int], tuple[LaneLine, ...]] | None = None) -> None:
        super().__init__()
        self._lines = by_frame or (lambda _: lines)

    def inspect(self, view: RoadView) -> LaneInspection:
        assert view.camera is not None
        lines = self._lines(int(view.timestamps_us[view.target_index]))
        return LaneInspection(lines, LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID), 0.9, view.camera, "fog")


def view(quality: str = "calibrated") -> RoadView:
    known = replace(camera(), quality=quality)  # type: ignore[arg-type]
    at_t0 = int(np.searchsorted(FRAMES_US, T0_US))
    return RoadView(numbered_frames(len(FRAMES_US)), FRAMES_US, at_t0, known, EGO)


def bend(left_m: float = 1.75, right_m: float = -1.75) -> tuple[LaneLine, ...]:
    """The lane's boundaries seen from anywhere on the circle that is driven, as parabolas."""
    both = zip(("ego_left", "ego_right"), (left_m, right_m), strict=True)
    return tuple(
        replace(line(role, aside), coefficients=np.array([aside, 0.0, 0.005 / 2 / (1 - 0.005 * aside), 0.0]))
        for role, aside in both
    )


def test_a_plan_inside_its_lane_is_off_it_nowhere_and_one_beside_it_everywhere() -> None:
    found = off_lane(plan(12.0, 0.5), plan(12.0, -2.5), plan(12.0, 0.0)[0], LANE)
    assert (found.original_share, found.edited_share, found.ground_truth_share) == (0.0, 1.0, 0.0)
    assert (found.seen_to_m, found.lane_source) == (40.0, "drawn 1")


@settings(deadline=None)
@given(st.floats(5, 30), st.floats(-4, 4), st.floats(-0.2, 0.2))
def test_the_share_is_that_of_the_waypoints_where_the_lane_was_seen(speed: float, left: float, drift: float) -> None:
    waypoints = plan(speed, left, drift)[0]
    there = [p for p in waypoints if 0.0 <= p[0] <= 40.0]
    expected = sum(abs(p[1] - 0.002 * p[0] ** 2) > 1.8 for p in there) / len(there)
    assert outside_share(waypoints[None], LANE) == pytest.approx(expected, abs=1.5 / len(there))


def test_what_lies_beyond_the_boundaries_does_not_count() -> None:
    """At 12 m/s the plan leaves the lane at 60 m, behind the 40 m that were seen."""
    waypoints = plan(12.0, 0.0)
    waypoints[0, waypoints[0, :, 0] > 60, 1] += 30.0
    assert outside_share(waypoints, LANE) == 0.0


def test_an_arm_that_never_reaches_the_lane_has_no_share_and_says_so() -> None:
    ahead = replace(LANE, pieces=(replace(PIECE, from_m=6.0),))
    with pytest.raises(NoLaneError, match="no waypoint of the edited arm lies on the 40 m of road"):
        off_lane(plan(12.0, 0.0), plan(0.0, 0.0), None, ahead)


def test_the_lane_is_what_both_boundaries_were_seen_of() -> None:
    lane = measure_ego_lane(DrawnLines(line("ego_left", 1.7, 24.0), line("ego_right", -1.8, 21.0)), view(), T0_US)
    (piece,) = lane.pieces
    assert (piece.left[0], piece.right[0], piece.from_m, piece.to_m) == (1.7, -1.8, -5.0, 21.0)
    assert (lane.seen_to_m, lane.source) == (21.0, "drawn 1")


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(8, 12))
def test_looks_from_further_on_carry_the_lane_along_the_whole_plan(aside_m: float, speed: float) -> None:
    """Radius and bearing say where a plan lies in a circular lane; parabolas leave the circle by 8 cm in 20 m."""
    lane = measure_ego_lane(DrawnLines(by_frame=lambda _: bend()), view(), T0_US)
    assert len(lane.pieces) == 3
    assert lane.seen_to_m > 6.4 * 12
    angle = speed * TIMES_S / 200
    waypoints = np.column_stack([np.sin(angle), -np.cos(angle), 0 * angle]) * (200 - aside_m) + (0.0, 200.0, 0.0)
    if abs(abs(aside_m) - 1.75) > 0.3:
        assert outside_share(waypoints[None], lane) == float(abs(aside_m) > 1.75)


def test_the_lane_ends_where_the_vehicle_leaves_it_and_goes_on_past_a_look_that_saw_too_little() -> None:
    changed = measure_ego_lane(
        DrawnLines(by_frame=lambda time_us: bend() if time_us < 4_000_000 else bend(1.75 - 3.5, -1.75 - 3.5)),
        view(),
        T0_US,
    )
    assert len(changed.pieces) == 1
    # 30 m on from t0 is 2.5 s later; one boundary is hidden there, not 37 m on.
    hidden = measure_ego_lane(
        DrawnLines(by_frame=lambda time_us: bend()[:1] if 5_400_000 < time_us < 5_800_000 else bend()), view(), T0_US
    )
    assert len(hidden.pieces) == 3
    first, second, *_ = hidden.pieces
    assert np.hypot(second.x_m - first.x_m, second.y_m - first.y_m) == pytest.approx(38.5, abs=1.6)


@pytest.mark.parametrize(
    ("lines", "quality", "reason"),
    [
        ((line("ego_left", 1.7),), "calibrated", "only the left boundary"),
        ((), "calibrated", "no boundary of the ego lane was measured .fog."),
        ((line("ego_left", 1.7, 4.0), line("ego_right", -1.7)), "calibrated", "over 9 m only"),
        ((line("ego_left", 1.7), line("ego_right", -1.7)), "assumed", "assumed, not calibrated"),
        ((line("ego_left", 3.7), line("ego_right", -3.7)), "calibrated", "boundary of the ego lane is sure"),
    ],
)
def test_where_there_is_no_lane_the_reason_is_given(lines: tuple[LaneLine, ...], quality: str, reason: str) -> None:
    with pytest.raises(NoLaneError, match=reason):
        measure_ego_lane(DrawnLines(*lines), view(quality), T0_US)
