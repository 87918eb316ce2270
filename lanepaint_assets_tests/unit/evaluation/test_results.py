from __future__ import annotations

import json
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from lanepaint_assets.evaluation.bridge import find_t0, ground_truth, replace_camera
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import DriverInput, DriverOutput
from lanepaint_assets.evaluation.metrics import accuracy, divergence
from lanepaint_assets.evaluation.off_lane import EgoLane, LanePiece
from lanepaint_assets.evaluation.results import DriverStamp, InferenceResult, OriginalArms
from lanepaint_assets_tests.unit.evaluation.drives import (
    FRONT,
    LEFT,
    camera,
    circle_drive,
    grid_times,
    moment_of,
    numbered_frames,
)

SEEDS, OTHER_SEEDS = (1, 2, 3), (4, 5, 6)


def inputs() -> tuple[DriverInput, DriverInput]:
    original = moment_of(circle_drive(12.0, 0.01))
    original = replace(
        original,
        frames={**original.frames, LEFT: numbered_frames(4, 1200, 40, offset=7)},
        cameras={**original.cameras, LEFT: camera(1200, 40)},
    )
    return original, replace_camera(original, FRONT, numbered_frames(4, offset=90), original.frame_timestamps_us)


def a_result(
    with_truth: bool = True,
    shift_m: float = 0.4,
    quality: Literal["recorded", "estimated"] = "recorded",
    blanked_camera: str | None = None,
    lane: EgoLane | str = "no boundary was seen",
) -> InferenceResult:
    ego = circle_drive(12.0, 0.01, duration_s=14.0 if with_truth else 5.0)
    original_input, edited_input = (replace(given, ego_quality=quality) for given in inputs())
    moment = find_t0(grid_times(), ego.span_us)
    truth = ground_truth(ego, moment) if quality == "recorded" else None
    arms = OriginalArms.run(
        ConstantVelocityDriver(), original_input, SEEDS, OTHER_SEEDS, truth, blanked_camera=blanked_camera, lane=lane
    )
    moved = DriverOutput(
        arms.original.trajectories_m + np.array([0.0, shift_m, 0.0]),
        ("nudge left", *arms.original.reasoning[1:]),
        "only one boundary",
    )
    return InferenceResult.of_arms(
        clip_id="clip-1",
        camera_name=FRONT,
        prompt_key="single_white_solid",
        prompt_text="Paint single white solid lines",
        run_name="night_20261123",
        driver=DriverStamp(name="constant_velocity", version="1", is_foundation_model=False),
        study_seed=7,
        moment=moment,
        clip_grid="spec_8fps",
        edited_input=edited_input,
        original_arms=arms,
        edited=moved,
    )


def test_a_result_read_back_is_the_same_to_the_last_bit() -> None:
    result = a_result()
    again = InferenceResult.from_json(result.to_json())
    assert again.to_json() == result.to_json()
    np.testing.assert_array_equal(again.edited.trajectories_m, result.edited.trajectories_m)
    assert accuracy(again.edited.trajectories_m, again.ground_truth_m).min_ade_m == result.min_ade_meters


def test_the_file_has_the_documented_keys_in_plain_json() -> None:
    document = json.loads(a_result().to_json())
    assert document["original_min_ade"] == document["original_accuracy"]["min_ade_m"] > 0
    assert document["min_ade_meters"] == document["edited_accuracy"]["min_ade_m"]
    assert np.shape(document["original"]["trajectories_m"]) == (3, 64, 3)
    assert len(document["original"]["reasoning"]) == len(document["edited"]["reasoning"]) == 3
    assert document["temporal"]["clip_grid"] == "spec_8fps"
    assert document["temporal"]["frame_timestamps_us"] == [7_125_000, 7_250_000, 7_375_000, 7_500_000]
    assert document["temporal"]["t0_us"] == 7_500_000
    assert "model_10hz" in document["temporal"]["off_distribution_note"]
    stamp = {"name": "constant_velocity", "version": "1", "is_foundation_model": False, "setup": ""}
    assert document["driver"] == stamp
    assert document["samples"] == 3
    assert document["ego_quality"] == "recorded"
    assert document["projection_quality"] == "assumed"
    assert document["run_name"] == "night_20261123"
    assert [shift["time_s"] for shift in document["divergence"]["lateral"]] == [1.0, 3.0, 5.0, 6.4]
    assert document["divergence"]["ade_m"] == pytest.approx(0.4)
    assert set(document["reasoning"]) == {"changed_share", "similarity", "decision_changed_share"}
    assert document["reasoning"]["changed_share"] == pytest.approx(1 / 3)
    assert document["edited"]["reasoning"][0] == "nudge left"
    assert document["null_same_seeds_ade_m"] == 0.0
    assert document["noise_floor_ade_m"] > 0.0
    assert document["noise_floor_lateral_3s_m"] > 0.0
    assert document["edited_camera_only"] is False


