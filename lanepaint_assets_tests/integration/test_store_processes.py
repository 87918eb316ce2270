"""Real processes over one store: killed in the middle, and two at once on the same chunk."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.manifest import Manifest

REPOSITORY = Path(__file__).resolve().parents[2]

ITEM_COUNT = 12

# Writes every item's key to the journal before computing it, so that a test sees what was computed, by whom, in order.
WORKER = """
import sys, time
from pathlib import Path
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items

root, journal, name, count, seconds, workers = sys.argv[1:]

def compute(task, staged):
    with open(journal, "a") as file:
        file.write(f"{name} {task.key}\\n")
    for frame in range(5):
        (staged / f"{frame:05d}.png").write_bytes((task.key * 500).encode() + bytes([frame]))
        time.sleep(float(seconds) / 5)
    # Encoders may differ between runs; the file shows whose bytes were published.
    (staged / "writer.txt").write_text(name if name in ("one", "two") else "")
    return ItemOutput({"key": task.key})

keys = [f"clip_{number:02d}.front" for number in range(int(count))]
tasks = [
    ItemTask(key, fingerprint(asset="road_masks", item_key=key, upstream={}, engine=None, params={})) for key in keys
]
print("ready", flush=True)
sys.stdin.readline()
outcome = run_items(ArtifactStore(root), "road_masks", "chunk_0001", tasks, compute, run_id=name, workers=int(workers))
assert outcome.complete
print(outcome.data_version)
"""


def _start(root: Path, journal: Path, name: str, seconds: float = 0.0, workers: int = 1) -> subprocess.Popen[str]:
    """A process that has imported everything and waits for `_go`."""
    command = [sys.executable, "-c", WORKER, str(root), str(journal), name, str(ITEM_COUNT), str(seconds), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def _data_version(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.strip()


def _computed(journal: Path, name: str) -> list[str]:
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == name]


def _meaning(manifest: Manifest) -> dict[str, object]:
    """Everything of a manifest but who wrote it and how long it took."""
    return {key: row.model_dump(exclude={"run_id", "timings_s"}) for key, row in manifest.rows.items()}


def _check_files(store: ArtifactStore, manifest: Manifest) -> None:
    """Every file is as its row says, each item has one folder, and nothing else is left."""
    for row in manifest.rows.values():
        assert row.status == "ok"
        assert row.folder is not None
        folder = Path(store.root.path) / row.folder
        assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == [row.fingerprint]
        on_disk = {path.name for path in folder.iterdir()} - {"_files.json"}
        assert on_disk == {record.name for record in row.files}
        for record in row.files:
            assert hashlib.sha256((folder / record.name).read_bytes()).hexdigest() == record.sha256


@pytest.mark.parametrize(("kill_after", "workers"), [(1, 1), (6, 1), (5, 3)])
def test_a_killed_run_goes_on_where_it_was_and_ends_like_an_undisturbed_one(
    tmp_path: Path, kill_after: int, workers: int
) -> None:
    root, journal = tmp_path / "store", tmp_path / "journal"
    killed = _start(root, journal, "killed", seconds=0.1, workers=workers)
    _go(killed)
    deadline = time.monotonic() + 60
    while len(_computed(journal, "killed")) <= kill_after:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    store = ArtifactStore(str(root))
    finished = store.manifest("road_masks", "chunk_0001")
    assert 0 < len(finished.rows) < ITEM_COUNT
    _check_files(store, finished)

    resumed = _start(root, journal, "resumed")
    _go(resumed)
    version = _data_version(resumed)
    assert not set(_computed(journal, "resumed")) & set(finished.rows)
    manifest = store.manifest("road_masks", "chunk_0001")
    _check_files(store, manifest)

    quiet = tmp_path / "quiet"
    undisturbed = _start(quiet, tmp_path / "other_journal", "undisturbed")
    _go(undisturbed)
    assert version == _data_version(undisturbed)
    assert _meaning(manifest) == _meaning(ArtifactStore(str(quiet)).manifest("road_masks", "chunk_0001"))


def test_two_processes_on_one_chunk_lose_nothing_and_corrupt_nothing(tmp_path: Path) -> None:
    root, journal = tmp_path / "store", tmp_path / "journal"
    runs = [_start(root, journal, name, seconds=0.05, workers=2) for name in ("one", "two")]
    _go(*runs)
    versions = {_data_version(run) for run in runs}
    store = ArtifactStore(str(root))
    manifest = store.manifest("road_masks", "chunk_0001")
    assert len(manifest.rows) == ITEM_COUNT
    assert len(versions) == 1
    _check_files(store, manifest)
    assert _computed(journal, "one")
    assert _computed(journal, "two")
