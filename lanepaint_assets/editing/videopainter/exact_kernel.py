"""Which kernel computes the attention of CogVideoX: the fastest exact one that this machine has.

Called by `attention.py` for every block and by `pipeline.py` around its denoising loop. Nothing here approximates: all
of these kernels give the same numbers within the rounding of their format.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

log = logging.getLogger(__name__)

# At (2, 17776, 48, 64) in bfloat16 on an H200: FlashAttention 4 14.4 ms (540 TFLOP/s), then torch's own: cuDNN 18.6 ms,
# flash 24.6 ms. The others take over where those refuse: float32, older GPUs.
TORCH_BACKENDS = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)

# Kernels of FlashAttention 4 that are tried here are those of Hopper and of Blackwell.
_FLASH_4_GENERATIONS = (9, 10)
_FLASH_4_DTYPES = (torch.bfloat16, torch.float16)

# The kernel's own rounding is 3e-4 of numbers about 1; a wrong kernel is off by tenths.
_PROBE_TOLERANCE = 0.02
_PROBE_SHAPE = (2, 256, 2)

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]

# The kernel is compiled at its first call, and two devices may come to it at once.
_COMPILING = threading.Lock()


@torch.library.custom_op("lanepaint::exact_attention", mutates_args=())
def exact_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all tokens to all, without a mask; for inference only.

    One operation to torch's compiler, which could not look into FlashAttention 4 and need not look into torch's.

    Args:
        query, key, value: (batch, token, head, channel) of one shape and format.

    Returns:
        As shaped, in memory of its own.
    """
    kernel = _flash_4(query.device, query.shape[-1]) if query.dtype in _FLASH_4_DTYPES else None
    return (kernel or _torch_kernel)(query, key, value).contiguous()


@exact_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


@contextmanager
def fastest_torch_kernel(device: torch.device) -> Iterator[None]:
    """Prefer `TORCH_BACKENDS` in their order inside, where torch's own kernels are used."""
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel(list(TORCH_BACKENDS), set_priority=True):
        yield


def _torch_kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def _flash_4(device: torch.device, channels: int) -> Kernel | None:
    """FlashAttention 4, once it has shown on that device that it works for so many channels; else None."""
    if device.type != "cuda":
        return None
    with _COMPILING:
        return _tried_flash_4(device, channels)


@lru_cache
def _tried_flash_4(device: torch.device, channels: int) -> Kernel | None:
    if torch.cuda.get_device_capability(device)[0] not in _FLASH_4_GENERATIONS:
        return None
    try:
        package: Any = importlib.import_module("flash_attn.cute")
    except ModuleNotFoundError:
        log.info("FlashAttention 4 (extra 'flash') is not installed; torch's own attention is used, which takes longer")
        return None

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = package.flash_attn_func(query, key, value)[0]
        return mixed

    unused = "FlashAttention 4 is installed but does not work on %s; torch's own attention is used, which takes longer"
    try:
        difference = _difference_from_torch(kernel, device, channels)
    except Exception:  # it brings a compiler, which meets whatever driver there is
        log.warning(unused, device, exc_info=True)
        return None
    if difference > _PROBE_TOLERANCE:
        log.warning(f"{unused}: its result is off by %.3g", device, difference)
        return None
    return kernel


def _difference_from_torch(kernel: Kernel, device: torch.device, channels: int) -> float:
    """Largest difference to torch's result in float32, of numbers about 1."""
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(*_PROBE_SHAPE, channels, generator=generator).to(device, torch.bfloat16) for _ in range(3)]
    with torch.no_grad():
        found, wanted = kernel(*tokens).float(), _torch_kernel(*(each.float() for each in tokens))
        return float((found - wanted).abs().nan_to_num(nan=float("inf")).max())