def test_without_ground_truth_min_ade_is_null_and_the_reason_stands_beside_it() -> None:
    result = a_result(with_truth=False)
    document = json.loads(result.to_json())
    assert document["min_ade_meters"] is None
    assert document["original_min_ade"] is None
    assert "no ground truth: ego motion covers 5.0 s" in document["ground_truth_reason"]
    assert result.divergence.lateral_frame == "original_prediction"
    assert InferenceResult.from_json(result.to_json()).ground_truth_m is None


def test_estimated_ego_motion_is_no_ground_truth_and_the_file_says_so() -> None:
    result = a_result(quality="estimated")
    assert result.min_ade_meters is None
    assert result.ground_truth_reason is not None
    assert "estimated from the pictures" in result.ground_truth_reason


def test_the_null_arm_of_a_deterministic_driver_is_zero_and_other_seeds_give_the_noise_floor() -> None:
    original, _ = inputs()
    arms = OriginalArms.run(ConstantVelocityDriver(), original, SEEDS, OTHER_SEEDS, None)
    assert arms.null_same_seeds_ade_m == 0.0
    assert arms.null_other_seeds_ade_m > 0.0
    again = OriginalArms.from_json(arms.to_json())
    np.testing.assert_array_equal(again.original.trajectories_m, arms.original.trajectories_m)
    assert again.ground_truth_m is None


@pytest.mark.parametrize("damage", [("samples", "many"), ("original", {}), ("surprise", 1)])
def test_a_damaged_file_is_refused(damage: tuple[str, object]) -> None:
    document = json.loads(a_result().to_json())
    document[damage[0]] = damage[1]
    with pytest.raises(ValidationError, match=damage[0]):
        InferenceResult.from_json(json.dumps(document))


# The lane of a drive on a circle of 100 m radius, as far as a parabola follows it.
BEND = LanePiece(0.0, 0.0, 0.0, (1.8, 0.0, 0.005, 0.0), (-1.8, 0.0, 0.005, 0.0), 0.0, 30.0)


def test_off_lane_counts_both_arms_against_the_lane_and_says_where_it_comes_from() -> None:
    near = a_result(shift_m=0.4, lane=EgoLane((BEND,), 30.0, "measured 3"))
    assert near.off_lane is not None
    assert near.off_lane_reason is None
    assert near.off_lane.ground_truth_share == 0.0
    assert near.off_lane.lane_source == "measured 3"
    # Straight on in a bend: the original leaves the lane on its outside, a shift to the inside keeps it in for longer.
    assert 0.0 < near.off_lane.edited_share < near.off_lane.original_share
    far = a_result(shift_m=4.0, lane=EgoLane((BEND,), 30.0, "measured 3"))
    assert far.off_lane is not None
    assert far.off_lane.edited_share > 0.5
    again = InferenceResult.from_json(far.to_json())
    assert again.off_lane == far.off_lane


def test_without_a_lane_off_lane_is_absent_with_the_reason() -> None:
    unknown = a_result()
    assert (unknown.off_lane, unknown.off_lane_reason) == (None, "no boundary was seen")
    behind = EgoLane((LanePiece(-60.0, 0.0, 0.0, BEND.left, BEND.right, 0.0, 30.0),), 30.0, "measured 3")
    passed = a_result(lane=behind)
    assert passed.off_lane is None
    assert "no waypoint of the original arm" in (passed.off_lane_reason or "")


def test_the_positive_control_is_the_original_arm_against_the_blanked_camera() -> None:
    assert a_result().positive_control is None
    result = a_result(blanked_camera=FRONT)
    # This driver looks at no picture: losing one changes nothing.
    expected = divergence(result.original.trajectories_m, result.original.trajectories_m, result.ground_truth_m)
    assert result.positive_control == expected
    assert InferenceResult.from_json(result.to_json()).positive_control == expected


def test_drivers_that_were_set_up_otherwise_have_another_name() -> None:
    plain = DriverStamp(name="lane_follow", version="3", is_foundation_model=False)
    model = DriverStamp(name="alpamayo", version="1", is_foundation_model=True, setup="model=r1, 4 cameras")
    assert plain.text == "lane_follow 3"
    assert model.text == "alpamayo 1 (model=r1, 4 cameras)"
