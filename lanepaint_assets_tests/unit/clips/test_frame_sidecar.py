from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.clips.frame_sidecar import FrameSidecar
from lanepaint_assets.clips.records import FrameGrid


def grid_of(steps_us: list[int], source_steps: list[int], start_us: int = 0) -> FrameGrid:
    times = start_us + np.cumsum([0, *steps_us]).astype(np.int64)
    return FrameGrid(8.0, times, np.cumsum([0, *source_steps]).astype(np.int64), times)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 9)), max_size=30),
    st.integers(-(10**15), 10**15),
)
def test_a_sidecar_read_back_says_what_the_grid_said(steps: list[tuple[int, int]], start_us: int) -> None:
    grid = grid_of([s[0] for s in steps], [s[1] for s in steps], start_us)
    sidecar = FrameSidecar.from_json(FrameSidecar.of_grid(grid).to_json())
    np.testing.assert_array_equal(sidecar.timestamps_us, grid.timestamps_us)
    np.testing.assert_array_equal(sidecar.source_index, grid.source_index)


def test_the_file_is_a_plain_list_of_two_named_numbers() -> None:
    text = FrameSidecar.of_grid(grid_of([125_000], [4])).to_json()
    assert json.loads(text) == [
        {"source_frame_idx": 0, "timestamp_us": 0},
        {"source_frame_idx": 4, "timestamp_us": 125_000},
    ]


def test_a_shorter_video_has_a_shorter_sidecar_and_a_longer_one_is_refused() -> None:
    grid = grid_of([125_000] * 3, [4] * 3)
    assert len(FrameSidecar.of_grid(grid, 2)) == 2
    with pytest.raises(ValueError, match="5 frames but its clip's grid only 4"):
        FrameSidecar.of_grid(grid, 5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "a.json is not a list"),
        ("[", "the whole file"),
        ('[{"source_frame_idx": 0}]', "0.timestamp_us"),
        ('[{"source_frame_idx": -1, "timestamp_us": 0}]', "0.source_frame_idx"),
        (
            '[{"source_frame_idx": 3, "timestamp_us": 9}, {"source_frame_idx": 4, "timestamp_us": 9}]',
            "entry 1 .source frame 4 at 9 us. does not follow",
        ),
        (
            '[{"source_frame_idx": 3, "timestamp_us": 9}, {"source_frame_idx": 2, "timestamp_us": 10}]',
            "entry 1 .source frame 2 at 10 us. does not follow",
        ),
    ],
)
def test_a_damaged_sidecar_is_refused_with_the_entry_and_the_remedy(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        FrameSidecar.from_json(text, name="a.json")
    assert "materialize `edited_videos`" in str(caught.value)
