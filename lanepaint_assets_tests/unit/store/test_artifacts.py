"""Publishing, reading, manifests and chunk memberships on every kind of file system."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from fsspec.registry import _registry

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.manifest import FileRecord, ItemRow
from lanepaint_assets_tests.gcs_server import GcsServer
from lanepaint_assets_tests.unit.store.conftest import fp

Staged = Callable[..., Path]
ITEM = ("road_masks", "chunk_0001", "clip.front")


def _row(folder: str, files: tuple[FileRecord, ...], key: str = "clip.front") -> ItemRow:
    return ItemRow(key=key, fingerprint=fp(key), status="ok", folder=folder, files=files, run_id="r")


def _published(store: ArtifactStore, staged: Path) -> ItemRow:
    return _row(*store.publish(*ITEM, fp(), staged))


def test_a_published_item_reads_back_with_its_sizes_and_digests(store: ArtifactStore, staged: Staged) -> None:
    row = _published(store, staged(a="first", b="second"))
    assert row.folder is not None
    assert row.folder.startswith(f"outputs/sam2/chunk_0001/road_masks/clip.front/{fp()}")
    assert [record.name for record in row.files] == ["masks/a.txt", "masks/b.txt"]
    assert row.files[0] == FileRecord(name="masks/a.txt", size=5, sha256=hashlib.sha256(b"first").hexdigest())
    assert store.read_bytes(row, "masks/b.txt") == b"second"
    with store.open(row, "masks/a.txt") as first, store.open(row, "masks/a.txt") as second:
        assert (first.read(2), second.read(), first.read()) == (b"fi", b"first", b"rst")
    with store.local_file(row, "masks/a.txt") as path:
        assert path.name == "a.txt"
        assert path.read_text() == "first"


def _merged(store: ArtifactStore, row: ItemRow) -> ItemRow:
    return store.merge("road_masks", "chunk_0001", [row]).rows[row.key]


def test_the_first_published_folder_of_a_disk_stays(local_store: ArtifactStore, staged: Staged) -> None:
    first = _published(local_store, staged(a="first"))
    second = _published(local_store, staged(a="other bytes", b="more"))
    assert second == first
    assert local_store.read_bytes(second, "masks/a.txt") == b"first"


def test_on_object_stores_every_writer_has_a_folder_and_the_first_row_stays(
    object_store: ArtifactStore, staged: Staged
) -> None:
    first = _published(object_store, staged(a="first"))
    second = _published(object_store, staged(a="other bytes", b="more"))
    assert second.folder != first.folder
    assert _merged(object_store, first) == _merged(object_store, second) == first
    assert object_store.read_bytes(first, "masks/a.txt") == b"first"


def test_publishing_to_a_bucket_takes_a_request_a_file(gcs_folder: str, gcs_server: GcsServer, staged: Staged) -> None:
    store = ArtifactStore(gcs_folder)
    before = gcs_server.requests
    _published(store, staged(a="first", b="second", c="third"))
    assert gcs_server.requests - before == 3


def test_of_many_writers_at_once_one_row_remains_and_names_one_writers_files(
    store: ArtifactStore, staged: Staged
) -> None:
    folders = [staged(a=f"writer {number}", b=f"writer {number}") for number in range(6)]
    barrier = Barrier(6)

    def write(folder: Path) -> ItemRow:
        barrier.wait()
        return _merged(store, _published(store, folder))

    with ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(write, folders))
    assert all(row == rows[0] for row in rows)
    assert store.read_bytes(rows[0], "masks/a.txt") == store.read_bytes(rows[0], "masks/b.txt")
    assert store.keys_with_lost_files("road_masks", "chunk_0001", rows[:1]) == set()


def test_a_folder_that_lost_a_file_is_published_again(store: ArtifactStore, staged: Staged) -> None:
    row = _published(store, staged(a="first", b="second"))
    assert store.keys_with_lost_files("road_masks", "chunk_0001", [row]) == set()
    store.file_path(row, "masks/a.txt").unlink()
    assert store.keys_with_lost_files("road_masks", "chunk_0001", [row]) == {"clip.front"}
    with pytest.raises(StoreError, match=r"a\.txt is gone"):
        store.read_bytes(row, "masks/a.txt")
    with pytest.raises(StoreError, match=r"a\.txt is gone"), store.local_file(row, "masks/a.txt"):
        pass
    again = _published(store, staged(a="third", b="fourth"))
    assert store.read_bytes(again, "masks/a.txt") == b"third"
    assert store.keys_with_lost_files("road_masks", "chunk_0001", [again]) == set()


def test_a_file_edited_in_the_store_is_noticed(store: ArtifactStore, staged: Staged) -> None:
    row = _published(store, staged(a="first"))
    store.root.fs.pipe_file(store.file_path(row, "masks/a.txt").path, b"FIRST")
    with pytest.raises(StoreError, match="differs from what its manifest says"):
        store.read_bytes(row, "masks/a.txt")


def test_a_failed_copy_leaves_nothing_that_a_reader_could_see(
    local_store: ArtifactStore, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    folder = staged(a="first", b="second")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            _published(local_store, folder)
    item = Path(local_store.root.path) / "outputs/sam2/chunk_0001/road_masks/clip.front"
    assert list(item.iterdir()) == []
    assert local_store.read_bytes(_published(local_store, folder), "masks/a.txt") == b"first"


def test_partial_folders_of_killed_writers_go_after_a_day(local_store: ArtifactStore, staged: Staged) -> None:
    item = Path(local_store.root.path) / "outputs/sam2/chunk_0001/road_masks/clip.front"
    old, young = item / f".{fp()}.aaaa.partial", item / f".{fp()}.bbbb.partial"
    for partial in (old, young):
        (partial / "masks").mkdir(parents=True)
        (partial / "masks" / "a.txt").write_text("half")
    os.utime(old, (time.time() - 90_000,) * 2)
    _published(local_store, staged(a="first"))
    assert not old.exists()
    assert young.exists()


def test_a_link_and_the_stores_own_file_name_are_refused(store: ArtifactStore, staged: Staged) -> None:
    linked, named = staged(a="first"), staged(a="first")
    (linked / "link").symlink_to("/etc/hostname")
    (named / "_files.json").write_text("{}")
    for folder in (linked, named):
        with pytest.raises(StoreError, match=r"link|_files\.json"):
            _published(store, folder)


def test_asking_for_a_file_that_the_row_does_not_list_names_what_it_has(store: ArtifactStore, staged: Staged) -> None:
    row = _published(store, staged(a="first"))
    for name in ("b.txt", "../a.txt", "/etc/passwd", "masks/../masks/a.txt"):
        with pytest.raises(StoreError, match=r"has no file .* it has: masks/a\.txt"):
            store.open(row, name)


@pytest.mark.parametrize("key", ["../escape", "/abs", "a/../../b", "a//b", ""])
def test_an_item_key_cannot_leave_the_store(store: ArtifactStore, staged: Staged, key: str) -> None:
    with pytest.raises(ValueError, match="item key"):
        store.publish("road_masks", "chunk_0001", key, fp(), staged(a="x"))


@pytest.mark.parametrize("chunk", ["../escape", "/abs", "a/b", ""])
def test_a_chunk_key_cannot_leave_the_store(store: ArtifactStore, chunk: str) -> None:
    with pytest.raises(ValueError, match="chunk key"):
        store.manifest("road_masks", chunk)
    with pytest.raises(ValueError, match="chunk key"):
        store.merge("road_masks", chunk, [])


def test_files_of_a_row_can_be_copied_out(store: ArtifactStore, staged: Staged, tmp_path: Path) -> None:
    row = _published(store, staged(a="first", b="second"))
    assert [path.read_text() for path in store.copy_files(row, tmp_path / "out")] == ["first", "second"]
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["a.txt", "b.txt"]


def test_a_file_overwritten_in_its_size_is_not_copied_out(store: ArtifactStore, staged: Staged, tmp_path: Path) -> None:
    row = _published(store, staged(a="first", b="second"))
    store.root.fs.pipe_file(store.file_path(row, "masks/b.txt").path, b"SECOND")
    assert store.keys_with_lost_files("road_masks", "chunk_0001", [row]) == set()
    with pytest.raises(StoreError, match=r"b\.txt differs from what its manifest says"):
        store.copy_files(row, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["a.txt"]


def test_a_file_overwritten_in_its_size_has_no_local_copy(object_store: ArtifactStore, staged: Staged) -> None:
    row = _published(object_store, staged(a="first"))
    object_store.root.fs.pipe_file(object_store.file_path(row, "masks/a.txt").path, b"FIRST")
    with (
        pytest.raises(StoreError, match=r"a\.txt differs from what its manifest says"),
        object_store.local_file(row, "masks/a.txt"),
    ):
        pass


def test_a_partition_without_a_manifest_has_no_rows(store: ArtifactStore) -> None:
    assert store.manifest("road_masks", "chunk_0001").rows == {}


def test_merged_rows_are_there_for_the_next_reader(store: ArtifactStore) -> None:
    store.merge("road_masks", "chunk_0001", [_row("outputs/x", ())])
    store.merge("road_masks", "chunk_0001", [_row("outputs/y", (), key="other.front")])
    assert sorted(store.manifest("road_masks", "chunk_0001").rows) == ["clip.front", "other.front"]
    assert store.manifest("road_masks", "chunk_0002").rows == {}
    assert (store.root / "outputs/sam2/chunk_0001/road_masks.manifest.json").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"asset": "road_masks"}', b"\xff\xfe", b'{"asset":1,"chunk":2}']
)
def test_a_corrupt_manifest_is_named_and_left_as_it_is(store: ArtifactStore, content: bytes) -> None:
    path = store.root / "outputs/sam2/chunk_0001/road_masks.manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.fs.pipe_file(path.path, content)
    for action in (
        lambda: store.manifest("road_masks", "chunk_0001"),
        lambda: store.merge("road_masks", "chunk_0001", [_row("outputs/x", ())]),
    ):
        with pytest.raises(StoreError, match=r"chunk_0001/road_masks\.manifest\.json is not a readable manifest"):
            action()
    assert path.fs.cat_file(path.path) == content


def test_a_manifest_copied_from_another_chunk_is_refused(local_store: ArtifactStore) -> None:
    local_store.merge("road_masks", "chunk_0001", [])
    root = Path(local_store.root.path) / "outputs/sam2"
    shutil.copytree(root / "chunk_0001", root / "chunk_0002")
    with pytest.raises(StoreError, match=r"is the manifest of 'road_masks' in 'chunk_0001', not .*'chunk_0002'"):
        local_store.manifest("road_masks", "chunk_0002")


def _membership(key: str, *clip_ids: str) -> ChunkMembership:
    clips = tuple(ClipRef(clip_id=clip, camera="front", uri=f"/d/{clip}.mp4", size=1, etag="e") for clip in clip_ids)
    return ChunkMembership(key=key, source="folder /d", clips=clips)


def test_a_chunk_is_fixed_when_it_is_registered(store: ArtifactStore) -> None:
    store.save_chunk(_membership("chunk_0002", "a", "b"))
    store.save_chunk(_membership("chunk_0001", "c"))
    store.save_chunk(_membership("chunk_0002", "a", "b"))
    with pytest.raises(StoreError, match=r"chunk_0002' is fixed as 2 clips .* cannot become 3 clips"):
        store.save_chunk(_membership("chunk_0002", "a", "b", "d"))
    assert store.chunk("chunk_0002") == _membership("chunk_0002", "a", "b")
    assert store.chunk_keys() == ["chunk_0001", "chunk_0002"]
    assert (store.root / "chunks/chunk_0002.json").exists()


def test_an_unregistered_chunk_is_answered_with_those_that_are(store: ArtifactStore) -> None:
    assert store.chunk_keys() == []
    with pytest.raises(StoreError, match="registered: none"):
        store.chunk("chunk_0009")
    store.save_chunk(_membership("chunk_0001", "a"))
    with pytest.raises(StoreError, match=r"'chunk_0009' is not registered .* registered: chunk_0001"):
        store.chunk("chunk_0009")
    for number in range(2, 16):
        store.save_chunk(_membership(f"chunk_{number:04d}", "a"))
    with pytest.raises(StoreError, match=r"chunk_0001, .*, chunk_0010 and 5 more$"):
        store.chunk("chunk_0009_part_02")
    with pytest.raises(StoreError, match=r"'\.\./chunk_0001' is not registered .*: chunk key"):
        store.chunk("../chunk_0001")
    with pytest.raises(ValueError, match="chunk key"):
        store.save_chunk(_membership("Chunk 1", "a"))


def test_a_corrupt_chunk_is_named(store: ArtifactStore) -> None:
    store.save_chunk(_membership("chunk_0001", "a"))
    store.root.fs.pipe_file((store.root / "chunks/chunk_0001.json").path, b"{")
    with pytest.raises(StoreError, match=r"chunk_0001\.json is not a readable chunk"):
        store.chunk("chunk_0001")


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore("here")
    monkeypatch.chdir("/")
    assert Path(store.root.path) == tmp_path / "here"
    assert Path(ArtifactStore(f"file://{tmp_path}/here").root.path) == tmp_path / "here"


@pytest.mark.parametrize("root", ["http://host/x", "zip://x"])
def test_a_file_system_that_cannot_be_written_safely_is_refused(root: str) -> None:
    with pytest.raises(StoreError, match=r"works on a local folder, gs:// and memory://"):
        ArtifactStore(root)


@pytest.mark.parametrize("root", ["nonsense://host/x"])
def test_an_address_that_nobody_knows_is_refused(root: str) -> None:
    with pytest.raises(StoreError, match="nonsense://host/x is no address"):
        ArtifactStore(root)


def test_gs_without_gcsfs_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for protocol in ("gs", "gcs"):  # what an earlier test has loaded
        monkeypatch.delitem(_registry, protocol, raising=False)
    with pytest.raises(StoreError, match="extra 'gcs'"):
        ArtifactStore("gs://bucket-without-client/x")
