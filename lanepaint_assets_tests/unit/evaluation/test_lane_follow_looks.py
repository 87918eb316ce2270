"""The lane-following driver on pictures, with the inspector that it uses by default."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.evaluation.bridge import find_t0, ground_truth
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import DriverInput, DriverOutput
from lanepaint_assets.evaluation.lane_follow import LaneFollowDriver
from lanepaint_assets.evaluation.metrics import accuracy, divergence
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, circle_drive, grid_times, moment_of
from lanepaint_assets_tests.unit.evaluation.painted_roads import road_camera, road_pictures

SEEDS = tuple(range(16))
DRIVER = LaneFollowDriver()


@cache
def on_road(curvature: float, lane_centre_m: float = 0.0, painted: bool = True) -> DriverInput:
    ego = circle_drive(12.0, curvature)
    moment = moment_of(ego)
    pictures = road_pictures(ego, moment.frame_timestamps_us, curvature, lane_centre_m, painted=painted)
    return replace(moment, frames={FRONT: pictures}, cameras={FRONT: road_camera()})


def truth_of(curvature: float) -> NDArray[np.float64]:
    ego = circle_drive(12.0, curvature)
    truth = ground_truth(ego, find_t0(grid_times(), ego.span_us))
    assert truth is not None
    return truth


@pytest.mark.parametrize("curvature", [0.0, 0.006, -0.01])
def test_moving_the_painted_lane_moves_the_path_the_same_way_by_as_much(curvature: float) -> None:
    original = DRIVER.predict(on_road(curvature), SEEDS)
    for shift_m in (0.5, -0.5):
        edited = DRIVER.predict(on_road(curvature, shift_m), SEEDS)
        shift = divergence(original.trajectories_m, edited.trajectories_m, truth_of(curvature)).lateral_at(3.0)
        assert 0.3 <= shift * np.sign(shift_m) <= 0.6
        side = "right" if shift_m > 0 else "left"
        assert all(f"0.5 m {side} of centre" in text for text in edited.reasoning)


@pytest.mark.parametrize("curvature", [0.006, -0.01])
def test_on_a_curve_looking_at_the_lane_beats_going_straight_on(curvature: float) -> None:
    moment, truth = on_road(curvature), truth_of(curvature)
    looking = accuracy(DRIVER.predict(moment, SEEDS).trajectories_m, truth).min_ade_m
    blind = accuracy(ConstantVelocityDriver().predict(moment, SEEDS).trajectories_m, truth).min_ade_m
    assert looking is not None
    assert blind is not None
    assert looking < blind / 3


def test_the_same_pictures_give_the_same_bits() -> None:
    def answer() -> DriverOutput:
        return LaneFollowDriver().predict(on_road(0.006), SEEDS)

    np.testing.assert_array_equal(answer().trajectories_m, answer().trajectories_m)
    assert answer().reasoning == answer().reasoning


def test_on_a_road_without_paint_it_says_that_it_sees_no_lane() -> None:
    output = DRIVER.predict(on_road(0.0, painted=False), SEEDS)
    assert output.note is not None
    assert "no lane seen" in output.note
