from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lanepaint_assets.store.items import ItemError, StepError
from lanepaint_assets.torch_models.devices import pick_device
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import CONTEXT_GIB, GIB, Part, Residency, default_budget_gib

CPU = torch.device("cpu")
# Weights of one part, in bytes: a linear layer of 8 x 8 without bias, float32.
SIZE = 8 * 8 * 4


def layer() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def room_for(parts: int) -> Residency:
    """A device that holds so many parts; on the CPU only the accounts are kept."""
    return Residency(CPU, (parts + 0.5) * SIZE / GIB)


def filled(residency: Residency, *names: str) -> list[Part[nn.Linear]]:
    parts = [residency.part(name, layer) for name in names]
    for part in parts:
        with residency.holding(part):
            pass
    return parts


def test_a_part_is_read_once_however_often_it_is_used() -> None:
    residency = room_for(1)
    a, b = filled(residency, "a", "b")
    for _ in range(3):
        with residency.holding(a):
            pass
        with residency.holding(b):
            pass
    assert (a.loads, b.loads) == (1, 1)


def test_nothing_is_read_before_it_is_used() -> None:
    assert room_for(1).part("a", layer).loads == 0


def test_the_same_name_is_the_same_part() -> None:
    residency = room_for(2)
    assert residency.part("t5", layer) is residency.part("t5", layer)


def test_the_least_recently_used_part_leaves_when_the_budget_is_used_up() -> None:
    residency = room_for(2)
    a, *_ = filled(residency, "a", "b")
    with residency.holding(a):
        pass
    filled(residency, "c")
    assert residency.resident == ("a", "c")


def test_parts_stay_where_the_budget_allows() -> None:
    residency = room_for(3)
    filled(residency, "a", "b", "c")
    assert residency.resident == ("a", "b", "c")


def test_working_memory_counts_against_the_budget() -> None:
    residency = room_for(3)
    filled(residency, "a", "b")
    with residency.holding(residency.part("c", layer), working_bytes=SIZE):
        assert residency.resident == ("b", "c")


def test_what_an_outer_phase_holds_does_not_leave_for_an_inner_one() -> None:
    residency = room_for(2)
    a, b, c = filled(residency, "a", "b", "c")
    with residency.holding(a), residency.holding(b):
        assert set(residency.resident) == {"a", "b"}
        with pytest.raises(StepError, match=r"a, b.*more than"), residency.holding(c):
            pass


def test_a_part_that_cannot_fit_is_refused_with_its_size_and_the_budget() -> None:
    residency = room_for(0)
    with pytest.raises(StepError, match=r"flux.*GiB, more than the .* raise the budget"):
        filled(residency, "flux")


GPU = torch.device("cuda:0")


