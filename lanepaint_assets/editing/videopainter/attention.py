"""Exact attention for CogVideoX blocks: by the fastest kernel, or through the dispatcher of diffusers' newer models.

Called by `branch.py`, which gives its blocks this processor. Nothing here approximates: results equal the stock
processor's within rounding. Approximations are settings of the engine; the choice of the kernel is `exact_kernel.py`'s.

`set_attention_backend` has no effect on a stock CogVideoX: its processor calls torch's attention itself, while that
method only reaches processors that carry `_attention_backend`. This one does.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from lanepaint_assets.editing.videopainter.exact_kernel import exact_attention

Rotary = tuple[Tensor, Tensor]


class CogVideoXAttention:
    """Joint attention of text and video tokens, as an attention processor of diffusers.

    Against the stock processor it keeps (batch, token, head, channel) order from the projections to the kernel, so that
    norms and rotary embedding run on contiguous memory, and turns all tokens in one expression instead of assigning
    into slices: the compiler makes one kernel of it. Text tokens turn by an angle of zero, which is exact.
    """

    # Read by the dispatcher; set by a model's `set_attention_backend` and `enable_parallelism`.
    _attention_backend: ClassVar[AttentionBackendName | None] = None
    _parallel_config: ClassVar[Any] = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,  # noqa: ARG002  # of diffusers' protocol
        image_rotary_emb: Rotary | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend over both kinds of tokens.

        Args:
            attn: holds the projections and the norms of queries and keys.
            hidden_states: (B, N, C) video tokens.
            encoder_hidden_states: (B, L, C) text tokens.
            attention_mask: not used: CogVideoX attends to every token.
            image_rotary_emb: cosines and sines, (N, head channels) each, of the video tokens.

        Returns:
            Video and text tokens, shaped as given.
        """
        text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            project(tokens).view(*tokens.shape[:2], attn.heads, -1) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        if image_rotary_emb is not None:
            angles = _with_text(image_rotary_emb, text)
            query, key = _turned(query, angles), _turned(key, angles)
        if self._attention_backend is None and self._parallel_config is None:
            mixed = exact_attention(query, key, value)
        else:
            mixed = dispatch_attention_fn(
                query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
            )
        # The output projection, then a dropout that inference skips.
        mixed = attn.to_out[1](attn.to_out[0](mixed.flatten(2)))
        return mixed[:, text:], mixed[:, :text]


def use_fast_attention(model: nn.Module) -> None:
    """Give every attention of a CogVideoX transformer, or of its branch, this module's processor."""
    for module in model.modules():
        if isinstance(module, Attention):
            # Diffusers lists its own processors as the argument's type; any callable of their form will do.
            module.set_processor(CogVideoXAttention())  # type: ignore[arg-type]


def _with_text(rotary: Rotary, text: int) -> Rotary:
    """Angles of text tokens, all zero, before those of the video tokens: (1, L + N, 1, head channels) each."""
    cosine, sine = rotary
    return (
        nn.functional.pad(cosine, (0, 0, text, 0), value=1.0)[None, :, None],
        nn.functional.pad(sine, (0, 0, text, 0), value=0.0)[None, :, None],
    )


def _turned(heads: Tensor, angles: Rotary) -> Tensor:
    """Rotate neighbouring channels (2k, 2k + 1) of (B, L + N, heads, channels) by their token's angle, in float32."""
    cosine, sine = angles
    even, odd = heads[..., 0::2], heads[..., 1::2]
    quarter_turn = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (heads.float() * cosine + quarter_turn.float() * sine).to(heads.dtype)
