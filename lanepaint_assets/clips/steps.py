"""What `raw_clips` does, without Dagster: probe every clip of a chunk and keep one row of facts for each."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pandas as pd

from lanepaint_assets.chunk_reader import FACTS_FILE
from lanepaint_assets.clips.records import ClipRef
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items

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
        if current is None and key in known and known[key].status != "failed":
            continue  # vanished: its row stays, retired
        refs[key] = current or registered
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="raw_clips",
                    item_key=key,
                    upstream={},
                    engine=None,
                    params={
                        "algorithm": RAW_CLIPS_VERSION,
                        "etag": refs[key].etag,
                        "size": refs[key].size,
                        "clip_grid": settings.clip_grid,
                        "frame_limit": settings.frame_limit,
                    },
                ),
                blocked=f"{registered.uri} does not exist any more" if current is None else None,
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
                "size": facts.ref.size,
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


def clip_table(outcome: PartitionOutcome) -> pd.DataFrame:
    """One row a clip: validity, reason and facts, as people read it in the UI or in pandas."""
    return pd.DataFrame(
        [{"clip": row.key, "valid": row.status == "ok", "reason": row.reason, **row.facts} for row in outcome.rows]
    )
