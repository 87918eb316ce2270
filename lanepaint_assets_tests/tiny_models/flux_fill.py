"""A FLUX.1 Fill of the real classes with random weights; saved, it is a checkpoint laid out like the released one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer

# More than the characters of `t5_tokenizer` and the bytes of `clip_tokenizer`.
_T5_VOCABULARY, _CLIP_VOCABULARY = 98, 514


def tiny_architecture() -> Any:
    """A `FluxArchitecture` of 0.2 million weights; a picture of 64 x 64 takes milliseconds a step."""
    from lanepaint_assets.torch_models.flux.architecture import FluxArchitecture
    from lanepaint_assets.torch_models.text_encoder import T5Architecture

    return FluxArchitecture(
        text=T5Architecture(_T5_VOCABULARY, width=32, layers=2, heads=4, head_width=8, feedforward=48),
        double_blocks=1,
        single_blocks=2,
        heads=2,
        head_width=16,
        rope_axes=(4, 6, 6),
        clip_vocabulary=_CLIP_VOCABULARY,
        clip_width=32,
        clip_layers=2,
        clip_heads=4,
        latent_channels=16,
        autoencoder_widths=(8, 8, 8, 8),
        autoencoder_layers=1,
        norm_groups=4,
    )


def save_tiny_flux(folder: Path, seed: int = 0, *, shards: bool = False) -> Path:
    """Save the model in diffusers' layout.

    Args:
        folder: to be made.
        seed: of all weights.
        shards: the transformer's weights are spread over several files with an index, as released.
    """
    import torch
    from diffusers import FluxFillPipeline

    architecture = tiny_architecture()
    torch.manual_seed(seed)
    kind: Any = FluxFillPipeline
    pipeline = kind(
        scheduler=architecture.scheduler(),
        vae=architecture.build_autoencoder(),
        text_encoder=architecture.build_clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=architecture.text.build(),
        tokenizer_2=t5_tokenizer(),
        transformer=architecture.build_transformer(),
    )
    pipeline.save_pretrained(folder, max_shard_size="200KB" if shards else "1GB")
    return folder


def save_tiny_lora(file: Path, seed: int = 0, alpha: int = 8, dropout: float = 0.0) -> Path:
    """Save a LoRA of the attention of all blocks, with weights large enough to be seen, as diffusers saves it."""
    import torch
    from diffusers import FluxFillPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    transformer: Any = tiny_architecture().build_transformer()
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=alpha, lora_dropout=dropout, target_modules=layers))
    for name, weight in transformer.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    kind: Any = FluxFillPipeline
    kind.save_lora_weights(
        file.parent,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        weight_name=file.name,
        **_collate_lora_metadata({"transformer": transformer}),
    )
    return file
