"""The HTML page, its plots and its plain-text form."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from lanepaint_assets.rendering import plots
from lanepaint_assets.rendering.report import (
    ChunkReport,
    ItemSection,
    ItemTrajectories,
    RefusedClip,
    VerdictSummary,
    metres,
    render_html,
)
from lanepaint_assets.rendering.report_text import aligned, render_text
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.rendering.scenes import history, straight_future

PATHS = ItemTrajectories(
    np.stack([straight_future(0.1)]), np.stack([straight_future(0.6)]), straight_future(), history()
)
GOOD = ItemSection(
    clip_id="clip_a",
    camera="camera_front_wide_120fov",
    prompt_key="double_yellow_solid",
    prompt_text="double yellow solid",
    status="ok",
    original_min_ade_m=1.0,
    edited_min_ade_m=1.5,
    arms_ade_m=0.4,
    lateral_shift_3s_m=-0.25,
    verdict=VerdictSummary(True, "shows what was asked for"),
    original_reasoning=("keep the lane", "keep the lane"),
    edited_reasoning=("keep the lane", "slow down"),
    trajectories=PATHS,
    preview_mp4=b"\x00\x01mp4 bytes",
    comparison_file="clip_a_comparison.mp4",
    t0_frame=7,
)
FAILED = ItemSection(
    "clip_b", "camera_front_wide_120fov", "single_white_dashed", "single white dashed", "failed", reason="no lane found"
)
REPORT = ChunkReport(
    chunk="chunk_0001",
    clip_grid="spec_8fps",
    frame_rate_hz=8.0,
    engines=(EngineLabel("painter", "procedural", "3", False), EngineLabel("driver", "alpamayo", "1.5", True)),
    items=(GOOD, replace(GOOD, prompt_key="roundtrip", is_control=True, edited_min_ade_m=1.01), FAILED),
    refused_clips=(RefusedClip("clip_c", "camera_front_wide_120fov", "the file is empty"),),
    run_name="nightly",
    notes=("K = 2 samples.",),
)

VOID = {"meta", "input", "br", "link", "img"}


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

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_holds_every_item_figure_and_reason() -> None:
    text = read(render_html(REPORT)).text
    for part in ("chunk_0001", "nightly", "clip_a.camera_front_wide_120fov", "double_yellow_solid", "roundtrip"):
        assert part in text
    for part in ("1.00", "1.50", "+0.50", "0.40", "−0.25", "no lane found", "the file is empty", "K = 2 samples."):
        assert part in text
    assert "procedural 3" in text
    assert "alpamayo 1.5" in text


def test_the_page_asks_for_nothing_outside_itself() -> None:
    page = render_html(REPORT)
    assert re.search(r"https?:|//[a-z0-9-]+\.[a-z]", page) is None
    reader = read(page)
    assert all(source.startswith("data:") for source in reader.sources)
    assert all(link.startswith("#") for link in reader.links)
    assert "link" not in reader.tags
    assert "@import" not in page
    assert "url(" not in page


def test_videos_are_inside_the_page_and_played_together() -> None:
    page = render_html(REPORT)
    reader = read(page)
    assert len(reader.sources) == 2
    assert 'data-rate="8.0" data-start="7"' in page
    # One bar for the clip with videos, none for the clip that failed.
    assert page.count('class="transport"') == 1


def test_every_link_leads_somewhere_and_ids_are_unique() -> None:
    reader = read(render_html(REPORT))
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)


def test_names_and_texts_from_outside_are_escaped() -> None:
    nasty = '<script>alert("x")</script>&'
    item = replace(GOOD, clip_id=nasty, prompt_key=nasty, prompt_text=nasty, reason=nasty, original_reasoning=(nasty,))
    page = render_html(replace(REPORT, chunk=nasty, run_name=nasty, items=(item,), notes=(nasty,)))
    assert "<script>alert" not in page
    reader = read(page)
    assert reader.tags.count("script") == 1
    assert nasty in reader.text


def test_equal_input_gives_equal_bytes() -> None:
    assert render_html(REPORT).encode() == render_html(replace(REPORT)).encode()
    assert render_text(REPORT) == render_text(replace(REPORT))


def test_a_cpu_engine_and_the_coarse_grid_are_pointed_out() -> None:
    text = read(render_html(REPORT)).text
    assert "results come from CPU engines: painter procedural 3 (CPU)" in text
    assert "off the model's training distribution" in text
    clean = replace(REPORT, clip_grid="model_10hz", engines=(EngineLabel("driver", "alpamayo", "1.5", True),))
    text = read(render_html(clean)).text
    assert "CPU" not in text
    assert "training distribution" not in text


def test_a_report_of_nothing_but_failures_is_written_and_says_so() -> None:
    page = render_html(replace(REPORT, items=(FAILED,)))
    text = read(page).text
    assert "1 of 1 items failed" in text
    assert "no lane found" in text
    assert "<svg" not in page
    assert "This chunk has no items." in read(render_html(replace(REPORT, items=()))).text


def test_missing_figures_are_dashes() -> None:
    item = replace(GOOD, original_min_ade_m=None, edited_min_ade_m=None, arms_ade_m=None, reason="no ego motion")
    assert item.min_ade_delta_m is None
    text = read(render_html(replace(REPORT, items=(item,)))).text
    assert "ΔminADE –" in text
    assert "no ego motion" in text


def test_videos_beyond_the_size_limit_are_left_out_and_named() -> None:
    page = render_html(REPORT, max_embedded_video_bytes=len(GOOD.preview_mp4 or b""))
    assert len(read(page).sources) == 1
    assert "Open <code>clip_a_comparison.mp4</code>" in page


def test_equal_reasoning_is_shown_once_with_its_samples() -> None:
    text = read(render_html(REPORT)).text
    assert "keep the lane samples 1, 2" in text
    assert "slow down sample 2" in text


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (1.234, False, "1.23"),
        (0.5, True, "+0.50"),
        (-0.5, True, "−0.50"),
        (None, True, "–"),
        (float("nan"), False, "–"),
    ],
)
def test_metres_are_worded(value: float | None, signed: bool, expected: str) -> None:
    assert metres(value, signed) == expected


def test_dots_stand_in_the_order_of_their_figures() -> None:
    row = plots.DotRow("p", (plots.Dot(-1.0, "a"), plots.Dot(0.5, "b"), plots.Dot(2.0, "c")), False)
    places = [float(x) for x in re.findall(r'cx="([0-9.]+)"', plots.paired_deltas_svg([row]))]
    assert len(places) == 3
    assert places == sorted(places)
    assert plots.paired_deltas_svg([plots.DotRow("p", (), False)]) == ""


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


def test_the_text_form_has_aligned_columns_and_every_reason() -> None:
    text = render_text(REPORT)
    table = [line for line in text.splitlines() if line.startswith("clip_")]
    assert len(table) == 3
    # The status column starts at one place in every row.
    assert len({re.search(r" (ok|failed) ", line).start() for line in table if line}) == 1  # type: ignore[union-attr]
    assert "no lane found" in text
    assert "the file is empty" in text
    assert "not foundation models" in " ".join(text.split())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_long_cells_are_cut_in_the_middle_and_stay_apart() -> None:
    first, _, row = aligned(
        ("clip", "camera", "prompt", "status", "a", "b"), [("x" * 60 + "_end", "c", "p", "ok", "1.00", "v")]
    )
    assert "_end" in row
    assert "…" in row
    assert row.index("ok") == first.index("status")


def test_a_line_break_in_a_name_does_not_break_the_table() -> None:
    text = render_text(replace(REPORT, items=(replace(GOOD, clip_id="two\nlines"),)))
    assert "two lines" in text
