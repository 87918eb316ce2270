"""What `road_masks` and `vp_inputs` do, without Dagster.

Both are made in one step where both are wanted: the VideoPainter folder is then written from the masks in memory, and
nothing is read back (spec 4, in-memory mask pass-through).
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.upstream import needs

# Raise when clean-up, storage or the folder's content changes.
ROAD_MASKS_VERSION = "3"
VP_INPUTS_VERSION = "2"

# The caption column of meta.csv before any edit: VideoPainter wants one, the edit replaces it.
SOURCE_CAPTION = "road seen from a driving car"


def road_mask_tasks(platform: Platform, reader: ChunkReader) -> list[ItemTask]:
    """One task a clip."""
    entry = platform.entry("segmenter")
    checkpoints = platform.checkpoint_digests("segmenter")
    tasks = []
    for key in reader.clip_keys:
        need = needs({"raw_clips": (reader.clips, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="road_masks",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=entry.label,
                    checkpoints=checkpoints,
                    params={
                        "algorithm": ROAD_MASKS_VERSION,
                        "fill_all_holes": platform.settings.fill_all_holes,
                        "min_road_confidence": platform.settings.min_road_confidence,
                    },
                ),
                blocked=need.blocked,
                engine=entry.label,
            )
        )
    return tasks


def make_segmentation(platform: Platform, chunk: str, run_id: str, assets: set[str]) -> dict[str, PartitionOutcome]:
    """Make `road_masks`, `vp_inputs` or both of a chunk.

    Args:
        assets: which of the two are wanted.

    Raises:
        MissingUpstreamError: the chunk's clips were not probed, or masks are missing and not wanted.
    """
    reader = ChunkReader(platform, chunk, " and ".join(sorted(assets)))
    outcomes: dict[str, PartitionOutcome] = {}
    with tempfile.TemporaryDirectory(prefix="lanepaint-vp-") as scratch:
        prepared = Path(scratch)
        if "road_masks" in assets:
            outcomes["road_masks"] = _make_road_masks(
                platform, reader, run_id, prepared if "vp_inputs" in assets else None
            )
        if "vp_inputs" in assets:
            outcomes["vp_inputs"] = _make_vp_inputs(platform, reader, run_id, prepared)
    return outcomes


def _make_road_masks(platform: Platform, reader: ChunkReader, run_id: str, vp_scratch: Path | None) -> PartitionOutcome:
    entry = platform.entry("segmenter")

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.segmentation.cleanup import clean_video_masks
        from lanepaint_assets.segmentation.outputs import VideoMasks, write_segmentation
        from lanepaint_assets.segmentation.plausibility import Plausibility
        from lanepaint_assets.segmentation.vp_folder import video_painter_id, write_vp_folder

        started = perf_counter()
        clip = reader.frames(task.key)
        decoded = perf_counter()
        raw = platform.segmenter.segment_video(clip.frames)
        segmented = perf_counter()
        masks = clean_video_masks(raw, fill_all_holes=platform.settings.fill_all_holes)
        cleaned = perf_counter()
        timings = {"decode": decoded - started, "segment": segmented - decoded, "clean_up": cleaned - segmented}
        statistics = write_segmentation(
            folder, clip.frames, VideoMasks(road=masks.road, paint=masks.paint), clip.grid.rate_hz, timings_s=timings
        )
        if statistics.confidence < platform.settings.min_road_confidence:
            raise ItemError(Plausibility(statistics.confidence, statistics.doubt).refusal)
        if not masks.road.any():
            raise ItemError(f"{entry.label} found no road in any of {len(clip.frames)} frames")
        if vp_scratch is not None:
            write_vp_folder(
                vp_scratch / task.key,
                video_painter_id(task.key),
                clip.frames,
                masks.paint,
                clip.grid.rate_hz,
                caption=SOURCE_CAPTION,
            )
        return ItemOutput(facts=asdict(statistics), timings_s={**timings, "write": perf_counter() - cleaned})

    return run_items(
        platform.store,
        "road_masks",
        reader.chunk,
        road_mask_tasks(platform, reader),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("road_masks"),
    )


def vp_input_tasks(reader: ChunkReader) -> list[ItemTask]:
    """One task a clip."""
    masks = reader.manifest("road_masks")
    tasks = []
    for key in reader.clip_keys:
        need = needs({"raw_clips": (reader.clips, key), "road_masks": (masks, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="vp_inputs",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=None,
                    params={"algorithm": VP_INPUTS_VERSION},
                ),
                blocked=need.blocked,
            )
        )
    return tasks


def _make_vp_inputs(platform: Platform, reader: ChunkReader, run_id: str, prepared: Path) -> PartitionOutcome:
    masks = reader.manifest("road_masks")

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.segmentation.outputs import MASKS_FILE, read_masks
        from lanepaint_assets.segmentation.vp_folder import video_painter_id, write_vp_folder

        started = perf_counter()
        ready = prepared / task.key
        if ready.is_dir():
            shutil.copytree(ready, folder, dirs_exist_ok=True)
            shutil.rmtree(ready)
        else:
            clip = reader.frames(task.key)
            with platform.store.local_file(masks.rows[task.key], MASKS_FILE) as path:
                video_masks = read_masks(path)
            write_vp_folder(
                folder,
                video_painter_id(task.key),
                clip.frames,
                video_masks.paint,
                clip.grid.rate_hz,
                caption=SOURCE_CAPTION,
            )
        return ItemOutput(
            facts={"frames": len(reader.facts(task.key).grid)}, timings_s={"write": perf_counter() - started}
        )

    return run_items(
        platform.store,
        "vp_inputs",
        reader.chunk,
        vp_input_tasks(reader),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("vp_inputs"),
    )
