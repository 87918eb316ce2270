"""What `training_samples` does, without Dagster: frames, road masks and captions of every clip (spec 7).

Items are clips; the row `_chunk` holds the chunk's train.csv and facts.csv, less what looks like an earlier sample.
Subsets are `filter_steps.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import (
    ItemError,
    ItemOutput,
    ItemTask,
    PartitionOutcome,
    run_chunk_item,
    run_items,
)
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.upstream import needs
from lanepaint_assets.training.frame_choice import SceneSpread, frames_by_time, parse_frame_choice, spread_frames
from lanepaint_assets.training.samples import (
    FACTS_FILE,
    TRAIN_FILE,
    SampleFacts,
    TrainingSample,
    clip_samples,
    facts_csv,
    train_csv,
)

if TYPE_CHECKING:
    from lanepaint_assets.lanes.inspector import LaneInspection, RoadView

# Raise when the choice of frames, the masks, the hash or the tables change.
TRAINING_SAMPLES_VERSION = "2"


def make_training_samples(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """Frames, road masks and captions of every clip of a chunk, and the chunk's tables."""
    reader = ChunkReader(platform, chunk, "training_samples")
    settings = platform.settings
    try:
        outcome = run_items(
            platform.store,
            "training_samples",
            chunk,
            _tasks(platform, reader),
            lambda task, folder: _clip_item(reader, task, folder),
            run_id=run_id,
            workers=settings.workers,
            progress=platform.progress_for("training_samples"),
        )
    finally:
        platform.release_inspector()
    made = [row for row in outcome.rows if row.status == "ok"]
    run_chunk_item(
        platform.store,
        "training_samples",
        chunk,
        fingerprint(
            asset="training_samples",
            item_key=CHUNK_ROW,
            upstream={row.key: row.fingerprint for row in made},
            engine=None,
            params={"algorithm": TRAINING_SAMPLES_VERSION, "duplicate_bits": settings.training_duplicate_bits},
        ),
        lambda _, folder: _chunk_item(platform, chunk, made, folder),
        run_id=run_id,
    )
    return outcome


def _tasks(platform: Platform, reader: ChunkReader) -> list[ItemTask]:
    settings = platform.settings
    engines = engine_labels(platform)
    checkpoints = platform.checkpoint_digests("segmenter", "inspector")
    tasks = []
    for key in reader.clip_keys:
        need = needs({"raw_clips": (reader.clips, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="training_samples",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=engines,
                    checkpoints=checkpoints,
                    params={
                        "algorithm": TRAINING_SAMPLES_VERSION,
                        "frames": settings.training_frames,
                        "inspection": settings.training_inspection,
                        "duplicate_bits": settings.training_duplicate_bits,
                        "engine_settings": platform.deciding_settings("segmenter", "inspector"),
                    },
                ),
                blocked=need.blocked,
                engine=engines,
            )
        )
    return tasks


