"""The partition sets, and how a chunk becomes a partition.

`clip_chunk` holds everything that is per clip; `lane_style` holds LoRAs. Called by the command line, which looks at all
of a source, and by the sensor `new_chunks`, which looks for some seconds at a time. Nothing is materialized here.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple

import dagster as dg

from lanepaint_assets.clips.records import CHUNK_KEY, ChunkMembership, ClipRef
from lanepaint_assets.clips.sources import ChunkListing, ClipSource, ClipSourceError
from lanepaint_assets.clips.steps import SourceChange, source_change
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError

# The ending of a chunk's later parts.
PART = re.compile(r"_part_\d{2,}$")

CLIP_CHUNK = dg.DynamicPartitionsDefinition(name="clip_chunk")

# The styles that prompts ask for and a LoRA can be trained on; mixed and unknown are no styles to paint.
LANE_STYLES = tuple(
    LaneStyle(count, color, pattern)
    for count in (Count.SINGLE, Count.DOUBLE)
    for color in (Color.WHITE, Color.YELLOW)
    for pattern in (Pattern.SOLID, Pattern.DASHED)
)
LANE_STYLE = dg.StaticPartitionsDefinition([style.key for style in LANE_STYLES])

# Chunks that are listed at the same time. In a bucket a listing waits 50 ms for its answer, and does nothing meanwhile.
_AT_ONCE = 16

# Of a look's time, the share after which no new chunk is begun: a backlog of them must not hide changed files.
_SHARE_FOR_NEW = 0.5


class Unchanged(NamedTuple):
    """A listing without times: a mark of what it held, and the Unix time since which it has held that."""

    mark: str
    since_s: float


@dataclass(frozen=True)
class Rest:
    """How long nobody must have touched a chunk's files before they are taken: half an upload would become a part.

    Attributes:
        least: so long.
        now: the moment of the look, with its time zone.
        unchanged: listings without times as the last look left them, by chunk.
    """

    least: timedelta
    now: datetime
    unchanged: Mapping[str, Unchanged] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceLook:
    """What a look at a source came to.

    Attributes:
        added: partitions that are new, in the source's order.
        changes: registered chunks whose files changed or vanished.
        problems: chunks that could not be looked at or registered, each with its reason; the others went on.
        resting: chunks with new or changed files that were touched a moment ago; they wait.
        unchanged: those of them whose source tells no times, for the next look.
        looked_at: registered chunks that were compared with the source.
        of: registered chunks in all.
        position: the last of them; where the next look goes on.
    """

    added: tuple[str, ...] = ()
    changes: tuple[SourceChange, ...] = ()
    problems: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()
    unchanged: Mapping[str, Unchanged] = field(default_factory=dict)
    looked_at: int = 0
    of: int = 0
    position: str = ""


def register_chunks(
    platform: Platform, instance: dg.DagsterInstance, *, source: str | None = None, limit: int | None = None
) -> list[str]:
    """Register the clips of a source that are in no partition yet, all that can be.

    Args:
        source: address; by default the one in the settings.
        limit: most partitions to add; listing stops there.

    Returns:
        The keys added, in the source's order.

    Raises:
        ClipSourceError: the source cannot be listed, or some of its chunks cannot; the others are registered.
    """
    look = look_at_source(platform, instance, source=source, limit=limit)
    if look.problems:
        others = f" (registered: {', '.join(look.added)})" if look.added else ""
        raise ClipSourceError("; ".join(look.problems) + others)
    return list(look.added)


def look_at_source(
    platform: Platform,
    instance: dg.DagsterInstance,
    *,
    source: str | None = None,
    limit: int | None = None,
    after: str = "",
    seconds: float | None = None,
    rest: Rest | None = None,
) -> SourceLook:
    """Register new clips and find changed ones.

    New chunks come first, in at most half of the time, then those that are registered, from `after` on and round again:
    each is compared with its listing. A partition's clips are fixed; what arrives later, another camera set or another
    source with the same chunk names forms parts (`chunk_0007_part_02`), as does a chunk of more than `per_chunk` clips.
    Parts that the limit leaves no room for are found again in the next round. The membership is written before the key
    is added, so a key that was added here never exists without its clips; where a look ended between the two, the next
    one adds the key.

    Args:
        source: address; by default the one in the settings.
        limit: most partitions to add.
        after: the registered chunk where the last look ended.
        seconds: begin no further chunk after so long; by default look at all.
        rest: how long files must have been left alone; by default they are taken as they are, for a person asked.

    Raises:
        ClipSourceError: the source cannot be listed.
    """
    round_ = _Look(platform, instance, platform.source(source), limit, rest)
    return round_.go(after, seconds)


@dataclass(frozen=True)
class _Compared:
    """A chunk beside its listing: what of it is in no partition yet, and what changed."""

    base: str
    unregistered: tuple[ClipRef, ...] = ()
    changes: tuple[SourceChange, ...] = ()
    touched: datetime | None = None
    mark: str = ""
    problem: str | None = None


class _Look:
    """One look: what is registered, and what was found."""

    def __init__(
        self,
        platform: Platform,
        instance: dg.DagsterInstance,
        source: ClipSource,
        limit: int | None,
        rest: Rest | None,
    ) -> None:
        self._platform, self._instance, self._source = platform, instance, source
        self._limit, self._rest = limit, rest
        self._known = set(instance.get_dynamic_partitions("clip_chunk"))
        self._fixed = set(platform.store.chunk_keys())
        self._parts: dict[str, list[str]] = {}
        for key in sorted(self._fixed):
            self._parts.setdefault(_base(key), []).append(key)
        self._added: list[str] = []
        self._problems: list[str] = []
        self._changes: list[SourceChange] = []
        self._resting: list[str] = []
        # Of chunks that this look does not come to, the mark is kept for one that does.
        self._unchanged = {} if rest is None else dict(rest.unchanged)

    def go(self, after: str, seconds: float | None) -> SourceLook:
        begun = time.monotonic()
        listings: dict[str, list[ChunkListing]] = {}
        for listing in self._source.chunks():
            if CHUNK_KEY.fullmatch(listing.key):
                listings.setdefault(_base(listing.key), []).append(listing)
            else:
                self._problems.append(
                    f"chunk {listing.key!r} of {self._source.address} cannot be a partition key; "
                    f"rename it to match {CHUNK_KEY.pattern}"
                )
        self._add([key for base in listings for key in self._parts.get(base, ()) if key not in self._known])
        registered = sorted(self._parts)
        new = [] if self._is_full() else [base for base in listings if base not in self._parts]
        for compared in self._compare(new, listings, None if seconds is None else begun + _SHARE_FOR_NEW * seconds):
            self._take(compared)
            if self._is_full():
                break
        if not listings:
            # A disk that is not mounted looks the same as a source whose chunks have all vanished.
            self._problems.append(f"{self._source.address} lists no chunk; none is taken for vanished")
            return self._found(0, registered, after)
        for base in self._unchanged.keys() - listings.keys():
            del self._unchanged[base]
        turn = [base for base in registered if base > after] + [base for base in registered if base <= after]
        looked_at = 0
        for compared in self._compare(turn, listings, None if seconds is None else begun + seconds):
            self._take(compared)
            looked_at, after = looked_at + 1, compared.base
        return self._found(looked_at, registered, after)

    def _found(self, looked_at: int, registered: Sequence[str], position: str) -> SourceLook:
        return SourceLook(
            added=tuple(self._added),
            changes=tuple(self._changes),
            problems=tuple(self._problems),
            resting=tuple(self._resting),
            unchanged=self._unchanged,
            looked_at=looked_at,
            of=len(registered),
            position=position,
        )

    def _is_full(self) -> bool:
        return self._limit is not None and len(self._added) >= self._limit

    def _take(self, compared: _Compared) -> None:
        """Register what is new, as far as there is room, and note what changed, unless it is still being written."""
        if compared.problem is not None:
            self._problems.append(compared.problem)
        if not compared.unregistered and not compared.changes:
            self._unchanged.pop(compared.base, None)
            return
        if not self._has_rested(compared):
            self._resting.append(compared.base)
            return
        self._changes += compared.changes
        self._add_parts(compared.base, compared.unregistered)

    def _has_rested(self, compared: _Compared) -> bool:
        # A chunk that has vanished as a whole holds no file that could be half there.
        if self._rest is None or not self._rest.least or not compared.mark:
            return True
        if compared.touched is not None:
            return self._rest.now - compared.touched >= self._rest.least
        now_s = self._rest.now.timestamp()
        found = self._unchanged.pop(compared.base, None)
        if found is None or found.mark != compared.mark:
            found = Unchanged(compared.mark, now_s)
        if now_s - found.since_s >= self._rest.least.total_seconds():
            return True
        self._unchanged[compared.base] = found
        return False

    def _compare(
        self, turn: Sequence[str], listings: dict[str, list[ChunkListing]], ends: float | None
    ) -> Iterator[_Compared]:
        def compare(base: str) -> _Compared:
            return self._compared(base, listings.get(base, []))

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lanepaint-listing") as pool:
            for start in range(0, len(turn), _AT_ONCE):
                if ends is not None and time.monotonic() > ends:
                    return
                yield from pool.map(compare, turn[start : start + _AT_ONCE])

    def _compared(self, base: str, listings: Sequence[ChunkListing]) -> _Compared:
        try:
            held = [self._platform.store.chunk(key) for key in self._parts.get(base, ())]
            listed = {ref.uri: ref for listing in listings for ref in listing.clips}
            there = {(ref.item_key, ref.uri) for membership in held for ref in membership.clips}
            found = [
                source_change(self._platform, membership, listed)
                for membership in held
                if membership.source == self._source.address and membership.key in self._known
            ]
        except (ClipSourceError, StoreError, OSError) as error:
            return _Compared(base, problem=f"chunk {base}: {error}")
        # Unknown where one of the listings tells no time.
        times = [listing.listed.touched for listing in listings]
        known = [moment for moment in times if moment is not None]
        return _Compared(
            base,
            unregistered=tuple(ref for ref in listed.values() if (ref.item_key, ref.uri) not in there),
            changes=tuple(change for change in found if change is not None),
            touched=max(known) if known and len(known) == len(times) else None,
            mark=_mark(listed.values()),
        )

    def _add_parts(self, base: str, clips: Sequence[ClipRef]) -> None:
        """Register clips as a chunk's next parts, until the limit."""
        for part in _parts(clips, self._platform.settings.per_chunk):
            if self._is_full():
                return
            key = base if base not in self._fixed else _next_part(base, self._fixed)
            register_membership(
                self._platform, self._instance, ChunkMembership(key=key, source=self._source.address, clips=part)
            )
            self._fixed.add(key)
            self._parts.setdefault(base, []).append(key)
            self._known.add(key)
            self._added.append(key)

    def _add(self, keys: Sequence[str]) -> None:
        """Add keys of memberships that are fixed already."""
        room = len(keys) if self._limit is None else self._limit
        if keys[:room]:
            self._instance.add_dynamic_partitions("clip_chunk", list(keys[:room]))
            self._known.update(keys[:room])
            self._added += keys[:room]


