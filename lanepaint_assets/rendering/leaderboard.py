"""The leaderboard of all chunks as one HTML file that needs nothing else: what each prompt does, and how sure that is.

Called by the evaluation stage with a `Leaderboard`. The page is `leaderboard.html.j2` with the reports' style sheet,
its picture `forest_plot.py`'s, its plain-text form `leaderboard_text.py`'s. Statistics are given, none are made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from lanepaint_assets.licences import LicenceNote
from lanepaint_assets.rendering.forest_plot import ForestRow, forest_svg
from lanepaint_assets.rendering.licence_views import licence_views
from lanepaint_assets.rendering.pages import render_page
from lanepaint_assets.rendering.report_content import CPU_HELP_WARNING, CPU_WARNING, Finding, StudyLine

ORDER: tuple[Finding, ...] = ("effect", "no effect larger than the margin", "cannot tell")


@dataclass(frozen=True)
class DriverBoard:
    """All lines of one driver.

    Attributes:
        driver, is_foundation_model: who answered.
        facts: name and value, such as the numbers of clips, samples and the noise floor.
        remarks: what holds for all lines, such as mixed grids or painters.
        cpu_engines: engines without a foundation model that had a part, such as `driver lane_follow 3 (CPU)`.
        primary: a line a prompt, what was claimed beforehand.
        secondary: the primary metric against the original, and of edits that the judge passed.
        exploratory: all other lines of edits.
        controls: lines of the control prompts.
        primary_controls: the primary metric of the control prompts, against the original.
    """

    driver: str
    is_foundation_model: bool
    facts: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    cpu_engines: tuple[str, ...]
    primary: tuple[StudyLine, ...]
    secondary: tuple[StudyLine, ...]
    exploratory: tuple[StudyLine, ...]
    controls: tuple[StudyLine, ...]
    primary_controls: tuple[StudyLine, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before any figure of this driver."""
        if not self.cpu_engines:
            return self.remarks
        paint_or_drive = any("painter" in name or name.startswith("driver ") for name in self.cpu_engines)
        warning = CPU_WARNING if paint_or_drive else CPU_HELP_WARNING
        return (warning.format(names=", ".join(self.cpu_engines)), *self.remarks)

    @property
    def ranked(self) -> tuple[StudyLine, ...]:
        """Primary lines: effects, the largest first; then what is shown to be small; then what nobody can tell."""
        return tuple(
            sorted(self.primary, key=lambda line: (ORDER.index(line.finding), -abs(line.mean or 0.0), line.prompt_key))
        )

    @property
    def headline(self) -> str:
        """The answer in a sentence."""
        counts = Counter(line.finding for line in self.primary)
        if not self.primary:
            return "There is no edit to compare."
        edits = f"{len(self.primary)} {'prompt' if len(self.primary) == 1 else 'prompts'}"
        parts = [
            f"{counts['effect']} changed the plan" if counts["effect"] else "",
            f"{counts[ORDER[1]]} changed it by less than the margin, if at all" if counts[ORDER[1]] else "",
            f"for {counts['cannot tell']} the data cannot tell" if counts["cannot tell"] else "",
        ]
        return f"Of {edits}: {'; '.join(part for part in parts if part)}."


@dataclass(frozen=True)
class ChunkNote:
    """A chunk in the study: how many edits it gave, and the report that they were read from."""

    chunk: str
    edits: int
    run_name: str
    fingerprint: str


@dataclass(frozen=True)
class Leaderboard:
    """Everything on the page.

    Attributes:
        drivers: a board each; lines of different drivers are never compared.
        chunks: those in the study.
        left_out: other chunks, and why.
        licences: of every input.
        margin_m: of the equivalence test.
        min_clips: fewer are never judged.
        run_name: of the run that made the page.
    """

    drivers: tuple[DriverBoard, ...]
    chunks: tuple[ChunkNote, ...]
    left_out: tuple[tuple[str, str], ...]
    licences: tuple[LicenceNote, ...]
    margin_m: float
    min_clips: int
    run_name: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before any figure."""
        found = []
        if len(self.drivers) > 1:
            found.append(f"{len(self.drivers)} drivers answered. Each has its own tables: no line mixes them.")
        if self.left_out:
            found.append(f"Incomplete: {len(self.left_out)} chunks are not in here; the reasons are below.")
        return tuple(found)


@dataclass(frozen=True, eq=False)
class _BoardView:
    board: DriverBoard
    anchor: str
    plot: Markup


def render_leaderboard(leaderboard: Leaderboard) -> str:
    """The page, which asks for nothing outside itself; also without any driver or prompt.

    Returns:
        UTF-8 text; equal input gives equal text.
    """
    views = [
        _BoardView(board, f"driver-{number}", Markup(forest_svg(_rows(board), _title(board), leaderboard.margin_m)))
        for number, board in enumerate(leaderboard.drivers, start=1)
    ]
    return render_page(
        "leaderboard.html.j2", board=leaderboard, views=views, licences=licence_views(leaderboard.licences)
    )


def _title(board: DriverBoard) -> str:
    return f"Sideways effect at 3 s by prompt, driver {board.driver}"


def _rows(board: DriverBoard) -> Sequence[ForestRow]:
    rows = [
        ForestRow(line.prompt_key, f"n = {line.clips}", line.mean, line.low, line.high, _KINDS[line.finding])
        for line in board.ranked
    ]
    rows += [
        ForestRow(f"{line.prompt_key} (control)", f"n = {line.clips}", line.mean, line.low, line.high, "control")
        for line in board.primary_controls
    ]
    return rows


_KINDS: dict[Finding, Literal["found", "small", "open"]] = {
    "effect": "found",
    "no effect larger than the margin": "small",
    "cannot tell": "open",
}
