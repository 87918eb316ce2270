from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.ego_state import distance_m, measure_ego_state, turning_path
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, circle_drive, moment_of

SEEDS = (11, 2**63 + 5, 7, 8, 9, 10)


@settings(deadline=None)
@given(st.floats(1, 35), st.floats(-0.03, 0.03))
def test_speed_and_yaw_rate_of_a_circle_are_measured(speed: float, curvature: float) -> None:
    moment = moment_of(circle_drive(speed, curvature))
    state = measure_ego_state(moment.history_xyz_m, moment.history_rotation)
    assert state.speed_mps == pytest.approx(speed, rel=5e-3)
    assert state.curvature_1pm == pytest.approx(curvature, abs=1e-4)


def test_a_vehicle_in_reverse_has_negative_speed() -> None:
    moment = moment_of(circle_drive(-3.0))
    assert measure_ego_state(moment.history_xyz_m, moment.history_rotation).speed_mps == pytest.approx(-3.0)


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 30))
def test_a_turning_path_keeps_its_speed_and_turns_at_its_rate(yaw_rate: float, speed: float) -> None:
    times = 0.1 * np.arange(0, 65, dtype=np.float64)
    steps = np.diff(turning_path(speed, yaw_rate, times)[:, :2], axis=0)
    chord = speed * 0.1 * np.sinc(yaw_rate * 0.05 / np.pi)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), chord, atol=1e-9)
    if speed > 1:
        directions = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        np.testing.assert_allclose(np.diff(directions), yaw_rate * 0.1, atol=1e-6)


@settings(deadline=None)
@given(st.floats(0, 40), st.floats(-8, 4))
def test_an_acceleration_dies_out_and_a_braking_vehicle_never_goes_back(speed: float, acceleration: float) -> None:
    way = distance_m(speed, acceleration, 0.1 * np.arange(0, 65, dtype=np.float64))
    steps = np.diff(way)
    assert way[0] == 0.0
    assert (steps >= 0).all()
    # The speed tends to v + a * 1.5 s, or to a stop.
    assert steps[-1] / 0.1 == pytest.approx(max(speed + 1.5 * acceleration, 0.0), abs=0.03 * abs(acceleration) + 1e-9)


def test_it_goes_straight_on_at_the_present_speed() -> None:
    output = ConstantVelocityDriver().predict(moment_of(circle_drive(12.0)), tuple(range(300)))
    assert output.trajectories_m.shape == (300, 64, 3)
    assert len(output.reasoning) == 300
    end = output.trajectories_m[:, -1]
    # Four standard errors of the mean of 300 samples: 4 % of 76.8 m along the way, 0.74 m across it.
    assert end[:, 0].mean() == pytest.approx(76.8, abs=4 * 3.07 / 300**0.5)
    assert end[:, 1].mean() == pytest.approx(0.0, abs=4 * 0.74 / 300**0.5)
    assert end[:, 0].std() == pytest.approx(3.07, rel=0.15)


def test_the_same_seed_gives_the_same_sample_wherever_it_stands() -> None:
    driver, moment = ConstantVelocityDriver(), moment_of(circle_drive(12.0, 0.01))
    first = driver.predict(moment, SEEDS).trajectories_m
    np.testing.assert_array_equal(first, driver.predict(moment, SEEDS).trajectories_m)
    np.testing.assert_array_equal(first[::-1], driver.predict(moment, SEEDS[::-1]).trajectories_m)


def test_pictures_do_not_move_it() -> None:
    driver, ego = ConstantVelocityDriver(), circle_drive(9.0)
    noise = np.random.default_rng(0).integers(0, 256, (4, 36, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        driver.predict(moment_of(ego), SEEDS).trajectories_m,
        driver.predict(moment_of(ego, noise), SEEDS).trajectories_m,
    )
    assert driver.cameras == (FRONT,)


def test_a_standing_vehicle_stays_where_it_is() -> None:
    output = ConstantVelocityDriver().predict(moment_of(circle_drive(0.0)), SEEDS)
    np.testing.assert_array_equal(output.trajectories_m, 0.0)
