"""A checkpoint that is a folder of model files: found, complete, on this machine's disk.

Called by engines before they read it. Layouts are those of diffusers (`model_index.json` and a folder a component) and
of transformers (configuration and weights in one folder). A half-copied folder is noticed here, by name of the file,
and not by a library in the middle of a step.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError, fetch, folder_digest

# A component that has no weights of its own says so by the file that it has instead.
_WITHOUT_WEIGHTS = ("scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
_INDEXES = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")


def local_model_folder(folder: UPath, cache: Path | None = None) -> Path:
    """The folder on this machine's disk, with every file that it says it has.

    Args:
        folder: holds `model_index.json` and its components, or one model's `config.json` and weights.
        cache: where a folder of an object store is copied to, once.

    Raises:
        CheckpointError: a file is missing or cut short, or the folder is remote and there is no cache.
    """
    if not folder.exists():
        raise CheckpointError(f"{folder}: there is no such checkpoint; copy it there")
    if folder.protocol in ("", "file", "local"):
        local = Path(folder.path)
    elif cache is None:
        raise CheckpointError(f"{folder}: a remote checkpoint needs a folder to be copied to")
    else:
        local = _copied(folder, cache)
    _check(local)
    return local


def _copied(folder: UPath, cache: Path) -> Path:
    copy = cache / folder_digest(folder)[:16] / folder.name
    if copy.exists():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    # A place of its own: other processes may be copying the same folder.
    with tempfile.TemporaryDirectory(dir=copy.parent) as own:
        partial = Path(own) / copy.name
        for path in folder.rglob("*"):
            if path.is_file():
                fetch(path, partial / path.path[len(folder.path) :].lstrip("/"))
        try:
            partial.rename(copy)
        except OSError:
            # The first one there wins; by its name it has the same content.
            if not copy.exists():
                raise
    return copy


def _check(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.exists():
        _check_component(folder)
        return
    for name, value in _json(index).items():
        # `_class_name` and the like are no components; `[null, null]` is one that was left out.
        if not name.startswith("_") and isinstance(value, list) and value and value[0] is not None:
            _check_component(folder / name)


def _check_component(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: this part of the checkpoint is missing; copy the checkpoint again")
    config = folder / "config.json"
    if not config.exists():
        if any((folder / name).exists() for name in _WITHOUT_WEIGHTS):
            return
        raise CheckpointError(f"{config}: this file of the checkpoint is missing; copy the checkpoint again")
    _json(config)
    for name in _INDEXES:
        if (folder / name).exists():
            for shard in sorted(set(_json(folder / name).get("weight_map", {}).values())):
                _check_weights(folder / shard)
            return
    present = [folder / name for name in _WEIGHTS if (folder / name).exists()]
    _check_weights(present[0] if present else folder / _WEIGHTS[1 if _is_diffusers(config) else 0])


def _is_diffusers(config: Path) -> bool:
    return "_diffusers_version" in _json(config)


def _check_weights(path: Path) -> None:
    """A safetensors file states in its head where its last tensor ends."""
    if not path.exists():
        raise CheckpointError(f"{path}: this file of the checkpoint is missing; copy the checkpoint again")
    size = path.stat().st_size
    with path.open("rb") as file:
        head_bytes = int.from_bytes(file.read(8), "little")
        head = file.read(head_bytes) if 8 + head_bytes <= size else b""
    try:
        tensors = json.loads(head)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        ends = None
    if ends is None or size != 8 + head_bytes + max(ends, default=0):
        raise CheckpointError(f"{path}: this file of the checkpoint is damaged or cut short; copy it again")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: it holds no JSON object; copy it again")
    return content
