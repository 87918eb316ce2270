"""Changing one small shared file in a single atomic step, on every file system that the store supports.

Called by `artifacts.py` for manifests and chunk memberships, and by whoever keeps another small file in the store. A
file system that cannot give this guarantee does not belong here: it is refused, never approximated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS, GcsConnection, connect_gcs

LOCAL_PROTOCOLS: Final = frozenset({"", "file", "local"})
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

        Args:
            change: see `Change`.

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
        return GcsFile(*connect_gcs(path))
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


@dataclass(frozen=True)
class GcsFile:
    """An object of a Google Cloud Storage bucket, replaced on condition of the generation that was read.

    gcsfs is not enough: it does not refuse to create an existing object, and knows no compare-and-swap.
    """

    connection: GcsConnection
    name: str

    def read(self) -> bytes | None:
        def attempt() -> bytes | None:
            blob = self.connection.bucket.blob(self.name)
            try:
                return blob.download_as_bytes(retry=self.connection.retry)
            except self.connection.errors.not_found:
                return None

        return self._retried(attempt)

    def update(self, change: Change) -> bytes:
        def attempt() -> bytes:
            old, generation = self._with_generation()
            new = change(old)
            if new != old:
                # A lost answer makes the client repeat the upload and see its own write as a lost race; the next
                # attempt then finds its own content and has nothing left to change.
                self.connection.bucket.blob(self.name).upload_from_string(
                    new,
                    "application/json",
                    if_generation_match=generation,
                    checksum="crc32c",
                    retry=self.connection.retry,
                )
            return new

        return self._retried(attempt)

    def _with_generation(self) -> tuple[bytes | None, int]:
        retry, bucket = self.connection.retry, self.connection.bucket
        blob = bucket.blob(self.name)
        try:
            content = blob.download_as_bytes(retry=retry)
            if blob.generation is not None:
                return content, blob.generation
            # Some emulators do not say it with the content: the condition makes sure that the two belong together.
            named = bucket.get_blob(self.name, retry=retry)
            if named is None or named.generation is None:
                return None, 0
            return named.download_as_bytes(if_generation_match=named.generation, retry=retry), named.generation
        except self.connection.errors.not_found:
            return None, 0

    def _retried(self, attempt: Callable[[], Result]) -> Result:
        wait_s = _GCS_FIRST_WAIT_S
        for _ in range(_GCS_ATTEMPTS):
            try:
                return attempt()
            except self.connection.errors.again:
                # Random, so that losers of one race do not meet again in the next.
                self.connection.sleep(random.uniform(0, wait_s))
                wait_s = min(2 * wait_s, _GCS_LONGEST_WAIT_S)
            except (*self.connection.errors.not_found, *self.connection.errors.failures) as error:
                raise self.connection.refused(self.name, error) from error
        raise StoreError(
            f"{self.name}: other writers replaced the file {_GCS_ATTEMPTS} times in a row; "
            "see which runs write this chunk, and start this one again"
        )
