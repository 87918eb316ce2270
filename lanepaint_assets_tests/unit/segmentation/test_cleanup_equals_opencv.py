"""The compiled clean-up gives OpenCV's result, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.segmentation.cleanup import (
    CleanedMasks,
    KernelSizes,
    clean_frame,
    clean_road_mask,
    paint_mask,
    road_component,
)
from lanepaint_assets.segmentation.point_grid import Point, reference_point
from lanepaint_assets_tests.unit.segmentation.mask_kinds import KINDS, Mask, masks, street
from lanepaint_assets_tests.unit.segmentation.opencv_cleanup import plain_clean_up, plain_component, plain_paint

KERNELS = st.builds(
    KernelSizes, st.sampled_from((1, 3, 5, 7, 11, 21)), st.sampled_from((1, 3, 9, 15)), st.integers(0, 3)
)
# Camera frames have these sizes, the tests' usual one of them not.
FRAME_SIZES = ((540, 960), (480, 721), (1080, 1920))


def assert_same(cleaned: CleanedMasks, expected: CleanedMasks) -> None:
    for name in ("road", "paint"):
        different = np.argwhere(getattr(cleaned, name) != getattr(expected, name))
        assert not len(different), f"{name} differs at {len(different)} pixels, first at {different[0]}"


@settings(max_examples=400, deadline=None)
@given(masks())
def test_small_masks_of_every_kind(mask: Mask) -> None:
    assert_same(clean_frame(mask), plain_clean_up(mask, reference_point(mask.shape[1], mask.shape[0])))


@settings(max_examples=200, deadline=None)
@given(masks(), KERNELS, st.floats(0, 0.999), st.floats(0, 0.999))
def test_other_kernels_and_reference_points(mask: Mask, kernel_px: KernelSizes, right: float, down: float) -> None:
    reference = Point(int(right * mask.shape[1]), int(down * mask.shape[0]))
    expected = plain_clean_up(mask, reference, kernel_px)
    assert np.array_equal(road_component(mask, reference, kernel_px), plain_component(mask, reference, kernel_px))
    assert np.array_equal(clean_road_mask(mask, reference, kernel_px), expected.road)


@settings(max_examples=100, deadline=None)
@given(masks(400))
def test_paint_of_any_two_masks(mask: Mask) -> None:
    unfilled, road = mask & np.roll(mask, 5, axis=1), mask | np.roll(mask, 20, axis=0)
    assert np.array_equal(paint_mask(unfilled, road), plain_paint(unfilled, road))


@pytest.mark.parametrize("size", FRAME_SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_frames(kind: object, size: tuple[int, int]) -> None:
    for seed in range(3):
        mask = kind(np.random.default_rng(seed), *size)  # type: ignore[operator]
        assert_same(clean_frame(mask), plain_clean_up(mask, reference_point(size[1], size[0])))


def test_streets_have_objects_so_that_the_paint_is_tested_too() -> None:
    cleaned = [clean_frame(street(np.random.default_rng(seed), 540, 960)) for seed in range(6)]
    assert sum((masks.road != masks.paint).any() for masks in cleaned) >= 3


def test_real_road_masks(real_data: Path) -> None:
    """CamVid's hand-drawn roads, markings and all; class 3 is road."""
    labels = sorted(real_data.glob("road_gt_camvid_*/labels/*.png"))
    if not labels:
        pytest.skip(f"{real_data} holds no CamVid labels")
    for path in labels:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 3
        for height, width in (mask.shape, (1080, 1920)):
            scaled = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
            assert_same(clean_frame(scaled), plain_clean_up(scaled, reference_point(width, height)))
