"""Storage that fails: a manifest never names a missing or different file, and runs succeed or say what is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from lanepaint_assets.store import gcs_client, gcs_requests, gcs_uploads
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.collection import collect, stored_versions
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.manifest import Manifest
from lanepaint_assets_tests.fault_proxy import Fault, FaultProxy, read_only, running_fault_proxy, share_of
from lanepaint_assets_tests.gcs_server import GcsServer, running_gcs_server

BUCKET, ASSET, CHUNK = "faulty-bucket", "road_masks", "chunk_0001"
FAULTS = (Fault.UNAVAILABLE, Fault.TOO_MANY, Fault.RESET_UPLOAD, Fault.LOST_ANSWER, Fault.CUT_ANSWER)

# Larger than one request may be, so that uploads in parts are hit too.
LARGE_BYTES = 9 << 20


class Watcher:
    """Looks at a bucket after every change, as the luckiest reader could, and remembers what must never be seen."""

    def __init__(self, server: GcsServer) -> None:
        self._bucket = server.bucket
        self._named: dict[str, dict[str, str]] = {}
        self.states = 0
        self.violations: list[str] = []
        self._bucket.after_change = self._look

    def _look(self, changed: str) -> None:
        self.states += 1
        if changed.endswith(".manifest.json"):
            manifest = Manifest.model_validate_json(self._bucket.objects[changed].content)
            root = changed[: changed.index("outputs/")]
            self._named[changed] = {
                f"{root}{row.folder}/{record.name}": record.sha256
                for row in manifest.rows.values()
                for record in row.files
            }
            checked = self._named[changed]
        else:
            digests = [named[changed] for named in self._named.values() if changed in named]
            checked = {changed: digests[0]} if digests else {}
        for name, sha256 in checked.items():
            found = self._bucket.objects.get(name)
            if found is None:
                self.violations.append(f"{name} is missing")
            elif hashlib.sha256(found.content).hexdigest() != sha256:
                self.violations.append(f"{name} differs")


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with running_gcs_server(BUCKET) as server:
        yield server


@pytest.fixture
def proxy(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """In front of the server, for every client library; waits between tries are short."""
    sleep = asyncio.sleep
    for module in (gcs_uploads, gcs_client):
        monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(gcs_requests, "ANSWER_S", 5.0)
    monkeypatch.setattr(gcs_uploads, "_PART_BYTES", 4 << 20)  # several of a file
    shorter = SimpleNamespace(sleep=lambda seconds: sleep(seconds / 100))
    monkeypatch.setattr(importlib.import_module("gcsfs.retry"), "asyncio", shorter)
    with running_fault_proxy(server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


def _tasks(count: int) -> list[ItemTask]:
    keys = [f"clip_{number:02d}.front" for number in range(count)]
    return [ItemTask(key, fingerprint(asset=ASSET, item_key=key, upstream={}, engine=None, params={})) for key in keys]


def _compute(task: ItemTask, staged: Path) -> ItemOutput:
    # Bytes of their own for every writer: what is published must be one writer's files, not a mixture.
    noise = random.Random()
    for number in range(4):
        (staged / f"{number:05d}.png").write_bytes(noise.randbytes(20_000))
    if task.key.endswith("0.front"):
        (staged / "video.mp4").write_bytes(noise.randbytes(LARGE_BYTES))
    return ItemOutput({"key": task.key})


def _run(root: str, name: str, count: int) -> PartitionOutcome:
    return run_items(
        ArtifactStore(root), ASSET, CHUNK, _tasks(count), _compute, run_id=name, workers=2, progress=lambda *_: None
    )


def test_over_two_hundred_faults_no_manifest_names_a_missing_or_different_file(
    server: GcsServer, proxy: FaultProxy
) -> None:
    watcher = Watcher(server)
    proxy.plan = share_of(0.2, FAULTS, seed=11)
    finished = 0
    for number in range(40):
        root = f"gs://{BUCKET}/study_{number}"
        # Two runs at once on the same partition, as after a redundant request.
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(_run, root, name, 4) for name in ("one", "two")]
            outcomes = [run.result() for run in runs if run.exception() is None]
            troubles = [error for run in runs if (error := run.exception()) is not None]
        assert all(isinstance(trouble, StoreError | OSError) for trouble in troubles), troubles
        for outcome in outcomes:
            assert outcome.complete
            assert not outcome.failed
            finished += 1
        if sum(proxy.injected.values()) >= 200:
            break
    assert sum(proxy.injected.values()) >= 200
    assert all(proxy.injected[fault] for fault in FAULTS)
    assert watcher.states > 200
    assert watcher.violations == []
    assert finished


def test_a_run_succeeds_where_one_call_in_twenty_answers_503(server: GcsServer, proxy: FaultProxy) -> None:
    watcher = Watcher(server)
    proxy.plan = share_of(0.05, (Fault.UNAVAILABLE,), seed=5)
    outcome = _run(f"gs://{BUCKET}/study", "run", 24)
    assert outcome.complete
    assert outcome.failed == ()
    assert proxy.injected[Fault.UNAVAILABLE] >= 3
    assert watcher.violations == []


@pytest.mark.parametrize("fault", [Fault.RESET_UPLOAD, Fault.LOST_ANSWER, Fault.DAMAGED])
@pytest.mark.parametrize("size", [30_000, LARGE_BYTES], ids=["one request", "in parts"])
def test_an_upload_that_is_cut_off_or_damaged_arrives_whole_at_the_next_try(
    server: GcsServer, proxy: FaultProxy, tmp_path: Path, fault: Fault, size: int
) -> None:
    content = random.Random(1).randbytes(size)
    (tmp_path / "file.bin").write_bytes(content)
    hits = iter([fault])
    proxy.plan = lambda request: next(hits, None) if request.size > 10_000 else None
    store = ArtifactStore(f"gs://{BUCKET}/study")
    connection, _ = gcs_client.connect_gcs(store.root)
    (uploaded,) = connection.uploads.upload([(tmp_path / "file.bin", "study/file.bin")])
    assert proxy.injected[fault] == 1
    assert (uploaded.size, uploaded.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert server.bucket.objects["study/file.bin"].content == content


def test_a_bucket_that_becomes_read_only_ends_the_run_with_what_to_do(server: GcsServer, proxy: FaultProxy) -> None:
    watcher = Watcher(server)
    root, writes = f"gs://{BUCKET}/study", iter(range(1000))

    def becomes_read_only(request):
        return read_only(request) if request.writes and next(writes) > 20 else None

    proxy.plan = becomes_read_only
    with pytest.raises(StoreError, match=r"gs://faulty-bucket/study/.*403.*roles/storage\.objectUser"):
        _run(root, "run", 12)
    assert watcher.violations == []
    before = set(ArtifactStore(root).manifest(ASSET, CHUNK).rows)
    assert 0 < len(before) < 12

    proxy.plan = lambda request: None
    outcome = _run(root, "again", 12)
    assert outcome.complete
    assert set(outcome.reused) >= before
    assert watcher.violations == []


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.FORBIDDEN, Fault.CUT_ANSWER])
def test_who_reads_or_lists_what_a_bucket_does_not_give_is_told_of_what_and_what_to_do(
    proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    root = f"gs://{BUCKET}/study"
    row = _run(root, "run", 1).rows[0]
    store, name = ArtifactStore(root), row.files[0].name
    file = f"{row.folder}/{name}"
    questions: list[tuple[str, Callable[[], object]]] = [
        (f"{file} cannot be read", lambda: store.read_bytes(row, name)),
        (f"{file} cannot be read", lambda: store.local_file(row, name).__enter__()),
        (f"{file} cannot be read", lambda: store.copy_files(row, tmp_path / "copies")),
        ("chunks cannot be listed", store.chunk_keys),
        ("cannot be listed", lambda: store.keys_with_lost_files(ASSET, CHUNK, [row])),
        ("outputs/[^/]* cannot be listed", lambda: list(stored_versions(store, [ASSET]))),
    ]
    proxy.plan = lambda _: fault
    for said, ask in questions:
        with pytest.raises(StoreError, match=rf"^{root}/.*{said}: .+; see that the bucket exists"):
            ask()


def test_what_may_not_be_removed_is_named(proxy: FaultProxy, tmp_path: Path) -> None:
    store, (task,) = ArtifactStore(f"gs://{BUCKET}/study"), _tasks(1)
    (tmp_path / "file.bin").write_bytes(b"bytes")
    store.publish(ASSET, CHUNK, task.key, task.fingerprint, tmp_path)
    (version,) = stored_versions(store, [ASSET])
    proxy.plan = read_only
    with pytest.raises(StoreError, match=rf"{task.fingerprint}/\w+ cannot be removed: .*roles/storage\.objectUser"):
        collect(store, version)


def test_a_step_that_waits_too_long_for_the_bucket_says_so(
    server: GcsServer, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_uploads, "GIVE_UP_AFTER_S", 0.5)
    proxy.plan = lambda request: Fault.UNAVAILABLE
    (tmp_path / "file.bin").write_bytes(b"bytes")
    connection, _ = gcs_client.connect_gcs(ArtifactStore(f"gs://{BUCKET}/study").root)
    with pytest.raises(StoreError, match=r"could not be uploaded in 0 s \(503 .*finished items are kept"):
        connection.uploads.upload([(tmp_path / "file.bin", "study/file.bin")])
    assert proxy.injected[Fault.UNAVAILABLE] > 2
