"""Which partitions runs and backfills are at work on, and which ones were called off.

Called by `conditions.py`. What follows from it for a request is decided there, not here.

Called off: a run that was to make the partition was cancelled, or a backfill was cancelled or broke before it came to
it. Dagster's `execution_failed` knows neither, and a backfill that launched no run yet leaves no event at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill

if TYPE_CHECKING:
    from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
    from dagster._core.asset_graph_view.entity_subset import EntitySubset

# A backfill that is being cancelled launches nothing more; its runs tell of themselves.
_CALLED_OFF = [
    BulkActionStatus.CANCELING,
    BulkActionStatus.CANCELED,
    BulkActionStatus.FAILING,
    BulkActionStatus.FAILED,
]

# The newest ones that are looked at, more than a person calls off in a while. Each is a row of 1.5 MB with ten
# assets of ten thousand chunks, and every look reads them.
_BACKFILLS = 20
# An older one has been seen by every sensor that is on.
_RECENT = timedelta(days=14)

# Cancelled runs that one question fetches; a cancelled backfill has one for each of its chunks.
_RUNS = 500


# Asked once a look: every asset's conditions need the same answers. Each look has a view of its own.
_backfills: WeakKeyDictionary[AssetGraphView, tuple[PartitionBackfill, ...]] = WeakKeyDictionary()
_cancelled: WeakKeyDictionary[AssetGraphView, dict[int, frozenset[tuple[dg.AssetKey, str | None]]]] = (
    WeakKeyDictionary()
)


async def under_way(context: dg.AutomationContext[Any], key: dg.AssetKey | None = None) -> set[str]:
    """Partitions that a run or a backfill is to make, of the condition's own asset unless another is named."""
    view, asset = context.asset_graph_view, key or context.key
    every = view.get_full_subset(key=asset)
    running = await view.compute_run_in_progress_subset(key=asset, from_subset=every)
    waiting = await view.compute_backfill_in_progress_subset(key=asset, from_subset=every)
    return set(running.expensively_compute_partition_keys() | waiting.expensively_compute_partition_keys())


def known_backfills(context: dg.AutomationContext[Any]) -> list[str]:
    """Ids of the backfills that this look counts as called off: the next one passes them to `called_off`."""
    return [backfill.backfill_id for backfill in _backfills_called_off(context.asset_graph_view)]


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
    found = {partition for asset, partition in _of_cancelled_runs(view, since.last_event_id or 0) if asset == key}
    seen = set(known)
    for backfill in _backfills_called_off(view):
        # One of a job has no such data; each of its partitions has a run.
        if backfill.backfill_id not in seen and backfill.asset_backfill_data is not None:
            found |= _not_made(backfill.asset_backfill_data, key)
    if not found:
        return view.get_empty_subset(key=key)
    every = view.get_full_subset(key=key)
    # A person may have deleted a chunk that a backfill still names.
    return (
        every.compute_intersection_with_partition_keys(every.expensively_compute_partition_keys() & found)
        if every.is_partitioned
        else every
    )


def _not_made(backfill: AssetBackfillData, key: dg.AssetKey) -> set[str | None]:
    """Partitions of an asset that a backfill was to make and did not; None without partitions."""
    left = backfill.target_subset - backfill.materialized_subset
    if key in left.non_partitioned_asset_keys:
        return {None}
    subset = left.partitions_subsets_by_asset_key.get(key)
    return set() if subset is None else set(subset.get_partition_keys())


def _backfills_called_off(view: AssetGraphView) -> tuple[PartitionBackfill, ...]:
    """The newest of them, whenever that was."""
    if view not in _backfills:
        recent = BulkActionsFilter(statuses=_CALLED_OFF, created_after=view.effective_dt - _RECENT)
        found = view.instance.get_backfills(filters=recent, limit=_BACKFILLS)
        _backfills[view] = tuple(found)
    return _backfills[view]


def _of_cancelled_runs(view: AssetGraphView, after_event: int) -> frozenset[tuple[dg.AssetKey, str | None]]:
    """Asset and partition (None without partitions) of every run that was cancelled after an event."""
    answers = _cancelled.setdefault(view, {})
    if after_event not in answers:
        planned = view.get_inner_queryer_for_back_compat().get_planned_materializations_for_run
        run_ids = _cancelled_runs(view.instance, after_event)
        runs = view.instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
        answers[after_event] = frozenset(
            # A backfill's run names its assets; asking for those of each run is a query a run.
            (key, run.tags.get("dagster/partition"))
            for run in runs
            for key in run.asset_selection or planned(run.run_id)
        )
    return answers[after_event]


def _cancelled_runs(instance: dg.DagsterInstance, after_event: int) -> list[str]:
    wanted = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_CANCELED, after_storage_id=after_event)
    found = instance.fetch_run_status_changes(wanted, limit=_RUNS)
    run_ids = [record.run_id for record in found.records]
    while found.has_more:
        found = instance.fetch_run_status_changes(wanted, limit=_RUNS, cursor=found.cursor)
        run_ids += [record.run_id for record in found.records]
    return run_ids
