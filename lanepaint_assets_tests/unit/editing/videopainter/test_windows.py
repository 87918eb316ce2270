"""Windows: every frame of any clip is painted, on the latent grid, and seams are joined without a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.editing.videopainter.windows import plan_windows

clips = st.integers(1, 400)
grids = st.tuples(st.integers(1, 13), st.integers(1, 13)).map(lambda ab: (4 * max(ab) + 1, 4 * min(ab)))


@given(frames=clips, grid=grids)
def test_every_frame_is_in_a_window_and_none_is_far_beyond_the_end(frames: int, grid: tuple[int, int]) -> None:
    length, stride = grid
    plan = plan_windows(frames, length, stride)
    covered = np.unique(np.concatenate([plan.sources(index) for index in range(len(plan.starts))]))
    np.testing.assert_array_equal(covered, np.arange(frames))
    end = plan.starts[-1] + length
    assert end >= frames
    if frames >= length:
        assert end - frames < 4
        # No window more than the stride needs.
        assert len(plan.starts) == 1 + -(-(frames - length) // stride)
    else:
        assert plan.starts == (0,)


@given(frames=clips, grid=grids)
def test_windows_start_on_the_latent_grid_and_share_at_least_the_frame_they_start_from(
    frames: int, grid: tuple[int, int]
) -> None:
    length, stride = grid
    starts = np.array(plan_windows(frames, length, stride).starts)
    assert not (starts % 4).any()
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= stride).all()
    assert (np.diff(starts)[:-1] == stride).all()


@given(frames=clips, grid=grids)
def test_the_weights_of_all_windows_sum_to_one_in_every_frame(frames: int, grid: tuple[int, int]) -> None:
    plan = plan_windows(frames, *grid)
    weights = np.zeros((len(plan.starts), frames))
    for index, start in enumerate(plan.starts):
        alpha = plan.alpha(index)[: frames - start]
        assert ((alpha > 0) & (alpha <= 1)).all()
        assert (np.diff(alpha) >= 0).all()
        weights[:index, start : start + len(alpha)] *= 1 - alpha
        weights[index, start : start + len(alpha)] = alpha
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)


@given(frames=clips, grid=grids)
def test_shared_latents_are_of_the_same_frames_in_both_windows(frames: int, grid: tuple[int, int]) -> None:
    plan = plan_windows(frames, *grid)
    for index in range(1, len(plan.starts)):
        hold, shared, shift = plan.hold(index), plan.shared_latents(index), plan.latent_shift(index)
        assert hold[0] == 0
        assert (np.diff(hold[1 : shared + 2]) < 0).all()
        assert (hold < 1).all()
        assert np.count_nonzero(hold) == shared
        for latent in range(1, shared + 1):
            here = plan.starts[index] + frames_of(latent)
            there = plan.starts[index - 1] + frames_of(latent + shift)
            np.testing.assert_array_equal(here, there)
            assert there[-1] < plan.starts[index - 1] + plan.length


def frames_of(latent: int) -> np.ndarray:
    return np.arange(4 * latent - 3, 4 * latent + 1)


@given(frames=clips, grid=grids, seed=st.integers(0, 99))
def test_windows_that_agree_are_joined_without_a_trace(frames: int, grid: tuple[int, int], seed: int) -> None:
    plan = plan_windows(frames, *grid)
    clip = np.random.default_rng(seed).integers(0, 256, (frames, 2, 3, 3), dtype=np.uint8)
    joined = np.zeros_like(clip)
    for index in range(len(plan.starts)):
        plan.lay(index, clip[plan.sources(index)], onto=joined)
    np.testing.assert_array_equal(joined, clip)


def test_a_seam_is_a_ramp_from_the_earlier_window_to_the_later() -> None:
    plan = plan_windows(89)
    assert plan.starts == (0, 40)
    joined = np.zeros((89, 1, 1, 3), np.uint8)
    plan.lay(0, np.full((49, 1, 1, 3), 200, np.uint8), onto=joined)
    plan.lay(1, np.full((49, 1, 1, 3), 100, np.uint8), onto=joined)
    np.testing.assert_array_equal(joined[:40], 200)
    np.testing.assert_array_equal(joined[40:49, 0, 0, 0], [190, 180, 170, 160, 150, 140, 130, 120, 110])
    np.testing.assert_array_equal(joined[49:], 100)


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(1, (0,)), (49, (0,)), (50, (0, 4)), (89, (0, 40)), (90, (0, 40, 44)), (100, (0, 40, 52)), (129, (0, 40, 80))],
)
def test_the_released_model_s_windows(frames: int, starts: tuple[int, ...]) -> None:
    plan = plan_windows(frames)
    assert plan.starts == starts
    if len(starts) > 1 and starts[1] == 40:
        np.testing.assert_allclose(plan.hold(1)[:4], [0, 2 / 3, 1 / 3, 0], rtol=1e-6)


def test_a_short_clip_is_padded_with_its_last_frame() -> None:
    np.testing.assert_array_equal(plan_windows(3, 9, 4).sources(0), [0, 1, 2, 2, 2, 2, 2, 2, 2])


@pytest.mark.parametrize(("frames", "length", "stride"), [(0, 49, 40), (10, 48, 40), (10, 49, 41), (10, 9, 12)])
def test_windows_off_the_grid_are_refused(frames: int, length: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"no windows|latent grid"):
        plan_windows(frames, length, stride)
