from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, PaintInstruction, UnpaintableSceneError
from lanepaint_assets.editing.mask_reach import beyond_mask
from lanepaint_assets.editing.procedural import ProceduralPainter
from lanepaint_assets.editing.shading import linear_frame
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspection, RoadView
from lanepaint_assets_tests.unit.editing.road_scene import (
    DOUBLE_YELLOW,
    WHITE_DASHED,
    WHITE_SOLID,
    YELLOW_DASHED,
    FlatRoad,
    KnownLines,
    TrueLine,
)

YELLOW_SOLID = LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID)
FRAMES = 8
# A bend of 300 m radius, a vehicle that wanders in its lane, a body that bounces by 3 mrad.
ROAD = FlatRoad(curvature=1 / 300, wander_m=0.15, pitch_rad=0.003)


@pytest.fixture(scope="module")
def scene() -> EditScene:
    return ROAD.scene(FRAMES)


@pytest.fixture(scope="module")
def painter() -> ProceduralPainter:
    return ProceduralPainter(KnownLines(ROAD, error_m=0.06))


def wanted(style: LaneStyle | None, standard: str = "us") -> PaintInstruction:
    return PaintInstruction(style, "any words", standard, seed=11)


def edited(painter: ProceduralPainter, scene: EditScene, style: LaneStyle | None) -> NDArray[np.uint8]:
    first = painter.paint_first_frame(scene, wanted(style))
    return painter.paint_video(scene, first, wanted(style))


