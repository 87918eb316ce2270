"""What `raw_clips` does, without Dagster: probe every clip of a chunk and keep one row of facts for each.

Also what has changed in the source since; the sensor asks for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import pandas as pd

from lanepaint_assets.chunk_reader import FACTS_FILE
from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.manifest import ItemRow

# Raise when probing or the frame grid changes what it finds.
RAW_CLIPS_VERSION = "1"


def make_raw_clips(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """Probe the clips of a registered chunk; broken files become failed rows that say why."""
    from lanepaint_assets.clips.probing import InvalidClipError, probe_clip

    settings = platform.settings
    membership = platform.store.chunk(chunk)
    source = platform.source(membership.source)
    known = platform.store.manifest("raw_clips", chunk).rows
    refs: dict[str, ClipRef] = {}
    tasks: list[ItemTask] = []
    for registered in membership.clips:
        key = registered.item_key
        current = source.current_ref(registered)
        if current is None and key in known and _had_file(known[key]):
            continue  # vanished: its row stays, retired
        refs[key] = current or registered
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=clip_fingerprint(settings, refs[key]),
                blocked=f"{registered.uri} does not exist any more" if current is None else None,
                # Of the file that the row was made from, whatever came of it; a missing one has none.
                facts={} if current is None else {"size": current.size, "etag": current.etag},
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        started = perf_counter()
        try:
            facts = probe_clip(source, refs[task.key], settings.clip_grid, settings.frame_limit)
        except InvalidClipError as error:
            raise ItemError(str(error)) from error
        (folder / FACTS_FILE).write_text(facts.model_dump_json(indent=1))
        return ItemOutput(
            facts={
                "fps": round(facts.fps, 3),
                "frames": facts.frame_count,
                "grid_frames": len(facts.grid_timestamps_us),
                "duration_s": round(facts.duration_s, 3),
                "resolution": f"{facts.width}x{facts.height}",
                "codec": facts.codec,
                "color": f"{facts.color_space}/{facts.color_range}",
                "has_egomotion": facts.has_egomotion,
                "has_calibration": facts.has_calibration,
            },
            timings_s={"probe": perf_counter() - started},
        )

    return run_items(
        platform.store,
        "raw_clips",
        chunk,
        tasks,
        compute,
        run_id=run_id,
        workers=settings.workers,
        progress=platform.progress_for("raw_clips"),
    )


def clip_fingerprint(settings: Settings, ref: ClipRef) -> str:
    """What a clip's row of `raw_clips` is made from."""
    return fingerprint(
        asset="raw_clips",
        item_key=ref.item_key,
        upstream={},
        engine=None,
        params={
            "algorithm": RAW_CLIPS_VERSION,
            "etag": ref.etag,
            "size": ref.size,
            "clip_grid": settings.clip_grid,
            "frame_limit": settings.frame_limit,
        },
    )


@dataclass(frozen=True)
class SourceChange:
    """A chunk whose files in the source are not those that its `raw_clips` were made from.

    Attributes:
        chunk: its key.
        changed: item keys of clips with another size or etag, or that are there (again).
        vanished: item keys of clips that are gone.
        files: tells the state of the chunk's files from every other, whatever was made of them.
        mark: tells this change from every other of the chunk, also from the same one at another time.
    """

    chunk: str
    changed: tuple[str, ...]
    vanished: tuple[str, ...]
    files: str
    mark: str


def source_change(
    platform: Platform, membership: ChunkMembership, listed: Mapping[str, ClipRef]
) -> SourceChange | None:
    """Compare a chunk's `raw_clips` with its source; None where nothing changed or nothing was made yet.

    Settings and versions do not count: what they make stale, a person backfills.

    Args:
        listed: the clips that the source lists now, by uri. A clip that is not listed is looked for by itself.
    """
    rows = platform.store.manifest("raw_clips", membership.key).rows
    changed, vanished, told, files = [], [], [], []
    for registered in membership.clips:
        row = rows.get(registered.item_key)
        if row is None:
            continue
        current = listed.get(registered.uri) or platform.source(membership.source).current_ref(registered)
        now = "gone" if current is None else f"{current.size} {current.etag}"
        files.append(f"{row.key}\0{now}")
        if current is None:
            if row.status == "retired" or not _had_file(row):
                continue
            vanished.append(row.key)
        else:
            made_from = (row.facts.get("size"), row.facts.get("etag"))
            if row.status != "retired" and made_from == (current.size, current.etag):
                continue
            changed.append(row.key)
        told.append(f"{row.key}\0{row.run_id} {row.status}\0{now}")
    if not told:
        return None
    return SourceChange(membership.key, tuple(changed), tuple(vanished), _mark(files), _mark(told))


def _had_file(row: ItemRow) -> bool:
    """Whether a row was made from a file, be it a broken one; one that was never there has no size and etag."""
    return row.status != "failed" or "etag" in row.facts


def _mark(told: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


def clip_table(outcome: PartitionOutcome) -> pd.DataFrame:
    """One row a clip: validity, reason and facts, as people read it in the UI or in pandas."""
    return pd.DataFrame(
        [{"clip": row.key, "valid": row.status == "ok", "reason": row.reason, **row.facts} for row in outcome.rows]
    )
