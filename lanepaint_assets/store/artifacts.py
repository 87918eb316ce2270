"""The store: manifests, immutable item folders and chunk memberships below one root.

Called by every stage's asset and by the command line. What decides whether an item is computed is in `items.py`; what
a path looks like is in `layout.py`.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from upath import UPath

from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS, file_system_asked, gcs_options
from lanepaint_assets.store.layout import (
    area,
    asset_folder,
    chunk_path,
    item_folder,
    manifest_path,
)
from lanepaint_assets.store.manifest import FileRecord, ItemRow, Manifest
from lanepaint_assets.store.merging import turns_at
from lanepaint_assets.store.publishing import LocalPublisher, ObjectPublisher, listed_sizes
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS, MEMORY_PROTOCOL, LocalFile, atomic_file

_COPY_BLOCK_BYTES = 1 << 20

# Chunks that an error names: enough to see how they are called, where there are ten thousand.
_NAMED_CHUNKS = 10


class ArtifactStore:
    """Everything the platform keeps, below `root` (ARCHITECTURE, "The store").

    Methods may be called from several threads and processes at once.

    Args:
        root: a local folder (made when first written to), `gs://bucket/prefix` or `memory://name`.
        storage_options: passed to the file system, for gs:// `project`, `endpoint_url` and `token`.

    Raises:
        StoreError: the address is of a kind that the store cannot write safely, or its client library is missing.
    """

    def __init__(self, root: str | UPath, storage_options: Mapping[str, Any] | None = None) -> None:
        self.root = _resolved(root, storage_options or {})
        self._local = Path(self.root.path) if self.root.protocol in LOCAL_PROTOCOLS else None

    def manifest(self, asset: str, chunk: str) -> Manifest:
        """The manifest of a partition; one without rows where nothing has been written yet.

        Raises:
            StoreError: the file is not a manifest of that partition.
        """
        path = self.root / manifest_path(asset, chunk)
        return _parsed_manifest(path, atomic_file(path).read(), asset, chunk)

    def merge(self, asset: str, chunk: str, rows: Sequence[ItemRow]) -> Manifest:
        """Add a writer's own rows to the manifest in one atomic step (rule: `manifest.surviving_row`).

        Rows that other threads of the process bring at the same time are added in the same step.

        Returns:
            The manifest after the step, other writers' rows included.

        Raises:
            StoreError: the manifest cannot be read, or its file system cannot replace it atomically.
        """
        path = self.root / manifest_path(asset, chunk)

        def write(together: Sequence[ItemRow]) -> Manifest:
            merged = Manifest(asset=asset, chunk=chunk)

            def change(current: bytes | None) -> bytes:
                nonlocal merged
                merged = _parsed_manifest(path, current, asset, chunk).merged(together)
                return merged.model_dump_json(indent=1).encode()

            atomic_file(path).update(change)
            return merged

        return turns_at(path).merge(rows, write)

    def publish(
        self, asset: str, chunk: str, item_key: str, fingerprint: str, staged: Path
    ) -> tuple[str, tuple[FileRecord, ...]]:
        """Copy a finished local folder to an immutable folder of the item, which counts once a row names it (`merge`).

        On a local disk, an item of that fingerprint that is there already stays, and its files are returned. On object
        stores each call makes a folder of its own, and `merge` keeps the row that came first.

        Returns:
            The folder relative to the root, and every file in it.

        Raises:
            StoreError: the staged folder holds a link or a file called `_files.json`.
            OSError: the disk is full or not writable.
        """
        folder = item_folder(asset, chunk, item_key, fingerprint)
        if self._local is None:
            return ObjectPublisher(self.root).publish(folder, staged)
        lock = LocalFile(self._local / manifest_path(asset, chunk))
        return LocalPublisher(self._local, lock).publish(folder, staged)

    def keys_with_lost_files(self, asset: str, chunk: str, rows: Iterable[ItemRow]) -> set[str]:
        """Keys of the rows whose files are no longer there in the sizes that the rows say.

        Costs a look at each file on a local disk, and one listing elsewhere.
        """
        if self._local is not None:
            return {row.key for row in rows if not _all_there(self._local, row)}
        sizes = listed_sizes(self.root / asset_folder(asset, chunk))
        return {
            row.key
            for row in rows
            if any(sizes.get(self.file_path(row, record.name).path) != record.size for record in row.files)
        }

    def file_path(self, row: ItemRow, name: str) -> UPath:
        """Address of one of the row's files.

        Raises:
            StoreError: the row has no such file.
        """
        _record(row, name)
        return self.root / (row.folder or "") / name

    def open(self, row: ItemRow, name: str) -> BinaryIO:
        """Open one of the row's files for reading; the caller closes it.

        Raises:
            StoreError: the row has no such file, it is gone, or the bucket does not give it.
        """
        path = self.file_path(row, name)
        if path.protocol == MEMORY_PROTOCOL:
            # The memory file system hands every reader the same file object, with one position for all.
            return io.BytesIO(self.read_bytes(row, name))
        try:
            with file_system_asked(path, "read"):
                return path.open("rb")
        except FileNotFoundError as error:
            raise _gone(path) from error

    def read_bytes(self, row: ItemRow, name: str) -> bytes:
        """Content of one of the row's files, compared with the SHA-256 that the row says.

        Raises:
            StoreError: the row has no such file, it is gone, it was changed, or the bucket does not give it.
        """
        path = self.file_path(row, name)
        try:
            with file_system_asked(path, "read"):
                content = bytes(path.fs.cat_file(path.path))
        except FileNotFoundError as error:
            raise _gone(path) from error
        if hashlib.sha256(content).hexdigest() != _record(row, name).sha256:
            raise _changed(path)
        return content

    @contextmanager
    def local_file(self, row: ItemRow, name: str) -> Iterator[Path]:
        """One of the row's files under a local path, for libraries that only open paths.

        On a local root this is the file itself: it must not be changed. Elsewhere it is a copy of the same name, which
        ends with the context.

        Raises:
            StoreError: the row has no such file, it is gone, its copy differs from what the row says, or the bucket
                does not give it.
        """
        path = self.file_path(row, name)
        if self._local is not None:
            local = Path(path.path)
            if not local.is_file():
                raise _gone(path)
            yield local
            return
        with tempfile.TemporaryDirectory(prefix="lanepaint-") as folder:
            copy = Path(folder) / path.name
            self._copy(row, name, copy)
            yield copy

    def copy_files(self, row: ItemRow, target: Path) -> list[Path]:
        """Copy all files of a row below a local folder, under the names that the row says.

        Raises:
            StoreError: a file is gone, its copy differs from what the row says, or the bucket does not give it; the
                files before it stay copied.
        """
        copies = []
        for record in row.files:
            copy = target / record.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            self._copy(row, record.name, copy)
            copies.append(copy)
        return copies

    def _copy(self, row: ItemRow, name: str, copy: Path) -> None:
        """Copy one of the row's files to a local path, where nothing is left of one that cannot be copied.

        Raises:
            StoreError: the row has no such file, it is gone, its copy differs from what the row says, or the bucket
                does not give it.
        """
        digest = hashlib.sha256()
        try:
            with copy.open("wb") as sink:
                for block in self._blocks(row, name):
                    sink.write(block)
                    digest.update(block)
            if digest.hexdigest() != _record(row, name).sha256:
                raise _changed(self.file_path(row, name))
        except BaseException:
            copy.unlink(missing_ok=True)
            raise

    def _blocks(self, row: ItemRow, name: str) -> Iterator[bytes]:
        """Content of one of the row's files, piece by piece."""
        path = self.file_path(row, name)
        with self.open(row, name) as source:
            while True:
                with file_system_asked(path, "read"):
                    block = source.read(_COPY_BLOCK_BYTES)
                if not block:
                    return
                yield block

    def save_chunk(self, membership: ChunkMembership) -> None:
        """Fix the clips of a chunk; saving the same membership again changes nothing.

        Raises:
            ValueError: the key may not name a chunk.
            StoreError: the chunk already has another membership.
        """
        path = self.root / chunk_path(membership.key)

        def create_only(current: bytes | None) -> bytes:
            if current is None:
                return membership.model_dump_json(indent=1).encode()
            fixed = _parsed_chunk(path, current)
            if fixed != membership:
                raise StoreError(
                    f"{path}: chunk {membership.key!r} is fixed as {_summary(fixed)}, so it cannot become "
                    f"{_summary(membership)}; register the new clips under another key"
                )
            return current

        atomic_file(path).update(create_only)

    def chunk(self, key: str) -> ChunkMembership:
        """The clips of a registered chunk.

        Raises:
            StoreError: no chunk of that key is registered, or its file cannot be read.
        """
        try:
            path = self.root / chunk_path(key)
        except ValueError as error:
            raise StoreError(f"chunk {key!r} is not registered below {self.root}: {error}") from error
        content = atomic_file(path).read()
        if content is None:
            known = self.chunk_keys()
            named = ", ".join(known[:_NAMED_CHUNKS]) or "none"
            more = f" and {len(known) - _NAMED_CHUNKS} more" if len(known) > _NAMED_CHUNKS else ""
            raise StoreError(f"chunk {key!r} is not registered below {self.root}; registered: {named}{more}")
        return _parsed_chunk(path, content)

    def chunk_keys(self) -> list[str]:
        """Keys of all registered chunks, sorted.

        Raises:
            StoreError: the bucket does not answer.
        """
        folder = self.root / "chunks"
        names = (path.rsplit("/", 1)[-1] for path in listed_sizes(folder))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")


