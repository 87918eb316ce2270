"""Paint evidence: strokes answer, steps and shadows do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.paint_filter import EDGE_LINE_M, find_paint, linear_light, stroke_response
from lanepaint_assets_tests.unit.lanes.flat_road import YELLOW, PaintedLine
from lanepaint_assets_tests.unit.lanes.painted_strip import painted_strip

CELL_M = 0.05


def test_linear_light_runs_from_black_to_white() -> None:
    levels = linear_light(np.array([0.0, 10.0, 128.0, 255.0], np.float32))
    assert levels == pytest.approx([0.0, 10 / 255 / 12.92, 0.2159, 1.0], abs=1e-3)


@given(width=st.integers(2, 9), height=st.floats(0.1, 2.0), ground=st.floats(-3.0, 0.0))
def test_a_stroke_answers_with_its_height_at_its_middle(width: int, height: float, ground: float) -> None:
    row = np.full((1, 80), ground, np.float32)
    row[0, 40 : 40 + width] += height
    response = stroke_response(row, CELL_M)
    assert response[0, 40 + width // 2] >= 0.6 * height
    assert response.max() <= height + 1e-4
    assert np.abs(response[0, :25]).max() < 1e-5


@given(st.floats(-2.0, 2.0))
def test_a_step_answers_with_nothing(height: float) -> None:
    row = np.zeros((1, 80), np.float32)
    row[0, 40:] = height
    assert stroke_response(row, CELL_M).max() <= 1e-5


@pytest.mark.parametrize("color", [(0.62, 0.62, 0.60), YELLOW])
def test_evidence_lies_on_the_paint_alone(color: tuple[float, float, float]) -> None:
    strip = painted_strip(PaintedLine(1.0, color, dash_m=3.0, period_m=12.0))
    evidence = find_paint(strip).evidence
    x, y = np.meshgrid(strip.grid.x_m, strip.grid.y_m, indexing="ij")
    on_paint = (np.abs(y - 1.0) < 0.04) & (np.mod(x, 12.0) > 0.4) & (np.mod(x, 12.0) < 2.6)
    assert np.median(evidence[on_paint]) > 0.8
    assert evidence[np.abs(y - 1.0) > 0.3].mean() < 0.02


def test_an_edge_line_just_beyond_the_segmented_road_is_seen() -> None:
    strip = painted_strip(PaintedLine(0.0))
    road = np.broadcast_to(strip.grid.y_m[None, :] > 0.15, strip.on_road.shape)
    assert find_paint(replace(strip, on_road=road.copy())).evidence.max() > 0.8
    road = np.broadcast_to(strip.grid.y_m[None, :] > 2 * EDGE_LINE_M, strip.on_road.shape)
    assert find_paint(replace(strip, on_road=road.copy())).evidence[:, np.abs(strip.grid.y_m) < 0.1].max() == 0.0
