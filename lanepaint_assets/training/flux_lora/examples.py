"""Samples as the transformer reads them, each encoded once and kept in files: what a training step needs, and no more.

Called before a training; after that neither the autoencoder nor a text encoder is needed. Files rather than memory:
ten thousand samples of 768x512 are 4.5 GB, which the system's page cache holds as far as there is room.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxFillPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.torch_models.flux.parts import FluxParts
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import GIB, Residency
from lanepaint_assets.training.flux_lora.pictures import training_view
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, Split

# The autoencoder's widest layers: about 256 channels of bfloat16 in a few copies a pixel, an estimate from above.
_BYTES_A_PIXEL = 4096

# Captions held in memory; each is 4 MiB. A style's samples share one caption, or a few.
_CAPTIONS_HELD = 64

_INDEX = "examples.json"


@dataclass(frozen=True)
class Batch:
    """Examples as the transformer reads them: n pictures of t tokens, captions of w.

    Attributes:
        latents: (n, t, 64) of the picture.
        masked: (n, t, 64) of the picture with the masked pixels grey.
        mask: (n, t, 256), 1 where the network is to paint, a number a pixel.
        words: (n, w, d) T5's reading of the caption.
        summary: (n, c) CLIP's.
        rows, columns: of the token grid; t is their product.
    """

    latents: Tensor
    masked: Tensor
    mask: Tensor
    words: Tensor
    summary: Tensor
    rows: int
    columns: int

    def to(self, device: torch.device) -> Batch:
        """The same on a device; a GPU is not waited for."""
        return replace(
            self,
            latents=on_device(self.latents, device),
            masked=on_device(self.masked, device),
            mask=on_device(self.mask, device),
            words=on_device(self.words, device),
            summary=on_device(self.summary, device),
        )

    @property
    def painted_share(self) -> Tensor:
        """(n, t), the share of each token's pixels that is to be painted, 0..1."""
        return self.mask.float().mean(dim=-1)


@dataclass(frozen=True)
class Examples:
    """The encoded samples of a training, in a folder of this machine.

    Attributes:
        folder: a file an example and a file a caption.
        captions: index of the caption of every example, those to learn from first.
        training, held_out: how many there are of each.
        rows, columns: of the token grid.
    """

    folder: Path
    captions: tuple[int, ...]
    training: int
    held_out: int
    rows: int
    columns: int

    def batch(self, indices: Sequence[int]) -> Batch:
        """Examples by index, in host memory; those that were kept out follow those to learn from."""
        read = [load_file(self.folder / _example_file(index)) for index in indices]
        captions = [_caption(self.folder, self.captions[index]) for index in indices]
        latents = torch.cat([example["latents"] for example in read])
        bits = np.concatenate([example["mask_bits"].numpy() for example in read])
        return Batch(
            latents=latents,
            masked=torch.cat([example["masked"] for example in read]),
            mask=torch.from_numpy(np.unpackbits(bits, axis=-1)).to(latents.dtype),
            words=torch.cat([words for words, _ in captions]),
            summary=torch.cat([summary for _, summary in captions]),
            rows=self.rows,
            columns=self.columns,
        )

    def save(self) -> None:
        """Write the index beside the examples, for processes that share the work."""
        index = {
            "captions": self.captions,
            "training": self.training,
            "held_out": self.held_out,
            "rows": self.rows,
            "columns": self.columns,
        }
        (self.folder / _INDEX).write_text(json.dumps(index))

    @classmethod
    def open(cls, folder: Path) -> Examples:
        """The examples that were encoded to a folder."""
        index = json.loads((folder / _INDEX).read_text())
        return cls(folder, **{**index, "captions": tuple(index["captions"])})


