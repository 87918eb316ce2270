"""Which partitions runs and backfills are at work on, and which ones were called off.

Called by the conditions, by `lanepaint status` and by the sensor of new chunks. What follows from it, a request or a
word for people, is decided there, not here.

Called off: a run that was to make the partition was cancelled, or a backfill was cancelled or broke before it came to
it. Dagster's `execution_failed` knows neither, and a backfill that launched no run yet leaves no event at all.

A backfill may be one of assets or one of a job, which is started by the job's name. Dagster's `backfill_in_progress`
knows the first kind alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import PARTITION_NAME_TAG

from lanepaint_assets.jobs import JOB_ASSETS

if TYPE_CHECKING:
    from datetime import datetime

    from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
    from dagster._core.asset_graph_view.entity_subset import EntitySubset

Targets = dict[dg.AssetKey, set[str | None]]
"""Partitions by asset; None stands for an asset without partitions."""

# A backfill that is being cancelled launches nothing more; its runs tell of themselves.
_CALLED_OFF = (
    BulkActionStatus.CANCELING,
    BulkActionStatus.CANCELED,
    BulkActionStatus.FAILING,
    BulkActionStatus.FAILED,
)

# The newest ones that are looked at, more than a person calls off in a while. Each is a row of 1.5 MB with ten
# assets of ten thousand chunks, and every look reads them.
_BACKFILLS = 20
# An older one has been seen by every sensor that is on.
_RECENT = timedelta(days=14)

# Cancelled runs that one question fetches; a cancelled backfill has one for each of its chunks.
_RUNS = 500


def left_to_backfills(
    instance: dg.DagsterInstance,
    statuses: Sequence[BulkActionStatus] = (BulkActionStatus.REQUESTED,),
    *,
    newest: int | None = None,
) -> Targets:
    """What backfills were asked for and have not made, also where they have launched no run yet.

    Args:
        instance: Dagster's.
        statuses: of which backfills; by default those that go on.
        newest: look at so many of them; by default at all.
    """
    found: Targets = {}
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=list(statuses)), limit=newest):
        for key, partitions in _not_made(instance, backfill).items():
            found.setdefault(key, set()).update(partitions)
    return found


async def under_way(context: dg.AutomationContext[Any], key: dg.AssetKey | None = None) -> EntitySubset[dg.AssetKey]:
    """Partitions that a run or a backfill is to make, of the condition's own asset unless another is named."""
    view, asset = context.asset_graph_view, key or context.key
    running = await view.compute_run_in_progress_subset(key=asset, from_subset=view.get_full_subset(key=asset))
    return running.compute_union(_subset(view, asset, _look(view).waiting.get(asset, set())))


def known_backfills(context: dg.AutomationContext[Any]) -> list[str]:
    """Ids of the backfills that this look counts as called off: the next one passes them to `called_off`."""
    return list(_look(context.asset_graph_view).called_off)


def called_off(
    context: dg.AutomationContext[Any], key: dg.AssetKey, known: Iterable[str] | None
) -> EntitySubset[dg.AssetKey]:
    """Partitions of an asset that were called off since the last look.

    Args:
        context: of this look.
        key: the asset.
        known: `known_backfills` of the last look; None at the first, to which nothing is new.
    """
    view, since = context.asset_graph_view, context.previous_temporal_context
    if since is None or known is None:
        return view.get_empty_subset(key=key)
    look = _look(view)
    found = set(look.of_cancelled_runs(view, since.last_event_id or 0).get(key, ()))
    for backfill_id in look.called_off.keys() - set(known):
        found |= look.not_made(backfill_id).get(key, set())
    return _subset(view, key, found)


