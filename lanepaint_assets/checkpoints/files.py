"""Checkpoint files as engines read them: found, digested, and on this machine's disk.

Called by the platform and by engines. These digests are of contents alone and enter fingerprints: a checkpoint that is
copied anew, with other times, recomputes no item. What an observation publishes is `digest.py`'s, which reads no
weights: it changes with a mere copy too, and asks for runs that then reuse everything. What is known of a bucket's
files without reading them is `known_digests.py`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
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
    """A checkpoint file on this machine's disk; one on an object store is copied to `cache`, once a version.

    Raises:
        CheckpointError: it is not there, was replaced while it was copied, or is remote and there is no cache.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint; copy it there")
    if path.protocol in LOCAL_PROTOCOLS:
        return Path(path.path)
    if cache is None:
        raise CheckpointError(f"{path}: a remote checkpoint needs a folder to be copied to")
    version = list_checkpoint(path.parent, path.name).version
    copy = cache / version[:16] / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A place of its own: other processes may be copying the same file.
        with tempfile.TemporaryDirectory(dir=copy.parent) as own:
            partial = Path(own) / path.name
            fetch(path, partial)
            check_unchanged(path, version, list_checkpoint(path.parent, path.name).version)
            partial.replace(copy)
    return copy


def check_unchanged(path: UPath, before: str, after: str) -> None:
    """Refuse a copy of files that were replaced while it was made.

    Args:
        path: what was copied.
        before, after: versions of its listing.

    Raises:
        CheckpointError: they differ.
    """
    if before != after:
        raise CheckpointError(f"{path}: it was replaced while it was copied; try again when it has come to rest")


def fetch(path: Path | UPath, target: Path | UPath) -> str:
    """Copy one file, a block at a time, and return the SHA-256 of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("rb") as source, target.open("wb") as file:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def file_digest(path: UPath, memory: Path | None = None) -> str:
    """SHA-256 of a checkpoint file's content, read once a process as long as its size and time stay.

    Args:
        path: local or remote.
        memory: folder of this machine where the digests of large local files outlive the process; None forgets them.

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
    return combined_digest(dict(zip(names, digests, strict=True)))


def combined_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 of a folder, of those of its files, by name and in the order of names."""
    return hashlib.sha256("".join(f"{name}\0{digest}\0" for name, digest in digests.items()).encode()).hexdigest()


def remember_digest(path: UPath, memory: Path, digest: str) -> None:
    """Keep the digest of a local file that was just written, so that `file_digest` need not read it."""
    state = _state(path)
    if path.stat().st_size >= REMEMBERED_BYTES:
        _note(_place(path, memory), state, digest)


def folder_mark(folder: Path) -> str:
    """A short mark of a local folder's files by name, size and time: another one after any of them was replaced.

    For what a process remembers of a checkpoint; what stays is known by `folder_digest`.
    """
    states = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\0" for path, state in states]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(path: UPath, memory: Path | None, size: int, time: float) -> str:  # noqa: ARG001  # what the cache asks
    if memory is None or size < REMEMBERED_BYTES or path.protocol not in LOCAL_PROTOCOLS:
        return _read_digest(path)
    state, place = _state(path), _place(path, memory)
    with contextlib.suppress(OSError, ValueError):
        known, digest = place.read_text().split()
        if known == state and len(digest) == 64:
            return digest
    digest = _read_digest(path)
    # A file that changed while it was read is known by nothing.
    if _state(path) == state:
        _note(place, state, digest)
    return digest


def _place(path: UPath, memory: Path) -> Path:
    return memory / "digests" / hashlib.sha256(str(path).encode()).hexdigest()[:32]


def _note(place: Path, state: str, digest: str) -> None:
    # A cache that cannot be written costs time only.
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as own:
            (Path(own) / "note").write_text(f"{state} {digest}")
            (Path(own) / "note").replace(place)


def _state(path: UPath) -> str:
    """What a local file cannot change without: its time of last change of state and its inode cannot be set."""
    state = Path(path.path).stat()
    told = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _read_digest(path: UPath) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
