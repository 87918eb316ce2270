"""Networks drawn at random: in the format asked for from the start, and leaving nothing else changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lanepaint_assets.torch_models.components import random_component

CPU = torch.device("cpu")


def test_weights_are_drawn_in_their_format_and_by_their_seed() -> None:
    one, same, other = (random_component(lambda: nn.Linear(8, 8), CPU, torch.bfloat16, seed) for seed in (3, 3, 4))
    assert {weight.dtype for weight in one.parameters()} == {torch.bfloat16}
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)


def test_no_weight_exists_in_a_wider_format_on_the_way() -> None:
    formats = []

    def build() -> nn.Linear:
        built = nn.Linear(8, 8)
        formats.append(built.weight.dtype)
        return built

    random_component(build, CPU, torch.bfloat16)
    assert formats == [torch.bfloat16]


def test_drawing_leaves_format_and_random_numbers_of_others_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_component(lambda: nn.Linear(8, 8), CPU, torch.bfloat16, seed=9)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32


def test_a_network_that_cannot_be_built_leaves_the_format_as_it_was() -> None:
    def build() -> nn.Module:
        raise ValueError("no such size")

    with pytest.raises(ValueError, match="no such size"):
        random_component(build, CPU, torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32
