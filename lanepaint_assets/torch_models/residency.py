"""Which models are in a device's memory: as many as its budget allows, the others wait in host memory.

Called by model engines around their work on a device. A model is read from disk once, at its first use; after that it
moves between host and device memory only. Nothing here knows what a model computes.

Weights do not change during inference, so the host keeps its copy: leaving the device costs nothing, coming back one
copy over the bus.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from lanepaint_assets.store.items import StepError

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

GIB = 1 << 30

# Spec 5: the models together stay below this on one GPU of 80 GB.
ONE_GPU_BUDGET_GIB = 40.0

# On a larger GPU, or where there are several, models stay resident; the rest is the CUDA context's and fragmentation's.
LARGE_GPU_GIB = 100.0
LARGE_GPU_SHARE = 0.92

# What CUDA and its libraries take of a GPU beside everything that torch hands out: 0.70 on an H200.
CONTEXT_GIB = 0.75

# What must come free when a model leaves: the allocator rounds, and a few small tensors may be shared.
FREED_SHARE = 0.95


class Part(Generic[M]):
    """A module that moves as a whole; made by `Residency.part`.

    Attributes:
        name: what it is and where its weights are from; messages name it.
        loads: how often it was read from disk.
    """

    def __init__(self, name: str, load: Callable[[], M]) -> None:
        self.name = name
        self.loads = 0
        self._load = load
        self._module: M | None = None
        # What is on a device, with the host's copy of its numbers.
        self._away: list[tuple[Tensor, Tensor]] = []
        self._loading = threading.Lock()

    @property
    def module(self) -> M:
        """The module; read into host memory at the first call."""
        with self._loading:
            if self._module is None:
                self._module = self._load().eval().requires_grad_(False)
                self.loads += 1
            return self._module

    @property
    def is_loaded(self) -> bool:
        """Whether host memory has the module."""
        return self._module is not None

    @property
    def bytes(self) -> int:
        """Size of its weights."""
        return sum(_bytes(tensor) for tensor in self._tensors())

    def bytes_on(self, device: torch.device) -> int:
        """Size of those of its weights that are on the device: all of them, unless it ran out of memory half way."""
        return sum(_bytes(tensor) for tensor in self._tensors() if tensor.device == device)

    def enter(self, device: torch.device) -> None:
        """Copy the weights to the device."""
        for tensor in self._tensors():
            if tensor.device != device:
                copy = tensor.data.to(device)
                self._away.append((tensor, tensor.data))
                tensor.data = copy

    def leave(self) -> None:
        """Point the weights to the host's copies again; adapters that were added on the device are copied there."""
        for tensor, numbers in self._away:
            tensor.data = numbers
        self._away.clear()
        for tensor in self._tensors():
            tensor.data = tensor.data.cpu()

    def forget(self) -> None:
        """Drop the module altogether; the next use reads it again."""
        self._module = None
        self._away.clear()

    def _tensors(self) -> Iterator[Tensor]:
        seen: set[int] = set()
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