def _base(key: str) -> str:
    return PART.sub("", key)


def _mark(clips: Iterable[ClipRef]) -> str:
    """Changes when a clip of a listing does; empty for an empty one."""
    told = "\0".join(f"{ref.uri} {ref.size} {ref.etag}" for ref in clips)
    return hashlib.sha256(told.encode()).hexdigest()[:16] if told else ""


def _parts(clips: Sequence[ClipRef], size: int) -> Iterator[tuple[ClipRef, ...]]:
    """Slices of so many clips by id; the cameras of a clip stay together."""
    ids = list(dict.fromkeys(ref.clip_id for ref in clips))
    for start in range(0, len(ids), size):
        chosen = set(ids[start : start + size])
        yield tuple(ref for ref in clips if ref.clip_id in chosen)


def _next_part(base: str, taken: set[str]) -> str:
    return next(key for number in count(2) if (key := f"{base}_part_{number:02d}") not in taken)


def register_membership(platform: Platform, instance: dg.DagsterInstance, membership: ChunkMembership) -> None:
    """Write one chunk's membership, then add its partition key."""
    platform.store.save_chunk(membership)
    instance.add_dynamic_partitions("clip_chunk", [membership.key])


def registered_chunks(instance: dg.DagsterInstance) -> list[str]:
    """All chunk keys, sorted."""
    return sorted(instance.get_dynamic_partitions("clip_chunk"))


def unregistered(instance: dg.DagsterInstance, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that are no partitions."""
    known = set(instance.get_dynamic_partitions("clip_chunk"))
    return [key for key in keys if key not in known]
