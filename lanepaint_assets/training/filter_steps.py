"""What `filtered_samples` does, without Dagster: one subset a lane style (spec 8).

Items are lane styles; each holds a train.csv and a facts.csv that name the pictures where `training_samples` keeps
them. The rules themselves are in `filters.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, StepError, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.upstream import upstream_manifest
from lanepaint_assets.training.filters import RULES, SampleFilter, filter_samples, removal_sentence
from lanepaint_assets.training.samples import FACTS_FILE, TRAIN_FILE, facts_csv, row_samples, train_csv

# Raise when the rules or the tables change.
FILTERED_SAMPLES_VERSION = "2"


def style_filter(settings: Settings, style: LaneStyle) -> SampleFilter:
    """The rules of one style's subset, as the settings have them."""
    return SampleFilter(
        count=style.count if settings.filter_count == "style" else None,
        color=style.color if settings.filter_color == "style" else None,
        pattern=style.pattern if settings.filter_pattern == "style" else None,
        require_clear_road=settings.filter_require_clear_road,
        min_confidence=settings.filter_min_confidence,
        min_mask_share=settings.filter_min_mask_share,
    )


def make_filtered_samples(platform: Platform, chunk: str, run_id: str, styles: Sequence[LaneStyle]) -> PartitionOutcome:
    """A subset a lane style of the chunk's samples.

    Raises:
        StepError: the chunk's table of samples was not made.
    """
    manifest = upstream_manifest(platform.store, "training_samples", chunk, "filtered_samples")
    table = manifest.rows.get(CHUNK_ROW)
    if table is None or table.status != "ok":
        reason = "it is missing" if table is None else table.reason
        raise StepError(f"the table of training_samples in {chunk} cannot be used: {reason}; materialize it again")
    try:
        samples = row_samples(platform.store, table)
    except (StoreError, ValueError) as error:
        raise StepError(f"the table of training_samples in {chunk} cannot be read: {error}") from error
    settings = platform.settings
    by_key = {style.key: style for style in styles}
    tasks = [
        ItemTask(
            key=key,
            fingerprint=fingerprint(
                asset="filtered_samples",
                item_key=key,
                upstream={CHUNK_ROW: table.fingerprint},
                engine=None,
                params={
                    "algorithm": FILTERED_SAMPLES_VERSION,
                    "style": key,
                    "count": settings.filter_count,
                    "color": settings.filter_color,
                    "pattern": settings.filter_pattern,
                    "require_clear_road": settings.filter_require_clear_road,
                    "min_confidence": settings.filter_min_confidence,
                    "min_mask_share": settings.filter_min_mask_share,
                },
            ),
        )
        for key in by_key
    ]

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        found = filter_samples(samples, style_filter(settings, by_key[task.key]))
        (folder / TRAIN_FILE).write_text(train_csv(found.kept))
        (folder / FACTS_FILE).write_text(facts_csv(found.kept))
        return ItemOutput(
            facts={
                "samples": len(samples),
                "kept": len(found.kept),
                **{f"removed_by_{rule}": count for rule, count in found.removed.items()},
                **{f"fails_{rule}": count for rule, count in found.fails.items()},
            }
        )

    return run_items(platform.store, "filtered_samples", chunk, tasks, compute, run_id=run_id)


def removal_table(outcome: PartitionOutcome) -> list[dict[str, str | int | None]]:
    """A row a style: status, samples, kept, and a column a rule with how many samples it removed."""
    columns = {"samples": "samples", "kept": "kept"} | {rule: f"removed_by_{rule}" for rule in RULES}
    return [
        {
            "style": row.key,
            "status": row.status,
            "reason": row.reason,
            **{column: _count(row, name) for column, name in columns.items()},
        }
        for row in outcome.rows
    ]


def style_removals(platform: Platform, style_key: str) -> str:
    """How many samples all chunks have and which rules kept them out of a style's subset, in one sentence."""
    samples, removed = 0, dict.fromkeys(RULES, 0)
    for chunk in platform.store.chunk_keys():
        row = platform.store.manifest("filtered_samples", chunk).rows.get(style_key)
        if row is not None and row.status == "ok":
            samples += _count(row, "samples")
            for rule in RULES:
                removed[rule] += _count(row, f"removed_by_{rule}")
    return removal_sentence(samples, removed)


def _count(row: ItemRow, name: str) -> int:
    value = row.facts.get(name)
    return value if isinstance(value, int) else 0
