from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.clips.chunks_uri import parse_chunks_uri
from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.file_tree import Entry, FileTree
from lanepaint_assets.clips.folder_source import ChunkSelection, chunk_clip, chunk_key, open_camera_folder
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.records import CHUNK_KEY
from lanepaint_assets.clips.sources import ClipSource, ClipSourceError, open_source
from lanepaint_assets_tests.unit.clips.videos import numbers_of, write_numbered

WIDE, TELE = "camera_front_wide_120fov", "camera_front_tele_30fov"


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def camera_tree(root: Path, cameras: tuple[str, ...] = (WIDE, TELE), chunks: int = 4, clips: int = 3) -> Path:
    for camera in cameras:
        for chunk in range(chunks):
            for clip in range(clips):
                touch(root / camera / f"chunk_{chunk:04d}" / f"drive{chunk}{clip}.{camera}.mp4")
    return root


def layout(source: ClipSource) -> dict[str, list[str]]:
    return {chunk.key: [ref.item_key for ref in chunk.clips] for chunk in source.chunks()}


class CountingTree(FileTree):
    """A tree that notes each listing."""

    def __init__(self, store: fsspec.AbstractFileSystem, root: str) -> None:
        super().__init__(store, root)
        self.listed: list[str] = []

    def entries(self, path: str) -> list[Entry]:
        self.listed.append(path)
        return super().entries(path)


@pytest.fixture
def bucket() -> Iterator[str]:
    name = f"bucket-{uuid.uuid4().hex}"
    store = fsspec.filesystem("memory")
    yield name
    store.rm(f"/{name}", recursive=True)


def upload(bucket: str, folder: Path) -> None:
    store = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe(f"/{bucket}/{path.relative_to(folder)}", path.read_bytes())


# Flat folders


def test_a_flat_folder_is_one_chunk_named_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "My Drives (2026)"
    for name in ("b.mp4", "a drive.MP4", "notes.txt", "._b.mp4"):
        touch(folder / name)
    (chunk,) = open_source(str(folder), [WIDE, TELE]).chunks()
    assert chunk.key == "my_drives_2026"
    assert [Path(ref.uri).name for ref in chunk.clips] == ["a drive.MP4", "b.mp4"]
    assert {ref.camera for ref in chunk.clips} == {WIDE}
    assert chunk.clips[0].clip_id.startswith("a_drive_")


def test_files_that_sanitize_to_the_same_name_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path / "a b.mp4")
    touch(tmp_path / "a+b.mp4")
    ((first, second),) = layout(open_source(str(tmp_path), [WIDE])).values()
    assert first != second


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "drive.mp4", 30)
    source = open_source(str(path), [WIDE])
    (chunk,) = source.chunks()
    assert chunk.key == "drive"
    with source.open_video(chunk.clips[0]) as opened:
        assert opened == path
    assert path.exists()


def test_plain_files_know_nothing_but_their_pictures(tmp_path: Path) -> None:
    source = open_source(str(touch(tmp_path / "a.mp4")), [WIDE])
    (chunk,) = source.chunks()
    ref = chunk.clips[0]
    assert (source.camera(ref), source.egomotion(ref), source.frame_timestamps_us(ref)) == (None, None, None)
    assert source.sibling_cameras(ref.clip_id) == (ref,)


