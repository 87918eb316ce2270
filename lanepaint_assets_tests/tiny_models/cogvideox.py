"""A CogVideoX with a VideoPainter branch of the real classes, with random weights; saved, they are checkpoints laid out
like the released ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanepaint_assets_tests.tiny_models.tokenizers import t5_tokenizer

# More than the characters of `t5_tokenizer`.
_T5_VOCABULARY = 98


def tiny_architecture() -> Any:
    """A `CogVideoXArchitecture` of 0.3 million weights, for 80 x 96 pixels, 17 frames and 32 tokens.

    Half of the latents' sides divide by the overlaps of diffusers' tiles, 1/6 and 1/5, as at full size.
    """
    from lanepaint_assets.editing.videopainter.architecture import CogVideoXArchitecture
    from lanepaint_assets.torch_models.text_encoder import T5Architecture

    return CogVideoXArchitecture(
        text=T5Architecture(_T5_VOCABULARY, width=32, layers=2, heads=4, head_width=8, feedforward=48),
        text_tokens=32,
        layers=3,
        branch_layers=2,
        heads=2,
        head_width=16,
        time_width=8,
        latent_channels=16,
        latent_height=12,
        latent_width=10,
        frames=17,
        autoencoder_widths=(4, 4, 4, 4),
        autoencoder_layers=1,
        norm_groups=2,
    )


def save_tiny_cogvideox(folder: Path, seed: int = 0, *, shards: bool = False) -> Path:
    """Save model and text encoder in diffusers' layout.

    Args:
        folder: to be made.
        seed: of all weights.
        shards: the transformer's weights are spread over several files with an index, as released.
    """
    import torch
    from diffusers import CogVideoXImageToVideoPipeline

    architecture = tiny_architecture()
    torch.manual_seed(seed)
    kind: Any = CogVideoXImageToVideoPipeline
    pipeline = kind(
        tokenizer=t5_tokenizer(architecture.text_tokens),
        text_encoder=architecture.text.build(),
        vae=architecture.build_autoencoder(),
        transformer=architecture.build_transformer(),
        scheduler=architecture.scheduler(),
    )
    pipeline.save_pretrained(folder, max_shard_size="200KB" if shards else "1GB")
    return folder


def save_tiny_branch(folder: Path, seed: int = 0) -> Path:
    """Save a branch whose last layers are no longer zero, as after training."""
    import torch

    torch.manual_seed(seed)
    branch = tiny_architecture().build_branch()
    for layer in branch.branch_blocks:
        torch.nn.init.normal_(layer.weight, std=0.1)
    branch.save_pretrained(folder)
    return folder
