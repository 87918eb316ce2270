"""Changing one small shared file in a single atomic step, on every file system that the store supports.

Called by `artifacts.py` for manifests, chunk memberships and the lists that complete items. A file system that cannot
give this guarantee does not belong here: it is refused, never approximated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol, TypeVar

from upath import UPath

from lanepaint_assets.store.errors import StoreError

LOCAL_PROTOCOLS: Final = frozenset({"", "file", "local"})
GCS_PROTOCOLS: Final = frozenset({"gs", "gcs"})
MEMORY_PROTOCOL: Final = "memory"

# Errors by which file systems say that they have no flock (some NFS and FUSE mounts).
_NO_FLOCK: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})

# GCS takes about one write a second to one object. 40 losses at up to 4 s each are over a minute against dozens of
# writers; a writer that still loses is fighting something that is broken.
_GCS_ATTEMPTS: Final = 40
_GCS_FIRST_WAIT_S: Final = 0.1
_GCS_LONGEST_WAIT_S: Final = 4.0

# All memory file systems of a process share one dictionary, so they share one lock.
_MEMORY_LOCK: Final = threading.RLock()

Result = TypeVar("Result")

Change = Callable[[bytes | None], bytes]
"""Given the file's content (None: no such file), its new content; the same bytes mean that nothing is to be written.