class _Look:
    """What the conditions of all assets ask of one moment, read once. It holds no view: those are to be forgotten."""

    def __init__(self, instance: dg.DagsterInstance, now: datetime) -> None:
        self._instance, self._now = instance, now
        self._not_made: dict[str, Targets] = {}
        self._cancelled: dict[int, Targets] = {}

    @cached_property
    def waiting(self) -> Targets:
        """What backfills are about to make."""
        return left_to_backfills(self._instance)

    @cached_property
    def called_off(self) -> Mapping[str, PartitionBackfill]:
        """The newest backfills that were, by id."""
        recent = BulkActionsFilter(statuses=_CALLED_OFF, created_after=self._now - _RECENT)
        found = self._instance.get_backfills(filters=recent, limit=_BACKFILLS)
        return {backfill.backfill_id: backfill for backfill in found}

    def not_made(self, backfill_id: str) -> Targets:
        """What one of those that were called off leaves."""
        if backfill_id not in self._not_made:
            self._not_made[backfill_id] = _not_made(self._instance, self.called_off[backfill_id])
        return self._not_made[backfill_id]

    def of_cancelled_runs(self, view: AssetGraphView, after_event: int) -> Targets:
        """What every run was to make that was cancelled after an event; part of it may be made."""
        if after_event not in self._cancelled:
            planned = view.get_inner_queryer_for_back_compat().get_planned_materializations_for_run
            run_ids = _cancelled_runs(self._instance, after_event)
            found: Targets = {}
            for run in self._instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else ():
                # A backfill's run names its assets; asking for those of each run is a query a run.
                for key in run.asset_selection or planned(run.run_id):
                    found.setdefault(key, set()).add(run.tags.get(PARTITION_NAME_TAG))
            self._cancelled[after_event] = found
        return self._cancelled[after_event]


# Each look of a sensor has a view of its own.
_looks: WeakKeyDictionary[AssetGraphView, _Look] = WeakKeyDictionary()


def _look(view: AssetGraphView) -> _Look:
    if view not in _looks:
        _looks[view] = _Look(view.instance, view.effective_dt)
    return _looks[view]


def _subset(view: AssetGraphView, key: dg.AssetKey, partitions: Collection[str | None]) -> EntitySubset[dg.AssetKey]:
    if not partitions:
        return view.get_empty_subset(key=key)
    every = view.get_full_subset(key=key)
    if not every.is_partitioned:
        return every
    # A person may have deleted a chunk that a backfill still names.
    return every.compute_intersection_with_partition_keys(every.expensively_compute_partition_keys() & set(partitions))


def _not_made(instance: dg.DagsterInstance, backfill: PartitionBackfill) -> Targets:
    """What a backfill was asked for and has not made; what failed is left to nobody, unless all of it was called off.

    Of a backfill of a job that is what it has not launched: what it has launched, runs tell.
    """
    data = backfill.asset_backfill_data
    if data is None:
        names = list(backfill.partition_names or ())
        launched = backfill.last_submitted_partition_name
        names = names[names.index(launched) + 1 :] if launched in names else names
        assets = backfill.asset_selection or [
            dg.AssetKey(asset) for asset in JOB_ASSETS.get(backfill.job_name or "", ())
        ]
        return {key: set(names) for key in assets} if names else {}
    left = data.target_subset - data.materialized_subset
    if backfill.status not in _CALLED_OFF:
        left -= data.failed_and_downstream_subset
    found: Targets = {key: {None} for key in left.non_partitioned_asset_keys}
    with partition_loading_context(dynamic_partitions_store=instance):
        for key, subset in left.partitions_subsets_by_asset_key.items():
            found[key] = set(subset.get_partition_keys())
    return found


def _cancelled_runs(instance: dg.DagsterInstance, after_event: int) -> list[str]:
    wanted = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_CANCELED, after_storage_id=after_event)
    found = instance.fetch_run_status_changes(wanted, limit=_RUNS)
    run_ids = [record.run_id for record in found.records]
    while found.has_more:
        found = instance.fetch_run_status_changes(wanted, limit=_RUNS, cursor=found.cursor)
        run_ids += [record.run_id for record in found.records]
    return run_ids
