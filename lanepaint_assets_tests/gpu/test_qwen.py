"""Qwen2.5-VL on a GPU: the same answers wherever its weights lie, and nothing of a question left behind."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lanepaint_assets.lanes.qwen.model import WORKING_BYTES, QwenModel
from lanepaint_assets.lanes.qwen.placement import GpuMemory
from lanepaint_assets.lanes.qwen.random_weights import random_qwen
from lanepaint_assets.torch_models.residency import GIB, Residency
from lanepaint_assets_tests.tiny_models.qwen import qwen_processor, tiny_qwen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

GPU = torch.device("cuda:0")


def picture(seed: int, width: int = 160, height: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class SplitGpu(GpuMemory):
    """Takes half of the weights."""

    def split(self, device: torch.device, weights_bytes: int, limit_bytes: int) -> dict[int | str, int] | None:
        return {0: weights_bytes // 2, "cpu": GIB}


def tiny(gpus: GpuMemory | None = None) -> QwenModel:
    processor = qwen_processor()
    residency = Residency(GPU)
    part = residency.part("tiny", lambda: tiny_qwen(processor).to(torch.bfloat16))
    return QwenModel(lambda: processor, part, residency, gpus=gpus)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_the_same_question_gets_the_same_answer_whole_and_split(temperature: float) -> None:
    whole, split = tiny(), tiny(SplitGpu(()))
    answers = [whole.ask([picture(1)], "count?", 24, temperature) for _ in range(2)]
    answers.append(split.ask([picture(1)], "count?", 24, temperature))
    assert len(set(answers)) == 1
    whole.release()
    split.release()


def test_a_full_size_question_stays_within_its_working_memory_and_leaves_none_of_it() -> None:
    torch.cuda.empty_cache()
    start = torch.cuda.memory_allocated(GPU)
    model = random_qwen(qwen_processor(), GPU)
    pictures = [picture(seed, 1920, 1080) for seed in range(2)]
    # The first question draws the weights and starts the libraries.
    model.ask(pictures, "count?", 4, 0.1)
    weights = torch.cuda.memory_allocated(GPU) - start
    assert 15.4 * GIB < weights < 15.8 * GIB
    torch.cuda.reset_peak_memory_stats(GPU)
    model.ask(pictures, "x" * 4000, 64, 0.1)
    assert torch.cuda.memory_allocated(GPU) - start - weights < GIB // 64
    assert torch.cuda.max_memory_allocated(GPU) - start - weights < WORKING_BYTES
    model.release()
    gc.collect()
    assert torch.cuda.memory_allocated(GPU) - start < GIB // 64
