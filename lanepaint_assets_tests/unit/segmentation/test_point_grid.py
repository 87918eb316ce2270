"""The seeds of the road."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.segmentation.point_grid import (
    SPEC_SEEDS,
    NormalizedPoint,
    PointGrid,
    grid_points,
    reference_point,
)


def test_the_six_points_of_the_specification_in_a_full_hd_frame() -> None:
    expected = [[960, 702], [672, 810], [1248, 810], [480, 864], [1440, 864], [960, 918]]
    assert grid_points(1920, 1080).tolist() == expected
    assert reference_point(1920, 1080) == (960, 918)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_points_lie_inside_frames_of_any_size(width: int, height: int) -> None:
    points = grid_points(width, height)
    assert points.shape == (len(SPEC_SEEDS), 2)
    assert (points >= 0).all()
    assert (points < np.array([width, height])).all()
    assert reference_point(width, height) == (width // 2, int(height * 0.85))


def test_other_points_can_be_chosen() -> None:
    grid = PointGrid(seeds=(NormalizedPoint(0.1, 0.9),), reference=NormalizedPoint(0.2, 0.9))
    assert grid_points(100, 100, grid).tolist() == [[10, 90]]
    assert reference_point(100, 100, grid) == (20, 90)


def test_points_outside_the_frame_and_empty_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1.0, 0.5\) lies outside"):
        PointGrid(seeds=(NormalizedPoint(1.0, 0.5),))
    with pytest.raises(ValueError, match="no seeds"):
        PointGrid(seeds=())
    with pytest.raises(ValueError, match="0x10 pixels"):
        grid_points(0, 10)
