from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets.evaluation.ego_state import EgoState
from lanepaint_assets.evaluation.lane_course import LaneCourse, estimate_course
from lanepaint_assets.evaluation.lane_follow import (
    BRAKING_MPS2,
    MAX_LATERAL_MPS2,
    RETURN_LENGTH_M,
    RETURN_RATE_1PS,
    LaneFollowDriver,
    follow,
    lane_boundaries,
)
from lanepaint_assets.evaluation.metrics import accuracy, divergence
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole, RoadView
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, LEFT, camera, circle_drive, moment_of, numbered_frames

Float = NDArray[np.float64]
SEEDS = (1, 2, 3, 4, 5, 6)
MANY_SEEDS = tuple(range(300))
NAN = float("nan")


def line(
    role: LineRole,
    y_m: float,
    curvature_1pm: float = 0.0,
    heading_rad: float = 0.0,
    seen_to_m: float = 45.0,
    confidence: float = 0.9,
) -> LaneLine:
    """A boundary `y_m` to the left at x = 0, bending as a parabola."""
    coefficients = np.array([y_m, np.tan(heading_rad), curvature_1pm / 2, 0.0])
    polyline = np.zeros((2, 2))
    return LaneLine(role, coefficients, (6.0, seen_to_m), polyline, UNKNOWN_STYLE, confidence, 0.0, 0.15, NAN, NAN, NAN)


def lane(
    centre_m: float = 0.0, width_m: float = 3.6, curvature_1pm: float = 0.0, **kwargs: float
) -> tuple[LaneLine, ...]:
    return (
        line("ego_left", centre_m + width_m / 2, curvature_1pm, **kwargs),
        line("ego_right", centre_m - width_m / 2, curvature_1pm, **kwargs),
    )


@dataclass
class KnownLanes:
    """An inspector that answers with the lines that the test painted, and remembers what it was shown."""

    lines: tuple[LaneLine, ...]
    reason: str | None = None
    views: list[RoadView] = field(default_factory=list)
    name: str = "known"
    version: str = "1"

    def inspect(self, view: RoadView) -> LaneInspection:
        self.views.append(view)
        assert view.camera is not None
        return LaneInspection(self.lines, UNKNOWN_STYLE, 0.9, view.camera, self.reason)

    def first_caption(self, instruction: str, wanted: object, frame: object) -> str:
        raise NotImplementedError

    def judge(self, *about: object) -> object:
        raise NotImplementedError

    def release(self) -> None: ...


def state_of(speed_mps: float = 12.0, curvature_1pm: float = 0.0) -> EgoState:
    return EgoState(speed_mps, 0.04 * speed_mps, 0.0, speed_mps * curvature_1pm, 0.003)


def course_of(lines: tuple[LaneLine, ...], state: EgoState | None = None) -> LaneCourse:
    seen = lane_boundaries(lines)
    assert seen is not None
    return estimate_course(seen.left, seen.right, state or state_of())


def drive(lines: tuple[LaneLine, ...], moment: DriverInput | None = None, seeds: tuple[int, ...] = SEEDS) -> Float:
    return (
        LaneFollowDriver(inspector=KnownLanes(lines)).predict(moment or moment_of(circle_drive()), seeds).trajectories_m
    )


def test_in_the_middle_of_a_straight_lane_it_goes_straight_on() -> None:
    paths = drive(lane(), seeds=MANY_SEEDS)
    assert paths.shape == (300, 64, 3)
    # Standard error of the mean of 300 samples along the way: 3.1 m / 17; across it, the course beyond 45 m is open.
    np.testing.assert_allclose(paths[:, -1, 0].mean(), 76.8, atol=0.6)
    np.testing.assert_allclose(paths[:, :30, 1].mean(axis=0), 0.0, atol=0.1)
    across = paths[:, -1, 1]
    assert abs(across.mean()) < 3 * across.std() / np.sqrt(300)


@pytest.mark.parametrize("shift_m", [0.5, -0.5])
@pytest.mark.parametrize("curvature", [0.0, 0.008, -0.008])
def test_a_lane_painted_half_a_metre_aside_moves_the_path_the_same_way(shift_m: float, curvature: float) -> None:
    moment = moment_of(circle_drive(12.0, curvature))
    original = drive(lane(curvature_1pm=curvature), moment)
    shifted = drive(lane(shift_m, curvature_1pm=curvature), moment)
    shift = divergence(original, shifted, None).lateral_at(3.0) * np.sign(shift_m)
    assert 0.3 <= shift <= 0.6


