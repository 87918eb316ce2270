"""The measured judge on single pictures beside their drive: course, sides, old paint, texture, and what it may say."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.lanes import measured
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import RoadView, Verdict
from lanepaint_assets.lanes.measured import MeasuredLaneInspector
from lanepaint_assets_tests.unit.lanes.flat_road import WHITE, YELLOW, FlatRoad, PaintedLine, camera, drive, render

WHITE_SOLID = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)
WHITE_DASHED = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)
YELLOW_DASHED = LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.DASHED)
DOUBLE_YELLOW = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)

LEFT, RIGHT = 1.75, -1.75
SOLID_WHITE_ROAD = (PaintedLine(LEFT), PaintedLine(RIGHT))
BEND = 1 / 180
CURVATURES = (0.0, BEND, -BEND)


def _dashes(color: tuple[float, float, float] = WHITE, moved_m: float = 0.0) -> tuple[PaintedLine, ...]:
    return tuple(PaintedLine(y + moved_m, color, dash_m=3.0, period_m=12.0) for y in (LEFT, RIGHT))


@cache
def _clip(lines: tuple[PaintedLine, ...], curvature: float = 0.0) -> RoadView:
    """A drive of a second along the road's middle; its first picture is the one that is edited."""
    view, speed = camera(), 14.0
    ego = drive(5, speed, rate_hz=5.0, yaw_rate=curvature * speed)
    return RoadView(render(FlatRoad(lines, curvature), view, ego), ego.timestamps_us, 0, camera=view, ego=ego)


@cache
def _edit(lines: tuple[PaintedLine, ...], curvature: float = 0.0) -> RoadView:
    """The first picture of the same drive on a road with other lines."""
    view = camera()
    ego = drive(1, 14.0, yaw_rate=curvature * 14.0)
    return RoadView(render(FlatRoad(lines, curvature), view, ego), ego.timestamps_us, 0)


def _judged(original: RoadView, edited: RoadView, wanted: LaneStyle) -> Verdict:
    return MeasuredLaneInspector().judge(original, edited, wanted, "as given")


def _failed(verdict: Verdict) -> dict[str, str]:
    return {a.attribute: a.reason for a in verdict.attributes if not a.passed}


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize(("color", "wanted"), [(WHITE, WHITE_DASHED), (YELLOW, YELLOW_DASHED)])
def test_a_single_picture_with_few_dashes_passes_on_straight_roads_and_bends(
    curvature: float, color: tuple[float, float, float], wanted: LaneStyle
) -> None:
    verdict = _judged(_clip(SOLID_WHITE_ROAD, curvature), _edit(_dashes(color), curvature), wanted)
    assert verdict.passed, _failed(verdict)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("aside_m", [0.8, -0.8])
def test_dashes_beside_the_course_fail_the_perspective(curvature: float, aside_m: float) -> None:
    moved = _edit(_dashes(moved_m=aside_m), curvature)
    assert "course" in _failed(_judged(_clip(SOLID_WHITE_ROAD, curvature), moved, WHITE_DASHED))["perspective"]


def test_an_edit_of_one_side_only_fails_on_what_the_other_side_shows() -> None:
    half = _edit((PaintedLine(LEFT, YELLOW, double=True), PaintedLine(RIGHT)))
    failed = _failed(_judged(_clip(SOLID_WHITE_ROAD), half, DOUBLE_YELLOW))
    assert set(failed) == {"count", "color"}
    assert "1 of 2" in failed["color"]


def test_a_boundary_that_the_edit_wiped_out_fails_the_perspective_by_name() -> None:
    wiped = _edit((PaintedLine(LEFT),))
    failed = _failed(_judged(_clip(SOLID_WHITE_ROAD), wiped, WHITE_SOLID))
    assert list(failed) == ["perspective"]
    assert "right" in failed["perspective"]


def test_old_paint_left_beside_the_new_line_fails_the_count() -> None:
    beside = _edit((PaintedLine(LEFT), PaintedLine(RIGHT), PaintedLine(RIGHT + 0.9)))
    clean = _edit((PaintedLine(LEFT), PaintedLine(RIGHT)))
    original = _clip((PaintedLine(LEFT, YELLOW), PaintedLine(RIGHT, YELLOW), PaintedLine(RIGHT + 0.9)))
    assert "old paint" in _failed(_judged(original, beside, WHITE_SOLID))["count"]
    assert "count" not in _failed(_judged(original, clean, WHITE_SOLID))


