"""Putting an item's files into their immutable folder, so that nobody ever sees half of them.

Called by `artifacts.py` alone. Rows and their rules are in `manifest.py`; here are only files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from fsspec import AbstractFileSystem
from pydantic import ValidationError
from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS, connect_gcs
from lanepaint_assets.store.gcs_uploads import UploadedFile
from lanepaint_assets.store.layout import FILES_MARKER, check_relative_path
from lanepaint_assets.store.manifest import FileRecord, PublishedFiles
from lanepaint_assets.store.replace import LocalFile, atomic_file, fsync_folder

# What a killed writer left is surely nobody's work in progress after a day: copying one item takes minutes.
_ABANDONED_AFTER_S: Final = 24 * 3600.0
_PARTIAL: Final = ".partial"
_COPY_BLOCK_BYTES: Final = 1 << 20

Result = TypeVar("Result")


class Publisher(Protocol):
    """Where finished folders go, for one kind of file system."""

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        """Copy `staged` to `folder` (relative to the root) unless a complete copy is there; the first one stays.

        Returns:
            The folder that holds the files, relative to the root, and every file.
        """
        ...


class LocalPublisher:
    """Local disks: copy to a hidden sibling, fsync, rename.

    The last step runs under the lock of the chunk's manifest, so that two repairers of one damaged folder cannot
    remove each other's copy.
    """

    def __init__(self, root: Path, lock: LocalFile) -> None:
        self._root = root
        self._lock = lock

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        final = self._root / folder
        present = self._complete(final)
        if present is not None:
            return folder, present.files
        final.parent.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned(final.parent)
        partial = final.parent / f".{final.name}.{secrets.token_hex(4)}{_PARTIAL}"
        try:
            partial.mkdir()
            own = PublishedFiles(files=tuple(_copy_tree(staged, partial)))
            _write_synced(partial / FILES_MARKER, own.model_dump_json(indent=1).encode())
            for inner in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
                fsync_folder(inner)
            with self._lock.locked():
                present = self._complete(final)
                if present is not None:
                    return folder, present.files
                if final.exists():
                    # Someone removed files of a finished item by hand: its remains make room for the new copy.
                    damaged = final.parent / f".{final.name}.{secrets.token_hex(4)}.damaged{_PARTIAL}"
                    final.rename(damaged)
                    shutil.rmtree(damaged, ignore_errors=True)
                partial.rename(final)
                fsync_folder(final.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder, own.files

    @staticmethod
    def _complete(folder: Path) -> PublishedFiles | None:
        try:
            published = PublishedFiles.model_validate_json((folder / FILES_MARKER).read_bytes())
            sizes_fit = all((folder / record.name).stat().st_size == record.size for record in published.files)
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        return published if sizes_fit else None

    @staticmethod
    def _remove_abandoned(item_folder: Path) -> None:
        for abandoned in item_folder.glob(f".*{_PARTIAL}"):
            with suppress(FileNotFoundError):  # its own writer, or another cleaner, was faster
                if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER_S:
                    shutil.rmtree(abandoned, ignore_errors=True)


class ObjectPublisher:
    """Object stores, which cannot rename folders: files first, then `_files.json`, which only one writer can create.

    Every writer copies to a folder of its own below the item's folder, and `_files.json` names the one that counts.
    With a common folder, two writers whose encoders differ in a byte would mix their files.
    """

    def __init__(self, root: UPath) -> None:
        self._root = root

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        # Looked at while the files are on their way: a round trip less, and next to nothing is ever there already.
        look = self._in_background(partial(listed_files, self._root / folder))
        attempt = secrets.token_hex(4)
        own = PublishedFiles(folder=attempt, files=self._upload(staged, f"{folder}/{attempt}"))

        def first_wins(current: bytes | None) -> bytes:
            if current is not None and self._complete(folder, current) is not None:
                return current
            return own.model_dump_json(indent=1).encode()

        listing = look()
        marker = self._root / folder / FILES_MARKER
        content = atomic_file(marker).update(first_wins, likely_new=marker.path not in listing)
        winner = PublishedFiles.model_validate_json(content)
        if winner.folder != attempt:
            self._root.fs.rm((self._root / folder / attempt).path, recursive=True)
        self._remove_abandoned(folder, (attempt, winner.folder), listing)
        return f"{folder}/{winner.folder}", winner.files

    def _in_background(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """What gives the result of work that begins at once."""
        if self._root.protocol not in GCS_PROTOCOLS:
            return work
        connection, _ = connect_gcs(self._root)
        return connection.uploads.pool.submit(work).result

    def _upload(self, staged: Path, target: str) -> tuple[FileRecord, ...]:
        # Joined as text: an address costs a fifth of what sending a small file does.
        base, files = (self._root / target).path, _staged_files(staged)
        if self._root.protocol in GCS_PROTOCOLS:
            connection, prefix = connect_gcs(self._root / target)
            uploaded = connection.uploads.upload([(path, f"{prefix}/{name}") for path, name in files])
        else:
            uploaded = [_put(self._root.fs, path, f"{base}/{name}") for path, name in files]
        return tuple(
            FileRecord(name=name, size=file.size, sha256=file.sha256)
            for (_, name), file in zip(files, uploaded, strict=True)
        )

    def _complete(self, folder: str, marker: bytes) -> PublishedFiles | None:
        try:
            published = PublishedFiles.model_validate_json(marker)
        except ValidationError:
            return None
        sizes, base = listed_sizes(self._root / folder), (self._root / folder / published.folder).path
        complete = all(sizes.get(f"{base}/{record.name}") == record.size for record in published.files)
        return published if complete else None

    def _remove_abandoned(self, folder: str, keep: tuple[str, ...], listing: Mapping[str, ListedFile]) -> None:
        base = (self._root / folder).path
        for path, file in listing.items():
            attempt, _, name = path.removeprefix(f"{base}/").partition("/")
            if name and attempt not in keep and time.time() - file.written.timestamp() > _ABANDONED_AFTER_S:
                with suppress(FileNotFoundError):  # another cleaner was faster
                    self._root.fs.rm_file(path)


@dataclass(frozen=True)
class ListedFile:
    """A file of a listing: size in bytes, and when it was written."""

    size: int
    written: datetime


def listed_files(folder: UPath) -> dict[str, ListedFile]:
    """Every file below `folder` by path, as its file system spells it, in one listing."""
    filesystem = folder.fs
    filesystem.invalidate_cache(folder.path)  # other writers' files are not in a cached listing
    try:
        listing = filesystem.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    return {path: ListedFile(int(info["size"]), written_at(info)) for path, info in listing.items()}


def listed_sizes(folder: UPath) -> dict[str, int]:
    """Path and size in bytes of every file below `folder`."""
    return {path: file.size for path, file in listed_files(folder).items()}


def written_at(info: Mapping[str, Any]) -> datetime:
    """When a listed file was written; local listings give seconds, object stores a time or its text."""
    value = info.get("mtime", info.get("updated", info.get("created")))
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError(f"the file system tells no time for {info.get('name')}")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _staged_files(staged: Path) -> list[tuple[Path, str]]:
    """Files below `staged` with their names ('/' between folders), sorted by name."""
    files = []
    for path in sorted(staged.rglob("*")):
        name = path.relative_to(staged).as_posix()
        if path.is_symlink():
            raise StoreError(f"{path}: an item cannot hold a link; copy the file it points to")
        if path.is_file():
            if name == FILES_MARKER:
                raise StoreError(f"{path}: the store keeps its own {FILES_MARKER} in every item; use another name")
            files.append((path, check_relative_path(name)))
    return sorted(files, key=lambda file: file[1])


def _copy_tree(staged: Path, target: Path) -> Iterator[FileRecord]:
    """Copy every file below `staged`, synced to disk; hashes are of the bytes as copied."""
    for path, name in _staged_files(staged):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source, copy.open("xb") as sink:
            while block := source.read(_COPY_BLOCK_BYTES):
                sink.write(block)
                digest.update(block)
                size += len(block)
            sink.flush()
            os.fsync(sink.fileno())
        yield FileRecord(name=name, size=size, sha256=digest.hexdigest())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put(filesystem: AbstractFileSystem, path: Path, target: str) -> UploadedFile:
    """Copy one file to a store other than Google's, which is the memory of this process."""
    content = path.read_bytes()
    filesystem.pipe_file(target, content)
    return UploadedFile(len(content), hashlib.sha256(content).hexdigest())
