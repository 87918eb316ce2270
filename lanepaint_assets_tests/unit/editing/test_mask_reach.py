from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.editing.line_strips import LineStrip
from lanepaint_assets.editing.mask_reach import REACH_PX, ReachVotes, Seen, beyond_mask, look_beyond
from lanepaint_assets.editing.procedural import ProceduralPainter
from lanepaint_assets.editing.road_surface import SURFACE_GRID
from lanepaint_assets.editing.shading import linear_frame
from lanepaint_assets_tests.unit.editing.road_scene import YELLOW_DASHED, FlatRoad, KnownLines
from lanepaint_assets_tests.unit.editing.test_procedural import edited, on_road, yellowness

SHAPE = SURFACE_GRID.count, SURFACE_GRID.columns_m.size
ASPHALT, GRASS, PAINT, BLACK = (0.15, 0.15, 0.15), (0.06, 0.16, 0.04), (0.6, 0.6, 0.58), (0.02, 0.02, 0.02)
EVERYWHERE = 0.0, 500.0


@given(
    left=st.integers(0, 60),
    top=st.integers(20, 60),
    width=st.integers(30, 60),
    height=st.integers(25, 40),
    hole=st.integers(4, 12),
)
@settings(max_examples=30, deadline=None)
def test_what_lies_beyond_a_mask_is_near_it_and_no_object_inside_of_it(
    left: int, top: int, width: int, height: int, hole: int
):
    mask = np.zeros((110, 130), np.bool_)
    mask[top : top + height, left : left + width] = True
    inside = np.zeros_like(mask)
    inside[top + 5 : top + 5 + hole, left + 5 : left + 5 + hole] = True
    mask &= ~inside
    beyond = beyond_mask(mask)
    rows, columns = np.nonzero(beyond)
    assert beyond.any()
    assert not (beyond & (mask | inside)).any()
    assert rows.min() >= top - REACH_PX
    assert columns.max() < left + width + REACH_PX


def strip(outer: tuple[float, float, float], line: tuple[float, float, float] = PAINT) -> LineStrip:
    """A line at the mask's border: asphalt on the right, where the mask is, `outer` on the left."""
    columns = SURFACE_GRID.columns_m
    light = np.empty((*SHAPE, 3), np.float32)
    light[:, columns < 0] = ASPHALT
    light[:, columns >= 0] = outer
    light[:, np.abs(columns) < 0.1] = line
    valid = np.broadcast_to(columns < -0.1, SHAPE).copy()
    return LineStrip(
        SURFACE_GRID, 10 + SURFACE_GRID.ahead_m, np.zeros((*SHAPE, 2)), np.zeros((*SHAPE, 2), np.float32), light,
        valid, ~valid,
    )  # fmt: skip