def encode_examples(
    parts: FluxParts, residency: Residency, samples: Split, recipe: LoraRecipe, folder: Path
) -> Examples:
    """Encode all samples; afterwards the encoders may leave the device.

    Args:
        parts: the base model; its transformer is not used.
        samples: to learn from, and kept out.
        recipe: size of pictures, growth of masks, length of captions.
        folder: empty.

    Raises:
        StepError: a sample cannot be learnt from.
        ItemError: the device's memory does not suffice.
    """
    every = (*samples.training, *samples.held_out)
    pairs = list(dict.fromkeys((sample.prompt, sample.prompt_2) for sample in every))
    # 1. Text: all captions at once, so that the encoders need not come back.
    words = parts.words.encode([prompt_2 for _, prompt_2 in pairs], recipe.caption_tokens)
    for index, (tokens, summary) in enumerate(
        zip(words, _summaries(parts, residency, [prompt for prompt, _ in pairs]), strict=True)
    ):
        save_file({"words": tokens, "summary": summary}, folder / _caption_file(index))
    # 2. Pictures, one at a time: what a sample becomes must not depend on its neighbours.
    with_retry(
        lambda tight: _encode_pictures(parts, residency, every, recipe, folder, tight),
        residency,
        f"a training picture of {recipe.width}x{recipe.height}",
    )
    grain = 2 * _grain(parts.autoencoder.module)
    examples = Examples(
        folder=folder,
        captions=tuple(pairs.index((sample.prompt, sample.prompt_2)) for sample in every),
        training=len(samples.training),
        held_out=len(samples.held_out),
        rows=recipe.height // grain,
        columns=recipe.width // grain,
    )
    examples.save()
    return examples


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to a GPU from pinned memory, so that the host need not wait for steps before."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def pack(latents: Tensor) -> Tensor:
    """(n, c, h, w) to (n, h/2 * w/2, 4c): a token is a square of two latents a side, as the transformer reads them."""
    count, channels, height, width = latents.shape
    pipeline: Any = FluxFillPipeline
    packed: Tensor = pipeline._pack_latents(latents, count, channels, height, width)
    return packed


def pack_mask(mask: Tensor, grain: int) -> Tensor:
    """(n, H, W) to (n, tokens, 4 * grain**2): the pixels of a mask that each token stands for.

    Args:
        mask: any format; H and W are multiples of 2 * grain.
        grain: pixels a side that the autoencoder makes one latent of.
    """
    count, height, width = mask.shape
    squares = mask.view(count, height // grain, grain, width // grain, grain).permute(0, 2, 4, 1, 3)
    return pack(squares.reshape(count, grain * grain, height // grain, width // grain))


@torch.no_grad()
def _encode_pictures(
    parts: FluxParts,
    residency: Residency,
    samples: Sequence[LoraSample],
    recipe: LoraRecipe,
    folder: Path,
    tight: bool,
) -> None:
    edges = MaskEdges(dilation_px=recipe.dilation_px)
    working_bytes = GIB if tight else recipe.width * recipe.height * _BYTES_A_PIXEL
    with residency.holding(parts.autoencoder, working_bytes=working_bytes):
        autoencoder: Any = parts.autoencoder.module
        (autoencoder.enable_tiling if tight else autoencoder.disable_tiling)()
        grain = _grain(autoencoder)
        for index, sample in enumerate(samples):
            picture, mask = training_view(*sample.read(), recipe.width, recipe.height, edges, sample.key)
            pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1.0
            shown = torch.from_numpy(mask)[None]
            kept = pixels * ~shown[:, None]
            # No finer than the mode: the posterior of a released autoencoder is far narrower than the noise added.
            latents, masked = (
                pack(_encoded(autoencoder, image, residency.device)).cpu().contiguous() for image in (pixels, kept)
            )
            bits = np.packbits(pack_mask(shown.to(torch.uint8), grain).numpy(), axis=-1)
            save_file(
                {"latents": latents, "masked": masked, "mask_bits": torch.from_numpy(bits)},
                folder / _example_file(index),
            )


def _encoded(autoencoder: Any, pixels: Tensor, device: torch.device) -> Tensor:
    settings = autoencoder.config
    latents = autoencoder.encode(pixels.to(device, autoencoder.dtype)).latent_dist.mode()
    scaled: Tensor = (latents - settings.shift_factor) * settings.scaling_factor
    return scaled


def _grain(autoencoder: AutoencoderKL) -> int:
    settings: Any = autoencoder.config
    return int(2 ** (len(settings.block_out_channels) - 1))


def _summaries(parts: FluxParts, residency: Residency, captions: Sequence[str]) -> Iterator[Tensor]:
    """CLIP's summary (1, d) of each caption, in host memory; it reads the first 77 tokens, as in inference."""
    with residency.holding(parts.clip), torch.no_grad():
        for caption in captions:
            tokens = parts.clip_tokenizer(
                caption,
                padding="max_length",
                max_length=parts.clip.module.config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            )
            yield parts.clip.module(tokens.input_ids.to(residency.device)).pooler_output.cpu()


@lru_cache(maxsize=_CAPTIONS_HELD)
def _caption(folder: Path, index: int) -> tuple[Tensor, Tensor]:
    read = load_file(folder / _caption_file(index))
    return read["words"], read["summary"]


def _caption_file(index: int) -> str:
    return f"caption_{index:06d}.safetensors"


def _example_file(index: int) -> str:
    return f"example_{index:06d}.safetensors"
