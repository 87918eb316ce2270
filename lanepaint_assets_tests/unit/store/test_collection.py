"""What may be removed from the store, and what must stay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.collection import StoredVersion, collect, collectable, stored_versions
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items
from lanepaint_assets.store.manifest import ItemRow, Manifest, Status
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS
from lanepaint_assets_tests.gcs_server import GcsServer
from lanepaint_assets_tests.unit.store.conftest import fp

Staged = Callable[..., Path]

CHUNK = "chunk_0001"
LATER = timedelta(hours=1)


def published(store: ArtifactStore, staged: Staged, version: int, key: str = "clip.front/double", **files: str) -> str:
    folder, records = store.publish("road_masks", CHUNK, key, fp(key, version), staged(**(files or {"a": "text"})))
    row = ItemRow(key=key, fingerprint=fp(key, version), status="ok", folder=folder, files=records, run_id="r")
    store.merge("road_masks", CHUNK, [row])
    return folder


def marked(store: ArtifactStore, key: str, status: Status) -> None:
    row = store.manifest("road_masks", CHUNK).rows[key]
    store.merge("road_masks", CHUNK, [row.model_copy(update={"status": status})])


def garbage(store: ArtifactStore) -> list[StoredVersion]:
    return collectable(stored_versions(store), datetime.now(UTC) + LATER)


def test_only_versions_that_no_row_names_are_collected(store: ArtifactStore, staged: Staged) -> None:
    old = published(store, staged, 1, a="12345", b="678")
    new = published(store, staged, 2)
    published(store, staged, 1, key="other.front")
    found = garbage(store)
    assert [version.folder for version in found] == [old]
    # On a local disk, the list that completes an item counts too.
    has_list = store.root.protocol in LOCAL_PROTOCOLS
    assert (found[0].asset, found[0].chunk, found[0].files) == ("road_masks", CHUNK, 3 if has_list else 2)
    assert (found[0].size > 8) is has_list
    assert collect(store, found[0])
    assert garbage(store) == []
    assert len(list(stored_versions(store))) == 2
    row = store.manifest("road_masks", CHUNK).rows["clip.front/double"]
    assert row.folder == new
    assert store.read_bytes(row, "masks/a.txt") == b"text"
    assert store.keys_with_lost_files("road_masks", CHUNK, store.manifest("road_masks", CHUNK).rows.values()) == set()


@pytest.mark.parametrize("status", ["outdated", "retired"])
def test_what_a_manifest_names_stays_whatever_its_status(store: ArtifactStore, staged: Staged, status: Status) -> None:
    published(store, staged, 1)
    marked(store, "clip.front/double", status)
    assert garbage(store) == []
    assert all(version.is_named for version in stored_versions(store))


def test_what_was_written_after_the_moment_stays(store: ArtifactStore, staged: Staged) -> None:
    published(store, staged, 1)
    published(store, staged, 2)
    assert collectable(stored_versions(store), datetime.now(UTC) - LATER) == []


def test_a_version_that_is_named_again_meanwhile_stays(store: ArtifactStore, staged: Staged) -> None:
    published(store, staged, 1)
    row = store.manifest("road_masks", CHUNK).rows["clip.front/double"]
    published(store, staged, 2)
    (found,) = garbage(store)
    store.merge("road_masks", CHUNK, [row])
    assert not collect(store, found)
    assert store.read_bytes(row, "masks/a.txt") == b"text"


def test_of_two_writers_of_one_item_the_losers_files_are_collected(object_store: ArtifactStore, staged: Staged) -> None:
    won = published(object_store, staged, 1, a="first")
    lost = published(object_store, staged, 1, a="second", b="more")
    (found,) = garbage(object_store)
    assert (found.folder, found.files, found.size) == (lost, 2, 10)
    assert collect(object_store, found)
    row = object_store.manifest("road_masks", CHUNK).rows["clip.front/double"]
    assert row.folder == won
    assert object_store.read_bytes(row, "masks/a.txt") == b"first"
    assert [version.folder for version in stored_versions(object_store)] == [won]


def test_an_item_that_was_published_and_never_entered_is_made_again_and_its_files_are_collected(
    object_store: ArtifactStore,
) -> None:
    class Killed(ArtifactStore):
        def merge(self, asset: str, chunk: str, rows: Sequence[ItemRow]) -> Manifest:
            if any(row.folder for row in rows):
                raise KeyboardInterrupt
            return super().merge(asset, chunk, rows)

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        (folder / "a.txt").write_text("text")
        return ItemOutput()

    tasks = [ItemTask("clip.front", fp("clip.front"))]
    with pytest.raises(KeyboardInterrupt):
        run_items(Killed(object_store.root), "road_masks", CHUNK, tasks, compute, run_id="killed")
    again = run_items(object_store, "road_masks", CHUNK, tasks, compute, run_id="again")
    assert again.computed == ("clip.front",)
    (found,) = garbage(object_store)
    assert collect(object_store, found)
    assert [version.folder for version in stored_versions(object_store)] == [again.rows[0].folder]
    assert object_store.read_bytes(again.rows[0], "a.txt") == b"text"


def test_files_of_a_store_that_was_copied_from_a_disk_go_without_those_below_them(
    object_store: ArtifactStore, staged: Staged
) -> None:
    won = published(object_store, staged, 1, a="first")
    copied = won.rsplit("/", 1)[0]
    object_store.root.fs.pipe_file((object_store.root / copied / "masks" / "a.txt").path, b"copied")
    (found,) = garbage(object_store)
    assert (found.folder, found.files) == (copied, 1)
    assert collect(object_store, found)
    row = object_store.manifest("road_masks", CHUNK).rows["clip.front/double"]
    assert object_store.read_bytes(row, "masks/a.txt") == b"first"
    assert garbage(object_store) == []


def test_looking_through_a_bucket_asks_for_nothing_where_nothing_is(gcs_folder: str, gcs_server: GcsServer) -> None:
    store = ArtifactStore(gcs_folder)
    for number in range(20):
        store.merge("edited_trajectories", f"chunk_{number:04d}", [])
    before = gcs_server.requests
    assert list(stored_versions(store, ["road_masks"])) == []
    assert gcs_server.requests - before <= 4  # gcsfs may ask what the folder is
    before = gcs_server.requests
    assert list(stored_versions(store, ["edited_trajectories"], ["chunk_0007"])) == []
    assert gcs_server.requests - before <= 4


def test_what_a_killed_writer_left_is_collected(local_store: ArtifactStore, staged: Staged) -> None:
    published(local_store, staged, 1)
    item = Path(local_store.root.path) / "outputs/sam2" / CHUNK / "road_masks/clip.front/double"
    half = item / f".{fp()}.0a1b2c3d.partial"
    half.mkdir()
    (half / "half.txt").write_text("ha")
    long_ago = time.time() - 3600
    for file in (half / "half.txt", item.parents[1].with_name("road_masks.manifest.json")):
        os.utime(file, (long_ago, long_ago))
    found = collectable(stored_versions(local_store), datetime.now(UTC) - timedelta(minutes=1))
    assert [Path(version.folder).name for version in found] == [half.name]
    assert collect(local_store, found[0])
    assert not half.exists()
    assert item.is_dir()


def test_an_empty_store_has_no_versions(store: ArtifactStore) -> None:
    assert list(stored_versions(store)) == []


def test_who_has_seen_enough_versions_of_a_bucket_ends_the_looking(
    gcs_folder: str, gcs_server: GcsServer, staged: Staged
) -> None:
    store, chunks = ArtifactStore(gcs_folder), [f"chunk_{number:04d}" for number in range(60)]
    folder = staged(a="text")
    for chunk in chunks:
        store.publish("road_masks", chunk, "clip.front", fp(), folder)
    assert [version.chunk for version in stored_versions(store, ["road_masks"])] == chunks
    before = gcs_server.requests
    versions = stored_versions(store, ["road_masks"])
    assert isinstance(versions, Generator)
    assert next(versions).chunk == chunks[0]
    versions.close()
    assert gcs_server.requests - before < len(chunks) * 2


@given(st.lists(st.tuples(st.sampled_from(["a.front", "b.front/one"]), st.integers(1, 4)), max_size=8))
@settings(deadline=None, max_examples=30)
def test_after_a_collection_exactly_the_named_versions_are_left(history: list[tuple[str, int]]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        store = ArtifactStore(f"{folder}/store")
        for number, (key, version) in enumerate(history):
            files = Path(folder) / f"staged_{number}"
            files.mkdir()
            (files / "a.txt").write_text(f"{key} {version}")
            where, records = store.publish("road_masks", CHUNK, key, fp(key, version), files)
            row = ItemRow(
                key=key, fingerprint=fp(key, version), status="ok", folder=where, files=records, run_id=str(number)
            )
            store.merge("road_masks", CHUNK, [row])
        for found in garbage(store):
            assert collect(store, found)
        named = {row.folder for row in store.manifest("road_masks", CHUNK).rows.values()}
        assert {version.folder for version in stored_versions(store)} == named


def test_folders_that_are_no_partitions_are_passed_over(store: ArtifactStore, staged: Staged) -> None:
    folder = published(store, staged, 1)
    for stray in ("lost+found", ".snapshots", "Copy of chunk_0001"):
        path = store.root / "outputs/sam2" / stray / "road_masks" / fp() / "a.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.fs.pipe_file(path.path, b"x")
    assert [version.folder for version in stored_versions(store)] == [folder]
    assert list(stored_versions(store, ["road_masks"], ["../chunk_0001"])) == []


def test_versions_of_some_assets_and_partitions_only(store: ArtifactStore, staged: Staged) -> None:
    published(store, staged, 1)
    assert len(list(stored_versions(store, ["road_masks"], [CHUNK]))) == 1
    assert list(stored_versions(store, ["road_masks"], ["chunk_0002"])) == []
    assert list(stored_versions(store, ["vp_inputs"], [CHUNK])) == []
