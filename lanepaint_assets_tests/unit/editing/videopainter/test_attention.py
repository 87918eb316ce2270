"""Attention through the dispatcher: equal to diffusers' own processor, and reachable by `set_attention_backend`."""

from __future__ import annotations

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import Attention, CogVideoXAttnProcessor2_0

from lanepaint_assets.editing.videopainter.attention import CogVideoXAttention
from lanepaint_assets_tests.tiny_models.cogvideox import tiny_architecture

BATCH, TEXT, VIDEO, HEADS, WIDTH = 2, 5, 12, 3, 16


def attention(*, normed: bool = True) -> Attention:
    torch.manual_seed(1)
    layer = Attention(
        query_dim=HEADS * WIDTH,
        dim_head=WIDTH,
        heads=HEADS,
        qk_norm="layer_norm" if normed else None,
        eps=1e-6,
        bias=True,
        out_bias=True,
    )
    if normed:
        for norm in (layer.norm_q, layer.norm_k):
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
    return layer.eval()


def tokens(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(2)
    angles = torch.rand(VIDEO, WIDTH // 2).repeat_interleave(2, dim=1) * 6
    video, text = (torch.randn(BATCH, count, HEADS * WIDTH, dtype=dtype) for count in (VIDEO, TEXT))
    return video, text, (angles.cos(), angles.sin())


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_it_equals_the_stock_processor(rotary: bool, normed: bool) -> None:
    layer = attention(normed=normed)
    video, text, angles = tokens()
    with torch.no_grad():
        given = {"image_rotary_emb": angles if rotary else None}
        expected = CogVideoXAttnProcessor2_0()(layer, video, text, **given)
        result = CogVideoXAttention()(layer, video, text, **given)
    for found, wanted in zip(result, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_in_bfloat16_queries_and_keys_are_the_stock_processor_s_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    video, text, angles = tokens(torch.bfloat16)
    seen = []

    def watch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: object) -> torch.Tensor:
        seen.append((query, key, value))
        return real(query, key, value, **others)

    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    layer = attention().to(torch.bfloat16)
    with torch.no_grad():
        for processor in (CogVideoXAttnProcessor2_0(), CogVideoXAttention()):
            processor(layer, video, text, image_rotary_emb=angles)
    for stock, own in zip(*seen, strict=True):
        torch.testing.assert_close(own, stock, rtol=0, atol=0)


def test_the_backend_set_on_a_model_is_used_here_and_not_by_the_stock_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lanepaint_assets.editing.videopainter.branch import with_branch_blocks

    used = []
    real = attention_dispatch._AttentionBackendRegistry._backends[attention_dispatch.AttentionBackendName._NATIVE_MATH]

    def watch(*given: object, **named: object) -> torch.Tensor:
        used.append(True)
        return real(*given, **named)

    monkeypatch.setitem(
        attention_dispatch._AttentionBackendRegistry._backends,
        attention_dispatch.AttentionBackendName._NATIVE_MATH,
        watch,
    )
    transformer = tiny_architecture().build_transformer().eval()
    for prepare, expected in ((lambda model: model, 0), (lambda model: with_branch_blocks(model, 2), 3)):
        model = prepare(transformer)
        model.set_attention_backend("_native_math")
        with torch.no_grad():
            model(torch.zeros(1, 2, 32, 12, 10), torch.zeros(1, 32, 32), torch.tensor([5]))
        assert len(used) == expected
