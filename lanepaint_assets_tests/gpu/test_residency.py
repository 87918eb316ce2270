"""Models take turns in a GPU's memory: they compute the same afterwards, and what they leave comes free."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from lanepaint_assets.store.items import StepError
from lanepaint_assets.torch_models.residency import GIB, Residency

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

# Large enough that the allocator gives each weight blocks of its own.
WIDTH = 4096
SIZE_GIB = WIDTH * WIDTH * 4 / GIB


def layer() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH, bias=False)


def test_models_take_turns_and_compute_the_same_after_it() -> None:
    device = torch.device("cuda:0")
    residency = Residency(device, 1.5 * SIZE_GIB)
    a, b = residency.part("a", layer), residency.part("b", layer)
    x = torch.ones(1, WIDTH, device=device)
    # The matrix library takes its workspace once; other tests may have left something too.
    layer().to(device)(x)
    gc.collect()
    torch.cuda.empty_cache()
    start, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    answers = []
    for _ in range(2):
        with residency.holding(a):
            answers.append(a.module(x).cpu())
        with residency.holding(b):
            assert a.module.weight.device.type == "cpu"
            assert torch.cuda.memory_allocated(device) - start < 1.5 * SIZE_GIB * GIB
            # Weights that left are not kept by the allocator either.
            assert torch.cuda.memory_reserved(device) - reserved < 1.5 * SIZE_GIB * GIB
    assert torch.equal(answers[0], answers[1])
    residency.release(a, b)


def test_weights_that_something_still_holds_are_noticed() -> None:
    residency = Residency(torch.device("cuda:0"), 1.5 * SIZE_GIB)
    a = residency.part("a", layer)
    with residency.holding(a):
        held = a.module.weight.data
    with pytest.raises(StepError, match="something still holds its weights"):
        residency.release(a)
    assert held.device.type == "cuda"
