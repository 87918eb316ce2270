"""Atomic replacement: no update is lost, and file systems that cannot promise this are refused."""

from __future__ import annotations

import errno
import fcntl
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.replace import AtomicFile, GcsFile, LocalFile, MemoryFile, atomic_file, connect_gcs
from lanepaint_assets_tests.unit.store import fake_gcs


def _append(mark: str):
    return lambda current: (current or b"") + mark.encode()


@pytest.fixture(params=["local", "memory", "gs"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicFile:
    if request.param == "local":
        return LocalFile(tmp_path / "deep" / "counter.json")
    if request.param == "memory":
        return MemoryFile(UPath(f"memory://{uuid.uuid4().hex}/counter.json"))
    return GcsFile(fake_gcs.connection(fake_gcs.FakeBucket("b")), "counter.json")


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


def test_a_writer_that_loses_the_race_on_gs_reads_again_and_adds_its_own() -> None:
    bucket = fake_gcs.FakeBucket("b")
    other, own = (GcsFile(fake_gcs.connection(bucket), "file.json") for _ in range(2))
    other.update(_append("a"))
    bucket.before_upload = lambda: other.update(_append("b"))
    assert own.update(_append("c")) == b"abc"
    assert (bucket.refused, bucket.uploads) == (1, 3)


def test_only_one_of_two_creators_on_gs_creates() -> None:
    bucket = fake_gcs.FakeBucket("b")
    other, own = (GcsFile(fake_gcs.connection(bucket), "file.json") for _ in range(2))
    bucket.before_upload = lambda: other.update(lambda current: current or b"theirs")
    assert own.update(lambda current: current or b"mine") == b"theirs"
    assert own.read() == b"theirs"


def test_a_read_on_gs_that_another_writer_overtakes_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = fake_gcs.FakeBucket("b")
    file = GcsFile(fake_gcs.connection(bucket), "file.json")
    file.update(_append("a"))
    original = bucket.get_blob
    overtakes = iter([True])

    def overtaken(name: str):
        blob = original(name)
        if next(overtakes, False):
            bucket.upload(name, b"ab", 1)
        return blob

    monkeypatch.setattr(bucket, "get_blob", overtaken)
    assert file.read() == b"ab"


def test_a_writer_on_gs_waits_longer_after_each_loss_and_gives_up_with_a_reason() -> None:
    bucket, waits = fake_gcs.FakeBucket("b"), []
    other = GcsFile(fake_gcs.connection(bucket), "file.json")

    def always_first() -> None:
        other.update(_append("x"))
        bucket.before_upload = always_first

    bucket.before_upload = always_first
    with pytest.raises(StoreError, match="40 times in a row"):
        GcsFile(fake_gcs.connection(bucket, waits.append), "file.json").update(_append("y"))
    assert len(waits) == 40
    assert all(0 <= wait_s <= 4 for wait_s in waits)
    assert max(waits[10:]) > max(waits[:2])


def test_gs_without_its_client_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_gcs.cache_clear()
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(StoreError, match="extra 'gcs'"):
        connect_gcs("bucket", None, None, None)


def test_credentials_that_only_one_of_the_two_libraries_reads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gcs.install(monkeypatch)
    with pytest.raises(StoreError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        connect_gcs("bucket", None, None, "key.json")


def test_an_emulator_is_reached_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    client = fake_gcs.install(monkeypatch)
    seen: list[dict[str, object]] = []
    monkeypatch.setattr(client, "__init__", lambda self, **options: seen.append(options))
    connect_gcs("bucket", "p", "http://localhost:9023", "anon")
    connect_gcs.cache_clear()
    assert seen == [
        {
            "project": "p",
            "client_options": {"api_endpoint": "http://localhost:9023"},
            "use_auth_w_custom_endpoint": False,
        }
    ]