@settings(deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(-0.08, 0.08), st.floats(-0.01, 0.01), st.floats(1, 30))
def test_a_path_starts_where_the_vehicle_is_and_ends_in_the_lane(
    centre_m: float, heading: float, curvature: float, speed: float
) -> None:
    course = course_of(lane(centre_m, curvature_1pm=curvature, heading_rad=heading), state_of(speed, curvature))
    path = follow(course, speed)[:, :2]
    # After 0.1 s it has gone its speed straight on, to within what braking and the first correction change.
    np.testing.assert_allclose(path[0], [speed * 0.1, 0.0], atol=0.05 + 0.015 * speed)
    steps = np.diff(path, axis=0)
    turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
    assert np.abs(turns).max() < 0.35
    points, _ = course.at(np.linspace(-5.0, 300.0, 3000))
    to_lane = np.linalg.norm(path[-1] - points, axis=1).min()
    # What is left after 6.4 s of an offset and of a lateral speed, both critically damped; 6 cm for the polyline.
    decay = min(RETURN_RATE_1PS, speed / RETURN_LENGTH_M) * 6.4
    left_over = (abs(centre_m) * (1 + decay) + 6.4 * speed * abs(heading)) * np.exp(-decay)
    assert to_lane < 0.06 + left_over


def test_a_curve_seen_only_near_is_followed_beyond() -> None:
    moment = moment_of(circle_drive(10.0, 0.01))
    truth = 100.0 * np.stack([np.sin(0.01 * np.arange(1, 65)), 1 - np.cos(0.01 * np.arange(1, 65))], axis=1)
    truth = np.column_stack([truth, np.zeros(64)])
    following = accuracy(drive(lane(curvature_1pm=0.01, seen_to_m=30.0), moment), truth).min_ade_m
    straight = accuracy(ConstantVelocityDriver().predict(moment, SEEDS).trajectories_m, truth).min_ade_m
    assert following is not None
    assert straight is not None
    assert following < 1.0
    assert following < straight / 4


def test_speed_is_given_up_ahead_of_a_bend_that_is_too_tight_for_it() -> None:
    straight = course_of(lane(), state_of(16.0))
    bends = np.where(np.arange(straight.curvature_1pm.size) < 12, 0.0, 0.03)
    path = follow(replace(straight, curvature_1pm=bends), 16.0)
    speeds = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) / 0.1
    assert speeds[0] == pytest.approx(16.0, abs=0.2)
    assert (np.diff(speeds) >= -0.1 * BRAKING_MPS2 - 0.05).all()
    assert speeds[-1] ** 2 * 0.03 == pytest.approx(MAX_LATERAL_MPS2, rel=0.05)


def test_one_boundary_is_enough_and_is_said_to_be() -> None:
    output = LaneFollowDriver(inspector=KnownLanes(lane()[:1])).predict(moment_of(circle_drive()), MANY_SEEDS)
    assert output.note == "only the left boundary seen, a lane of 3.5 m assumed"
    assert output.reasoning[0].startswith("one lane boundary seen, ")
    np.testing.assert_allclose(output.trajectories_m[:, 20:35, 1].mean(axis=0), 0.05, atol=0.2)


def test_boundaries_of_two_lanes_are_not_taken_for_one() -> None:
    wide = (line("ego_left", 1.8, confidence=0.9), line("ego_right", -5.4, confidence=0.5))
    seen = lane_boundaries(wide)
    assert seen is not None
    assert seen.left is wide[0]
    assert seen.right is None
    assert seen.note is not None
    assert "7.2 m apart" in seen.note
    assert course_of(wide).offset_m == pytest.approx(1.8 - 1.75, abs=0.03)


def test_a_lane_too_wide_for_a_calibrated_camera_may_be_the_fault_of_an_uncalibrated_one() -> None:
    wide = lane(width_m=5.0)
    calibrated, uncalibrated = lane_boundaries(wide), lane_boundaries(wide, is_calibrated=False)
    assert calibrated is not None
    assert calibrated.note is not None
    assert uncalibrated is not None
    assert uncalibrated.note is None
    course = estimate_course(uncalibrated.left, uncalibrated.right, state_of(), is_calibrated=False)
    assert course.half_width_m == pytest.approx(2.5, abs=0.01)


def test_of_boundaries_that_part_the_one_along_the_vehicle_is_followed() -> None:
    parting = (line("ego_left", 1.8, heading_rad=0.08), line("ego_right", -1.8, heading_rad=0.002))
    seen = lane_boundaries(parting)
    assert seen is not None
    assert seen.note is not None
    assert "4.4 m and then 5.6 m apart" in seen.note
    assert (seen.left, seen.right) == (None, parting[1])