It may be called several times for one update, and must then depend on nothing but its argument.
"""


class AtomicFile(Protocol):
    """A small file that several processes may change at once."""

    def read(self) -> bytes | None:
        """The complete content of some moment; None where there is no such file."""
        ...

    def update(self, change: Change) -> bytes:
        """Replace the content by `change(content)`; no other writer's update falls between the two.

        Returns:
            The content after the update.

        Raises:
            StoreError: the file system cannot do this atomically, or other writers always came first.
        """
        ...


def atomic_file(path: UPath) -> AtomicFile:
    """The file at `path`, with the mechanism of its file system.

    Raises:
        StoreError: the protocol has no atomic replacement here, or its client library is not installed.
    """
    protocol = path.protocol
    if protocol in LOCAL_PROTOCOLS:
        return LocalFile(Path(path.path))
    if protocol == MEMORY_PROTOCOL:
        return MemoryFile(path)
    if protocol in GCS_PROTOCOLS:
        bucket, _, name = path.path.partition("/")
        options = path.storage_options
        return GcsFile(
            connect_gcs(bucket, options.get("project"), options.get("endpoint_url"), options.get("token")), name
        )
    raise StoreError(
        f"{path}: the store cannot replace files atomically on {protocol}://; use a local folder or a gs:// address"
    )


@dataclass(frozen=True)
class LocalFile:
    """A file of a local disk, guarded by `flock` on `.<name>.lock` beside it."""

    path: Path

    def read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def update(self, change: Change) -> bytes:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.locked():
            old = self.read()
            new = change(old)
            if new != old:
                # The lock makes one fixed name safe, so a killed writer leaves at most one of them.
                temporary = self.path.with_name(f".{self.path.name}.tmp")
                with temporary.open("wb") as file:
                    file.write(new)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path)
                fsync_folder(self.path.parent)
        return new

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock; waits for other threads and processes, and ends with the process.

        Raises:
            StoreError: the file system has no flock.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_FLOCK:
                    raise
                raise StoreError(
                    f"the file system of {self.path.parent} has no working flock ({error.strerror}), so two runs could "
                    "lose each other's rows; put the store on a local disk or a gs:// address"
                ) from error
            try:
                yield
            finally:
                # Closing alone would leave the lock with any child forked by another thread meanwhile.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class MemoryFile:
    """A file of the in-memory file system, shared by the threads of one process."""

    path: UPath

    def read(self) -> bytes | None:
        with _MEMORY_LOCK:
            try:
                return bytes(self.path.fs.cat_file(self.path.path))
            except FileNotFoundError:
                return None

    def update(self, change: Change) -> bytes:
        with _MEMORY_LOCK:
            old = self.read()
            new = change(old)
            if new != old:
                self.path.fs.pipe_file(self.path.path, new)
            return new


class GcsBlob(Protocol):
    """What is used of `google.cloud.storage.Blob`."""

    generation: int | None

    def download_as_bytes(self, *, if_generation_match: int) -> bytes:
        """Content of exactly that generation."""
        ...

    def upload_from_string(self, data: bytes, content_type: str, *, if_generation_match: int) -> None:
        """Write if the object still has that generation; 0: only if there is no object."""
        ...


class GcsBucket(Protocol):
    """What is used of `google.cloud.storage.Bucket`."""

    def blob(self, blob_name: str) -> GcsBlob:
        """A handle, without asking the server."""
        ...

    def get_blob(self, blob_name: str) -> GcsBlob | None:
        """The object with its current generation."""
        ...


@dataclass(frozen=True)
class GcsConnection:
    """A bucket, and the errors by which its client says that another writer came first.

    They are carried here because the client library is an optional extra: nothing may import it to name its errors.
    """

    bucket: GcsBucket
    lost_race: tuple[type[Exception], ...]
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class GcsFile:
    """An object of a Google Cloud Storage bucket, replaced on condition of the generation that was read.

    gcsfs is not enough: it does not refuse to create an existing object, and knows no compare-and-swap.
    """

    connection: GcsConnection
    name: str

    def read(self) -> bytes | None:
        content, _ = self._retried(self._read_once)
        return content

    def update(self, change: Change) -> bytes:
        def attempt() -> bytes:
            old, generation = self._read_once()
            new = change(old)
            if new != old:
                # A lost answer makes the client repeat the upload and see its own write as a lost race; the next
                # attempt then finds its own content and has nothing left to change.
                self.connection.bucket.blob(self.name).upload_from_string(
                    new, "application/json", if_generation_match=generation
                )
            return new

        return self._retried(attempt)

    def _read_once(self) -> tuple[bytes | None, int]:
        blob = self.connection.bucket.get_blob(self.name)
        if blob is None or blob.generation is None:
            return None, 0
        # Content and generation come from two requests: the condition makes sure that they belong together.
        return blob.download_as_bytes(if_generation_match=blob.generation), blob.generation

    def _retried(self, attempt: Callable[[], Result]) -> Result:
        wait_s = _GCS_FIRST_WAIT_S
        for _ in range(_GCS_ATTEMPTS):
            try:
                return attempt()
            except self.connection.lost_race:
                # Random, so that losers of one race do not meet again in the next.
                self.connection.sleep(random.uniform(0, wait_s))
                wait_s = min(2 * wait_s, _GCS_LONGEST_WAIT_S)
        raise StoreError(
            f"{self.name}: other writers replaced the file {_GCS_ATTEMPTS} times in a row; "
            "see which runs write this chunk, and start this one again"
        )


@lru_cache(maxsize=8)  # every client fetches an access token of its own, and may be shared by threads
def connect_gcs(bucket: str, project: str | None, endpoint: str | None, token: object) -> GcsConnection:
    """Connect to a bucket, with the storage options that gcsfs calls `project`, `endpoint_url` and `token`.

    Raises:
        StoreError: google-cloud-storage is not installed, or the token is of a kind that only gcsfs reads.
    """
    try:
        from google.cloud import exceptions, storage
    except ImportError as error:
        raise StoreError(
            f"gs://{bucket}: google-cloud-storage is not installed ({error}); install lanepaint with the extra 'gcs'"
        ) from error
    if token not in (None, "google_default", "anon"):
        raise StoreError(
            f"gs://{bucket}: the storage option token must be 'anon' or left out; for other credentials set "
            "GOOGLE_APPLICATION_CREDENTIALS, which both client libraries read"
        )
    if endpoint is not None:
        # An emulator or a proxy; without this switch the client looks for credentials even for "anon".
        client = storage.Client(
            project=project, client_options={"api_endpoint": endpoint}, use_auth_w_custom_endpoint=token != "anon"
        )
    elif token == "anon":
        client = storage.Client.create_anonymous_client()
    else:
        client = storage.Client(project=project)
    return GcsConnection(
        bucket=client.bucket(bucket),
        lost_race=(exceptions.PreconditionFailed, exceptions.NotFound, exceptions.Conflict),
    )
