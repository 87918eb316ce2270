"""Checkpoint files as engines read them: found, digested, and on this machine's disk.

Called by the platform and by engines. These digests are of contents alone and enter fingerprints: a checkpoint that is
copied anew, with other times, recomputes no item. What an observation publishes is `digest.py`'s, which reads no
weights: it changes with a mere copy too, and asks for runs that then reuse everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from upath import UPath

from lanepaint_assets.checkpoints.digest import list_checkpoint
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS

BLOCK_BYTES = 1 << 22

# Files of a folder digested at the same time: hashing lets other threads run, and disks like a queue.
DIGEST_THREADS = 8

# Smaller files are hashed in less time than a note about them is worth: 0.1 s.
REMEMBERED_BYTES = 1 << 26


class CheckpointError(StepError):
    """A checkpoint that cannot be used; the message names file, reason and remedy."""


def local_file(path: UPath, cache: Path | None) -> Path:
    """A checkpoint file on this machine's disk; one on an object store is copied to `cache`, once.

    Raises:
        CheckpointError: it is not there, or is remote and there is no cache.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint; copy it there")
    if path.protocol in LOCAL_PROTOCOLS:
        return Path(path.path)
    if cache is None:
        raise CheckpointError(f"{path}: a remote checkpoint needs a folder to be copied to")
    copy = cache / file_digest(path, cache)[:16] / path.name
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


def file_digest(path: UPath, memory: Path | None = None) -> str:
    """SHA-256 of a checkpoint file's content, read once a process as long as its size and time stay.

    Args:
        path: local or remote.
        memory: folder of this machine where the digests of large files outlive the process; None forgets them.

    Raises:
        CheckpointError: it is not there.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint; copy it there")
    state = path.stat()
    return _digest(path, memory, state.st_size, state.st_mtime)


def folder_digest(folder: UPath, memory: Path | None = None) -> str:
    """SHA-256 over names and contents of a folder's files, hidden ones not counted; each is read once a process.

    Args:
        folder: local or remote.
        memory: see `file_digest`.

    Raises:
        CheckpointError: there is no file in it.
    """
    names = [file.name for file in list_checkpoint(folder).files]
    if not names:
        raise CheckpointError(f"{folder}: there is no checkpoint in this folder; copy it there")
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        digests = list(pool.map(lambda name: file_digest(folder / name, memory), names))
    return hashlib.sha256("".join(f"{n}\0{d}\0" for n, d in zip(names, digests, strict=True)).encode()).hexdigest()


def folder_mark(folder: Path) -> str:
    """A short mark of a local folder's files by name, size and time: another one after any of them was replaced.

    For what a process remembers of a checkpoint; what stays is known by `folder_digest`.
    """
    states = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\0" for path, state in states]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(path: UPath, memory: Path | None, size: int, time: float) -> str:  # noqa: ARG001  # what the cache asks
    state = _state(path) if memory is not None and size >= REMEMBERED_BYTES else None
    if memory is None or state is None:
        return _read_digest(path)
    note = memory / "digests" / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        known, digest = note.read_text().split()
        if known == state and len(digest) == 64:
            return digest
    digest = _read_digest(path)
    # A file that changed while it was read is known by nothing; a cache that cannot be written costs time only.
    with contextlib.suppress(OSError):
        if _state(path) != state:
            return digest
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=note.parent) as own:
            (Path(own) / "note").write_text(f"{state} {digest}")
            (Path(own) / "note").replace(note)
    return digest


def _state(path: UPath) -> str | None:
    """What a file cannot change without; None where its file system tells nothing of that kind.

    The time of a local file's last change of state and its inode cannot be set, as its time of writing can.
    """
    if path.protocol in LOCAL_PROTOCOLS:
        state = Path(path.path).stat()
        told = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev]
    else:
        entry = path.fs.info(path.path)
        if "generation" not in entry:
            return None
        told = [entry["size"], entry["generation"], entry.get("crc32c")]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _read_digest(path: UPath) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
