"""CogVideoX image-to-video and its branch by their numbers, and building them with random weights.

Called by the benchmark for the full size and by tests for a tiny one. Checkpoints bring their own configuration files:
the engine does not come here for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler

from lanepaint_assets.editing.videopainter.branch import VideoPainterBranch
from lanepaint_assets.torch_models.text_encoder import T5_XXL, T5Architecture


@dataclass(frozen=True)
class CogVideoXArchitecture:
    """What a CogVideoX image-to-video model with a VideoPainter branch consists of.

    Attributes:
        text: the T5 encoder; its width is that of the words that the transformer reads.
        text_tokens: length of a caption.
        layers: blocks of the transformer.
        branch_layers: blocks of the branch.
        heads, head_width: of the attention of both.
        time_width: of the embedded noise level.
        latent_channels: of the autoencoder; the transformer reads noise and the first frame side by side.
        latent_height, latent_width: of the one picture size that it was trained for; a latent is 8 x 8 pixels.
        frames: of a window.
        autoencoder_widths: channels of its stages; each but the last halves the picture.
        autoencoder_layers: residual blocks a stage.
        norm_groups: of its group norms.
    """

    text: T5Architecture
    text_tokens: int
    layers: int
    branch_layers: int
    heads: int
    head_width: int
    time_width: int
    latent_channels: int
    latent_height: int
    latent_width: int
    frames: int
    autoencoder_widths: tuple[int, int, int, int]
    autoencoder_layers: int
    norm_groups: int

    def build_transformer(self) -> CogVideoXTransformer3DModel:
        """The transformer with random weights, of stock classes."""
        transformer: CogVideoXTransformer3DModel = CogVideoXTransformer3DModel(
            **self._shared(), num_layers=self.layers, attention_bias=True
        )
        return transformer

    def build_branch(self) -> VideoPainterBranch:
        """The branch with random weights; it adds nothing yet, as before its training."""
        branch: VideoPainterBranch = VideoPainterBranch(**self._shared(), num_layers=self.branch_layers)
        return branch

    def build_autoencoder(self) -> AutoencoderKLCogVideoX:
        """The autoencoder with random weights."""
        stages = len(self.autoencoder_widths)
        autoencoder: AutoencoderKLCogVideoX = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * stages,
            up_block_types=("CogVideoXUpBlock3D",) * stages,
            block_out_channels=self.autoencoder_widths,
            layers_per_block=self.autoencoder_layers,
            latent_channels=self.latent_channels,
            norm_num_groups=self.norm_groups,
            sample_height=8 * self.latent_height,
            sample_width=8 * self.latent_width,
            scaling_factor=0.7,
            invert_scale_latents=True,
        )
        return autoencoder

    def scheduler(self) -> CogVideoXDPMScheduler:
        """The noise schedule, from pure noise on, as released."""
        scheduler: CogVideoXDPMScheduler = CogVideoXDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=1.0,
            timestep_spacing="trailing",
        )
        return scheduler

    def _shared(self) -> dict[str, Any]:
        """What transformer and branch have in common, by diffusers' names."""
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_width,
            "in_channels": 2 * self.latent_channels,
            "out_channels": self.latent_channels,
            "time_embed_dim": self.time_width,
            "text_embed_dim": self.text.width,
            "sample_width": self.latent_width,
            "sample_height": self.latent_height,
            "sample_frames": self.frames,
            "max_text_seq_length": self.text_tokens,
            "use_rotary_positional_embeddings": True,
            "use_learned_positional_embeddings": True,
        }


# THUDM/CogVideoX-5b-I2V, config.json of transformer and vae, 5.57 billion weights in the transformer; the branch of
# TencentARC/VideoPainter, 0.30 billion.
COGVIDEOX_5B = CogVideoXArchitecture(
    text=T5_XXL,
    text_tokens=226,
    layers=42,
    branch_layers=2,
    heads=48,
    head_width=64,
    time_width=512,
    latent_channels=16,
    latent_height=60,
    latent_width=90,
    frames=49,
    autoencoder_widths=(128, 256, 256, 512),
    autoencoder_layers=3,
    norm_groups=32,
)
