"""One part of a checkpoint in host memory: a network or tokenizer read from its folder, or a network drawn at random.

Called by model engines; networks inside the `load` of a `Part`. What a network computes, and where, is not decided
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from lanepaint_assets.checkpoints.files import CheckpointError

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

# Names of weights that a message lists.
_NAMED = 3


def read_component(kind: type[M], folder: Path, dtype: torch.dtype) -> M:
    """Read a network of diffusers or transformers from its folder.

    Args:
        kind: its class.
        folder: with `config.json` and safetensors; see `checkpoints.model_folder.local_model_folder`.
        dtype: of its weights in memory.

    Raises:
        CheckpointError: it cannot be read, or its weights are another network's. The libraries would draw weights that
            are missing at random, with a warning.
    """
    loader: Any = kind
    try:
        # Weights of another shape are reported rather than raised, because the libraries' errors do not name them.
        module, report = loader.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            # Else the libraries fall back on pickled weights.
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder}: not a readable {kind.__name__} ({reason}); copy it again") from error
    shapes = [f"{name}: {list(found)} instead of {list(wanted)}" for name, found, wanted in report["mismatched_keys"]]
    for what, names in (("missing", report["missing_keys"]), ("of another shape", shapes)):
        if names:
            listed = ", ".join(sorted(names)[:_NAMED])
            raise CheckpointError(
                f"{folder}: it holds another network than {kind.__name__} of its config.json: {len(names)} weights are "
                f"{what} ({listed}{', ...' if len(names) > _NAMED else ''})"
            )
    # Copies of its own: the loader maps the file, which may be replaced, or leave memory, while the network is in use.
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()
    result: M = module
    return result


def read_tokenizer(kind: type[T], folder: Path, vocabularies: Sequence[Sequence[str]]) -> T:
    """Read a tokenizer of transformers from its folder.

    Args:
        kind: its class.
        folder: with `tokenizer_config.json` and a vocabulary.
        vocabularies: the files of each form that its vocabulary may have; one form must be there. The library would
            make an empty vocabulary without a word, and every caption would be read as unknown.

    Raises:
        CheckpointError: files are missing, or cannot be read.
    """
    if not any(all((folder / name).exists() for name in names) for names in vocabularies):
        forms = ", or ".join(" and ".join(names) for names in vocabularies)
        raise CheckpointError(f"{folder}: its vocabulary is missing ({forms}); copy the checkpoint again")
    loader: Any = kind
    try:
        tokenizer = loader.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder}: not a readable {kind.__name__} ({reason}); copy it again") from error
    result: T = tokenizer
    return result


def random_component(build: Callable[[], M], device: torch.device, dtype: torch.dtype, seed: int = 0) -> M:
    """A network with the random weights that its class draws: right for speed, memory and code paths, for no picture.

    Args:
        build: constructs it.
        device: draws the weights: 12 billion take seconds on a GPU and minutes on a host.
        dtype: of the weights from the start, so that no larger copy of them ever exists.
        seed: of this network.

    Returns:
        The network in host memory, as if read.
    """
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            module = build()
        finally:
            torch.set_default_dtype(before)
    return module.to("cpu")
