"""Sensor that finds new chunks and changed files in the source. Off until a person turns it on.

Looking at the source is `partitions.py`; here it is decided what is requested. What was requested is read from runs and
backfills, not from the cursor: the cursor is written after the runs, so it would forget those of a tick that was killed
in between.

A chunk without `raw_clips` is requested once; whatever became of its run, what follows is the conditions' and people's
business. A change of files is requested when no run of the chunk is under way. If that fails, it is requested once more
an hour later; if a person cancels it, it is left alone until the files change again. The tick names all that is left
alone: no asset would show it.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG
from pydantic import BaseModel, ValidationError

from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.clips.steps import SourceChange
from lanepaint_assets.partitions import Rest, SourceLook, Unchanged, look_at_source, registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.under_way import left_to_backfills

# New partitions, first runs and runs for changed files of one tick, each: a first look at a large bucket must not
# request thousands of runs at once.
CHUNKS_PER_TICK = 10
INTERVAL_S = 60
# Comparing ten thousand chunks with a bucket takes minutes, the daemon waits a minute for a tick: what is left is
# looked at in the next ones. So it is with chunks that nobody has run, which may all be another source's.
LOOK_S = 5.0
FIRST_RUNS_S = 2.0

# How often `raw_clips` may fail for one change, whoever started the runs: conditions retry once, too, and the two must
# not multiply (`automation.AUTOMATION_RETRIES`).
CHANGE_REQUESTS = 2
# An outage of a bucket is over by then.
REPEATED_AFTER = timedelta(hours=1)

# Files of memberships that are read at the same time, as in `partitions.py`.
_READ_AT_ONCE = 16
# Cancelled backfills that are looked at, the newest.
_CANCELLED_BACKFILLS = 50
# Problems and chunks that a tick names; the log has all problems.
_NAMED = 5

WHY_TAG = "lanepaint/why"
# The state of the chunk's files that a run was requested for.
FILES_TAG = "lanepaint/files"

_FOREIGN = (
    "partitions that are no chunks of the store: {names}. Delete these keys; chunks are added by putting their files "
    "into the source"
)


class _Cursor(BaseModel):
    """Where the last tick ended. What is lost with it costs one round from the start, and a rest more."""

    after: str = ""
    """The registered chunk that was compared last."""
    never_run: str = ""
    """The chunk without any run that was looked at last, where a tick did not come to the end."""
    unchanged: dict[str, Unchanged] = {}
    """Of sources without times: listings that may still be written."""

    @classmethod
    def read(cls, text: str | None) -> "_Cursor":
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()


def build_sensors() -> list[dg.SensorDefinition]:
    """The sensors of this stage."""

    @dg.sensor(
        name="new_chunks",
        job_name="master_pipeline",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Registers new chunks of the source as partitions and runs master_pipeline for each; runs raw_clips of "
            f"chunks whose files changed or vanished. At most {CHUNKS_PER_TICK} of each kind a tick, and only files "
            "that nobody has touched for some minutes (LANEPAINT_CHUNK_STABLE_MINUTES)."
        ),
    )
    def new_chunks(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        tick, ended = _Tick(platform, context.instance, datetime.now(UTC)), _Cursor.read(context.cursor)
        look = tick.look(ended)
        # Keys and memberships are written by now. Should the tick die here, the next one finds chunks that never ran.
        first = tick.first_runs(ended.never_run)
        changes = tick.runs_of_changes(look.changes)
        problems = [*look.problems, *first.problems, *changes.problems]
        for problem in problems:
            context.log.warning(problem)
        requests = [*first.requests, *changes.requests]
        told = [
            *([] if look.problems else [f"no new chunk to run in {platform.settings.source_address}"]),
            f"{look.looked_at} of {look.of} chunks compared with their files",
            *([f"still being written: {_names(look.resting)}"] if look.resting else []),
            *changes.waiting,
            *problems[:_NAMED],
        ]
        cursor = _Cursor(after=look.position, never_run=first.position, unchanged=dict(look.unchanged))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(told),
            cursor=cursor.model_dump_json(exclude_defaults=True),
        )

    return [new_chunks]


@dataclass(frozen=True)
class _Requests:
    """What a tick asks for.

    Attributes:
        requests: runs.
        problems: what a person has to mend.
        waiting: in words, chunks that are left alone for now.
        position: the chunk that was looked at last; empty where all were.
    """

    requests: tuple[dg.RunRequest, ...] = ()
    problems: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    position: str = ""


class _Tick:
    """One tick: a look at the source, and at what Dagster has under way."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, now: datetime) -> None:
        self._platform, self._instance, self._now = platform, instance, now

    def look(self, ended: _Cursor) -> SourceLook:
        """Look at the source for a while; where it cannot be listed, say so and leave everything as it is."""
        settings = self._platform.settings
        least = timedelta(minutes=settings.chunk_stable_minutes)
        try:
            return look_at_source(
                self._platform,
                self._instance,
                limit=CHUNKS_PER_TICK,
                after=ended.after,
                seconds=LOOK_S,
                rest=Rest(least, self._now, ended.unchanged),
            )
        except (ClipSourceError, StoreError, OSError) as error:
            # Chunks that are registered already are still requested.
            problem = f"{settings.source_address} cannot be listed: {error}"
            return SourceLook(problems=(problem,), position=ended.after, unchanged=ended.unchanged)

    def first_runs(self, after: str) -> _Requests:
        """Requests for registered chunks of this source that nobody has run, and no backfill was to make."""
        made = self._instance.get_materialized_partitions(dg.AssetKey("raw_clips"))
        unmade = [key for key in registered_chunks(self._instance) if key not in made]
        if not unmade:
            return _Requests()
        fixed = set(self._platform.store.chunk_keys())
        foreign = [key for key in unmade if key not in fixed]
        problems = [_FOREIGN.format(names=_names(foreign))] if foreign else []
        # A cancelled backfill may have come to none of its chunks.
        asked = self._left_to_backfills | self._left_of(BulkActionStatus.CANCELED, most=_CANCELLED_BACKFILLS)
        for _, chunks in self._instance.get_run_tags([PARTITION_NAME_TAG]):
            asked |= chunks
        never_run = [key for key in unmade if key in fixed and key not in asked]
        turn = [key for key in never_run if key > after] + [key for key in never_run if key <= after]
        requests: list[dg.RunRequest] = []
        looked_at = 0
        for key, source in self._sources(turn):
            if len(requests) == CHUNKS_PER_TICK:
                break
            looked_at += 1
            if isinstance(source, StoreError | OSError):
                problems.append(f"chunk {key}: {source}")
            elif source == self._platform.source_address:
                tags = {WHY_TAG: "new chunk"}
                requests.append(dg.RunRequest(run_key=f"new_chunks:{key}", partition_key=key, tags=tags))
        position = turn[looked_at - 1] if 0 < looked_at < len(turn) else ""
        return _Requests(tuple(requests), tuple(problems), position=position)

    def runs_of_changes(self, changes: Sequence[SourceChange]) -> _Requests:
        """Requests for `raw_clips` of chunks with changed files; what follows from it, conditions request."""
        requests: list[dg.RunRequest] = []
        problems: list[str] = []
        waiting: list[str] = []
        # A chunk that is being made takes its changes along, or is looked at again when that is over.
        open_changes = [change for change in changes if change.chunk not in self._left_to_backfills]
        for start in range(0, len(open_changes), CHUNKS_PER_TICK):
            batch = open_changes[start : start + CHUNKS_PER_TICK]
            runs = self._runs_of([change.chunk for change in batch])
            for change in batch:
                if len(requests) == CHUNKS_PER_TICK:
                    return _Requests(tuple(requests), tuple(problems), tuple(waiting))
                before = _Asked.of(change, runs.get(change.chunk, []))
                if before.is_under_way:
                    continue
                if before.was_cancelled or before.failed >= CHANGE_REQUESTS:
                    ended = "was cancelled" if before.was_cancelled else f"failed {before.failed} times"
                    problems.append(
                        f"chunk {change.chunk}: its files changed, and raw_clips {ended}; materialize it yourself"
                    )
                elif before.again_at is not None and self._now < before.again_at:
                    waiting.append(f"chunk {change.chunk}: requested again after {before.again_at:%H:%M} UTC")
                else:
                    requests.append(_request_of(change, before.failed))
        return _Requests(tuple(requests), tuple(problems), tuple(waiting))

    def _sources(self, chunks: Sequence[str]) -> Iterator[tuple[str, str | StoreError | OSError]]:
        """Chunks with the source of each, or why it cannot be read, for as long as there is time."""
        ends = time.monotonic() + FIRST_RUNS_S
        with ThreadPoolExecutor(_READ_AT_ONCE, thread_name_prefix="lanepaint-chunk") as pool:
            for start in range(0, len(chunks), _READ_AT_ONCE):
                if time.monotonic() > ends:
                    return
                yield from pool.map(self._source_of, chunks[start : start + _READ_AT_ONCE])

    def _source_of(self, chunk: str) -> tuple[str, str | StoreError | OSError]:
        try:
            return chunk, self._platform.store.chunk(chunk).source
        except (StoreError, OSError) as error:
            return chunk, error

    def _runs_of(self, chunks: Sequence[str]) -> dict[str, list[RunRecord]]:
        """All runs of some chunks, whatever they make and in whatever state they are."""
        found: dict[str, list[RunRecord]] = {}
        for record in self._instance.get_run_records(dg.RunsFilter(tags={PARTITION_NAME_TAG: list(chunks)})):
            found.setdefault(record.dagster_run.tags[PARTITION_NAME_TAG], []).append(record)
        return found

    @cached_property
    def _left_to_backfills(self) -> set[str]:
        """Chunks that backfills have under way, or have not come to yet."""
        return self._left_of(BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING)

    def _left_of(self, *statuses: BulkActionStatus, most: int | None = None) -> set[str]:
        left = left_to_backfills(self._instance, statuses, newest=most)
        return {key for partitions in left.values() for key in partitions if key is not None}


