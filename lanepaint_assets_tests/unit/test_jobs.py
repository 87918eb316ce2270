"""The workflow variants as jobs, and the run config that narrows them to prompts."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.definitions import build
from lanepaint_assets.jobs import (
    JOB_OF_STAGES,
    PROMPT_ASSETS,
    STAGE_ASSETS,
    open_instance,
    prompt_config,
    sensor_states,
)
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.upstream import STAGE_OF

STAGE_1 = {"raw_clips", "road_masks", "vp_inputs"}
STAGE_2 = {"first_frames", "edited_videos"}
STAGE_3 = {
    "original_trajectories",
    "edited_trajectories",
    "video_quality",
    "trajectory_videos",
    "trajectory_reports",
}

SELECTIONS = {
    "master_pipeline": STAGE_1 | STAGE_2 | STAGE_3,
    "sam2_only": STAGE_1,
    "sam2_vp": STAGE_1 | STAGE_2,
    "vp_only": STAGE_2,
    "vp_alpamayo": STAGE_2 | STAGE_3,
    "alpamayo_only": STAGE_3,
    "training_data": {"raw_clips", "training_samples", "filtered_samples"},
    "lora_training": {"lane_loras"},
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build(Settings(root="memory://jobs"))


def test_there_are_exactly_the_eight_jobs(definitions: dg.Definitions) -> None:
    assert {job.name for job in definitions.jobs or []} == set(SELECTIONS)


@pytest.mark.parametrize("job", SELECTIONS)
def test_a_job_makes_its_stages_assets(definitions: dg.Definitions, job: str) -> None:
    resolved = definitions.resolve_job_def(job)
    made = {key.to_user_string() for key in resolved.asset_layer.selected_asset_keys}
    assert made == SELECTIONS[job]
    assert resolved.description
    assert resolved.partitions_def is not None


def test_a_job_is_partitioned_like_its_assets(definitions: dg.Definitions) -> None:
    for job in SELECTIONS:
        partitions = definitions.resolve_job_def(job).partitions_def
        if job == "lora_training":
            assert isinstance(partitions, dg.StaticPartitionsDefinition)
        else:
            assert isinstance(partitions, dg.DynamicPartitionsDefinition)
            assert partitions.name == "clip_chunk"


def test_the_leaderboard_is_in_no_chunks_job(definitions: dg.Definitions) -> None:
    for job in SELECTIONS:
        selected = definitions.resolve_job_def(job).asset_layer.selected_asset_keys
        assert dg.AssetKey("prompt_leaderboard") not in selected


def test_the_error_for_missing_input_names_a_stage_that_makes_it() -> None:
    expected = {asset: stage for stage, assets in STAGE_ASSETS.items() for asset in assets}
    assert expected == STAGE_OF


def test_every_stage_combination_runs_its_stages_in_one_job() -> None:
    for stages, job in JOB_OF_STAGES.items():
        assert SELECTIONS[job] == {asset for stage in stages for asset in STAGE_ASSETS[stage]}


def test_run_config_narrows_only_assets_that_know_prompts(definitions: dg.Definitions) -> None:
    config = prompt_config(["raw_clips", "first_frames", "trajectory_reports"], ["1", "roundtrip"])
    assert "raw_clips" not in config["ops"]
    assert config["ops"]["first_frames"] == {"config": {"prompts": ["1", "roundtrip"]}}
    assert prompt_config(PROMPT_ASSETS, ()) == {}


@pytest.mark.parametrize("job", [job for job in SELECTIONS if job not in ("training_data", "lora_training")])
def test_the_launchpad_accepts_the_config_that_the_command_line_sends(definitions: dg.Definitions, job: str) -> None:
    config = prompt_config(SELECTIONS[job], ["1"])
    assert dg.validate_run_config(definitions.resolve_job_def(job), config)


def test_the_instance_of_the_command_line_is_made_below_the_root_with_telemetry_off(tmp_path: Path) -> None:
    home = tmp_path / "root" / "dagster"
    with open_instance(home) as instance:
        assert instance.root_directory == str(home)
        assert not instance.telemetry_enabled
    assert os.environ["DAGSTER_HOME"] == str(home)


def test_a_dagster_home_that_is_set_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "mine"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with open_instance(tmp_path / "other") as instance:
        assert instance.root_directory == str(home)
    assert not (tmp_path / "other").exists()


def test_sensors_are_told_as_off_in_a_fresh_instance(tmp_path: Path) -> None:
    with open_instance(tmp_path / "dagster") as instance:
        states = sensor_states(instance)
    assert states["new_chunks"] is False
