"""The report of one chunk as plain text: the answer, warnings, aligned figures, reasons. For terminals and `grep`.

Called by the evaluation stage beside `report.render_html`, from the same `ChunkReport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from lanepaint_assets.licences import LicenceNote
from lanepaint_assets.rendering.drawing import printable
from lanepaint_assets.rendering.licence_views import licence_views
from lanepaint_assets.rendering.pages import metres
from lanepaint_assets.rendering.report_answer import Answer, answers, headline, noise_floor_m
from lanepaint_assets.rendering.report_content import ChunkReport, ClipSection, ItemSection

WIDTH = 110
# Long names are cut here, so that a row stays on a line of a usual terminal; the full name is in the HTML and Parquet.
MAX_CELL = 34
HEADINGS = (
    "clip",
    "camera",
    "prompt",
    "status",
    "less repaint",
    "shift 3 s",
    "arms ADE",
    "minADE orig",
    "minADE edit",
    "verdict",
)


def render_text(report: ChunkReport) -> str:
    """The report as UTF-8 text, lines at most about 170 characters wide; equal input gives equal text."""
    lines = [f"LanePaint trajectory report: {printable(report.chunk)}"]
    lines.append("=" * len(lines[0]))
    if report.run_name:
        lines.append(f"run       {printable(report.run_name)}")
    lines.append(f"clip grid {report.clip_grid}")
    for number, engine in enumerate(report.engines):
        lines.append(f"{'engines' if number == 0 else '':<9} {printable(engine.text)}")
    lines += [f"{'':<9} {printable(instrument)}" for instrument in report.instruments]
    given = answers(report)
    lines += ["", *wrap(headline(given), WIDTH)]
    for answer in given:
        lines += wrap(f"- {_answer(answer)}", WIDTH, subsequent_indent="  ")
    floor = noise_floor_m(report)
    if floor is not None:
        lines.append(f"- other seeds alone move a plan by {metres(floor)} m (median over clips)")
    for warning in report.warnings:
        lines += ["", *wrap(f"! {printable(warning)}", WIDTH, subsequent_indent="  ")]
    lines += [
        "",
        "Figures in metres; shifts at 3 s, positive to the left; 'less repaint': less that of repaint_as_measured.",
        "",
    ]
    rows = [_cells(clip, item) for clip in report.clips for item in clip.items]
    lines += aligned(HEADINGS, rows) if rows else ["No items."]
    lines += _reasons(report)
    lines += terms(report.licences)
    if report.notes:
        lines += ["", "Method"]
        for note in report.notes:
            lines += wrap(f"- {printable(note)}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def terms(licences: tuple[LicenceNote, ...]) -> list[str]:
    """What may be done with videos and figures; nothing without licences."""
    views = licence_views(licences)
    lines = ["", "Terms"] if views else []
    for view in views:
        lines += wrap(printable(f"- {view.sentence}"), WIDTH, subsequent_indent="  ")
    return lines


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


def _answer(answer: Answer) -> str:
    figures = "" if answer.mean is None else f" {metres(answer.mean, signed=True)} m"
    if answer.low is not None:
        figures += f" ({metres(answer.low, signed=True)} to {metres(answer.high, signed=True)})"
    parts = (f"{answer.finding};{figures} n = {answer.clips}", answer.reason, answer.shown)
    return printable(f"{answer.prompt_key}: {'; '.join(part for part in parts if part)}")


def _reasons(report: ChunkReport) -> list[str]:
    lines = []
    if any(item.reasons for item in report.items):
        lines += ["", "Reasons"]
    for clip in report.clips:
        for item in clip.items:
            if item.reasons:
                text = f"- {clip.key}/{item.prompt_key} ({item.status}): {'; '.join(item.reasons)}"
                lines += wrap(printable(text), WIDTH, subsequent_indent="  ")
    if report.refused_clips:
        lines += ["", "Clips that could not be used"]
    for refused in report.refused_clips:
        text = f"- {refused.clip_id}.{refused.camera}: {refused.reason}"
        lines += wrap(printable(text), WIDTH, subsequent_indent="  ")
    return lines


def _cut(cell: str) -> str:
    """Cut in the middle: clip ids of one source differ at their ends."""
    if len(cell) <= MAX_CELL:
        return cell
    tail = MAX_CELL // 2
    return f"{cell[: MAX_CELL - tail - 1]}…{cell[-tail:]}"


def _cells(clip: ClipSection, item: ItemSection) -> tuple[str, ...]:
    verdict = "–" if item.verdict is None else ("pass" if item.verdict.passed else "FAIL")
    return (
        printable(clip.clip_id),
        printable(clip.camera),
        printable(item.prompt_key) + (" (control)" if item.is_control else ""),
        item.status,
        metres(clip.primary_shift_m(item), signed=True),
        metres(item.shift_3s_m, signed=True),
        metres(item.figures.from_original_m),
        metres(None if clip.original is None else clip.original.min_ade_m),
        metres(item.figures.min_ade_m),
        verdict,
    )