@dataclass(frozen=True)
class _Asked:
    """What became of earlier requests for the same state of a chunk's files.

    Attributes:
        is_under_way: some run of the chunk has not ended.
        was_cancelled: the last run of `raw_clips` since the first request was cancelled.
        failed: runs of `raw_clips` that failed since then, whoever started them.
        again_at: when it may be requested again, where it failed.
    """

    is_under_way: bool
    was_cancelled: bool
    failed: int
    again_at: datetime | None

    @classmethod
    def of(cls, change: SourceChange, records: Sequence[RunRecord]) -> "_Asked":
        """Read it from all runs of the chunk."""
        of_clips = sorted(
            (record for record in records if _makes_raw_clips(record.dagster_run)),
            key=lambda record: record.create_timestamp,
        )
        # What succeeded took in the files of its time: a change that is found since is another one.
        taken_in = [n for n, record in enumerate(of_clips) if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS]
        of_clips = of_clips[taken_in[-1] + 1 :] if taken_in else of_clips
        asked = [n for n, record in enumerate(of_clips) if record.dagster_run.tags.get(FILES_TAG) == change.files]
        since = of_clips[asked[0] :] if asked else []
        failed = [record for record in since if record.dagster_run.status == dg.DagsterRunStatus.FAILURE]
        return cls(
            is_under_way=any(not record.dagster_run.is_finished for record in records),
            was_cancelled=bool(since) and since[-1].dagster_run.status == dg.DagsterRunStatus.CANCELED,
            failed=len(failed),
            again_at=_ended(failed[-1]) + REPEATED_AFTER if failed else None,
        )


def _makes_raw_clips(run: dg.DagsterRun) -> bool:
    """Whether a run begins with the clips."""
    if run.asset_selection is not None:
        return dg.AssetKey("raw_clips") in run.asset_selection
    # A whole job; those that begin later say so.
    return "1" in run.tags.get("lanepaint/stages", "1")


def _ended(record: RunRecord) -> datetime:
    return record.create_timestamp if record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)


def _request_of(change: SourceChange, failed: int) -> dg.RunRequest:
    # Dagster starts no second run of one key.
    again = f":after_{failed}" if failed else ""
    return dg.RunRequest(
        run_key=f"changed_files:{change.chunk}:{change.mark}{again}",
        partition_key=change.chunk,
        asset_selection=[dg.AssetKey("raw_clips")],
        tags={
            WHY_TAG: f"{len(change.changed)} clips changed, {len(change.vanished)} vanished",
            FILES_TAG: change.files,
        },
    )


def _names(chunks: Sequence[str]) -> str:
    more = f" and {len(chunks) - _NAMED} more" if len(chunks) > _NAMED else ""
    return f"{', '.join(chunks[:_NAMED])}{more}"
