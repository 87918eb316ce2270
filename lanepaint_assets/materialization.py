"""What a materialization is told (run config) and what it tells: metadata, checks, data version, clear failures.

Called by every stage's `assets.py`. Computing is the stages' `steps.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.editing.catalogue import PromptSelectionError
from lanepaint_assets.item_checks import ItemCheck, check_results
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.items import PartitionOutcome, StepError
from lanepaint_assets.store.layout import manifest_path
from lanepaint_assets.store.upstream import MissingUpstreamError

# Ends the data version of a partition that a narrowed run left incomplete, where `complete` in the metadata is for
# people: Dagster finds the versions of ten thousand partitions with one question, and metadata event by event.
_INCOMPLETE = "-incomplete"

# Metadata lives in the event log: a table of more rows than this belongs into the manifest, which is linked.
TABLE_ROWS = 200
# Cells are some twelve characters wide in the web UI: 120 characters make rows of 180 to 370 pixels. The manifest has
# the whole.
CELL_CHARACTERS = 40

RUN_NAME_TAG = "lanepaint/run_name"


class PromptSelection(dg.Config):
    """Narrows a materialization to some prompts; the others keep what they have."""

    prompts: list[str] = Field(
        default=[], description="Prompts by key or number, for example ['1', 'double_yellow_solid']; empty means all."
    )


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn refusals that a person can act on into one-line failures that no retry can mend."""
    try:
        yield
    except (ClipSourceError, MissingUpstreamError, PromptSelectionError, StepError, StoreError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def run_name(context: dg.AssetExecutionContext) -> str:
    """The name stamped on rows and reports: `--run-id`'s, or the Dagster run id."""
    return context.run.tags.get(RUN_NAME_TAG, context.run.run_id)


def as_result(
    platform: Platform,
    asset: str,
    outcome: PartitionOutcome,
    *,
    run: str,
    checks: Sequence[ItemCheck] = (),
    engines: Sequence[str] = (),
    preview_png: bytes | None = None,
    table: pd.DataFrame | None = None,
    extra: Mapping[str, dg.MetadataValue[Any]] | None = None,
) -> dg.MaterializeResult[None]:
    """Report a partition.

    Args:
        checks: those of the asset, beside the two that every asset of items has; `check_specs` announces them.

    Raises:
        dg.Failure: more than `max_failed_share` of the items failed; what was made stays.
    """
    rows = outcome.rows
    failed = [row for row in rows if row.status == "failed"]
    # The UI keeps the order: first what is looked at, then how it went, then tables, which may be longer than a screen.
    metadata: dict[str, dg.MetadataValue[Any]] = {}
    if preview_png is not None:
        from lanepaint_assets.rendering.previews import as_markdown_image

        metadata["preview"] = dg.MetadataValue.md(as_markdown_image(preview_png, f"preview of {asset}"))
    tables = {name: value for name, value in (extra or {}).items() if isinstance(value, dg.TableMetadataValue)}
    metadata |= {name: value for name, value in (extra or {}).items() if name not in tables}
    metadata |= {
        "items": dg.MetadataValue.int(len(rows)),
        "computed": dg.MetadataValue.int(len(outcome.computed)),
        "reused": dg.MetadataValue.int(len(outcome.reused)),
        "failed": dg.MetadataValue.int(len(failed)),
        "complete": dg.MetadataValue.bool(outcome.complete),
        "engines": dg.MetadataValue.text(", ".join(engines) if engines else "none"),
        "run_name": dg.MetadataValue.text(run),
        "duration_s": dg.MetadataValue.float(round(outcome.seconds, 2)),
        "manifest": dg.MetadataValue.path(str(platform.store.root / manifest_path(asset, outcome.manifest.chunk))),
        **tables,
        "rows": table_value(table if table is not None else item_table(outcome)),
    }
    timings = timing_table(outcome)
    if not timings.empty:
        metadata["timings"] = table_value(timings)
    if rows and len(failed) / len(rows) > platform.settings.max_failed_share:
        reasons = "; ".join(f"{row.key}: {row.reason}" for row in failed[:5])
        raise dg.Failure(
            description=f"{len(failed)} of {len(rows)} items of {asset} in {outcome.manifest.chunk} failed: {reasons}",
            metadata=metadata,
            allow_retries=False,
        )
    return dg.MaterializeResult(
        asset_key=asset,
        metadata=metadata,
        data_version=dg.DataVersion(told_version(outcome.data_version, complete=outcome.complete)),
        check_results=check_results(asset, checks, outcome),
    )


def told_version(version: str, *, complete: bool) -> str:
    """What a partition's data version is for Dagster.

    Args:
        version: digest of its called-for rows.
        complete: whether those are all that is called for, none of them outdated.
    """
    return version if complete else f"{version}{_INCOMPLETE}"


def tells_complete(version: str) -> bool:
    """Whether a partition of a version that `told_version` gave was complete."""
    return not version.endswith(_INCOMPLETE)


def item_table(outcome: PartitionOutcome) -> pd.DataFrame:
    """Key, status, reason and plain facts of every item."""
    return pd.DataFrame(
        [
            {
                "item": row.key,
                "status": row.status,
                "reason": row.reason,
                **{name: value for name, value in row.facts.items() if not isinstance(value, dict | list)},
            }
            for row in outcome.rows
        ]
    )


def timing_table(outcome: PartitionOutcome) -> pd.DataFrame:
    """Seconds by phase over the items that this run computed: total, mean and largest."""
    computed = set(outcome.computed)
    phases: dict[str, list[float]] = {}
    for row in outcome.rows:
        if row.key in computed:
            for phase, seconds in row.timings_s.items():
                phases.setdefault(phase, []).append(seconds)
    return pd.DataFrame(
        [
            {
                "phase": phase,
                "items": len(seconds),
                "total_s": round(sum(seconds), 2),
                "mean_s": round(sum(seconds) / len(seconds), 2),
                "max_s": round(max(seconds), 2),
            }
            for phase, seconds in phases.items()
        ]
    )


def table_value(frame: pd.DataFrame) -> dg.TableMetadataValue:
    """A table with its schema, cut to a size that the event log bears."""
    kept = frame.head(TABLE_ROWS)
    types = {"i": "int", "u": "int", "f": "float", "b": "bool"}
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({str(name): _cell(value) for name, value in record.items()})
            for record in kept.to_dict(orient="records")
        ],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn(name=str(name), type=types.get(dtype.kind, "string"))
                for name, dtype in kept.dtypes.items()
            ]
        ),
    )


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else value
    text = str(value)
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"
