"""What `training_samples` and `filtered_samples` do, without Dagster (spec 7 and 8).

A sample is a frame, its road mask and its normalized caption. Items are clips; the chunk's `train.csv` is the row
`_chunk` of `training_samples`, and `filtered_samples` holds one `train.csv` a lane style.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.lanes.attributes import LaneStyle, parse_caption
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, run_chunk_item, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.upstream import needs

# Raise when the choice of frames, the mask or the columns change.
TRAINING_SAMPLES_VERSION = "1"
FILTERED_SAMPLES_VERSION = "1"

SAMPLES_FILE = "samples.csv"
TRAIN_FILE = "train.csv"

# Spec 7: prompt and prompt_2 feed the two text encoders of FLUX and hold the same sentence.
COLUMNS = ("image", "mask", "prompt", "prompt_2")


@dataclass(frozen=True)
class TrainingSample:
    """One row of train.csv; paths are relative to the folder that the CSV's chunk lies in."""

    image: str
    mask: str
    caption: str

    @property
    def style(self) -> LaneStyle:
        return parse_caption(self.caption)

    def row(self) -> tuple[str, str, str, str]:
        """The columns of spec 7."""
        return (self.image, self.mask, self.caption, self.caption)


def make_training_samples(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """Frames, road masks and captions of every clip of a chunk, and the chunk's train.csv."""
    reader = ChunkReader(platform, chunk, "training_samples")
    segmenter, inspector = platform.entry("segmenter"), platform.entry("inspector")
    settings = platform.settings
    engines = f"{segmenter.label} + {inspector.label}"
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
                        "frame_interval_us": round(settings.training_frame_interval_s * 1e6),
                        "engine_settings": platform.deciding_settings("segmenter", "inspector"),
                    },
                ),
                blocked=need.blocked,
                engine=engines,
            )
        )

    outcome = run_items(
        platform.store,
        "training_samples",
        chunk,
        tasks,
        lambda task, folder: _clip_samples(platform, reader, task.key, folder),
        run_id=run_id,
        workers=settings.workers,
        progress=platform.progress_for("training_samples"),
    )
    made = [row for row in outcome.rows if row.status == "ok"]

    def assemble(_: ItemTask, folder: Path) -> ItemOutput:
        samples = [sample for row in made for sample in read_samples(platform, row)]
        (folder / TRAIN_FILE).write_text(as_csv(samples))
        return ItemOutput(facts={"samples": len(samples)})

    run_chunk_item(
        platform.store,
        "training_samples",
        chunk,
        rows_fingerprint("training_samples", TRAINING_SAMPLES_VERSION, made),
        assemble,
        run_id=run_id,
    )
    return outcome


def _clip_samples(platform: Platform, reader: ChunkReader, clip_key: str, folder: Path) -> ItemOutput:
    from lanepaint_assets.clips.pictures import write_picture
    from lanepaint_assets.lanes.inspector import RoadView

    started = perf_counter()
    clip = reader.frames(clip_key)
    geometry = reader.geometry(clip_key)
    times_us = np.asarray(clip.timestamps_us)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    samples = []
    for index in sample_indices(times_us, platform.settings.training_frame_interval_s):
        frame = clip.frames[index]
        mask = reader.road_mask(frame)
        inspection = platform.inspector.inspect(
            RoadView(
                frames=clip.frames,
                timestamps_us=clip.taken_us,
                target_index=index,
                camera=geometry.camera,
                ego=geometry.ego,
            )
        )
        name = f"{clip_key}_{index:05d}.png"
        write_picture(folder / "images" / name, frame)
        write_picture(folder / "masks" / name, mask.astype(np.uint8) * 255)
        samples.append(TrainingSample(f"images/{name}", f"masks/{name}", inspection.caption))
    (folder / SAMPLES_FILE).write_text(as_csv(samples))
    return ItemOutput(facts={"samples": len(samples)}, timings_s={"sample": perf_counter() - started})


def sample_indices(times_us: np.ndarray[tuple[int], np.dtype[np.int64]], interval_s: float) -> list[int]:
    """Grid frames at least `interval_s` apart, the first one included."""
    chosen: list[int] = []
    for index, time in enumerate(times_us):
        if not chosen or time - times_us[chosen[-1]] >= interval_s * 1e6:
            chosen.append(index)
    return chosen


def read_samples(platform: Platform, row: ItemRow) -> list[TrainingSample]:
    """The samples of one clip, with paths relative to the asset's chunk folder."""
    table = csv.DictReader(io.StringIO(platform.store.read_bytes(row, SAMPLES_FILE).decode()))
    prefix = f"{row.key}/{row.fingerprint}"
    return [TrainingSample(f"{prefix}/{line['image']}", f"{prefix}/{line['mask']}", line["prompt"]) for line in table]


def as_csv(samples: Iterable[TrainingSample]) -> str:
    """The text of a train.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sample.row() for sample in samples)
    return text.getvalue()


def rows_fingerprint(asset: str, algorithm: str, rows: Sequence[ItemRow]) -> str:
    """Fingerprint of what is made from all of a chunk's items."""
    return fingerprint(
        asset=asset,
        item_key=CHUNK_ROW,
        upstream={row.key: row.fingerprint for row in rows},
        engine=None,
        params={"algorithm": algorithm},
    )


def make_filtered_samples(platform: Platform, chunk: str, run_id: str, styles: Sequence[LaneStyle]) -> PartitionOutcome:
    """One train.csv a lane style, of the samples whose caption states exactly that style."""
    reader = ChunkReader(platform, chunk, "filtered_samples")
    rows = [
        row for key, row in reader.manifest("training_samples").rows.items() if row.status == "ok" and key != CHUNK_ROW
    ]
    upstream = {row.key: row.fingerprint for row in rows}
    by_key = {style.key: style for style in styles}
    tasks = [
        ItemTask(
            key=key,
            fingerprint=fingerprint(
                asset="filtered_samples",
                item_key=key,
                upstream=upstream,
                engine=None,
                params={"algorithm": FILTERED_SAMPLES_VERSION, "style": key},
            ),
        )
        for key in by_key
    ]

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        samples = [sample for row in rows for sample in read_samples(platform, row)]
        kept = [sample for sample in samples if sample.style == by_key[task.key]]
        unclear = sum(not sample.style.is_known for sample in samples)
        (folder / TRAIN_FILE).write_text(as_csv(kept))
        return ItemOutput(
            facts={
                "samples": len(samples),
                "kept": len(kept),
                "unclear": unclear,
                "other_style": len(samples) - len(kept) - unclear,
            }
        )

    return run_items(platform.store, "filtered_samples", chunk, tasks, compute, run_id=run_id)
