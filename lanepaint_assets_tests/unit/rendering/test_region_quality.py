"""Likeness inside and outside the edit region, against values that follow from the pictures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.rendering.region_quality import (
    PICTURE_FRAMES,
    RegionQuality,
    raw_quality,
    region_quality,
    spread_frames,
)

SHARP = MaskEdges(dilation_px=0, feather_px=0.0)
SHAPE = (4, 48, 64)


def textured(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(20, 230, (*SHAPE, 3)).astype(np.uint8)


def lower_half() -> NDArray[np.bool_]:
    masks = np.zeros(SHAPE, dtype=np.bool_)
    masks[:, 24:] = True
    return masks


def both(inside: RegionQuality | None, outside: RegionQuality | None) -> tuple[RegionQuality, RegionQuality]:
    assert inside is not None
    assert outside is not None
    return inside, outside


def test_a_video_is_identical_to_itself() -> None:
    video = textured()
    pair = region_quality(video, video.copy(), lower_half(), SHARP)
    for side in both(pair.inside, pair.outside):
        assert side.identical
        assert side.psnr_db is None
        assert side.ssim == pytest.approx(1.0)
        assert side.lpips is None
    assert pair.reason is None


@pytest.mark.parametrize("levels", [1, 3, 10])
def test_noise_of_known_size_inside_gives_its_psnr_there_and_nothing_outside(levels: int) -> None:
    video, edited = textured(), textured()
    edited[:, 24:] += np.uint8(levels)
    pair = region_quality(video, edited, lower_half(), SHARP)
    inside, outside = both(pair.inside, pair.outside)
    assert inside.psnr_db == pytest.approx(20 * np.log10(255 / levels))
    assert outside.identical
    assert outside.ssim == pytest.approx(1.0)


def test_where_the_region_is_the_whole_picture_the_libraries_own_measures_come_out() -> None:
    video, edited = textured(1)[:1], textured(1)[:1]
    edited[0, 10:30, 10:50] //= 2
    pair = region_quality(video, edited, np.ones((1, 48, 64), dtype=np.bool_), SHARP)
    assert pair.inside is not None
    assert pair.inside.psnr_db == pytest.approx(peak_signal_noise_ratio(video[0], edited[0]))
    _, values = structural_similarity(
        video[0],
        edited[0],
        data_range=255,
        channel_axis=2,
        full=True,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    # The library's mean leaves out five pixels along the picture's edge; a region has its own border.
    assert pair.inside.ssim == pytest.approx(values.mean(), abs=1e-6)


def test_a_change_beside_the_regions_border_does_not_reach_the_other_sides_structure() -> None:
    video, edited = textured(), textured()
    edited[:, 24:26] = 255
    pair = region_quality(video, edited, lower_half(), SHARP)
    inside, outside = both(pair.inside, pair.outside)
    assert outside.ssim == pytest.approx(1.0)
    assert outside.identical
    assert not inside.identical


def test_the_region_is_the_grown_and_feathered_mask() -> None:
    video, edited = textured(), textured()
    edited[:, 24 - 8] += np.uint8(5)
    masks, edges = lower_half(), MaskEdges(dilation_px=4, feather_px=2.0)
    pair = region_quality(video, edited, masks, edges)
    inside, outside = both(pair.inside, pair.outside)
    assert not inside.identical
    assert outside.identical
    pair = region_quality(video, edited, masks, MaskEdges(dilation_px=2, feather_px=1.0))
    inside, outside = both(pair.inside, pair.outside)
    assert inside.identical
    assert not outside.identical


def test_an_empty_mask_has_no_inside_and_says_so() -> None:
    pair = region_quality(textured(), textured(1), np.zeros(SHAPE, dtype=np.bool_), SHARP)
    assert pair.inside is None
    assert pair.outside is not None
    assert pair.reason is not None
    assert "mask is empty" in pair.reason


def test_a_mask_that_covers_all_has_no_outside_and_says_so() -> None:
    pair = region_quality(textured(), textured(1), np.ones(SHAPE, dtype=np.bool_), SHARP)
    assert pair.outside is None
    assert pair.inside is not None
    assert pair.reason is not None
    assert "covers every frame" in pair.reason


def test_a_region_narrower_than_a_window_has_no_structure_but_a_psnr() -> None:
    masks = np.zeros(SHAPE, dtype=np.bool_)
    masks[:, 20:24] = True
    pair = region_quality(textured(), textured(1), masks, SHARP)
    assert pair.inside is not None
    assert pair.inside.ssim is None
    assert pair.inside.psnr_db is not None


def test_lpips_is_averaged_over_each_side() -> None:
    def distance(original: NDArray[np.uint8], edited: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = np.full(original.shape[:2], 0.1, dtype=np.float32)
        values[24:] = 0.7
        return values

    pair = region_quality(textured(), textured(), lower_half(), SHARP, distance)
    inside, outside = both(pair.inside, pair.outside)
    assert inside.lpips == pytest.approx(0.7)
    assert outside.lpips == pytest.approx(0.1)


def test_videos_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="the original is"):
        region_quality(textured(), textured()[:3], lower_half(), SHARP)


def test_a_painter_that_keeps_to_its_region_has_no_raw_quality_and_that_is_said() -> None:
    video, painted = textured(), textured()
    painted[:, 30:] = 200
    raw = raw_quality(video, painted, lower_half(), SHARP)
    assert raw.inside is None
    assert raw.outside is None
    assert raw.reason == "the painter changed nothing outside its region"


def test_what_a_painter_changes_outside_is_measured_before_it_is_pasted_over() -> None:
    video, painted = textured(), textured()
    painted += np.uint8(2)
    raw = raw_quality(video, painted, lower_half(), SHARP)
    inside, outside = both(raw.inside, raw.outside)
    assert raw.reason is None
    assert outside.psnr_db == pytest.approx(20 * np.log10(255 / 2))
    assert inside.psnr_db == pytest.approx(20 * np.log10(255 / 2))


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 300), most=st.integers(2, 40))
def test_chosen_frames_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    chosen = spread_frames(count, most)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1
    assert len(chosen) == min(count, most)
    steps = np.diff(chosen)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


def test_no_frames_are_chosen_of_none() -> None:
    assert spread_frames(0, PICTURE_FRAMES) == []
