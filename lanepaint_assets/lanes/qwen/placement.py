"""Where the weights lie when a GPU cannot hold them as a whole, and how much of it they may take (spec 5).

Called by `model.py`. On GPUs that hold them, which is the rule from 32 GB on, only the budget is asked for: the weights
move as one part then, and `torch_models.residency` is in charge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lanepaint_assets.torch_models.residency import GIB

# Spec 5, `QWEN_VRAM_RESERVE_GIB`.
RESERVE_GIB = 12.0
# Spec 5: what the budget never goes below, what the host may hold, what may spill onto other GPUs.
LEAST_BUDGET_GIB, HOST_GIB, OTHER_GPU_GIB = 8.0, 192.0, 1.0


def memory_budget_gib(total_gib: float, reserve_gib: float = RESERVE_GIB) -> float:
    """What the weights may take of a GPU of `total_gib`; at least 8 GiB, whatever the reserve.

    Source: spec 5, Qwen VLM VRAM budgeting.
    """
    return max(LEAST_BUDGET_GIB, min(total_gib - reserve_gib, int(total_gib * 0.9)))


@dataclass(frozen=True)
class GpuMemory:
    """The GPUs of a machine.

    Attributes:
        totals_gib: memory of each, in torch's order; empty where there is none.
        reserve_gib: what stays free on the model's own GPU.
    """

    totals_gib: tuple[float, ...]
    reserve_gib: float = RESERVE_GIB

    @classmethod
    def of_this_machine(cls, reserve_gib: float = RESERVE_GIB) -> GpuMemory:
        """What torch sees."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        totals = (torch.cuda.get_device_properties(index).total_memory / GIB for index in range(count))
        return cls(tuple(totals), reserve_gib)

    def split(self, device: torch.device, weights_bytes: int, limit_bytes: int) -> dict[int | str, int] | None:
        """The most bytes of weights by place, `cpu` or a GPU's index, as accelerate takes them.

        Args:
            device: where the model computes.
            weights_bytes: what there is to place.
            limit_bytes: what the device's residency allows at most, whatever the spec's budget.

        Returns:
            None where the weights fit on `device` as a whole, or where it is no GPU.
        """
        if device.type != "cuda":
            return None
        own = device.index or 0
        own_bytes = min(int(memory_budget_gib(self.totals_gib[own], self.reserve_gib) * GIB), max(0, limit_bytes))
        if weights_bytes <= own_bytes:
            return None
        most: dict[int | str, int] = {
            index: own_bytes if index == own else int(OTHER_GPU_GIB * GIB) for index in range(len(self.totals_gib))
        }
        most["cpu"] = int(HOST_GIB * GIB)
        return most


def place(network: Any, most_bytes: dict[int | str, int], device: torch.device) -> int:
    """Spread a network's weights; those on the host visit `device` block by block as it computes.

    Args:
        network: a transformers model in host memory.
        most_bytes: as from `GpuMemory.split`.
        device: where it computes.

    Returns:
        The bytes of weights that lie on `device`.
    """
    from accelerate import dispatch_model, infer_auto_device_map

    # Blocks with a residual connection stay in one place; accelerate takes their names as a list, and nothing else.
    blocks = sorted(network._no_split_modules)
    places = infer_auto_device_map(network, max_memory=most_bytes, no_split_module_classes=blocks)
    dispatch_model(network, places, main_device=device, force_hooks=True)
    weights = (*network.parameters(), *network.buffers())
    return sum(weight.numel() * weight.element_size() for weight in weights if weight.device == device)
