"""FLUX.1 Fill's networks by their numbers, and building them from the libraries' own classes with random weights.

Called by the benchmark for the full size and by tests for a tiny one. Checkpoints bring their own configuration files:
the engine does not come here for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel

from lanepaint_assets.torch_models.text_encoder import T5_XXL, T5Architecture

# A token of the transformer is a square of this many latents a side.
_PATCH = 2


@dataclass(frozen=True)
class FluxArchitecture:
    """What a FLUX.1 Fill model consists of.

    Attributes:
        text: the T5 encoder; its width is the width of the words that the transformer reads.
        double_blocks, single_blocks: transformer blocks with separate and with joint weights for words and picture.
        heads, head_width: of its attention.
        rope_axes: how many of a head's numbers encode time, row and column; their sum is `head_width`.
        clip_vocabulary, clip_width, clip_layers, clip_heads: of the CLIP text encoder; the transformer reads its
            summary of the caption.
        latent_channels: of the autoencoder.
        autoencoder_widths: channels of its stages; each but the last halves the picture.
        autoencoder_layers: residual blocks a stage.
        norm_groups: of its group norms.
    """

    text: T5Architecture
    double_blocks: int
    single_blocks: int
    heads: int
    head_width: int
    rope_axes: tuple[int, int, int]
    clip_vocabulary: int
    clip_width: int
    clip_layers: int
    clip_heads: int
    latent_channels: int
    autoencoder_widths: tuple[int, int, int, int]
    autoencoder_layers: int
    norm_groups: int

    def build_transformer(self) -> FluxTransformer2DModel:
        """The transformer with random weights; it reads noise, the masked picture and the mask side by side."""
        side = 2 ** (len(self.autoencoder_widths) - 1)
        picture = self.latent_channels * _PATCH**2
        transformer: FluxTransformer2DModel = FluxTransformer2DModel(
            in_channels=2 * picture + (side * _PATCH) ** 2,
            out_channels=picture,
            num_layers=self.double_blocks,
            num_single_layers=self.single_blocks,
            attention_head_dim=self.head_width,
            num_attention_heads=self.heads,
            joint_attention_dim=self.text.width,
            pooled_projection_dim=self.clip_width,
            guidance_embeds=True,
            axes_dims_rope=self.rope_axes,
        )
        return transformer

    def build_autoencoder(self) -> AutoencoderKL:
        """The autoencoder with random weights."""
        stages = len(self.autoencoder_widths)
        autoencoder: AutoencoderKL = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            block_out_channels=self.autoencoder_widths,
            layers_per_block=self.autoencoder_layers,
            latent_channels=self.latent_channels,
            norm_num_groups=self.norm_groups,
            sample_size=1024,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        return autoencoder

    def build_clip(self) -> CLIPTextModel:
        """The CLIP text encoder with random weights; its last two tokens mark start and end."""
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=self.clip_vocabulary,
                hidden_size=self.clip_width,
                intermediate_size=4 * self.clip_width,
                projection_dim=self.clip_width,
                num_hidden_layers=self.clip_layers,
                num_attention_heads=self.clip_heads,
                bos_token_id=self.clip_vocabulary - 2,
                eos_token_id=self.clip_vocabulary - 1,
                pad_token_id=self.clip_vocabulary - 1,
            )
        )

    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        """The noise schedule, shifted towards noise for larger pictures as released."""
        return FlowMatchEulerDiscreteScheduler(  # type: ignore[no-untyped-call]
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        )


# black-forest-labs/FLUX.1-Fill-dev, config.json of transformer, vae and text_encoder (openai/clip-vit-large-patch14);
# 11.9 billion weights in the transformer.
FLUX_FILL = FluxArchitecture(
    text=T5_XXL,
    double_blocks=19,
    single_blocks=38,
    heads=24,
    head_width=128,
    rope_axes=(16, 56, 56),
    clip_vocabulary=49408,
    clip_width=768,
    clip_layers=12,
    clip_heads=12,
    latent_channels=16,
    autoencoder_widths=(128, 256, 512, 512),
    autoencoder_layers=2,
    norm_groups=32,
)
