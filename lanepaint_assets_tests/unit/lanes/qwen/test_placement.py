"""How much of a GPU the weights may take, and where they lie when that is too little."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.qwen.placement import GpuMemory, memory_budget_gib, place
from lanepaint_assets.torch_models.residency import GIB
from lanepaint_assets_tests.tiny_models.qwen import qwen_processor, tiny_qwen

WEIGHTS_7B = int(15.45 * GIB)
NO_LIMIT = 1000 * GIB


@pytest.mark.parametrize(
    ("total_gib", "reserve_gib", "budget_gib"),
    [(80, 12, 68), (141, 12, 126), (40, 12, 28), (24, 12, 12), (24, 4, 20), (24, 1, 21), (16, 12, 8), (6, 12, 8)],
)
def test_the_budget_is_the_specs(total_gib: float, reserve_gib: float, budget_gib: float) -> None:
    assert memory_budget_gib(total_gib, reserve_gib) == budget_gib


@given(st.floats(1, 300), st.floats(0, 64))
def test_the_budget_keeps_the_reserve_free_where_8_gib_are_left(total_gib: float, reserve_gib: float) -> None:
    budget = memory_budget_gib(total_gib, reserve_gib)
    assert budget >= 8
    assert budget == 8 or budget <= min(total_gib - reserve_gib, 0.9 * total_gib)
    assert budget <= memory_budget_gib(total_gib + 1, reserve_gib)


@pytest.mark.parametrize("total_gib", [31.7, 39.4, 79.2, 139.8])
def test_gpus_that_hold_the_weights_get_them_whole(total_gib: float) -> None:
    assert GpuMemory((total_gib,)).split(torch.device("cuda:0"), WEIGHTS_7B, NO_LIMIT) is None


def test_a_cpu_holds_them_whole() -> None:
    assert GpuMemory(()).split(torch.device("cpu"), WEIGHTS_7B, 0) is None


def test_a_small_gpu_takes_its_budget_and_the_host_the_rest() -> None:
    assert GpuMemory((24.0,)).split(torch.device("cuda"), WEIGHTS_7B, NO_LIMIT) == {0: 12 * GIB, "cpu": 192 * GIB}


def test_other_gpus_take_no_more_than_a_gibibyte() -> None:
    most = GpuMemory((80.0, 24.0, 80.0)).split(torch.device("cuda:1"), WEIGHTS_7B, NO_LIMIT)
    assert most == {0: GIB, 1: 12 * GIB, 2: GIB, "cpu": 192 * GIB}


def test_a_smaller_reserve_may_make_them_fit() -> None:
    assert GpuMemory((24.0,), reserve_gib=4.0).split(torch.device("cuda:0"), WEIGHTS_7B, NO_LIMIT) is None


def test_the_residency_of_the_device_may_allow_less() -> None:
    gpus = GpuMemory((80.0,))
    assert gpus.split(torch.device("cuda:0"), WEIGHTS_7B, 16 * GIB) is None
    assert gpus.split(torch.device("cuda:0"), WEIGHTS_7B, 6 * GIB) == {0: 6 * GIB, "cpu": 192 * GIB}
    assert gpus.split(torch.device("cuda:0"), WEIGHTS_7B, -GIB) == {0: 0, "cpu": 192 * GIB}


def test_weights_on_the_host_visit_the_device_and_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    # Without a GPU accelerate would keep everything in one place.
    def chosen(network: object, **options: object) -> dict[str, str]:
        asked.update(options)
        return {"model.visual": "cpu", "model.language_model": "cpu", "lm_head": "cpu"}

    monkeypatch.setattr("accelerate.infer_auto_device_map", chosen)
    processor = qwen_processor()
    whole, placed = tiny_qwen(processor), tiny_qwen(processor)
    on_device = place(placed, {"cpu": GIB}, torch.device("cpu"))
    assert asked == {
        "max_memory": {"cpu": GIB},
        "no_split_module_classes": ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"],
    }
    assert {weight.device.type for weight in placed.parameters()} == {"meta"}
    # What was not offloaded: tables of positions.
    assert on_device < 1000
    batch = processor.tokenizer("a road with lines", return_tensors="pt")
    with torch.inference_mode():
        np.testing.assert_array_equal(placed(**batch).logits.numpy(), whole(**batch).logits.numpy())