def test_the_boundary_seen_further_leads_beyond_the_other() -> None:
    # The right boundary goes straight on where it is no longer seen: nothing of that may be read.
    short_right = (line("ego_left", 1.8, 0.01, seen_to_m=50.0), line("ego_right", -1.8, 0.0095, seen_to_m=20.0))
    point, heading = course_of(short_right, state_of(12.0, 0.01)).at(np.array([50.0]))
    # The left boundary, y = 1.8 + 0.005 x^2, and 1.8 m to the right of it across the lane.
    x = point[0, 0] - 1.8 * np.sin(heading[0])
    assert point[0, 1] + 1.8 * np.cos(heading[0]) == pytest.approx(1.8 + 0.005 * x**2, abs=0.15)


def test_without_a_lane_it_keeps_the_curvature_of_the_history_and_says_why() -> None:
    moment = moment_of(circle_drive(10.0, 0.01))
    driver = LaneFollowDriver(inspector=KnownLanes((), "the road is too dark"))
    output = driver.predict(moment, MANY_SEEDS)
    assert output.note is not None
    assert "the road is too dark" in output.note
    assert "no lane followed" in output.reasoning[0]
    assert set(output.decisions or ()) == {"go on as before"}
    expected = 100.0 * (1 - np.cos(0.64))
    np.testing.assert_allclose(output.trajectories_m[:, -1, 1].mean(), expected, rtol=0.05)


def test_a_line_that_is_hardly_there_is_not_followed() -> None:
    assert lane_boundaries((line("ego_left", 1.8, confidence=0.1), line("other", -1.8))) is None


@settings(deadline=None, max_examples=20)
@given(st.floats(-1, 1), st.floats(-0.01, 0.01))
def test_the_same_frames_and_seeds_give_the_same_bits(centre_m: float, curvature: float) -> None:
    lines = lane(centre_m, curvature_1pm=curvature)
    np.testing.assert_array_equal(drive(lines), drive(lines))
    np.testing.assert_array_equal(drive(lines)[::-1], drive(lines, seeds=SEEDS[::-1]))


def test_a_less_certain_lane_spreads_the_samples_more() -> None:
    sure, unsure = (drive(lane(confidence=c), seeds=MANY_SEEDS) for c in (1.0, 0.5))
    # Within what was seen; beyond it, both know no more than what roads are like.
    assert unsure[:, 25, 1].std() > 1.3 * sure[:, 25, 1].std()


def test_a_lane_seen_further_spreads_the_samples_less() -> None:
    near, far = (drive(lane(seen_to_m=m), seeds=MANY_SEEDS) for m in (20.0, 45.0))
    assert far[:, 45, 1].std() < 0.5 * near[:, 45, 1].std()


def test_the_reasoning_says_what_was_measured() -> None:
    output = LaneFollowDriver(inspector=KnownLanes(lane(0.2))).predict(moment_of(circle_drive(12.0)), SEEDS)
    assert output.note is None
    assert all(text.startswith("lane 3.6 m wide, 0.2 m right of centre, following at ") for text in output.reasoning)
    assert set(output.decisions or ()) == {"follow the lane"}


def test_it_looks_at_its_own_camera_at_t0_with_the_history_as_ego_motion() -> None:
    moment = moment_of(circle_drive(12.0, 0.01))
    moment = replace(
        moment,
        frames={LEFT: numbered_frames(4, offset=50), FRONT: numbered_frames(4)},
        cameras={LEFT: camera(), FRONT: camera()},
    )
    inspector = KnownLanes(lane())
    LaneFollowDriver(inspector=inspector).predict(moment, SEEDS)
    (view,) = inspector.views
    assert view.target_index == 3
    np.testing.assert_array_equal(view.frames, numbered_frames(4))
    assert view.ego is not None
    positions, _ = view.ego.relative(view.timestamps_us, int(view.timestamps_us[-1]))
    np.testing.assert_allclose(positions[:, 0], [-4.5, -3.0, -1.5, 0.0], atol=0.01)


def test_without_its_camera_it_follows_the_history_and_says_so() -> None:
    moment = moment_of(circle_drive(12.0))
    blind = replace(moment, frames={LEFT: numbered_frames(4)}, cameras={LEFT: camera()})
    output = LaneFollowDriver(inspector=KnownLanes(lane())).predict(blind, SEEDS)
    assert output.note is not None
    assert "no frame of a camera" in output.note


def test_a_standing_vehicle_stays_where_it_is() -> None:
    np.testing.assert_array_equal(drive(lane(0.5), moment_of(circle_drive(0.0))), 0.0)
