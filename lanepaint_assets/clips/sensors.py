"""Sensor that finds new chunks and changed files in the source. Off until a person turns it on."""

import json

import dagster as dg

from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.clips.steps import SourceChange
from lanepaint_assets.partitions import SourceLook, look_at_source, registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError

# New partitions, first runs and runs for changed files of one tick, each: a first look at a large bucket must not
# request thousands of runs at once.
CHUNKS_PER_TICK = 10
INTERVAL_S = 60
# Comparing ten thousand chunks with a bucket takes minutes, the daemon waits a minute for a tick: what is left is
# looked at in the next ones.
LOOK_S = 5.0

# Chunks whose runs are asked for in one question to the run storage.
_RUNS_AT_ONCE = 500

WHY_TAG = "lanepaint/why"


def build_sensors() -> list[dg.SensorDefinition]:
    """The sensors of this stage."""

    @dg.sensor(
        name="new_chunks",
        job_name="master_pipeline",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Registers new chunks of the source as partitions and runs master_pipeline for each; runs raw_clips of "
            f"chunks whose files changed or vanished. At most {CHUNKS_PER_TICK} of each kind a tick."
        ),
    )
    def new_chunks(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        address = platform.settings.source_address
        try:
            look = look_at_source(
                platform, context.instance, limit=CHUNKS_PER_TICK, after=_position(context.cursor), seconds=LOOK_S
            )
        except (ClipSourceError, StoreError, OSError) as error:
            # Chunks that are registered already are still requested.
            look = SourceLook(problems=(f"{address} cannot be listed: {error}",), position=_position(context.cursor))
        for problem in look.problems:
            context.log.warning(problem)
        # Keys and memberships are written by now. Should the tick die here, the next one finds chunks that never ran.
        requests = [
            *_first_runs(platform, context.instance),
            *_runs_of_changes(context.instance, look.changes),
        ][: 2 * CHUNKS_PER_TICK]
        told = f"no new chunk in {address}; {look.looked_at} of {look.of} chunks compared with their files"
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join([told, *look.problems]),
            cursor=json.dumps({"after": look.position}),
        )

    return [new_chunks]


def _position(cursor: str | None) -> str:
    """The chunk where the last look ended. A cursor that is lost or not ours costs one round from the start."""
    try:
        return str(json.loads(cursor)["after"]) if cursor else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _first_runs(platform: Platform, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """Requests for registered chunks of this source that nobody has run yet.

    What was requested is read from the runs themselves, not from the cursor: the cursor is written after the runs, so
    it would forget those of a tick that was killed in between.
    """
    made = instance.get_materialized_partitions(dg.AssetKey("raw_clips"))
    waiting = [key for key in registered_chunks(instance) if key not in made]
    address = platform.source_address
    requests: list[dg.RunRequest] = []
    for start in range(0, len(waiting), _RUNS_AT_ONCE):
        keys = waiting[start : start + _RUNS_AT_ONCE]
        seen = _tags_of_runs(instance, "dagster/partition", keys)
        for key in keys:
            if len(requests) == CHUNKS_PER_TICK:
                return requests
            if key not in seen and platform.store.chunk(key).source == address:
                requests.append(
                    dg.RunRequest(run_key=f"new_chunks:{key}", partition_key=key, tags={WHY_TAG: "new chunk"})
                )
    return requests


def _runs_of_changes(instance: dg.DagsterInstance, changes: tuple[SourceChange, ...]) -> list[dg.RunRequest]:
    """Requests for `raw_clips` of chunks with changed files; what follows from it, conditions request."""
    keys = {f"changed_files:{change.chunk}:{change.mark}": change for change in changes}
    seen = _tags_of_runs(instance, "dagster/run_key", list(keys)) if keys else set()
    return [
        dg.RunRequest(
            run_key=key,
            partition_key=change.chunk,
            asset_selection=[dg.AssetKey("raw_clips")],
            tags={WHY_TAG: f"{len(change.changed)} clips changed, {len(change.vanished)} vanished"},
        )
        for key, change in keys.items()
        if key not in seen
    ][:CHUNKS_PER_TICK]


def _tags_of_runs(instance: dg.DagsterInstance, tag: str, values: list[str]) -> set[str]:
    """Those values of a tag that some run has, in whatever state it is."""
    return {run.tags[tag] for run in instance.get_runs(dg.RunsFilter(tags={tag: values}))}
