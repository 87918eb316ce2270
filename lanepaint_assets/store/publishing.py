"""Putting an item's files into their immutable folder, so that nobody ever sees half of them.

Called by `artifacts.py` alone. Rows and their rules are in `manifest.py`; here are only files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError
from upath import UPath

from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.layout import FILES_MARKER, check_relative_path
from lanepaint_assets.store.manifest import FileRecord, PublishedFiles
from lanepaint_assets.store.replace import LocalFile, atomic_file, fsync_folder

# What a killed writer left is surely nobody's work in progress after a day: copying one item takes minutes.
_ABANDONED_AFTER_S: Final = 24 * 3600.0
_PARTIAL: Final = ".partial"
_COPY_BLOCK_BYTES: Final = 1 << 20


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
        for partial in item_folder.glob(f".*{_PARTIAL}"):
            with suppress(FileNotFoundError):  # its own writer, or another cleaner, was faster
                if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER_S:
                    shutil.rmtree(partial, ignore_errors=True)


class ObjectPublisher:
    """Object stores, which cannot rename folders: files first, then `_files.json`, which only one writer can create.

    Every writer copies to a folder of its own below the item's folder, and `_files.json` names the one that counts.
    With a common folder, two writers whose encoders differ in a byte would mix their files.
    """

    def __init__(self, root: UPath) -> None:
        self._root = root

    def publish(self, folder: str, staged: Path) -> tuple[str, tuple[FileRecord, ...]]:
        marker = atomic_file(self._root / folder / FILES_MARKER)
        present = self._complete(folder, marker.read())
        if present is not None:
            return f"{folder}/{present.folder}", present.files
        attempt = secrets.token_hex(4)
        own = PublishedFiles(folder=attempt, files=tuple(self._upload(staged, f"{folder}/{attempt}")))

        def first_wins(current: bytes | None) -> bytes:
            if current is not None and self._complete(folder, current) is not None:
                return current
            return own.model_dump_json(indent=1).encode()

        winner = PublishedFiles.model_validate_json(marker.update(first_wins))
        if winner.folder != attempt:
            self._root.fs.rm((self._root / folder / attempt).path, recursive=True)
        self._remove_abandoned(folder, winner.folder)
        return f"{folder}/{winner.folder}", winner.files

    def _upload(self, staged: Path, target: str) -> Iterator[FileRecord]:
        for path, name in _staged_files(staged):
            digest = _sha256(path)
            self._root.fs.put_file(str(path), (self._root / target / name).path)
            yield FileRecord(name=name, size=path.stat().st_size, sha256=digest)

    def _complete(self, folder: str, marker: bytes | None) -> PublishedFiles | None:
        if marker is None:
            return None
        try:
            published = PublishedFiles.model_validate_json(marker)
        except ValidationError:
            return None
        sizes = listed_sizes(self._root / folder / published.folder)
        complete = all(
            sizes.get((self._root / folder / published.folder / record.name).path) == record.size
            for record in published.files
        )
        return published if complete else None

    def _remove_abandoned(self, folder: str, keep: str) -> None:
        filesystem = self._root.fs
        base = (self._root / folder).path
        for path in listed_sizes(self._root / folder):
            attempt, _, name = path.removeprefix(f"{base}/").partition("/")
            if not name or attempt == keep:
                continue
            with suppress(FileNotFoundError):  # another cleaner was faster
                if time.time() - filesystem.modified(path).timestamp() > _ABANDONED_AFTER_S:
                    filesystem.rm_file(path)


def listed_sizes(folder: UPath) -> dict[str, int]:
    """Path (as its file system spells it) and size in bytes of every file below `folder`, in one listing."""
    filesystem = folder.fs
    filesystem.invalidate_cache(folder.path)  # other writers' files are not in a cached listing
    try:
        listing = filesystem.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    return {path: int(info["size"]) for path, info in listing.items()}


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