def see_gpus(monkeypatch: pytest.MonkeyPatch, count: int, total_gib: float) -> None:
    """Have torch see so many GPUs of one size."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    size = SimpleNamespace(total_memory=int(total_gib * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: size)


@pytest.mark.parametrize("total_gib", [44.5, 79.2])
def test_models_stay_below_40_gib_of_a_single_gpu_of_up_to_80_gb(
    monkeypatch: pytest.MonkeyPatch, total_gib: float
) -> None:
    see_gpus(monkeypatch, 1, total_gib)
    assert default_budget_gib(GPU) == 40.0
    # CUDA's own memory is part of it.
    assert Residency(GPU).budget_bytes == int((40.0 - CONTEXT_GIB) * GIB)


@pytest.mark.parametrize(("count", "total_gib"), [(1, 139.7), (2, 79.2), (8, 139.7)])
def test_models_have_nearly_all_of_a_larger_gpu_or_of_each_of_several(
    monkeypatch: pytest.MonkeyPatch, count: int, total_gib: float
) -> None:
    see_gpus(monkeypatch, count, total_gib)
    assert 0.9 * total_gib < default_budget_gib(GPU) < total_gib - CONTEXT_GIB


def test_models_leave_some_of_a_small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    see_gpus(monkeypatch, 1, 23.6)
    assert 0.9 * 23.6 < default_budget_gib(GPU) < 23.6 - CONTEXT_GIB


@pytest.mark.parametrize(("count", "total_gib"), [(1, 79.2), (1, 139.7), (2, 79.2)])
def test_a_budget_that_is_given_stands_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, count: int, total_gib: float
) -> None:
    see_gpus(monkeypatch, count, total_gib)
    assert Residency(GPU, 24.0).budget_bytes == int((24.0 - CONTEXT_GIB) * GIB)


def test_a_failed_phase_gives_its_hold_back() -> None:
    residency = room_for(1)
    (a,) = filled(residency, "a")
    with pytest.raises(ZeroDivisionError), residency.holding(a):
        raise ZeroDivisionError
    filled(residency, "b")
    assert residency.resident == ("b",)


def test_a_forgotten_part_is_read_again() -> None:
    residency = room_for(2)
    (a,) = filled(residency, "a")
    residency.release(a, forget=True)
    assert residency.resident == ()
    with residency.holding(a):
        pass
    assert a.loads == 2


def test_one_phase_at_a_time_is_on_the_device() -> None:
    residency = room_for(2)
    a, b = filled(residency, "a", "b")
    inside: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with residency.holding(a):
            entered.set()
            go_on.wait(10)
            inside.append("a")

    def second() -> None:
        with residency.holding(b):
            inside.append("b")

    threads = [threading.Thread(target=work) for work in (first, second)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    threads[1].join(0.05)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert inside == ["a", "b"]


def running_out(times: int) -> tuple[Callable[[bool], str], list[bool]]:
    calls: list[bool] = []

    def attempt(tight: bool) -> str:
        calls.append(tight)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return "done"

    return attempt, calls


def test_out_of_memory_is_tried_again_once_in_tiles_with_everything_else_away() -> None:
    residency = room_for(2)
    filled(residency, "a", "b")
    attempt, calls = running_out(1)
    assert with_retry(attempt, residency, "the first frame of clip_1") == "done"
    assert calls == [False, True]
    assert residency.resident == ()


def test_out_of_memory_twice_fails_the_item_with_name_and_remedy() -> None:
    attempt, calls = running_out(2)
    with pytest.raises(ItemError, match=r"the first frame of clip_1 does not fit .* use a larger GPU"):
        with_retry(attempt, room_for(1), "the first frame of clip_1")
    assert calls == [False, True]


class HalfWay(Part[nn.Linear]):
    """Runs out of memory after some of its weights have come."""

    left = 0

    def enter(self, device: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def leave(self) -> None:
        self.left += 1


def test_a_part_that_ran_out_of_memory_half_way_leaves_before_the_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    residency = room_for(2)
    part = HalfWay("half", layer)
    freed: list[str] = []
    monkeypatch.setattr(residency, "_send_away", lambda gone: freed.append(gone.name))

    def attempt(tight: bool) -> None:
        with residency.holding(part):
            pass

    with pytest.raises(ItemError):
        with_retry(attempt, residency, "a picture")
    assert freed == ["half", "half"]


@pytest.mark.parametrize("name", ["cuda:7", "cuda"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_computed(name: str) -> None:
    if torch.cuda.device_count() > 7 or (name == "cuda" and torch.cuda.is_available()):
        pytest.skip("this machine has that device")
    with pytest.raises(StepError, match=f"there is no device '{name}' here"):
        pick_device(name)


def test_a_vacated_device_holds_nothing_and_parts_come_back_without_being_read_again() -> None:
    residency = room_for(2)
    a, b = filled(residency, "a", "b")
    residency.vacate()
    assert residency.resident == ()
    with residency.holding(a):
        assert residency.resident == ("a",)
    assert (a.loads, b.loads) == (1, 1)
