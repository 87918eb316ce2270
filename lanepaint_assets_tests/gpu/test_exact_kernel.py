"""FlashAttention 4 on a GPU that it is made for: the numbers of plain attention, compiled too."""

from __future__ import annotations

import pytest
import torch

from lanepaint_assets.editing.videopainter.exact_kernel import _FLASH_4_GENERATIONS, _flash_4, exact_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

GPU = torch.device("cuda:0")


@pytest.fixture(scope="module")
def tokens() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3001, 4, 64, device=GPU, dtype=torch.bfloat16) for _ in range(3)]


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    weights = torch.einsum("bqhc,bkhc->bhqk", query.float(), key.float()).div(8).softmax(dim=-1)
    return torch.einsum("bhqk,bkhc->bqhc", weights, value.float())


def test_where_the_package_is_installed_it_is_used() -> None:
    pytest.importorskip("flash_attn.cute", reason="flash-attn-4 is not installed: the extra 'flash'")
    if torch.cuda.get_device_capability(GPU)[0] not in _FLASH_4_GENERATIONS:
        pytest.skip("this GPU is older than Hopper")
    assert _flash_4(GPU, 64) is not None


def test_its_numbers_are_those_of_plain_attention(tokens: list[torch.Tensor]) -> None:
    with torch.no_grad():
        torch.testing.assert_close(exact_attention(*tokens).float(), plain(*tokens), rtol=0.02, atol=1e-3)


def test_inside_a_compiled_block_they_are_the_same(tokens: list[torch.Tensor]) -> None:
    def block(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return exact_attention(query * 0.5, key, value).flatten(2) + 1

    with torch.no_grad():
        compiled = torch.compile(block, fullgraph=True)
        torch.testing.assert_close(compiled(*tokens), block(*tokens))
