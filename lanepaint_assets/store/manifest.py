"""The rows that say what a partition holds, and the rule that decides between two rows of one item.

Called by `artifacts.py`, `items.py` and every stage that reads another's rows. Plain records: no file is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, JsonValue, NonNegativeInt, model_validator

from lanepaint_assets.store.layout import check_fingerprint, check_item_key, check_relative_path

Status = Literal["ok", "failed", "outdated", "retired"]

RelativePath = Annotated[str, AfterValidator(check_relative_path)]


class FileRecord(BaseModel):
    """One file of an item: its name below the item's folder ('/' between folders), its bytes and their SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RelativePath
    size: NonNegativeInt
    sha256: Annotated[str, AfterValidator(check_fingerprint)]


class ItemRow(BaseModel):
    """What a manifest knows about one item.

    Attributes:
        key: item key, or `_chunk` for files spanning items.
        fingerprint: what the row was made from; a row stands while the catalogue asks for the same one.
        status: `ok`; `failed` with its reason; `outdated` where the catalogue now asks for another fingerprint and no
            run has made it, or where its input is outdated or failed; `retired` where the catalogue no longer asks for
            the item. Files of the last two stay.
        reason: why there is no result to use; None exactly where the row has one.
        folder: the item's folder relative to the store's root; None where it has no files.
        facts: what later stages and reports read, JSON without NaN and infinity.
        timings_s: seconds spent, by phase.
        run_id: the run that wrote the row.
        engine: engine and version that made the item.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, AfterValidator(check_item_key)]
    fingerprint: Annotated[str, AfterValidator(check_fingerprint)]
    status: Status
    reason: str | None = None
    folder: RelativePath | None = None
    files: tuple[FileRecord, ...] = ()
    facts: dict[str, JsonValue] = {}
    timings_s: dict[str, FiniteFloat] = {}
    run_id: str
    engine: str | None = None

    @model_validator(mode="after")
    def _reason_fits_status(self) -> Self:
        if self.status == "ok" and self.reason is not None:
            raise ValueError(f"row {self.key!r} is ok and has a reason: {self.reason}")
        if self.status == "failed" and not self.reason:
            raise ValueError(f"row {self.key!r} failed without a reason")
        if self.files and self.folder is None:
            raise ValueError(f"row {self.key!r} lists files but no folder")
        return self

    @property
    def has_result(self) -> bool:
        """True for `ok` rows, and for rows that were ok before they became outdated or retired."""
        return self.reason is None


class Manifest(BaseModel):
    """All rows of one asset in one partition, by item key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    chunk: str
    rows: dict[str, ItemRow] = {}

    @model_validator(mode="after")
    def _rows_lie_under_their_keys(self) -> Self:
        for key, row in self.rows.items():
            if key != row.key:
                raise ValueError(f"the row of {row.key!r} lies under the key {key!r}")
        return self

    def merged(self, own: Iterable[ItemRow]) -> Manifest:
        """The manifest with a writer's own rows added by `surviving_row`; rows are sorted by key."""
        rows = dict(self.rows)
        for row in own:
            rows[row.key] = surviving_row(rows.get(row.key), row)
        return Manifest(asset=self.asset, chunk=self.chunk, rows=dict(sorted(rows.items())))


def surviving_row(current: ItemRow | None, own: ItemRow) -> ItemRow:
    """Decide between the row in the manifest and the one that a run brings (ARCHITECTURE, "The store").

    Same fingerprint: the first published result stays, and a failure never replaces it. Another fingerprint: the later
    run wins. `outdated` and `retired` are remarks on a row, so they apply only to the row that they were made about,
    not to one that another run has put there meanwhile.
    """
    if current is None:
        return own
    same = current.fingerprint == own.fingerprint
    if own.status in ("outdated", "retired"):
        return own if same else current
    if same and current.status == "ok":
        return current
    return own
