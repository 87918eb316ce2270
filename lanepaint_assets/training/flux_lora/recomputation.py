"""Gradient checkpointing of as many blocks as memory asks for, and no more.

A block that is not recomputed in the backward pass keeps its activations: at 768x512 about half a gigabyte of a block
with separate weights. Recomputing all of them costs a third of a step's time. Called by the trainer.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from lanepaint_assets.torch_models.residency import GIB

# Left free below the limit: the allocator rounds, and validation decodes pictures.
_SPARE_BYTES = 2 * GIB


class Recomputation:
    """Decides block by block whether its activations are kept; what is computed is the same.

    The first forward pass recomputes all blocks but measures what one of each kind would keep; after the first whole
    step `settle` chooses.

    Args:
        transformer: whose blocks ask.
        device: a CPU recomputes every block: it has nothing to measure, and trains nothing large.
    """

    def __init__(self, transformer: FluxTransformer2DModel, device: torch.device) -> None:
        self._device = device
        self._blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        self._kept: set[nn.Module] = set()
        self._bytes: dict[type, int] = {}
        model: Any = transformer
        model.enable_gradient_checkpointing(self._run)

    @property
    def kept_blocks(self) -> int:
        """How many blocks keep their activations now."""
        return len(self._kept)

    def settle(self, limit_bytes: int) -> None:
        """Keep activations as long as the peak stays below a limit; called once, after a step in which none were."""
        if self._device.type != "cuda" or not self._bytes:
            return
        free = limit_bytes - _SPARE_BYTES - torch.cuda.max_memory_allocated(self._device)
        for block in self._blocks:
            needed = self._bytes[type(block)]
            if needed <= free:
                self._kept.add(block)
                free -= needed

    def _run(self, block: nn.Module, *inputs: Any) -> Any:
        if self._device.type == "cuda" and type(block) not in self._bytes:
            return self._measured(block, inputs)
        if block in self._kept:
            return block(*inputs)
        # The blocks draw no random numbers, whose state would be saved for nothing.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    def _measured(self, block: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """Run one block without recomputation: what it holds on to stays allocated when it is done."""
        before = torch.cuda.memory_allocated(self._device)
        result = block(*inputs)
        self._bytes[type(block)] = max(torch.cuda.memory_allocated(self._device) - before, 1)
        return result
