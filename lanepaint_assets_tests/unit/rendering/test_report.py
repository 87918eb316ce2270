"""The HTML page of a chunk, and its plain-text form."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lanepaint_assets.rendering import plots
from lanepaint_assets.rendering.report import MAX_OPEN_ITEMS, MAX_PAIRS, render_html
from lanepaint_assets.rendering.report_content import ChunkReport, RefinementHistory, Verification
from lanepaint_assets.rendering.report_text import aligned, render_text
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.rendering.reports import (
    CLIP,
    EDIT,
    FAILED,
    PATHS,
    PRIMARY,
    REPAINT,
    REPORT,
    with_items,
)
from lanepaint_assets_tests.unit.rendering.scenes import straight_future

VOID = {"meta", "input", "br", "link", "img", "wbr"}


class Reader(HTMLParser):
    """Checks that elements nest, and keeps words, ids, links and resources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
            if name == "src":
                self.sources.append(value or "")
            assert not name.startswith("on"), f"an event handler: {name}"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_first_words_answer_what_changed_and_how_sure_that_is() -> None:
    text = read(render_html(REPORT)).text
    start = text[: text.index("By prompt")]
    for part in ("double_yellow_solid", "effect", "−0.20", "−0.35", "−0.05", "n = 12", "move a plan by 0.17"):
        assert part in start
    assert "the refining judge passed 0 of 1; 1 not independently verified" in start


def test_the_page_shows_every_arm_with_its_figures() -> None:
    text = read(render_html(REPORT)).text
    arms = text[text.index("Arm") : text.index("Does it show")]
    for part in ("original", "null, same seeds", "0.00", "null, other seeds", "3.27", "camera blanked", "2.39"):
        assert part in arms
    # Edit less repainting: -0.25 + 0.05.
    assert "−0.20" in arms
    for part in ("1.00", "1.50", "0.40", "11 %", "12 %", "50 %"):
        assert part in arms


def test_the_other_seeds_shift_is_a_size_and_has_no_sign() -> None:
    text = read(render_html(REPORT)).text
    row = text[text.index("null, other seeds") :]
    assert "+0.17" not in row[: row.index("camera blanked")]


def test_quality_refinement_captions_lineage_and_settings_are_there() -> None:
    text = read(render_html(REPORT)).text
    for part in ("identical", "31.2", "0.950", "no LPIPS: its weights are not here"):
        assert part in text
    for part in ("2 attempts, none passed", "caption repeated", "the lines are orange", "a single line"):
        assert part in text
    for part in ("a" * 16, "b" * 16, "c" * 16, "study_seed", "17", "alpamayo_checkpoint", "d" * 64):
        assert part in text
    assert "procedural 3" in text
    assert "K = 2 samples." in text


def test_the_chosen_attempt_is_marked_and_no_other() -> None:
    page = render_html(REPORT)
    assert page.count('class="attempt chosen"') == 1
    assert page.index("road with yellow lines") < page.index('class="attempt chosen"')


def test_a_control_without_attempts_says_so() -> None:
    page = render_html(with_items(replace(REPAINT, refinement=RefinementHistory((), None, None, "control prompt"))))
    assert "control prompt, not judged" in read(page).text


def test_differences_between_the_arms_are_marked() -> None:
    page = render_html(REPORT)
    assert "<del>single white</del>" in page
    assert "<ins>double yellow</ins>" in page
    assert "<del>keep</del>" in page
    assert "sample 1, the same in both arms" in read(page).text


def test_an_independent_verdict_names_its_inspector_and_what_it_reads() -> None:
    check = Verification("disagrees at 2 of 3 moments", False, "qwen2_5_vl 1", "single white dashed")
    text = read(render_html(with_items(replace(EDIT, verification=check)))).text
    assert "✗ Independent: disagrees at 2 of 3 moments" in text
    assert "qwen2_5_vl 1, which reads “single white dashed”" in text
    assert "an independent inspector agrees on 0 of 1" in text


