"""Partitions whose rows hold given facts, for tests of checks."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from lanepaint_assets.store.fingerprint import data_version
from lanepaint_assets.store.items import PartitionOutcome
from lanepaint_assets.store.manifest import ItemRow, Manifest

SOME_FINGERPRINT = "0" * 64


def made(facts: Mapping[str, JsonValue], key: str = "a.front") -> ItemRow:
    return ItemRow(key=key, fingerprint=SOME_FINGERPRINT, status="ok", facts=dict(facts), run_id="run")


def failed(reason: str, key: str = "b.front") -> ItemRow:
    return ItemRow(key=key, fingerprint=SOME_FINGERPRINT, status="failed", reason=reason, run_id="run")


def outdated(facts: Mapping[str, JsonValue], key: str = "c.front") -> ItemRow:
    return made(facts, key).model_copy(update={"status": "outdated"})


def partition(*rows: ItemRow, missing: int = 0) -> PartitionOutcome:
    """A partition of these rows, and of `missing` items that are called for and have none."""
    called_for = (*(row.key for row in rows), *(f"missing_{n}.front" for n in range(missing)))
    return PartitionOutcome(
        manifest=Manifest(asset="road_masks", chunk="chunk_0001", rows={row.key: row for row in rows}),
        called_for=called_for,
        computed=(),
        reused=called_for,
        failed=tuple(row.key for row in rows if row.status == "failed"),
        complete=not missing and all(row.status in ("ok", "failed") for row in rows),
        data_version=data_version(rows),
        seconds=0.0,
    )