class Residency:
    """The models of one device, and a lock: one phase of work at a time.

    Args:
        device: a GPU, or the CPU, where nothing has to move and only the accounts are kept.
        budget_gib: most memory that this process may take of the device: weights, working memory and CUDA's own. None
            for what `default_budget_gib` says of a GPU, and for no limit on the CPU. On a GPU torch refuses to pass it,
            so that work which needs more than it said runs out of memory there, and is tried again in tiles.
    """

    _all: ClassVar[dict[torch.device, Residency]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, device: torch.device, budget_gib: float | None = None) -> None:
        self.device = device
        self._budget_gib = budget_gib
        self._parts: dict[str, Part[Any]] = {}
        # On the device, the least recently used first.
        self._resident: OrderedDict[str, Part[Any]] = OrderedDict()
        self._held: list[str] = []
        self._busy = threading.RLock()
        self._is_enforced = False

    @classmethod
    def of(cls, device: torch.device, budget_gib: float | None = None) -> Residency:
        """The one of a device in this process: engines that share a GPU share its memory plan.

        Raises:
            StepError: two engines ask for different budgets of one device.
        """
        with cls._guard:
            residency = cls._all.setdefault(device, cls(device, budget_gib))
        if device.type != "cpu" and residency._budget_gib != budget_gib:
            raise StepError(
                f"two engines on {device} were given different memory budgets, {residency._budget_gib} and "
                f"{budget_gib} GiB; give them one"
            )
        return residency

    def load_all(self) -> None:
        """Read every part into host memory now; for parts whose making takes memory of the device, as drawing does."""
        for part in self._parts.values():
            _ = part.module

    @classmethod
    def forget_all(cls) -> None:
        """Drop every model of every device, as if the process were new; measurements begin so."""
        with cls._guard:
            everywhere = list(cls._all.values())
            cls._all.clear()
        for residency in everywhere:
            residency.vacate()
            residency.release(*residency._parts.values(), forget=True)

    @classmethod
    def loaded_parts(cls) -> list[Part[Any]]:
        """Every part, of any device, whose weights were read and not forgotten."""
        with cls._guard:
            return [part for residency in cls._all.values() for part in residency._parts.values() if part.is_loaded]

    @property
    def budget_bytes(self) -> int | None:
        """What the budget leaves to weights and working memory; None on the CPU, unless one was given."""
        if self.device.type == "cpu":
            return None if self._budget_gib is None else int(self._budget_gib * GIB)
        return int(((self._budget_gib or default_budget_gib(self.device)) - CONTEXT_GIB) * GIB)

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the parts on the device, the least recently used first."""
        return tuple(self._resident)

    def part(self, name: str, load: Callable[[], M]) -> Part[M]:
        """The part of that name, shared by all who ask for it.

        Args:
            name: role and origin of the weights, such as `t5 /checkpoints/flux/text_encoder_2`.
            load: reads the module into host memory.
        """
        with self._guard:
            return cast("Part[M]", self._parts.setdefault(name, Part(name, load)))

    @contextmanager
    def holding(self, *parts: Part[Any], working_bytes: int = 0) -> Iterator[None]:
        """Have the parts on the device; calls may be nested, and other threads wait.

        Args:
            parts: what the phase computes with.
            working_bytes: what it needs beside the weights; counts against the budget.

        Raises:
            StepError: the parts and their working memory are larger than the budget.
        """
        with self._busy:
            self._enforce_budget()
            self._make_room(parts, working_bytes)
            self._give_back_unused(parts, working_bytes)
            for part in parts:
                # Known as there before it enters: what runs out of memory half way is sent away like the rest.
                self._resident[part.name] = part
                self._resident.move_to_end(part.name)
                part.enter(self.device)
            self._held += [part.name for part in parts]
            try:
                yield
            finally:
                del self._held[len(self._held) - len(parts) :]

    def release(self, *parts: Part[Any], forget: bool = False) -> None:
        """Send parts away; with `forget` from host memory too, so that the next use reads them again."""
        with self._busy:
            for part in parts:
                if part.name in self._resident:
                    self._send_away(part)
                if forget:
                    part.forget()
            gc.collect()

    def release_all_but(self, *parts: Part[Any]) -> None:
        """Send everything away that is not needed now, and give unused memory back to the device."""
        with self._busy:
            keep = {part.name for part in parts} | set(self._held)
            for name, part in list(self._resident.items()):
                if name not in keep:
                    self._send_away(part)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def vacate(self) -> None:
        """Leave the device to others, all of it: parts stay in host memory, and the next work begins as the first."""
        with self._busy:
            self.release_all_but()
            if self._is_enforced:
                torch.cuda.set_per_process_memory_fraction(1.0, self.device)
                self._is_enforced = False

    def _enforce_budget(self) -> None:
        """Have torch keep to the budget; here, since it starts CUDA, which a process that will fork must not do."""
        budget = self.budget_bytes
        if self._is_enforced or budget is None or self.device.type != "cuda":
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(budget / total, 1.0), self.device)
        self._is_enforced = True

    def _make_room(self, parts: tuple[Part[Any], ...], working_bytes: int) -> None:
        budget = self.budget_bytes
        if budget is None:
            return
        keep = {part.name: part for part in (*parts, *(self._resident[name] for name in self._held))}
        needed = sum(part.bytes for part in keep.values()) + working_bytes
        if needed > budget:
            raise StepError(
                f"{', '.join(keep)} and their working memory take {needed / GIB:.1f} GiB, more than the "
                f"{budget / GIB:.1f} GiB that models may have on {self.device}; raise the budget or use a larger GPU"
            )
        others = self._bytes_of_others() + sum(part.bytes for name, part in self._resident.items() if name not in keep)
        for name, part in list(self._resident.items()):
            if needed + others <= budget:
                break
            if name not in keep:
                others -= part.bytes
                self._send_away(part)

    def _bytes_of_others(self) -> int:
        """What networks that are no parts have on the device, such as SAM 2 in one process with all steps."""
        if self.device.type != "cuda":
            return 0
        return max(_allocated(self.device) - sum(part.bytes_on(self.device) for part in self._resident.values()), 0)

    def _give_back_unused(self, parts: tuple[Part[Any], ...], working_bytes: int) -> None:
        """Return what torch's allocator keeps of parts and phases before, where the budget would be passed with it."""
        budget = self.budget_bytes
        if budget is None or self.device.type != "cuda":
            return
        entering = sum(part.bytes - part.bytes_on(self.device) for part in parts)
        if torch.cuda.memory_reserved(self.device) + entering + working_bytes > budget:
            torch.cuda.empty_cache()

    def _send_away(self, part: Part[Any]) -> None:
        del self._resident[part.name]
        if self.device.type == "cpu":
            return  # the host's memory is where it is already
        expected = part.bytes_on(self.device)
        before = _allocated(self.device)
        part.leave()
        freed = before - _allocated(self.device)
        if freed < FREED_SHARE * expected:
            raise StepError(
                f"{part.name} left {self.device}, but only {freed / GIB:.2f} of its {expected / GIB:.2f} GiB came "
                "free: something still holds its weights"
            )
        log.info("%s left %s: %.1f GiB", part.name, self.device, freed / GIB)


def default_budget_gib(device: torch.device) -> float:
    """What models may take of a GPU: 40 GiB (spec 5) of a single one of up to 80 GB, nearly all where there is more."""
    total_gib = torch.cuda.get_device_properties(device).total_memory / GIB
    if torch.cuda.device_count() > 1 or total_gib >= LARGE_GPU_GIB:
        return total_gib * LARGE_GPU_SHARE
    return min(ONE_GPU_BUDGET_GIB, total_gib * LARGE_GPU_SHARE)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device)
