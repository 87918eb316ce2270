"""What is learnt: the velocity from a picture to noise at a random noise level, above all where the mask is.

Called by the trainer and for validation. Rectified flow (Esser et al. 2024, "Scaling Rectified Flow Transformers").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import calculate_shift
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from torch import Tensor, nn

from lanepaint_assets.training.flux_lora.examples import Batch
from lanepaint_assets.training.lora_recipe import LossWeighting

# Of the noise level's logit, before the shift: SD3's and FLUX's.
_LOGIT_MEAN, _LOGIT_STD = 0.0, 1.0


@dataclass(frozen=True)
class Losses:
    """Mean squared errors inside and outside the mask, each a number on the device."""

    painted: Tensor
    background: Tensor

    def total(self, background_weight: float) -> Tensor:
        """What is minimized. A road is a third of the picture: without weights the model would learn backgrounds."""
        return self.painted + background_weight * self.background


def noise_shift(scheduler: FlowMatchEulerDiscreteScheduler, tokens: int) -> float:
    """How far noise levels move up for a picture of so many tokens, as in inference."""
    schedule: Any = scheduler
    settings = schedule.config
    shift: float = calculate_shift(
        tokens,
        settings.base_image_seq_len,
        settings.max_image_seq_len,
        settings.base_shift,
        settings.max_shift,
    )
    return shift


def noise_level(shift: float, generator: torch.Generator) -> Tensor:
    """A random noise level, (1,), 0 picture .. 1 noise: logit-normal, then shifted."""
    share: Tensor = compute_density_for_timestep_sampling(
        "logit_normal", 1, logit_mean=_LOGIT_MEAN, logit_std=_LOGIT_STD, generator=generator
    )
    scale = torch.exp(torch.tensor(shift))
    return scale * share / (1.0 + (scale - 1.0) * share)


def fill_losses(
    transformer: nn.Module,
    batch: Batch,
    levels: Tensor,
    noise: Tensor,
    guidance: float | None,
    weighting: LossWeighting = "none",
) -> Losses:
    """Errors of the transformer's velocity.

    Args:
        transformer: of FLUX.1 Fill.
        batch: n examples on its device.
        levels: (n,) noise levels, float32.
        noise: (n, t, 64), float32.
        guidance: that it is told; None for a model that is told none.
        weighting: of noise levels against each other.
    """
    clean = batch.latents.float()
    share = levels.view(-1, 1, 1)
    noisy = ((1.0 - share) * clean + share * noise).to(batch.latents.dtype)
    velocity = predicted_velocity(transformer, batch, noisy, levels, guidance)
    weight = compute_loss_weighting_for_sd3(weighting, sigmas=share)
    error = (weight * (velocity.float() - (noise - clean)) ** 2).mean(dim=-1)
    painted = batch.painted_share
    return Losses(_weighted_mean(error, painted), _weighted_mean(error, 1.0 - painted))


def predicted_velocity(
    transformer: nn.Module, batch: Batch, noisy: Tensor, levels: Tensor, guidance: float | None
) -> Tensor:
    """(n, t, 64), what the transformer says of noisy latents (n, t, 64) at noise levels (n,)."""
    told = None if guidance is None else torch.full_like(levels, guidance)
    picture_places, word_places = _places(batch.rows, batch.columns, batch.words.shape[1], noisy.device, noisy.dtype)
    result: Tensor = transformer(
        hidden_states=torch.cat((noisy, batch.masked, batch.mask), dim=2),
        # In the network's format, as the pipeline gives it.
        timestep=levels.to(noisy.dtype),
        guidance=told,
        pooled_projections=batch.summary,
        encoder_hidden_states=batch.words,
        txt_ids=word_places,
        img_ids=picture_places,
        return_dict=False,
    )[0]
    return result


@lru_cache(maxsize=4)
def _places(rows: int, columns: int, words: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Row and column of every token of the picture, and those of words, which are all zero."""
    pipeline: Any = FluxFillPipeline
    picture: Tensor = pipeline._prepare_latent_image_ids(1, rows, columns, device, dtype)
    return picture, torch.zeros(words, 3, device=device, dtype=dtype)


def _weighted_mean(error: Tensor, weights: Tensor) -> Tensor:
    """Mean over tokens of each example by weight, then over examples; 0 for an example without any weight."""
    sums = weights.sum(dim=1)
    return ((error * weights).sum(dim=1) / sums.clamp(min=1.0)).mean()
