"""Pictures without a road are refused with a reason; roads in odd light are not."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.lanes.measured import MeasuredLaneInspector
from lanepaint_assets.lanes.paint_filter import linear_light
from lanepaint_assets.lanes.readability import unreadable_reason
from lanepaint_assets_tests.unit.lanes.flat_road import FlatRoad, PaintedLine, camera, drive, render

Picture = NDArray[np.uint8]
SIZE = (360, 640)


@cache
def _road() -> Picture:
    frames = render(FlatRoad((PaintedLine(1.75), PaintedLine(-1.75))), camera(), drive(1, 10.0))
    return np.asarray(frames[0], dtype=np.uint8)


def _graded(top: tuple[int, int, int], bottom: tuple[int, int, int], noise: float, seed: int = 0) -> Picture:
    """A picture that changes from top to bottom, with sensor noise."""
    share = np.linspace(0.0, 1.0, SIZE[0])[:, None, None]
    colors = np.asarray(top) * (1 - share) + np.asarray(bottom) * share + np.zeros((1, SIZE[1], 1))
    noisy = colors + np.random.default_rng(seed).normal(0.0, noise, colors.shape)
    return np.asarray(noisy.clip(0, 255), dtype=np.uint8)


def _foliage() -> Picture:
    leaves = np.random.default_rng(1).uniform(0.0, 1.0, (60, 107, 1)) ** 2 * np.array([150, 190, 120]) + 12
    return np.asarray(cv2.resize(leaves, SIZE[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _night() -> Picture:
    dim = linear_light(_road().astype(np.float32)) * 0.004
    return np.asarray((dim * 255 * 12.92 + np.random.default_rng(2).normal(2, 3, dim.shape)).clip(0, 255), np.uint8)


NO_ROADS = {
    "black": (np.zeros((*SIZE, 3), np.uint8), "one colour"),
    "one colour": (np.full((*SIZE, 3), (90, 140, 220), np.uint8), "one colour"),
    "blue sky": (_graded((110, 155, 210), (150, 185, 230), 1.5), "sky"),
    "clouded sky": (_graded((190, 195, 200), (215, 218, 220), 1.5), "sky"),
    "night noise": (_graded((4, 4, 4), (5, 5, 5), 6.0), "dark"),
    "foliage": (_foliage(), "foliage"),
}


@pytest.mark.parametrize("name", NO_ROADS)
def test_a_picture_without_a_road_gets_no_lines_no_confidence_and_the_reason(name: str) -> None:
    picture, words = NO_ROADS[name]
    for view in (
        RoadView(picture[None], np.zeros(1, np.int64), 0),
        RoadView(picture[None], np.zeros(1, np.int64), 0, camera=camera()),
    ):
        inspection = MeasuredLaneInspector().inspect(view)
        assert inspection.lines == ()
        assert inspection.confidence == 0.0
        assert inspection.reason is not None
        assert words in inspection.reason


@pytest.mark.parametrize("half_turn", [False, True])
def test_a_road_upside_down_is_named_so(half_turn: bool) -> None:
    picture = np.rot90(_road(), 2) if half_turn else np.flipud(_road())
    reason = unreadable_reason(np.ascontiguousarray(picture), camera())
    assert reason is not None
    assert "upside down" in reason


def test_a_road_at_night_is_too_dark() -> None:
    reason = unreadable_reason(_night(), camera())
    assert reason is not None
    assert "dark" in reason


@pytest.mark.parametrize(
    "light",
    [
        pytest.param((1.0, 1.0, 1.0), id="as it is"),
        pytest.param((0.1, 0.1, 0.1), id="dusk"),
        pytest.param((0.75, 1.0, 1.3), id="open shade"),
        pytest.param((1.3, 1.0, 0.7), id="low sun"),
        pytest.param((3.5, 3.5, 3.4), id="concrete"),
    ],
)
def test_a_road_is_read_in_every_light(light: tuple[float, float, float]) -> None:
    linear = linear_light(_road().astype(np.float32)) * np.asarray(light)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.clip(linear, 1e-6, 1.0) ** (1 / 2.4) - 0.055)
    picture = (srgb * 255).round().clip(0, 255).astype(np.uint8)
    assert unreadable_reason(picture, camera()) is None


def test_a_road_under_dark_trees_is_read() -> None:
    picture = _road().copy()
    picture[: SIZE[0] // 2 - 20] //= 8
    assert unreadable_reason(picture, camera()) is None


def test_a_camera_that_looks_past_the_road_is_named_so() -> None:
    view = camera()
    away = type(view)(view.lens, -view.rotation, view.position_m, view.quality)
    reason = unreadable_reason(_road(), away)
    assert reason is not None
    assert "does not see" in reason
