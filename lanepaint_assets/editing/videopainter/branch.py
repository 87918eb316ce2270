"""The VideoPainter branch, and how it steers a CogVideoX transformer.

The branch is a small transformer beside the backbone. It sees the noisy video, the video with its painted pixels
blanked, and the mask; what it makes of them is added to the backbone's video tokens after each block. `pipeline.py`
drives both. Nothing here knows of windows, pixels or schedulers.

Both are companions of the installed diffusers' classes; released checkpoints load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.embeddings import CogVideoXPatchEmbed, TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNorm
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock, CogVideoXTransformer3DModel
from torch import Tensor, nn

from lanepaint_assets.editing.videopainter.attention import Rotary, use_fast_attention

# Keys of diffusers' `attention_kwargs`, the one argument that its loop and its transformer hand through untouched.
CONDITION = "videopainter_condition"
RESIDUALS = "videopainter_residuals"


@dataclass(frozen=True, eq=False)
class BranchCondition:
    """What the branch sees of one window; the same at every denoising step.

    Attributes:
        masked_latents: (1, F, C, h, w) or (B, ...) latents of the video with its painted pixels blanked.
        mask: (1, F, 1, h, w) or (B, ...), 1 where a latent covers pixels to paint.
        mask_add: True leaves the backbone's tokens alone where they cover any pixel to paint, so that the branch
            carries the surroundings only, as it was trained to.
        scale: of what the branch adds; 0 switches it off.
    """

    masked_latents: Tensor
    mask: Tensor
    mask_add: bool = True
    scale: float = 1.0


class VideoPainterBranch(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The branch with the parameter names and configuration of released checkpoints.

    Args:
        num_layers: blocks, and residuals; the released one has 2.
        wo_text, id_pool_resample_learnable: of the released configuration; only False is known here.

    The others are those of the backbone that it was trained beside.

    Raises:
        ValueError: an option that is not known here is on.
    """

    # What diffusers' `compile_repeated_blocks` compiles.
    _repeated_blocks = ["CogVideoXBlock"]  # noqa: RUF012

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_attention_heads: int = 48,
        attention_head_dim: int = 64,
        in_channels: int = 32,
        out_channels: int = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        num_layers: int = 2,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = True,
        use_learned_positional_embeddings: bool = True,
        wo_text: bool = False,
        id_pool_resample_learnable: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if wo_text or id_pool_resample_learnable:
            raise ValueError("branches without text tokens or with learnable resampling are not supported")
        width = num_attention_heads * attention_head_dim
        self.patch_embed = CogVideoXPatchEmbed(
            patch_size=patch_size,
            # Noisy and masked latents, and the mask. A text-to-video backbone has one set of latents, not two.
            in_channels=(2 * in_channels if in_channels == out_channels else in_channels) + 1,
            embed_dim=width,
            text_embed_dim=text_embed_dim,
            sample_width=sample_width,
            sample_height=sample_height,
            sample_frames=sample_frames,
            temporal_compression_ratio=temporal_compression_ratio,
            max_text_seq_length=max_text_seq_length,
            spatial_interpolation_scale=spatial_interpolation_scale,
            temporal_interpolation_scale=temporal_interpolation_scale,
            use_positional_embeddings=not use_rotary_positional_embeddings,
            use_learned_positional_embeddings=use_learned_positional_embeddings,
        )
        self.time_proj = Timesteps(width, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(width, time_embed_dim, timestep_activation_fn)
        self.transformer_blocks = nn.ModuleList(
            CogVideoXBlock(
                dim=width,
                num_attention_heads=num_attention_heads,
                attention_head_dim=attention_head_dim,
                time_embed_dim=time_embed_dim,
                dropout=dropout,
                activation_fn=activation_fn,
                attention_bias=attention_bias,
                norm_elementwise_affine=norm_elementwise_affine,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        self.branch_blocks = nn.ModuleList(_zero_linear(width, width) for _ in range(num_layers))
        # Of released checkpoints, for no use: without them their files would not load as they are.
        self.norm_final = nn.LayerNorm(width, norm_eps, norm_elementwise_affine)
        self.norm_out = AdaLayerNorm(
            embedding_dim=time_embed_dim,
            output_dim=2 * width,
            norm_elementwise_affine=norm_elementwise_affine,
            norm_eps=norm_eps,
            chunk_dim=1,
        )
        self.proj_out = nn.Linear(width, patch_size * patch_size * out_channels)
        self.branch_x_embedder = _zero_linear(in_channels, width)
        use_fast_attention(self)

    def forward(
        self, noisy: Tensor, text: Tensor, timestep: Tensor, condition: BranchCondition, image_rotary_emb: Rotary | None
    ) -> list[Tensor]:
        """What is added to the backbone's video tokens.

        Args:
            noisy: (B, F, C, h, w) latents of the current step.
            text: (B, L, D) prompt embeddings.
            timestep: (B,).
            condition: of the window; repeated over the batch.
            image_rotary_emb: see `attention.CogVideoXAttention`.

        Returns:
            For each block of the branch (B, N, C), N = F h w / 4: zero on tokens that `mask_add` leaves alone.
        """
        batch = noisy.shape[0]
        seen = (condition.masked_latents, condition.mask)
        latents = torch.cat([noisy, *(part.to(noisy).expand(batch, -1, -1, -1, -1) for part in seen)], dim=2)
        # The sinusoid is float32 whatever the weights are.
        emb = self.time_embedding(self.time_proj(timestep).to(noisy.dtype))
        tokens = self.patch_embed(text, latents)
        text, video = _dense(tokens[:, : text.shape[1]]), _dense(tokens[:, text.shape[1] :])
        kept = self.kept_tokens(condition.mask).to(noisy) if condition.mask_add else None
        residuals = []
        for block, project in zip(self.transformer_blocks, self.branch_blocks, strict=True):
            video, text = block(video, text, emb, image_rotary_emb)
            residual = project(video) * condition.scale
            residuals.append(residual if kept is None else residual * kept)
        return residuals

    def kept_tokens(self, mask: Tensor) -> Tensor:
        """(B, N, 1) bool, True for tokens that cover no pixel to paint, of a mask (B, F, 1, h, w)."""
        painted = nn.functional.max_pool2d(mask.float().flatten(0, 1), self.config["patch_size"])
        return painted.reshape(len(mask), -1, 1) == 0


class BranchBlock(CogVideoXBlock):
    """A CogVideoX block that adds the branch's residual after itself.

    Inside the block, because caches that skip whole blocks would otherwise count it again.

    Attributes:
        group: which of the branch's residuals is its own.
    """

    group: int = 0

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Rotary | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As the stock block; `attention_kwargs` may hold the branch's residuals under `RESIDUALS`."""
        others = dict(attention_kwargs or {})
        residuals: Sequence[Tensor] | None = others.pop(RESIDUALS, None)
        residual = None if residuals is None else residuals[self.group]
        return self._add(_dense(hidden_states), _dense(encoder_hidden_states), temb, image_rotary_emb, others, residual)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Called by `compile_repeated_blocks`: compiles all but the choice of the residual, which differs by block."""
        self._add = torch.compile(self._add, *args, **kwargs)  # type: ignore[method-assign]

    def _add(
        self,
        video: Tensor,
        text: Tensor,
        temb: Tensor,
        image_rotary_emb: Rotary | None,
        others: dict[str, Any],
        residual: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        video, text = super().forward(video, text, temb, image_rotary_emb, others)
        return (video if residual is None else video + residual), text


# Without this, diffusers' caches refuse a block class that is not its own. The registry has no public path (0.42).
TransformerBlockRegistry.register(
    BranchBlock, TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1)
)


class BackboneTransformer(CogVideoXTransformer3DModel):
    """The stock transformer with blocks that take residuals; made by `with_branch_blocks`."""

    # The stock class names none, so that its `compile_repeated_blocks` refuses.
    _repeated_blocks = ["BranchBlock"]  # noqa: RUF012


def with_branch_blocks(transformer: CogVideoXTransformer3DModel, residuals: int) -> BackboneTransformer:
    """Change a stock transformer, in place: its blocks take a branch's residuals, and attend through `attention.py`.

    No weight moves or changes its name.

    Args:
        transformer: on any device.
        residuals: how many the branch has; consecutive blocks share one, the last may serve fewer.
    """
    transformer.__class__ = BackboneTransformer
    blocks: Any = transformer.transformer_blocks
    for index, block in enumerate(blocks):
        block.__class__ = BranchBlock
        block.group = index // math.ceil(len(blocks) / residuals)
    use_fast_attention(transformer)
    return cast("BackboneTransformer", transformer)


class BranchedTransformer:
    """Backbone and branch as the one transformer that a diffusers pipeline calls.

    The window's condition comes with each call, in `attention_kwargs` under `CONDITION`; without one the backbone works
    alone.
    """

    def __init__(self, backbone: BackboneTransformer, branch: VideoPainterBranch) -> None:
        self.backbone = backbone
        self.branch = branch

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        image_rotary_emb: Rotary | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        ofs: Tensor | None = None,
        return_dict: bool = False,  # noqa: ARG002  # the loop asks for a tuple
    ) -> tuple[Tensor]:
        """Predict for latents (B, F, 2C, h, w), noisy ones and those of the first frame; one tensor (B, F, C, h, w)."""
        # Noise levels come from the host, where the sampler keeps them. A waiting copy would drain the GPU every step.
        timestep = timestep.to(hidden_states.device, non_blocking=True)
        passed = dict(attention_kwargs or {})
        condition: BranchCondition | None = passed.pop(CONDITION, None)
        if condition is not None:
            noisy = hidden_states[:, :, : condition.masked_latents.shape[2]]
            passed[RESIDUALS] = self.branch(noisy, encoder_hidden_states, timestep, condition, image_rotary_emb)
        result: tuple[Tensor] = self.backbone(
            hidden_states=hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            timestep=timestep,
            ofs=ofs,
            image_rotary_emb=image_rotary_emb,
            attention_kwargs=passed,
            return_dict=False,
        )
        return result

    @property
    def config(self) -> Any:
        """The backbone's."""
        return self.backbone.config

    @property
    def device(self) -> torch.device:
        """Where the backbone is now."""
        return self.backbone.device

    @property
    def dtype(self) -> torch.dtype:
        """What the backbone computes in."""
        return self.backbone.dtype

    def cache_context(self, name: str) -> AbstractContextManager[None]:
        """Names the pass for diffusers' caches."""
        return self.backbone.cache_context(name)

    def _reset_stateful_cache(self) -> None:
        """Called by pipelines at the end of a run: the next one starts without what a cache has kept."""
        self.backbone._reset_stateful_cache()


def _dense(tokens: Tensor) -> Tensor:
    """(B, N, C) with the strides of a tensor of its own.

    First blocks are given views into the tokens of text and video together. With one layout, one compiled form serves
    all blocks; `contiguous` alone leaves a batch of one the stride of the larger tensor.
    """
    return tokens.contiguous().view(-1, tokens.shape[-1]).view(tokens.shape)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer that adds nothing until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