def columns_seen(seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where, metres to the left, most stations within reach say yes."""
    return SURFACE_GRID.columns_m[seen[SURFACE_GRID.ahead_m < 40].mean(axis=0) > 0.5]


@pytest.mark.parametrize(("outer", "reaches_m"), [(ASPHALT, 0.5), (GRASS, 0.1)])
def test_a_line_at_the_masks_border_is_reached_and_so_is_asphalt_behind_it_but_no_grass(
    outer: tuple[float, float, float], reaches_m: float
):
    found = columns_seen(look_beyond(strip(outer), 0, 0.12, EVERYWHERE).road)
    assert found.min() <= -0.07
    assert found.max() == pytest.approx(reaches_m, abs=0.08)


def test_a_dark_body_is_neither_road_nor_light_enough():
    seen = look_beyond(strip(BLACK, BLACK), 0, 0.12, EVERYWHERE)
    assert not columns_seen(seen.road).size
    assert not columns_seen(seen.light_enough).size


def test_nothing_is_reached_where_the_lines_course_was_not_measured():
    assert not look_beyond(strip(ASPHALT), 0, 0.12, (0.0, 0.0)).asked.any()


@pytest.mark.parametrize(("road_in", "reached"), [(7, True), (2, False)])
def test_frames_vote_and_one_that_differs_changes_nothing(road_in: int, reached: bool):
    votes = ReachVotes(1, 200.0)
    asked = np.broadcast_to(np.abs(SURFACE_GRID.columns_m) < 0.3, SHAPE)
    s = 10 + SURFACE_GRID.ahead_m
    for k in range(8):
        seen = Seen(asked, asked, asked & (k < road_in))
        votes.add([seen], (asked & (k < road_in))[None], s)
    for k, cells in enumerate(votes.reached([np.zeros((1, *SHAPE), np.bool_)] * 8)):
        assert cells[0][asked].all() == reached, k
        assert cells[0][asked].any() == reached, k


def test_cells_that_something_hides_now_are_not_reached_however_many_frames_saw_road_there():
    votes = ReachVotes(1, 200.0)
    asked = np.broadcast_to(np.abs(SURFACE_GRID.columns_m) < 0.3, SHAPE)
    strange = np.zeros((8, 1, *SHAPE), np.bool_)
    strange[5, 0, 40:60] = True
    for _ in range(8):
        votes.add([Seen(asked, asked, asked)], asked[None], 10 + SURFACE_GRID.ahead_m)
    for cells, odd in zip(votes.reached(list(strange)), strange, strict=True):
        assert not cells[odd].any()
        assert cells[0][asked & ~odd[0]].all()


@pytest.mark.parametrize("color", [(70, 74, 72), (215, 215, 212)])
def test_a_vehicle_that_stands_on_the_line_beyond_the_mask_is_left_alone(color: tuple[int, int, int]):
    road = FlatRoad()
    scene = road.scene(12)
    frames, masks = scene.frames.copy(), scene.paint_masks.copy()
    for k in range(12):
        masks[k] &= np.nan_to_num(on_road(scene, k, road)[1]) < 1.6
    s, d = on_road(scene, 8, road)
    here = 5.0 + road.speed_mps * float(scene.timestamps_us[8]) / 1e6
    vehicle = (s - here > 9) & (s - here < 13) & (d > 0.9) & (d < 2.8)
    frames[8][vehicle] = color
    masks[8] &= ~vehicle
    covered = vehicle & (np.abs(d - 1.75) < 0.3)
    scene = replace(scene, frames=frames, paint_masks=masks)
    video = edited(ProceduralPainter(KnownLines(road)), scene, YELLOW_DASHED)
    assert covered.sum() > 100
    changed = (video[8] != frames[8]).any(axis=2)
    assert changed[covered].mean() < 0.01
    assert changed[(s - here > 6) & (s - here < 8.5) & (np.abs(d - 1.75) < 0.1)].mean() > 0.9


def test_old_paint_beyond_a_mask_that_ends_inside_its_line_is_taken_away():
    road = FlatRoad()
    scene = road.scene(6)
    masks = scene.paint_masks.copy()
    for k in range(6):
        masks[k] &= np.nan_to_num(on_road(scene, k, road)[1]) < 1.78
    video = edited(ProceduralPainter(KnownLines(road)), replace(scene, paint_masks=masks), YELLOW_DASHED)
    s, d = on_road(scene, 3, road)
    here = 5.0 + road.speed_mps * float(scene.timestamps_us[3]) / 1e6
    old = (s - here > 5) & (s - here < 15) & (d > 1.79) & (d < 1.84) & (yellowness(video[3]) < 0.03)
    asphalt = (s - here > 5) & (s - here < 15) & (np.abs(d - 0.9) < 0.3)
    assert old.sum() > 50
    assert linear_frame(scene.frames[3])[old].mean() > 2 * linear_frame(scene.frames[3])[asphalt].mean()
    assert linear_frame(video[3])[old].mean() == pytest.approx(linear_frame(video[3])[asphalt].mean(), rel=0.15)
