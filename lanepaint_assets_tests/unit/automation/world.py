"""A world in memory in which a test lets something happen and asks what each group's sensor requests.

Used by all tests of this folder. The real definitions are evaluated, a group at a time as the sensors do it; what
assets make is only reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, StepMaterializationData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from lanepaint_assets.automation import GROUPS
from lanepaint_assets.definitions import build
from lanepaint_assets.materialization import told_version
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.backfills import backfill_of_job

CHUNKS = ("chunk_0000", "chunk_0001")
CHECKPOINTS = (
    "sam2_checkpoint",
    "flux_fill_checkpoint",
    "cogvideox_checkpoint",
    "videopainter_branch_checkpoint",
    "qwen_vl_checkpoint",
    "alpamayo_checkpoint",
)
# In the order that a chunk goes through.
VIDEO_ASSETS = (
    "raw_clips",
    "road_masks",
    "vp_inputs",
    "first_frames",
    "edited_videos",
    "original_trajectories",
    "edited_trajectories",
    "video_quality",
    "trajectory_videos",
    "trajectory_reports",
)
TRAINING_ASSETS = ("training_samples", "filtered_samples")
NOON = datetime(2026, 3, 2, 12, 10, tzinfo=UTC)

MODELS = Settings(root="memory://automation", engines="models")

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@cache
def built(settings: Settings) -> dg.Definitions:
    return build(settings)


class World:
    """An instance, and what each group's sensor remembers."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings = MODELS) -> None:
        self.instance = instance
        self.definitions = built(settings)
        self.now = NOON
        self.cursors: dict[str, AssetDaemonCursor] = {}

    def register(self, *chunks: str) -> None:
        self.instance.add_dynamic_partitions("clip_chunk", list(chunks))

    def observe(self, asset: str, version: str) -> None:
        self.instance.report_runless_asset_event(dg.AssetObservation(asset, tags={"dagster/data_version": version}))

    def make(self, asset: str, chunk: str | None, version: str, *, complete: bool = True) -> None:
        told = told_version(version, complete=complete)
        made = dg.AssetMaterialization(asset, partition=chunk, tags={"dagster/data_version": told})
        self.instance.report_runless_asset_event(made)

    def fail(self, asset: str, chunk: str) -> None:
        """Run one asset for real: nothing is in the store, so the step fails."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        outcome = job.execute_in_process(
            partition_key=chunk,
            asset_selection=[dg.AssetKey(asset)],
            instance=self.instance,
            raise_on_error=False,
            run_config=QUIET,
        )
        assert not outcome.success

    def tick(self, *groups: str) -> dict[str, set[str | None]]:
        """One evaluation of every group's sensor: requested partitions by asset, without empty ones.

        The name of a single asset stands for a sensor that looks at it alone.
        """
        self.now += timedelta(seconds=60)
        requested: dict[str, set[str | None]] = {}
        for group in groups or GROUPS:
            result = dg.evaluate_automation_conditions(
                self.definitions,
                self.instance,
                asset_selection=dg.AssetSelection.groups(group) if group in GROUPS else dg.AssetSelection.assets(group),
                cursor=self.cursors.get(group),
                evaluation_time=self.now,
            )
            self.cursors[group] = result.cursor
            for key in self.definitions.resolve_asset_graph().materializable_asset_keys:
                if partitions := result.get_requested_partitions(key):
                    requested[key.to_user_string()] = set(partitions)
        return requested

    def run(self, assets: Sequence[str], chunk: str, version: str) -> None:
        """Make assets of a chunk in one run, as a request of one sensor asks for."""
        run = dg.DagsterRun(job_name="x", asset_selection=frozenset(map(dg.AssetKey, assets)))
        self.instance.add_run(run)
        for asset in assets:
            self.instance.report_dagster_event(materialized(asset, chunk, version), run_id=run.run_id)

    def start(self, assets: Sequence[str], chunk: str | None, tags: Mapping[str, str] | None = None) -> dg.DagsterRun:
        """A run that is to make assets of a chunk, under way."""
        tags = {**(tags or {}), **({} if chunk is None else {"dagster/partition": chunk})}
        run = dg.DagsterRun(
            job_name="x",
            asset_selection=frozenset(map(dg.AssetKey, assets)),
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
        )
        self.instance.add_run(run)
        for asset in assets:
            self.instance.report_dagster_event(planned(asset, chunk), run_id=run.run_id)
        return run

    def finish(self, run: dg.DagsterRun, asset: str, chunk: str, version: str) -> None:
        """The run makes one of its assets."""
        self.instance.report_dagster_event(materialized(asset, chunk, version), run_id=run.run_id)

    def succeed(self, run: dg.DagsterRun) -> None:
        event = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name="x")
        self.instance.report_dagster_event(event, run_id=run.run_id)

    def die(self, run: dg.DagsterRun) -> None:
        """Its process ends before any of its assets is made."""
        event = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name="x")
        self.instance.report_dagster_event(event, run_id=run.run_id)

    def cancel(self, run: dg.DagsterRun) -> None:
        """What happens when a person terminates it."""
        self.instance.report_run_canceled(run)

    def backfill(self, requested: Mapping[str, Iterable[str | None]], tags: Mapping[str, str] | None = None) -> str:
        """Enter a backfill of what a tick requested, as the daemon does; it launches no run."""
        backfill_id = f"backfill_{len(self.instance.get_backfills())}"
        backfill = PartitionBackfill.from_asset_graph_subset(
            backfill_id=backfill_id,
            backfill_timestamp=self.now.timestamp(),
            tags=dict(tags or {}),
            dynamic_partitions_store=self.instance,
            asset_graph_subset=AssetGraphSubset.from_asset_partition_set(
                {
                    AssetKeyPartitionKey(dg.AssetKey(asset), partition)
                    for asset, partitions in requested.items()
                    for partition in partitions
                },
                self.definitions.resolve_asset_graph(),
            ),
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill_id

    def backfill_of_job(self, job: str, *chunks: str) -> str:
        """Enter a backfill of a job, as a person starts it by the job's name; it launches no run."""
        backfill = backfill_of_job(job, chunks)
        # The world's clock is behind.
        self.instance.add_backfill(backfill._replace(backfill_timestamp=self.now.timestamp()))
        return backfill.backfill_id

    def complete_backfill(self, backfill_id: str) -> None:
        self._change(backfill_id, BulkActionStatus.COMPLETED_SUCCESS)

    def cancel_backfill(self, backfill_id: str) -> None:
        """What happens when a person cancels it: first it is being cancelled, later it is."""
        canceling = self._find(backfill_id).status is BulkActionStatus.CANCELING
        self._change(backfill_id, BulkActionStatus.CANCELED if canceling else BulkActionStatus.CANCELING)

    def _find(self, backfill_id: str) -> PartitionBackfill:
        backfill = self.instance.get_backfill(backfill_id)
        assert backfill is not None
        return backfill

    def _change(self, backfill_id: str, status: BulkActionStatus) -> None:
        self.instance.update_backfill(self._find(backfill_id)._replace(status=status))

    def follow(self, version: str) -> list[str]:
        """Make whatever is requested until nothing is; the assets in the order in which they were made."""
        made: list[str] = []
        for _ in range(20):
            ticks = [self.tick(group) for group in GROUPS]
            if not any(ticks):
                return made
            for requested in ticks:
                assets = [asset for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS) if asset in requested]
                for chunk in CHUNKS:
                    if chosen := [asset for asset in assets if chunk in requested[asset]]:
                        self.run(chosen, chunk, version)
                made += assets
        raise AssertionError("it never comes to rest")


def two_chunks(instance: dg.DagsterInstance) -> World:
    """Two chunks made completely, a third one registered only, everything observed."""
    made = World(instance)
    made.register(*CHUNKS, "chunk_0002")
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        made.observe(asset, "v1")
    for chunk in CHUNKS:
        for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
            made.make(asset, chunk, "v1")
    return made


BOTH: set[str | None] = set(CHUNKS)


def materialized(asset: str, chunk: str, version: str, *, complete: bool = True) -> DagsterEvent:
    told = told_version(version, complete=complete)
    made = dg.AssetMaterialization(asset, partition=chunk, tags={"dagster/data_version": told})
    return DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="x",
        event_specific_data=StepMaterializationData(made),
    )


def planned(asset: str, chunk: str | None) -> DagsterEvent:
    return DagsterEvent.build_asset_materialization_planned_event(
        "x", asset, AssetMaterializationPlannedData(dg.AssetKey(asset), partition=chunk)
    )
