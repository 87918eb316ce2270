"""The clean-up of road masks: one region, no holes, and the objects that stay out of the paint."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lanepaint_assets.segmentation.cleanup import (
    CleanedMasks,
    KernelSizes,
    clean_frame,
    clean_road_mask,
    clean_video_masks,
    count_objects,
    paint_mask,
    road_component,
)
from lanepaint_assets.segmentation.point_grid import Point, reference_point

Mask = NDArray[np.bool_]


def blobs(seed: int, height: int = 72, width: int = 96, coarseness: int = 9) -> Mask:
    """Random patches of about the size of the kernels, so that every stage has something to do."""
    noise = np.random.default_rng(seed).random((height // coarseness + 1, width // coarseness + 1))
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5)


def road(height: int = 180, width: int = 320) -> Mask:
    """A straight road seen from a car."""
    mask = np.zeros((height, width), dtype=np.uint8)
    corners = np.array([[width * 0.45, height * 0.5], [width * 0.55, height * 0.5], [width, height], [0, height]])
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return mask > 0


def padded_holes(mask: Mask) -> int:
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    return int(cv2.connectedComponents(outside, connectivity=4)[0]) - 2


masks = st.one_of(
    st.integers(0, 10_000).map(blobs),
    arrays(np.bool_, (40, 56), elements=st.booleans()),
)


@settings(max_examples=60, deadline=None)
@given(masks)
@example(blobs(559))  # closing leaves a speck beside the region
def test_the_result_is_one_region_without_holes_but_for_specks_of_the_closing(mask: Mask) -> None:
    reference = reference_point(mask.shape[1], mask.shape[0])
    component, cleaned = road_component(mask, reference), clean_road_mask(mask, reference)
    assert cleaned.any() == component.any()
    assert padded_holes(cleaned) == 0
    _, regions = cv2.connectedComponents(cleaned.astype(np.uint8))
    specks = cleaned & (regions != np.max(regions[component], initial=0))
    assert not (specks & component).any()
    # Twice 9 px across: what the closing adds lies within 8 px of what it closed.
    reach = cv2.dilate(component.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert not (specks & ~reach).any()


@settings(max_examples=60, deadline=None)
@given(masks)
def test_the_component_under_the_reference_is_kept_whole(mask: Mask) -> None:
    reference = reference_point(mask.shape[1], mask.shape[0])
    component = road_component(mask, reference)
    cleaned = clean_road_mask(mask, reference)
    assert not (component & ~cleaned).any()
    opened = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    )
    if opened[reference.y, reference.x]:
        assert cleaned[reference.y, reference.x]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000).map(lambda seed: blobs(seed, 71, 95)))
def test_a_mirrored_mask_is_cleaned_to_the_mirrored_road(mask: Mask) -> None:
    # Odd sizes keep the reference in the middle column; it must lie on road, since ties go to the first label.
    mask[55:65, 42:53] = True
    reference = reference_point(95, 71)
    mirrored = clean_road_mask(mask[:, ::-1], reference)
    assert np.array_equal(mirrored[:, ::-1], clean_road_mask(mask, reference))


@pytest.mark.parametrize("clean", [road(), np.ones((60, 80), dtype=np.bool_), np.zeros((60, 80), dtype=np.bool_)])
def test_cleaning_a_clean_mask_changes_nothing_but_sharp_corners(clean: Mask) -> None:
    reference = reference_point(clean.shape[1], clean.shape[0])
    once = clean_road_mask(clean, reference)
    assert np.array_equal(clean_road_mask(once, reference), once)
    assert np.count_nonzero(once ^ clean) <= 0.005 * clean.size


def test_a_road_over_the_upper_left_pixel_does_not_fill_the_frame() -> None:
    mask = road()
    mask[:, :20] = True
    mask[:20] = True
    cleaned = clean_road_mask(mask, reference_point(320, 180))
    assert cleaned[0, 0]
    assert not cleaned[100, 30:60].any()
    assert cleaned.mean() < 0.6


def test_an_inlet_at_the_lower_edge_is_no_hole() -> None:
    mask = road()
    mask[150:, 130:190] = False
    assert not clean_road_mask(mask, Point(60, 170))[170, 160]


def test_islands_specks_and_thin_bridges_are_dropped() -> None:
    mask = road()
    mask[20:50, 20:80] = True
    mask[50:140, 40:43] = True
    cleaned = clean_road_mask(mask, reference_point(320, 180))
    assert not cleaned[:60].any()


def test_without_road_at_the_reference_the_largest_component_is_kept_and_ties_go_to_the_first() -> None:
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[10:30, 10:30] = True
    mask[10:30, 60:80] = True
    cleaned = clean_road_mask(mask, Point(50, 85))
    assert cleaned[20, 20]
    assert not cleaned[20, 70]
    mask[10:35, 60:80] = True
    assert clean_road_mask(mask, Point(50, 85))[20, 70]


def test_a_mask_that_the_opening_erases_gives_an_empty_mask() -> None:
    mask = np.zeros((60, 80), dtype=np.bool_)
    mask[::4, ::4] = True
    assert not clean_road_mask(mask, Point(40, 51)).any()


def test_wrong_shapes_references_and_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        clean_road_mask(np.zeros((2, 4, 4), dtype=np.bool_), Point(0, 0))
    with pytest.raises(ValueError, match=r"reference point \(4, 0\) lies outside the 4x4 mask"):
        clean_road_mask(np.zeros((4, 4), dtype=np.bool_), Point(4, 0))
    with pytest.raises(ValueError, match="odd number"):
        KernelSizes(open_px=4)
    with pytest.raises(ValueError, match=r"\(frames, height, width\)"):
        clean_video_masks(np.zeros((4, 4), dtype=np.bool_))


def with_vehicle_and_marking() -> Mask:
    mask = road(540, 960)
    mask[400:440, 500:550] = False
    mask[480:488, 300:600] = False
    return mask


def test_an_enclosed_vehicle_stays_out_of_the_paint_and_a_marking_does_not() -> None:
    cleaned = clean_frame(with_vehicle_and_marking())
    assert cleaned.road[420, 525]
    assert not cleaned.paint[400:440, 500:550].any()
    assert cleaned.paint[480:488, 300:600].all()
    assert count_objects(cleaned) == 1


def test_a_distant_vehicle_that_the_closing_would_shut_stays_out_of_the_paint() -> None:
    mask = road(540, 960)
    mask[350:366, 480:496] = False
    cleaned = clean_frame(mask)
    assert cleaned.road[350:366, 480:496].all()
    assert not cleaned.paint[350:366, 480:496].any()


def test_fill_all_holes_paints_objects_too() -> None:
    cleaned = clean_frame(with_vehicle_and_marking(), fill_all_holes=True)
    assert np.array_equal(cleaned.road, cleaned.paint)


@settings(max_examples=40, deadline=None)
@given(masks)
def test_paint_lies_inside_the_road_and_misses_only_what_the_engine_missed(mask: Mask) -> None:
    cleaned = clean_frame(mask)
    assert not (cleaned.paint & ~cleaned.road).any()
    component = road_component(mask, reference_point(mask.shape[1], mask.shape[0]))
    assert not (component & ~cleaned.paint).any()


def test_masks_of_different_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        paint_mask(np.zeros((4, 4), dtype=np.bool_), np.zeros((4, 5), dtype=np.bool_))


def test_a_video_is_cleaned_frame_by_frame_with_any_number_of_threads() -> None:
    raw = np.stack([blobs(seed) for seed in range(5)])
    one = clean_video_masks(raw, workers=1)
    many = clean_video_masks(raw, workers=4)
    for index in range(5):
        frame = clean_frame(raw[index])
        for video in (one, many):
            assert np.array_equal(video.road[index], frame.road)
            assert np.array_equal(video.paint[index], frame.paint)
    assert clean_video_masks(raw[:0]).road.shape == (0, 72, 96)


def test_objects_are_counted_by_region() -> None:
    whole = np.ones((20, 20), dtype=np.bool_)
    paint = whole.copy()
    paint[2:5, 2:5] = False
    paint[10:15, 10:15] = False
    assert count_objects(CleanedMasks(whole, paint)) == 2
    assert count_objects(CleanedMasks(whole, whole)) == 0
