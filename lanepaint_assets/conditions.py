"""Automation conditions that Dagster does not have; `automation.py` composes them.

Each looks at what happened since the last look and keeps in its cursor what it must remember. They are evaluated in the
code server, so sensors over assets that carry them need `use_user_code_server`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from lanepaint_assets.materialization import tells_complete
from lanepaint_assets.under_way import called_off, known_backfills, under_way

if TYPE_CHECKING:
    from dagster._core.asset_graph_view.entity_subset import EntitySubset

# A run that was requested by a condition says so. One that comes out incomplete all the same is not requested again.
REQUESTED_BY_TAG = "lanepaint/requested_by"
AUTOMATION = "automation"

IgnoredInputs = Callable[[str], frozenset[str]]
"""Names of the inputs of an asset that do not matter to it, by its name."""


class _Condition(dg.AutomationCondition[dg.AssetKey]):
    """What all of them have.

    Attributes:
        own_name: enters the keys of cursors.
        about: what the UI shows.
    """

    own_name: ClassVar[str]
    about: ClassVar[str]

    @property
    def name(self) -> str:
        return self.own_name

    @property
    def description(self) -> str:
        return self.about


class AtMost(_Condition):
    """True for the first partitions of its operand, so that no more than `most` of the asset are under way.

    The rest wait: what latches a request is reset only for partitions that were requested. They follow once half of the
    room is free, so that they come as a few backfills and not as runs one by one.
    """

    # Another limit starts no new history, so it is no part of the name.
    own_name = "at_most"

    def __init__(self, operand: dg.AutomationCondition[Any], most: int) -> None:
        self._operand = operand
        self._most = most

    @property
    def description(self) -> str:
        """What the UI shows."""
        return f"no more than {self._most} partitions under way"

    @property
    def children(self) -> Sequence[dg.AutomationCondition[Any]]:
        """The limited condition."""
        return [self._operand]

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick."""
        wanted = await context.for_child_condition(
            self._operand, child_indices=[0], candidate_subset=context.candidate_subset
        ).evaluate_async()
        room = self._most - (await under_way(context)).size if wanted.true_subset.size else 0
        chosen: set[str] = set()
        if 2 * room >= self._most:
            chosen = set(sorted(wanted.true_subset.expensively_compute_partition_keys())[:room])
        return dg.AutomationResult(
            context,
            true_subset=wanted.true_subset.compute_intersection_with_partition_keys(chosen),
            child_results=[wanted],
        )


class Pending(_Condition):
    """True from when its operand was, until the partition is requested or called off.

    What was true at the first look does not count.

    Not `since(newly_requested())`: a request is seen by the tick after it, together with what happened meanwhile, and
    there the reset wins. A change that came within that minute would be lost.
    """

    own_name = "pending"
    about = "since it was last requested or cancelled"

    def __init__(self, operand: dg.AutomationCondition[Any]) -> None:
        self._operand = operand

    @property
    def children(self) -> Sequence[dg.AutomationCondition[Any]]:
        """What is waited upon."""
        return [self._operand]

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick; the cursor holds the backfills that are known to be called off."""
        every = context.asset_graph_view.get_full_subset(key=context.key)
        now = await context.for_child_condition(
            self._operand, child_indices=[0], candidate_subset=every
        ).evaluate_async()
        pending = context.get_empty_subset()
        if context.previous_temporal_context is not None:
            before = context.previous_true_subset or pending
            requested = context.get_previous_requested_subset(context.key) or pending
            known = None if context.cursor is None else json.loads(context.cursor)
            settled = requested.compute_union(called_off(context, context.key, known))
            pending = before.compute_difference(settled).compute_union(now.true_subset)
        return dg.AutomationResult(
            context, true_subset=pending, child_results=[now], cursor=json.dumps(known_backfills(context))
        )


class InputChanged(_Condition):
    """True for partitions that exist and of which an input came out different since the last look, or is made now.

    Not where the run that made the input makes this asset too. Dagster's own `executed_with_root_target` knows that
    only of the very last partition of an asset, so that two chunks which finish between two looks would be requested
    again.
    A first version is no change: nothing says that the asset was made from another one.
    """

    own_name = "input_changed"
    about = "an input has another data version"

    def __init__(self, ignored: IgnoredInputs) -> None:
        self._ignored = ignored

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick; the cursor holds the observed inputs that had a version then."""
        seen = frozenset(json.loads(context.cursor or "[]"))
        inputs = _inputs(context, context.key, self._ignored)
        changed: set[str] = set()
        for upstream in inputs:
            changed |= await self._changed(context, upstream, seen)
            requested = context.request_subsets_by_key.get(upstream)
            if requested is not None:
                changed |= set(requested.expensively_compute_partition_keys())
        made = await context.asset_graph_view.compute_materialized_asset_subset(context.key)
        return dg.AutomationResult(
            context,
            true_subset=context.candidate_subset.compute_intersection(made).compute_intersection_with_partition_keys(
                changed
            ),
            cursor=json.dumps(await _observed(context, inputs)),
        )

    async def _changed(
        self, context: dg.AutomationContext[dg.AssetKey], upstream: dg.AssetKey, seen: frozenset[str]
    ) -> set[str]:
        view, since = context.asset_graph_view, context.previous_temporal_context
        changed = await _changed_partitions(context, upstream, context.key, seen)
        if not changed or since is None or not view.asset_graph.get(upstream).is_partitioned:
            return changed
        runs = view.get_inner_queryer_for_back_compat()
        latest = {
            event.partition: event.run_id
            for event in runs.get_asset_materializations_updated_after_cursor(
                asset_key=upstream, after_cursor=since.last_event_id or 0
            )
        }
        return {
            partition
            for partition in changed
            if context.key not in runs.get_planned_materializations_for_run(latest.get(partition) or "")
        }


