"""The loop that every asset runs over its items: reuse what stands, compute the rest, record each result at once.

Called by the stages' assets. Nothing here knows what an item is made of, nor Dagster.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import JsonValue
from tqdm import tqdm

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import canonical_json, data_version
from lanepaint_assets.store.layout import CHUNK_ROW, check_fingerprint, check_item_key
from lanepaint_assets.store.manifest import ItemRow, Manifest, Status
from lanepaint_assets.store.stopping import AbandonedError, Stop, graceful_stop

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with (items done, items to compute, key of the item just done); first with (0, total, "")."""

# Enough for a message with its context; a manifest is read by every stage and must not carry whole logs.
_LONGEST_REASON = 2000


class ItemError(Exception):
    """An item cannot be made, for a reason that people should read as it stands."""


class DeviceMemoryError(ItemError):
    """The device's memory does not suffice as things are; the item may well be made when it is less in use."""


class StepError(Exception):
    """Nothing of the step can be made, for a reason that is no item's own and that people should read as it stands."""


@dataclass(frozen=True)
class ItemTask:
    """One item that the catalogue calls for.

    Attributes:
        key: item key.
        fingerprint: what the item would be made from now.
        selected: False where this run was told to leave the item alone; a standing result is reused all the same.
        blocked: why the item cannot be made (its upstream item failed or is outdated); it becomes a failed row without
            computing, and where a result stands, that becomes outdated.
        engine: engine and version that would make it.
        facts: what is known of it beforehand; its row holds them, a failed one too.
    """

    key: str
    fingerprint: str
    selected: bool = True
    blocked: str | None = None
    engine: str | None = None
    facts: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ItemOutput:
    """What computing an item gives besides its files: facts for later stages, and seconds by phase."""

    facts: dict[str, JsonValue] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)


Compute = Callable[[ItemTask, Path], ItemOutput]
"""Makes one item's files below an empty local folder.

Raises ItemError (or any Exception) where it cannot, StepError where no item can be made.
"""

Write = Callable[[Path], ItemOutput]
"""Writes a finished item's files below an empty local folder, or raises why there is no result, as `Compute` does."""

Grouping = Callable[[Sequence[ItemTask]], Sequence[Sequence[ItemTask]]]
"""Which items are computed together, of those to compute; keeps their order."""

ComputeGroup = Callable[[Sequence[ItemTask]], Iterator[tuple[ItemTask, Write]]]
"""Computes items together and yields each of them as soon as it is finished; what it raises fails all others."""


def no_result(error: Exception) -> Write:
    """What stands for an item that cannot be made: writing it raises `error`."""

    def write(_: Path) -> ItemOutput:
        raise error

    return write


@dataclass(frozen=True)
class PartitionOutcome:
    """What a partition holds after a run.

    Attributes:
        manifest: the manifest at the end, other runs' rows included.
        called_for: keys of all tasks, in their order.
        computed: keys that this run made.
        reused: keys whose result stood already, or was finished by another run meanwhile.
        failed: keys whose row says why there is no result, of this run or (not selected now) an earlier one.
        complete: True if every called-for key has a row of the fingerprint asked for, ok or failed.
        data_version: digest of the called-for rows.
        seconds: wall-clock time of the run.
    """

    manifest: Manifest
    called_for: tuple[str, ...]
    computed: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[str, ...]
    complete: bool
    data_version: str
    seconds: float

    @property
    def rows(self) -> tuple[ItemRow, ...]:
        """The called-for rows that exist, in the tasks' order."""
        return tuple(self.manifest.rows[key] for key in self.called_for if key in self.manifest.rows)


