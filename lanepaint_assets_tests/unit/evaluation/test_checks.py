"""What is checked of trajectories and of finished videos."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest
from pydantic import JsonValue

from lanepaint_assets.evaluation.checks import (
    EDITED_TRAJECTORY_CHECKS,
    NULL_ARM_ZERO,
    ORIGINAL_TRAJECTORY_CHECKS,
    TRAJECTORIES_FINITE,
    video_quality_checks,
)
from lanepaint_assets.evaluation.driver import DriverError, DriverInput, DriverOutput, ask
from lanepaint_assets.evaluation.metrics import farthest_m
from lanepaint_assets.item_checks import ERROR, WARN, check_result
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.check_rows import failed, made, partition
from lanepaint_assets_tests.unit.evaluation.drives import circle_drive, moment_of

VIDEO_CHECKS = {check.name: check for check in video_quality_checks(Settings(root="memory://checks"))}


def _finite(*rows: ItemRow) -> dg.AssetCheckResult:
    return check_result("edited_trajectories", TRAJECTORIES_FINITE, partition(*rows))


def test_a_plan_that_a_car_can_drive_passes() -> None:
    result = _finite(made({"farthest_m": 181.6}))
    assert result.passed
    assert result.metadata["farthest_m_max"].value == 181.6


def test_positions_that_nothing_can_drive_to_are_an_error() -> None:
    result = _finite(made({"farthest_m": 4.0e6}))
    assert not result.passed
    assert result.severity == ERROR


class _Overflowing:
    name, version = "overflowing", "1"
    cameras: tuple[str, ...] = ("front",)
    accepts_one_camera = True

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        positions = np.zeros((len(seeds), 64, 3))
        positions[0, 3] = np.nan
        return DriverOutput(positions, ("",) * len(seeds))


def test_an_item_that_failed_because_its_answer_was_not_finite_is_an_error() -> None:
    with pytest.raises(DriverError) as refusal:
        ask(_Overflowing(), moment_of(circle_drive()), (1, 2))
    result = _finite(made({"farthest_m": 80.0}), failed(str(refusal.value)))
    assert not result.passed
    assert result.severity == ERROR
    assert result.metadata["failed_items"].value == 1


def test_other_failures_are_no_fault_of_the_numbers() -> None:
    result = _finite(made({"farthest_m": 80.0}), failed("the recording is too short"))
    assert result.passed
    assert result.metadata["not_made_items"].value == 1


def test_the_farthest_position_counts_over_all_samples_and_arms() -> None:
    near, far = np.zeros((2, 64, 3)), np.zeros((2, 64, 3))
    far[1, 40] = (30.0, -40.0, 0.0)
    assert farthest_m(near) == 0.0
    assert farthest_m(near, far) == pytest.approx(50.0)


@pytest.mark.parametrize(("distance", "passes"), [(0.0, True), (0.000001, False), (0.3, False)])
def test_the_null_arm_must_be_zero(distance: float, passes: bool) -> None:
    row = made({"null_same_seeds_ade_m": distance, "null_other_seeds_ade_m": 0.9})
    result = check_result("original_trajectories", NULL_ARM_ZERO, partition(row))
    assert result.passed is passes
    assert result.severity == ERROR
    assert result.metadata["null_arm_ade_m_max"].value == distance
    assert result.metadata["other_seeds_ade_m_mean"].value == 0.9


def _background(**facts: JsonValue) -> dg.AssetCheckResult:
    return check_result("video_quality", VIDEO_CHECKS["background_unchanged"], partition(made(facts)))


def test_a_background_that_only_encoding_touched_passes() -> None:
    assert _background(outside_psnr_db=38.1, outside_ssim=0.97).passed
    assert _background(outside_psnr_db=None, outside_ssim=1.0).passed  # not one value differs


def test_a_background_that_was_painted_anew_is_an_error() -> None:
    result = _background(outside_psnr_db=22.6, outside_ssim=0.91)
    assert not result.passed
    assert result.severity == ERROR
    assert "22.6 dB" in str(result.description)


def test_a_video_without_background_has_none_to_judge() -> None:
    result = _background(outside_psnr_db=None, outside_ssim=None)
    assert result.passed
    assert "nothing to judge" in str(result.description)


def _verified(*answers: bool | None) -> dg.AssetCheckResult:
    rows = [
        made({"verified": answer, "verification": "it finds yellow"}, f"clip_{n}.front/p")
        for n, answer in enumerate(answers)
    ]
    return check_result("video_quality", VIDEO_CHECKS["independent_verdict_rate"], partition(*rows))


def test_half_of_the_edits_must_pass_an_inspector_that_did_not_refine_them() -> None:
    assert _verified(True, False, None).passed
    result = _verified(True, False, False)
    assert not result.passed
    assert result.severity == WARN
    assert "it finds yellow" in str(result.description)


def test_where_nobody_else_can_judge_that_is_said() -> None:
    result = _verified(None, None)
    assert result.passed
    assert "nothing to judge" in str(result.description)


@pytest.mark.parametrize("check", [*ORIGINAL_TRAJECTORY_CHECKS, *EDITED_TRAJECTORY_CHECKS, *VIDEO_CHECKS.values()])
def test_rows_without_these_facts_pass_no_check(check: object) -> None:
    result = check_result("video_quality", check, partition(made({})))  # type: ignore[arg-type]
    assert not result.passed
    assert result.severity == WARN
