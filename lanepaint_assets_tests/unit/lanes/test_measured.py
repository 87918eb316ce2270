"""The measured inspector: summaries, captions, verdicts, and roads that cannot be read."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspector, LaneLine, LineRole, RoadView
from lanepaint_assets.lanes.measured import MeasuredLaneInspector, summary_style
from lanepaint_assets_tests.unit.lanes.flat_road import WHITE, YELLOW, FlatRoad, PaintedLine, camera, drive, render

STYLES = {
    "single_white_solid": LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID),
    "single_white_dashed": LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED),
    "double_yellow_solid": LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID),
    "single_yellow_dashed": LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.DASHED),
    "double_white_solid": LaneStyle(Count.DOUBLE, Color.WHITE, Pattern.SOLID),
}


@cache
def _road(key: str, shift_m: float = 0.0) -> RoadView:
    style = STYLES[key]
    color = YELLOW if style.color is Color.YELLOW else WHITE
    dash = 3.0 if style.pattern is Pattern.DASHED else None
    lines = tuple(PaintedLine(y + shift_m, color, style.count is Count.DOUBLE, dash, 9.0) for y in (1.75, -1.75))
    view, ego = camera(), drive(12, 12.0)
    return RoadView(render(FlatRoad(lines), view, ego), ego.timestamps_us, 3, camera=view, ego=ego)


def _line(role: LineRole, style: LaneStyle, sure: float) -> LaneLine:
    nan = float("nan")
    return LaneLine(role, np.zeros(4), (0.0, 40.0), np.zeros((0, 2)), style, 0.9, sure, 0.12, nan, nan, nan)


def test_it_fills_the_inspector_role() -> None:
    inspector: LaneInspector = MeasuredLaneInspector()
    assert (inspector.name, inspector.version) == ("measured", "3")


@pytest.mark.parametrize("key", STYLES)
def test_the_caption_states_the_painted_style(key: str) -> None:
    inspection = MeasuredLaneInspector().inspect(_road(key))
    assert inspection.caption == STYLES[key].caption
    assert inspection.reason is None
    assert inspection.confidence > 0.7


def test_boundaries_of_different_color_and_pattern_are_mixed() -> None:
    left = _line("ego_left", LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID), 0.9)
    right = _line("ego_right", LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED), 0.8)
    assert summary_style([left, right]) == LaneStyle(Count.SINGLE, Color.MIXED, Pattern.MIXED)


def test_of_different_counts_the_surer_lines_stands() -> None:
    left = _line("ego_left", LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID), 0.5)
    right = _line("ego_right", LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID), 0.8)
    assert summary_style([left, right]).count is Count.SINGLE


def test_what_one_boundary_cannot_tell_the_other_one_tells() -> None:
    left = _line("ego_left", UNKNOWN_STYLE, 0.0)
    right = _line("ego_right", STYLES["single_white_solid"], 0.8)
    assert summary_style([left, right]) == STYLES["single_white_solid"]
    assert summary_style([left]) == UNKNOWN_STYLE


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((360, 640, 3), 127, np.uint8), "one colour"),
        (np.random.default_rng(0).integers(0, 9, (360, 640, 3)).astype(np.uint8), "dark"),
        (
            np.tile(
                np.linspace(0, 30, 360).astype(np.uint8)[:, None, None] + np.array([40, 110, 170], np.uint8),
                (1, 640, 1),
            ),
            "colour of a road",
        ),
    ],
)
def test_a_picture_that_is_no_road_gets_a_reason_and_no_lines(picture: np.ndarray, words: str) -> None:
    inspection = MeasuredLaneInspector().inspect(RoadView(picture[None], np.zeros(1, np.int64), 0))
    assert inspection.lines == ()
    assert inspection.confidence == 0.0
    assert inspection.reason is not None
    assert words in inspection.reason


def test_an_upside_down_road_gets_a_low_confidence_and_a_reason() -> None:
    view = _road("single_white_solid")
    flipped = np.ascontiguousarray(view.frames[:, ::-1])
    inspection = MeasuredLaneInspector().inspect(
        RoadView(flipped, view.timestamps_us, 3, camera=view.camera, ego=view.ego)
    )
    assert inspection.confidence < 0.3
    assert inspection.reason is not None


@settings(max_examples=15, deadline=None)
@given(arrays(np.uint8, (2, 48, 64, 3)))
def test_no_picture_makes_it_raise(frames: np.ndarray) -> None:
    view = RoadView(frames, np.array([0, 100_000], np.int64), 1)
    inspection = MeasuredLaneInspector().inspect(view)
    assert 0.0 <= inspection.confidence <= 1.0


@pytest.mark.parametrize("key", STYLES)
def test_an_edit_that_shows_the_wanted_style_passes(key: str) -> None:
    verdict = MeasuredLaneInspector().judge(_road("single_white_dashed"), _road(key), STYLES[key], "as given")
    assert verdict.passed, [a.reason for a in verdict.attributes]
    assert verdict.revised_caption == "as given"
    assert verdict.score > 0.9
    assert [a.attribute for a in verdict.attributes] == ["count", "color", "pattern", "perspective", "texture"]


@pytest.mark.parametrize(("shown", "wanted"), [(s, w) for s in STYLES for w in STYLES if s != w])
def test_a_road_of_another_style_fails_on_exactly_what_differs(shown: str, wanted: str) -> None:
    view = _road(shown)
    verdict = MeasuredLaneInspector().judge(view, view, STYLES[wanted], "as given")
    failed = {a.attribute for a in verdict.attributes if not a.passed}
    a, b = STYLES[shown], STYLES[wanted]
    assert failed == {
        name
        for name, differs in (
            ("count", a.count != b.count),
            ("color", a.color != b.color),
            ("pattern", a.pattern != b.pattern),
        )
        if differs
    }
    assert not verdict.passed
    assert verdict.revised_caption.startswith(b.caption)
    assert len(verdict.revised_caption) > len(b.caption)


def test_more_right_attributes_score_higher() -> None:
    view = _road("single_white_dashed")
    inspector = MeasuredLaneInspector()
    near = inspector.judge(view, view, STYLES["single_yellow_dashed"], "").score
    far = inspector.judge(view, view, STYLES["double_yellow_solid"], "").score
    assert near > far


def test_lines_that_leave_the_original_course_fail_the_perspective() -> None:
    verdict = MeasuredLaneInspector().judge(
        _road("single_white_solid"), _road("single_white_solid", 0.9), STYLES["single_white_solid"], ""
    )
    failed = {a.attribute: a.reason for a in verdict.attributes if not a.passed}
    assert list(failed) == ["perspective"]
    assert "course" in failed["perspective"]


def test_a_road_smeared_by_the_painter_fails_the_texture() -> None:
    view = _road("single_white_solid")
    smeared = np.stack([cv2.medianBlur(f, 9) for f in view.frames])
    verdict = MeasuredLaneInspector().judge(
        view, RoadView(smeared, view.timestamps_us, 3), STYLES["single_white_solid"], ""
    )
    assert not {a.attribute: a.passed for a in verdict.attributes}["texture"]


def test_the_first_caption_is_the_normalized_one() -> None:
    inspector, frame = MeasuredLaneInspector(), np.zeros((4, 4, 3), np.uint8)
    wanted = STYLES["double_yellow_solid"]
    assert inspector.first_caption("make it double yellow", wanted, frame) == wanted.caption
    assert inspector.first_caption("keep as it is", UNKNOWN_STYLE, frame) == "keep as it is"
