"""Models take turns in a GPU's memory: they compute the same afterwards, and what they leave comes free."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from lanepaint_assets.store.items import StepError
from lanepaint_assets.torch_models.devices import pick_device
from lanepaint_assets.torch_models.residency import CONTEXT_GIB, GIB, Residency

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

# Large beside what the matrix library keeps for itself.
WIDTH = 16_384
SIZE_GIB = WIDTH * WIDTH * 4 / GIB


@pytest.fixture(autouse=True)
def whole_gpu() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


def room_for_one_and_a_half() -> Residency:
    others_gib = torch.cuda.memory_reserved() / GIB
    return Residency(torch.device("cuda:0"), CONTEXT_GIB + others_gib + 1.5 * SIZE_GIB)


def layer() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH, bias=False)


def test_models_take_turns_and_compute_the_same_after_it() -> None:
    device = torch.device("cuda:0")
    x = torch.ones(1, WIDTH, device=device)
    # The matrix library takes its workspace once.
    layer().to(device)(x)
    gc.collect()
    torch.cuda.empty_cache()
    residency = room_for_one_and_a_half()
    a, b = residency.part("a", layer), residency.part("b", layer)
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


def test_segments_of_the_allocator_grow() -> None:
    held = torch.empty(WIDTH, WIDTH, device=pick_device("cuda"))
    assert held.device.type == "cuda"
    assert any(segment["is_expandable"] for segment in torch.cuda.memory_snapshot())


def test_weights_that_something_still_holds_are_noticed() -> None:
    residency = room_for_one_and_a_half()
    a = residency.part("a", layer)
    with residency.holding(a):
        held = a.module.weight.data
    with pytest.raises(StepError, match="something still holds its weights"):
        residency.release(a)
    assert held.device.type == "cuda"


def test_work_that_takes_more_than_it_said_runs_out_of_memory_at_the_budget() -> None:
    residency = room_for_one_and_a_half()
    a = residency.part("a", layer)
    with residency.holding(a), pytest.raises(torch.OutOfMemoryError):
        torch.empty(WIDTH, WIDTH, device=residency.device)
    residency.release(a)


def test_what_an_earlier_phase_left_in_the_allocator_makes_room_for_the_work_of_the_next() -> None:
    residency = room_for_one_and_a_half()
    a = residency.part("a", layer)
    half = WIDTH // 2
    with residency.holding(a):
        pieces = [torch.empty(half // 4, half, device=residency.device) for _ in range(4)]
        pieces.clear()
    before = torch.cuda.memory_reserved()
    with residency.holding(a, working_bytes=int(0.4 * SIZE_GIB * GIB)):
        assert torch.cuda.memory_reserved() < before
        torch.empty(int(0.4 * SIZE_GIB * GIB), dtype=torch.uint8, device=residency.device)
    residency.release(a)


def test_who_comes_after_the_models_has_the_whole_device() -> None:
    residency = room_for_one_and_a_half()
    a = residency.part("a", layer)
    with residency.holding(a):
        expected = a.module.weight.data.sum().item()
    residency.vacate()
    assert a.module.weight.device.type == "cpu"
    assert torch.cuda.memory_reserved() < SIZE_GIB * GIB
    others = torch.empty(2 * WIDTH, WIDTH, device=residency.device)
    del others
    torch.cuda.empty_cache()
    with residency.holding(a), pytest.raises(torch.OutOfMemoryError):
        torch.empty(WIDTH, WIDTH, device=residency.device)
    with residency.holding(a):
        assert a.module.weight.data.sum().item() == expected
    residency.release(a)


def test_a_network_that_is_no_part_sends_parts_away_that_no_longer_fit_beside_it() -> None:
    residency = Residency(torch.device("cuda:0"), CONTEXT_GIB + 2.5 * SIZE_GIB)
    a, b = (residency.part(name, layer) for name in ("a", "b"))
    with residency.holding(a):
        pass
    other = torch.empty(WIDTH, WIDTH, device=residency.device)
    with residency.holding(b):
        assert residency.resident == ("b",)
    del other
    residency.release(a, b)
