"""What `prompt_leaderboard` does, without Dagster: gather the outcomes of all chunks and compare them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lanepaint_assets.evaluation.report_lineage import wording
from lanepaint_assets.evaluation.report_steps import METRICS_FILE
from lanepaint_assets.licences import LICENCES_VERSION
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.driver_study import DriverStudy
    from lanepaint_assets.evaluation.outcomes import PromptOutcome
    from lanepaint_assets.evaluation.statistics import StudySummary
    from lanepaint_assets.licences import LicenceNote
    from lanepaint_assets.rendering.leaderboard import ChunkNote, DriverBoard, Leaderboard

# Raise when the statistics or the page change.
PROMPT_LEADERBOARD_VERSION = "3"

LEADERBOARD_TABLE = "leaderboard.parquet"
LEADERBOARD_PAGE = "leaderboard.html"
LEADERBOARD_TEXT = "leaderboard.txt"

# The leaderboard spans all chunks; its manifest stands under this name where others have a chunk key.
ALL_CHUNKS = "all"


def make_prompt_leaderboard(platform: Platform, run_id: str) -> PartitionOutcome:
    """Paired statistics of every prompt over all chunks that have a report."""
    store = platform.store
    reports: dict[str, ItemRow] = {}
    left_out: dict[str, str] = {}
    for chunk in store.chunk_keys():
        row = store.manifest("trajectory_reports", chunk).rows.get(CHUNK_ROW)
        if row is not None and row.status == "ok":
            reports[chunk] = row
        else:
            left_out[chunk] = "it has no report yet" if row is None else row.reason or f"its report is {row.status}"
    task = ItemTask(
        key=CHUNK_ROW,
        fingerprint=fingerprint(
            asset="prompt_leaderboard",
            item_key=CHUNK_ROW,
            upstream={chunk: row.fingerprint for chunk, row in reports.items()}
            | {chunk: wording(reason) for chunk, reason in left_out.items()},
            engine=None,
            params={"algorithm": PROMPT_LEADERBOARD_VERSION, "licences": LICENCES_VERSION},
        ),
    )

    def compute(_: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.outcomes import outcomes_of
        from lanepaint_assets.evaluation.statistics import summarize
        from lanepaint_assets.rendering.leaderboard import ChunkNote, render_leaderboard
        from lanepaint_assets.rendering.leaderboard_text import leaderboard_text

        outcomes: list[PromptOutcome] = []
        notes = []
        missing = dict(left_out)
        for chunk, row in reports.items():
            try:
                found = outcomes_of(pd.read_parquet(io.BytesIO(store.read_bytes(row, METRICS_FILE))))
            except (StoreError, ValueError) as error:
                missing[chunk] = f"{error}; materialize its `trajectory_reports` again"
                continue
            outcomes += found
            notes.append(ChunkNote(chunk, len(found), row.run_id, row.fingerprint))
        summary = summarize(outcomes)
        board = _leaderboard(summary, tuple(notes), missing, _licences(outcomes), run_id)
        lines_table(summary).to_parquet(folder / LEADERBOARD_TABLE, index=False)
        document = {"chunks": [note.chunk for note in notes], "left_out": missing, **asdict(summary)}
        (folder / "leaderboard.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        (folder / LEADERBOARD_PAGE).write_text(render_leaderboard(board), encoding="utf-8")
        (folder / LEADERBOARD_TEXT).write_text(leaderboard_text(board), encoding="utf-8")
        return ItemOutput(facts={"chunks": len(notes), "left_out": len(missing), "items": len(outcomes)})

    return run_items(store, "prompt_leaderboard", ALL_CHUNKS, [task], compute, run_id=run_id)


def _leaderboard(
    summary: StudySummary,
    chunks: tuple[ChunkNote, ...],
    left_out: dict[str, str],
    licences: tuple[LicenceNote, ...],
    run_id: str,
) -> Leaderboard:
    from lanepaint_assets.evaluation.hypothesis_tests import MIN_CLIPS
    from lanepaint_assets.evaluation.statistics import EQUIVALENCE_MARGIN_M
    from lanepaint_assets.rendering.leaderboard import Leaderboard

    return Leaderboard(
        drivers=tuple(_board(study, summary) for study in summary.drivers),
        chunks=chunks,
        left_out=tuple(sorted(left_out.items())),
        licences=licences,
        margin_m=EQUIVALENCE_MARGIN_M,
        min_clips=MIN_CLIPS,
        run_name=run_id,
    )


def _board(study: DriverStudy, summary: StudySummary) -> DriverBoard:
    """One driver's part of the page: its lines in the order in which they are read."""
    from lanepaint_assets.evaluation.statistics import PRIMARY_METRIC
    from lanepaint_assets.evaluation.study_lines import study_line
    from lanepaint_assets.rendering.leaderboard import DriverBoard

    lines = [line for line in summary.lines if line.driver == study.driver]
    edits = [line for line in lines if not line.is_control and line.role == "exploratory"]
    controls = [line for line in lines if line.is_control]
    return DriverBoard(
        driver=study.driver,
        is_foundation_model=study.is_foundation_model,
        facts=_facts(study),
        remarks=study.warnings,
        cpu_engines=study.cpu_engines,
        primary=tuple(study_line(line) for line in lines if line.role == "primary"),
        secondary=tuple(study_line(line) for line in edits if line.metric == PRIMARY_METRIC),
        exploratory=tuple(study_line(line) for line in edits if line.metric != PRIMARY_METRIC),
        controls=tuple(study_line(line) for line in controls),
        primary_controls=tuple(study_line(line) for line in controls if line.metric == PRIMARY_METRIC),
    )