def test_the_strictest_terms_stand_in_the_answer_and_all_inputs_below() -> None:
    text = read(render_html(REPORT)).text
    assert "do not publish the videos" in text[: text.index("By prompt")]
    licences = text[text.index("Licences of all inputs") :]
    for part in ("PhysicalAI-Autonomous-Vehicles", "Alpamayo", "CPU engines: procedural", "Sources disagree"):
        assert part in licences
    assert "FLUX" not in licences


def test_the_text_says_what_may_be_done_with_videos_and_with_figures() -> None:
    text = " ".join(render_text(REPORT).split())
    assert "The edited videos: For internal development only" in text
    assert "Trajectories, reasoning and all figures: For internal development only" in text
    assert "No commercial use." in text  # the driver's
    assert "Terms" not in render_text(replace(REPORT, licences=()))


def test_the_page_asks_for_nothing_outside_itself() -> None:
    page = render_html(REPORT)
    assert re.search(r"https?:|//[a-z0-9-]+\.[a-z]", page) is None
    reader = read(page)
    assert reader.sources
    assert all(source.startswith("data:") for source in reader.sources)
    assert all(link.startswith("#") for link in reader.links)
    assert "link" not in reader.tags
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_a_video_is_carried_once_and_shown_in_two_panes() -> None:
    page = render_html(with_items(EDIT))
    assert page.count("data:video/mp4") == 1
    assert page.count("<canvas") == 2
    assert 'data-rate="8.0" data-start="7"' in page


def test_a_video_without_room_is_named_by_its_file() -> None:
    page = render_html(with_items(replace(EDIT, preview_mp4=None)))
    assert "data:video" not in page
    assert "Open <code>outputs/clip_a_comparison.mp4</code>" in page
    assert "There is no video" in render_html(with_items(replace(EDIT, preview_mp4=None, comparison_file=None)))


def test_every_link_leads_somewhere_and_ids_are_unique() -> None:
    reader = read(render_html(REPORT))
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)


NASTY = '<script>alert("x")</script>&\'</style></title>--><img src=x onerror=alert(1)>'
# These name a choice of the program, never something from outside.
CHOICES = {"status", "kind", "clip_grid", "finding"}


def hostile(record: Any) -> Any:
    """A record with `NASTY` in place of every text in it that can come from outside."""
    if isinstance(record, str):
        return NASTY
    if isinstance(record, tuple):
        return tuple(hostile(part) for part in record)
    if isinstance(record, dict):
        return {hostile(key): hostile(value) for key, value in record.items()}
    if is_dataclass(record) and not isinstance(record, type):
        changed = {f.name: hostile(getattr(record, f.name)) for f in fields(record) if f.name not in CHOICES}
        return replace(record, **changed)
    return record


@pytest.mark.parametrize("verification", [None, Verification("text", True, "name", "found")])
def test_hostile_text_in_any_field_stays_text(verification: Verification | None) -> None:
    item = replace(EDIT, verification=verification)
    report = replace(with_items(item, REPAINT, FAILED, replace(EDIT, status="outdated", reasons=("r",))))
    page = render_html(hostile(report))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    reader = read(page)
    assert reader.tags.count("script") == 1
    assert reader.tags.count("style") == 1
    # Every field of the records that has words is shown, or it would not have been tried.
    assert reader.text.count("alert(1)") > 60
    text = render_text(hostile(report))
    assert NASTY in text


def test_equal_input_gives_equal_bytes() -> None:
    assert render_html(REPORT).encode() == render_html(replace(REPORT)).encode()
    assert render_text(REPORT) == render_text(replace(REPORT))


