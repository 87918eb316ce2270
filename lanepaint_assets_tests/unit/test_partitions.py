"""Chunks become partitions: the clips are fixed first, then the key is added, and once added it stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.clips.sources import ChunkListing, ClipSourceError
from lanepaint_assets.partitions import (
    LANE_STYLES,
    register_chunks,
    register_membership,
    registered_chunks,
    unregistered,
)
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.errors import StoreError

CAMERA = "camera_front_wide_120fov"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _source(folder: Path, chunks: int, clips: int = 2) -> Path:
    for chunk in range(chunks):
        for clip in range(clips):
            path = folder / CAMERA / f"chunk_{chunk:04d}" / f"clip_{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return folder


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(Settings(root=str(tmp_path / "root"), source=str(_source(tmp_path / "data", 3))))


def test_new_chunks_are_registered_once(platform: Platform, instance: dg.DagsterInstance) -> None:
    assert register_chunks(platform, instance) == ["chunk_0000", "chunk_0001", "chunk_0002"]
    assert register_chunks(platform, instance) == []
    assert registered_chunks(instance) == ["chunk_0000", "chunk_0001", "chunk_0002"]
    assert [ref.clip_id for ref in platform.store.chunk("chunk_0001").clips] == ["clip_0", "clip_1"]


def test_a_limit_stops_adding_and_the_next_call_goes_on(platform: Platform, instance: dg.DagsterInstance) -> None:
    assert register_chunks(platform, instance, limit=2) == ["chunk_0000", "chunk_0001"]
    assert register_chunks(platform, instance, limit=2) == ["chunk_0002"]


def test_every_key_has_its_clips_even_where_registering_breaks_off(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, keys: list[str]) -> None:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(instance, "add_dynamic_partitions", refuse)
    with pytest.raises(ConnectionError):
        register_chunks(platform, instance)
    assert registered_chunks(instance) == []
    assert platform.store.chunk_keys() == ["chunk_0000"]
    monkeypatch.undo()
    assert register_chunks(platform, instance) == ["chunk_0000", "chunk_0001", "chunk_0002"]


def test_files_that_arrive_later_form_a_part_and_the_chunk_keeps_its_clips(
    platform: Platform, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    register_chunks(platform, instance)
    before = platform.store.chunk("chunk_0000")
    for number in (7, 9):
        (tmp_path / "data" / CAMERA / "chunk_0000" / f"clip_{number}.mp4").write_bytes(b"x")
        fresh = Platform(platform.settings)
        assert register_chunks(fresh, instance) == [f"chunk_0000_part_{2 if number == 7 else 3:02d}"]
        assert register_chunks(fresh, instance) == []
    assert fresh.store.chunk("chunk_0000") == before
    assert [ref.clip_id for ref in fresh.store.chunk("chunk_0000_part_03").clips] == ["clip_9"]


def test_another_source_with_the_same_chunk_names_is_not_taken_for_the_first(
    platform: Platform, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    register_chunks(platform, instance)
    other = _source(tmp_path / "other", 1)
    assert register_chunks(platform, instance, source=str(other)) == ["chunk_0000_part_02"]
    assert platform.store.chunk("chunk_0000_part_02").source == platform.source(str(other)).address


def test_a_flat_folder_that_grows_in_the_middle_keeps_every_clip_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    folder = tmp_path / "drives"
    folder.mkdir()
    for name in "bcdf":
        (folder / f"{name}.mp4").write_bytes(b"x")
    settings = Settings(root=str(tmp_path / "root"), source=str(folder), per_chunk=2)
    assert register_chunks(Platform(settings), instance) == ["drives", "drives_part_02"]
    for name in "ae":
        (folder / f"{name}.mp4").write_bytes(b"x")
    platform = Platform(settings)
    register_chunks(platform, instance)
    held = [ref.clip_id[0] for key in registered_chunks(instance) for ref in platform.store.chunk(key).clips]
    assert sorted(held) == list("abcdef")


def test_a_new_dagster_instance_finds_the_chunks_of_the_store_again(
    platform: Platform, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    register_chunks(platform, instance)
    (tmp_path / "data" / CAMERA / "chunk_0001" / "clip_0.mp4").write_bytes(b"changed since")
    with dg.DagsterInstance.ephemeral() as second:
        added = register_chunks(Platform(platform.settings), second)
    assert added == ["chunk_0000", "chunk_0001", "chunk_0002"]


def test_a_key_cannot_be_given_other_clips(platform: Platform, instance: dg.DagsterInstance) -> None:
    register_chunks(platform, instance)
    other = ChunkMembership(
        key="chunk_0000",
        source="elsewhere",
        clips=(ClipRef(clip_id="x", camera=CAMERA, uri="x.mp4", size=1, etag="1"),),
    )
    with pytest.raises(StoreError, match="chunk_0000"):
        register_membership(platform, instance, other)


def test_unregistered_names_the_unknown_keys(platform: Platform, instance: dg.DagsterInstance) -> None:
    register_chunks(platform, instance, limit=1)
    assert unregistered(instance, ["chunk_0000", "chunk_7777"]) == ["chunk_7777"]


class _BadlyNamed:
    address = "bucket"

    def chunks(self) -> Iterator[ChunkListing]:
        yield ChunkListing("Chunk One", lambda: ())
        yield ChunkListing("chunk_0002", lambda: (ClipRef(clip_id="x", camera=CAMERA, uri="x.mp4", size=1, etag="1"),))


def test_a_name_that_can_be_no_partition_key_is_told_with_what_may_be_and_blocks_no_other(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "source", lambda address=None: _BadlyNamed())
    with pytest.raises(ClipSourceError, match=r"'Chunk One' of bucket cannot be a partition key; rename it to match"):
        register_chunks(platform, instance)
    assert registered_chunks(instance) == ["chunk_0002"]


def test_a_chunk_with_too_many_clips_is_split_and_a_clips_cameras_stay_together(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tele = "camera_front_tele_30fov"
    for camera in (CAMERA, tele):
        for clip in range(5):
            path = tmp_path / "data" / camera / "chunk_0000" / f"clip_{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    settings = Settings(root=str(tmp_path / "root"), source=str(tmp_path / "data"), cameras=(CAMERA, tele), per_chunk=2)
    platform = Platform(settings)
    keys = ["chunk_0000", "chunk_0000_part_02", "chunk_0000_part_03"]
    assert register_chunks(platform, instance, limit=2) == keys[:2]
    assert register_chunks(platform, instance) == keys[2:]
    clips = [[ref.clip_id for ref in platform.store.chunk(key).clips] for key in keys]
    assert clips == [["clip_0", "clip_0", "clip_1", "clip_1"], ["clip_2", "clip_2", "clip_3", "clip_3"], ["clip_4"] * 2]


def test_parts_stay_as_they_are_when_the_size_is_set_anew(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    source = str(_source(tmp_path / "data", 1, clips=4))
    small = Platform(Settings(root=str(tmp_path / "root"), source=source, per_chunk=3))
    assert register_chunks(small, instance) == ["chunk_0000", "chunk_0000_part_02"]
    large = Platform(Settings(root=str(tmp_path / "root"), source=source, per_chunk=100))
    assert register_chunks(large, instance) == []


def test_lane_styles_are_the_eight_that_can_be_painted() -> None:
    keys = [style.key for style in LANE_STYLES]
    assert len(keys) == len(set(keys)) == 8
    assert "single_white_dashed" in keys
    assert all(style.is_known for style in LANE_STYLES)
