"""A bucket that enforces generation preconditions, and a gs:// file system over the same objects.

Stands in for google-cloud-storage and gcsfs, which the base installation lacks. `before_upload` lets a test act as
another writer at the worst moment.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from io import BytesIO
from types import ModuleType
from typing import ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from lanepaint_assets.store.replace import GcsConnection, connect_gcs


class PreconditionFailed(Exception):
    """The server's 412."""


class NotFound(Exception):
    """The server's 404."""


class Conflict(Exception):
    """The server's 409."""


class FakeBucket:
    def __init__(self, name: str, *, shared: bool = False) -> None:
        self.name = name
        self.files = FakeGcsFileSystem(global_store=shared, skip_instance_cache=True)
        self.generations: dict[str, int] = {}
        self.before_upload: Callable[[], None] = lambda: None
        self.uploads = 0
        self.refused = 0
        self._lock = threading.Lock()

    def blob(self, blob_name: str) -> FakeBlob:
        return FakeBlob(self, blob_name, None)

    def get_blob(self, blob_name: str) -> FakeBlob | None:
        with self._lock:
            generation = self._generation(blob_name)
            return FakeBlob(self, blob_name, generation) if generation else None

    def download(self, name: str, generation: int) -> bytes:
        with self._lock:
            if self._generation(name) != generation:
                raise PreconditionFailed(name)
            return bytes(self.files.cat_file(f"{self.name}/{name}"))

    def upload(self, name: str, data: bytes, generation: int) -> None:
        hook, self.before_upload = self.before_upload, lambda: None
        hook()
        with self._lock:
            if self._generation(name) != generation:
                self.refused += 1
                raise PreconditionFailed(name)
            self.uploads += 1
            self.generations[name] = generation + 1
            self.files.pipe_file(f"{self.name}/{name}", data)

    def _generation(self, name: str) -> int:
        if not self.files.isfile(f"{self.name}/{name}"):
            return 0
        return self.generations.setdefault(name, 1)


class FakeBlob:
    def __init__(self, bucket: FakeBucket, name: str, generation: int | None) -> None:
        self._bucket, self._name, self.generation = bucket, name, generation

    def download_as_bytes(self, *, if_generation_match: int) -> bytes:
        return self._bucket.download(self._name, if_generation_match)

    def upload_from_string(self, data: bytes, content_type: str, *, if_generation_match: int) -> None:
        self._bucket.upload(self._name, data, if_generation_match)


class FakeGcsFileSystem(MemoryFileSystem):
    """Spells paths like gcsfs: `bucket/name`, without a leading slash."""

    protocol = ("gs", "gcs")
    root_marker = ""
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return str(path).removeprefix("gs://").removeprefix("gcs://").strip("/")

    def _open(self, path, mode="rb", **kwargs):
        return BytesIO(self.cat_file(path)) if mode == "rb" else super()._open(path, mode, **kwargs)


class FakeClient:
    buckets: ClassVar[dict[str, FakeBucket]] = {}

    def __init__(self, **options: object) -> None:
        self.options = options

    def bucket(self, name: str) -> FakeBucket:
        return self.buckets.setdefault(name, FakeBucket(name, shared=True))


def connection(bucket: FakeBucket, sleep: Callable[[float], None] = lambda seconds: None) -> GcsConnection:
    return GcsConnection(bucket, (PreconditionFailed, NotFound, Conflict), sleep)


def install(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    """Make `import google.cloud.storage` and gs:// addresses reach fake buckets for one test."""
    cloud, storage, exceptions = (ModuleType(f"google.cloud{part}") for part in ("", ".storage", ".exceptions"))
    vars(storage).update(Client=FakeClient)
    vars(exceptions).update(PreconditionFailed=PreconditionFailed, NotFound=NotFound, Conflict=Conflict)
    vars(cloud).update(storage=storage, exceptions=exceptions)
    for module in (cloud, storage, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(_registry, "gs", FakeGcsFileSystem)
    monkeypatch.setattr(FakeClient, "buckets", {})
    monkeypatch.setattr(FakeGcsFileSystem, "store", {})
    monkeypatch.setattr(FakeGcsFileSystem, "pseudo_dirs", [""])
    connect_gcs.cache_clear()
    return FakeClient
