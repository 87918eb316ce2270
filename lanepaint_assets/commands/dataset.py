"""`lanepaint dataset export` and `lanepaint dataset filter`: training samples as a dataset folder (spec 7 and 8).

No Dagster: samples are read from the store, or from a folder that somebody else made. How a folder is laid out is
`training/dataset_folder.py`'s work, the rules are `training/filters.py`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from upath import UPath

from lanepaint_assets import __version__
from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern, parse_caption
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.training.dataset_card import (
    CARD_FILE,
    CROISSANT_FILE,
    UNNAMED_LICENCE,
    DatasetStory,
    croissant,
    dataset_card,
)
from lanepaint_assets.training.dataset_folder import CopyMode, DatasetRow, check_new, read_dataset, write_dataset
from lanepaint_assets.training.filters import RULES, SampleFilter, filter_samples, removal_sentence
from lanepaint_assets.training.samples import TRAIN_FILE, RefusedRow, StoredSample, TrainingSample, stored_samples

# Refused rows that are told one by one; a folder of other files would fill the terminal.
TOLD_ROWS = 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Output:
    """Where a dataset goes, how its pictures get there, and under which licence."""

    folder: str
    mode: CopyMode
    licence: str | None


def export(platform: Platform, chunks: Sequence[str], style: str | None, output: Output, say: Say) -> None:
    """Assemble the samples of chunks into one dataset folder.

    Args:
        chunks: empty means all registered ones.
        style: a lane style's subset, as `filtered_samples` has it; None takes all samples.

    Raises:
        CommandError: an unknown chunk or style, or no sample to export.
        DatasetFolderError: the folder cannot be written.
    """
    folder = _new_folder(output.folder)
    if style is not None:
        _known_style(style)
    store = platform.store
    registered = store.chunk_keys()
    unknown = sorted(set(chunks) - set(registered))
    if unknown:
        raise CommandError(
            f"chunk {', '.join(unknown)} is not registered; registered: {', '.join(registered) or 'none'}"
        )
    keys = list(chunks) or registered
    rows: list[DatasetRow] = []
    refused: list[RefusedRow] = []
    tables: list[ItemRow] = []
    for chunk in keys:
        asset, key = ("training_samples", CHUNK_ROW) if style is None else ("filtered_samples", style)
        table = store.manifest(asset, chunk).rows.get(key)
        found = stored_samples(store, chunk, table)
        if table is not None and table.status == "ok":
            tables.append(table)
        if not found:
            say(f"{chunk}: {_why_none(table, style)}")
            continue
        usable, lost = _dataset_rows(store, chunk, found)
        rows += usable
        refused += lost
    removed = _summed(tables, "removed_by_") if style is not None else {}
    if not rows:
        why = f" ({removal_sentence(_fact(tables, 'samples'), removed)})" if style is not None and tables else ""
        raise CommandError(
            f"nothing to export from {', '.join(keys) or 'no chunk'}{why}; make samples with: lanepaint dataset make"
        )
    whole = [store.manifest("training_samples", chunk).rows for chunk in keys]
    what = "All samples" if style is None else f"The samples of lane style {style}"
    story = _story(
        folder,
        output,
        origin=f"{what} of {len(keys)} chunk(s): {', '.join(keys)}.",
        removed=removed,
        refused=refused,
        near_duplicates=sum(_fact(list(found.values()), "near_duplicates") for found in whole),
    )
    _write(folder, rows, output, story, say)


def filter_dataset(source: str, rules: SampleFilter, output: Output, say: Say) -> None:
    """Write what the rules keep of a dataset folder into another one.

    Args:
        source: a dataset folder, local or on an object store.

    Raises:
        CommandError: nothing is left.
        DatasetFolderError: a folder cannot be read or written.
        MissingFactError: a rule asks for what the folder does not say.
    """
    folder, there = _new_folder(output.folder), _address(source)
    dataset = read_dataset(there)
    by_image = {row.sample.image: row for row in dataset.rows}
    if len(by_image) < len(dataset.rows):
        say(
            f"{len(dataset.rows) - len(by_image)} row(s) name a picture that another row names too; the last one stands"
        )

    def mask_share(sample: TrainingSample) -> float:
        return float((read_picture(by_image[sample.image].mask.read_bytes(), sample.mask) > 0).mean())

    found = filter_samples([row.sample for row in by_image.values()], rules, mask_share)
    told = removal_sentence(found.samples, found.removed)
    if not found.kept:
        _tell_refused(dataset.refused, say)
        raise CommandError(f"nothing is left of {source}: {told}; {len(dataset.refused)} row(s) were refused")
    digest = hashlib.sha256((there / TRAIN_FILE).read_bytes()).hexdigest()
    story = _story(
        folder,
        output,
        origin=f"Filtered from {there.name} ({TRAIN_FILE} with SHA-256 {digest[:16]}): {_words(rules)}.",
        removed=found.removed,
        refused=dataset.refused,
        near_duplicates=None,
    )
    _write(folder, [by_image[sample.image] for sample in found.kept], output, story, say)
    say(told)


def chosen_rules(
    settings: Settings,
    *,
    style: str | None,
    count: str,
    color: str,
    pattern: str,
    allow_unknown: bool,
    min_confidence: float | None,
    min_mask_share: float | None,
) -> SampleFilter:
    """The rules that options name; what they leave out is as the settings have it.

    Args:
        style: instead of the three attributes, each of which may be `any`.

    Raises:
        CommandError: the style is none, or attributes are named beside it.
    """
    named = SampleFilter(
        count=None if count == "any" else Count(count),
        color=None if color == "any" else Color(color),
        pattern=None if pattern == "any" else Pattern(pattern),
        require_clear_road=settings.filter_require_clear_road and not allow_unknown,
        min_confidence=settings.filter_min_confidence if min_confidence is None else min_confidence,
        min_mask_share=settings.filter_min_mask_share if min_mask_share is None else min_mask_share,
    )
    if style is None:
        return named
    if (count, color, pattern) != ("any", "any", "any"):
        raise CommandError(f"--style {style} says count, colour and pattern already; leave the other options out")
    wanted = _known_style(style)
    return replace(named, count=wanted.count, color=wanted.color, pattern=wanted.pattern)


def _why_none(table: ItemRow | None, style: str | None) -> str:
    wanted = "no sample" if style is None else f"no sample of {style}"
    if table is None:
        return f"{wanted} was made yet"
    if table.status != "ok":
        return f"{wanted}: {table.reason or table.status}"
    held = _fact([table], "samples" if style is None else "kept")
    return f"{wanted}: its table is older than its clips' samples; materialize it again" if held else wanted


def _known_style(key: str) -> LaneStyle:
    try:
        style = parse_caption(f"road with {key.replace('_', ' ')} lane markings")
    except ValueError as error:
        raise CommandError(
            f"--style {key!r} is no lane style; write COUNT_COLOUR_PATTERN, for example single_white_solid"
        ) from error
    return style


def _dataset_rows(
    store: ArtifactStore, chunk: str, samples: Sequence[StoredSample]
) -> tuple[list[DatasetRow], list[RefusedRow]]:
    """Samples under names that are unique over chunks, and those whose files are no longer in the store."""
    lost = store.keys_with_lost_files("training_samples", chunk, {s.row.key: s.row for s in samples}.values())
    rows, refused = [], []
    for stored in samples:
        if stored.row.key in lost:
            refused.append(RefusedRow(stored.sample.image, "files of its clip are no longer in the store"))
            continue
        name = f"{chunk}_{stored.image_name.rpartition('/')[2]}"
        sample = replace(stored.sample, image=f"images/{name}", mask=f"masks/{name}")
        image, mask = (store.file_path(stored.row, file) for file in (stored.image_name, stored.mask_name))
        rows.append(DatasetRow(sample, image, mask))
    return rows, refused


def _write(folder: UPath, rows: Sequence[DatasetRow], output: Output, story: DatasetStory, say: Say) -> None:
    samples = [row.sample for row in rows]
    texts = {CARD_FILE: dataset_card(samples, story), CROISSANT_FILE: croissant(samples, story)}
    used = write_dataset(folder, rows, output.mode, texts)
    _tell_refused(story.refused, say)
    if used != output.mode:
        say(f"pictures are copies: --mode {output.mode} works between local folders only")
    elif used != "copy":
        say(f"pictures are {used}s: do not edit them, and keep the folder that they come from")
    styles = {sample.prompt for sample in samples}
    say(f"{len(samples)} samples, {len(styles)} caption(s), in {folder}; see {CARD_FILE} there")


def _tell_refused(refused: Sequence[RefusedRow], say: Say) -> None:
    for row in refused[:TOLD_ROWS]:
        say(f"refused {row.row}: {row.reason}")
    if len(refused) > TOLD_ROWS:
        say(f"refused {len(refused) - TOLD_ROWS} more")


def _story(
    folder: UPath,
    output: Output,
    *,
    origin: str,
    removed: Mapping[str, int],
    refused: Sequence[RefusedRow],
    near_duplicates: int | None,
) -> DatasetStory:
    return DatasetStory(
        name=folder.name or "lanepaint samples",
        url=folder.as_uri(),
        licence=output.licence or UNNAMED_LICENCE,
        made_by=f"LanePaint {__version__}",
        published=f"{datetime.now(UTC):%Y-%m-%d}",
        origin=origin,
        removed=removed,
        refused=refused,
        near_duplicates=near_duplicates,
    )


def _words(rules: SampleFilter) -> str:
    parts = [f"count {rules.count or 'any'}, colour {rules.color or 'any'}, pattern {rules.pattern or 'any'}"]
    parts.append("no unknown attribute" if rules.require_clear_road else "unknown attributes allowed")
    if rules.min_confidence > 0:
        parts.append(f"confidence from {rules.min_confidence:g} on")
    if rules.min_mask_share > 0:
        parts.append(f"road on at least {rules.min_mask_share:.0%} of the picture")
    return ", ".join(parts)


def _address(text: str) -> UPath:
    address: UPath = UPath(text)
    return address if "://" in text else address.expanduser().absolute()


def _new_folder(text: str) -> UPath:
    folder = _address(text)
    check_new(folder)
    return folder


def _summed(rows: Sequence[ItemRow], prefix: str) -> dict[str, int]:
    return {rule: _fact(rows, f"{prefix}{rule}") for rule in RULES}


def _fact(rows: Sequence[ItemRow], name: str) -> int:
    return sum(value for row in rows if row.status == "ok" and isinstance(value := row.facts.get(name), int))
