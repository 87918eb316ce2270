"""FLUX.1 Fill's networks, each read at its first use: from a checkpoint, or drawn at random.

Called by `engine.py`, which decides when each of them is on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from lanepaint_assets.checkpoints.files import CheckpointError, folder_mark
from lanepaint_assets.torch_models.acceleration import Acceleration
from lanepaint_assets.torch_models.components import random_component, read_component, read_tokenizer
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.flux.architecture import FluxArchitecture
from lanepaint_assets.torch_models.residency import Part, Residency
from lanepaint_assets.torch_models.text_encoder import TextEncoder

# Forms in which CLIP's vocabulary may lie in its folder.
_CLIP_VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))


@dataclass(frozen=True)
class FluxParts:
    """What a FLUX.1 Fill model consists of, each part read at its first use."""

    words: TextEncoder
    clip: Part[CLIPTextModel]
    clip_tokenizer: CLIPTokenizer
    transformer: Part[FluxTransformer2DModel]
    autoencoder: Part[AutoencoderKL]
    scheduler: FlowMatchEulerDiscreteScheduler


def checkpoint_parts(folder: Path, residency: Residency, acceleration: Acceleration) -> FluxParts:
    """The parts of a checkpoint on this machine's disk.

    Args:
        folder: FLUX.1 Fill in diffusers' layout.
        residency: of the device.
        acceleration: of the transformer.

    Raises:
        CheckpointError: a tokenizer or the scheduler is not readable. Weights are read later.
    """
    dtype = inference_dtype(residency.device)
    origin = f"{folder} {folder_mark(folder)}"
    try:
        schedules: Any = FlowMatchEulerDiscreteScheduler
        scheduler = schedules.from_pretrained(folder / "scheduler", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: its scheduler is not readable ({error}); copy it again") from error
    return FluxParts(
        words=TextEncoder.of(folder / "text_encoder_2", folder / "tokenizer_2", residency),
        clip=residency.part(f"clip {origin}", lambda: read_component(CLIPTextModel, folder / "text_encoder", dtype)),
        clip_tokenizer=read_tokenizer(CLIPTokenizer, folder / "tokenizer", _CLIP_VOCABULARIES),
        transformer=residency.part(
            f"flux transformer {origin} {acceleration}",
            lambda: acceleration.applied(
                read_component(FluxTransformer2DModel, folder / "transformer", dtype), dtype, one_shape=False
            ),
        ),
        autoencoder=residency.part(
            f"flux autoencoder {origin}", lambda: read_component(AutoencoderKL, folder / "vae", dtype)
        ),
        scheduler=scheduler,
    )


def random_parts(
    architecture: FluxArchitecture,
    clip_tokenizer: CLIPTokenizer,
    t5_tokenizer: T5Tokenizer,
    residency: Residency,
    acceleration: Acceleration,
    seed: int,
) -> FluxParts:
    """Parts with random weights, drawn on the device; see `engine.random_flux`."""
    dtype = inference_dtype(residency.device)
    drawn = partial(random_component, device=residency.device, dtype=dtype, seed=seed)
    origin = f"random {seed} {architecture}"
    return FluxParts(
        words=TextEncoder.random(t5_tokenizer, residency, architecture.text, seed),
        clip=residency.part(f"clip {origin}", lambda: drawn(architecture.build_clip)),
        clip_tokenizer=clip_tokenizer,
        transformer=residency.part(
            f"flux transformer {origin} {acceleration}",
            lambda: acceleration.applied(drawn(architecture.build_transformer), dtype, one_shape=False),
        ),
        autoencoder=residency.part(f"flux autoencoder {origin}", lambda: drawn(architecture.build_autoencoder)),
        scheduler=architecture.scheduler(),
    )
