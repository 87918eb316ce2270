"""The branch: equal to the original's numbers, released checkpoints unchanged, and a backbone that is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file

from lanepaint_assets.editing.videopainter.branch import (
    CONDITION,
    BranchBlock,
    BranchCondition,
    BranchedTransformer,
    VideoPainterBranch,
    with_branch_blocks,
)
from lanepaint_assets_tests.tiny_models.cogvideox import tiny_architecture
from lanepaint_assets_tests.tiny_models.videopainter_reference import Reference, branch_differences

TOLERANCE = 1e-5

Rotary = tuple[torch.Tensor, torch.Tensor]
Predict = Callable[[BranchedTransformer, BranchCondition | None], torch.Tensor]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.read("branch_level")


@pytest.fixture
def model(reference: Reference) -> BranchedTransformer:
    branch = reference.branch()
    return BranchedTransformer(with_branch_blocks(reference.transformer(), len(branch.branch_blocks)), branch)


@pytest.fixture(scope="module")
def condition(reference: Reference) -> BranchCondition:
    return BranchCondition(reference.tensors["masked"], reference.tensors["mask"])


@pytest.fixture(scope="module")
def predict(reference: Reference) -> Predict:
    numbers = reference.tensors

    def call(model: BranchedTransformer, condition: BranchCondition | None) -> torch.Tensor:
        with torch.no_grad(), model.cache_context("test"):
            (result,) = model(
                torch.cat([numbers["lat"], numbers["img"]], dim=2),
                numbers["text"],
                numbers["t"],
                (numbers["rope_cos"], numbers["rope_sin"]),
                None if condition is None else {CONDITION: condition},
            )
        return result

    return call


def test_residuals_and_predictions_equal_the_original_s(reference: Reference) -> None:
    differences = branch_differences(reference)
    assert len(differences) == 5
    assert max(differences.values()) <= TOLERANCE
    # The comparison can tell the cases apart.
    numbers = reference.tensors
    for one, other in (("out.plain", "out.nobranch"), ("out.mask_add", "out.nobranch"), ("out.plain", "out.mask_add")):
        assert float((numbers[one] - numbers[other]).abs().max()) > 100 * TOLERANCE


def test_a_branch_of_scale_zero_changes_nothing(
    model: BranchedTransformer, condition: BranchCondition, predict: Predict
) -> None:
    torch.testing.assert_close(predict(model, replace(condition, scale=0.0)), predict(model, None), rtol=0, atol=0)


def test_an_untrained_branch_changes_nothing(
    model: BranchedTransformer, condition: BranchCondition, predict: Predict
) -> None:
    fresh = VideoPainterBranch(**{k: v for k, v in model.branch.config.items() if not k.startswith("_")})
    with_fresh = BranchedTransformer(model.backbone, fresh.eval())
    torch.testing.assert_close(predict(with_fresh, condition), predict(model, None), rtol=0, atol=0)


def test_the_original_s_file_is_read_and_written_with_the_same_names_and_configuration(
    reference: Reference, tmp_path: Path
) -> None:
    branch, report = VideoPainterBranch.from_pretrained(
        reference.branch_folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    branch.save_pretrained(tmp_path)
    before, after = (
        load_file(folder / "diffusion_pytorch_model.safetensors") for folder in (reference.branch_folder, tmp_path)
    )
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    before_config, after_config = (
        json.loads((folder / "config.json").read_text()) for folder in (reference.branch_folder, tmp_path)
    )
    assert {k: v for k, v in after_config.items() if not k.startswith("_")} == {
        k: v for k, v in before_config.items() if not k.startswith("_")
    }


@pytest.mark.parametrize("option", ["wo_text", "id_pool_resample_learnable"])
def test_options_of_other_branches_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match="not supported"):
        VideoPainterBranch(num_attention_heads=2, attention_head_dim=16, **{option: True})


def test_a_backbone_keeps_its_weights_and_names(reference: Reference) -> None:
    stock = reference.transformer()
    before = {name: tensor.data_ptr() for name, tensor in stock.state_dict().items()}
    assert {name: tensor.data_ptr() for name, tensor in with_branch_blocks(stock, 2).state_dict().items()} == before


@pytest.mark.parametrize(
    ("layers", "residuals", "groups"),
    [(42, 2, [0] * 21 + [1] * 21), (5, 2, [0, 0, 0, 1, 1]), (4, 4, [0, 1, 2, 3]), (3, 1, [0, 0, 0])],
)
def test_consecutive_blocks_share_a_residual(layers: int, residuals: int, groups: list[int]) -> None:
    transformer = replace(tiny_architecture(), layers=layers).build_transformer()
    assert [block.group for block in with_branch_blocks(transformer, residuals).transformer_blocks] == groups


@given(
    mask=arrays.arrays(
        bool,
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)).map(
            lambda fhw: (fhw[0], 2 * fhw[1], 2 * fhw[2])
        ),
    )
)
def test_tokens_that_cover_any_painted_latent_are_left_alone(mask: object) -> None:
    branch = tiny_architecture().build_branch()
    painted = torch.from_numpy(mask)
    kept = branch.kept_tokens(painted[None, :, None].float())
    frames, height, width = painted.shape
    expected = [
        not bool(painted[f, y : y + 2, x : x + 2].any())
        for f in range(frames)
        for y in range(0, height, 2)
        for x in range(0, width, 2)
    ]
    assert kept.shape == (1, len(expected), 1)
    assert kept.flatten().tolist() == expected


def test_a_cached_step_counts_the_branch_once(
    model: BranchedTransformer, condition: BranchCondition, predict: Predict
) -> None:
    exact = predict(model, condition)
    # Larger than any change: from the second call on only the first block is computed.
    model.backbone.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    for _ in range(2):
        torch.testing.assert_close(predict(model, condition), exact, rtol=0, atol=TOLERANCE)
    computed = []
    for block in model.backbone.transformer_blocks[1:]:
        block.ff.register_forward_hook(lambda *_: computed.append(True))
    predict(model, condition)
    assert not computed
    # A new window starts afresh.
    model._reset_stateful_cache()
    torch.testing.assert_close(predict(model, condition), exact, rtol=0, atol=0)
    assert len(computed) == len(model.backbone.transformer_blocks) - 1


def test_blocks_compile_in_one_graph_each(
    model: BranchedTransformer, condition: BranchCondition, predict: Predict
) -> None:
    exact = predict(model, condition)
    # Without a code generator, which takes a minute here: this is about graphs.
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.backbone.compile_repeated_blocks(backend="eager", fullgraph=True, dynamic=False)
    model.branch.compile_repeated_blocks(backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(predict(model, condition), exact, rtol=0, atol=TOLERANCE)
    assert isinstance(model.backbone.transformer_blocks[0], BranchBlock)
    # One for all blocks of the backbone, one for the branch's: each costs seconds on a GPU.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()
