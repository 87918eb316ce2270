"""Threads that bring rows for one manifest at the same time share its steps."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from upath import UPath

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.manifest import ItemRow, Manifest
from lanepaint_assets.store.merging import Turns, turns_at
from lanepaint_assets_tests.gcs_server import GcsServer
from lanepaint_assets_tests.unit.store.conftest import fp

THREADS = 8


def _row(number: int) -> ItemRow:
    return ItemRow(key=f"clip_{number:02d}.front", fingerprint=fp(), status="ok", run_id="r")


class Writer:
    """Remembers the rows of every step; the first one lasts until `go_on` is set."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.steps: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._error = error

    def __call__(self, rows: Sequence[ItemRow]) -> Manifest:
        self.steps.append([row.key for row in rows])
        if len(self.steps) == 1:
            self.begun.set()
            assert self.go_on.wait(30)
        elif self._error is not None:
            error, self._error = self._error, None
            raise error
        return Manifest(asset="road_masks", chunk="chunk_0001").merged(rows)


def _all_at_once(turns: Turns, write: Writer) -> list[Manifest | BaseException]:
    """What each of eight threads got, seven of which come while the first one is at work."""

    def merge(number: int) -> Manifest | BaseException:
        try:
            return turns.merge([_row(number)], write)
        except BaseException as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        first = pool.submit(merge, 0)
        assert write.begun.wait(30)
        others = [pool.submit(merge, number) for number in range(1, THREADS)]
        while len(turns._next.rows) < THREADS - 1:
            threading.Event().wait(0.001)
        write.go_on.set()
        return [future.result() for future in [first, *others]]


def test_who_waits_meanwhile_shares_one_step_and_sees_all_of_its_rows() -> None:
    write = Writer()
    found = _all_at_once(Turns(), write)
    assert len(write.steps) == 2
    assert sorted(write.steps[1]) == [_row(number).key for number in range(1, THREADS)]
    for manifest in found[1:]:
        assert isinstance(manifest, Manifest)
        assert sorted(manifest.rows) == sorted(write.steps[1])


def test_everyone_in_a_step_that_fails_gets_its_error_and_the_next_step_is_a_new_one() -> None:
    turns, write = Turns(), Writer(StoreError("read-only"))
    found = _all_at_once(turns, write)
    assert isinstance(found[0], Manifest)
    assert all(isinstance(error, StoreError) for error in found[1:])
    assert len(write.steps) == 2
    assert list(turns.merge([_row(9)], write).rows) == [_row(9).key]


def test_an_interrupt_ends_one_thread_and_another_does_the_step() -> None:
    found = _all_at_once(Turns(), Writer(KeyboardInterrupt()))
    assert sum(isinstance(error, KeyboardInterrupt) for error in found) == 1
    assert sum(isinstance(manifest, Manifest) and len(manifest.rows) == THREADS - 1 for manifest in found) == 6


def test_manifests_do_not_wait_for_each_other() -> None:
    one, other = UPath("memory://a/one.json"), UPath("memory://a/other.json")
    kept = turns_at(one)
    assert turns_at(UPath("memory://a/one.json")) is kept
    assert turns_at(other) is not kept


def test_a_forked_process_does_not_wait_for_the_turns_of_its_parent(tmp_path) -> None:
    store, write = ArtifactStore(str(tmp_path)), Writer()
    turns = turns_at(store.root / "outputs/sam2/chunk_0001/road_masks.manifest.json")
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(turns.merge, [_row(0)], write)
        assert write.begun.wait(30)
        child = os.fork()
        if child == 0:
            store.merge("road_masks", "chunk_0001", [_row(1)])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        write.go_on.set()
        under_way.result()
    assert os.waitstatus_to_exitcode(status) == 0
    assert list(store.manifest("road_masks", "chunk_0001").rows) == [_row(1).key]


def test_threads_of_a_process_rarely_lose_a_race_for_a_bucket(gcs_server: GcsServer, gcs_folder: str) -> None:
    store = ArtifactStore(gcs_folder)
    refused = gcs_server.bucket.refused
    with ThreadPoolExecutor(THREADS) as pool:
        manifests = list(pool.map(lambda number: store.merge("road_masks", "chunk_0001", [_row(number)]), range(40)))
    assert all(_row(number).key in manifest.rows for number, manifest in enumerate(manifests))
    assert len(store.manifest("road_masks", "chunk_0001").rows) == 40
    assert gcs_server.bucket.refused == refused


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_a_manifest_that_cannot_be_read_is_told_to_every_thread(store: ArtifactStore, content: bytes) -> None:
    path = store.root / "outputs/sam2/chunk_0001/road_masks.manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.fs.pipe_file(path.path, content)
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(store.merge, "road_masks", "chunk_0001", [_row(number)]) for number in range(THREADS)]
    assert all(isinstance(future.exception(), StoreError) for future in futures)
