"""Qwen2.5-VL-7B at full size with random weights: right for speed and memory, wrong for any picture.

Called by the benchmark, which has no checkpoint, and by tests of the architecture's numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from lanepaint_assets.lanes.qwen.model import PIXEL_BUDGET, QwenModel, plain_generation
from lanepaint_assets.torch_models.components import random_component
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.residency import Residency

# Both from config.json of Qwen/Qwen2.5-VL-7B-Instruct; what is not named there is the class's default.
TEXT_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "max_window_layers": 28,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION_7B: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}


def config_7b(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLConfig:
    """The released architecture, with the ids of special tokens that `processor` has."""
    ids = processor.tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config={
            **TEXT_7B,
            "bos_token_id": ids("<|endoftext|>"),
            "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
        },
        vision_config=VISION_7B,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )


def build_network(config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    """A network with the weights that its class draws, on torch's default device and in its default number format."""
    network = Qwen2_5_VLForConditionalGeneration(config)
    text: Any = config.text_config
    plain_generation(network, text.eos_token_id, text.pad_token_id)
    return network


def random_qwen(
    processor: Qwen2_5_VLProcessor,
    device: torch.device,
    *,
    seed: int = 0,
    memory_gib: float | None = None,
    pixel_budget: int = PIXEL_BUDGET,
) -> QwenModel:
    """The full-size model; its answers are noise as long as the question allows.

    Args:
        processor: any tokenizer with the released special tokens; a small one will do.
        device: where the weights are drawn and used.
        seed: of the weights.
        memory_gib, pixel_budget: see `QwenModel`.
    """
    residency = Residency.of(device, memory_gib)
    config = config_7b(processor)
    dtype = inference_dtype(device)
    part = residency.part(
        f"qwen of random weights {seed}", lambda: random_component(lambda: build_network(config), device, dtype, seed)
    )
    return QwenModel(lambda: processor, part, residency, pixel_budget=pixel_budget)
