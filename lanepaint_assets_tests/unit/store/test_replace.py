"""Atomic replacement: no update is lost, and file systems that cannot promise this are refused."""

from __future__ import annotations

import errno
import fcntl
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import connect_gcs, gcs_options
from lanepaint_assets.store.replace import AtomicFile, GcsFile, LocalFile, MemoryFile, atomic_file
from lanepaint_assets_tests.gcs_server import GcsServer


def _append(mark: str):
    return lambda current: (current or b"") + mark.encode()


@pytest.fixture(params=["local", "memory", "gs"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicFile:
    if request.param == "local":
        return LocalFile(tmp_path / "deep" / "counter.json")
    if request.param == "memory":
        return MemoryFile(UPath(f"memory://{uuid.uuid4().hex}/counter.json"))
    # Waits are shorter than on the real service, which takes a write a second.
    return _gcs_file(request.getfixturevalue("gcs_folder"), lambda seconds: time.sleep(seconds / 20))


def test_a_missing_file_reads_as_none(file: AtomicFile) -> None:
    assert file.read() is None


def test_an_update_sees_the_content_that_it_replaces(file: AtomicFile) -> None:
    assert file.update(_append("a")) == b"a"
    assert file.update(_append("b")) == b"ab"
    assert file.read() == b"ab"


def test_updates_from_many_threads_are_all_kept(file: AtomicFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: file.update(_append("x")), range(80)))
    assert file.read() == b"x" * 80


def test_a_change_that_raises_leaves_the_content(file: AtomicFile) -> None:
    file.update(_append("a"))

    def fail(current: bytes | None) -> bytes:
        raise StoreError("no")

    with pytest.raises(StoreError):
        file.update(fail)
    assert file.read() == b"a"
    assert file.update(_append("b")) == b"ab"


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    LocalFile(path).update(_append("a"))
    before = path.stat()
    LocalFile(path).update(lambda current: current or b"")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_temporary_file_of_a_killed_writer_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".file.json.tmp").write_bytes(b"half a mani")
    LocalFile(tmp_path / "file.json").update(_append("a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.json.lock", "file.json"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_flock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"no working flock .* local disk or a gs://"):
        LocalFile(tmp_path / "file.json").update(_append("a"))
    assert not (tmp_path / "file.json").exists()


def test_another_error_of_flock_is_not_taken_for_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="disk"):
        LocalFile(tmp_path / "file.json").update(_append("a"))


def test_a_protocol_without_atomic_replacement_is_refused() -> None:
    with pytest.raises(StoreError, match="http"):
        atomic_file(UPath("http://host/file.json"))


def _gcs_file(folder: str, sleep: Callable[[float], None] = lambda seconds: None) -> GcsFile:
    connection, name = connect_gcs(UPath(folder, **gcs_options({})) / "file.json")
    return GcsFile(replace(connection, sleep=sleep), name)


def test_a_writer_that_loses_the_race_on_gs_reads_again_and_adds_its_own(
    gcs_server: GcsServer, gcs_folder: str
) -> None:
    other, own = _gcs_file(gcs_folder), _gcs_file(gcs_folder)
    other.update(_append("a"))
    bucket = gcs_server.bucket
    refused, written = bucket.refused, bucket.written
    bucket.before_write = lambda: other.update(_append("b"))
    assert own.update(_append("c")) == b"abc"
    assert (bucket.refused - refused, bucket.written - written) == (1, 2)


def test_only_one_of_two_creators_on_gs_creates(gcs_server: GcsServer, gcs_folder: str) -> None:
    other, own = _gcs_file(gcs_folder), _gcs_file(gcs_folder)
    gcs_server.bucket.before_write = lambda: other.update(lambda current: current or b"theirs")
    assert own.update(lambda current: current or b"mine") == b"theirs"
    assert own.read() == b"theirs"


def test_a_replacement_on_gs_takes_two_requests(gcs_server: GcsServer, gcs_folder: str) -> None:
    file = _gcs_file(gcs_folder)
    file.update(_append("a"))
    before = gcs_server.requests
    assert file.update(_append("b")) == b"ab"
    assert gcs_server.requests - before == 2


def test_content_on_gs_that_another_writer_replaces_while_it_is_read_is_read_again(
    gcs_server: GcsServer, gcs_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a server that does not say the generation with the content: the two come from two requests.
    monkeypatch.setattr(gcs_server, "tells_generation", False)
    other, own = _gcs_file(gcs_folder), _gcs_file(gcs_folder)
    other.update(_append("a"))
    original = own.connection.bucket.get_blob
    overtakes = iter([True])

    def overtaken(name: str, **options: object):
        blob = original(name, **options)
        if next(overtakes, False):
            other.update(_append("b"))
        return blob

    monkeypatch.setattr(own.connection.bucket, "get_blob", overtaken)
    assert own.update(_append("c")) == b"abc"


def test_a_writer_on_gs_waits_longer_after_each_loss_and_gives_up_with_a_reason(
    gcs_server: GcsServer, gcs_folder: str
) -> None:
    waits: list[float] = []
    other, bucket = _gcs_file(gcs_folder), gcs_server.bucket

    def always_first() -> None:
        other.update(_append("x"))
        bucket.before_write = always_first

    bucket.before_write = always_first
    try:
        with pytest.raises(StoreError, match="40 times in a row"):
            _gcs_file(gcs_folder, waits.append).update(_append("y"))
    finally:
        bucket.before_write = None
    assert len(waits) == 40
    assert all(0 <= wait_s <= 4 for wait_s in waits)
    assert max(waits[10:]) > max(waits[:2])


def test_a_bucket_that_does_not_exist_is_said_at_the_first_write(gcs_folder: str) -> None:
    file = _gcs_file("gs://no-such-bucket/x")
    assert file.read() is None
    with pytest.raises(StoreError, match=r"gs://no-such-bucket/x/file.json: NotFound: .*bucket does not exist.*role"):
        file.update(_append("a"))


def test_gs_without_its_client_library_names_the_extra(gcs_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = UPath(gcs_folder, token="anon", project="another-client")
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(StoreError, match="extra 'gcs'"):
        connect_gcs(path)


def test_credentials_that_only_one_of_the_two_libraries_reads_are_refused() -> None:
    with pytest.raises(StoreError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        connect_gcs(UPath("gs://bucket/x", token="key.json"))


def test_one_client_serves_all_buckets_and_threads_of_a_process(gcs_folder: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        connections = list(pool.map(lambda number: _gcs_file(f"gs://bucket-{number}/x").connection, range(8)))
    assert len({id(connection.uploads.pool) for connection in connections}) == 1
    assert len({id(connection.uploads.send) for connection in connections}) == 1


def test_an_emulator_is_reached_without_credentials_however_it_is_named(
    gcs_server: GcsServer, gcs_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url.removeprefix("http://"))
    assert _gcs_file(gcs_folder).update(_append("a")) == b"a"
