from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.editing.compositing import composite, composite_video
from lanepaint_assets.rendering.mask_edges import SPEC_EDGES, MaskEdges, model_mask, soften_mask


def square(side: int = 160, first: int = 60, last: int = 100) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[first:last, first:last] = True
    return mask


def test_the_defaults_are_those_of_the_specification():
    assert (SPEC_EDGES.dilation_px, SPEC_EDGES.feather_px) == (24, 8.0)


def test_alpha_is_one_on_the_mask_half_at_the_dilation_and_zero_beyond_the_reach():
    alpha = soften_mask(square())
    assert (alpha[square()] == 1.0).all()
    assert alpha[80, 99 + 24] == pytest.approx(0.5, abs=0.06)
    assert (alpha[80, 100 + SPEC_EDGES.reach_px :] == 0.0).all()


def test_no_dilation_and_no_feather_give_the_mask_itself():
    assert np.array_equal(soften_mask(square(), MaskEdges(0, 0.0)), square().astype(np.float32))


def test_growth_does_not_reach_objects_that_are_kept_out():
    keep_out = np.zeros((160, 160), dtype=np.bool_)
    keep_out[70:90, 101:110] = True
    assert (soften_mask(square(), keep_out=keep_out)[keep_out] == 0.0).all()


def test_an_empty_mask_stays_empty():
    assert not soften_mask(np.zeros((40, 50), dtype=np.bool_)).any()


def test_negative_edges_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        MaskEdges(-1, 0.0)
    with pytest.raises(ValueError, match="two dimensions"):
        soften_mask(np.zeros((2, 3, 4), dtype=np.bool_))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 2**31))
def test_a_model_is_shown_the_mask_grown_by_exactly_the_dilation(dilation: int, seed: int):
    mask = np.random.default_rng(seed).random((48, 64)) > 0.995
    shown = model_mask(mask, MaskEdges(dilation, 3.0))
    assert shown.dtype == np.bool_
    expected = np.zeros_like(mask)
    gy, gx = np.mgrid[:48, :64]
    for y, x in zip(*np.nonzero(mask), strict=True):
        expected |= (gy - y) ** 2 + (gx - x) ** 2 <= dilation**2
    assert np.array_equal(shown, expected)


def test_a_model_mask_of_nothing_is_nothing_and_of_all_is_all():
    assert not model_mask(np.zeros((40, 50), dtype=np.bool_)).any()
    assert model_mask(np.ones((40, 50), dtype=np.bool_)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.floats(0, 4), st.integers(0, 2**31))
def test_alpha_stays_between_nothing_and_everything_and_within_its_reach(dilation: int, feather: float, seed: int):
    mask = np.random.default_rng(seed).random((48, 64)) > 0.995
    edges = MaskEdges(dilation, feather)
    alpha = soften_mask(mask, edges)
    assert alpha.dtype == np.float32
    assert (alpha >= 0).all()
    assert (alpha <= 1).all()
    if mask.any():
        y, x = np.nonzero(mask)
        gy, gx = np.mgrid[:48, :64]
        distance = np.sqrt(((gy[..., None] - y) ** 2 + (gx[..., None] - x) ** 2).min(axis=2))
        assert (alpha[distance > np.sqrt(2) * edges.reach_px + 1] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_a_composite_is_the_source_at_alpha_0_the_paint_at_alpha_1_and_between_elsewhere(seed: int):
    rng = np.random.default_rng(seed)
    source, painted = rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    alpha = rng.choice(np.array([0.0, 0.3, 1.0], np.float32), (20, 30))
    result = composite(source, painted, alpha)
    assert np.array_equal(result[alpha == 0], source[alpha == 0])
    assert np.array_equal(result[alpha == 1], painted[alpha == 1])
    assert (result >= np.minimum(source, painted)).all()
    assert (result <= np.maximum(source, painted)).all()
    assert np.array_equal(composite(source, source, alpha), source)


def test_a_composited_video_is_bit_identical_outside_the_grown_mask():
    rng = np.random.default_rng(1)
    frames, painted = rng.integers(0, 256, (2, 3, 160, 160, 3), dtype=np.uint8)
    masks = np.stack([square(), np.zeros((160, 160), np.bool_), square(first=10, last=30)])
    result = composite_video(frames, painted, masks)
    for k in range(3):
        outside = soften_mask(masks[k]) == 0
        assert np.array_equal(result[k][outside], frames[k][outside])
        assert np.array_equal(result[k][masks[k]], painted[k][masks[k]])


def test_a_painters_result_of_another_size_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="resize it first"):
        composite(np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4), np.float32))
