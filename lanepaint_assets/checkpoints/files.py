"""Checkpoint files as engines read them: found, digested, and on this machine's disk.

Called by the platform and by engines. What an observation of a whole folder says is `digest.py`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from upath import UPath

from lanepaint_assets.store.items import StepError

BLOCK_BYTES = 1 << 22

# Files of a folder digested at the same time: hashing lets other threads run, and disks like a queue.
DIGEST_THREADS = 8


class CheckpointError(StepError):
    """A checkpoint that cannot be used; the message names file, reason and remedy."""


def local_file(path: UPath, cache: Path | None) -> Path:
    """A checkpoint file on this machine's disk; one on an object store is copied to `cache`, once.

    Raises:
        CheckpointError: it is not there, or is remote and there is no cache.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint; copy it there")
    if path.protocol in ("", "file", "local"):
        return Path(path.path)
    if cache is None:
        raise CheckpointError(f"{path}: a remote checkpoint needs a folder to be copied to")
    copy = cache / file_digest(path)[:16] / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A place of its own: other processes may be copying the same file.
        with tempfile.TemporaryDirectory(dir=copy.parent) as own:
            partial = Path(own) / path.name
            fetch(path, partial)
            partial.replace(copy)
    return copy


def fetch(path: UPath, target: Path) -> None:
    """Copy one file to this machine's disk, a block at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, BLOCK_BYTES)


def file_digest(path: UPath) -> str:
    """SHA-256 of a checkpoint file's content, read once a process as long as its size and time stay.

    Raises:
        CheckpointError: it is not there.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint; copy it there")
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime)


def folder_digest(folder: UPath) -> str:
    """SHA-256 over names and contents of all files of a folder; each is read once a process, as for `file_digest`.

    Raises:
        CheckpointError: there is no file in it.
    """
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.path)
    if not files:
        raise CheckpointError(f"{folder}: there is no checkpoint in this folder; copy it there")
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        digests = list(pool.map(file_digest, files))
    names = [path.path[len(folder.path) :].lstrip("/") for path in files]
    return hashlib.sha256("".join(f"{n}\0{d}\0" for n, d in zip(names, digests, strict=True)).encode()).hexdigest()


def folder_mark(folder: Path) -> str:
    """A short mark of a local folder's files by name, size and time: another one after any of them was replaced.

    For what a process remembers of a checkpoint; what stays is known by `folder_digest`.
    """
    states = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\0" for path, state in states]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@lru_cache
def _digest(path: UPath, size: int, time: float) -> str:  # noqa: ARG001  # size and time are what the cache asks
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