def engine_labels(platform: Platform) -> str:
    """Names and versions of the engines that make a sample, as rows and tables say them."""
    return f"{platform.entry('segmenter').label} + {platform.entry('inspector').label}"


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The frames of a clip that become samples.

    Attributes:
        index: (N,) their grid indices.
        frames: (N, H, W, 3) sRGB uint8.
        taken_us: (N,) when they were taken.
        hashes: N perceptual hashes.
        seen: frames that were looked at: with near-duplicates.
    """

    index: NDArray[np.int64]
    frames: NDArray[np.uint8]
    taken_us: NDArray[np.int64]
    hashes: tuple[str, ...]
    seen: int


def _clip_item(reader: ChunkReader, task: ItemTask, folder: Path) -> ItemOutput:
    from lanepaint_assets.clips.pictures import write_picture

    started = perf_counter()
    chosen = _chosen_frames(reader, task.key)
    read = perf_counter()
    # Two models have no reason to wait for each other, neither to load nor to answer.
    with ThreadPoolExecutor(1, thread_name_prefix="lanepaint-masks") as pool:
        masks = pool.submit(lambda: [reader.road_mask(frame) for frame in chosen.frames])
        inspections = _inspections(reader, task.key, chosen)
        samples = []
        for name in ("images", "masks"):
            (folder / name).mkdir()
        for at, (mask, inspection) in enumerate(zip(masks.result(), inspections, strict=True)):
            frame_index = int(chosen.index[at])
            name = f"{task.key}_{frame_index:05d}.png"
            write_picture(folder / "images" / name, chosen.frames[at])
            write_picture(folder / "masks" / name, mask.astype(np.uint8) * 255)
            facts = SampleFacts(
                chunk=reader.chunk,
                item=task.key,
                source=task.fingerprint,
                engines=task.engine or "",
                frame=frame_index,
                time_us=int(chosen.taken_us[at]),
                confidence=inspection.confidence,
                mask_share=float(mask.mean()),
                perceptual_hash=chosen.hashes[at],
            )
            caption = inspection.caption
            samples.append(TrainingSample(f"images/{name}", f"masks/{name}", caption, caption, facts))
    _write_tables(folder, samples)
    return ItemOutput(
        facts={
            "samples": len(samples),
            "near_duplicates": chosen.seen - len(samples),
            "unclear": sum(not sample.style.is_known for sample in samples),
        },
        timings_s={"read": read - started, "sample": perf_counter() - read},
    )


def _chosen_frames(reader: ChunkReader, clip_key: str) -> _Chosen:
    """The frames that the setting names, without near-duplicates.

    Raises:
        ItemError: the clip has none of the frames that are listed.
    """
    from lanepaint_assets.training.near_duplicates import distinct, perceptual_hash

    settings = reader.platform.settings
    choice = parse_frame_choice(settings.training_frames)
    if isinstance(choice, SceneSpread):
        whole = reader.frames(clip_key)
        index = spread_frames(whole.frames, choice.frames)
        frames, taken_us = whole.frames[index], whole.taken_us[index]
    else:
        index = frames_by_time(choice, reader.facts(clip_key).grid.timestamps_us)
        if not index.size:
            raise ItemError(
                f"the clip has {len(reader.facts(clip_key).grid)} grid frames and none of those that "
                f"LANEPAINT_TRAINING_FRAMES={settings.training_frames} lists"
            )
        if settings.training_inspection == "accumulated":
            # The inspector reads the whole clip in any case.
            whole = reader.frames(clip_key)
            frames, taken_us = whole.frames[index], whole.taken_us[index]
        else:
            some = reader.frames_at(clip_key, index)
            frames, taken_us = some.frames, some.taken_us
    hashes = [perceptual_hash(frame) for frame in frames]
    keep = np.array(distinct(hashes, settings.training_duplicate_bits))
    kept_hashes = tuple(digits for digits, kept in zip(hashes, keep, strict=True) if kept)
    return _Chosen(index[keep], frames[keep], taken_us[keep], kept_hashes, len(index))


def _inspections(reader: ChunkReader, clip_key: str, chosen: _Chosen) -> list[LaneInspection]:
    """What the inspector says of each chosen frame."""
    return [reader.platform.inspector.inspect(view) for view in _views(reader, clip_key, chosen)]


def _views(reader: ChunkReader, clip_key: str, chosen: _Chosen) -> list[RoadView]:
    """What the inspector is given: each frame with those around it and the vehicle's motion, or each alone."""
    from lanepaint_assets.lanes.inspector import RoadView

    if reader.platform.settings.training_inspection == "single":
        camera = reader.camera(clip_key)
        return [
            RoadView(chosen.frames[at : at + 1], chosen.taken_us[at : at + 1], 0, camera)
            for at in range(len(chosen.index))
        ]
    clip, geometry = reader.frames(clip_key), reader.geometry(clip_key)
    return [RoadView(clip.frames, clip.taken_us, int(index), geometry.camera, geometry.ego) for index in chosen.index]


def _chunk_item(platform: Platform, chunk: str, rows: Sequence[ItemRow], folder: Path) -> ItemOutput:
    """The chunk's tables: all clips' samples, less those that look like an earlier clip's."""
    from lanepaint_assets.training.near_duplicates import distinct

    samples = [sample for row in rows for sample in clip_samples(platform.store, chunk, row)]
    hashes = [sample.facts.perceptual_hash for sample in samples if sample.facts is not None]
    keep = distinct(hashes, platform.settings.training_duplicate_bits)
    kept = [sample for sample, stays in zip(samples, keep, strict=True) if stays]
    _write_tables(folder, kept)
    return ItemOutput(facts={"samples": len(kept), "near_duplicates": len(samples) - len(kept)})


def _write_tables(folder: Path, samples: Sequence[TrainingSample]) -> None:
    (folder / TRAIN_FILE).write_text(train_csv(samples))
    (folder / FACTS_FILE).write_text(facts_csv(samples))
