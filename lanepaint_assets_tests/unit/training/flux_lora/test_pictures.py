"""Samples in the size of the training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.store.items import StepError
from lanepaint_assets.training.flux_lora.pictures import training_view

UNGROWN = MaskEdges(dilation_px=0)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(40, 160),
    height=st.integers(40, 160),
    left=st.floats(0.0, 0.8),
    top=st.floats(0.0, 0.8),
    wide=st.sampled_from([32, 64, 96]),
    high=st.sampled_from([32, 64]),
)
def test_geometry_is_kept_and_the_road_stays_in_view(
    width: int, height: int, left: float, top: float, wide: int, high: int
) -> None:
    rows, columns = np.mgrid[:height, :width]
    # Each pixel says where it was.
    picture = np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    mask = (columns >= left * width) & (columns < (left + 0.2) * width)
    mask &= (rows >= top * height) & (rows < (top + 0.2) * height)
    shown, painted = training_view(picture, mask, wide, high, UNGROWN, "s")
    assert shown.shape == (high, wide, 3)
    assert painted.shape == (high, wide)
    scale = max(wide / width, high / height)
    inner = shown[4:-4, 4:-4].astype(float)
    across = np.polyfit(np.arange(inner.shape[1]), inner[:, :, 0].mean(axis=0), 1)[0]
    down = np.polyfit(np.arange(inner.shape[0]), inner[:, :, 1].mean(axis=1), 1)[0]
    # Rounding the scaled size to whole pixels, and 8-bit values, move the slopes by a few percent.
    assert across == pytest.approx(1 / scale, rel=0.08, abs=0.05)
    assert down == pytest.approx(1 / scale, rel=0.08, abs=0.05)
    assert painted.any()
    # What is painted was road.
    where = shown[painted][:, :2].astype(int)
    assert mask[np.clip(where[:, 1], 0, height - 1), np.clip(where[:, 0], 0, width - 1)].mean() > 0.5


def test_a_sample_of_the_right_size_is_left_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    mask = np.zeros((64, 96), dtype=np.bool_)
    mask[40:, 20:60] = True
    shown, painted = training_view(picture, mask, 96, 64, UNGROWN, "s")
    assert np.array_equal(shown, picture)
    assert np.array_equal(painted, mask)


def test_the_mask_grows_by_pixels_of_the_picture_that_the_network_is_shown() -> None:
    mask = np.zeros((200, 300), dtype=np.bool_)
    mask[100:140, 100:200] = True
    _, painted = training_view(np.zeros((200, 300, 3), np.uint8), mask, 150, 100, MaskEdges(dilation_px=6), "s")
    rows, columns = np.nonzero(painted)
    assert (rows.min(), rows.max()) == (50 - 6, 69 + 6)
    assert (columns.min(), columns.max()) == (50 - 6, 99 + 6)


def test_a_road_narrower_than_a_pixel_of_the_training_is_not_lost() -> None:
    mask = np.zeros((400, 400), dtype=np.bool_)
    mask[300, 200] = True
    _, painted = training_view(np.zeros((400, 400, 3), np.uint8), mask, 64, 64, UNGROWN, "s")
    assert painted.sum() == 1


def test_a_sample_without_road_or_with_a_mask_of_another_size_is_refused_by_name() -> None:
    picture, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.bool_)
    with pytest.raises(StepError, match="sample a/b: its mask is empty"):
        training_view(picture, mask, 64, 64, UNGROWN, "a/b")
    with pytest.raises(StepError, match="sample a/b: its mask is"):
        training_view(picture, mask[:32], 64, 64, UNGROWN, "a/b")