class UnderWay(_Condition):
    """True while a run or a backfill is to make the partition, a backfill of a job included.

    Dagster's `in_progress` does not know what a backfill of a job has not launched, and would ask for it once more.
    """

    own_name = "under_way"
    about = "a run or a backfill is to make it"

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick."""
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection(await under_way(context)))


class UnsettledAbove(_Condition):
    """True for partitions that an asset further up is being made for, or is out of date for.

    Out of date: the partition exists and an input has another data version than when it was made. What is requested in
    this very tick comes before this asset in the same run, and does not count. Nor does what was called off: nobody is
    about to make it, so what is below goes on with what there is. What failed does count, until a person mends it.

    One condition and not `any_deps_match` of `any_deps_match`: those cost seconds a tick with a hundred nodes for each
    way up the graph.
    """

    own_name = "unsettled_above"
    about = "an asset further up is being made or out of date"

    def __init__(self, ignored: IgnoredInputs) -> None:
        self._ignored = ignored

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick.

        The cursor holds the partitions that are out of date, by asset, the observed inputs that had a version, and the
        backfills that are known to be called off.
        """
        kept = json.loads(context.cursor or "{}")
        seen = frozenset(kept.get("seen", ()))
        outdated: dict[str, list[str]] = {}
        unsettled: set[str] = set()
        inputs: set[dg.AssetKey] = set()
        for key in sorted(_above(context)):
            name = key.to_user_string()
            stale = set(kept.get("outdated", {}).get(name, ()))
            for upstream in _inputs(context, key, self._ignored):
                inputs.add(upstream)
                stale |= await _changed_partitions(context, upstream, key, seen)
            if stale:
                stale &= _partitions(await context.asset_graph_view.compute_materialized_asset_subset(key))
                stale -= await _made_since(context, key)
                stale -= _partitions(called_off(context, key, kept.get("called_off")))
                outdated[name] = sorted(stale)
            requested = context.request_subsets_by_key.get(key)
            now = set(requested.expensively_compute_partition_keys()) if requested is not None else set()
            unsettled |= (stale | _partitions(await under_way(context, key))) - now
        return dg.AutomationResult(
            context,
            true_subset=context.candidate_subset.compute_intersection_with_partition_keys(unsettled),
            cursor=json.dumps(
                {
                    "seen": await _observed(context, inputs),
                    "outdated": outdated,
                    "called_off": known_backfills(context),
                }
            ),
        )


def _partitions(subset: EntitySubset[dg.AssetKey]) -> set[str]:
    return set(subset.expensively_compute_partition_keys())


def _inputs(context: dg.AutomationContext[Any], key: dg.AssetKey, ignored: IgnoredInputs) -> list[dg.AssetKey]:
    parents = context.asset_graph_view.asset_graph.get(key).parent_keys
    unread = ignored(key.to_user_string())
    return sorted(parent for parent in parents if parent.to_user_string() not in unread)


