from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.clips.grids import frame_grid, grid_rate, latest_at_or_before


def at_rate(fps: float, count: int) -> np.ndarray:
    return np.rint(np.arange(count) * 1e6 / fps).astype(np.int64)


def test_8_hz_out_of_30_takes_the_latest_frame_at_or_before_each_time() -> None:
    grid = frame_grid(at_rate(30, 600), 8.0, 100)
    assert grid.source_index[:12].tolist() == [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41]
    assert len(grid) == 100
    assert np.array_equal(grid.timestamps_us, np.arange(100) * 125_000)


def test_10_hz_out_of_30_takes_every_third_frame() -> None:
    assert frame_grid(at_rate(30, 61), 10.0, 100).source_index.tolist() == list(range(0, 61, 3))


def test_the_grid_begins_at_the_first_frame_of_the_data_set_clock() -> None:
    source = at_rate(30, 60) + 1_700_000_000_123_456
    grid = frame_grid(source, 8.0, 5)
    assert grid.timestamps_us[0] == source[0]
    assert np.array_equal(grid.source_timestamps_us, source[grid.source_index])


def test_the_last_frame_counts_for_as_long_as_it_is_shown() -> None:
    # 2 frames a second for 1 s: the second frame is shown until 1.0 s, exclusive.
    grid = frame_grid(np.array([0, 500_000]), 8.0, 100)
    assert grid.source_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_of_frames_with_equal_times_the_last_is_shown() -> None:
    grid = frame_grid(np.array([0, 125_000, 125_000, 250_000]), 8.0, 100)
    assert grid.source_index.tolist()[:3] == [0, 2, 3]


def test_a_gap_repeats_the_frame_before_it() -> None:
    grid = frame_grid(np.array([0, 100_000, 900_000, 1_000_000]), 10.0, 100)
    assert grid.source_index.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3]


def test_a_single_frame_gives_a_grid_of_one() -> None:
    assert frame_grid(np.array([77]), 8.0, 100).timestamps_us.tolist() == [77]


def test_times_that_run_backwards_are_named() -> None:
    with pytest.raises(ValueError, match="backwards after frame 1"):
        frame_grid(np.array([0, 10, 5]), 8.0, 100)


@pytest.mark.parametrize(("rate", "limit"), [(0.0, 10), (-1.0, 10), (8.0, 0)])
def test_a_rate_or_limit_out_of_range_is_refused(rate: float, limit: int) -> None:
    with pytest.raises(ValueError, match="grid needs"):
        frame_grid(np.array([0, 10]), rate, limit)


def test_no_source_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one source frame"):
        frame_grid(np.zeros(0, dtype=np.int64), 8.0, 10)


def test_a_time_before_the_first_frame_has_no_frame() -> None:
    with pytest.raises(ValueError, match="first frame is at 100 us, but 99 us"):
        latest_at_or_before(np.array([100, 200]), np.array([150, 99]))


def test_both_grids_have_their_rates() -> None:
    assert (grid_rate("spec_8fps"), grid_rate("model_10hz")) == (8.0, 10.0)


@given(
    gaps=st.lists(st.integers(0, 700_000), max_size=120),
    first=st.integers(-(10**12), 2 * 10**15),
    rate=st.sampled_from([8.0, 10.0, 29.97, 1.5]),
    limit=st.integers(1, 150),
)
def test_every_grid_is_regular_ends_in_time_and_never_shows_a_frame_early(
    gaps: list[int], first: int, rate: float, limit: int
) -> None:
    source = first + np.concatenate([[0], np.cumsum(gaps, dtype=np.int64)]).astype(np.int64)
    grid = frame_grid(source, rate, limit)
    assert 1 <= len(grid) <= limit
    assert grid.timestamps_us[0] == first
    assert np.all(np.abs(grid.timestamps_us - first - np.arange(len(grid)) * 1e6 / rate) <= 0.5)
    assert np.all(grid.source_timestamps_us <= grid.timestamps_us)
    following = grid.source_index + 1
    inside = following < source.size
    assert np.all(source[following[inside]] > grid.timestamps_us[inside])
    shown = int(np.median(np.diff(source))) if source.size > 1 else 0
    assert grid.timestamps_us[-1] <= source[-1] + shown
    # Complete: had there been room, one more step would have left the clip.
    if len(grid) < limit:
        assert grid.timestamps_us[-1] + 1e6 / rate >= source[-1] + shown - 1
