"""The LoRA on the transformer: where its layers are, and its file in diffusers' format.

Called by the trainer. The transformer's own weights are never changed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from lanepaint_assets.checkpoints.files import CheckpointError

# Projections of the attention (of words: add_*) and of the feed-forward networks of both kinds of blocks' attention and
# of the blocks with separate weights: what public trainers of this model adapt.
TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)

ADAPTER = "default"


def attach_lora(transformer: FluxTransformer2DModel, rank: int, alpha: int, seed: int) -> list[nn.Parameter]:
    """Add a LoRA that changes nothing yet.

    Args:
        transformer: of FLUX.1 Fill.
        rank, alpha: of its layers.
        seed: of the weights before the low rank; those behind it are zero.

    Returns:
        Its weights, in the transformer's order and format.

    Raises:
        CheckpointError: the transformer is of another model than FLUX.1 Fill.
    """
    check_base(transformer)
    model: Any = transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights=False, target_modules=list(TARGETS)), ADAPTER
        )
        weights = []
        for name, weight in transformer.named_parameters():
            weight.requires_grad_(f".{ADAPTER}.weight" in name and "lora_" in name)
            if weight.requires_grad:
                # Drawn on the host, so that every device starts alike; the spread is the one of peft's "gaussian".
                start = torch.randn(weight.shape) / rank if "lora_A" in name else torch.zeros(weight.shape)
                weight.data = start.to(weight.device, transformer.dtype)
                weights.append(weight)
    return weights


def check_base(transformer: FluxTransformer2DModel) -> None:
    """Refuse a transformer that does not read noise, a masked picture and its mask side by side.

    Raises:
        CheckpointError: it is of another model than FLUX.1 Fill.
    """
    settings: Any = transformer.config
    picture = settings.out_channels or settings.in_channels
    if settings.in_channels <= 2 * picture:
        raise CheckpointError(
            f"the base model reads {settings.in_channels} numbers a token and writes {picture}: it takes no mask, so "
            "it is not FLUX.1 Fill; put that into the checkpoint's folder"
        )


def save_lora(transformer: FluxTransformer2DModel, file: Path) -> None:
    """Write the LoRA in diffusers' format, with its alpha, which loaders would otherwise take to be its rank.

    The metadata key is what `diffusers.training_utils` gives it; that helper is private.
    """
    model: Any = transformer
    pipeline: Any = FluxFillPipeline
    pipeline.save_lora_weights(
        file.parent,
        transformer_lora_layers=get_peft_model_state_dict(model, adapter_name=ADAPTER),
        weight_name=file.name,
        transformer_lora_adapter_metadata=model.peft_config[ADAPTER].to_dict(),
    )