def test_a_changed_file_has_another_etag_and_a_vanished_one_none(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.mp4")
    source = open_source(str(tmp_path), [WIDE])
    ref = next(iter(source.chunks())).clips[0]
    assert source.current_ref(ref) == ref
    assert ref.etag == f"1-{path.stat().st_mtime_ns}"
    os.utime(path, ns=(1, 2))
    changed = source.current_ref(ref)
    assert changed is not None
    assert changed.etag == "1-2"
    assert changed.item_key == ref.item_key
    path.unlink()
    assert source.current_ref(ref) is None


def test_a_folder_was_touched_when_the_newest_of_its_files_came_whatever_it_is(tmp_path: Path) -> None:
    touch(tmp_path / WIDE / "chunk_0001/a.mp4")
    unfinished = touch(tmp_path / WIDE / "chunk_0001/b.mp4.part")
    time.sleep(0.02)  # longer than a tick of the file system's clock
    # The time of writing is what copying tools carry over; when the file came is another.
    os.utime(unfinished, (0, 0))
    came = datetime.fromtimestamp(unfinished.stat().st_ctime, UTC)
    (chunk,) = open_source(str(tmp_path), [WIDE]).chunks()
    assert chunk.listed.touched == came
    (flat,) = open_source(str(tmp_path / WIDE / "chunk_0001"), [WIDE]).chunks()
    assert flat.listed.touched == came
    assert [ref.clip_id[0] for ref in flat.clips] == ["a"]


def test_a_link_to_nothing_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone")
    (chunk,) = open_source(str(tmp_path), [WIDE]).chunks()
    assert chunk.listed.touched is None
    assert len(chunk.clips) == 1


def test_a_relative_address_means_the_same_clips_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "drives" / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert layout(open_source("drives", [WIDE])) == layout(open_source(f"file://{tmp_path}/drives/", [WIDE]))


# Camera folders


def test_a_chunk_spans_the_configured_cameras(tmp_path: Path) -> None:
    camera_tree(tmp_path, chunks=2, clips=2)
    touch(tmp_path / "camera_rear_left_70fov/chunk_0000/drive00.camera_rear_left_70fov.mp4")
    assert layout(open_source(str(tmp_path), [WIDE, TELE])) == {
        f"chunk_{chunk:04d}": [f"drive{chunk}{clip}.{camera}" for clip in range(2) for camera in (TELE, WIDE)]
        for chunk in range(2)
    }


def test_a_chunk_that_one_camera_lacks_holds_the_others(tmp_path: Path) -> None:
    camera_tree(tmp_path, (WIDE,), chunks=2, clips=1)
    camera_tree(tmp_path, (TELE,), chunks=1, clips=1)
    assert layout(open_source(str(tmp_path), [WIDE, TELE])) == {
        "chunk_0000": [f"drive00.{TELE}", f"drive00.{WIDE}"],
        "chunk_0001": [f"drive10.{WIDE}"],
    }


def test_chunk_folders_are_sorted_by_number(tmp_path: Path) -> None:
    for number in ("9999", "10000", "0002"):
        touch(tmp_path / WIDE / f"chunk_{number}" / f"c{number}.mp4")
    touch(tmp_path / WIDE / "thumbnails" / "x.mp4")
    assert list(layout(open_source(str(tmp_path), [WIDE]))) == ["chunk_0002", "chunk_9999", "chunk_10000"]


def test_an_empty_chunk_folder_has_no_clips(tmp_path: Path) -> None:
    camera_tree(tmp_path, (WIDE,), chunks=1, clips=1)
    (tmp_path / WIDE / "chunk_0001").mkdir()
    assert {key: len(clips) for key, clips in layout(open_source(str(tmp_path), [WIDE])).items()} == {
        "chunk_0000": 1, "chunk_0001": 0,
    }  # fmt: skip


def test_a_name_that_no_report_can_hold_hides_no_other_chunk(tmp_path: Path) -> None:
    camera_tree(tmp_path, (WIDE,), chunks=2, clips=1)
    (tmp_path / WIDE / "chunk_0000" / "b\udcff.mp4").write_bytes(b"x")
    first, second = open_source(str(tmp_path), [WIDE]).chunks()
    assert len(second.clips) == 1
    with pytest.raises(ClipSourceError, match="not UTF-8"):
        _ = first.clips


def test_siblings_include_cameras_that_are_not_configured(tmp_path: Path) -> None:
    camera_tree(tmp_path, (WIDE, TELE, "camera_rear_left_70fov"), chunks=2, clips=2)
    source = open_source(str(tmp_path), [WIDE])
    assert [ref.camera for ref in source.sibling_cameras("drive11")] == [TELE, WIDE, "camera_rear_left_70fov"]
    assert source.sibling_cameras("drive99") == ()


def test_a_single_camera_folder_is_understood(tmp_path: Path) -> None:
    camera_tree(tmp_path, (TELE,), chunks=1, clips=1)
    assert layout(open_source(str(tmp_path / TELE), [WIDE])) == {"chunk_0000": [f"drive00.{TELE}"]}


def test_a_folder_of_chunks_that_names_no_camera_counts_as_the_first(tmp_path: Path) -> None:
    touch(tmp_path / "drives" / "chunk_0000" / "a.mp4")
    assert layout(open_source(str(tmp_path / "drives"), [WIDE])) == {"chunk_0000": [f"a.{WIDE}"]}


def test_a_file_name_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY), "wb") as file:
        file.write(b"x")
    with pytest.raises(ClipSourceError, match="not UTF-8; rename"):
        list(open_source(str(tmp_path), [WIDE]).chunks())


@given(st.text(min_size=1, max_size=30))
def test_any_folder_name_gives_a_valid_chunk_key(name: str) -> None:
    assert CHUNK_KEY.match(chunk_key(name))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1, max_size=30))
