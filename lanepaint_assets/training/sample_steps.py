"""What `training_samples` does, without Dagster: frames, road masks and captions of every clip (spec 7).

Items are clips; the row `_chunk` holds the chunk's train.csv and facts.csv, less what looks like an earlier sample.
Subsets are `filter_steps.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    from lanepaint_assets.lanes.inspector import LaneInspection

# Raise when the choice of frames, the masks, the hash or the tables change.
TRAINING_SAMPLES_VERSION = "2"

# Share of the ego lane's boundaries that lies on the mask; with less, the mask shows something else, as a bonnet.
# Two of 84 development samples had 0.06 and less; the others, 0.36 and more.
MIN_LINES_ON_MASK = 0.2
# Edge lines lie on the mask's own edge: so far beside it counts as on it, as a share of the picture's width.
BESIDE_MASK = 0.005


def make_training_samples(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """Frames, road masks and captions of every clip of a chunk, and the chunk's tables.

    Returns:
        What the clips' items came to; its manifest has the row of the tables.
    """
    reader = ChunkReader(platform, chunk, "training_samples")
    settings = platform.settings
    models = ModelLoading(platform)
    try:
        outcome = run_items(
            platform.store,
            "training_samples",
            chunk,
            _tasks(platform, reader),
            lambda task, folder: _clip_item(reader, models, task, folder),
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
    return replace(outcome, manifest=platform.store.manifest("training_samples", chunk))


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


def _clip_item(reader: ChunkReader, models: ModelLoading, task: ItemTask, folder: Path) -> ItemOutput:
    from lanepaint_assets.clips.pictures import write_picture

    started = perf_counter()
    chosen = _chosen_frames(reader, task.key)
    read = perf_counter()
    models.load(chosen.frames[0])
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    samples = []
    off_the_lines = 0
    # Masks are made ahead, so that two models on two devices do not wait for each other.
    with ThreadPoolExecutor(1, thread_name_prefix="lanepaint-masks") as pool:
        masks = pool.map(reader.road_mask, chosen.frames)
        for at, (mask, inspection) in enumerate(_inspected(reader, task.key, chosen, masks)):
            if is_off_the_lines(mask, inspection):
                off_the_lines += 1
                continue
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
            "near_duplicates": chosen.seen - len(chosen.index),
            "masks_off_the_lines": off_the_lines,
            "unclear": sum(not sample.style.is_known for sample in samples),
        },
        timings_s={"read": read - started, "sample": perf_counter() - read},
    )


def is_off_the_lines(mask: NDArray[np.bool_], inspection: LaneInspection) -> bool:
    """Whether the ego lane's boundaries lie elsewhere than a frame's (H, W) mask, which then shows no road.

    Inspectors that measure no lines leave the question open: False.
    """
    import cv2

    courses = [line.polyline_px for line in inspection.lines if line.role != "other"]
    if not courses:
        return False
    height, width = mask.shape
    column, row = np.concatenate(courses).round().astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not inside.any():
        return False
    size = 2 * round(BESIDE_MASK * width) + 1
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8))
    return float((grown[row[inside], column[inside]] > 0).mean()) < MIN_LINES_ON_MASK


class ModelLoading:
    """Has both models of a step loaded before its first item, at the same time, and once.

    An engine loads when it is first asked; a vision-language model takes minutes for it. Both are asked about one
    picture, each in a thread of its own. Engines without weights are asked nothing, and neither is any where every item
    stands.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._is_done = not any(platform.entry(role).checkpoints for role in ("segmenter", "inspector"))

    def load(self, frame: NDArray[np.uint8]) -> None:
        """Load what is not loaded yet; other threads wait.

        Args:
            frame: (H, W, 3) sRGB, any picture of the step's.

        Raises:
            StepError: a checkpoint is missing or wrong.
        """
        with self._lock:
            if not self._is_done:
                self._ask_both(frame)
                self._is_done = True

    def _ask_both(self, frame: NDArray[np.uint8]) -> None:
        from lanepaint_assets.lanes.inspector import RoadView

        segmenter, inspector = self._platform.segmenter, self._platform.inspector
        view = RoadView(frame[None], np.zeros(1, dtype=np.int64), 0)
        with ThreadPoolExecutor(2, thread_name_prefix="lanepaint-load") as pool:
            for asked in (pool.submit(segmenter.segment_picture, frame), pool.submit(inspector.inspect, view)):
                asked.result()


def _chosen_frames(reader: ChunkReader, clip_key: str) -> _Chosen:
    """The frames that the setting names, without near-duplicates.

    Raises:
        ItemError: the clip has none of the frames that are listed.
    """
    from lanepaint_assets.clips.decoding import frames_to_decode, read_frames
    from lanepaint_assets.training.near_duplicates import distinct, perceptual_hash

    settings = reader.platform.settings
    choice = parse_frame_choice(settings.training_frames)
    if isinstance(choice, SceneSpread):
        clip = reader.frames(clip_key)
        index = spread_frames(clip.frames, choice.frames)
        frames, taken_us = clip.frames[index], clip.taken_us[index]
    elif settings.training_inspection == "accumulated":
        # The inspector reads the whole clip in any case.
        clip = reader.frames(clip_key)
        index = frames_by_time(choice, clip.timestamps_us)
        frames, taken_us = clip.frames[index], clip.taken_us[index]
    else:
        facts = reader.facts(clip_key)
        with reader.source.open_video(facts.ref) as path:
            index = frames_by_time(choice, facts.grid.timestamps_us, frames_to_decode(path, facts))
            clip = read_frames(path, facts, index)
        frames, taken_us = clip.frames, clip.taken_us
    if not index.size:
        raise ItemError(f"the clip has none of the grid frames of LANEPAINT_TRAINING_FRAMES={settings.training_frames}")
    hashes = [perceptual_hash(frame) for frame in frames]
    keep = np.array(distinct(hashes, settings.training_duplicate_bits))
    kept_hashes = tuple(digits for digits, kept in zip(hashes, keep, strict=True) if kept)
    return _Chosen(index[keep], frames[keep], taken_us[keep], kept_hashes, len(index))


def _inspected(
    reader: ChunkReader, clip_key: str, chosen: _Chosen, masks: Iterator[NDArray[np.bool_]]
) -> Iterator[tuple[NDArray[np.bool_], LaneInspection]]:
    """Each chosen frame's mask, and what the inspector says of the frame.

    It is given either the frames around it with the vehicle's motion, or the frame alone with its mask: with no other
    look at the ground, the mask tells a vehicle's flank from a line.
    """
    from lanepaint_assets.lanes.inspector import RoadView

    inspector = reader.platform.inspector
    if reader.platform.settings.training_inspection == "single":
        camera = reader.camera(clip_key)
        for at, mask in enumerate(masks):
            only = slice(at, at + 1)
            view = RoadView(chosen.frames[only], chosen.taken_us[only], 0, camera, road_masks=mask[None])
            yield mask, inspector.inspect(view)
        return
    clip, geometry = reader.frames(clip_key), reader.geometry(clip_key)
    for index, mask in zip(chosen.index, masks, strict=True):
        view = RoadView(clip.frames, clip.taken_us, int(index), geometry.camera, geometry.ego)
        yield mask, inspector.inspect(view)


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
