"""Digest of a checkpoint's files, the data version of its asset.

Reads names, sizes and times, and the content of small files only: a 20 GB checkpoint is observed in milliseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from upath import UPath

ABSENT = "absent"

# Index and configuration files are small and may be rewritten within one second of a copy, so their content counts.
CONTENT_BELOW_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckpointState:
    """What an observation found: the digest, or `absent`, and what it covers."""

    digest: str
    files: int
    size: int


# Folder of each checkpoint below ROOT/checkpoints, named as the released archives unpack (spec 12).
CHECKPOINT_FOLDERS = {
    "sam2_checkpoint": "sam2",
    "flux_fill_checkpoint": "videopainter/ckpt/flux_inp",
    "cogvideox_checkpoint": "videopainter/ckpt/CogVideoX-5b-I2V",
    "videopainter_branch_checkpoint": "videopainter/ckpt/VideoPainter/checkpoints/branch",
    "qwen_vl_checkpoint": "videopainter/ckpt/vlm",
    "alpamayo_checkpoint": "alpamayo",
}


def checkpoint_state(folder: UPath) -> CheckpointState:
    """Observe one checkpoint folder; a missing or empty folder is `absent`."""
    if not folder.exists():
        return CheckpointState(ABSENT, 0, 0)
    digest = hashlib.sha256()
    files = size = 0
    for path in sorted(folder.rglob("*"), key=lambda found: found.path):
        if not path.is_file():
            continue
        state = path.stat()
        name = path.path[len(folder.path) :].lstrip("/")
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime}\0".encode())
        if state.st_size < CONTENT_BELOW_BYTES:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        files += 1
        size += state.st_size
    return CheckpointState(digest.hexdigest() if files else ABSENT, files, size)