def test_any_file_name_gives_a_plain_clip_id_that_is_equal_on_all_cameras(stem: str) -> None:
    def on(camera: str) -> str:
        return chunk_clip(Entry(f"{stem}.{camera}.mp4", f"/{camera}/{stem}", False, 1, "e"), camera).clip_id

    assert on(WIDE) == on(TELE)
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in on(WIDE))


# chunks://


@pytest.mark.parametrize(
    ("address", "folder", "selection"),
    [
        ("chunks://b/p/camera_x", "gs://b/p/camera_x", ChunkSelection()),
        ("chunks://b/p/camera_x/?start=2&end=10&per_chunk=5", "gs://b/p/camera_x", ChunkSelection(2, 10, 5)),
        ("chunks://b/p/camera_x?end=1", "gs://b/p/camera_x", ChunkSelection(0, 1, None)),
        ("chunks:///data/camera%20x", "/data/camera x", ChunkSelection()),
        ("chunks+memory://b/camera_x?per_chunk=1", "memory://b/camera_x", ChunkSelection(per_chunk=1)),
        ("chunks+s3://b/camera_x", "s3://b/camera_x", ChunkSelection()),
        ("chunks+file:///data/camera_x", "file:///data/camera_x", ChunkSelection()),
    ],
)
def test_chunks_addresses_are_taken_apart(address: str, folder: str, selection: ChunkSelection) -> None:
    parsed = parse_chunks_uri(address)
    assert (parsed.folder, parsed.selection) == (folder, selection)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("start=a", "start='a' is not a whole number of at least 0"),
        ("start=-1", "start='-1' is not a whole number"),
        ("end=", "end='' is not a whole number"),
        ("per_chunk=0", "per_chunk='0' is not a whole number of at least 1"),
        ("start=3&end=3", "end=3 is not above start=3"),
        ("per_chnk=3", "unknown parameter 'per_chnk'"),
        ("start=1&start=2", "start is given twice"),
    ],
)
def test_a_wrong_query_is_named(query: str, why: str) -> None:
    with pytest.raises(ClipSourceError, match=why):
        open_source(f"chunks:///data/camera_x?{query}", [WIDE])


def test_an_address_without_a_folder_is_refused() -> None:
    with pytest.raises(ClipSourceError, match="no camera folder"):
        open_source("chunks://bucket", [WIDE])


def test_start_and_end_slice_the_chunks_and_per_chunk_the_files(tmp_path: Path) -> None:
    camera_tree(tmp_path, (TELE,), chunks=5, clips=4)
    source = open_source(f"chunks://{tmp_path}/{TELE}?start=1&end=3&per_chunk=2", [WIDE])
    assert layout(source) == {
        "chunk_0001": [f"drive10.{TELE}", f"drive11.{TELE}"],
        "chunk_0002": [f"drive20.{TELE}", f"drive21.{TELE}"],
    }


def test_an_end_past_the_last_chunk_means_all(tmp_path: Path) -> None:
    camera_tree(tmp_path, (TELE,), chunks=2, clips=1)
    assert len(layout(open_source(f"chunks://{tmp_path}/{TELE}?start=1&end=99", [WIDE]))) == 1


def test_listing_stops_where_the_caller_stops(tmp_path: Path) -> None:
    camera_tree(tmp_path, (TELE,), chunks=30, clips=2)
    tree = CountingTree(fsspec.filesystem("file"), str(tmp_path / TELE))
    source = open_camera_folder("chunks://test", tree, [WIDE], ChunkSelection(start=5, end=25, per_chunk=1))
    tree.listed.clear()
    chunks = source.chunks()
    assert tree.listed == []
    assert [chunk.key for chunk in islice(chunks, 3) if chunk.clips] == ["chunk_0005", "chunk_0006", "chunk_0007"]
    assert tree.listed == [tree.root, *(f"{tree.root}/chunk_000{number}" for number in (5, 6, 7))]


def test_only_chosen_chunks_are_listed(tmp_path: Path) -> None:
    camera_tree(tmp_path, (TELE,), chunks=30, clips=2)
    tree = CountingTree(fsspec.filesystem("file"), str(tmp_path / TELE))
    source = open_camera_folder("chunks://test", tree, [WIDE], ChunkSelection(end=2))
    tree.listed.clear()
    chunks = list(source.chunks())
    assert tree.listed == [tree.root]
    assert [len(chunk.clips) for chunk in chunks] == [2, 2]
    assert len(tree.listed) == 3


# Buckets


