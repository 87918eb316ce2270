"""What is measured of an edited video as written: frames, times and background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.frame_sidecar import FrameSidecar
from lanepaint_assets.clips.records import FrameGrid
from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.written_video import background_changed_px, frame_facts
from lanepaint_assets.rendering.mask_edges import MaskEdges, soften_mask

EDGES = MaskEdges(2, 0.5)
SHAPE = (3, 12, 16)


def _grid(frames: int, step_us: int = 125_000) -> FrameGrid:
    times = np.arange(frames, dtype=np.int64) * step_us
    return FrameGrid(
        rate_hz=8.0,
        timestamps_us=times,
        source_index=np.arange(frames, dtype=np.int64),
        source_timestamps_us=times,
    )


def _files(folder: Path, frames: int, sidecar: FrameGrid) -> tuple[Path, Path]:
    video, times = folder / "edited.mp4", folder / "timestamps.json"
    write_video(video, np.full((frames, 32, 48, 3), 90, dtype=np.uint8), 8.0)
    times.write_text(FrameSidecar.of_grid(sidecar).to_json())
    return video, times


def test_a_video_of_the_grid_has_its_frames_and_times(tmp_path: Path) -> None:
    grid = _grid(6)
    assert frame_facts(*_files(tmp_path, 6, grid), grid) == {"frames": 6, "source_frames": 6, "time_error_us": 0}


def test_frames_are_counted_in_the_file(tmp_path: Path) -> None:
    grid = _grid(6)
    facts = frame_facts(*_files(tmp_path, 5, grid), grid)
    assert (facts["frames"], facts["source_frames"], facts["time_error_us"]) == (5, 6, None)


def test_times_of_another_grid_are_measured(tmp_path: Path) -> None:
    facts = frame_facts(*_files(tmp_path, 6, _grid(6, 100_000)), _grid(6))
    assert facts["time_error_us"] == 5 * 25_000


def test_a_shorter_video_is_measured_against_the_grids_first_frames(tmp_path: Path) -> None:
    facts = frame_facts(*_files(tmp_path, 4, _grid(4)), _grid(6))
    assert facts == {"frames": 4, "source_frames": 6, "time_error_us": 0}


pictures = hnp.arrays(np.uint8, (*SHAPE, 3), elements=st.sampled_from([0, 1, 255]))
masks = hnp.arrays(np.bool_, SHAPE)


@given(source=pictures, painted=pictures, mask=masks)
def test_changed_pixels_are_those_that_differ_where_alpha_is_zero(
    source: NDArray[np.uint8], painted: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> None:
    expected = sum(
        int(((a != b).any(axis=-1) & (soften_mask(m, EDGES) == 0.0)).sum())
        for a, b, m in zip(source, painted, mask, strict=True)
    )
    assert background_changed_px(source, painted, mask, EDGES) == expected


@given(source=pictures, painted=pictures, mask=masks)
def test_a_composite_changes_no_background(
    source: NDArray[np.uint8], painted: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> None:
    assert background_changed_px(source, composite_video(source, painted, mask, EDGES), mask, EDGES) == 0


def test_one_pixel_of_one_frame_is_found() -> None:
    source = np.zeros((9, 40, 60, 3), dtype=np.uint8)
    edited = source.copy()
    edited[7, 3, 5, 2] = 1
    mask = np.zeros(source.shape[:3], dtype=np.bool_)
    mask[:, 30:, 20:40] = True
    assert background_changed_px(source, edited, mask, EDGES) == 1


def test_other_shapes_are_refused() -> None:
    source = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="the masks"):
        background_changed_px(source, source, np.zeros((2, 8, 9), dtype=np.bool_), EDGES)
