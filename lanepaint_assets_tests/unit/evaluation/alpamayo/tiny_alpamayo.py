"""The real Alpamayo classes, small enough for a CPU: three repositories with random weights and a token a byte.

For machines where NVIDIA's package is installed; its own transformers (4.57) reads what is written here. Nothing of the
released weights, vocabulary or texts is in it.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import torch

from lanepaint_assets.evaluation.alpamayo.repositories import COMPANIONS, WEIGHTS
from lanepaint_assets.evaluation.alpamayo.worker import RELEASES, offline_hub

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for piece in message.content %}"
    "{% if piece.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ piece.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PICTURES = {
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 4096, "longest_edge": 65536},
}


def save_companions(folder: Path) -> None:
    """Tokenizer, configuration and processor of a tiny Qwen3-VL, under the names of the released ones."""
    for repository in COMPANIONS:
        place = folder / repository.folder_name
        place.mkdir(parents=True)
        for name, content in _files().items():
            (place / name).write_text(content)


def save_tiny_alpamayo(folder: Path, release: str, hub: Path, seed: int = 0) -> Path:
    """The release's own class with random weights, in the released layout; returns `folder`.

    Args:
        folder: gets the three repositories.
        release: a key of `RELEASES`.
        hub: a cache of the hub that shows the companions; the class reads them by name.
        seed: of the weights.
    """
    known = RELEASES[release]
    with offline_hub(hub):
        network_class = getattr(import_module(known.module), known.class_name)
        config = network_class.config_class(**_config(known.package), **known.load_options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network_class(config).float().save_pretrained(folder / WEIGHTS[release].folder_name)
    return folder


def _config(package: str) -> dict[str, object]:
    """Parts as the release composes them, with the smallest numbers that fit together."""
    return {
        "vlm_name_or_path": COMPANIONS[0].name,
        "vlm_backend": "qwenvl3",
        "model_dtype": "float32",
        "traj_vocab_size": 64,
        "tokens_per_history_traj": 48,
        "tokens_per_future_traj": 128,
        "hist_traj_tokenizer_cfg": {
            "_target_": f"{package}.models.delta_tokenizer.DeltaTrajectoryTokenizer",
            "num_bins": 64,
        },
        "action_space_cfg": {
            "_target_": f"{package}.action_space.UnicycleAccelCurvatureActionSpace",
        },
        "diffusion_cfg": {"_target_": f"{package}.diffusion.flow_matching.FlowMatching", "num_inference_steps": 2},
        "action_in_proj_cfg": {
            "_target_": f"{package}.models.action_in_proj.PerWaypointActionInProjV2",
            "hidden_size": 32,
            "num_enc_layers": 1,
        },
        "action_out_proj_cfg": {"_target_": "torch.nn.Linear"},
        "expert_cfg": {"hidden_size": 32, "intermediate_size": 48},
    }


def _files() -> dict[str, str]:
    vocabulary = {token: index for index, token in enumerate(_byte_alphabet())}
    added = {token: len(vocabulary) + index for index, token in enumerate(SPECIAL_TOKENS)}
    tokens = {
        str(index): {
            "content": token,
            "special": True,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        }
        for token, index in added.items()
    }
    tokenizer = {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3VLProcessor",
        "added_tokens_decoder": tokens,
        "additional_special_tokens": list(SPECIAL_TOKENS),
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 262144,
        "chat_template": CHAT_TEMPLATE,
    }
    text = {
        "model_type": "qwen3_vl_text",
        "vocab_size": len(vocabulary) + len(added),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    }
    vision = {
        "model_type": "qwen3_vl",
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "out_hidden_size": 32,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0, 1],
    }
    model = {
        "model_type": "qwen3_vl",
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": text,
        "vision_config": vision,
        "image_token_id": added["<|image_pad|>"],
        "video_token_id": added["<|video_pad|>"],
        "vision_start_token_id": added["<|vision_start|>"],
        "vision_end_token_id": added["<|vision_end|>"],
    }
    pictures = {**PICTURES, "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"}
    videos = {**PICTURES, "video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    return {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": json.dumps(tokenizer),
        "config.json": json.dumps(model),
        "preprocessor_config.json": json.dumps(pictures),
        "video_preprocessor_config.json": json.dumps(videos),
        "chat_template.json": json.dumps({"chat_template": CHAT_TEMPLATE}),
    }


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
