"""What `trajectory_reports` does, without Dagster: show and sum up one chunk.

CPU work only: no driver is asked here. The report is made of whatever is there: items that failed, videos and quality
that are not made yet are named in it with their reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.evaluation.report_lineage import ReportRows, checkpoints, deciding_settings, licences
from lanepaint_assets.licences import LICENCES_VERSION, LPIPS
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.layout import CHUNK_ROW

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.outcomes import PromptOutcome
    from lanepaint_assets.evaluation.report_items import Pictures, ReadItem
    from lanepaint_assets.rendering.report_content import ChunkReport, StudyLine

# Raise the first part when the page, the text or the table changes; the second is of the licences that it shows.
TRAJECTORY_REPORTS_VERSION = f"3/{LICENCES_VERSION}"

REPORT_FILE = "report.html"
TEXT_FILE = "report.txt"
METRICS_FILE = "metrics.parquet"


def make_trajectory_reports(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """One HTML page, one text and one table over all items of the chunk, failed ones included."""
    rows = ReportRows(ChunkReader(platform, chunk, "trajectory_reports"))
    # Raises, with the command to type, where nothing was evaluated at all.
    rows.manifest("edited_trajectories")
    task = ItemTask(
        key=CHUNK_ROW,
        fingerprint=fingerprint(
            asset="trajectory_reports",
            item_key=CHUNK_ROW,
            upstream=rows.states(),
            engine=None,
            # Not the versions of checkpoints, which hold times of files: their content is in the rows' fingerprints.
            params={"algorithm": TRAJECTORY_REPORTS_VERSION, "settings": dict(deciding_settings(rows.reader))},
        ),
    )

    def compute(_: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.outcomes import outcomes_table
        from lanepaint_assets.evaluation.report_items import read_items
        from lanepaint_assets.rendering.report import render_html
        from lanepaint_assets.rendering.report_text import render_text

        items = read_items(rows, _pictures(rows))
        outcomes = [outcome for item in items.values() if (outcome := _outcome(item)) is not None]
        report = _report(rows, items, outcomes, run_id)
        (folder / REPORT_FILE).write_text(render_html(report), encoding="utf-8")
        (folder / TEXT_FILE).write_text(render_text(report), encoding="utf-8")
        outcomes_table(outcomes).to_parquet(folder / METRICS_FILE, index=False)
        return ItemOutput(
            facts={
                "items": len(items),
                "ok": sum(item.section.status == "ok" for item in items.values()),
                "refused_clips": len(rows.refused),
            }
        )

    return run_items(platform.store, "trajectory_reports", chunk, [task], compute, run_id=run_id)


def _report(rows: ReportRows, items: dict[str, ReadItem], outcomes: list[PromptOutcome], run_id: str) -> ChunkReport:
    from lanepaint_assets.evaluation.report_items import clip_sections
    from lanepaint_assets.evaluation.statistics import EQUIVALENCE_MARGIN_M
    from lanepaint_assets.rendering.report_content import ChunkReport, RefusedClip

    reader = rows.reader
    by_text = {label.text: label for item in items.values() for label in (*item.engines, *item.verifiers)}
    engines = tuple(by_text[text] for text in sorted(by_text))
    has_lpips = any(item.has_lpips for item in items.values())
    clips = {ref.item_key: ref for ref in reader.membership.clips}
    return ChunkReport(
        chunk=reader.chunk,
        clip_grid=_grid(items.values()) or reader.platform.settings.clip_grid,
        engines=engines,
        clips=clip_sections(rows, items),
        refused_clips=tuple(
            RefusedClip(clips[key].clip_id, clips[key].camera, row.reason or "failed")
            for key, row in rows.refused.items()
            if key in clips
        ),
        study=_study(outcomes),
        margin_m=EQUIVALENCE_MARGIN_M,
        licences=licences({item.source_kind for item in items.values()}, engines, [LPIPS] if has_lpips else []),
        instruments=("LPIPS with AlexNet",) if has_lpips else (),
        settings=deciding_settings(reader),
        checkpoints=checkpoints(reader, engines),
        run_name=run_id,
    )


def _grid(items: Iterable[ReadItem]) -> ClipGridName | None:
    """The grid that the shown items were driven on, whatever the settings say now; of two the one to be warned of."""
    grids: set[ClipGridName] = {item.result.temporal.clip_grid for item in items if item.result is not None}
    return "spec_8fps" if "spec_8fps" in grids else next(iter(grids), None)


def _pictures(rows: ReportRows) -> Pictures:
    """What the page has room for, decided by the sizes that the rows state."""
    from lanepaint_assets.evaluation.report_items import PREVIEW_SUFFIX, Pictures
    from lanepaint_assets.rendering.report_budget import MAX_EMBEDDED_VIDEO_BYTES, MAX_THUMBNAILS, in_turns, within

    edits: dict[str, list[str]] = {}
    controls: dict[str, list[str]] = {}
    for key, edit in rows.edits.items():
        (controls if edit.prompt.is_control else edits).setdefault(edit.clip_key, []).append(key)
    order = in_turns(list(edits.values()), list(controls.values()))
    sizes: dict[str, int] = {}
    attempts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for key in order:
        video, first, edited = (
            rows.row(asset, key) for asset in ("trajectory_videos", "first_frames", "edited_videos")
        )
        for file in () if video is None or not video.has_result else video.files:
            if file.name.endswith(PREVIEW_SUFFIX):
                sizes[key] = file.size
        count = 0 if first is None else first.facts.get("iterations")
        attempts[key] = count if isinstance(count, int) else 0
        if edited is not None and edited.has_result:
            examples.setdefault(rows.edits[key].prompt.key, key)
    return Pictures(
        videos=within(sizes, order, MAX_EMBEDDED_VIDEO_BYTES),
        attempts=within(attempts, order, MAX_THUMBNAILS),
        examples=frozenset(examples.values()),
    )


def _outcome(item: ReadItem) -> PromptOutcome | None:
    from lanepaint_assets.evaluation.independent_verdict import NOT_VERIFIED
    from lanepaint_assets.evaluation.outcomes import PromptOutcome

    section = item.section
    if item.result is None:
        return None
    return PromptOutcome.of(
        item.result,
        is_control=section.is_control,
        engines=item.engines,
        judges=[*(label.name for label in item.verifiers), *([LPIPS] if item.has_lpips else [])],
        source_kind=item.source_kind,
        judge_passed=None if section.verdict is None else section.verdict.passed,
        verified=None if section.verification is None else section.verification.agrees,
        verification=NOT_VERIFIED if section.verification is None else section.verification.text,
        is_outdated=section.status == "outdated",
    )


def _study(outcomes: list[PromptOutcome]) -> tuple[StudyLine, ...]:
    from lanepaint_assets.evaluation.statistics import summarize
    from lanepaint_assets.evaluation.study_lines import study_line

    return tuple(study_line(line) for line in summarize(outcomes).lines)
