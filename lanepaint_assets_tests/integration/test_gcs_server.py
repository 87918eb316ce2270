"""The platform on a gs:// root, over HTTP, with the real client libraries.

Three servers: one of the tests' own, which enforces preconditions and checksums; the emulator of PyPI, which does not;
and any that `STORAGE_EMULATOR_HOST` names when the suite is started.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest
from upath import UPath

from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.store import artifacts
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.collection import collect, collectable, stored_versions
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.gcs_client import connect_gcs, gcs_options
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.merging import Turns
from lanepaint_assets_tests.fixtures import Graph, data_versions, statuses
from lanepaint_assets_tests.gcs_server import running_gcs_server

GIVEN = os.environ.get("STORAGE_EMULATOR_HOST")
ASSET, CHUNK = "road_masks", "chunk_0001"
WRITERS, ROWS_EACH = 16, 3

# The emulator is up in about a second on idle cores.
START_S = 60.0


@contextmanager
def _emulator() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen([*command, "--in-memory", "--quiet"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, "the emulator ended"
            assert time.monotonic() < deadline, "the emulator does not answer"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # it keeps nothing but memory
        process.wait()


@pytest.fixture(scope="module", params=["own", "emulator", "given"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "own":
        with running_gcs_server("lane-bucket") as server:
            yield server.url
    elif request.param == "emulator":
        with _emulator() as url:
            yield url
    elif GIVEN:
        yield GIVEN if "://" in GIVEN else f"http://{GIVEN}"
    else:
        pytest.skip("no further server: STORAGE_EMULATOR_HOST names none")


@pytest.fixture
def root(server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty address on the server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server_url)
    bucket = "lane-bucket"
    body = json.dumps({"name": bucket}).encode()
    creation = urllib.request.Request(
        f"{server_url}/storage/v1/b?project=p", body, {"Content-Type": "application/json"}
    )
    with suppress(urllib.error.HTTPError):  # it is there already
        urllib.request.urlopen(creation, timeout=30).close()
    return f"gs://{bucket}/{uuid.uuid4().hex}"


def _fingerprint(key: str) -> str:
    return fingerprint(asset=ASSET, item_key=key, upstream={}, engine=None, params={})


def _tasks(count: int) -> list[ItemTask]:
    keys = [f"clip_{number:02d}.front" for number in range(count)]
    return [ItemTask(key, _fingerprint(key)) for key in keys]


def _compute(task: ItemTask, staged: Path) -> ItemOutput:
    (staged / "masks").mkdir()
    (staged / "masks" / "00000.png").write_bytes(b"--==0==\n--==0==--\n" + task.key.encode())
    (staged / "video.mp4").write_bytes(os.urandom(5 << 20))
    return ItemOutput()


def test_items_are_published_reused_read_back_and_collected(root: str, tmp_path: Path) -> None:
    store = ArtifactStore(root)
    first = run_items(store, ASSET, CHUNK, _tasks(3), _compute, run_id="r")
    assert first.computed == ("clip_00.front", "clip_01.front", "clip_02.front")
    again = run_items(ArtifactStore(root), ASSET, CHUNK, _tasks(3), _compute, run_id="r")
    assert (again.computed, again.reused) == ((), first.computed)
    row = again.rows[0]
    assert store.read_bytes(row, "masks/00000.png").endswith(b"clip_00.front")
    with store.local_file(row, "video.mp4") as video:
        assert video.stat().st_size == 5 << 20
    assert [path.name for path in store.copy_files(row, tmp_path / "copy")] == ["00000.png", "video.mp4"]

    store.file_path(row, "video.mp4").unlink()
    assert store.keys_with_lost_files(ASSET, CHUNK, again.rows) == {row.key}
    mended = run_items(store, ASSET, CHUNK, _tasks(3), _compute, run_id="r")
    assert mended.computed == (row.key,)

    later = datetime.now(UTC) + timedelta(days=1)
    (remains,) = collectable(stored_versions(store, [ASSET]), later)
    assert (remains.folder, remains.files) == (row.folder, 1)
    assert collect(store, remains)
    assert collectable(stored_versions(store, [ASSET]), later) == []
    unnamed = tmp_path / "unnamed"
    unnamed.mkdir()
    (unnamed / "a.txt").write_text("nobody's")
    folder, _ = store.publish(ASSET, CHUNK, "clip_09.front", _fingerprint("clip_09.front"), unnamed)
    (version,) = collectable(stored_versions(store, [ASSET]), later)
    assert collect(store, version)
    assert not (store.root / folder).exists()
    assert collectable(stored_versions(store, [ASSET]), later) == []


def test_sixteen_writers_of_one_manifest_keep_every_row(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads of a process take turns; these compete as processes do.
    monkeypatch.setattr(artifacts, "turns_at", lambda path: Turns())
    if not _enforces_preconditions(root):
        pytest.skip("this server does not enforce preconditions, which compare-and-swap rests on")
    start = Barrier(WRITERS)

    def write(writer: int) -> None:
        store = ArtifactStore(root)
        start.wait()
        for number in range(ROWS_EACH):
            key = f"clip_{writer:02d}_{number}.front"
            row = ItemRow(key=key, fingerprint=_fingerprint(key), status="ok", run_id=f"writer {writer}")
            store.merge(ASSET, CHUNK, [row])

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    rows = ArtifactStore(root).manifest(ASSET, CHUNK).rows
    assert set(rows) == {
        f"clip_{writer:02d}_{number}.front" for writer in range(WRITERS) for number in range(ROWS_EACH)
    }


def _enforces_preconditions(root: str) -> bool:
    from google.api_core.exceptions import PreconditionFailed

    connection, name = connect_gcs(UPath(f"{root}/probe", **gcs_options({})))
    for content in (b"first", b"second"):
        try:
            connection.bucket.blob(name).upload_from_string(
                content, "text/plain", if_generation_match=0, checksum="crc32c", retry=None
            )
        except PreconditionFailed:
            return True
    return False


def test_the_master_pipeline_runs_on_a_bucket_and_a_second_run_computes_nothing(root: str, tiny_drive: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        # Two workers lose each other's rows where preconditions are not enforced.
        workers = 2 if _enforces_preconditions(root) else 1
        graph = Graph(root, tiny_drive, instance, workers=workers)
        (chunk,) = graph.register()
        first = graph.run("master_pipeline", chunk)
        assert first.success
        store = ArtifactStore(root)
        for asset in [asset for assets in STAGE_ASSETS.values() for asset in assets]:
            manifest = store.manifest(asset, chunk)
            assert set(statuses(manifest).values()) == {"ok"}, [(asset, row.reason) for row in manifest.rows.values()]
            for row in manifest.rows.values():
                for record in row.files:
                    assert len(store.read_bytes(row, record.name)) == record.size
        graph.journal.take()
        second = graph.run("master_pipeline", chunk)
        assert graph.journal.take() == []
        assert data_versions(second) == data_versions(first)
