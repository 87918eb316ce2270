"""What has checkpoints and the prompt catalogue observed: once when the code location starts, and whenever a look at
their files finds something new.

Both triggers are on by default, unlike those that ask for computing: an observation changes nothing, and an asset that
was never observed keeps everything downstream from being asked for. A look costs one listing a checkpoint and happens
in the code server; a run, which may load a model, is asked for only where there is something to tell.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from lanepaint_assets.platform import Platform

# The first tick of a code location that was just deployed; after it the sensor does nothing.
START_INTERVAL_S = 30

# In the run queue, ahead of runs that would compute with what an observation is about to tell.
BEFORE_BACKFILLS = {"dagster/priority": "10"}

OBSERVE_INPUTS = "observe_inputs"
CATALOGUE = "prompt_catalogue"

DueAssets = Callable[[Platform, datetime], Sequence[str]]
"""Names of the observed assets of one room that are worth another observation."""


def build_observation(
    assets: Sequence[str], due: Sequence[DueAssets], minutes: int
) -> tuple[dg.SensorDefinition, dg.ScheduleDefinition]:
    """The sensor for the start and the schedule for all times after it.

    Args:
        assets: all observed assets.
        due: what each room says of its own.
        minutes: between two looks of the schedule.
    """
    job = dg.define_asset_job(
        OBSERVE_INPUTS,
        selection=dg.AssetSelection.assets(*assets),
        description="Observe checkpoints and the prompt catalogue. A new checkpoint is loaded and run once.",
        tags=BEFORE_BACKFILLS,
    )
    # A process that serves this code location is one start of it.
    start = uuid.uuid4().hex

    @dg.sensor(
        name="observe_at_start",
        job=job,
        minimum_interval_seconds=START_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes checkpoints and the prompt catalogue once after every start of the code location.",
    )
    def observe_at_start(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if context.cursor == start:
            return dg.SkipReason("everything was observed after this start")
        if is_observing(context.instance):
            return dg.SkipReason("an observation is under way")
        context.update_cursor(start)
        return dg.RunRequest(run_key=f"start:{start}")

    @dg.schedule(
        name=OBSERVE_INPUTS,
        job=job,
        cron_schedule=f"*/{minutes} * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Observes checkpoints and the prompt catalogue when their files say that there is something new.",
    )
    def observe_inputs(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        if is_observing(context.instance):
            return dg.SkipReason("an observation is under way")
        wanted = assets_to_observe(context.instance, platform, assets, due)
        if not wanted:
            return dg.SkipReason("nothing has changed since the last observation")
        return dg.RunRequest(tags={"lanepaint/observed_for": ", ".join(wanted)})

    return observe_at_start, observe_inputs


def is_observing(instance: dg.DagsterInstance) -> bool:
    """Two observations at once would load the same model twice."""
    unfinished = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    return bool(instance.get_run_records(dg.RunsFilter(job_name=OBSERVE_INPUTS, statuses=unfinished), limit=1))


def assets_to_observe(
    instance: dg.DagsterInstance, platform: Platform, assets: Sequence[str], due: Sequence[DueAssets]
) -> list[str]:
    """Those of which there is something new, and those of which this instance knows nothing.

    Another instance on the same store may have observed them all.

    Args:
        instance: Dagster's.
        platform: whose checkpoints and catalogue.
        assets: all observed assets.
        due: what each room says of its own.
    """
    unknown = {asset for asset in assets if not instance.fetch_observations(dg.AssetKey(asset), limit=1).records}
    now = datetime.now(UTC)
    return sorted(unknown.union(*(room(platform, now) for room in due)))
