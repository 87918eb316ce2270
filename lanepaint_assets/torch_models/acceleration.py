"""How a diffusion transformer is run faster or in less memory; exact unless it says otherwise.

Called where engines read their networks. Attention kernels and guidance on two devices are the video model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from diffusers import FirstBlockCacheConfig
from diffusers.models.modeling_utils import ModelMixin

M = TypeVar("M", bound=ModelMixin)

# Forms of a block that are compiled before torch gives up and runs it as it is: each LoRA that joins makes new ones of
# those before, and torch's own limit of 8 is three LoRAs.
_COMPILED_FORMS = 64


@dataclass(frozen=True)
class Acceleration:
    """What is done to a transformer before it computes.

    Attributes:
        compiled: its repeated blocks are compiled; exact but for rounding. The first picture or window waits for the
            compiler, some 15 s a kind of block, unless the kernel cache has its results.
        first_block_cache: None, or the relative change of the first block's result below which a step takes what the
            other blocks added in the step before. Inexact: the larger, the more steps go without the blocks that draw
            texture and sharp edges, which is what lines consist of.
        fp8: weights are held as 8-bit floats, half the memory, and widened layer by layer at every step, which takes
            time. Inexact: each weight keeps three bits of its fraction.
    """

    compiled: bool = False
    first_block_cache: float | None = None
    fp8: bool = False

    def __post_init__(self) -> None:
        if self.first_block_cache is not None and not self.first_block_cache > 0.0:
            raise ValueError(f"the change below which a step is skipped must be positive, not {self.first_block_cache}")

    def applied(self, transformer: M, dtype: torch.dtype, *, one_shape: bool) -> M:
        """The same transformer, so set up.

        Args:
            transformer: of diffusers.
            dtype: that it computes in.
            one_shape: see `compiled_blocks`.
        """
        model: Any = transformer
        if self.fp8:
            model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
        if self.first_block_cache is not None:
            model.enable_cache(FirstBlockCacheConfig(self.first_block_cache))  # type: ignore[no-untyped-call]
        return self.compiled_blocks(transformer, one_shape=one_shape)

    def compiled_blocks(self, network: M, *, one_shape: bool) -> M:
        """The same network, its blocks compiled if that was asked for; all that pays for a small companion.

        Args:
            network: names its repeated blocks.
            one_shape: it nearly always sees one shape, and another one must not make the kernels general.
        """
        if self.compiled:
            model: Any = network
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _COMPILED_FORMS)
            model.compile_repeated_blocks(dynamic=False if one_shape else None)
        return network


EXACT = Acceleration()
