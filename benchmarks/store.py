"""How fast items are published to a bucket, against the plain `put` of gcsfs to the same server in the same run.

The store does more: it hashes every file (SHA-256 for the manifest, CRC32C for the server, which compares it), every
writer has a folder of its own, and a row in the chunk's manifest makes each item one that others see. Both are
measured: files alone, which is what `put` does, and items with their rows. Three kinds of items: folders of mask
pictures, videos, and small items of two files. All sides get the same items from the same number of workers.

The server is the tests' own one as a process of its own, or the one that STORAGE_EMULATOR_HOST names; on this machine's
loopback it answers at once, so processor time decides. `--latency-ms` has every request of the own one wait, as on a
network.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.manifest import ItemRow

NAME = "store"

ASSET, CHUNK = "road_masks", "chunk_0001"
BUCKET = "benchmark-bucket"
SEED = 90_023
WORKERS = 4
TARGET_RATIO = 1.0
_MB = 1e6


@dataclass(frozen=True)
class Shape:
    """Items of one kind: how many, and the sizes of the files of each in bytes."""

    name: str
    items: int
    sizes: tuple[int, ...]

    @property
    def megabytes(self) -> float:
        """Of all items."""
        return self.items * sum(self.sizes) / _MB


SHAPES = (
    # A clip's masks: 100 pictures, the packed file and an overlay video.
    Shape("mask folders", 8, (12_000,) * 100 + (300_000, 3_000_000)),
    # An edited video and its timestamps.
    Shape("edited videos", 8, (12_000_000, 3_000)),
    # A trajectory: answers and what drawings need.
    Shape("trajectories", 40, (20_000, 150_000)),
)


def main() -> None:
    parser = command_line(NAME, "Publishing items to a bucket, against plain gcsfs put.")
    parser.add_argument("--latency-ms", type=int, default=0, help="wait before each answer of the server")
    arguments = parser.parse_args()
    with _server(arguments.latency_ms) as url, tempfile.TemporaryDirectory(prefix="lanepaint-") as folder:
        os.environ["STORAGE_EMULATOR_HOST"] = url
        outcome = measure(Path(folder), arguments.rounds)
    report(NAME, outcome, arguments.json)


def measure(folder: Path, rounds: int) -> Outcome:
    """All shapes; the methods alternate."""
    outcome, noise = Outcome(), random.Random(SEED)
    for number, shape in enumerate(SHAPES):
        items = [_written(folder / f"{number}_{item}", shape.sizes, noise) for item in range(shape.items)]
        seconds = alternating_seconds(
            {
                "files": partial(_publish, items, with_rows=False),
                "items": partial(_publish, items, with_rows=True),
                "put": partial(_put, items),
            },
            rounds,
        )
        for figure, method, amount, unit in (
            ("bytes of files", "files", shape.megabytes, "MB/s"),
            ("items with rows", "items", float(shape.items), "items/s"),
        ):
            outcome.add(
                f"{shape.name}: {figure}",
                amount / seconds[method],
                unit,
                "higher",
                baseline=amount / seconds["put"],
            )
            ratio = seconds["put"] / seconds[method]
            outcome.add(f"{shape.name}: {figure}, against gcsfs put", ratio, "x", "higher", target=TARGET_RATIO)
    return outcome


def _publish(items: Sequence[Path], *, with_rows: bool) -> None:
    store = ArtifactStore(f"gs://{BUCKET}/{uuid.uuid4().hex}")

    def publish(item: Path) -> None:
        key = f"{item.name}.front"
        made_from = fingerprint(asset=ASSET, item_key=key, upstream={}, engine=None, params={})
        folder, files = store.publish(ASSET, CHUNK, key, made_from, item)
        if with_rows:
            row = ItemRow(key=key, fingerprint=made_from, status="ok", folder=folder, files=files, run_id=NAME)
            store.merge(ASSET, CHUNK, [row])

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(publish, items))


def _put(items: Sequence[Path]) -> None:
    target = ArtifactStore(f"gs://{BUCKET}/{uuid.uuid4().hex}").root
    filesystem: Any = target.fs

    def put(item: Path) -> None:
        filesystem.put(f"{item}/", f"{target.path}/{item.name}/", recursive=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(put, items))


def _written(folder: Path, sizes: Sequence[int], noise: random.Random) -> Path:
    """An item with bytes that no compression shortens."""
    folder.mkdir()
    for number, size in enumerate(sizes):
        (folder / f"{number:05d}.bin").write_bytes(noise.randbytes(size))
    return folder


@contextmanager
def _server(latency_ms: int) -> Iterator[str]:
    named = os.environ.get("STORAGE_EMULATOR_HOST")
    if named:
        if latency_ms:
            raise SystemExit("--latency-ms is for the benchmark's own server; unset STORAGE_EMULATOR_HOST")
        url = named if "://" in named else f"http://{named}"
        body, kind = json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
        with suppress(urllib.error.HTTPError):  # it is there already
            creation = urllib.request.Request(f"{url}/storage/v1/b?project=benchmark", body, kind)
            urllib.request.urlopen(creation, timeout=30).close()
        yield url
        return
    command = [sys.executable, "-m", "lanepaint_assets_tests.gcs_server", BUCKET, "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
