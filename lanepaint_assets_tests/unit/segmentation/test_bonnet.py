"""The vehicle's own bonnet: found where it never moves, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.segmentation.bonnet import MIN_FRAMES, bonnet_rows

HEIGHT, WIDTH = 180, 320


def drive(count: int, bonnet: NDArray[np.int64] | None, contrast: float = 0.8) -> list[NDArray[np.float32]]:
    """Log brightness of asphalt that runs towards the camera, with lane lines, and a bonnet from the given rows on."""
    random = np.random.default_rng(5)
    asphalt = random.normal(4.5, 0.08, (HEIGHT * 3, WIDTH)).astype(np.float32)
    frames = []
    for k in range(count):
        frame = asphalt[7 * k : 7 * k + HEIGHT].copy()
        for y in range(90, HEIGHT):
            for side in (-1, 1):
                x = round(WIDTH / 2 + side * (y - 90) * 1.2)
                frame[y, max(0, x - 2) : max(0, x + 2)] = 5.4
        if bonnet is not None:
            frame[np.arange(HEIGHT)[:, None] >= bonnet[None]] = 4.5 - contrast
        frames.append(frame)
    return frames


@given(st.integers(140, 170), st.floats(0.0, 0.0006))
def test_a_curved_bonnet_is_found_within_two_rows(top: int, curvature: float) -> None:
    rows = np.minimum(top + curvature * (np.arange(WIDTH) - WIDTH / 2) ** 2, 172).astype(np.int64)
    found = bonnet_rows(drive(12, rows))
    assert found is not None
    assert np.abs(found - rows).max() <= 2


def test_a_bright_bonnet_is_found_too() -> None:
    found = bonnet_rows(drive(12, np.full(WIDTH, 160), contrast=-0.6))
    assert found is not None
    assert np.abs(found - 160).max() <= 3  # where a lane line meets it


@pytest.mark.parametrize("count", [MIN_FRAMES, 12])
def test_a_road_with_lane_lines_has_no_bonnet(count: int) -> None:
    assert bonnet_rows(drive(count, None)) is None


def test_too_few_frames_tell_nothing() -> None:
    assert bonnet_rows(drive(MIN_FRAMES - 1, np.full(WIDTH, 160))) is None


def test_an_edge_over_half_of_the_picture_is_no_bonnet() -> None:
    rows = np.where(np.arange(WIDTH) < WIDTH // 2, 160, HEIGHT)
    assert bonnet_rows(drive(12, rows)) is None
