"""The report of one chunk as plain text: warnings, aligned figures, reasons. For terminals, mails and `grep`.

Called by the evaluation stage beside `report.render_html`, from the same `ChunkReport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from lanepaint_assets.rendering.drawing import printable
from lanepaint_assets.rendering.report import ChunkReport, ItemSection, metres

WIDTH = 110
# Long names are cut here, so that a row stays on a line of a usual terminal; the full name is in the HTML and Parquet.
MAX_CELL = 34
HEADINGS = (
    "clip",
    "camera",
    "prompt",
    "status",
    "minADE orig",
    "minADE edit",
    "delta",
    "arms ADE",
    "shift 3 s",
    "verdict",
)


def render_text(report: ChunkReport) -> str:
    """The report as UTF-8 text, lines at most about 160 characters wide; equal input gives equal text."""
    lines = [f"LanePaint trajectory report: {printable(report.chunk)}"]
    lines.append("=" * len(lines[0]))
    if report.run_name:
        lines.append(f"run       {printable(report.run_name)}")
    if report.date:
        lines.append(f"date      {printable(report.date)}")
    lines.append(f"clip grid {report.clip_grid}")
    for number, engine in enumerate(report.engines):
        lines.append(f"{'engines' if number == 0 else '':<9} {printable(engine.text)}")
    for warning in report.warnings:
        lines += ["", *wrap(f"! {warning}", WIDTH, subsequent_indent="  ")]
    lines += ["", "Figures in metres; shift is positive to the left.", ""]
    lines += aligned(HEADINGS, [_cells(item) for item in report.items]) if report.items else ["No items."]
    reasons = [item for item in report.items if item.reason]
    if reasons:
        lines += ["", "Reasons"]
        for item in reasons:
            text = f"{item.clip_key}/{item.prompt_key} ({item.status}): {printable(item.reason or '')}"
            lines += wrap(f"- {printable(text)}", WIDTH, subsequent_indent="  ")
    if report.refused_clips:
        lines += ["", "Clips that could not be used"]
        for clip in report.refused_clips:
            text = printable(f"- {clip.clip_id}.{clip.camera}: {clip.reason}")
            lines += wrap(text, WIDTH, subsequent_indent="  ")
    if report.notes:
        lines += ["", "Method"]
        for note in report.notes:
            lines += wrap(f"- {printable(note)}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under headings, columns two spaces apart; columns of figures (from the fifth) are flush right."""
    cut = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *cut, strict=True)]
    rule = ["-" * width for width in widths]

    def line(cells: Sequence[str]) -> str:
        figures = range(4, len(headings) - 1)
        parts = [
            cell.rjust(width) if number in figures else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return [line(headings), line(rule), *(line(row) for row in cut)]


def _cut(cell: str) -> str:
    """Cut in the middle: clip ids of one source differ at their ends."""
    if len(cell) <= MAX_CELL:
        return cell
    tail = MAX_CELL // 2
    return f"{cell[: MAX_CELL - tail - 1]}…{cell[-tail:]}"


def _cells(item: ItemSection) -> tuple[str, ...]:
    verdict = "–" if item.verdict is None else ("pass" if item.verdict.passed else "FAIL")
    return (
        printable(item.clip_id),
        printable(item.camera),
        printable(item.prompt_key) + (" (control)" if item.is_control else ""),
        item.status,
        metres(item.original_min_ade_m),
        metres(item.edited_min_ade_m),
        metres(item.min_ade_delta_m, signed=True),
        metres(item.arms_ade_m),
        metres(item.lateral_shift_3s_m, signed=True),
        verdict,
    )
