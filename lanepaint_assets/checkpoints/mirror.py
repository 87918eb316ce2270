"""Copying a checkpoint: from another folder or bucket that is laid out like ROOT/checkpoints, or up to a bucket.

Called by `lanepaint checkpoints download`. A file is known by what its file system, or the hub, says of it, so that a
second copy moves only what changed, and of a copy that was broken off only the rest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError
from upath import UPath

from lanepaint_assets.checkpoints.digest import CheckpointFile, Listing, list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError, fetch
from lanepaint_assets.checkpoints.known_digests import KnownDigests
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS, connect_gcs
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS

# A bucket gives a single reader a few hundred MB a second; four fill a fast network.
AT_ONCE = 4

# A smaller file is noted with the next larger one, or at the end: bringing it again costs less than a note.
_NOTED_BYTES = 1 << 26

# Hidden, so that it is no part of the checkpoint.
_NOTE = ".lanepaint_copied.json"


Local = Callable[[CheckpointFile], AbstractContextManager[Path]]
"""A file of a checkpoint on this machine's disk, for as long as the context is open."""


class _Copied(BaseModel):
    """Of each copied file, by name: what it was there and what it became here."""

    files: dict[str, tuple[str, str]] = {}


def files_to_copy(source: UPath, target: UPath, file: str | None = None) -> list[CheckpointFile]:
    """The files of `source` that `target` lacks, or has from elsewhere.

    Args:
        source: a checkpoint's folder.
        target: where it belongs.
        file: where the checkpoint is one file of the folder.

    Raises:
        CheckpointError: there is nothing at `source`, or it is still being written.
    """
    listing = list_checkpoint(source, file)
    if listing.unfinished:
        raise CheckpointError(f"{source / listing.unfinished[0]}: this file is still being written; copy later")
    if not listing.files:
        raise CheckpointError(f"{source}: there is no such checkpoint to copy")
    return missing_files(listing.files, target, file)


def missing_files(files: Iterable[CheckpointFile], target: UPath, file: str | None = None) -> list[CheckpointFile]:
    """Those of `files` that `target` lacks, has from elsewhere, or has in another state than they were brought in."""
    here, known = _identities(list_checkpoint(target, file)), _read(target).files
    return [each for each in files if known.get(each.name) != (each.identity, here.get(each.name))]


def copy_files(
    source: UPath, known: KnownDigests, files: list[CheckpointFile], told: Callable[[CheckpointFile], None]
) -> None:
    """Copy files of a checkpoint to where it belongs, each in one step.

    Args:
        source: folder.
        known: of the checkpoint; told the digests.
        files: of `files_to_copy`.
        told: of every file that has arrived.

    Raises:
        CheckpointError: a file came out with another size.
        StoreError: a bucket does not take it.
    """
    if known.folder.protocol in LOCAL_PROTOCOLS:
        _all(files, known, partial(_bring, source, Path(known.folder.path)), told, AT_ONCE)
    else:
        upload_files(partial(_on_disk, source, known.memory), known, files, told)


def upload_files(
    local: Local,
    known: KnownDigests,
    files: list[CheckpointFile],
    told: Callable[[CheckpointFile], None],
    at_once: int = AT_ONCE,
) -> None:
    """Put files of a checkpoint into its bucket; see `copy_files`.

    Args:
        local: where the files come from.
        known, files, told: see `copy_files`.
        at_once: how many of them may lie on the disk at a time.
    """

    def upload(file: CheckpointFile) -> str:
        with local(file) as path:
            _check_size(path, path.stat().st_size, file)
            return _put(path, known.folder / file.name)

    _all(files, known, upload, told, at_once)


def _all(
    files: list[CheckpointFile],
    known: KnownDigests,
    copied: Callable[[CheckpointFile], str],
    told: Callable[[CheckpointFile], None],
    at_once: int,
) -> None:
    """Call `copied`, which gives a file's SHA-256, for every file, and note those that are done."""
    arrived: dict[Future[str], CheckpointFile] = {}
    with ThreadPoolExecutor(at_once) as pool:
        copies = {pool.submit(copied, each): each for each in files}
        try:
            for copy in as_completed(copies):
                copy.result()
                arrived[copy] = copies[copy]
                told(copies[copy])
                if copies[copy].size >= _NOTED_BYTES:
                    _note(known, arrived)
        finally:
            # After a failure, those that are being copied are finished and noted, no other is begun.
            pool.shutdown(wait=True, cancel_futures=True)
            done = {copy: each for copy, each in copies.items() if not copy.cancelled() and copy.exception() is None}
            if done:
                _note(known, done)


def _bring(source: UPath, target: Path, file: CheckpointFile) -> str:
    place = target / file.name
    partial_file = place.with_name(f"{place.name}.part")
    digest = fetch(source / file.name, partial_file)
    _check_size(place, partial_file.stat().st_size, file)
    partial_file.replace(place)
    return digest


@contextmanager
def _on_disk(source: UPath, work: Path, file: CheckpointFile) -> Iterator[Path]:
    if source.protocol in LOCAL_PROTOCOLS:
        yield Path((source / file.name).path)
        return
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        path = Path(folder) / "file"
        fetch(source / file.name, path)
        yield path


def _put(path: Path, target: UPath) -> str:
    """Upload a file and return its SHA-256; an object is there when it is whole."""
    if target.protocol in GCS_PROTOCOLS:
        connection, name = connect_gcs(target)
        (uploaded,) = connection.uploads.upload([(path, name)])
        return uploaded.sha256
    return fetch(path, target)


def _check_size(place: Path, size: int, file: CheckpointFile) -> None:
    if size != file.size:
        raise CheckpointError(f"{place}: {size} bytes arrived of {file.size}; copy it again")


def _note(known: KnownDigests, arrived: dict[Future[str], CheckpointFile]) -> None:
    target = known.folder
    here = _identities(list_checkpoint(target))
    entries = {each.name: (each.identity, here.get(each.name, "")) for each in arrived.values()}
    (target / _NOTE).write_text(json.dumps({"files": {**_read(target).files, **entries}}, indent=1))
    known.remember({each.name: copy.result() for copy, each in arrived.items()}, here)


def _identities(listing: Listing) -> dict[str, str]:
    return {each.name: each.identity for each in listing.files}


def _read(target: UPath) -> _Copied:
    try:
        return _Copied.model_validate_json((target / _NOTE).read_bytes())
    except (OSError, ValidationError):
        # All of it can be copied again.
        return _Copied()