def test_a_bucket_is_read_like_a_folder(tmp_path: Path, bucket: str) -> None:
    camera_tree(tmp_path / "tree", chunks=2, clips=2)
    upload(bucket, tmp_path / "tree")
    local = layout(open_source(str(tmp_path / "tree"), [WIDE, TELE]))
    assert layout(open_source(f"memory://{bucket}", [WIDE, TELE])) == local
    chosen = open_source(f"chunks+memory://{bucket}/{TELE}?start=1&per_chunk=1", [WIDE])
    assert layout(chosen) == {"chunk_0001": [f"drive10.{TELE}"]}


def test_a_clip_in_a_bucket_is_copied_for_as_long_as_it_is_open(tmp_path: Path, bucket: str) -> None:
    write_numbered(tmp_path / "drive.mp4", 45)
    upload(bucket, tmp_path)
    source = open_source(f"memory://{bucket}", [WIDE])
    (chunk,) = source.chunks()
    facts = probe_clip(source, chunk.clips[0], "spec_8fps", 100)
    with source.open_video(chunk.clips[0]) as path:
        assert numbers_of(read_frames(path, facts).frames) == list(facts.grid_source_index)
    assert not path.exists()
    assert not path.parent.exists()


def test_objects_tell_when_they_were_written(tmp_path: Path, bucket: str) -> None:
    before = datetime.now(UTC)
    touch(tmp_path / "a.mp4")
    upload(bucket, tmp_path)
    (chunk,) = open_source(f"memory://{bucket}", [WIDE]).chunks()
    assert chunk.listed.touched is not None
    assert before <= chunk.listed.touched <= datetime.now(UTC)


@pytest.mark.parametrize(
    "told",
    [
        {"updated": "2026-11-23T18:00:00.250Z"},
        {"mtime": datetime(2026, 11, 23, 18, 0, 0, 250_000, tzinfo=UTC)},
        {"LastModified": datetime(2026, 11, 23, 19, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))},
        {"created": 1_795_456_800.25},
    ],
)
def test_every_store_spells_the_time_in_its_own_way(told: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    found = [{"name": "/spelling/a.mp4", "type": "file", "size": 1, **told}]
    monkeypatch.setattr(store, "ls", lambda path, detail: found)
    (entry,) = FileTree(store, "/spelling").entries("/spelling")
    assert entry.touched == datetime(2026, 11, 23, 18, 0, 0, 250_000, tzinfo=UTC)


def test_a_changed_object_has_another_etag_and_a_vanished_one_none(tmp_path: Path, bucket: str) -> None:
    touch(tmp_path / "a.mp4")
    upload(bucket, tmp_path)
    source = open_source(f"memory://{bucket}", [WIDE])
    ref = next(iter(source.chunks())).clips[0]
    assert source.current_ref(ref) == ref
    upload(bucket, tmp_path)
    changed = source.current_ref(ref)
    assert changed is not None
    assert changed.etag != ref.etag
    fsspec.filesystem("memory").rm(f"/{bucket}/a.mp4")
    assert source.current_ref(ref) is None
    with pytest.raises(FileNotFoundError), source.open_video(ref):
        pass
    touch(tmp_path / "b.mp4")
    upload(bucket, tmp_path)


def test_a_data_set_in_a_bucket_says_how_to_read_it(tmp_path: Path, bucket: str) -> None:
    touch(tmp_path / "features.csv")
    touch(tmp_path / "clip_index.parquet")
    upload(bucket, tmp_path)
    with pytest.raises(ClipSourceError, match="can be read from a local folder only"):
        open_source(f"memory://{bucket}", [WIDE])


# Nothing there


@pytest.mark.parametrize("content", [(), ("readme.txt",), ("other_camera/chunk_0000/a.mp4",)])
def test_nothing_found_says_what_was_looked_for(tmp_path: Path, content: tuple[str, ...]) -> None:
    for name in content:
        touch(tmp_path / name)
    with pytest.raises(ClipSourceError, match="no clips found at source") as caught:
        open_source(str(tmp_path), [WIDE])
    for part in (str(tmp_path), "features.csv", "chunk_NNNN/*.mp4", WIDE, "chunks://"):
        assert part in str(caught.value)


def test_an_absent_folder_is_named() -> None:
    with pytest.raises(ClipSourceError, match=r"'/no/such/folder'.*empty or absent"):
        open_source("/no/such/folder", [WIDE])


def test_a_file_that_is_no_mp4_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipSourceError, match="not an mp4"):
        open_source(str(touch(tmp_path / "a.txt")), [WIDE])


def test_an_unknown_store_is_named() -> None:
    with pytest.raises(ClipSourceError, match="cannot be opened"):
        open_source("nosuchstore://bucket/x", [WIDE])


def test_no_camera_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipSourceError, match="no camera is configured"):
        open_source(str(tmp_path), [])