async def _observed(context: dg.AutomationContext[Any], inputs: Iterable[dg.AssetKey]) -> list[str]:
    """Those of the inputs without partitions that have a version."""
    view = context.asset_graph_view
    found = []
    for key in inputs:
        if not view.asset_graph.get(key).is_partitioned:
            missing = await view.compute_missing_subset(key=key, from_subset=view.get_full_subset(key=key))
            if missing.is_empty:
                found.append(key.to_user_string())
    return sorted(found)


async def _changed_partitions(
    context: dg.AutomationContext[Any], upstream: dg.AssetKey, asset: dg.AssetKey, seen: frozenset[str]
) -> set[str]:
    """Partitions of an asset of which an input has another data version than at the last look."""
    view, since = context.asset_graph_view, context.previous_temporal_context
    if since is None:
        return set()
    changed = await view.compute_data_version_changed_since_temporal_context_subset(
        key=upstream, temporal_context=since
    )
    if changed.is_empty:
        return set()
    if changed.is_partitioned:
        earlier = view.get_inner_queryer_for_back_compat().get_materialized_partitions(
            upstream, before_cursor=(since.last_event_id or 0) + 1
        )
        return set(changed.expensively_compute_partition_keys()) & set(earlier)
    if upstream.to_user_string() not in seen:
        return set()
    return set((await view.compute_materialized_asset_subset(asset)).expensively_compute_partition_keys())


async def _made_since(context: dg.AutomationContext[Any], key: dg.AssetKey) -> set[str]:
    since = context.previous_temporal_context
    if since is None:
        return set()
    made = await context.asset_graph_view.compute_updated_since_temporal_context_subset(key=key, temporal_context=since)
    return set(made.expensively_compute_partition_keys())


def _above(context: dg.AutomationContext[dg.AssetKey]) -> set[dg.AssetKey]:
    """All assets that share the asset's partitions and that it is made from, however indirectly."""
    graph = context.asset_graph_view.asset_graph
    partitions = graph.get(context.key).partitions_def
    found: set[dg.AssetKey] = set()
    open_ends = [context.key]
    while open_ends:
        for parent in graph.get(open_ends.pop()).parent_keys:
            if parent not in found and graph.get(parent).partitions_def == partitions:
                found.add(parent)
                open_ends.append(parent)
    return found


class LeftIncomplete(_Condition):
    """True for partitions that a run has just made only in part, because it was narrowed to some prompts.

    Not for runs that a condition requested: those ask for everything, so what they leave out, another would too.
    """

    own_name = "left_incomplete"
    about = "made for some prompts only since the last look"

    async def evaluate(  # type: ignore[override]  # Dagster awaits what its own conditions return
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Called by Dagster once a tick; reads only materializations that are new since the last one."""
        since = context.previous_temporal_context
        subset: EntitySubset[dg.AssetKey] = context.get_empty_subset()
        if since is not None:
            view = context.asset_graph_view
            updated = await view.compute_updated_since_temporal_context_subset(key=context.key, temporal_context=since)
            if not updated.is_empty:
                found = incomplete_partitions(view.instance, context.key, since.last_event_id or 0)
                subset = updated.compute_intersection_with_partition_keys(found)
        return dg.AutomationResult(context, subset)


# Events that one question fetches; each carries its metadata, tens of kilobytes with a preview.
_FETCHED_AT_ONCE = 200


def incomplete_partitions(instance: dg.DagsterInstance, asset: dg.AssetKey, after_event: int) -> set[str]:
    """Partitions whose latest materialization after an event is incomplete and was not requested by a condition."""
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    versions = instance.event_log_storage.get_latest_tags_by_partition(
        asset, made, [DATA_VERSION_TAG], after_cursor=after_event
    )
    suspects = {partition for partition, tags in versions.items() if not tells_complete(tags[DATA_VERSION_TAG])}
    if not suspects:
        return set()
    # Which run made them, their events alone tell.
    events = sorted(instance.get_latest_storage_id_by_partition(asset, made, suspects).values())
    run_of: dict[str | None, str] = {}
    for start in range(0, len(events), _FETCHED_AT_ONCE):
        wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=events[start : start + _FETCHED_AT_ONCE])
        for record in instance.fetch_materializations(wanted, limit=_FETCHED_AT_ONCE).records:
            run_of[record.partition_key] = record.run_id
    requested = {
        run.run_id
        for run in instance.get_runs(dg.RunsFilter(run_ids=list(run_of.values())))
        if run.tags.get(REQUESTED_BY_TAG) == AUTOMATION
    }
    return {partition for partition in suspects if run_of.get(partition) not in requested}
