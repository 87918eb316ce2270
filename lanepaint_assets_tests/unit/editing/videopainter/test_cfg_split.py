"""Guidance in two halves: the result of the stacked batch, on two devices or in turn."""

from __future__ import annotations

import copy
import threading
import time

import pytest
import torch
from diffusers import FirstBlockCacheConfig

from lanepaint_assets.editing.videopainter.branch import (
    CONDITION,
    BranchCondition,
    BranchedTransformer,
    with_branch_blocks,
)
from lanepaint_assets.editing.videopainter.cfg_split import SplitGuidance
from lanepaint_assets_tests.tiny_models.cogvideox import tiny_architecture


def random_model() -> BranchedTransformer:
    torch.manual_seed(3)
    architecture = tiny_architecture()
    branch = architecture.build_branch().eval()
    for layer in branch.branch_blocks:
        torch.nn.init.normal_(layer.weight, std=0.1)
    return BranchedTransformer(with_branch_blocks(architecture.build_transformer().eval(), 2), branch)


@pytest.fixture(scope="module")
def model() -> BranchedTransformer:
    return random_model()


def call(model: BranchedTransformer | SplitGuidance, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(4)
    latents, text = torch.randn(batch, 4, 32, 12, 10), torch.randn(batch, 32, 32)
    mask = (torch.rand(1, 4, 1, 12, 10) > 0.8).float()
    angles = torch.rand(4 * 6 * 5, 16)
    condition = BranchCondition(torch.randn(1, 4, 16, 12, 10), mask)
    with torch.no_grad(), model.cache_context("cond_uncond"):
        (result,) = model(
            hidden_states=latents,
            encoder_hidden_states=text,
            timestep=torch.full((batch,), 700),
            ofs=None,
            image_rotary_emb=(angles.cos(), angles.sin()),
            attention_kwargs={CONDITION: condition},
            return_dict=False,
        )
    return result


def test_two_devices_give_the_result_of_the_stacked_batch(model: BranchedTransformer) -> None:
    replica = copy.deepcopy(model)
    threads = []
    replica.backbone.register_forward_hook(lambda *_: threads.append(threading.get_ident()))
    split = SplitGuidance(model, replica)
    torch.testing.assert_close(call(split), call(model), rtol=0, atol=1e-6)
    # Beside each other: the second half does not wait for the first.
    assert threads
    assert threads[0] != threading.get_ident()
    assert not call(split).requires_grad


def test_the_halves_in_turn_give_the_result_of_the_stacked_batch(model: BranchedTransformer) -> None:
    batches = []
    hook = model.backbone.register_forward_hook(lambda _module, _given, result: batches.append(len(result[0])))
    result = call(SplitGuidance(model))
    hook.remove()
    assert batches == [1, 1]
    torch.testing.assert_close(result, call(model), rtol=0, atol=1e-6)


def test_compiled_halves_run_one_graph_of_each_kind_of_block() -> None:
    model = random_model()
    exact = call(model)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for part in (model.backbone, model.branch):
        # Without a code generator, which takes half a minute here: this is about graphs.
        part.compile_repeated_blocks(backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(call(SplitGuidance(model)), exact, rtol=0, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()


def test_the_halves_in_turn_do_not_share_what_a_cache_keeps() -> None:
    model = random_model()
    exact = call(model)
    model.backbone.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    split = SplitGuidance(model)
    for _ in range(2):
        torch.testing.assert_close(call(split), exact, rtol=0, atol=1e-5)
    split._reset_stateful_cache()


def test_a_failing_half_waits_for_the_other(model: BranchedTransformer) -> None:
    broken, slow = copy.deepcopy(model), copy.deepcopy(model)
    broken.backbone.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    finished = []
    slow.backbone.register_forward_hook(lambda *_: time.sleep(0.2) or finished.append(True))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        call(SplitGuidance(broken, slow))
    assert finished


def test_what_a_half_raises_is_raised(model: BranchedTransformer) -> None:
    broken = copy.deepcopy(model)
    broken.backbone.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        call(SplitGuidance(model, broken))


def test_another_batch_is_refused(model: BranchedTransformer) -> None:
    with pytest.raises(ValueError, match="two halves, this batch has 1"):
        call(SplitGuidance(model), batch=1)
