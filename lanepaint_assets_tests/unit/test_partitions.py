"""Chunks become partitions: the clips are fixed first, then the key is added, and once added it stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.clips.sources import ChunkListing, ClipSourceError, ListedClips
from lanepaint_assets.partitions import (
    LANE_STYLES,
    Rest,
    SourceLook,
    Unchanged,
    look_at_source,
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
        clip = ClipRef(clip_id="x", camera=CAMERA, uri="x.mp4", size=1, etag="1")
        yield ChunkListing("Chunk One", lambda: ListedClips(()))
        yield ChunkListing("chunk_0002", lambda: ListedClips((clip,)))


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


def test_new_chunks_leave_half_of_the_time_to_those_that_are_registered(
    platform: Platform, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_chunks(platform, instance)
    _source(tmp_path / "data", 200, clips=1)
    # A clock that goes a second forward whenever it is read, which is once a batch.
    monkeypatch.setattr("lanepaint_assets.partitions.time.monotonic", count().__next__)
    look = look_at_source(platform, instance, seconds=8.0)
    assert 0 < len(look.added) < 197
    assert look.looked_at == 3


# Files that are still being written

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class _Upload:
    """A source whose one chunk is what a test says."""

    address = "upload"

    def __init__(self) -> None:
        self.clips: tuple[ClipRef, ...] = ()
        self.touched: datetime | None = None

    def put(self, *names: str, etag: str = "1", touched: datetime | None = None) -> None:
        self.touched = touched
        self.clips = tuple(ClipRef(clip_id=name, camera=CAMERA, uri=f"{name}.mp4", size=1, etag=etag) for name in names)

    def chunks(self) -> Iterator[ChunkListing]:
        yield ChunkListing("chunk_0000", lambda: ListedClips(self.clips, self.touched))


@pytest.fixture
def upload(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> _Upload:
    source = _Upload()
    monkeypatch.setattr(platform, "source", lambda address=None: source)
    return source


class _Looks:
    """Looks one after another, each told what the one before found."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance) -> None:
        self.platform, self.instance = platform, instance
        self.unchanged: Mapping[str, Unchanged] = {}

    def at(self, minutes: float) -> SourceLook:
        rest = Rest(timedelta(minutes=5), NOON + timedelta(minutes=minutes), self.unchanged)
        look = look_at_source(self.platform, self.instance, rest=rest)
        self.unchanged = look.unchanged
        return look


@pytest.fixture
def looks(platform: Platform, instance: dg.DagsterInstance) -> _Looks:
    return _Looks(platform, instance)


def test_a_listing_is_taken_when_its_newest_file_has_rested(upload: _Upload, looks: _Looks) -> None:
    upload.put("a", touched=NOON)
    assert looks.at(4.9).resting == ("chunk_0000",)
    upload.put("a", "b", touched=NOON + timedelta(minutes=4.9))
    assert looks.at(9.8).resting == ("chunk_0000",)
    assert looks.at(9.9).added == ("chunk_0000",)
    assert [ref.clip_id for ref in looks.platform.store.chunk("chunk_0000").clips] == ["a", "b"]
    assert looks.at(10).resting == ()


def test_a_listing_without_times_is_taken_when_looks_so_far_apart_find_it_unchanged(
    upload: _Upload, looks: _Looks
) -> None:
    upload.put("a")
    assert looks.at(0).resting == ("chunk_0000",)
    upload.put("a", "b")
    assert looks.at(6).resting == ("chunk_0000",)
    assert looks.at(10).resting == ("chunk_0000",)
    assert looks.at(11).added == ("chunk_0000",)
    upload.put("a", "b", "c")
    assert looks.at(12).resting == ("chunk_0000",)
    assert looks.at(17).added == ("chunk_0000_part_02",)
    assert looks.unchanged == {}


def test_what_a_look_did_not_come_to_is_remembered_for_the_next(upload: _Upload, looks: _Looks) -> None:
    upload.put("a")
    looks.at(0)
    kept = look_at_source(
        looks.platform, looks.instance, seconds=-1.0, rest=Rest(timedelta(minutes=5), NOON, looks.unchanged)
    ).unchanged
    assert kept == looks.unchanged
    assert set(kept) == {"chunk_0000"}


def test_a_person_who_asks_gets_the_files_as_they_are(
    upload: _Upload, platform: Platform, instance: dg.DagsterInstance
) -> None:
    upload.put("a", touched=datetime.now(UTC))
    assert register_chunks(platform, instance) == ["chunk_0000"]
