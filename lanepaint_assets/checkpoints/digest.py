"""Which files a checkpoint consists of, and the digest of them that is the data version of its asset.

Called by observations, completeness checks and `files.py`. One listing, and the content of small local files: 60 GB are
observed in milliseconds, and nothing is downloaded from a bucket. The digest that enters fingerprints is another one,
over contents alone: `files.folder_digest` and `files.file_digest`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from upath import UPath

from lanepaint_assets.store.observed import ABSENT
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS

# Index and configuration files are small and may be rewritten within one tick of a file system's clock, so their
# content counts. Weights are larger.
CONTENT_BELOW_BYTES = 1 << 20

# Folder of each checkpoint below ROOT/checkpoints, named as the released archives unpack (spec 12).
CHECKPOINT_FOLDERS = {
    "sam2_checkpoint": "sam2",
    "flux_fill_checkpoint": "videopainter/ckpt/flux_inp",
    "cogvideox_checkpoint": "videopainter/ckpt/CogVideoX-5b-I2V",
    "videopainter_branch_checkpoint": "videopainter/ckpt/VideoPainter/checkpoints/branch",
    "qwen_vl_checkpoint": "videopainter/ckpt/vlm",
    "alpamayo_checkpoint": "alpamayo",
}

# What copying tools call a file that they have not finished: browsers, curl and wget wrappers, aria2, huggingface_hub,
# gsutil and gcloud; and rsync's hidden names with six random characters.
_UNFINISHED = re.compile(
    r".*(\.(part|partial|tmp|temp|incomplete|crdownload|download|aria2)|_?\.gstmp)"
    r"|\..+\.(safetensors|pt|pth|bin|json|txt|model)\.[A-Za-z0-9]{6}",
    re.DOTALL,
)


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a listing.

    Attributes:
        name: below the folder, with `/`.
        size: bytes.
        identity: changes when the file does; what it is made of differs between file systems.
        touched: when it was last written or put there, by the clock that nobody can set: for a local file the time of
            its last change of state, which copying tools do not carry over.
    """

    name: str
    size: int
    identity: str
    touched: datetime

    @property
    def is_hidden(self) -> bool:
        """Whether it is some tool's own file, such as huggingface_hub's `.cache`."""
        return any(part.startswith(".") for part in self.name.split("/"))

    @property
    def is_unfinished(self) -> bool:
        """Whether its name says that it is being written."""
        return _UNFINISHED.fullmatch(self.name.rpartition("/")[2]) is not None


@dataclass(frozen=True)
class Listing:
    """A checkpoint's files at one moment.

    Attributes:
        folder: where they are.
        files: what it consists of, by name.
        unfinished: names of files that are still being written.
        touched: when the last of all of them, or a local folder of them, was; None where there is nothing.
    """

    folder: UPath
    files: tuple[CheckpointFile, ...]
    unfinished: tuple[str, ...]
    touched: datetime | None

    @cached_property
    def version(self) -> str:
        """The digest, or `absent`."""
        lines = [f"{file.name}\0{file.size}\0{file.identity}\0" for file in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ABSENT

    @property
    def mark(self) -> str:
        """Changes also with unfinished files, and when something is touched."""
        told = "\0".join([self.version, *self.unfinished, str(self.touched)])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return {file.name: file.size for file in self.files}


def list_checkpoint(folder: UPath, file: str | None = None) -> Listing:
    """The files of a checkpoint; hidden ones are tools' own and no part of it.

    Args:
        folder: local or remote; it need not exist.
        file: where the checkpoint is one file of the folder.

    Raises:
        OSError: a folder or file may not be read.
    """
    local = folder.protocol in LOCAL_PROTOCOLS
    entries, folder_times = _walk(Path(folder.path)) if local else (list(_remote(folder)), [])
    if file is not None:
        # Another file's upload into the same folder is not this one's business.
        entries, folder_times = [entry for entry in entries if file in entry.name], []
    unfinished = [entry.name for entry in entries if entry.is_unfinished]
    files = [entry for entry in entries if not entry.is_hidden and not entry.is_unfinished]
    if file is not None:
        files = [entry for entry in files if entry.name == file]
    counted = [entry.touched for entry in entries if entry.is_unfinished or not entry.is_hidden]
    return Listing(
        folder=folder,
        files=tuple(sorted(files, key=lambda entry: entry.name)),
        unfinished=tuple(sorted(unfinished)),
        touched=max(counted + folder_times) if counted else None,
    )


def _walk(folder: Path) -> tuple[list[CheckpointFile], list[datetime]]:
    """Files of a local folder and times of its visible folders; links are followed, a folder is visited once."""
    files, times, seen = [], [], set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inside = Path(place).relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            # A file that was removed leaves its trace here.
            times.append(_moment(Path(place).stat().st_ctime))
        for name in names:
            path = Path(place, name)
            try:
                state = path.stat()
            except FileNotFoundError:
                # Removed since, or a link to nowhere: not there.
                continue
            identity = str(state.st_mtime_ns)
            if state.st_size < CONTENT_BELOW_BYTES:
                identity += f" {_content(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)}"
            files.append(CheckpointFile((inside / name).as_posix(), state.st_size, identity, _moment(state.st_ctime)))
    return files, times


def _refuse(error: OSError) -> None:
    """What may not be read is not absent; what was removed meanwhile is."""
    if not isinstance(error, FileNotFoundError):
        raise error


@lru_cache(maxsize=4096)
def _content(path: Path, *state: int) -> str:  # noqa: ARG001  # the state is what the cache asks
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "gone"


def _remote(folder: UPath) -> Iterator[CheckpointFile]:
    """Files of a bucket, from one listing; generation and CRC are in it."""
    # A long-lived process would be told what was there when it first asked.
    folder.fs.invalidate_cache()
    found: dict[str, dict[str, Any]] = folder.fs.find(folder.path, detail=True)
    for path, entry in found.items():
        touched = entry.get("mtime") or entry.get("updated") or entry["created"]
        if "generation" in entry:
            identity = f"{entry['generation']} {entry.get('crc32c')}"
        else:
            identity = f"{touched}"
            if entry["size"] < CONTENT_BELOW_BYTES:
                identity += f" {hashlib.sha256(folder.fs.cat_file(path)).hexdigest()}"
        yield CheckpointFile(path[len(folder.path) :].lstrip("/"), entry["size"], identity, _moment(touched))


def _moment(time: float | str | datetime) -> datetime:
    if isinstance(time, int | float):
        return datetime.fromtimestamp(time, UTC)
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
