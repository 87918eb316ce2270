"""Bit masks: packing, ellipses and regions against NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.segmentation.bit_components import (
    clear_regions_with,
    count_regions,
    fill_holes,
    keep_region,
    wide_regions,
)
from lanepaint_assets.segmentation.bit_masks import Rows, pack_mask, pack_video, unpack_video, words_across
from lanepaint_assets.segmentation.bit_morphology import dilate, ellipse, erode
from lanepaint_assets_tests.unit.segmentation.mask_kinds import Mask, masks
from lanepaint_assets_tests.unit.segmentation.opencv_cleanup import plain_ellipse, plain_fill

Bits = NDArray[np.uint64]
DIAMETERS = st.sampled_from((1, 3, 5, 7, 9, 13, 27, 55, 129, 151))


def packed(mask: Mask) -> tuple[Bits, Rows]:
    # Rubbish first: whatever is not overwritten shows.
    bits = np.full((mask.shape[0], words_across(mask.shape[1])), 0xA5A5A5A5A5A5A5A5, dtype=np.uint64)
    return bits, pack_mask(mask, bits)


def unpacked(bits: Bits, width: int) -> Mask:
    return unpack_video(bits[None], width, workers=1)[0]


@settings(max_examples=150, deadline=None)
@given(masks())
def test_pixel_x_is_bit_x_of_its_row_and_nothing_is_set_beyond_the_frame(mask: Mask) -> None:
    bits, rows = packed(mask)
    by_numpy = np.packbits(mask, axis=1, bitorder="little")
    assert np.array_equal(bits.view(np.uint8)[:, : by_numpy.shape[1]], by_numpy)
    assert not bits.view(np.uint8)[:, by_numpy.shape[1] :].any()
    assert np.array_equal(unpacked(bits, mask.shape[1]), mask)
    filled = np.flatnonzero(mask.any(axis=1))
    assert tuple(rows) == ((filled[0], filled[-1] + 1) if filled.size else (0, 0))


def test_a_pixel_is_set_whatever_its_byte_is_as_long_as_it_is_not_zero() -> None:
    mask = np.array([[0, 1, 2, 128, 255, 0, 64, 127, 129]], dtype=np.uint8).view(np.bool_)
    assert packed(mask)[0].tolist() == [[0b111011110]]


def test_mirrored_and_sliced_masks_are_packed_as_they_look() -> None:
    mask = np.random.default_rng(3).random((40, 150)) < 0.5
    for view in (mask[:, ::-1], mask[::2, 3:90], mask.T):
        assert np.array_equal(unpacked(packed(view)[0], view.shape[1]), view)


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_a_video_is_packed_frame_by_frame(workers: int | None) -> None:
    video = np.random.default_rng(4).random((7, 20, 70)) < 0.3
    bits = pack_video(video, workers)
    assert np.array_equal(bits[5], packed(video[5])[0])
    assert np.array_equal(unpack_video(bits, 70, workers), video)


def test_every_odd_ellipse_is_a_stack_of_bars() -> None:
    for diameter in range(1, 200, 2):
        shape = ellipse(diameter)
        halves = shape.reaches[shape.levels]
        rows = [*halves[:0:-1], *halves]
        drawn = [[abs(x) <= half for x in range(-shape.radius, shape.radius + 1)] for half in rows]
        assert np.array_equal(drawn, plain_ellipse(diameter))
    with pytest.raises(ValueError, match="8 px"):
        ellipse(8)


@settings(max_examples=200, deadline=None)
@given(masks(), DIAMETERS)
def test_dilation_and_erosion_are_those_of_opencv(mask: Mask, diameter: int) -> None:
    height, width = mask.shape
    bits, rows = packed(mask)
    element, result = plain_ellipse(diameter), np.full_like(bits, 7)
    dilate(bits, result, width, Rows(0, height), ellipse(diameter))
    assert np.array_equal(unpacked(result, width), cv2.dilate(mask.astype(np.uint8), element) > 0)
    assert np.array_equal(packed(unpacked(result, width))[0], result)
    erode(bits, result, width, rows, ellipse(diameter))
    assert np.array_equal(unpacked(result, width), cv2.erode(mask.astype(np.uint8), element) > 0)
    assert np.array_equal(packed(unpacked(result, width))[0], result)


@pytest.mark.parametrize("inverted", [False, True])
def test_single_pixels_at_the_edges_of_frame_and_words_grow_whole(inverted: bool) -> None:
    for diameter in range(1, 150, 2):
        mask = np.zeros((31, 150), dtype=np.bool_)
        mask[[0, 30, 15, 8, 22, 3], [0, 149, 1, 63, 64, 148]] = True
        bits, _ = packed(mask ^ inverted)
        result = np.empty_like(bits)
        (erode if inverted else dilate)(bits, result, 150, Rows(0, 31), ellipse(diameter))
        grown = cv2.dilate(mask.astype(np.uint8), plain_ellipse(diameter)) > 0
        assert np.array_equal(unpacked(result, 150) ^ inverted, grown), diameter


def test_rows_that_are_not_asked_for_are_cleared() -> None:
    bits, _ = packed(np.ones((30, 70), dtype=np.bool_))
    result = bits.copy()
    dilate(bits, result, 70, Rows(10, 12), ellipse(5))
    assert np.flatnonzero(result.any(axis=1)).tolist() == [10, 11]


@settings(max_examples=150, deadline=None)
@given(masks(), st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_region_at_a_pixel_is_kept_or_the_largest(mask: Mask, right: float, down: float) -> None:
    height, width = mask.shape
    x, y = int(right * width), int(down * height)
    bits, rows = packed(mask)
    result = np.full_like(bits, 7)
    kept_rows = keep_region(bits, result, width, rows, x, y)
    kept = unpacked(result, width)
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel())[1:]
    if not mask.any():
        assert not kept.any()
        return
    assert np.array_equal(kept, labels == labels[kept][0])
    if mask[y, x]:
        assert kept[y, x]
    else:
        assert kept.sum() == areas.max()
        equals = np.flatnonzero(areas == areas.max()) + 1
        assert np.argmax(kept) == np.argmax(np.isin(labels, equals))
    covered = np.flatnonzero(kept.any(axis=1))
    assert tuple(kept_rows) == (covered[0], covered[-1] + 1)


@settings(max_examples=150, deadline=None)
@given(masks())
def test_holes_are_what_a_flood_from_outside_does_not_reach(mask: Mask) -> None:
    bits, rows = packed(mask)
    fill_holes(bits, mask.shape[1], rows)
    assert np.array_equal(unpacked(bits, mask.shape[1]), plain_fill(mask))
    assert np.array_equal(packed(unpacked(bits, mask.shape[1]))[0], bits)


@settings(max_examples=100, deadline=None)
@given(masks())
def test_regions_are_counted_as_opencv_does(mask: Mask) -> None:
    count = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert count_regions(packed(mask)[0], mask.shape[1]) == count


@settings(max_examples=150, deadline=None)
@given(masks(), st.integers(1, 12), st.integers(0, 99))
def test_marked_regions_of_the_wide_ones_are_cleared_and_nothing_else(mask: Mask, least_px: int, seed: int) -> None:
    bits, rows = packed(mask)
    marks = np.random.default_rng(seed).random(mask.shape) < 0.01
    regions, wide, wide_rows = wide_regions(bits, mask.shape[1], rows, least_px)
    target = bits.copy()
    clear_regions_with(packed(marks)[0], regions, wide, rows, target)

    expected, covered = mask.copy(), np.zeros(len(mask), dtype=np.bool_)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    for label in range(1, count):
        region = labels == label
        edges = np.diff(np.pad(region, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        longest = (np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]).max()
        if longest >= least_px and np.count_nonzero(region.any(axis=1)) >= least_px:
            covered |= region.any(axis=1)
            if (region & marks).any():
                expected &= ~region
    assert np.array_equal(unpacked(target, mask.shape[1]), expected)
    filled = np.flatnonzero(covered)
    if filled.size:
        assert tuple(wide_rows) == (filled[0], filled[-1] + 1)
    else:
        assert wide_rows.first == wide_rows.last