def test_a_cpu_engine_and_the_coarse_grid_are_pointed_out() -> None:
    text = read(render_html(REPORT)).text
    assert "results come from CPU engines: painter procedural 3 (CPU)" in text
    assert "say nothing about how a foundation model would paint or drive" in text
    assert "off the model's training distribution" in text
    inspected = replace(REPORT, engines=(EngineLabel("inspector", "measured", "3", False),))
    text = read(render_html(inspected)).text
    assert "CPU engines had a part: inspector measured 3 (CPU)" in text
    assert "would paint or drive" not in text
    clean = replace(REPORT, clip_grid="model_10hz", engines=(EngineLabel("driver", "alpamayo", "1.5", True),))
    text = read(render_html(replace(clean, licences=()))).text
    assert "CPU" not in text
    assert "training distribution" not in text


def test_what_was_imported_is_neither_a_cpu_engine_nor_a_model() -> None:
    report = replace(REPORT, engines=(EngineLabel("painter", "imported", "", None),), licences=())
    text = read(render_html(report)).text
    assert "Imported, so what made it is not known here: the work of painter." in text
    assert "made elsewhere" in text
    assert "CPU" not in text


def test_a_report_of_nothing_but_failures_is_written_and_says_so() -> None:
    page = render_html(replace(with_items(FAILED), study=()))
    text = read(page).text
    assert "No edit could be compared." in text
    assert "no edit was evaluated; the reasons are below" in text
    assert "1 of 1 items failed" in text
    assert "no lane found" in text
    assert "cannot tell" in text
    assert "<svg" not in page
    empty = replace(REPORT, clips=(), study=(), licences=(), checkpoints=())
    text = read(render_html(empty)).text
    assert "No edit could be compared." in text
    assert "This chunk has no items." in text


def test_failed_items_and_refused_clips_stand_in_one_list_with_reasons() -> None:
    text = read(render_html(REPORT)).text
    missing = text[text.index("What is missing") :]
    assert "1 failed items, 1 refused clips" in missing
    assert "no lane found" in missing
    assert "the file is empty" in missing


def test_without_the_control_there_is_no_primary_figure_and_the_page_says_why() -> None:
    report = replace(with_items(EDIT), study=())
    assert report.clips[0].primary_shift_m(EDIT) is None
    assert "no clip has both this edit and the control" in read(render_html(report)).text


def test_missing_figures_are_dashes() -> None:
    item = replace(EDIT, figures=replace(EDIT.figures, min_ade_m=None, lateral_m={}), reasons=("no ego motion",))
    text = read(render_html(with_items(item))).text
    assert "minADE edited–" in text
    assert "no ego motion" in text
    assert "nan" not in text.lower().split()


