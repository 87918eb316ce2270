"""Message and processor in the form of the real package's helper."""

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download

PROCESSOR = "Qwen/Qwen3-VL-2B-Instruct"


def create_message(frames):
    assert isinstance(frames, torch.Tensor), type(frames)
    assert frames.dtype == torch.uint8, "float pictures would be scaled twice"
    assert frames.ndim == 4, frames.shape
    assert frames.shape[1] == 3, frames.shape
    return [{"role": "user", "content": [{"type": "image", "image": frame} for frame in frames]}]


def get_processor(tokenizer):
    assert json.loads(Path(hf_hub_download(PROCESSOR, "preprocessor_config.json")).read_text())
    return Processor()


class Processor:
    def apply_chat_template(self, message, **options):
        assert options == {
            "tokenize": True,
            "add_generation_prompt": False,
            "continue_final_message": True,
            "return_dict": True,
            "return_tensors": "pt",
        }
        images = [part["image"] for part in message[0]["content"] if part["type"] == "image"]
        texts = [part["text"] for part in message[0]["content"] if part["type"] == "text"]
        return {
            "input_ids": torch.arange(len(images) + len(texts))[None],
            "pixel_values": torch.stack(images),
            "texts": texts,
        }
