"""Putting an item's files into their immutable folder, so that nobody ever sees half of them.

Called by `artifacts.py`; listings of files by `collection.py` too. Rows and their rules are in `manifest.py`; here are
only files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from fsspec import AbstractFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS, connect_gcs, file_system_asked
from lanepaint_assets.store.gcs_uploads import UploadedFile
from lanepaint_assets.store.layout import ATTEMPT_DIGITS, FILES_MARKER, check_relative_path
from lanepaint_assets.store.manifest import FileRecord
from lanepaint_assets.store.replace import LocalFile, fsync_folder

# What a killed writer left is surely nobody's work in progress after a day: copying one item takes minutes.
_ABANDONED_AFTER_S: Final = 24 * 3600.0
_PARTIAL: Final = ".partial"
_COPY_BLOCK_BYTES: Final = 1 << 20


class Publisher(Protocol):
    """Where finished folders go, for one kind of file system."""

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        """Copy `staged` to `folder` (relative to the root), or below it.

        Returns:
            The folder that holds the files, relative to the root, and every file.
        """
        ...


class PublishedFiles(BaseModel):
    """Content of `_files.json`, which completes an item's folder on a local disk: every file, sorted by name."""

    model_config = ConfigDict(frozen=True)

    files: tuple[FileRecord, ...]


class LocalPublisher:
    """Local disks: copy to a hidden sibling, fsync, rename. Where a complete copy is there already, that one stays.

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
    """Object stores, which cannot rename folders: every writer's files go to a folder of its own below the item's.

    Nothing completes such an attempt but the row that names it, and readers see nothing else: one that no row names,
    half or whole, is garbage. Of two writers whose encoders differ in a byte, the manifest takes one.
    """

    def __init__(self, root: UPath) -> None:
        self._root = root

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        attempt, files = f"{folder}/{secrets.token_hex(ATTEMPT_DIGITS // 2)}", _staged_files(staged)
        # Joined as text: an address costs as much as sending a small file does.
        if self._root.protocol in GCS_PROTOCOLS:
            connection, root = connect_gcs(self._root)
            below = f"{root}/{attempt}".lstrip("/")
            uploaded = connection.uploads.upload([(path, f"{below}/{name}") for path, name in files])
        else:
            below = f"{self._root.path}/{attempt}"
            uploaded = [_put(self._root.fs, path, f"{below}/{name}") for path, name in files]
        return attempt, tuple(
            FileRecord(name=name, size=file.size, sha256=file.sha256)
            for (_, name), file in zip(files, uploaded, strict=True)
        )


def listed_sizes(folder: UPath) -> dict[str, int]:
    """Size in bytes of every file below `folder` by path, as its file system spells it, in one listing.

    Raises:
        StoreError: the bucket does not answer.
    """
    return {path: int(info["size"]) for path, info in listed_files(folder).items()}


def listed_files(folder: UPath) -> dict[str, dict[str, Any]]:
    """As `listed_sizes`, with all that the file system tells of a file."""
    filesystem = folder.fs
    filesystem.invalidate_cache(folder.path)  # other writers' files are not in a cached listing
    try:
        with file_system_asked(folder, "listed"):
            listing: dict[str, dict[str, Any]] = filesystem.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    return listing


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
    return sorted(_files_below(str(staged), ""), key=lambda file: file[1])


def _files_below(folder: str, base: str) -> Iterator[tuple[Path, str]]:
    # Entries know what they are: a look at each file by its path would cost a tenth of sending it.
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{base}{entry.name}"
            if entry.is_symlink():
                raise StoreError(f"{entry.path}: an item cannot hold a link; copy the file it points to")
            if entry.is_dir():
                yield from _files_below(entry.path, f"{name}/")
            elif entry.is_file():
                if name == FILES_MARKER:
                    raise StoreError(
                        f"{entry.path}: the store keeps its own {FILES_MARKER} in every item; use another name"
                    )
                yield Path(entry.path), check_relative_path(name)


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
