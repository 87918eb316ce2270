"""Held-out samples painted by the LoRA as it is now: what people look at while it learns.

Called by `run.py` between steps. The pictures decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from lanepaint_assets.store.seeds import seed
from lanepaint_assets.torch_models.residency import Part, Residency
from lanepaint_assets.training.flux_lora.examples import Batch
from lanepaint_assets.training.flux_lora.objective import noise_shift, predicted_velocity
from lanepaint_assets.training.flux_lora.trainer import Trainer

# Enough to see colour and pattern of lines; the stage itself takes 50.
STEPS = 20

# White between the three pictures of a sample.
_GAP_PX = 4


@torch.no_grad()
def painted_samples(
    trainer: Trainer,
    autoencoder: Part[AutoencoderKL],
    scheduler: FlowMatchEulerDiscreteScheduler,
    residency: Residency,
    count: int,
    study_seed: int,
) -> Iterator[NDArray[np.uint8]]:
    """The first held-out samples: the picture, what the network sees of it, and what it paints, side by side.

    Args:
        trainer: whose transformer paints; its device is held by the caller.
        count: most samples.
        study_seed: each sample is painted from the same noise every time.

    Yields:
        (H, 3 W + 2 gaps, 3).
    """
    examples, device = trainer.examples, residency.device
    for index in range(examples.training, examples.training + min(count, examples.held_out)):
        batch = examples.batch([index]).to(device)
        generator = torch.Generator().manual_seed(seed(study_seed, "lora", "picture", index - examples.training))
        latents = torch.randn(batch.latents.shape, generator=generator).to(device)
        latents = denoised(trainer, batch, scheduler, latents)
        with residency.holding(autoencoder):
            shown = [
                _decoded(autoencoder.module, tokens.to(batch.latents.dtype), batch)
                for tokens in (batch.latents, batch.masked, latents)
            ]
        gap = np.full((shown[0].shape[0], _GAP_PX, 3), 255, dtype=np.uint8)
        yield np.concatenate([shown[0], gap, shown[1], gap, shown[2]], axis=1)


def denoised(trainer: Trainer, batch: Batch, scheduler: FlowMatchEulerDiscreteScheduler, latents: Tensor) -> Tensor:
    """Latents (1, t, 64) from noise of the same shape, as the pipeline steps."""
    kind: Any = type(scheduler)
    schedule: Any = scheduler
    # Its own state, not that of the scheduler that paints.
    steps = kind.from_config(schedule.config)
    steps.set_timesteps(
        sigmas=np.linspace(1.0, 1.0 / STEPS, STEPS),
        mu=noise_shift(scheduler, latents.shape[1]),
        device=latents.device,
    )
    for time in steps.timesteps:
        levels = (time / steps.config.num_train_timesteps).expand(1).to(latents.device)
        velocity = predicted_velocity(
            trainer.transformer, batch, latents.to(batch.latents.dtype), levels, trainer.guidance
        )
        latents = steps.step(velocity.float(), time, latents, return_dict=False)[0]
    return latents


def _decoded(autoencoder: AutoencoderKL, tokens: Tensor, batch: Batch) -> NDArray[np.uint8]:
    """Packed latents (1, t, 64) as a picture (H, W, 3)."""
    model: Any = autoencoder
    pipeline: Any = FluxFillPipeline
    grain = 2 ** (len(model.config.block_out_channels) - 1)
    height, width = 2 * grain * batch.rows, 2 * grain * batch.columns
    latents = pipeline._unpack_latents(tokens, height, width, grain)
    latents = latents / model.config.scaling_factor + model.config.shift_factor
    pixels: Tensor = model.decode(latents, return_dict=False)[0][0].permute(1, 2, 0).float()
    return np.asarray((pixels * 127.5 + 127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy())
