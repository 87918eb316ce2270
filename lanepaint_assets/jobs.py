"""The workflow variants of spec 3 as jobs, and how the command line runs one of them for one chunk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.events import RunFailureReason
from dagster._core.execution.plan.objects import ErrorSource

from lanepaint_assets.materialization import RUN_NAME_TAG
from lanepaint_assets.settings import SettingsError

STAGE_ASSETS: dict[str, tuple[str, ...]] = {
    "1": ("raw_clips", "road_masks", "vp_inputs"),
    "2": ("first_frames", "edited_videos"),
    "3": (
        "original_trajectories",
        "edited_trajectories",
        "video_quality",
        "trajectory_videos",
        "trajectory_reports",
    ),
}

# Assets whose run config narrows the work to some prompts.
PROMPT_ASSETS = (
    "first_frames",
    "edited_videos",
    "edited_trajectories",
    "video_quality",
    "trajectory_videos",
    "trajectory_reports",
)

# Spec 3's workflow variants by stage; there is no variant of stages 1 and 3 without 2.
JOB_OF_STAGES = {
    "123": "master_pipeline",
    "1": "sam2_only",
    "12": "sam2_vp",
    "2": "vp_only",
    "23": "vp_alpamayo",
    "3": "alpamayo_only",
}

# Beside the variants; a person starts them, and no stage needs them.
TRAINING_DATA = "training_data"
LORA_TRAINING = "lora_training"

JOB_ASSETS: dict[str, tuple[str, ...]] = {
    **{job: tuple(asset for stage in stages for asset in STAGE_ASSETS[stage]) for stages, job in JOB_OF_STAGES.items()},
    TRAINING_DATA: ("raw_clips", "training_samples", "filtered_samples"),
    LORA_TRAINING: ("lane_loras",),
}

JOB_DESCRIPTIONS = {
    "master_pipeline": "Clips to report: segmentation, editing, evaluation.",
    "sam2_only": "Segmentation only: road masks and the VideoPainter folder.",
    "sam2_vp": "Segmentation and editing.",
    "vp_only": "Editing only, from masks that exist.",
    "vp_alpamayo": "Editing and evaluation, from masks that exist.",
    "alpamayo_only": "Evaluation only, of edited videos that exist.",
    TRAINING_DATA: "Training samples of a chunk and their subsets by lane style.",
    LORA_TRAINING: "Train the LoRA of one lane style. Started by a person.",
}


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def build_jobs() -> list[UnresolvedAssetJobDefinition]:
    """All jobs.

    A backfill starts one run a chunk (Dagster's default policy), for light assets too: a step that made several chunks
    could report neither the checks nor the metadata of each, and one that failed would fail them all. A cancelled
    backfill loses the items that were being made; the next run of a chunk reuses all others.
    """
    stages_of = {job: stages for stages, job in JOB_OF_STAGES.items()}
    return [
        dg.define_asset_job(
            job,
            selection=dg.AssetSelection.assets(*assets),
            description=JOB_DESCRIPTIONS[job],
            tags={"lanepaint/stages": stages_of[job]} if job in stages_of else None,
        )
        for job, assets in JOB_ASSETS.items()
    ]


def prompt_config(assets: Iterable[str], prompts: Sequence[str]) -> dict[str, Any]:
    """Run config that narrows those of `assets` that know prompts."""
    if not prompts:
        return {}
    return {"ops": {asset: {"config": {"prompts": list(prompts)}} for asset in assets if asset in PROMPT_ASSETS}}


@dataclass(frozen=True)
class StepFailure:
    """A step that failed, in words for the terminal."""

    step: str
    message: str


@dataclass(frozen=True)
class JobOutcome:
    """What a run on the command line came to.

    Attributes:
        made: assets that it materialized.
        interrupted: a person or the system ended it (Ctrl-C, SIGTERM); it counts as cancelled, not as failed.
    """

    run_id: str
    success: bool
    failures: tuple[StepFailure, ...]
    made: frozenset[str]
    interrupted: bool


def open_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance that the UI uses too: `DAGSTER_HOME` where it is set, else `home`, made if need be.

    Raises:
        SettingsError: `DAGSTER_HOME` is no folder.
    """
    _quiet()
    chosen = os.environ.get("DAGSTER_HOME")
    if chosen and not (Path(chosen).is_absolute() and Path(chosen).is_dir()):
        raise SettingsError(
            f"DAGSTER_HOME={chosen!r} is not the absolute path of a folder; make it, or unset it to use {home}"
        )
    if not chosen:
        home.mkdir(parents=True, exist_ok=True)
        config = home / "dagster.yaml"
        if not config.exists():
            config.write_text("telemetry:\n  enabled: false\n")
        os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()


@contextmanager
def throwaway_instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory that nobody will look at."""
    _quiet()
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _quiet() -> None:
    """The project uses these features knowingly; who types a command cannot act on the warnings."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)


def run_job(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    partition: str,
    *,
    prompts: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    run_name: str | None = None,
) -> JobOutcome:
    """Run a job for one partition in this process; Dagster's own log stays quiet, its event log is complete."""
    result = definitions.resolve_job_def(job).execute_in_process(
        partition_key=partition,
        instance=instance,
        run_config={
            **prompt_config(JOB_ASSETS[job], prompts),
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        tags={**(tags or {}), **({RUN_NAME_TAG: run_name} if run_name else {})},
        raise_on_error=False,
    )
    interrupted = any(
        event.is_job_failure and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
    )
    if interrupted:
        # Dagster takes every end that the UI did not ask for as a failure, which daemons would try again.
        instance.report_run_canceled(result.dagster_run, message="interrupted where it was started")
    failures = []
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error_source is not ErrorSource.INTERRUPT:
            error = event.step_failure_data.error
            described = event.step_failure_data.user_failure_data
            text = (described.description if described else None) or (error.message if error else "failed")
            failures.append(StepFailure(event.step_key or "?", text.strip()))
    made = (event.asset_key for event in result.get_asset_materialization_events())
    return JobOutcome(
        run_id=result.run_id,
        success=result.success,
        failures=tuple(failures),
        made=frozenset(key.to_user_string() for key in made if key is not None),
        interrupted=interrupted,
    )


def oldest_unfinished_run(instance: dg.DagsterInstance) -> datetime | None:
    """When the oldest run that is queued or under way was created; None where there is none."""
    unfinished = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in _FINISHED])
    records = instance.get_run_records(unfinished, limit=1, order_by="create_timestamp", ascending=True)
    return records[0].create_timestamp if records else None


def sensor_states(instance: dg.DagsterInstance) -> dict[str, bool]:
    """Name of every sensor of this code location, and whether a person turned it on in this instance."""
    from lanepaint_assets.automation import build_sensors as automation_sensors
    from lanepaint_assets.clips.sensors import build_sensors

    running = {state.instigator_name for state in instance.all_instigator_state() if state.is_running}
    return {sensor.name: sensor.name in running for sensor in [*build_sensors(), *automation_sensors()]}