def test_a_chunk_of_many_items_is_a_list_first() -> None:
    assert '<details id="item-1" class="item ok" open' in render_html(REPORT)
    many = replace(REPORT, clips=(CLIP,) * (MAX_OPEN_ITEMS // 3 + 1))
    page = render_html(many)
    assert "<details id=" in page
    assert re.search(r'<details id="[^"]*" class="[^"]*" open', page) is None


def test_clips_needed_beyond_reach_are_not_a_number() -> None:
    text = read(render_html(REPORT)).text
    assert "117 for 0.1 m" in text
    assert "None for" not in text


def test_dots_stand_left_where_the_plan_goes_left() -> None:
    dots = (plots.Dot(-1.0, "a"), plots.Dot(0.5, "b"), plots.Dot(2.0, "c"))
    row = plots.DotRow("p", dots, False, plots.Estimate(0.5, -0.5, 1.5))
    svg = plots.lateral_effect_svg([row])
    places = [float(x) for x in re.findall(r'cx="([0-9.]+)"', svg)]
    assert places == sorted(places, reverse=True)
    start, end = (float(x) for x in re.findall(r'class="interval edit" d="M([0-9.]+) [0-9.]+H([0-9.]+)"', svg)[0])
    assert places[2] < start < places[1] < end < places[0]
    assert plots.lateral_effect_svg([plots.DotRow("p", (), False)]) == ""


def test_left_in_the_world_is_left_in_the_drawing() -> None:
    left, right = np.stack([straight_future(2.0)]), np.stack([straight_future(-2.0)])
    svg = plots.trajectories_svg(left, right, None, None, "item")
    ends = {kind: float(re.findall(rf'line {kind}" d="[^"]*L([0-9.]+) ', svg)[-1]) for kind in ("original", "edited")}
    assert ends["original"] < ends["edited"]


def test_waypoints_that_are_not_numbers_are_left_out() -> None:
    broken = straight_future()
    broken[10:20] = np.nan
    assert "nan" not in plots.trajectories_svg(np.stack([broken]), np.empty((0, 64, 3)), None, None, "item")


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.02), (-15.0, 160.0), (0.0, 1.0), (-3.0, -1.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = plots.round_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


def test_the_text_form_answers_first_and_has_aligned_columns_and_every_reason() -> None:
    text = render_text(REPORT)
    words = " ".join(text.split())
    assert words.index("double_yellow_solid: effect; −0.20 m (−0.35 to −0.05) n = 12") < words.index("clip_a")
    table = [line for line in text.splitlines() if line.startswith("clip_a ")]
    assert len(table) == 3
    # The status column starts at one place in every row.
    assert len({match.start() for line in table if (match := re.search(r" (ok|failed) ", line))}) == 1
    assert "no lane found" in text
    assert "the file is empty" in text
    assert "do not publish" in words
    assert "not foundation models" in words
    assert all(line == line.rstrip() for line in text.splitlines())


def test_long_cells_are_cut_in_the_middle_and_stay_apart() -> None:
    first, _, row = aligned(
        ("clip", "camera", "prompt", "status", "a", "b"), [("x" * 60 + "_end", "c", "p", "ok", "1.00", "v")]
    )
    assert "_end" in row
    assert "…" in row
    assert row.index("ok") == first.index("status")


def test_a_line_break_in_a_name_does_not_break_the_table() -> None:
    clip = replace(CLIP, clip_id="two\nlines")
    assert "two lines" in render_text(replace(REPORT, clips=(clip,)))


def test_findings_that_differ_are_counted_in_the_headline() -> None:
    other = replace(EDIT, prompt_key="single_white_solid")
    lines = (PRIMARY, replace(PRIMARY, prompt_key="single_white_solid", finding="no effect larger than the margin"))
    report: ChunkReport = replace(with_items(EDIT, other, REPAINT), study=lines)
    text = read(render_html(report)).text
    assert "1 of 2 edits changed the driver's path; for 1 of 2 any change is smaller than the margin." in text


def test_edits_that_could_not_be_compared_come_last_and_are_counted_apart() -> None:
    text = read(render_html(with_items(replace(FAILED, prompt_key="first_of_all"), EDIT, REPAINT))).text
    start = text[: text.index("By prompt")]
    assert "The edit changed the driver's path. 1 more could not be compared." in start
    assert start.index("double_yellow_solid") < start.index("first_of_all")


def test_of_many_samples_the_first_are_drawn_and_the_page_says_so() -> None:
    many = 64
    paths = replace(PATHS, original_m=np.repeat(PATHS.original_m, many, 0), edited_m=np.repeat(PATHS.edited_m, many, 0))
    texts = tuple(f"slow down to {speed} m/s" for speed in range(many))
    page = render_html(with_items(replace(EDIT, trajectories=paths, edited_reasoning=texts)))
    assert page.count('class="line edited"') == plots.MAX_DRAWN_SAMPLES
    text = read(page).text
    assert f"the first {plots.MAX_DRAWN_SAMPLES} samples of each" in text
    assert f"{many - MAX_PAIRS} further texts are in the item's inference file" in text
    assert "samples of each" not in read(render_html(with_items(EDIT))).text


def test_outdated_items_have_no_primary_figure() -> None:
    for kept in ((replace(EDIT, status="outdated"), REPAINT), (EDIT, replace(REPAINT, status="outdated"))):
        report = with_items(*kept)
        assert report.clips[0].primary_shift_m(kept[0]) is None
    assert with_items(EDIT, REPAINT).clips[0].primary_shift_m(EDIT) is not None
