"""The video model's networks, each read at its first use: from checkpoints, or drawn at random.

Called by `engine.py`, which decides when each of them is on a device. What they compute is `branch.py` and
`pipeline.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from transformers import T5Tokenizer

from lanepaint_assets.checkpoints.files import CheckpointError, folder_mark
from lanepaint_assets.editing.videopainter.architecture import CogVideoXArchitecture
from lanepaint_assets.editing.videopainter.branch import (
    BackboneTransformer,
    BranchedTransformer,
    VideoPainterBranch,
    with_branch_blocks,
)
from lanepaint_assets.editing.videopainter.pipeline import SPATIAL_RATIO
from lanepaint_assets.torch_models.acceleration import Acceleration
from lanepaint_assets.torch_models.components import random_component, read_component
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.residency import Part, Residency
from lanepaint_assets.torch_models.text_encoder import TextEncoder

M = TypeVar("M", bound=ModelMixin)

# Names of config.json: the size of a window, and what backbone and branch must agree on.
_SIZES = ("sample_height", "sample_width", "sample_frames", "max_text_seq_length")
_AGREED = ("num_attention_heads", "attention_head_dim", "text_embed_dim", *_SIZES)


@dataclass(frozen=True)
class WindowSize:
    """What the transformer was trained for, and the only size that it takes: pixels, frames and caption tokens."""

    height: int
    width: int
    frames: int
    tokens: int


@dataclass(frozen=True)
class Denoisers:
    """Transformer and branch on one device."""

    residency: Residency
    transformer: Part[BackboneTransformer]
    branch: Part[VideoPainterBranch]

    def model(self) -> BranchedTransformer:
        """The two as one; to be used while both are held."""
        return BranchedTransformer(self.transformer.module, self.branch.module)

    def twin(self, residency: Residency, acceleration: Acceleration) -> Denoisers:
        """The same weights for another device: read once, and held once in host memory."""
        dtype = inference_dtype(residency.device)

        def transformer() -> BackboneTransformer:
            twin = with_branch_blocks(_twin(self.transformer.module), len(self.branch.module.branch_blocks))
            return acceleration.applied(twin, dtype, one_shape=True)

        def branch() -> VideoPainterBranch:
            twin: VideoPainterBranch = _twin(self.branch.module)
            return acceleration.compiled_blocks(twin, one_shape=True)

        return Denoisers(
            residency,
            residency.part(f"twin of {self.transformer.name}", transformer),
            residency.part(f"twin of {self.branch.name}", branch),
        )


@dataclass(frozen=True)
class VideoParts:
    """What the video model consists of."""

    words: TextEncoder
    denoisers: Denoisers
    autoencoder: Part[AutoencoderKLCogVideoX]
    scheduler: CogVideoXDPMScheduler
    size: WindowSize


def checkpoint_parts(folder: Path, branch_folder: Path, residency: Residency, acceleration: Acceleration) -> VideoParts:
    """The parts of checkpoints on this machine's disk.

    Args:
        folder: CogVideoX-5B image-to-video in diffusers' layout.
        branch_folder: `config.json` and weights of the branch.
        residency: of the device.
        acceleration: see there.

    Raises:
        CheckpointError: the two do not belong together, or a configuration is not readable. Weights are read later.
    """
    dtype = inference_dtype(residency.device)
    config = _config(folder / "transformer", _AGREED)
    branch_config = _config(branch_folder, ("num_layers",))
    for name in _AGREED:
        # What a branch does not say is as in its class; its weights are checked against that when they are read.
        if name in branch_config and config[name] != branch_config[name]:
            raise CheckpointError(
                f"{branch_folder}: this branch is not of {folder}: {name} is {branch_config[name]} and {config[name]}; "
                "copy the branch that was trained for this model"
            )

    origin, branch_origin = (f"{place} {folder_mark(place)}" for place in (folder, branch_folder))

    def transformer() -> BackboneTransformer:
        read = read_component(CogVideoXTransformer3DModel, folder / "transformer", dtype)
        return acceleration.applied(with_branch_blocks(read, branch_config["num_layers"]), dtype, one_shape=True)

    def branch() -> VideoPainterBranch:
        read: VideoPainterBranch = read_component(VideoPainterBranch, branch_folder, dtype)
        return acceleration.compiled_blocks(read, one_shape=True)

    return VideoParts(
        words=TextEncoder.of(folder / "text_encoder", folder / "tokenizer", residency),
        denoisers=Denoisers(
            residency,
            residency.part(f"cogvideox transformer {origin} for {branch_origin} {acceleration}", transformer),
            residency.part(f"videopainter branch {branch_origin} {acceleration}", branch),
        ),
        autoencoder=residency.part(
            f"cogvideox autoencoder {origin}", lambda: read_component(AutoencoderKLCogVideoX, folder / "vae", dtype)
        ),
        scheduler=_scheduler(folder / "scheduler"),
        size=_window_size(config),
    )


def random_parts(
    architecture: CogVideoXArchitecture,
    tokenizer: T5Tokenizer,
    residency: Residency,
    acceleration: Acceleration,
    seed: int,
) -> VideoParts:
    """Parts with random weights, drawn on the device; see `engine.random_cogvideox`."""
    dtype = inference_dtype(residency.device)
    drawn = partial(random_component, device=residency.device, dtype=dtype, seed=seed)
    origin = f"random {seed} {architecture} {acceleration}"

    def transformer() -> BackboneTransformer:
        stock = drawn(architecture.build_transformer)
        return acceleration.applied(with_branch_blocks(stock, architecture.branch_layers), dtype, one_shape=True)

    return VideoParts(
        words=TextEncoder.random(tokenizer, residency, architecture.text, seed),
        denoisers=Denoisers(
            residency,
            residency.part(f"cogvideox transformer {origin}", transformer),
            residency.part(
                f"videopainter branch {origin}",
                lambda: acceleration.compiled_blocks(drawn(architecture.build_branch), one_shape=True),
            ),
        ),
        autoencoder=residency.part(f"cogvideox autoencoder {origin}", lambda: drawn(architecture.build_autoencoder)),
        scheduler=architecture.scheduler(),
        size=WindowSize(
            SPATIAL_RATIO * architecture.latent_height,
            SPATIAL_RATIO * architecture.latent_width,
            architecture.frames,
            architecture.text_tokens,
        ),
    )


def _twin(model: M) -> M:
    """A second module on the same weights in host memory."""
    kind: Any = type(model)
    with torch.device("meta"):
        twin: M = kind.from_config(model.config)
    twin.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()}, assign=True)
    return twin


def _window_size(config: dict[str, Any]) -> WindowSize:
    return WindowSize(
        SPATIAL_RATIO * config["sample_height"],
        SPATIAL_RATIO * config["sample_width"],
        config["sample_frames"],
        config["max_text_seq_length"],
    )


def _config(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """A network's config.json, which holds at least numbers of these names."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: its configuration is not readable ({error}); copy it again") from error
    for name in names:
        if not isinstance(config.get(name), int):
            raise CheckpointError(f"{folder / 'config.json'}: it says no {name}; copy it again")
    return config


def _scheduler(folder: Path) -> CogVideoXDPMScheduler:
    """The released configuration is for another sampler; VideoPainter runs this one, from the noisiest step on."""
    kind: Any = CogVideoXDPMScheduler
    try:
        scheduler: CogVideoXDPMScheduler = kind.from_pretrained(
            folder, local_files_only=True, timestep_spacing="trailing"
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: not a readable scheduler ({error}); copy it again") from error
    return scheduler