def test_old_paint_left_along_the_new_line_fails_the_count() -> None:
    wanted = LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID)
    original = _clip(SOLID_WHITE_ROAD)
    whole = _edit((PaintedLine(LEFT, YELLOW), PaintedLine(RIGHT, YELLOW)))
    part = whole.frames.copy()
    # From 11 m on everything is as it was.
    _, row = camera().project(np.array([[11.0, 0.0, 0.0]]))[0][0]
    part[:, : round(row)] = original.frames[:1, : round(row)]
    assert "count" not in _failed(_judged(original, whole, wanted))
    failed = _failed(_judged(original, RoadView(part, whole.timestamps_us, 0), wanted))
    assert "left along" in failed["count"]


def test_an_unedited_picture_passes_for_its_own_style_only() -> None:
    original = _clip(_dashes())
    picture = RoadView(original.frames[:1], original.timestamps_us[:1], 0)
    assert _judged(original, picture, WHITE_DASHED).passed
    assert set(_failed(_judged(original, picture, WHITE_SOLID))) == {"pattern"}
    assert set(_failed(_judged(original, picture, DOUBLE_YELLOW))) == {"count", "color", "pattern"}


def test_asphalt_smeared_beside_good_lines_fails_the_texture_alone() -> None:
    edit = _edit(_dashes())
    # Wide enough in colour to take the grain, not wide enough to touch paint.
    smeared = np.stack([cv2.bilateralFilter(frame, 15, 40.0, 7.0) for frame in edit.frames])
    verdict = _judged(_clip(SOLID_WHITE_ROAD), RoadView(smeared, edit.timestamps_us, 0), WHITE_DASHED)
    assert set(_failed(verdict)) == {"texture"}


def test_a_mixed_color_is_looked_for_between_the_two_boundaries() -> None:
    wanted = LaneStyle(Count.SINGLE, Color.MIXED, Pattern.SOLID)
    edit = _edit((PaintedLine(LEFT, YELLOW), PaintedLine(RIGHT)))
    assert _judged(_clip(SOLID_WHITE_ROAD), edit, wanted).passed
    assert set(_failed(_judged(_clip(SOLID_WHITE_ROAD), _edit(SOLID_WHITE_ROAD), wanted))) == {"color"}


def test_an_attribute_that_nobody_asked_for_passes() -> None:
    wanted = LaneStyle(Count.SINGLE, Color.UNKNOWN, Pattern.UNKNOWN)
    assert _judged(_clip(SOLID_WHITE_ROAD), _edit(_dashes(YELLOW)), wanted).passed


def test_a_picture_without_a_road_fails_every_attribute_that_needs_one() -> None:
    edit = _edit(_dashes())
    black = RoadView(np.zeros_like(edit.frames), edit.timestamps_us, 0)
    verdict = _judged(_clip(SOLID_WHITE_ROAD), black, WHITE_DASHED)
    assert set(_failed(verdict)) == {"count", "color", "pattern", "perspective", "texture"}
    assert "one colour" in _failed(verdict)["color"]


def test_the_revised_caption_words_exactly_what_failed() -> None:
    verdict = _judged(_clip(SOLID_WHITE_ROAD), _edit(SOLID_WHITE_ROAD), YELLOW_DASHED)
    assert verdict.revised_caption.startswith(YELLOW_DASHED.caption + ", ")
    assert "yellow paint" in verdict.revised_caption
    assert "dashes" in verdict.revised_caption
    assert "one stripe" not in verdict.revised_caption


def test_the_original_is_measured_once_for_all_edits_of_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    detect = measured.detect_lines
    monkeypatch.setattr(
        measured, "detect_lines", lambda view, *rest: looks.append(len(view.frames)) or detect(view, *rest)
    )
    inspector, clip = MeasuredLaneInspector(), _clip(SOLID_WHITE_ROAD)
    for edit in (_edit(_dashes()), _edit(_dashes(YELLOW)), _edit(SOLID_WHITE_ROAD)):
        inspector.judge(clip, edit, WHITE_DASHED, "")
    assert sorted(looks) == [1, 1, 1, 5]


_STYLES = st.builds(LaneStyle, st.sampled_from(Count), st.sampled_from(Color), st.sampled_from(Pattern))


@settings(max_examples=12, deadline=None)
@given(_STYLES, st.sampled_from([SOLID_WHITE_ROAD, _dashes(), _dashes(YELLOW)]))
def test_a_verdict_passes_exactly_where_all_attributes_do(wanted: LaneStyle, lines: tuple[PaintedLine, ...]) -> None:
    verdict = _judged(_clip(SOLID_WHITE_ROAD), _edit(lines), wanted)
    assert [a.attribute for a in verdict.attributes] == ["count", "color", "pattern", "perspective", "texture"]
    assert verdict.passed == all(a.passed for a in verdict.attributes)
    assert 0.0 <= verdict.score <= 1.0
    assert (verdict.revised_caption == "as given") == verdict.passed
