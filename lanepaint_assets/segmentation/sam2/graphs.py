"""CUDA graphs of network parts: one launch in place of hundreds of small ones.

Called by the engine for the parts that SAM 2 runs once a frame, whose kernels are too short to hide their launches. A
graph replays the same kernels on the same numbers; nothing is compiled, so that a short-lived pod waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

# A clip's first frames have memories of their own lengths, each met once a clip; a graph pays from the second clip on.
CALLS_BEFORE_CAPTURE = 2


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    outputs: Any


class GraphReplay:
    """A function of tensors that is captured once for every shape of its arguments, then replayed.

    It must not depend on anything but its arguments and on weights that stay where they are. Results are copies, which
    outlive the next call.

    Args:
        function: the forward pass of a module in evaluation mode, on a CUDA device.
        pool: memory that all graphs of a network share (`torch.cuda.graph_pool_handle`): they run one after the other.
    """

    def __init__(self, function: Callable[..., Any], pool: Any) -> None:
        self._function = function
        self._pool = pool
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, _Graph] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        key = (str(structure), tuple(_signature(leaf) for leaf in leaves))
        graph = self._graphs.get(key)
        if graph is None:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] <= CALLS_BEFORE_CAPTURE:
                return self._function(*args, **kwargs)
            graph = self._graphs[key] = self._captured(leaves, structure)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        for held, given in zip(graph.inputs, tensors, strict=True):
            held.copy_(given)
        graph.graph.replay()
        return pytree.tree_map(_copied, graph.outputs)

    def _captured(self, leaves: list[Any], structure: Any) -> _Graph:
        held = [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(held, structure)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        # Weights that autocast has cast and kept would be freed under the graph.
        with (
            torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False),
            torch.cuda.graph(graph, self._pool),
        ):
            outputs = self._function(*args, **kwargs)
        return _Graph(graph, [leaf for leaf in held if isinstance(leaf, torch.Tensor)], outputs)


def _signature(leaf: Any) -> Hashable:
    if isinstance(leaf, torch.Tensor):
        return (tuple(leaf.shape), leaf.dtype, leaf.device)
    return leaf  # type: ignore[no-any-return]  # numbers and flags choose the path through the function


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
