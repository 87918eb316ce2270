"""LoRA files on FLUX's transformer: checked, each loaded once, at most one of them in force.

Called by the engine before it paints. Nothing is fused: the transformer's own weights never change, so that a picture
without a LoRA is the same before and after. Training them is not done here.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch
from diffusers import FluxFillPipeline
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from safetensors import SafetensorError
from torch import Tensor, nn
from upath import UPath

from lanepaint_assets.checkpoints.files import file_digest
from lanepaint_assets.editing.engine import LoraWeights
from lanepaint_assets.store.items import ItemError

# A weight of such a file as diffusers saves it: the layer that it adapts, down (A) or up (B) the low rank.
_WEIGHT = re.compile(r"transformer\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


def use_lora(transformer: FluxTransformer2DModel, lora: LoraWeights | None) -> None:
    """Put one LoRA in force, or none.

    A file is known by its content: it is read at its first use and stays beside the transformer; a retrained one under
    the same name is another.

    Args:
        transformer: of FLUX.1 Fill.
        lora: None, or a scale of 0, is the transformer itself, to the last bit.

    Raises:
        ItemError: the file is not there, or is no LoRA of this transformer; the message names it.
    """
    model: Any = transformer
    adapters = getattr(model, "peft_config", {})
    if lora is None or lora.scale == 0.0:
        if adapters:
            model.disable_lora()
        return
    if not lora.path.is_file():
        raise ItemError(f"{lora.path}: there is no such LoRA; train it again, or take it out of the prompt")
    adapter = f"lora_{file_digest(UPath(lora.path))[:16]}"
    if adapter not in adapters:
        _load(model, adapter, lora)
    model.enable_lora()
    model.set_adapters([adapter], [lora.scale])
    # The library makes its layers ready for training, in which the dropout that a file names acts.
    model.eval().requires_grad_(False)


def _load(model: Any, adapter: str, lora: LoraWeights) -> None:
    pipeline: Any = FluxFillPipeline
    try:
        weights, alphas, metadata = pipeline.lora_state_dict(
            str(lora.path), return_alphas=True, return_lora_metadata=True, local_files_only=True, use_safetensors=True
        )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ItemError(f"{lora.path}: not a readable LoRA of FLUX ({reason})") from error
    # Before the transformer is touched: a file that fits in part would leave it changed.
    _check(weights, model, lora)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        pipeline.load_lora_into_transformer(weights, alphas, model, adapter_name=adapter, metadata=metadata)
    layers = dict(model.named_modules())
    for key, weight in weights.items():
        place = _WEIGHT.fullmatch(key)
        assert place is not None
        parameter = layers[f"{place['layer']}.lora_{place['side']}.{adapter}"].weight
        if parameter.dtype != model.dtype:
            # Adapters are given their layer's format, but those of 8-bit floats widen their own weights only.
            parameter.data = weight.to(parameter.device, model.dtype)


def _check(weights: dict[str, Tensor], model: nn.Module, lora: LoraWeights) -> None:
    if not weights:
        raise ItemError(f"{lora.path}: this LoRA holds no weights")
    layers = dict(model.named_modules())
    for key, weight in weights.items():
        place = _WEIGHT.fullmatch(key)
        layer = None if place is None else layers.get(place["layer"])
        # An adapter that is there already stands around the layer.
        linear = getattr(layer, "base_layer", layer)
        if place is None or not isinstance(linear, nn.Linear) or not _fits(place["side"], weight, linear):
            raise ItemError(
                f"{lora.path}: not a LoRA of FLUX.1 Fill's transformer: it has no place for {key} {list(weight.shape)}"
            )
        if not bool(torch.isfinite(weight).all()):
            raise ItemError(f"{lora.path}: {key} of this LoRA is NaN or infinite; train it again")


def _fits(side: str, weight: Tensor, linear: nn.Linear) -> bool:
    if weight.ndim != 2:
        return False
    return weight.shape[1] == linear.in_features if side == "A" else weight.shape[0] == linear.out_features
