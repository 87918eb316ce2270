"""Which device and number format a model engine uses, and where its compiled kernels are kept.

Called by engine modules only: importing this imports torch.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from lanepaint_assets.store.items import StepError

# Read by torch when CUDA starts. Models that take turns leave holes of all sizes; segments that grow fill them again.
# The variable has two names, of which torch 2.13 heeds this older one first: it stays unset beside a user's newer one.
if "PYTORCH_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def pick_device(name: str) -> torch.device:
    """The device that a setting names: `cpu`, `cuda`, `cuda:1`, ..., or `auto`: a GPU where there is one.

    Raises:
        StepError: this machine has no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if gpus else "cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    index = device.index or 0
    if index >= gpus:
        raise StepError(
            f"there is no device {name!r} here: torch {torch.__version__} sees {gpus} GPU(s); choose another one, or "
            "install torch for the GPU"
        )
    return torch.device("cuda", index)


def pick_second_device(name: str) -> torch.device:
    """As `pick_device`, but `auto` is the second GPU where there are two (spec 5, `VP_QWEN_DEVICE`)."""
    if name == "auto" and torch.cuda.is_available() and torch.cuda.device_count() > 1:
        return torch.device("cuda:1")
    return pick_device(name)


def inference_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU, as the diffusion and language models were released; float32 on the CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def use_kernel_cache(cache: Path | None) -> None:
    """Keep what the compiler makes below `cache`, for the next process; a folder that is already set stays in force."""
    if cache is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "kernels"))
