"""What manifests say of the items of many partitions: how many stand, and why the others failed.

Called by `status.py`. Of each manifest only that is kept: all rows of ten thousand chunks would not fit into memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.layout import CHUNK_ROW

# Manifests read at the same time: a bucket answers after 50 ms.
_AT_ONCE = 16


@dataclass(frozen=True)
class Place:
    """A partition of an asset."""

    chunk: str
    asset: str


@dataclass(frozen=True)
class Items:
    """Rows of one manifest by their status; the row of files that span items is left out."""

    ok: int = 0
    failed: int = 0
    outdated: int = 0
    retired: int = 0

    @property
    def called_for(self) -> int:
        """All but the retired ones."""
        return self.ok + self.failed + self.outdated


@dataclass(frozen=True)
class Rows:
    """What is kept of a manifest.

    Attributes:
        items: counts.
        any: whether it has any row, files that span items included.
        failed: key and reason of every failed row.
        problem: why it could not be read, else None.
    """

    items: Items = Items()
    any: bool = False
    failed: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Failure:
    """An item, or a whole step where `item` is None, that failed; of a step also its run.

    Without a chunk it is of an asset that gathers all of them.
    """

    chunk: str | None
    asset: str
    item: str | None
    reason: str
    run_id: str | None = None


def read_rows(store: ArtifactStore, order: Sequence[Place], seconds: float | None) -> dict[Place, Rows]:
    """Read manifests in this order, as many as the time suffices for; None for all, with a bar on a terminal."""
    ends = None if seconds is None else time.monotonic() + seconds
    found: dict[Place, Rows] = {}
    hidden = None if seconds is None else True
    with (
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lanepaint-status") as pool,
        tqdm(desc="manifests", total=len(order), file=sys.stderr, disable=hidden, leave=False) as bar,
    ):
        for start in range(0, len(order), _AT_ONCE):
            if ends is not None and time.monotonic() > ends:
                break
            some = order[start : start + _AT_ONCE]
            found.update(zip(some, pool.map(lambda place: _rows(store, place), some), strict=True))
            bar.update(len(some))
    return found


def _rows(store: ArtifactStore, place: Place) -> Rows:
    try:
        rows = store.manifest(place.asset, place.chunk).rows
    except (StoreError, OSError) as error:
        return Rows(problem=str(error))
    statuses = [row.status for key, row in rows.items() if key != CHUNK_ROW]
    return Rows(
        items=Items(*(statuses.count(status) for status in ("ok", "failed", "outdated", "retired"))),
        any=bool(rows),
        failed=tuple((key, row.reason or "") for key, row in rows.items() if row.status == "failed"),
    )


def failures(rows: Iterable[tuple[Place, Rows]]) -> Iterator[Failure]:
    """Failed items where they arose; what failed below for the same reason is left out.

    Args:
        rows: chunk by chunk, assets in the order of the graph.
    """
    chunk, told = "", set[tuple[str, str]]()
    for place, found in rows:
        if place.chunk != chunk:
            chunk, told = place.chunk, set()
        if found.problem is not None:
            yield Failure(place.chunk, place.asset, None, found.problem)
        # Below, the reason is told with the asset that it came from, and an edit has its clip's.
        arose = [((key.split("/")[0], reason.rpartition(" failed: ")[2]), key, reason) for key, reason in found.failed]
        for origin, key, reason in arose:
            if origin not in told:
                yield Failure(place.chunk, place.asset, key, reason)
        told |= {origin for origin, _, _ in arose}