def _facts(study: DriverStudy) -> tuple[tuple[str, str], ...]:
    facts = [
        ("clips", str(study.clips)),
        ("edits and controls", f"{study.edits} + {study.controls}"),
        ("samples", ", ".join(map(str, study.samples))),
        ("frame grid", ", ".join(study.clip_grids)),
        ("study seed", ", ".join(map(str, study.study_seeds))),
        ("painter", ", ".join(study.painters)),
    ]
    if study.noise_floor_lateral_3s_m is not None:
        facts.append(("other seeds alone, at 3 s", f"{study.noise_floor_lateral_3s_m:.2g} m"))
    if study.null_same_seeds_ade_m is not None:
        facts.append(("same seeds, largest difference", f"{study.null_same_seeds_ade_m:.2g} m"))
    facts.append(("own judge passed", f"{study.passed} of {study.judged}" if study.judged else "was not asked"))
    second = f"{study.agreed} of {study.verified} agreed" if study.verified else "none was asked"
    if 0 < study.verified < study.edits:
        second += f", {study.edits - study.verified} not verified"
    facts.append(("independent inspector", second))
    return tuple((name, value) for name, value in facts if value)


def _licences(outcomes: Iterable[PromptOutcome]) -> tuple[LicenceNote, ...]:
    """The terms of all clips and of all engines that had a part in any edit, or that drove, judged or measured."""
    from lanepaint_assets.licences import engine_licences, source_licence

    kinds = {outcome.source_kind for outcome in outcomes}
    makers: set[str] = set()
    answering: set[str] = set()
    for engines, judges, driver in {(outcome.engines, outcome.judges, outcome.driver) for outcome in outcomes}:
        drove = driver.partition(" ")[0]
        makers |= {name for name in engines.split(", ") if name} - {drove}
        answering |= {drove, *(name for name in judges.split(", ") if name)}
    return (*(source_licence(kind) for kind in sorted(kinds)), *engine_licences(makers, answering))


def lines_table(summary: StudySummary) -> pd.DataFrame:
    """A row a line, primary ones first; clips needed in a column for each stated effect, null where out of reach."""
    from lanepaint_assets.evaluation.statistics import STATED_EFFECTS_M, ContrastSummary

    needed = [f"clips_needed_{effect:g}m" for effect in STATED_EFFECTS_M]
    columns = [field.name for field in fields(ContrastSummary) if field.name != "clips_needed"]
    records = [
        {name: getattr(line, name) for name in columns}
        | dict(zip(needed, (entry.clips for entry in line.clips_needed), strict=False))
        for line in sorted(summary.lines, key=lambda line: line.role != "primary")
    ]
    return pd.DataFrame(records, columns=[*columns, *needed]).astype(dict.fromkeys(needed, "Int64"))
