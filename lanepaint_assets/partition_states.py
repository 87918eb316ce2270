"""What Dagster knows of the partitions: what is made, under way, failed or out of date, and why.

Called by `lanepaint status`. Read-only. What lies in the store, and words for people, do not belong here.

Out of date means what the UI calls unsynced: an input has another data version than the one that the partition was made
from, or the asset has another code version. Dagster's own resolver takes a tenth of a second a chunk, so ten thousand
chunks would take a quarter of an hour. Here the same is read in bulk: of few partitions from the event of each, which
notes what it was made from; of many from the order of events, and of their code versions from samples. The resolver
also leaves out inputs of a hundred partitions or more; here they count. For it an input's first observation is a
change; here it is none, as for the conditions: a run of the command line observes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from dagster._core.definitions.data_version import (
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    DataProvenance,
    extract_data_provenance_from_entry,
    extract_data_version_from_entry,
)

from lanepaint_assets.materialization import tells_complete
from lanepaint_assets.under_way import Targets, left_to_backfills

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

State = Literal["fresh", "stale", "running", "queued", "failed", "cancelled", "missing"]
"""Of one partition of one asset, first match: `running` and `queued`: a run or backfill is to make it; `failed`: the
last run that was to make it failed; `missing`: never made, `cancelled` where that is because its run was; `stale`: an
input or the code changed since; else `fresh`."""

STATES: tuple[State, ...] = ("fresh", "stale", "running", "queued", "failed", "cancelled", "missing")

# Up to so many partitions, the event of each is read: a millisecond each, five with a large table and a preview in it.
READ_ONE_BY_ONE = 400
# Of more than that, so many events of an asset tell its code versions, before it is looked where they changed.
_SAMPLES = 24
# Events that one question fetches; each carries its metadata, tens of kilobytes with a preview.
_FETCHED_AT_ONCE = 200
# Observations that are looked through for the version that an asset was made from. One is made when files change.
_MOST_OBSERVATIONS = 1000
# Runs that one question fetches.
_RUNS_AT_ONCE = 500

_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_WORKING = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION


@dataclass(frozen=True)
class PartitionState:
    """What is known of one partition of an asset.

    Attributes:
        state: see `State`.
        causes: why it is out of date, in words; also told where it is under way or failed meanwhile.
        run_id: the last run that was to make it and has not.
        came_to: what became of that run.
        made: when it was last made; None where it never was, or its event was not read.
        complete: False where the run that made it was narrowed to some prompts; None where it was never made, or by
            something else than a run.
    """

    state: State
    causes: tuple[str, ...] = ()
    run_id: str | None = None
    came_to: State | None = None
    made: datetime | None = None
    complete: bool | None = None


@dataclass(frozen=True)
class _Receipt:
    """What the event of a materialization notes."""

    made: datetime
    provenance: DataProvenance | None


class PartitionStates:
    """The states of an instance at one moment.

    Args:
        instance: Dagster's.
        definitions: the code location.
        unread: names of the inputs that an asset does not read, by its own name: checkpoints of engines that are not
            chosen. They count as changed for the UI, but making the asset again would change nothing.
        one_by_one: up to how many partitions the event of each is read; given by tests.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        definitions: dg.Definitions,
        *,
        unread: Callable[[str], Collection[str]] = lambda _: (),
        one_by_one: int = READ_ONE_BY_ONE,
    ) -> None:
        self._instance = instance
        self._graph: BaseAssetGraph[Any] = definitions.resolve_asset_graph()
        self._unread = unread
        self._one_by_one = one_by_one
        # Each is asked for by every asset below.
        self._latest = cache(self._read_latest)
        self._versions = cache(self._read_versions)
        self._observations = cache(self._read_observations)

    def of(self, assets: Sequence[str], chunks: Sequence[str]) -> dict[str, dict[str, PartitionState]]:
        """The state of every one of `chunks`, by asset and chunk."""
        reads_all = len(assets) * len(chunks) <= self._one_by_one
        found: dict[str, dict[str, PartitionState]] = {}
        for asset in assets:
            key = dg.AssetKey(asset)
            wanted = set(chunks)
            latest = {chunk: event for chunk, event in self._latest(key).items() if chunk in wanted}
            receipts = self._receipts(key, latest.values()) if reads_all else {}
            causes = self._causes(key, latest, receipts)
            attempts, versions = self._attempts(key), self._versions(key)
            found[asset] = {
                chunk: _state(
                    attempts.get(chunk),
                    is_made=chunk in latest,
                    is_waiting=chunk in self._waiting.get(key, ()),
                    causes=causes.get(chunk, ()),
                    made=receipts[latest[chunk]].made if latest.get(chunk) in receipts else None,
                    complete=tells_complete(versions[chunk]) if chunk in versions else None,
                )
                for chunk in chunks
            }
        return found

    def whole(self, asset: str) -> PartitionState:
        """The state of an asset without partitions that gathers all chunks; being behind is its only cause."""
        key = dg.AssetKey(asset)
        made = self._instance.get_latest_data_version_record(key)
        return _state(
            self._attempt_at_all(key, 0 if made is None else made.storage_id),
            is_made=made is not None,
            is_waiting=key in self._waiting,
            causes=() if made is None else tuple(self._newer_inputs(key, made.storage_id)),
            made=None if made is None else datetime.fromtimestamp(made.timestamp, UTC),
        )

    def reasons(self, run_ids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Why runs failed, by run and step; a run that ended outside of its steps tells it under ''."""
        told: dict[str, dict[str, str]] = {}
        for run_id in dict.fromkeys(run_ids):
            steps: dict[str, str] = {}
            for record in self._instance.get_records_for_run(
                run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
            ).records:
                event = record.event_log_entry.dagster_event
                if event is None:
                    continue
                if event.is_step_failure:
                    failure = event.step_failure_data
                    described = failure.user_failure_data.description if failure.user_failure_data else None
                    text = described or (failure.error.message if failure.error else None) or "failed"
                    steps[event.step_key or ""] = text.strip()
                elif not steps:
                    steps[""] = (event.message or "the run failed").strip()
            told[run_id] = steps
        return told

    @cached_property
    def _waiting(self) -> Targets:
        return left_to_backfills(self._instance)

    def _read_latest(self, key: dg.AssetKey) -> Mapping[str, int]:
        """Event of the latest materialization, by partition."""
        return self._instance.get_latest_storage_id_by_partition(key, _MADE)

    def _read_versions(self, key: dg.AssetKey, before: int | None = None) -> Mapping[str, str]:
        """Data version by partition, of now or as it was before an event."""
        tags = self._instance.event_log_storage.get_latest_tags_by_partition(
            key, _MADE, [DATA_VERSION_TAG], before_cursor=before
        )
        return {partition: found[DATA_VERSION_TAG] for partition, found in tags.items() if DATA_VERSION_TAG in found}

    def _version(self, key: dg.AssetKey, chunk: str) -> str:
        return self._versions(key).get(chunk, DEFAULT_DATA_VERSION.value)

    def _version_at(self, key: dg.AssetKey, chunk: str, event: int) -> str | None:
        """Of the chunk's latest materialization up to an event, which may be of another chunk."""
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[chunk], before_storage_id=event + 1)
        for record in self._instance.fetch_materializations(wanted, limit=1).records:
            return (extract_data_version_from_entry(record.event_log_entry) or DEFAULT_DATA_VERSION).value
        return None

    def _read_observations(self, key: dg.AssetKey) -> list[tuple[int, str]]:
        """Events and versions of an observed asset, oldest first."""
        found: list[tuple[int, str]] = []
        cursor = None
        while len(found) < _MOST_OBSERVATIONS:
            page = self._instance.fetch_observations(key, limit=_FETCHED_AT_ONCE, cursor=cursor)
            for record in page.records:
                version = extract_data_version_from_entry(record.event_log_entry)
                found.append((record.storage_id, (version or DEFAULT_DATA_VERSION).value))
            if not page.has_more:
                break
            cursor = page.cursor
        return found[::-1]

    def _attempts(self, key: dg.AssetKey) -> dict[str, tuple[str, State]]:
        """Run and state of the partitions that a run was to make after they were last made, and has not."""
        storage = self._instance.event_log_storage
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        run_ids = sorted({run_id for run_id, _ in attempts.values()})
        states: dict[str, State] = {}
        for start in range(0, len(run_ids), _RUNS_AT_ONCE):
            for run in self._instance.get_runs(dg.RunsFilter(run_ids=run_ids[start : start + _RUNS_AT_ONCE])):
                state = _state_of_run(run.status)
                if state is not None:
                    states[run.run_id] = state
        return {chunk: (run_id, states[run_id]) for chunk, (run_id, _) in attempts.items() if run_id in states}

    def _attempt_at_all(self, key: dg.AssetKey, made: int) -> tuple[str, State] | None:
        """As `_attempts`, of an asset without partitions that was last made by an event."""
        planned = self._instance.event_log_storage.get_latest_planned_materialization_info(key)
        if planned is None or planned.storage_id < made:
            return None
        run = self._instance.get_run_by_id(planned.run_id)
        state = None if run is None else _state_of_run(run.status)
        return None if state is None else (planned.run_id, state)

    def _receipts(self, key: dg.AssetKey, events: Iterable[int]) -> dict[int, _Receipt]:
        wanted = sorted(set(events))
        found = {}
        for start in range(0, len(wanted), _FETCHED_AT_ONCE):
            some = wanted[start : start + _FETCHED_AT_ONCE]
            records = self._instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, storage_ids=some), limit=len(some)
            ).records
            for record in records:
                found[record.storage_id] = _Receipt(
                    made=datetime.fromtimestamp(record.timestamp, UTC),
                    provenance=extract_data_provenance_from_entry(record.event_log_entry),
                )
        return found

    def _causes(
        self, key: dg.AssetKey, latest: Mapping[str, int], receipts: Mapping[int, _Receipt]
    ) -> dict[str, tuple[str, ...]]:
        """Why partitions are out of date, by partition; those that are not are left out."""
        causes: dict[str, list[str]] = {}
        unread: dict[str, int] = {}
        for chunk, event in latest.items():
            provenance = receipts[event].provenance if event in receipts else None
            if provenance is None:
                unread[chunk] = event
            else:
                causes[chunk] = list(self._noted_causes(key, chunk, provenance))
        if unread:
            for chunk, cause in self._inferred_causes(key, unread):
                causes.setdefault(chunk, []).append(cause)
        return {chunk: tuple(found) for chunk, found in causes.items() if found}

    def _noted_causes(self, key: dg.AssetKey, chunk: str, made_from: DataProvenance) -> Iterator[str]:
        """By what the event of the partition notes."""
        node = self._graph.get(key)
        if node.code_version and node.code_version != made_from.code_version:
            yield _other_code(made_from.code_version, node.code_version)
        for gone in sorted(set(made_from.input_data_versions) - node.parent_keys):
            yield f"it no longer depends on {gone.to_user_string()}"
        for parent in self._read_inputs(key):
            if not made_from.has_input_asset(parent):
                yield f"it now depends on {parent.to_user_string()}"
                continue
            if not self._graph.get(parent).is_partitioned:
                noted = made_from.input_data_versions[parent]
                before = self._observed(parent, 0) if noted == DEFAULT_DATA_VERSION else noted.value
                if before != self._observed(parent, None):
                    yield _other_version(parent)
                continue
            # Of a partition, what is noted as its version is a digest; the version itself is at the event.
            now = self._latest(parent).get(chunk)
            pointer = made_from.input_storage_ids[parent]
            # Without a pointer it was made from none, and a first version is no change here either.
            if now is None or pointer is None or now <= pointer:
                continue
            if self._version_at(parent, chunk, pointer) not in (None, self._version(parent, chunk)):
                yield _other_version(parent)

    def _inferred_causes(self, key: dg.AssetKey, made: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """By the order of events alone.

        An input that changed while the partition was being made is missed, and so is one that was made twice since and
        came out different the first time only.
        """
        node = self._graph.get(key)
        if node.code_version:
            before = self._code_versions(key, sorted(made.values()))
            for chunk, event in made.items():
                code = before[event]
                if code is not None and code != node.code_version:
                    yield chunk, _other_code(code, node.code_version)
        for parent in self._read_inputs(key):
            for chunk in self._changed_since(parent, made):
                yield chunk, _other_version(parent)

    def _read_inputs(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        unread = self._unread(key.to_user_string())
        return sorted(parent for parent in self._graph.get(key).parent_keys if parent.to_user_string() not in unread)

    def _observed(self, key: dg.AssetKey, before: int | None) -> str:
        """Version of an observed asset, of now or as it was before an event.

        Before its first observation it counts as what that found: a first version is no change, as for conditions.
        """
        observations = self._observations(key)
        end = len(observations) if before is None else bisect_left(observations, (before, ""))
        return observations[max(end, 1) - 1][1] if observations else DEFAULT_DATA_VERSION.value

    def _changed_since(self, parent: dg.AssetKey, made: Mapping[str, int]) -> Iterator[str]:
        """Partitions of which the input has another version than when they were made."""
        if not self._graph.get(parent).is_partitioned:
            version = self._observed(parent, None)
            yield from (chunk for chunk, event in made.items() if self._observed(parent, event) != version)
            return
        now = self._latest(parent)
        newer = sorted((event, chunk) for chunk, event in made.items() if now.get(chunk, 0) > event)
        group: list[str] = []
        last, first_newer = 0, 0
        for event, chunk in newer:
            # One question serves all that were made before any of their inputs was made again.
            if group and event >= first_newer:
                yield from self._different(parent, group, last)
                group = []
            first_newer = min(first_newer, now[chunk]) if group else now[chunk]
            group.append(chunk)
            last = event
        if group:
            yield from self._different(parent, group, last)

    def _different(self, parent: dg.AssetKey, chunks: Sequence[str], after: int) -> Iterator[str]:
        before, now = self._read_versions(parent, after + 1), self._versions(parent)
        return (chunk for chunk in chunks if chunk in before and before[chunk] != now.get(chunk))

    def _code_versions(self, key: dg.AssetKey, events: Sequence[int]) -> dict[int, str | None]:
        """Code version by event, the events sorted; where two samples agree, what lies between is taken to agree."""
        step = max(1, len(events) // _SAMPLES)
        places = sorted({*range(0, len(events), step), len(events) - 1})
        known: dict[int, str | None] = {}
        while places:
            receipts = self._receipts(key, [events[place] for place in places])
            for place in places:
                receipt = receipts.get(events[place])
                known[place] = receipt.provenance.code_version if receipt and receipt.provenance else None
            ends = sorted(known)
            places = [
                (left + right) // 2
                for left, right in pairwise(ends)
                if right - left > 1 and known[left] != known[right]
            ]
        ends = sorted(known)
        versions: dict[int, str | None] = {}
        for left, right in zip(ends, [*ends[1:], len(events)], strict=True):
            versions.update(dict.fromkeys(events[left:right], known[left]))
        return versions

    def _newer_inputs(self, key: dg.AssetKey, made: int) -> Iterator[str]:
        for parent in sorted(self._graph.get(key).parent_keys):
            newer = sum(event > made for event in self._latest(parent).values())
            if newer:
                yield f"{newer:,} {parent.to_user_string()} made since"


def _state(
    attempt: tuple[str, State] | None,
    *,
    is_made: bool,
    is_waiting: bool,
    causes: tuple[str, ...],
    made: datetime | None,
    complete: bool | None = None,
) -> PartitionState:
    run_id, tried = attempt if attempt is not None else (None, None)
    state: State
    if tried == "running":
        state = "running"
    elif tried == "queued" or is_waiting:
        state = "queued"
    elif tried == "failed":
        state = "failed"
    elif not is_made:
        state = "cancelled" if tried == "cancelled" else "missing"
    else:
        state = "stale" if causes else "fresh"
    return PartitionState(state=state, causes=causes, run_id=run_id, came_to=tried, made=made, complete=complete)


def _state_of_run(status: dg.DagsterRunStatus) -> State | None:
    """What a run makes of the partitions that it has not made; None where it ended well without them."""
    if status in _WAITING:
        return "queued"
    if status in _WORKING:
        return "running"
    if status == dg.DagsterRunStatus.FAILURE:
        return "failed"
    return "cancelled" if status == dg.DagsterRunStatus.CANCELED else None


def _other_code(before: str, now: str) -> str:
    return f"its code version was {before} and is {now}, which starts nothing by itself"


def _other_version(parent: dg.AssetKey) -> str:
    return f"{parent.to_user_string()} has another version"
