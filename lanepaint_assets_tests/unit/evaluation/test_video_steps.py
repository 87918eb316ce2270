"""What `edited_trajectories` puts aside for the videos: the edited frames, and the original ones at the same times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.clips.planes import decoded_planes
from lanepaint_assets.clips.records import ClipFrames, FrameGrid
from lanepaint_assets.editing.catalogue import ROUNDTRIP, load_catalogue
from lanepaint_assets.evaluation.results import DriverStamp
from lanepaint_assets.evaluation.video_steps import edit_engines, shown_clip
from lanepaint_assets.lanes.geometry import ClipGeometry
from lanepaint_assets.platform import Memory
from lanepaint_assets.store.items import ItemError
from lanepaint_assets_tests.unit.evaluation.drives import camera, circle_drive, grid_times
from lanepaint_assets_tests.unit.evaluation.vis_items import HEIGHT, WIDTH, coded_frames, read_code

KEY = "clip-1.camera_front_wide_120fov"
DRIVER = DriverStamp(name="alpamayo", version="1.5", is_foundation_model=True)
CATALOGUE = load_catalogue(None)
PROMPT, ROUNDTRIP_PROMPT = CATALOGUE.select(["1"])[0], CATALOGUE.select([ROUNDTRIP])[0]


def reader_of(
    edited: NDArray[np.uint8], edited_us: NDArray[np.int64], engine: str | None = "procedural 3"
) -> ChunkReader:
    """A chunk of one clip of twelve coded frames, each taken 20 ms before it is shown."""
    times = grid_times(12)
    grid = FrameGrid(8.0, times, np.arange(12, dtype=np.int64), times - 20_000)
    clip = ClipFrames(coded_frames(np.arange(12, dtype=np.int64)), grid)
    geometry = ClipGeometry(camera(WIDTH, HEIGHT), circle_drive())
    return cast(
        "ChunkReader",
        SimpleNamespace(
            frames=lambda _: clip,
            geometry=lambda _: geometry,
            edited_frames=lambda _: (edited, edited_us),
            clips=SimpleNamespace(rows={KEY: SimpleNamespace(fingerprint="f")}),
            platform=SimpleNamespace(memory=Memory()),
            manifest=lambda _: SimpleNamespace(rows={f"{KEY}/x": SimpleNamespace(engine=engine)}),
        ),
    )


def codes(video: bytes) -> list[int]:
    return [read_code(picture.to_rgb()) for picture in decoded_planes(video)]


def test_an_edited_video_of_a_part_of_the_clip_is_shown_beside_the_same_part() -> None:
    part = np.arange(2, 9, dtype=np.int64)
    shown = shown_clip(reader_of(coded_frames(part), grid_times(12)[part]), f"{KEY}/x", Edit(KEY, PROMPT, True), DRIVER)
    assert codes(shown.original_mp4) == codes(shown.edited_mp4) == part.tolist()
    np.testing.assert_array_equal(shown.timestamps_us, grid_times(12)[part])
    np.testing.assert_array_equal(shown.taken_us, grid_times(12)[part] - 20_000)


def test_an_edited_video_of_another_size_is_brought_to_the_clips() -> None:
    every = np.arange(12, dtype=np.int64)
    small = np.stack([frame[::2, ::2] for frame in coded_frames(every)])
    shown = shown_clip(reader_of(small, grid_times(12)), f"{KEY}/x", Edit(KEY, PROMPT, True), DRIVER)
    assert shown.size == (WIDTH, HEIGHT)
    assert codes(shown.edited_mp4) == every.tolist()


def test_an_edited_video_on_another_grid_is_refused_with_the_remedy() -> None:
    every = np.arange(12, dtype=np.int64)
    reader = reader_of(coded_frames(every), grid_times(12) + 1)
    with pytest.raises(ItemError, match="not on its clip's frame grid; materialize edited_videos"):
        shown_clip(reader, f"{KEY}/x", Edit(KEY, PROMPT, True), DRIVER)


def test_the_original_is_encoded_once_for_all_prompts() -> None:
    every = np.arange(12, dtype=np.int64)
    reader = reader_of(coded_frames(every), grid_times(12))
    one, two = (shown_clip(reader, f"{KEY}/x", Edit(KEY, PROMPT, True), DRIVER) for _ in range(2))
    assert one.original_mp4 is two.original_mp4


def test_a_roundtrip_names_no_painter_and_an_edit_names_both() -> None:
    row = reader_of(np.empty(0), grid_times(1)).manifest("edited_videos").rows[f"{KEY}/x"]
    assert [label.role for label in edit_engines(row, DRIVER, Edit(KEY, PROMPT, True))] == ["painter", "driver"]
    assert [label.role for label in edit_engines(row, DRIVER, Edit(KEY, ROUNDTRIP_PROMPT, True))] == ["driver"]