def on_road(scene: EditScene, k: int, road: FlatRoad = ROAD) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True s and d of every pixel, NaN in the sky."""
    h, w = scene.frames.shape[1:3]
    x, y = np.meshgrid(np.arange(w, dtype=float), np.arange(h, dtype=float))
    s, d, ok = road.ground_of(float(scene.timestamps_us[k]) / 1e6, np.stack([x.ravel(), y.ravel()], axis=1))
    s[~ok], d[~ok] = np.nan, np.nan
    return s.reshape(h, w), d.reshape(h, w)


def ahead(scene: EditScene, k: int, s: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    here = 5.0 + ROAD.speed_mps * float(scene.timestamps_us[k]) / 1e6
    return (s - here > low) & (s - here < high)


def yellowness(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    linear = linear_frame(frame).astype(np.float64)
    warm = np.minimum(linear[..., 0], linear[..., 1])
    return np.maximum((warm - linear[..., 2]) / np.maximum(warm + linear[..., 2], 1e-3) - 0.1, 0.0)


def test_paint_lies_on_the_true_line_within_two_centimetres(scene: EditScene, painter: ProceduralPainter):
    video = edited(painter, scene, YELLOW_SOLID)
    for k in range(FRAMES):
        s, d = on_road(scene, k)
        for line in (1.8, -1.8):
            for low in (5.0, 10.0, 15.0):
                near = ahead(scene, k, s, low, low + 5) & (np.abs(d - line) < 0.5)
                weight = yellowness(video[k])[near]
                assert weight.sum() > 3
                assert (weight * d[near]).sum() / weight.sum() == pytest.approx(line, abs=0.02)


def test_dashes_stay_on_one_place_of_the_road_and_have_the_standards_length(
    scene: EditScene, painter: ProceduralPainter
):
    video = edited(painter, scene, YELLOW_DASHED)
    middles = []
    for k in range(FRAMES):
        s, d = on_road(scene, k)
        near = ahead(scene, k, s, 3.9, 11) & (np.abs(d - 1.8) < 0.05)
        arc, weight = s[near] * (1 - 1.8 / 300), yellowness(video[k])[near]
        painted = arc[weight > 0.25]
        # Only dashes that end well inside the window are whole.
        if painted.size and painted.min() > arc.min() + 0.4 and painted.max() < arc.max() - 0.4:
            assert np.ptp(painted) == pytest.approx(3.05, abs=0.3)
            middles.append(0.5 * (painted.min() + painted.max()))
    assert len(middles) >= 2
    angles = np.exp(2j * np.pi * np.array(middles) / 12.19)
    assert np.ptp(np.angle(angles / angles[0])) * 12.19 / (2 * np.pi) < 0.15


def test_a_double_line_has_two_strokes_with_a_gap_of_one_width(scene: EditScene, painter: ProceduralPainter):
    video = edited(painter, scene, DOUBLE_YELLOW)
    s, d = on_road(scene, 3)
    near = ahead(scene, 3, s, 4, 8)
    strength = yellowness(video[3])

    def at(offset: float) -> float:
        return float(strength[near & (np.abs(d - 1.8 - offset) < 0.02)].mean())

    assert at(0.15) > 0.4
    assert at(-0.15) > 0.4
    assert at(0.0) < 0.1
    assert at(0.32) < 0.1
    assert at(-0.32) < 0.1


def test_yellow_paint_is_yellow_and_white_paint_is_grey(scene: EditScene, painter: ProceduralPainter):
    s, d = on_road(scene, 2)
    core = ahead(scene, 2, s, 4, 9) & (np.abs(d - 1.8) < 0.04)
    yellow = edited(painter, scene, YELLOW_SOLID)[2][core].mean(axis=0)
    white = edited(painter, scene, WHITE_SOLID)[2][core].mean(axis=0)
    assert yellow[0] > yellow[1] > 1.5 * yellow[2]
    assert np.ptp(white) < 12
    assert white.mean() > scene.frames[2][ahead(scene, 2, s, 4, 9) & (np.abs(d) < 1)].mean() + 40


def test_old_paint_is_gone_between_new_dashes(scene: EditScene, painter: ProceduralPainter):
    video = edited(painter, scene, YELLOW_DASHED)
    for k in (0, 4, 7):
        s, d = on_road(scene, k)
        gap = ahead(scene, k, s, 5, 20) & (yellowness(video[k]) < 0.03)
        old = linear_frame(video[k])[gap & (np.abs(d - 1.8) < 0.06)].mean()
        asphalt = linear_frame(video[k])[gap & (np.abs(d - 0.9) < 0.3)].mean()
        before = linear_frame(scene.frames[k])[gap & (np.abs(d - 1.8) < 0.04)].mean()
        assert before > 2 * asphalt
        assert old == pytest.approx(asphalt, rel=0.08)


def test_filled_asphalt_keeps_the_roads_grain(scene: EditScene, painter: ProceduralPainter):
    video = edited(painter, scene, YELLOW_DASHED)
    s, d = on_road(scene, 4)
    gap = ahead(scene, 4, s, 4, 9) & (yellowness(video[4]) < 0.03)
    filled = linear_frame(video[4])[gap & (np.abs(d - 1.8) < 0.05)][:, 1].std()
    asphalt = linear_frame(video[4])[gap & (np.abs(d - 0.9) < 0.3)][:, 1].std()
    assert 0.5 * asphalt < filled < 2.0 * asphalt


def test_pixels_off_the_lines_and_out_of_reach_of_the_mask_are_bit_identical(
    scene: EditScene, painter: ProceduralPainter
):
    video = edited(painter, scene, DOUBLE_YELLOW)
    outside = np.stack([~mask & ~beyond_mask(mask) for mask in scene.paint_masks])
    assert np.array_equal(video[outside], scene.frames[outside])
    for k in range(FRAMES):
        s, d = on_road(scene, k)
        far_off = (np.abs(np.abs(d) - 1.8) > 0.8) & ahead(scene, k, s, 3, 25)
        assert np.array_equal(video[k][far_off], scene.frames[k][far_off])


def test_an_object_on_the_line_is_not_painted(scene: EditScene):
    masks = scene.paint_masks.copy()
    masks[:, 180:215, 60:190] = False
    holed = replace(scene, paint_masks=masks)
    video = edited(ProceduralPainter(KnownLines(ROAD)), holed, DOUBLE_YELLOW)
    hole = np.zeros_like(masks)
    hole[:, 180:215, 60:190] = True
    assert np.array_equal(video[hole], scene.frames[hole])
    assert not np.array_equal(video[:, 216:], scene.frames[:, 216:])


def test_the_video_begins_with_the_first_frame_and_the_same_seed_gives_the_same_paint(
    scene: EditScene, painter: ProceduralPainter
):
    first = painter.paint_first_frame(scene, wanted(DOUBLE_YELLOW))
    once, again = (painter.paint_video(scene, first, wanted(DOUBLE_YELLOW)) for _ in range(2))
    assert np.array_equal(once[0], first)
    assert np.array_equal(once, again)


def test_paint_in_shadow_is_darker_by_as_much_as_the_asphalt():
    road = FlatRoad(shadow=True)
    scene = road.scene(4)
    video = edited(ProceduralPainter(KnownLines(road)), scene, WHITE_SOLID)
    s, d = on_road(scene, 2, road)
    light = linear_frame(video[2])[..., 1]
    near = (s > 12) & (s < 27) & np.isfinite(s)
    dark = near & (np.mod(s, 9.0) > 0.6) & (np.mod(s, 9.0) < 3.4)
    lit = near & (np.mod(s, 9.0) > 4.6) & (np.mod(s, 9.0) < 8.4)
    line, asphalt = np.abs(d + 1.8) < 0.05, np.abs(d) < 0.8
    in_paint = light[dark & line].mean() / light[lit & line].mean()
    in_asphalt = light[dark & asphalt].mean() / light[lit & asphalt].mean()
    assert in_paint == pytest.approx(in_asphalt, abs=0.08)


def test_a_boundary_that_was_not_seen_is_placed_at_a_lanes_width_and_flagged(scene: EditScene):
    painter = ProceduralPainter(KnownLines(ROAD, hidden=("ego_right",)))
    report = painter.describe(scene, wanted(WHITE_SOLID))
    placed = [line for line in report.lines if not line.measured]
    assert [line.role for line in placed] == ["ego_right"]
    assert "placed 3.66 m" in placed[0].flags[0]
    assert report.lane_width_m == pytest.approx(3.66, abs=0.01)


def test_a_road_without_lines_is_refused_with_the_inspectors_reason(scene: EditScene):
    painter = ProceduralPainter(KnownLines(ROAD, hidden=("ego_left", "ego_right")))
    with pytest.raises(UnpaintableSceneError, match=r"no boundary of the ego lane.*nothing but asphalt"):
        painter.paint_first_frame(scene, wanted(WHITE_SOLID))


def test_a_clip_without_a_road_is_refused(scene: EditScene, painter: ProceduralPainter):
    empty = replace(scene, paint_masks=np.zeros_like(scene.paint_masks))
    with pytest.raises(UnpaintableSceneError, match="no road was found"):
        painter.paint_first_frame(empty, wanted(WHITE_SOLID))


def test_a_clip_is_measured_once_for_all_its_prompts(scene: EditScene):
    class Counting(KnownLines):
        calls = 0

        def inspect(self, view: RoadView) -> LaneInspection:
            Counting.calls += 1
            return super().inspect(view)

    painter = ProceduralPainter(Counting(ROAD))
    painter.paint_first_frame(scene, wanted(WHITE_SOLID))
    after_one = Counting.calls
    painter.paint_first_frame(scene, wanted(DOUBLE_YELLOW))
    assert Counting.calls == after_one > 0
    painter.paint_first_frame(replace(scene), wanted(WHITE_SOLID))
    assert Counting.calls == 2 * after_one


def test_without_a_wanted_style_each_line_keeps_the_one_measured_for_it(scene: EditScene, painter: ProceduralPainter):
    report = painter.describe(scene, wanted(None))
    assert [(line.role, line.style, line.flags) for line in report.lines] == [
        ("ego_left", WHITE_SOLID, ()),
        ("ego_right", WHITE_DASHED, ()),
    ]


def test_what_could_not_be_measured_is_taken_from_the_other_boundary_and_flagged(scene: EditScene):
    unclear = FlatRoad(
        curvature=ROAD.curvature,
        wander_m=ROAD.wander_m,
        lines=(TrueLine(1.8, UNKNOWN_STYLE, "ego_left"), TrueLine(-1.8, DOUBLE_YELLOW, "ego_right")),
    )
    left = ProceduralPainter(KnownLines(unclear)).describe(scene, wanted(None)).lines[0]
    assert left.style == DOUBLE_YELLOW
    assert len(left.flags) == 3


def test_a_style_that_the_region_does_not_know_is_painted_and_flagged(scene: EditScene, painter: ProceduralPainter):
    report = painter.describe(scene, wanted(YELLOW_SOLID, "de"))
    assert all("temporary" in line.flags[0] for line in report.lines)


def test_the_repaint_control_puts_dashes_where_they_were(scene: EditScene, painter: ProceduralPainter):
    video = edited(painter, scene, None)
    for k in (1, 4):
        s, d = on_road(scene, k)
        near = ahead(scene, k, s, 4, 14) & (np.abs(d + 1.8) < 0.04)
        new, old = linear_frame(video[k])[near][:, 1], linear_frame(scene.frames[k])[near][:, 1]
        assert ((new > 0.35) == (old > 0.35)).mean() > 0.93


def test_the_notes_tell_each_flag_once_with_its_lines(scene: EditScene, painter: ProceduralPainter):
    notes = painter.notes(scene, wanted(YELLOW_SOLID, "de"))
    told = [note for note in notes if "temporary" in note]
    assert len(told) == 1
    assert "ego left" in told[0]
    assert "ego right" in told[0]
    assert not [note for note in painter.notes(scene, wanted(YELLOW_SOLID, "us")) if "temporary" in note]
