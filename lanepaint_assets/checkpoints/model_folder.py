"""A checkpoint that is a folder of model files: found, complete, on this machine's disk.

Called by engines before they read it. A half-copied folder is noticed here, by name of the file, and not by a library
in the middle of a step; what complete means is `completeness.py`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from upath import UPath

from lanepaint_assets.checkpoints.completeness import check_model_folder
from lanepaint_assets.checkpoints.digest import list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError, check_unchanged, fetch
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS


def local_model_folder(folder: UPath, cache: Path | None = None) -> Path:
    """The folder on this machine's disk, with every file that it says it has.

    Args:
        folder: holds `model_index.json` and its components, or one model's `config.json` and weights.
        cache: where a folder of an object store is copied to, once.

    Raises:
        CheckpointError: a file is missing, cut short or was replaced while it was copied, or the folder is remote and
            there is no cache.
    """
    if not folder.exists():
        raise CheckpointError(f"{folder}: there is no such checkpoint; copy it there")
    if folder.protocol in LOCAL_PROTOCOLS:
        local = Path(folder.path)
    elif cache is None:
        raise CheckpointError(f"{folder}: a remote checkpoint needs a folder to be copied to")
    else:
        local = _copied(folder, cache)
    check_model_folder(list_checkpoint(UPath(local)))
    return local


def _copied(folder: UPath, cache: Path) -> Path:
    listing = list_checkpoint(folder)
    copy = cache / listing.version[:16] / folder.name
    if copy.exists():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    # A place of its own: other processes may be copying the same folder.
    with tempfile.TemporaryDirectory(dir=copy.parent) as own:
        partial = Path(own) / copy.name
        for file in listing.files:
            fetch(folder / file.name, partial / file.name)
        check_unchanged(folder, listing.version, list_checkpoint(folder).version)
        try:
            partial.rename(copy)
        except OSError:
            # The first one there wins; by its name it is of the same version.
            if not copy.exists():
                raise
    return copy
