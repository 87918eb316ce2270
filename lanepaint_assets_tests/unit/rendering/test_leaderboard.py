"""The leaderboard's page and text say what the statistics say, ask for nothing, and fold what is exploratory."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lanepaint_assets.licences import source_licence
from lanepaint_assets.rendering.forest_plot import ForestRow, forest_svg
from lanepaint_assets.rendering.leaderboard import ChunkNote, DriverBoard, Leaderboard, render_leaderboard
from lanepaint_assets.rendering.leaderboard_text import leaderboard_text
from lanepaint_assets.rendering.report_content import StudyLine

LINE = StudyLine(
    prompt_key="single_white_dashed",
    contrast="edit - repaint_as_measured",
    metric="lateral shift at 3 s, m",
    population="produced",
    is_primary=True,
    clips=117,
    mean=0.213,
    low=0.07,
    high=0.356,
    p_value=0.0004,
    q_value=0.012,
    equivalent=False,
    equivalence_p=0.94,
    clips_needed={0.1: 468, 0.2: 119, 0.3: 54},
    finding="effect",
    reason=None,
)
SMALL = replace(
    LINE,
    prompt_key="b_small",
    mean=0.01,
    low=-0.05,
    high=0.07,
    equivalent=True,
    finding="no effect larger than the margin",
)
OPEN = replace(
    LINE,
    prompt_key="c_open",
    clips=4,
    mean=-0.9,
    low=None,
    high=None,
    p_value=None,
    q_value=None,
    equivalent=None,
    equivalence_p=None,
    clips_needed={},
    finding="cannot tell",
    reason="n = 4: below 6 clips no test can reach 5 %",
)
CONTROL = replace(LINE, prompt_key="repaint_as_measured", contrast="edit - original", is_primary=False)


def a_board(**changes: object) -> DriverBoard:
    board = DriverBoard(
        driver="lane_follow 3",
        is_foundation_model=False,
        facts=(("clips", "117"),),
        remarks=("Mixed frame grids in one line: model_10hz, spec_8fps.",),
        cpu_engines=("driver lane_follow 3 (CPU)",),
        primary=(OPEN, SMALL, LINE),
        secondary=(replace(LINE, population="judge passed"),),
        exploratory=(replace(LINE, metric="change of speed, m/s"),),
        controls=(CONTROL,),
        primary_controls=(CONTROL,),
    )
    return replace(board, **changes)  # type: ignore[arg-type]


def a_leaderboard(*boards: DriverBoard, **changes: object) -> Leaderboard:
    leaderboard = Leaderboard(
        drivers=boards,
        chunks=(ChunkNote("chunk_0000", 351, "night", "a" * 64),),
        left_out=(),
        licences=(source_licence("sample_drive"),),
        margin_m=0.1,
        min_clips=6,
        run_name="night",
    )
    return replace(leaderboard, **changes)  # type: ignore[arg-type]


def test_effects_come_first_then_what_is_small_then_what_nobody_can_tell() -> None:
    assert [line.prompt_key for line in a_board().ranked] == ["single_white_dashed", "b_small", "c_open"]
    assert a_board().headline == (
        "Of 3 prompts: 1 changed the plan; 1 changed it by less than the margin, if at all; for 1 the data cannot tell."
    )


def test_the_page_shows_figures_verdicts_and_reasons() -> None:
    page = render_leaderboard(a_leaderboard(a_board()))
    for words in (
        "+0.213",
        "+0.070 to +0.356",
        "&lt; 0.001",
        "0.012",
        "468 / 119 / 54",
        "no effect larger than the margin",
    ):
        assert words in page
    assert OPEN.reason is not None
    assert OPEN.reason in page
    assert "These results come from CPU engines: driver lane_follow 3 (CPU)" in page
    assert "Mixed frame grids in one line" in page


def test_the_page_folds_all_but_the_primary_lines() -> None:
    page = render_leaderboard(a_leaderboard(a_board()))
    folded = page.index("<details")
    assert page.index("What was claimed beforehand") < folded < page.index("judge passed")
    assert page.index("change of speed") > folded
    assert "<details open" not in page


def test_the_page_asks_for_nothing_and_is_the_same_every_time() -> None:
    page = render_leaderboard(a_leaderboard(a_board()))
    assert page == render_leaderboard(a_leaderboard(a_board()))
    assert re.search(r"https?://|src=|@import|url\(|<script|<link", page) is None


def test_what_comes_from_outside_is_escaped() -> None:
    hostile = "<b>x</b>"
    board = a_board(primary=(replace(LINE, prompt_key=hostile, reason=hostile),), driver=hostile)
    page = render_leaderboard(a_leaderboard(board, left_out=((hostile, hostile),)))
    assert hostile not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_chunks_that_are_left_out_are_named_with_their_reasons() -> None:
    leaderboard = a_leaderboard(a_board(), left_out=(("chunk_0009", "it has no report yet"),))
    for shown in (render_leaderboard(leaderboard), leaderboard_text(leaderboard)):
        assert "chunk_0009" in shown
        assert "it has no report yet" in shown
        assert "Incomplete: 1 chunks" in shown


@pytest.mark.parametrize("boards", [(), (a_board(primary=(), secondary=(), exploratory=(), primary_controls=()),)])
def test_a_leaderboard_of_nothing_says_so(boards: tuple[DriverBoard, ...]) -> None:
    leaderboard = a_leaderboard(*boards)
    words = "There is no edit to compare." if boards else "No chunk has a report with edits yet"
    assert words in render_leaderboard(leaderboard)
    assert words in leaderboard_text(leaderboard)


def test_several_drivers_have_a_part_each() -> None:
    page = render_leaderboard(a_leaderboard(a_board(), a_board(driver="alpamayo_r1 1", cpu_engines=())))
    assert "2 drivers answered. Each has its own tables" in page
    assert page.count("These results come from CPU engines") == 1


def test_an_engine_that_neither_paints_nor_drives_is_named_with_less_alarm() -> None:
    page = render_leaderboard(a_leaderboard(a_board(cpu_engines=("segmenter classical 2 (CPU)",))))
    assert "CPU engines had a part: segmenter classical 2 (CPU)" in page
    assert "These results come from CPU engines" not in page


def test_the_text_has_a_line_a_prompt_and_its_reasons() -> None:
    text = leaderboard_text(a_leaderboard(a_board()))
    (line,) = [line for line in text.splitlines() if line.startswith("single_white_dashed")]
    assert line.split() == [
        *("single_white_dashed", "effect", "not", "shown", "repaint_as_measured", "117", "+0.213", "+0.070", "+0.356"),
        *("<", "0.001", "0.012", "468/119/54"),
    ]
    assert "- c_open: n = 4: below 6 clips no test can reach 5 %" in text
    assert "- The edited videos: Use and publish freely; keep the notices." in text


def test_the_forest_plot_has_left_on_the_left_and_the_margin_around_zero() -> None:
    row = ForestRow("a", "n = 9", 0.2, 0.1, 0.3, "found")
    svg = forest_svg([row, replace(row, mean_m=-0.2, low_m=-0.3, high_m=-0.1, kind="open")], "title", 0.1)
    means = {kind: float(x) for kind, x in re.findall(r'class="mean (\w+)" x="([\d.]+)"', svg)}
    assert means["found"] < means["open"]
    left, width = map(float, re.search(r'class="margin" x="([\d.]+)" y="4" width="([\d.]+)"', svg).groups())  # type: ignore[union-attr]
    (zero,) = re.findall(r'class="zero" d="M([\d.]+)', svg)
    assert left + width / 2 == pytest.approx(float(zero), abs=0.1)
    assert forest_svg([replace(row, mean_m=None, low_m=None, high_m=None)], "title", 0.1) == ""
