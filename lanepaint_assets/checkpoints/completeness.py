"""Whether a checkpoint has all of its files, each of them its whole length, and none to be read that may run code.

Called by observations, before a new version is published, and by `model_folder.py`, before an engine reads a folder.
Layouts are those of diffusers (`model_index.json` and a folder a component), of transformers (configuration and weights
in one folder) and torch's files. Only JSON and the ends and heads of files are read; what weights compute is the smoke
check's business.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from typing import Any

from lanepaint_assets.checkpoints.digest import Listing
from lanepaint_assets.checkpoints.files import CheckpointError

# A component that has no weights of its own says so by the file that it has instead.
_WITHOUT_WEIGHTS = ("scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
_INDEXES = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_OF_A_COMPONENT = frozenset({"config.json", *_WITHOUT_WEIGHTS, *_INDEXES, *_WEIGHTS})

# Names of pickled weights, which no engine reads.
_PICKLED = re.compile(r"[^/]+\.(bin|pt|pth|ckpt)(\.index\.json)?")

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_TORCH = (".pt", ".pth", ".bin")

# What torch.save begins with: an archive, or since before 2020 a bare pickle, which does not say its length.
_ZIP = b"PK\x03\x04"
_BARE_PICKLE = b"\x80"

# What a pickle of tensors calls when it is read, as torch's own reader of weights alone allows it.
_HARMLESS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)"
    r"|torch\.nn\.parameter Parameter|torch \w+Storage|torch\.storage (Typed|Untyped)Storage|torch (Size|device|bool)"
    r"|torch (bfloat|float|uint|int|complex)\d+"
)
# Opcodes that look a name up in other ways; torch.save uses none of them.
_OTHER_LOOKUPS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
# The pickle names the weights and where they lie: under a megabyte for ten thousand of them.
_LONGEST_PICKLE_BYTES = 100_000_000

# One request reads the head of nearly every released shard: 20 to 120 KB. The format allows 100 MB.
_HEAD_BYTES = 1 << 17
_LONGEST_HEAD_BYTES = 100_000_000


def check_complete(listing: Listing, file: str | None = None, *, is_collection: bool = False) -> None:
    """Every file that the checkpoint says it has is there, and all files have the length that they say.

    Args:
        listing: of the checkpoint.
        file: where it is one file, its name.
        is_collection: the folder holds several models' folders, of which some come without weights; else it holds one
            model.

    Raises:
        CheckpointError: names the first file that is missing, unfinished or cut short.
    """
    if listing.unfinished:
        raise CheckpointError(
            f"{listing.folder / listing.unfinished[0]}: this file is still being copied; if nobody copies it any more, "
            "delete it"
        )
    if is_collection and not any(name.endswith(".safetensors") for name in listing.sizes):
        raise CheckpointError(f"{listing.folder}: no weights (*.safetensors) are there yet; copy the checkpoint again")
    if file is None and not is_collection:
        check_model_folder(listing)
    for name in listing.sizes:
        if name.endswith(".safetensors"):
            _tensors(listing, name)
        elif name.endswith(_TORCH):
            _check_torch_file(listing, name, is_read=name == file)
        elif name.endswith(".index.json"):
            _check_index(listing, name, may_be_without_weights=is_collection)
        shard = _SHARD.fullmatch(name)
        if shard is not None:
            for number in range(1, int(shard["count"]) + 1):
                _require(listing, f"{shard['stem']}-{number:05d}-of-{shard['count']}{shard['suffix']}")


def check_model_folder(listing: Listing) -> None:
    """Every component that the folder's models consist of is there, with whole weights.

    Raises:
        CheckpointError: names the first file that is missing or cut short.
    """
    if "model_index.json" not in listing.sizes:
        if _is_of_components(listing):
            _require(listing, "model_index.json")
        _check_component(listing, "")
        return
    for name, value in _json(listing, "model_index.json").items():
        # `_class_name` and the like are no components; `[null, null]` is one that was left out.
        if not name.startswith("_") and isinstance(value, list) and value and value[0] is not None:
            _check_component(listing, f"{name}/")


def _is_of_components(listing: Listing) -> bool:
    """Whether models lie in folders of the folder, and nothing of a model beside them."""
    split = [name.rpartition("/") for name in listing.sizes]
    folders = {folder for folder, _, file in split if file in _OF_A_COMPONENT or _SHARD.fullmatch(file)}
    return any(folders) and "" not in folders


def _check_component(listing: Listing, prefix: str) -> None:
    if not any(name.startswith(prefix) for name in listing.sizes):
        raise CheckpointError(
            f"{listing.folder / prefix.rstrip('/')}: this part of the checkpoint is missing; copy the checkpoint again"
        )
    config = f"{prefix}config.json"
    # A model that is a folder of its own has weights, also where it comes with a tokenizer.
    if prefix and config not in listing.sizes and any(f"{prefix}{name}" in listing.sizes for name in _WITHOUT_WEIGHTS):
        return
    _require(listing, config)
    is_diffusers = "_diffusers_version" in _json(listing, config)
    for name in _INDEXES:
        if f"{prefix}{name}" in listing.sizes:
            _check_index(listing, f"{prefix}{name}")
            return
    present = [name for name in _WEIGHTS if f"{prefix}{name}" in listing.sizes]
    pickled = [name for name in listing.sizes if name.startswith(prefix) and _PICKLED.fullmatch(name[len(prefix) :])]
    if pickled and not present:
        raise CheckpointError(
            f"{listing.folder / pickled[0]}: this model comes with pickled weights alone, which may run code when they "
            "are read; copy its safetensors, nothing else is read"
        )
    _tensors(listing, prefix + (present[0] if present else _WEIGHTS[1 if is_diffusers else 0]))


def _check_index(listing: Listing, name: str, *, may_be_without_weights: bool = False) -> None:
    """Every shard of an index is there, whole, and holds the tensors that the index says."""
    weight_map = _json(listing, name).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{listing.folder / name}: it names no weights; copy it again")
    prefix = name[: name.rfind("/") + 1]
    shards = sorted({str(shard) for shard in weight_map.values()})
    pickled = [shard for shard in shards if not shard.endswith(".safetensors")]
    if pickled and ".safetensors." in name:
        raise CheckpointError(f"{listing.folder / name}: it names {pickled[0]}, and only safetensors are read")
    if may_be_without_weights and not any(f"{prefix}{shard}" in listing.sizes for shard in shards):
        return
    for shard in shards:
        _require(listing, f"{prefix}{shard}")
        if not shard.endswith(".safetensors"):
            continue
        held = _tensors(listing, f"{prefix}{shard}")
        lacking = [tensor for tensor, file in weight_map.items() if file == shard and tensor not in held]
        if lacking:
            raise CheckpointError(
                f"{listing.folder / (prefix + shard)}: it lacks {lacking[0]}, which {name} says is in it: the two are "
                "of different copies; copy the checkpoint again"
            )


def _tensors(listing: Listing, name: str) -> frozenset[str]:
    """Names of the tensors of a safetensors file, which states in its head where the last of them ends."""
    _require(listing, name)
    size, head = listing.sizes[name], _bytes(listing, name, 0, _HEAD_BYTES)
    head_bytes = int.from_bytes(head[:8], "little")
    if len(head) < 8 + head_bytes <= min(size, _LONGEST_HEAD_BYTES):
        head = _bytes(listing, name, 0, 8 + head_bytes)
    try:
        tensors = json.loads(head[8 : 8 + head_bytes])
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        end = None
    if end is None or size != 8 + head_bytes + end:
        raise CheckpointError(
            f"{listing.folder / name}: this file of the checkpoint is damaged or cut short; copy it again"
        )
    return frozenset(tensors)


def _check_torch_file(listing: Listing, name: str, *, is_read: bool) -> None:
    """An archive's list of contents stands at its end, so a cut one has none. One that is read names no code."""
    path = listing.folder / name
    if _bytes(listing, name, 0, 1) == _BARE_PICKLE:
        if is_read:
            raise CheckpointError(f"{path}: a bare pickle, which may run code when it is read; copy the released file")
        return
    problem = None
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            if not any(entry.filename.endswith("data.pkl") for entry in pickles):
                problem = "is no checkpoint of torch"
            elif is_read:
                problem = next(filter(None, (_foreign_code(archive, entry) for entry in pickles)), None)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError):
        cut = _bytes(listing, name, 0, len(_ZIP)) == _ZIP
        problem = "is damaged or cut short" if cut else "is no checkpoint of torch"
    if problem is not None:
        raise CheckpointError(f"{path}: this file of the checkpoint {problem}; copy it again")


def _foreign_code(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str | None:
    """What a pickle would run beside putting tensors together; None where there is nothing. It is not run to find out.

    Raises:
        ValueError: it is no pickle.
    """
    if entry.file_size > _LONGEST_PICKLE_BYTES:
        return f"has a list of weights of {entry.file_size} bytes"
    for operation, argument, _ in pickletools.genops(archive.read(entry)):
        if operation.name in _OTHER_LOOKUPS or (operation.name == "GLOBAL" and not _HARMLESS.fullmatch(str(argument))):
            return f"would run code when it is read ({argument or operation.name})"
    return None


def _require(listing: Listing, name: str) -> None:
    if name not in listing.sizes:
        raise CheckpointError(
            f"{listing.folder / name}: this file of the checkpoint is missing; copy the checkpoint again"
        )


def _json(listing: Listing, name: str) -> dict[str, Any]:
    path = listing.folder / name
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: it holds no JSON object; copy it again")
    return content


def _bytes(listing: Listing, name: str, start: int, end: int) -> bytes:
    """A piece of a file, shorter where the file ends; no more than that is transferred."""
    path = listing.folder / name
    end = min(end, listing.sizes[name])
    return bytes(path.fs.cat_file(path.path, start=start, end=end)) if end > start else b""
