"""How a check judges a partition: every item's row is judged alone, and people are told the sum of it.

Stages say in their `checks.py` what is judged, `materialization.as_result` asks for the results. Judged are the facts
in the manifest's rows, so a check opens no file and reused items are judged like new ones. No threshold of a stage
belongs here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import numpy as np

from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.store.items import PartitionOutcome
from lanepaint_assets.store.manifest import ItemRow

WARN = dg.AssetCheckSeverity.WARN
ERROR = dg.AssetCheckSeverity.ERROR

COMPLETE_CHECK = "complete"

# An item's row in a check lies in the event log; the manifest has all of them.
LISTED_ITEMS = 20

# Reasons may be whole messages; the manifest has them in full.
LONGEST_TEXT = 300

# 1 - 0.9 is a little less than a tenth in binary.
SHARE_ROUNDING = 1e-9


@dataclass(frozen=True)
class Finding:
    """What a check found about one item.

    Attributes:
        passed: None where it was not measured.
        text: what is wrong, or why nothing was measured; "" where the item passed.
        figures: what was measured, by name with its unit; for each, people see mean, least and greatest, and of
            answers (bool) the share of yes.
    """

    passed: bool | None
    text: str = ""
    figures: Mapping[str, float | bool] = field(default_factory=dict)


Judge = Callable[[ItemRow], Finding | None]
"""Judges a row; None where the check does not concern the item."""


def not_concerned(_: ItemRow) -> None:
    """The judge of rows that a check has nothing to say about."""


@dataclass(frozen=True)
class ItemCheck:
    """One check of an asset. It blocks nothing: an item that is at fault must not hold up the others of its chunk.

    Attributes:
        name: its name, one for all partitions.
        description: what it asks for, a sentence.
        severity: of a fault. That items were not measured is a warning, whatever a fault would be.
        judge: judges items that were made.
        judge_failed: judges items that were not, by their reason.
        least_share: least share of the judged items that must pass.
    """

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    judge: Judge
    judge_failed: Judge = not_concerned
    least_share: float = 1.0


FAILED_ITEMS = ItemCheck(
    name="no_failed_items",
    description="Every item was made; the share that was not, with reasons.",
    severity=WARN,
    judge=lambda _: Finding(passed=True),
    judge_failed=lambda row: Finding(passed=False, text=row.reason or "no reason was given"),
)


def number(row: ItemRow, fact: str) -> float | None:
    """A fact of a row that is a number; None where the row has no such fact."""
    value = row.facts.get(fact)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def measured(figures: Mapping[str, float | bool], fault: str | None) -> Finding:
    """The finding where a row has the facts that a check judges.

    Args:
        figures: see `Finding`.
        fault: what is wrong; None where nothing is.
    """
    return Finding(passed=fault is None, text=fault or "", figures=figures)


def not_measured(row: ItemRow, what: str) -> Finding:
    """The finding where a row lacks the facts that a check judges."""
    origin = row.facts.get("origin")
    return Finding(passed=None, text=f"{what} was not measured when the item was {origin or 'made'}")


def check_specs(
    asset: str, checks: Sequence[ItemCheck] = (), *, partitions: dg.PartitionsDefinition | None = CLIP_CHUNK
) -> list[dg.AssetCheckSpec]:
    """The checks of an asset of items: its own, and the two that every such asset has.

    Args:
        partitions: those of the asset. The checks have them too: each chunk keeps its result, and a chunk that passes
            does not hide one that does not.
    """
    described = [(check.name, check.description) for check in (*checks, FAILED_ITEMS)]
    described.append((COMPLETE_CHECK, "No item is missing or outdated because a run was narrowed."))
    with warnings.catch_warnings():
        # Used knowingly: a check without partitions shows the result of whichever chunk came last.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=partitions)
            for name, description in described
        ]


def check_results(asset: str, checks: Sequence[ItemCheck], outcome: PartitionOutcome) -> list[dg.AssetCheckResult]:
    """The results of the checks that `check_specs` announces, in its order."""
    settled = sum(row.status in ("ok", "failed") for row in outcome.rows)
    called_for = len(outcome.called_for)
    return [
        *(check_result(asset, check, outcome) for check in (*checks, FAILED_ITEMS)),
        dg.AssetCheckResult(
            check_name=COMPLETE_CHECK,
            asset_key=asset,
            passed=outcome.complete,
            severity=WARN,
            description=f"{settled} of {called_for} items are as the settings ask for.",
        ),
    ]


def check_result(asset: str, check: ItemCheck, outcome: PartitionOutcome) -> dg.AssetCheckResult:
    """Judge every called-for item that was made or failed.

    The check passes if no more judged items are at fault than `least_share` allows and every item that it concerns was
    measured. Where no item was made, nothing is known, which is a warning too.
    """
    tally = _Tally.of(check, outcome)
    at_fault = tally.failed_share > 1.0 - check.least_share + SHARE_ROUNDING
    passed = not (at_fault or tally.unknown or tally.nothing_made)
    metadata: dict[str, dg.RawMetadataValue] = {
        "items": tally.called_for,
        "judged_items": len(tally.judged),
        "failed_items": len(tally.faults),
        "failed_share": round(tally.failed_share, 4),
        "not_measured_items": len(tally.unknown),
        "not_made_items": tally.not_made,
        **_sums(list(tally.judged.values())),
    }
    if check.least_share < 1.0:
        metadata["least_share_that_must_pass"] = check.least_share
    if tally.faults or tally.unknown:
        metadata["findings"] = _table({**tally.faults, **tally.unknown})
    return dg.AssetCheckResult(
        check_name=check.name,
        asset_key=asset,
        passed=passed,
        severity=check.severity if at_fault or passed else WARN,
        description=tally.sentence,
        metadata=metadata,
    )


@dataclass(frozen=True)
class _Tally:
    """What a check found in one partition.

    Attributes:
        called_for: number of items that the settings ask for.
        not_made: how many of them are missing, outdated, or failed where the check has nothing to say about those.
        judged: findings of items that pass or are at fault.
        unknown: findings of items that were not measured.
    """

    called_for: int
    not_made: int
    judged: Mapping[str, Finding]
    unknown: Mapping[str, Finding]

    @classmethod
    def of(cls, check: ItemCheck, outcome: PartitionOutcome) -> _Tally:
        """Judge the rows of a partition."""
        findings: dict[str, Finding] = {}
        made = 0
        for row in outcome.rows:
            found = None
            if row.status == "ok":
                found = check.judge(row)
                made += 1
            elif row.status == "failed":
                found = check.judge_failed(row)
                made += found is not None
            if found is not None:
                findings[row.key] = found
        return cls(
            called_for=len(outcome.called_for),
            not_made=len(outcome.called_for) - made,
            judged={key: found for key, found in findings.items() if found.passed is not None},
            unknown={key: found for key, found in findings.items() if found.passed is None},
        )

    @property
    def faults(self) -> dict[str, Finding]:
        """Findings of items at fault."""
        return {key: found for key, found in self.judged.items() if not found.passed}

    @property
    def failed_share(self) -> float:
        """Share of the judged items that is at fault."""
        return len(self.faults) / len(self.judged) if self.judged else 0.0

    @property
    def nothing_made(self) -> bool:
        """Whether there should be items and is none."""
        return self.called_for > 0 and self.not_made == self.called_for

    @property
    def sentence(self) -> str:
        """What people read first."""
        if self.nothing_made:
            return f"Nothing was measured: none of {self.called_for} items was made."
        parts = []
        if self.judged:
            parts.append(f"{len(self.judged) - len(self.faults)} of {len(self.judged)} judged items pass.")
        elif not self.unknown:
            parts.append("There was nothing to judge: the check concerns none of the items.")
        for kind, findings in (("At fault", self.faults), ("Not measured", self.unknown)):
            if findings:
                key, first = next(iter(findings.items()))
                more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
                parts.append(f"{kind}: {key}{more} ({_shortened(first.text)}).")
        if self.not_made:
            parts.append(f"Not made, so not judged: {self.not_made}.")
        return " ".join(parts)


def _sums(findings: Sequence[Finding]) -> dict[str, float]:
    """Every figure over all items: mean, least and greatest; of answers, the share of yes."""
    sums: dict[str, float] = {}
    for name in dict.fromkeys(name for found in findings for name in found.figures):
        values = [found.figures[name] for found in findings if name in found.figures]
        if all(isinstance(value, bool) for value in values):
            sums[f"{name}_share"] = round(float(np.mean(values)), 4)
        else:
            for kind, value in (("mean", np.mean(values)), ("min", np.min(values)), ("max", np.max(values))):
                sums[f"{name}_{kind}"] = round(float(value), 6)
    return sums


def _table(findings: Mapping[str, Finding]) -> dg.TableMetadataValue:
    listed = list(findings.items())[:LISTED_ITEMS]
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "item": key,
                    "finding": _shortened(found.text),
                    "figures": ", ".join(f"{name} {_plain(value)}" for name, value in found.figures.items()),
                }
            )
            for key, found in listed
        ]
    )


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."


def _plain(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}"