def _resolved(address: str | UPath, storage_options: Mapping[str, Any]) -> UPath:
    try:
        root: UPath = UPath(address, **storage_options)
    except ValueError as error:
        raise StoreError(f"{address} is no address of a store: {error}") from error
    protocol = root.protocol
    if protocol in LOCAL_PROTOCOLS:
        return UPath(Path(root.path).expanduser().resolve())
    if protocol not in GCS_PROTOCOLS and protocol != MEMORY_PROTOCOL:
        raise StoreError(f"{address}: the store works on a local folder, gs:// and memory://, not on {protocol}://")
    try:
        if protocol in GCS_PROTOCOLS:
            root = UPath(address, **gcs_options(storage_options))
        _ = root.fs
    except ImportError as error:
        raise StoreError(f"{root}: {error}; install lanepaint with the extra 'gcs'") from error
    return root


def _parsed_manifest(path: UPath, content: bytes | None, asset: str, chunk: str) -> Manifest:
    area(asset)
    if content is None:
        return Manifest(asset=asset, chunk=chunk)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise StoreError(
            f"{path} is not a readable manifest ({where}: {first['msg']}); restore it, or move it away and materialize "
            "the partition again, which keeps the finished items' folders"
        ) from error
    if (manifest.asset, manifest.chunk) != (asset, chunk):
        raise StoreError(
            f"{path} is the manifest of {manifest.asset!r} in {manifest.chunk!r}, not of {asset!r} in {chunk!r}; "
            "it was copied there, move it away"
        )
    return manifest


def _parsed_chunk(path: UPath, content: bytes) -> ChunkMembership:
    try:
        return ChunkMembership.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(f"{path} is not a readable chunk ({error.errors()[0]['msg']}); restore it") from error


def _record(row: ItemRow, name: str) -> FileRecord:
    for record in row.files:
        if record.name == name:
            return record
    has = ", ".join(record.name for record in row.files) or row.reason or "no files"
    raise StoreError(f"item {row.key!r} ({row.status}) has no file {name!r}; it has: {has}")


def _all_there(root: Path, row: ItemRow) -> bool:
    try:
        return all((root / (row.folder or "") / file.name).stat().st_size == file.size for file in row.files)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _summary(membership: ChunkMembership) -> str:
    digest = hashlib.sha256(membership.model_dump_json().encode()).hexdigest()[:8]
    return f"{len(membership.clips)} clips of {membership.source} (digest {digest})"


def _gone(path: UPath) -> StoreError:
    return StoreError(f"{path} is gone; materialize its partition again, which makes lost files anew")


def _changed(path: UPath) -> StoreError:
    return StoreError(
        f"{path} differs from what its manifest says; delete it and materialize its partition again, "
        "and do not edit files in the store"
    )
