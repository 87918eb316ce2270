"""The leaderboard as plain text: the answer, warnings and primary lines of every driver. For terminals and `grep`.

Called by the evaluation stage beside `leaderboard.render_leaderboard`, from the same `Leaderboard`. Secondary and
exploratory lines are in the page, the JSON and the Parquet file.
"""

from __future__ import annotations

from textwrap import wrap

from lanepaint_assets.rendering.drawing import printable
from lanepaint_assets.rendering.leaderboard import DriverBoard, Leaderboard
from lanepaint_assets.rendering.pages import number, p_value
from lanepaint_assets.rendering.report_content import StudyLine
from lanepaint_assets.rendering.report_text import WIDTH, aligned, terms

CONTRASTS = {"edit - repaint_as_measured": "repaint_as_measured", "edit - original": "original"}


def leaderboard_text(leaderboard: Leaderboard) -> str:
    """The leaderboard as UTF-8 text; equal input gives equal text."""
    lines = ["LanePaint prompt leaderboard", "=" * 28]
    if leaderboard.run_name:
        lines.append(f"run    {printable(leaderboard.run_name)}")
    lines.append(f"chunks {len(leaderboard.chunks)}")
    for warning in leaderboard.warnings:
        lines += ["", *wrap(f"! {printable(warning)}", WIDTH, subsequent_indent="  ")]
    for board in leaderboard.drivers:
        lines += ["", *_board(board, leaderboard.margin_m)]
    if not leaderboard.drivers:
        lines += ["", "No chunk has a report with edits yet."]
    if leaderboard.left_out:
        lines += ["", "Chunks that are left out"]
        for chunk, reason in leaderboard.left_out:
            lines += wrap(printable(f"- {chunk}: {reason}"), WIDTH, subsequent_indent="  ")
    lines += terms(leaderboard.licences)
    return "\n".join(lines) + "\n"


def _board(board: DriverBoard, margin_m: float) -> list[str]:
    title = printable(f"Driver {board.driver}")
    lines = [title, "-" * len(title), *wrap(board.headline, WIDTH)]
    lines += wrap(printable("; ".join(f"{name} {value}" for name, value in board.facts)), WIDTH)
    for warning in board.warnings:
        lines += wrap(f"! {printable(warning)}", WIDTH, subsequent_indent="  ")
    shown = (*board.ranked, *board.primary_controls)
    if not shown:
        return lines
    small = f"under {margin_m:g} m"
    headings = (
        "prompt",
        "verdict",
        small,
        "less",
        "clips",
        "mean, m",
        "from",
        "to",
        "p",
        "q",
        "clips for 0.1/0.2/0.3 m",
    )
    lines += ["", "Lateral shift at 3 s, positive to the left; mean over clips, 95 % interval.", ""]
    lines += aligned(headings, [_cells(line) for line in shown])
    for line in shown:
        if line.reason:
            lines += wrap(printable(f"- {line.prompt_key}: {line.reason}"), WIDTH, subsequent_indent="  ")
    return lines


def _cells(line: StudyLine) -> tuple[str, ...]:
    needed = "/".join("-" if clips is None else str(clips) for clips in line.clips_needed.values())
    return (
        printable(line.prompt_key),
        line.finding,
        "-" if line.equivalent is None else "yes" if line.equivalent else "not shown",
        CONTRASTS[line.contrast],
        str(line.clips),
        number(line.mean, 3, signed=True),
        number(line.low, 3, signed=True),
        number(line.high, 3, signed=True),
        p_value(line.p_value),
        p_value(line.q_value),
        needed,
    )