def run_items(
    store: ArtifactStore,
    asset: str,
    chunk: str,
    tasks: Sequence[ItemTask],
    compute: Compute,
    *,
    run_id: str,
    workers: int = 1,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> PartitionOutcome:
    """Bring a partition to what `tasks` ask for, doing no work twice (ARCHITECTURE, "The store").

    Rows that no task names become `retired`; unselected rows of another fingerprint, and rows of the same one whose
    input is outdated or failed, `outdated`; files of both stay.
    Every finished item enters the manifest at once, so a killed run loses at most the items it was working on; one that
    is asked to end first finishes or abandons them (`stopping.py`).

    Args:
        tasks: everything the catalogue calls for, in the order to compute it.
        compute: called for selected items without a standing result, from `workers` threads at once.
        run_id: stamped on the rows that this run writes.
        workers: 1 computes in the calling thread, where an interrupt ends an item at once.
        scratch: where items are staged; by default the system's temporary folder.
        progress: by default a bar on a terminal's standard error.

    Raises:
        StepError: no item can be made; those that were being made are not recorded.
        StoreError: the manifest cannot be read or written.
        ValueError: two tasks share a key, or one has a key that may not enter a path.
        OSError: a finished item cannot be written.
    """

    def alone(group: Sequence[ItemTask]) -> Iterator[tuple[ItemTask, Write]]:
        for task in group:
            yield task, partial(compute, task)

    return run_item_groups(
        store, asset, chunk, tasks, alone, run_id=run_id, workers=workers, scratch=scratch, progress=progress
    )


def run_item_groups(
    store: ArtifactStore,
    asset: str,
    chunk: str,
    tasks: Sequence[ItemTask],
    compute_group: ComputeGroup,
    *,
    run_id: str,
    grouping: Grouping | None = None,
    workers: int = 1,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> PartitionOutcome:
    """As `run_items`, for items that are better computed together: models take turns on a device a group, not an item.

    Args:
        compute_group: given a group of tasks without a standing result.
        grouping: by default every item is alone.

    Other arguments and errors as for `run_items`.
    """
    started = time.monotonic()
    _check_tasks(tasks)
    with graceful_stop() as stop:
        run = _Run(store, asset, chunk, run_id, scratch, stop)
        todo, reused = run.reconcile(tasks)
        groups = [[task] for task in todo] if grouping is None else grouping(todo)
        computed: list[str] = []
        with _progress_of(asset, chunk, progress) as report:
            done = 0
            report(done, len(todo), "")
            for key, was_computed in _each(partial(run.make, compute_group), groups, workers, stop):
                done += 1
                (computed if was_computed else reused).append(key)
                report(done, len(todo), key)
    if done < len(todo):
        raise StepError(f"{asset} of {chunk} was asked to end before all of its items were made")
    return _outcome(store.manifest(asset, chunk), tasks, set(computed), set(reused), time.monotonic() - started)


def run_chunk_item(
    store: ArtifactStore,
    asset: str,
    chunk: str,
    fingerprint: str,
    compute: Compute,
    *,
    run_id: str,
    engine: str | None = None,
    scratch: Path | None = None,
) -> ItemRow:
    """Make the row `_chunk`, whose files span the partition's items, unless it stands.

    Call it after `run_items`, with a fingerprint over the rows that the files are made from. Other rows stay as they
    are, and the row does not enter the data version: it follows from rows that do.

    Returns:
        The row as it stands, failed with its reason where `compute` raised.
    """
    run = _Run(store, asset, chunk, run_id, scratch)
    task = ItemTask(CHUNK_ROW, fingerprint, engine=engine)
    row = store.manifest(asset, chunk).rows.get(CHUNK_ROW)
    if row is not None and _stands(row, task) and store.keys_with_lost_files(asset, chunk, [row]):
        store.merge(asset, chunk, [_marked(row, "outdated", reason=_FILES_LOST)])
    if not run.is_made(task):
        run.record(task, partial(compute, task))
    return store.manifest(asset, chunk).rows[CHUNK_ROW]


_FILES_LOST = "its files are no longer in the store"


@dataclass(frozen=True)
class _Run:
    """One run over one partition."""

    store: ArtifactStore
    asset: str
    chunk: str
    run_id: str
    scratch: Path | None
    stop: Stop = field(default_factory=Stop)

    def reconcile(self, tasks: Sequence[ItemTask]) -> tuple[list[ItemTask], list[str]]:
        """Write every change of status that needs no computing.

        Returns:
            The tasks to compute, and the keys of the rows that stand.
        """
        rows = self.store.manifest(self.asset, self.chunk).rows
        standing = [rows[task.key] for task in tasks if task.key in rows and _stands(rows[task.key], task)]
        lost = self.store.keys_with_lost_files(self.asset, self.chunk, standing)
        changes, todo, reused = [], [], []
        for task in tasks:
            row = rows.get(task.key)
            if row is not None and _stands(row, task) and task.key not in lost:
                # An outdated input keeps its fingerprint, so this item's is the same and yet not what is called for.
                status: Status = "ok" if task.blocked is None else "outdated"
                if status == "ok":
                    reused.append(task.key)
                if row.status != status:
                    changes.append(_marked(row, status))
                continue
            if task.key in lost:
                changes.append(_marked(rows[task.key], "outdated", reason=_FILES_LOST))
            if task.selected and task.blocked is not None:
                changes.append(self._failed(task, task.blocked))
            elif task.selected:
                todo.append(task)
            elif row is not None and row.fingerprint != task.fingerprint:
                changes.append(_marked(row, "outdated"))
            elif row is not None and row.status != "failed" and row.folder is None:
                # It had failed for this fingerprint before the catalogue asked for another one for a while.
                changes.append(_marked(row, "failed"))
        wanted = {task.key for task in tasks} | {CHUNK_ROW}
        changes += [_marked(row, "retired") for key, row in rows.items() if key not in wanted]
        self.store.merge(self.asset, self.chunk, changes)
        return todo, reused

    def make(self, compute_group: ComputeGroup, group: Sequence[ItemTask]) -> Iterator[tuple[str, bool]]:
        """Compute a group and enter its rows; yields each key, with False where another run has made it meanwhile.

        Ends early, between two items, when the process is asked to end.
        """
        unfinished = {}
        if self.stop.requested:
            return
        for task in group:
            if self.is_made(task):
                yield task.key, False
            else:
                unfinished[task.key] = task
        trouble: Exception = RuntimeError("it was left out when its group was computed")
        finished = compute_group(tuple(unfinished.values())) if unfinished else iter(())
        while unfinished:
            try:
                task, write = next(finished)
            except StopIteration:
                break
            except StepError:
                raise
            except Exception as error:
                log.exception("%s of %s: computing a group failed", self.asset, self.chunk)
                trouble = error
                break
            # Outside the try: what fails here is the store, and no fault of the group.
            self.record(unfinished.pop(task.key), write)
            yield task.key, True
            if self.stop.requested:
                return
        for task in unfinished.values():
            self.record(task, no_result(trouble))
            yield task.key, True

    def is_made(self, task: ItemTask) -> bool:
        """Whether another run has finished the item meanwhile."""
        row = self.store.manifest(self.asset, self.chunk).rows.get(task.key)
        return row is not None and row.status == "ok" and row.fingerprint == task.fingerprint

    def record(self, task: ItemTask, write: Write) -> None:
        """Write one item and enter its row."""
        if self.scratch is not None:
            self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lanepaint-", dir=self.scratch) as staged:
            self.store.merge(self.asset, self.chunk, [self._computed(task, write, Path(staged))])

    def _check_in_time(self) -> None:
        """Keep a thread that nobody waits for any more from entering what it comes to."""
        if self.stop.expired:
            raise AbandonedError

    def _computed(self, task: ItemTask, write: Write, staged: Path) -> ItemRow:
        started = time.monotonic()
        try:
            output = write(staged)
            self._check_in_time()
            canonical_json(output.facts)  # NaN would come back from the manifest as null
            row = ItemRow(
                key=task.key,
                fingerprint=task.fingerprint,
                status="ok",
                facts={**task.facts, **output.facts},
                timings_s={"total": time.monotonic() - started, **output.timings_s},
                run_id=self.run_id,
                engine=task.engine,
            )
        except ItemError as error:
            self._check_in_time()
            log.warning("%s of %s: %s failed: %s", self.asset, self.chunk, task.key, error)
            return self._failed(task, str(error), time.monotonic() - started)
        except (StepError, AbandonedError):
            raise
        except Exception as error:
            self._check_in_time()
            log.exception("%s of %s: %s failed", self.asset, self.chunk, task.key)
            return self._failed(task, f"{type(error).__name__}: {error}", time.monotonic() - started)
        # Outside the try: what fails here is the store, and no fault of the item.
        if any(staged.iterdir()):
            folder, files = self.store.publish(self.asset, self.chunk, task.key, task.fingerprint, staged)
            row = row.model_copy(update={"folder": folder, "files": files})
        return row

    def _failed(self, task: ItemTask, reason: str, seconds: float = 0.0) -> ItemRow:
        return ItemRow(
            key=task.key,
            fingerprint=task.fingerprint,
            status="failed",
            reason=reason[:_LONGEST_REASON] or "no reason was given",
            facts=dict(task.facts),
            timings_s={"total": seconds},
            run_id=self.run_id,
            engine=task.engine,
        )


def _stands(row: ItemRow, task: ItemTask) -> bool:
    return row.fingerprint == task.fingerprint and row.has_result


def _marked(row: ItemRow, status: Status, reason: str | None = None) -> ItemRow:
    return ItemRow.model_validate({**dict(row), "status": status, "reason": reason or row.reason})


def _check_tasks(tasks: Sequence[ItemTask]) -> None:
    seen = set()
    for task in tasks:
        check_item_key(task.key)
        check_fingerprint(task.fingerprint)
        if task.key in seen:
            raise ValueError(f"two tasks have the key {task.key!r}")
        seen.add(task.key)


def _each(
    make: Callable[[Sequence[ItemTask]], Iterator[tuple[str, bool]]],
    groups: Sequence[Sequence[ItemTask]],
    workers: int,
    stop: Stop,
) -> Iterator[tuple[str, bool]]:
    """Yield each task's key and whether it was computed, as they finish; of groups in threads, as groups finish."""
    if workers <= 1:
        for group in groups:
            yield from make(group)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lanepaint-item")
    try:
        for future in as_completed([pool.submit(lambda group: list(make(group)), group) for group in groups]):
            yield from future.result()
    finally:
        # After an interrupt, items that run are finished and recorded, the others are not started. When the time to end
        # is over nobody waits: threads cannot be broken off, and those that go on enter nothing.
        pool.shutdown(wait=not stop.expired, cancel_futures=True)


@contextmanager
def _progress_of(asset: str, chunk: str, progress: Progress | None) -> Iterator[Progress]:
    if progress is not None:
        yield progress
        return
    with tqdm(desc=f"{asset} {chunk}", unit="item", file=sys.stderr, disable=None, leave=False) as bar:

        def advance(done: int, total: int, label: str) -> None:
            bar.total = total
            bar.set_postfix_str(label, refresh=False)
            bar.update(done - bar.n)

        yield advance


def _outcome(
    manifest: Manifest, tasks: Sequence[ItemTask], computed: set[str], reused: set[str], seconds: float
) -> PartitionOutcome:
    rows = {task.key: manifest.rows[task.key] for task in tasks if task.key in manifest.rows}
    settled = {
        task.key
        for task in tasks
        if task.key in rows
        and rows[task.key].fingerprint == task.fingerprint
        and rows[task.key].status in ("ok", "failed")
    }
    failed = {key for key in settled if rows[key].status == "failed"}
    keys = tuple(task.key for task in tasks)
    return PartitionOutcome(
        manifest=manifest,
        called_for=keys,
        computed=tuple(key for key in keys if key in computed - failed),
        reused=tuple(key for key in keys if key in reused),
        failed=tuple(key for key in keys if key in failed),
        complete=len(settled) == len(keys),
        data_version=data_version(rows.values()),
        seconds=seconds,
    )
