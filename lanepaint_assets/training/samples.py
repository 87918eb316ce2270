"""Training samples and the two tables that hold them: train.csv (spec 7) and facts.csv, what filters need beside it.

Called by both sample assets, by the dataset commands and by LoRA training. How samples are chosen and made is
`sample_steps.py`, which of them are kept `filters.py`; nothing here decodes a picture.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lanepaint_assets.lanes.attributes import LaneStyle, parse_caption
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import asset_folder
from lanepaint_assets.store.manifest import ItemRow

log = logging.getLogger(__name__)

TRAIN_FILE = "train.csv"
FACTS_FILE = "facts.csv"

# Spec 7: the two prompts feed FLUX's two text encoders (CLIP and T5) and hold the same normalized caption.
TRAIN_COLUMNS = ("image", "mask", "prompt", "prompt_2")
FACT_COLUMNS = (
    "image",
    "chunk",
    "item",
    "source",
    "engines",
    "frame",
    "time_us",
    "confidence",
    "mask_share",
    "perceptual_hash",
)


class SamplesFileError(ValueError):
    """A table of samples cannot be read; the message names the file, the line and what is wrong."""


@dataclass(frozen=True)
class SampleFacts:
    """Where a sample comes from, and what filters ask of it.

    Attributes:
        chunk: the partition it was made in.
        item: item key of its clip.
        source: fingerprint of the clip's row in `training_samples`.
        engines: names and versions of segmenter and inspector.
        frame: index on the clip's frame grid.
        time_us: when the frame was taken, on the clip's clock.
        confidence: 0..1, the inspector's.
        mask_share: 0..1, share of the picture that is road.
        perceptual_hash: 16 hex digits; see `near_duplicates.py`.
    """

    chunk: str
    item: str
    source: str
    engines: str
    frame: int
    time_us: int
    confidence: float
    mask_share: float
    perceptual_hash: str


@dataclass(frozen=True)
class TrainingSample:
    """One row of train.csv, with its facts where they are known.

    Attributes:
        image, mask: '/'-separated paths relative to the table's folder.
        prompt, prompt_2: as the two text encoders read them.
        facts: None in datasets that were made elsewhere.
    """

    image: str
    mask: str
    prompt: str
    prompt_2: str
    facts: SampleFacts | None = None

    @property
    def style(self) -> LaneStyle:
        """What the prompt states.

        Raises:
            ValueError: it is not a normalized caption.
        """
        return parse_caption(self.prompt)

    def below(self, folder: str) -> TrainingSample:
        """The sample as a table one or more folders up names it."""
        return replace(self, image=f"{folder}/{self.image}", mask=f"{folder}/{self.mask}")


def train_csv(samples: Iterable[TrainingSample]) -> str:
    """The text of a train.csv."""
    return _csv_text(TRAIN_COLUMNS, ((s.image, s.mask, s.prompt, s.prompt_2) for s in samples))


def facts_csv(samples: Iterable[TrainingSample]) -> str:
    """The text of a facts.csv; samples without facts have no row."""
    rows = (
        (
            sample.image,
            facts.chunk,
            facts.item,
            facts.source,
            facts.engines,
            facts.frame,
            facts.time_us,
            f"{facts.confidence:.4f}",
            f"{facts.mask_share:.5f}",
            facts.perceptual_hash,
        )
        for sample in samples
        if (facts := sample.facts) is not None
    )
    return _csv_text(FACT_COLUMNS, rows)


@dataclass(frozen=True)
class RefusedRow:
    """A row of train.csv that is no usable sample, and why."""

    row: str
    reason: str


def parse_samples(
    train: str, facts: str | None, where: str, refused: list[RefusedRow] | None = None
) -> list[TrainingSample]:
    """Read samples from the text of a train.csv and, where there is one, of its facts.csv.

    Prompts are taken as they stand; columns beside those of the spec are left out.

    Args:
        where: the folder of both, for messages.
        refused: gets the rows of train.csv that lack a value; without it they are an error.

    Raises:
        SamplesFileError: a column or a value is missing, or a number is none.
    """
    known = {}
    for line, values, reason in [] if facts is None else _rows(facts, FACT_COLUMNS, f"{where}/{FACTS_FILE}"):
        if reason is not None:
            raise SamplesFileError(f"{where}/{FACTS_FILE}, line {line}: {reason}")
        known[values[0]] = _facts(values, f"{where}/{FACTS_FILE}, line {line}")
    samples = []
    for line, values, reason in _rows(train, TRAIN_COLUMNS, f"{where}/{TRAIN_FILE}"):
        if reason is None:
            image, mask, prompt, prompt_2 = values
            samples.append(TrainingSample(image, mask, prompt, prompt_2, known.get(image)))
        elif refused is not None:
            refused.append(RefusedRow(f"line {line}", reason))
        else:
            raise SamplesFileError(f"{where}/{TRAIN_FILE}, line {line}: {reason}")
    return samples


def _facts(values: Sequence[str], place: str) -> SampleFacts:
    _, chunk, item, source, engines, frame, time_us, confidence, mask_share, digest = values
    try:
        int(digest, 16)
        return SampleFacts(
            chunk, item, source, engines, int(frame), int(time_us), float(confidence), float(mask_share), digest
        )
    except ValueError as error:
        raise SamplesFileError(f"{place}: {error}") from error


def _rows(text: str, columns: Sequence[str], file: str) -> Iterator[tuple[int, tuple[str, ...], str | None]]:
    """Line number and the values of `columns` of every row, and what it lacks, None where that is nothing."""
    table = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    missing = [column for column in columns if column not in (table.fieldnames or ())]
    if missing:
        raise SamplesFileError(
            f"{file} has no column {', '.join(missing)}; it needs {', '.join(columns)} in its first line"
        )
    for row in table:
        values = tuple(str(row[column] or "") for column in columns)
        lacking = [column for column, value in zip(columns, values, strict=True) if not value.strip()]
        yield table.line_num, values, f"no {', '.join(lacking)}" if lacking else None


def _csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def clip_samples(store: ArtifactStore, chunk: str, row: ItemRow) -> list[TrainingSample]:
    """The samples of one finished clip, named relative to the folder of `training_samples` in its chunk."""
    folder = folder_below_asset(row, chunk)
    return [sample.below(folder) for sample in row_samples(store, row)]


def row_samples(store: ArtifactStore, row: ItemRow) -> list[TrainingSample]:
    """The samples of any row that holds the two tables, as they name their files."""
    train, facts = (store.read_bytes(row, name).decode() for name in (TRAIN_FILE, FACTS_FILE))
    return parse_samples(train, facts, row.folder or row.key)


def folder_below_asset(row: ItemRow, chunk: str) -> str:
    """Where the files of a clip's row lie, relative to the folder of `training_samples` in its chunk."""
    return (row.folder or "").removeprefix(asset_folder("training_samples", chunk) + "/")


