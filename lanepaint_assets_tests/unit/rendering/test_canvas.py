"""Layers, ribbons, dots and text on a video's planes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.clips.planes import Planes, new_frame
from lanepaint_assets.rendering import canvas, drawing

CYAN = (0, 229, 255)


def grey_picture(width: int, height: int, level: int = 128) -> Planes:
    picture = Planes.of(new_frame(width, height))
    for plane, value in zip(picture.all, canvas.plane_values((level, level, level)), strict=True):
        plane[:] = value
    return picture


def near(pixels: NDArray[np.uint8], color: tuple[int, int, int], tolerance: int = 8) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(pixels.astype(int) - color).max(axis=-1) <= tolerance
    return close


@given(color=st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_comes_back_from_its_plane_values(color: tuple[int, int, int]) -> None:
    picture = Planes.of(new_frame(4, 4))
    for plane, value in zip(picture.all, canvas.plane_values(color), strict=True):
        plane[:] = value
    assert near(picture.to_rgb(), color, 3).all()


def test_a_panel_lets_the_picture_through_and_its_text_does_not() -> None:
    builder = canvas.LayerBuilder(60, 30, opacity=0.5, color=(0, 0, 0))
    builder.picture[10:20, 10:20] = drawing.WHITE
    picture = grey_picture(80, 50, 200)
    builder.layer(6, 4).stamp(picture)
    shown = picture.to_rgb()
    assert near(shown[8, 8], (100, 100, 100), 3)
    assert near(shown[20, 20], drawing.WHITE, 3)
    assert near(shown[45, 75], (200, 200, 200), 2)


def test_a_line_added_to_a_layer_hides_what_lies_beneath_it_and_keeps_its_colour() -> None:
    layer = canvas.LineLayer.empty(4, 6, 40, 40)
    across = np.array([[0.0, 20.0], [39.0, 20.0]])
    layer.line(across, 6.0, (255, 51, 51))
    picture = grey_picture(60, 60)
    layer.stamp(picture)
    layer.line(across, 2.0, CYAN)
    layer.stamp(picture)
    shown = picture.to_rgb()
    # Two pixels wide, on chroma of half the size: mostly its own colour, none of the red.
    middle = shown[26, 24].astype(int)
    assert middle[2] - middle[0] > 60
    assert near(shown[50, 24], (128, 128, 128), 2)


def test_a_line_is_as_wide_as_told_and_has_a_dark_border() -> None:
    picture = grey_picture(100, 60)
    points = np.array([[10.0, 30.0], [90.0, 30.0]])
    canvas.draw_ribbon(picture, points, np.array([8.0, 8.0]), CYAN, outline_px=2.0)
    column = picture.to_rgb()[:, 50]
    core = np.flatnonzero(near(column, CYAN, 12))
    assert 6 <= len(core) <= 10
    assert column[core[0] - 2].max() < 110


@given(angle=st.floats(0, 2 * np.pi), width=st.floats(3, 12))
def test_a_line_has_its_width_in_any_direction(angle: float, width: float) -> None:
    picture = grey_picture(120, 120, 0)
    step = np.array([np.cos(angle), np.sin(angle)])
    canvas.draw_ribbon(picture, np.array([60 - 40 * step, 60 + 40 * step]), np.full(2, width), drawing.WHITE, 0)
    covered = (picture.y.astype(float) - 16).sum() / 219
    assert covered / 80 == pytest.approx(width, abs=1.5)


def test_a_line_thins_with_its_widths() -> None:
    picture = grey_picture(200, 60, 0)
    points = np.stack([np.linspace(10, 190, 40), np.full(40, 30.0)], axis=1)
    canvas.draw_ribbon(picture, points, np.linspace(12, 2, 40), drawing.WHITE, outline_px=0)
    thick, thin = (int((picture.y[:, x] > 128).sum()) for x in (30, 180))
    assert thick >= thin + 6


def test_a_line_of_one_point_or_of_crowded_points_is_harmless() -> None:
    picture = grey_picture(20, 20, 0)
    canvas.draw_ribbon(picture, np.array([[5.0, 5.0]]), np.array([3.0]), drawing.WHITE, 1.0)
    assert (picture.y == 16).all()
    canvas.draw_ribbon(picture, np.full((64, 2), 5.0), np.full(64, 3.0), drawing.WHITE, 1.0)


@given(text=st.text(max_size=12), x=st.integers(0, 31), y=st.integers(0, 31))
def test_text_lies_where_it_is_put_at_odd_places_too(text: str, x: int, y: int) -> None:
    picture = grey_picture(320, 64, 0)
    canvas.draw_text(picture, "I" + text.replace("\n", " "), x, y, 12, drawing.WHITE)
    rows, columns = np.nonzero(picture.y > 100)
    assert rows.min() >= y
    assert columns.min() >= x
    assert columns.min() <= x + 4


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.9, 1.1, 249.6, 250.0])
def test_layers_begin_and_end_between_chroma_samples(value: float) -> None:
    assert canvas.even(value) % 2 == 0
    assert abs(canvas.even(value) - value) <= 1
