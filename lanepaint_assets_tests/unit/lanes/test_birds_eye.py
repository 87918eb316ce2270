"""Ground grids: axes as documented, and pictures sampled where the camera says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.lanes.birds_eye import GroundGrid, ground_map, pitched, planar_poses, sample_ground
from lanepaint_assets_tests.unit.lanes.flat_road import FlatRoad, PaintedLine, camera, drive, render

GRID = GroundGrid(6.0, 30.0, -4.0, 4.0, 0.05, 0.2)


def test_row_0_is_farthest_and_column_0_is_leftmost() -> None:
    assert GRID.shape == (120, 160)
    assert GRID.x_m[0] > GRID.x_m[-1]
    assert GRID.y_m[0] > GRID.y_m[-1]


@given(st.floats(6.2, 29.8), st.floats(-3.9, 3.9))
def test_rows_and_columns_are_the_inverse_of_the_cell_centres(x: float, y: float) -> None:
    row, column = GRID.rows_of(np.array([x]))[0], GRID.columns_of(np.array([y]))[0]
    assert np.interp(row, np.arange(120), GRID.x_m) == pytest.approx(x, abs=1e-9)
    assert np.interp(column, np.arange(160), GRID.y_m) == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize("fisheye", [False, True])
def test_the_map_agrees_with_the_camera_at_every_visible_cell(fisheye: bool) -> None:
    view = camera(960, 540, fisheye=fisheye)
    u, v, valid, ahead = ground_map(view, GRID, (0.4, -0.2, 0.03))
    x, y = np.meshgrid(GRID.x_m, GRID.y_m, indexing="ij")
    c, s = np.cos(0.03), np.sin(0.03)
    local = np.stack([c * (x - 0.4) + s * (y + 0.2), -s * (x - 0.4) + c * (y + 0.2), 0 * x], axis=-1).reshape(-1, 3)
    pixels, seen = view.project(local)
    both = valid.ravel() & seen
    assert both.mean() > 0.7
    assert np.abs(np.column_stack([u.ravel(), v.ravel()])[both] - pixels[both]).max() < 0.1
    assert ahead.ravel()[both] == pytest.approx(local[both, 0] - 1.7, abs=1e-3)


def test_a_line_painted_at_a_known_place_is_sampled_there() -> None:
    view, ego = camera(960, 540), drive(1, 10.0)
    frame = render(FlatRoad((PaintedLine(1.75),)), view, ego)[0]
    bev, seen = sample_ground(frame, view, GRID)
    rows = (GRID.x_m < 15.0) & seen.all(axis=1)
    brightest = GRID.y_m[bev[rows].sum(axis=2).argmax(axis=1)]
    assert rows.sum() > 20
    assert np.abs(brightest - 1.75).max() < 0.08


def test_a_picture_of_another_size_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="resized"):
        sample_ground(np.zeros((10, 10, 3), np.uint8), camera(), GRID)


@settings(max_examples=20)
@given(st.floats(-0.03, 0.03))
def test_pitching_down_moves_ground_points_up_in_the_picture(pitch: float) -> None:
    point = np.array([[15.0, 0.0, 0.0]])
    level = camera().project(point)[0][0, 1]
    dipped = pitched(camera(), pitch).project(point)[0][0, 1]
    assert np.sign(round(level - dipped, 9)) == np.sign(pitch) or abs(pitch) < 1e-9


def test_planar_poses_are_those_of_the_recorded_drive() -> None:
    ego = drive(11, 10.0, yaw_rate=0.1)
    poses = planar_poses(ego, ego.timestamps_us, int(ego.timestamps_us[5]))
    assert poses[5] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert poses[:, 2] == pytest.approx(0.1 * (np.arange(11) - 5) * 0.1, abs=1e-6)
    assert poses[10, 0] == pytest.approx(10.0 / 0.1 * np.sin(0.05), abs=1e-6)