@dataclass(frozen=True)
class StoredSample:
    """A sample and the row that holds its files.

    Attributes:
        sample: prompts and facts; `sample.image` is unique within the chunk.
        row: the clip's row in `training_samples`.
        image_name, mask_name: names of its files in that row.
    """

    sample: TrainingSample
    row: ItemRow
    image_name: str
    mask_name: str

    @property
    def fingerprint(self) -> str:
        """Of the clip's row: what the sample was made from."""
        return self.row.fingerprint

    @property
    def prompt(self) -> str:
        return self.sample.prompt

    @property
    def prompt_2(self) -> str:
        return self.sample.prompt_2

    def read_image(self, store: ArtifactStore) -> bytes:
        """The picture as PNG: (H, W, 3) sRGB.

        Raises:
            StoreError: the file is gone or was changed.
        """
        return store.read_bytes(self.row, self.image_name)

    def read_mask(self, store: ArtifactStore) -> bytes:
        """The road as PNG: (H, W) grey, 0 keep and 255 road.

        Raises:
            StoreError: the file is gone or was changed.
        """
        return store.read_bytes(self.row, self.mask_name)


def style_samples(platform: Platform, style_key: str) -> list[StoredSample]:
    """The samples of a lane style in all chunks whose `filtered_samples` are complete now, in the chunks' order.

    A chunk counts as complete where the style's subset stands on the clips' samples as they are now; one that is being
    made anew is left out, with a warning, so that a training can start at any time.

    Args:
        style_key: for example `single_white_solid`.
    """
    store = platform.store
    return [
        sample
        for chunk in store.chunk_keys()
        for sample in stored_samples(store, chunk, store.manifest("filtered_samples", chunk).rows.get(style_key))
    ]


def stored_samples(store: ArtifactStore, chunk: str, table: ItemRow | None) -> list[StoredSample]:
    """The samples of a chunk's row with tables that span clips: a style's subset, or `_chunk` of `training_samples`.

    Returns:
        None of them where the row is not finished or older than a clip's samples, which is logged.
    """
    if table is None or table.status != "ok":
        return []
    rows = store.manifest("training_samples", chunk).rows
    found = []
    for sample in row_samples(store, table):
        facts = sample.facts
        row = rows.get(facts.item) if facts is not None else None
        if row is None or facts is None or row.status != "ok" or row.fingerprint != facts.source:
            log.warning(
                "%s of chunk %s is left out: it is older than the clips' training_samples; materialize it again",
                table.key,
                chunk,
            )
            return []
        prefix = folder_below_asset(row, chunk) + "/"
        found.append(StoredSample(sample, row, sample.image.removeprefix(prefix), sample.mask.removeprefix(prefix)))
    return found
