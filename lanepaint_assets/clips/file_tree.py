"""Listing folders and opening files, the same on a disk, in a bucket and in memory.

The only place of `clips` that speaks to fsspec: sources list through `FileTree.entries`, so that a test can count the
listings. It knows nothing about cameras or chunks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import fsspec

from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.remote_errors import as_os_errors

# What object stores call the thing that changes with an object's bytes, best first: content hashes survive a copy.
_REMOTE_ETAG_FIELDS = ("md5Hash", "crc32c", "etag", "ETag", "generation", "mtime", "LastModified", "created")

# What they call the time when an object was written.
_REMOTE_TIME_FIELDS = ("updated", "mtime", "LastModified", "created")


@dataclass(frozen=True)
class Entry:
    """A file or folder of a listing.

    Attributes:
        etag: changes when the bytes do; folders have none.
        touched: when the file was put there or written, by a clock that copying tools do not set back: on a disk its
            last change of state. None for folders and where the store does not tell.
    """

    name: str
    uri: str
    is_folder: bool
    size: int
    etag: str
    touched: datetime | None = None


def newest(entries: Iterable[Entry]) -> datetime | None:
    """When the newest of the files was touched; None where there is none, or the store tells no times."""
    return max((entry.touched for entry in entries if entry.touched is not None), default=None)


class FileTree:
    """A folder (or a single file) and the store it lies in. Uris are plain paths on a disk, full URLs elsewhere."""

    def __init__(self, store: fsspec.AbstractFileSystem, root: str) -> None:
        self._store = store
        self.root = root
        protocol = store.protocol if isinstance(store.protocol, str) else store.protocol[0]
        self.is_local = protocol in ("file", "local")

    @classmethod
    def at(cls, address: str, storage_options: Mapping[str, object] | None = None) -> FileTree:
        """The tree at a local path or fsspec URL.

        Raises:
            ClipSourceError: no store of that kind is installed.
        """
        try:
            store, root = fsspec.core.url_to_fs(address, **dict(storage_options or {}))
        except (ImportError, ValueError) as error:
            raise ClipSourceError(
                f"source {address!r} cannot be opened: {error}. For gs:// install the extra `gcs`"
            ) from error
        return cls(store, root.rstrip("/") or "/")

    def uri(self, path: str) -> str:
        """The address under which `path` can be opened again."""
        return path if self.is_local else str(self._store.unstrip_protocol(path))

    def entries(self, path: str) -> list[Entry]:
        """Direct children of the folder `path`, by name; empty where there is no such folder.

        One call is one listing of the store (of a large folder in a bucket: one a thousand names).

        Raises:
            ClipSourceError: the bucket does not answer, or refuses.
            OSError: a folder of a disk may not be read.
        """
        try:
            with self._asked(path):
                # Stores may answer from a cache that predates the files that a person has just added.
                self._store.invalidate_cache(path)
                found = self._store.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        entries = [self._entry(info) for info in found]
        own = PurePosixPath(path).name  # a store may list the folder's own placeholder object, or a file as itself
        return sorted((e for e in entries if e.name and not self._is_self(e, path, own)), key=lambda entry: entry.name)

    def stat(self, uri: str) -> Entry | None:
        """The file at `uri` as it is now; None where there is none.

        Raises:
            ClipSourceError: the bucket does not answer, or refuses.
            OSError: a folder of a disk may not be read.
        """
        path = self._path(uri)
        try:
            with self._asked(path):
                self._store.invalidate_cache(str(PurePosixPath(path).parent))
                info = self._store.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        entry = self._entry(info)
        return None if entry.is_folder else entry

    @contextmanager
    def local_copy(self, uri: str) -> Iterator[Path]:
        """A local file with the bytes of `uri`: the file itself on a disk, else a copy that is removed afterwards.

        Raises:
            FileNotFoundError: there is no such file.
            ClipSourceError: the store fails while reading.
        """
        path = self._path(uri)
        if self.is_local:
            if not Path(path).is_file():
                raise FileNotFoundError(uri)
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="lanepaint-clip-") as folder:
            copy = Path(folder) / (PurePosixPath(path).name or "clip.mp4")
            try:
                with self._asked(path), self._store.open(path, "rb") as remote, copy.open("wb") as local:
                    shutil.copyfileobj(remote, local, length=1 << 20)
            except NotADirectoryError as error:
                raise FileNotFoundError(uri) from error
            yield copy

    @contextmanager
    def _asked(self, path: str) -> Iterator[None]:
        """A bucket that does not do what it is asked for is the source's trouble; a disk speaks for itself."""
        try:
            with as_os_errors():
                yield
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            if self.is_local:
                raise
            raise ClipSourceError(f"{self.uri(path)} cannot be read: {error}") from error

    def _path(self, uri: str) -> str:
        return str(self._store._strip_protocol(uri))

    def _is_self(self, entry: Entry, path: str, own: str) -> bool:
        return entry.name == own and self._path(entry.uri).rstrip("/") == path.rstrip("/")

    def _entry(self, info: Mapping[str, object]) -> Entry:
        path = str(info["name"]).rstrip("/")
        name, uri = PurePosixPath(path).name, self.uri(path)
        size = int(str(info.get("size") or 0))
        if info["type"] == "directory":
            return Entry(name, uri, is_folder=True, size=size, etag="")
        etag, touched = _local_state(path, size) if self.is_local else _remote_state(size, info)
        return Entry(name, uri, is_folder=False, size=size, etag=etag, touched=touched)


def _local_state(path: str, size: int) -> tuple[str, datetime | None]:
    """Etag of a file on a disk, and when its state last changed."""
    try:
        state = Path(path).stat()
    except OSError:  # a link to nothing: it is listed, and probing says why it cannot be opened
        return f"{size}-0", None
    return f"{size}-{state.st_mtime_ns}", datetime.fromtimestamp(state.st_ctime, UTC)


def _remote_state(size: int, info: Mapping[str, object]) -> tuple[str, datetime | None]:
    """Etag of an object, and when it was written."""
    etag = next((_as_text(info[field]) for field in _REMOTE_ETAG_FIELDS if info.get(field)), str(size))
    moments = (_moment(info[field]) for field in _REMOTE_TIME_FIELDS if info.get(field))
    return etag, next((moment for moment in moments if moment is not None), None)


def _as_text(value: object) -> str:
    """One spelling of an etag: a store may give the same time as text in a listing and as a number for one file."""
    moment = _moment(value)
    return str(value).strip('"') if moment is None else moment.isoformat()


def _moment(value: object) -> datetime | None:
    """The time that a store means; None for what is no time."""
    if isinstance(value, float):
        return datetime.fromtimestamp(value, UTC)
    try:
        moment = datetime.fromisoformat(str(value).strip('"'))
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
