"""What stages read of a chunk: facts, frames decoded once, items by prompt, edited frames in the source's size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from lanepaint_assets.chunk_reader import ChunkReader, selected_prompts
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.editing.catalogue import PromptSelectionError
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.store.upstream import MissingUpstreamError
from lanepaint_assets_tests.fixtures import Graph
from lanepaint_assets_tests.unit.clips.videos import numbers_of, write_numbered

CHUNK = "clips"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    # Odd sides: encoding makes them even, reading must not.
    for name in "ab":
        write_numbered(
            folder / f"{name}.mp4", count=40, rate=10, size=(129, 73), pixel_format="yuv444p", options={"crf": "5"}
        )
    return folder


@pytest.fixture
def platform(tmp_path: Path, clips: Path, instance: dg.DagsterInstance) -> Platform:
    made = Platform(
        Settings(
            root=str(tmp_path / "root"),
            source=str(clips),
            frame_limit=8,
            prompts=("double_yellow_solid",),
            min_road_confidence=0.0,
        )
    )
    assert register_chunks(made, instance) == [CHUNK]
    return made


@pytest.fixture
def reader(platform: Platform) -> ChunkReader:
    make_raw_clips(platform, CHUNK, "run")
    return ChunkReader(platform, CHUNK, "test")


def test_a_chunk_that_is_not_registered_is_named_with_those_that_are(platform: Platform) -> None:
    with pytest.raises(StoreError, match=r"'chunk_7' is not registered .* registered: clips"):
        _ = ChunkReader(platform, "chunk_7", "test").membership


def test_clips_that_were_not_probed_are_missing_upstream(platform: Platform) -> None:
    with pytest.raises(MissingUpstreamError, match="chunk 'clips' has no raw_clips, which test are made from"):
        _ = ChunkReader(platform, CHUNK, "test").clip_keys


def test_clip_keys_follow_the_chunk_and_leave_vanished_clips_out(
    platform: Platform, reader: ChunkReader, clips: Path
) -> None:
    assert [key[0] for key in reader.clip_keys] == ["a", "b"]
    (clips / "a.mp4").unlink()
    fresh = Platform(platform.settings)
    make_raw_clips(fresh, CHUNK, "run")
    assert [key[0] for key in ChunkReader(fresh, CHUNK, "test").clip_keys] == ["b"]


def test_frames_lie_on_the_grid_and_are_decoded_once(reader: ChunkReader) -> None:
    key = reader.clip_keys[0]
    clip = reader.frames(key)
    assert clip.frames.shape == (8, 73, 129, 3)
    assert numbers_of(clip.frames) == list(reader.facts(key).grid_source_index)
    assert reader.frames(key) is clip


def test_geometry_of_a_plain_clip_is_estimated(reader: ChunkReader) -> None:
    geometry = reader.geometry(reader.clip_keys[0])
    assert geometry.ego.quality == "estimated"
    assert geometry.camera.quality != "calibrated"


def test_every_clip_gets_the_prompts_that_the_settings_call_for_and_both_controls(reader: ChunkReader) -> None:
    edits = reader.edits(())
    assert len(edits) == 6
    first = reader.clip_keys[0]
    assert list(edits)[:3] == [f"{first}/double_yellow_solid", f"{first}/roundtrip", f"{first}/repaint_as_measured"]
    assert all(edit.selected for edit in edits.values())


def test_a_selection_narrows_work_and_not_what_is_called_for(reader: ChunkReader) -> None:
    edits = reader.edits(["roundtrip"])
    assert len(edits) == 6
    assert {edit.prompt.key for edit in edits.values() if edit.selected} == {"roundtrip"}


def test_a_selection_outside_the_settings_is_refused_with_the_remedy(platform: Platform) -> None:
    with pytest.raises(PromptSelectionError, match=r"single_white_solid is not among .* LANEPAINT_PROMPTS"):
        selected_prompts(platform, ["single_white_solid"])
    with pytest.raises(PromptSelectionError, match="no prompt 'pink'"):
        selected_prompts(platform, ["pink"])


@pytest.fixture
def edited(tmp_path: Path, clips: Path, instance: dg.DagsterInstance) -> ChunkReader:
    graph = Graph(tmp_path / "root", clips, instance, frame_limit=8)
    graph.register()
    graph.run("sam2_vp", CHUNK)
    return ChunkReader(graph.platform(), CHUNK, "test")


def test_edited_frames_come_back_in_the_sources_size_at_the_grids_times(edited: ChunkReader) -> None:
    key = edited.clip_keys[0]
    clip = edited.frames(key)
    frames, times_us = edited.edited_frames(f"{key}/roundtrip")
    assert frames.shape == clip.frames.shape
    assert np.array_equal(times_us, clip.timestamps_us)
    assert numbers_of(frames) == numbers_of(clip.frames)
    some, some_us = edited.edited_frames(f"{key}/roundtrip", clip.timestamps_us[[2, 5]])
    assert np.array_equal(some_us, clip.timestamps_us[[2, 5]])
    assert np.array_equal(some, frames[[2, 5]])


def test_a_time_that_the_edited_video_lacks_names_it_and_the_remedy(edited: ChunkReader) -> None:
    key = f"{edited.clip_keys[0]}/roundtrip"
    with pytest.raises(ItemError, match=r"has no frame at 77 us.*materialize edited_videos of the chunk again"):
        edited.edited_frames(key, np.asarray([0, 77], np.int64))


@pytest.mark.parametrize("frames", [7, 9])
def test_an_edited_video_with_another_number_of_frames_than_its_sidecar_is_refused(
    edited: ChunkReader, frames: int
) -> None:
    key = f"{edited.clip_keys[0]}/roundtrip"
    row = edited.manifest("edited_videos").rows[key]
    video = edited.platform.store.file_path(row, edited.edited_name(edited.clip_keys[0]))
    write_numbered(Path(str(video)), count=frames, rate=8, size=(130, 74))
    wanted_us = edited.frames(edited.clip_keys[0]).timestamps_us[:4]
    with pytest.raises(ItemError, match=rf"roundtrip does not fit its sidecar .* of 8 entries .*{frames} frames"):
        edited.edited_frames(key, wanted_us)


def test_paint_masks_are_those_of_the_videopainter_folder(edited: ChunkReader) -> None:
    masks = edited.paint_masks(edited.clip_keys[0])
    assert masks.shape == (8, 73, 129)
    assert masks.dtype == np.bool_
    assert 0.05 < masks.mean() < 0.6


def test_the_road_of_a_single_picture_is_cleaned_to_one_region(edited: ChunkReader) -> None:
    mask = edited.road_mask(edited.frames(edited.clip_keys[0]).frames[0])
    assert mask.shape == (73, 129)
    assert mask[int(73 * 0.85), 64]
