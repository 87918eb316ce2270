"""Copying a checkpoint from a place of one's own: another folder or bucket that is laid out like ROOT/checkpoints.

Called by `lanepaint checkpoints download`. A file is known by what its file system says of it, so that a second copy
moves only what changed, and of a copy that was broken off only the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pydantic import BaseModel, ValidationError
from upath import UPath

from lanepaint_assets.checkpoints.digest import CheckpointFile, Listing, list_checkpoint
from lanepaint_assets.checkpoints.files import BLOCK_BYTES, CheckpointError, fetch
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS

# A bucket gives a single reader a few hundred MB a second; four fill a fast network.
_AT_ONCE = 4

# Hidden, so that it is no part of the checkpoint.
_NOTE = ".lanepaint_copied.json"


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
    here, known = _identities(list_checkpoint(target, file)), _read(target).files
    return [each for each in listing.files if known.get(each.name) != (each.identity, here.get(each.name))]


def copy_files(
    source: UPath, target: UPath, files: list[CheckpointFile], told: Callable[[CheckpointFile], None]
) -> None:
    """Copy files of a checkpoint, each in one step.

    Args:
        source, target: folders.
        files: of `files_to_copy`.
        told: of every file that has arrived.

    Raises:
        CheckpointError: a file came out with another size.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copies = {pool.submit(_copy, source / each.name, target / each.name, each): each for each in files}
        try:
            for copy in as_completed(copies):
                copy.result()
                _note(target, copies[copy])
                told(copies[copy])
        except BaseException:
            # Those that are being copied are finished and noted, no other is begun.
            pool.shutdown(wait=True, cancel_futures=True)
            for copy, file in copies.items():
                if not copy.cancelled() and copy.exception() is None:
                    _note(target, file)
            raise


def _copy(source: UPath, target: UPath, file: CheckpointFile) -> None:
    if target.protocol in LOCAL_PROTOCOLS:
        place = Path(target.path)
        partial = place.with_name(f"{place.name}.part")
        fetch(source, partial)
        size = partial.stat().st_size
        if size == file.size:
            partial.replace(place)
    else:
        # An object is there when it is whole.
        with source.open("rb") as opened, target.open("wb") as written:
            shutil.copyfileobj(opened, written, BLOCK_BYTES)
        size = target.stat().st_size
    if size != file.size:
        raise CheckpointError(f"{target}: {size} bytes arrived of {file.size}; copy it again")


def _note(target: UPath, file: CheckpointFile) -> None:
    here = _identities(list_checkpoint(target))
    files = {**_read(target).files, file.name: (file.identity, here.get(file.name, ""))}
    (target / _NOTE).write_text(json.dumps({"files": files}, indent=1))


def _identities(listing: Listing) -> dict[str, str]:
    return {each.name: each.identity for each in listing.files}


def _read(target: UPath) -> _Copied:
    try:
        return _Copied.model_validate_json((target / _NOTE).read_bytes())
    except (OSError, ValidationError):
        # All of it can be copied again.
        return _Copied()
