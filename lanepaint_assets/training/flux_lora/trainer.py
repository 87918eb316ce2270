"""Training steps: gradients over the LoRA's weights, on one device or several, the same whatever was interrupted.

Called by `run.py`, which decides when to validate, to save and to end; the benchmark and tests call it directly.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.seeds import seed
from lanepaint_assets.torch_models.acceleration import Acceleration
from lanepaint_assets.torch_models.residency import GIB
from lanepaint_assets.training.flux_lora.adapter import attach_lora
from lanepaint_assets.training.flux_lora.examples import Batch, Examples, on_device
from lanepaint_assets.training.flux_lora.objective import Losses, fill_losses, noise_level, noise_shift
from lanepaint_assets.training.flux_lora.recomputation import Recomputation
from lanepaint_assets.training.flux_lora.state import TrainingState
from lanepaint_assets.training.lora_log import StepLoss, ValidationLoss
from lanepaint_assets.training.lora_recipe import LoraRecipe

log = logging.getLogger(__name__)

# Of AdamW on LoRAs in public trainers of this model.
_WEIGHT_DECAY = 1e-4

# Longest step of all weights together: a rare bad sample must not throw the LoRA off.
_GRADIENT_NORM = 1.0

# All attention kernels but cuDNN's, whose backward pass gives NaN now and then on Hopper (torch 2.11 to 2.13): seen in
# the GPU tests, and reported in github.com/pytorch/pytorch/issues/196678.
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

# Steps whose losses stay on the device: reading one waits for the step. A NaN is noticed at most so much later.
_READ_EVERY = 10

# Noise levels and most samples of the validation loss: about a second of an H200 at 768x512.
VALIDATION_LEVELS = (0.25, 0.5, 0.75)
VALIDATION_SAMPLES = 8


@dataclass(frozen=True)
class _Material:
    """What a forward pass needs: examples, noise levels (n,) and noise (n, t, 64), in host memory."""

    batch: Batch
    levels: Tensor
    noise: Tensor


class Trainer:
    """A LoRA in training on a transformer.

    The network computes in its own format, as in inference; weights and moments are kept in float32 beside it, so that
    small steps are not rounded away.

    Args:
        transformer: of FLUX.1 Fill, on its device; gets the LoRA, and its own weights stay as they are.
        examples: to learn from and to measure on.
        scheduler: of the base model.
        recipe: see there.
        accelerator: the processes that train together; each has a copy of the transformer.
        memory_gib: GPU memory that may be filled, see `Recomputation`.
        compiled: compile the blocks.

    Raises:
        CheckpointError: the transformer is of another model.
        StepError: there are other numbers of devices than the recipe says.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        examples: Examples,
        scheduler: FlowMatchEulerDiscreteScheduler,
        recipe: LoraRecipe,
        accelerator: Accelerator,
        *,
        memory_gib: float,
        compiled: bool = False,
    ) -> None:
        if accelerator.num_processes != recipe.devices:
            raise StepError(
                f"the training is meant for {recipe.devices} devices and runs on {accelerator.num_processes}; check "
                "LANEPAINT_LORA_GPUS and the machine's GPUs"
            )
        self.transformer = transformer
        self.examples = examples
        self.plan = recipe.plan(examples.training)
        self._recipe = recipe
        self._accelerator = accelerator
        self._device = transformer.device
        settings: Any = transformer.config
        self.guidance = recipe.guidance if settings.guidance_embeds else None
        self._shift = noise_shift(scheduler, examples.rows * examples.columns)
        self._limit_bytes = int(memory_gib * GIB)
        self._weights = attach_lora(transformer, recipe.rank, recipe.alpha, seed(recipe.seed, "lora", "weights"))
        exact = [nn.Parameter(weight.detach().float().clone()) for weight in self._weights]
        optimizer = torch.optim.AdamW(
            exact, lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY, fused=self._device.type == "cuda"
        )
        self.state = TrainingState(exact, optimizer)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._recomputation = Recomputation(transformer, self._device)
        self._settled = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="lanepaint-lora")
        self._ahead: dict[int, Future[list[_Material]]] = {}
        self._unread: list[tuple[int, float, Losses]] = []
        Acceleration(compiled).compiled_blocks(transformer, one_shape=True)

    @property
    def kept_blocks(self) -> int:
        """How many blocks of the transformer are not recomputed in the backward pass."""
        return self._recomputation.kept_blocks

    def show(self) -> None:
        """Give the network the weights of the state: after restoring it, and after every step."""
        rounded = [weight.detach() for weight in self.state.weights]
        torch._foreach_copy_([weight.data for weight in self._weights], rounded)

    def run_step(self) -> None:
        """One change of the weights.

        Raises:
            StepError: the loss is NaN or infinite; the state is then worth nothing, the last checkpoint is.
        """
        step, recipe = self.state.step, self._recipe
        losses = [self._backward(material) for material in self._materials(step)]
        self._exchange()
        torch.nn.utils.clip_grad_norm_(self.state.weights, _GRADIENT_NORM)
        rate = self.plan.learning_rate(step)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        self.show()
        self.state.step += 1
        if not self._settled:
            self._recomputation.settle(self._limit_bytes)
            self._settled = True
        mean = Losses(
            torch.stack([entry.painted for entry in losses]).mean(),
            torch.stack([entry.background for entry in losses]).mean(),
        )
        self._unread.append((self.state.step, rate, mean))
        if len(self._unread) >= _READ_EVERY or recipe.devices > 1:
            self.read_losses()

    def read_losses(self) -> None:
        """Enter the losses that are still on the device into the log.

        Raises:
            StepError: one is NaN or infinite.
        """
        if not self._unread:
            return
        pairs = torch.stack([torch.stack((entry.painted, entry.background)) for _, _, entry in self._unread])
        shared: Tensor = self._accelerator.reduce(pairs, reduction="mean")
        for (step, rate, _), (painted, background) in zip(self._unread, shared.tolist(), strict=True):
            loss = painted + self._recipe.background_weight * background
            if not torch.isfinite(torch.tensor(loss)):
                raise StepError(
                    f"the loss became {loss} in step {step} of {self.plan.steps}: lower the learning rate "
                    f"({self._recipe.learning_rate:g}), or look for a damaged sample"
                )
            self.state.log.training.append(StepLoss(step, loss, painted, background, rate))
        self._unread.clear()

    @torch.no_grad()
    def validate(self) -> ValidationLoss | None:
        """Measure on held-out samples, with the same noise levels and noise every time; None without such samples."""
        examples, recipe = self.examples, self._recipe
        held = range(examples.training, examples.training + min(examples.held_out, VALIDATION_SAMPLES))
        painted, background = [], []
        for index in held:
            batch = examples.batch([index]).to(self._device)
            for number, level in enumerate(VALIDATION_LEVELS, start=(index - held[0]) * len(VALIDATION_LEVELS)):
                generator = _generator(recipe, "validation", number)
                noise = torch.randn(batch.latents.shape, generator=generator).to(self._device)
                levels = torch.full((1,), level, device=self._device)
                losses = fill_losses(self.transformer, batch, levels, noise, self.guidance)
                painted.append(losses.painted)
                background.append(losses.background)
        if not painted:
            return None
        inside, outside = (float(torch.stack(values).mean()) for values in (painted, background))
        return ValidationLoss(self.state.step, inside + recipe.background_weight * outside, inside, outside)

    def _materials(self, step: int) -> list[_Material]:
        """Batches of a step for this process, read while the step before was under way."""
        ahead = self._ahead.pop(step, None)
        materials = ahead.result() if ahead is not None else self._read(step)
        # What was read for a step that never came, before a state was restored, is dropped.
        self._ahead = {step + 1: self._reader.submit(self._read, step + 1)} if step + 1 < self.plan.steps else {}
        return materials

    def _read(self, step: int) -> list[_Material]:
        recipe = self._recipe
        drawn = list(enumerate(self.plan.samples_of(step), start=step * self.plan.samples_a_step))
        own = drawn[self._accelerator.process_index :: recipe.devices]
        materials = []
        for first in range(0, len(own), recipe.batch_size):
            draws, indices = zip(*own[first : first + recipe.batch_size], strict=True)
            batch = self.examples.batch(indices)
            noise = [self._draw(batch.latents.shape[1:], draw) for draw in draws]
            materials.append(
                _Material(batch, torch.cat([level for level, _ in noise]), torch.stack([values for _, values in noise]))
            )
        return materials

    def _backward(self, material: _Material) -> Losses:
        """Add the gradients of one batch to those of the weights."""
        recipe = self._recipe
        # Around the backward pass too, where blocks are computed again.
        with sdpa_kernel(_ATTENTION):
            losses = fill_losses(
                self.transformer,
                material.batch.to(self._device),
                on_device(material.levels, self._device),
                on_device(material.noise, self._device),
                self.guidance,
                recipe.loss_weighting,
            )
            self._accelerator.backward(losses.total(recipe.background_weight) / recipe.accumulation)
        for exact, weight in zip(self.state.weights, self._weights, strict=True):
            if weight.grad is not None:
                exact.grad = weight.grad.float() if exact.grad is None else exact.grad.add_(weight.grad)
                weight.grad = None
        return Losses(losses.painted.detach(), losses.background.detach())

    def _draw(self, shape: torch.Size, draw: int) -> tuple[Tensor, Tensor]:
        """Noise level (1,) and noise of a draw; on the host, so that every device draws alike."""
        generator = _generator(self._recipe, "noise", draw)
        return noise_level(self._shift, generator), torch.randn(shape, generator=generator)

    def _exchange(self) -> None:
        """Mean of the gradients over all processes."""
        if self._accelerator.num_processes > 1:
            gradients = [weight.grad for weight in self.state.weights if weight.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            shared: Tensor = self._accelerator.reduce(flat, reduction="mean")
            parts = torch.split(shared, [gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))


def _generator(recipe: LoraRecipe, what: str, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed(recipe.seed, "lora", what, index))
