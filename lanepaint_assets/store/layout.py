"""Where everything lies below the store's root: folder names of the spec, and the keys that may enter a path.

Called by `artifacts.py`, `manifest.py` and whoever prints a path. Nothing here touches a file system.
"""

from __future__ import annotations

import re
from typing import Final

from lanepaint_assets.clips.records import CHUNK_KEY

AREAS: Final[dict[str, str]] = {
    "raw_clips": "raw_clips",
    "road_masks": "sam2",
    "vp_inputs": "preprocessed_data_vp",
    "first_frames": "vp",
    "edited_videos": "vp",
    "original_trajectories": "alpamayo",
    "edited_trajectories": "alpamayo",
    "video_quality": "alpamayo",
    "trajectory_videos": "alpamayo",
    "trajectory_reports": "alpamayo",
    "prompt_leaderboard": "leaderboard",
    "training_samples": "training",
    "filtered_samples": "training",
    "lane_loras": "training",
    "lora_checkpoints": "training",
}
"""Folder below `outputs/` of every asset that keeps items (the names are those of spec 12)."""

CHUNK_ROW: Final = "_chunk"
"""Key of the row that holds files spanning a chunk's items, such as train.csv and the HTML report."""

FILES_MARKER: Final = "_files.json"
"""Name of the list that completes an item's folder on a local disk; no item may have a file of this name."""

ATTEMPT_DIGITS: Final = 16
"""Hex digits that name a writer's own folder below an item's on object stores; random, so that no two are the same."""

# No leading dot: dot names are the store's own partial folders and lock files. 200 leaves room below the 255 bytes that
# file systems allow for a name.
_KEY_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def area(asset: str) -> str:
    """Folder of an asset below `outputs/`.

    Raises:
        ValueError: the asset keeps no items in the store.
    """
    try:
        return AREAS[asset]
    except KeyError:
        raise ValueError(
            f"asset {asset!r} has no folder in the store; the store knows {', '.join(sorted(AREAS))}"
        ) from None


def check_chunk_key(key: str) -> str:
    """Return `key` unchanged if it may name a chunk.

    Raises:
        ValueError: it does not match `CHUNK_KEY`.
    """
    if CHUNK_KEY.fullmatch(key) is None or key.endswith("\n"):
        raise ValueError(f"chunk key {key!r} is not allowed: use {CHUNK_KEY.pattern}")
    return key


def check_item_key(key: str) -> str:
    """Return `key` unchanged if it may name an item: `<part>` or `<part>/<part>` (ARCHITECTURE, "The store").

    Raises:
        ValueError: it would leave its folder, hide in it, or hold characters that file systems disagree about.
    """
    parts = key.split("/")
    if len(parts) > 2 or any(_KEY_PART.fullmatch(part) is None for part in parts):
        raise ValueError(
            f"item key {key!r} is not allowed: use one or two parts joined by '/', each of at most 200 letters, "
            "digits, '.', '_' and '-', not starting with '.'"
        )
    return key


def check_fingerprint(fingerprint: str) -> str:
    """Return `fingerprint` unchanged if it is 64 lower-case hex digits.

    Raises:
        ValueError: it is not.
    """
    if _FINGERPRINT.fullmatch(fingerprint) is None:
        raise ValueError(f"fingerprint {fingerprint!r} is not 64 lower-case hex digits")
    return fingerprint


def check_relative_path(path: str) -> str:
    """Return a '/'-separated path unchanged if it stays below its folder.

    Raises:
        ValueError: it is absolute, has an empty, '.' or '..' part, a backslash or a control character.
    """
    bad_part = any(part in ("", ".", "..") for part in path.split("/"))
    if bad_part or "\\" in path or any(ord(character) < 32 for character in path):
        raise ValueError(f"path {path!r} is not allowed: it must be relative, without empty, '.' or '..' parts")
    return path


def manifest_path(asset: str, chunk: str) -> str:
    """`outputs/<area>/<chunk>/<asset>.manifest.json`."""
    return f"outputs/{area(asset)}/{check_chunk_key(chunk)}/{asset}.manifest.json"


def asset_folder(asset: str, chunk: str) -> str:
    """`outputs/<area>/<chunk>/<asset>`, the folder of an asset's items in one partition."""
    return f"outputs/{area(asset)}/{check_chunk_key(chunk)}/{asset}"


def item_folder(asset: str, chunk: str, item_key: str, fingerprint: str) -> str:
    """`outputs/<area>/<chunk>/<asset>/<item key>/<fingerprint>`."""
    return f"{asset_folder(asset, chunk)}/{check_item_key(item_key)}/{check_fingerprint(fingerprint)}"


def chunk_path(key: str) -> str:
    """`chunks/<key>.json`, the membership of one chunk."""
    return f"chunks/{check_chunk_key(key)}.json"
