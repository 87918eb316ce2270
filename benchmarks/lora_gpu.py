"""Training steps of a LoRA on full-size FLUX.1 Fill with random weights: speed and memory, against a plain loop.

The plain loop is what public trainers do as they come: text encoders and autoencoder run in every step and stay on the
GPU, autocast to bfloat16, every block recomputed in the backward pass, the loss read after every step. Both adapt the
same layers with the same rank and see the same pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, Split

if TYPE_CHECKING:
    import torch


NAME = "lora_gpu"
CAPTION = "road with double yellow solid lane markings"
SAMPLES = 8
GIB = 1 << 30

TARGET_SPEED_UP = 1.5
TARGET_PEAK_GIB = 40.0
# Ours compiles and chooses what to recompute in its first steps; both warm the allocator.
WARM_UP_STEPS = 5
# What CLIP reads.
CLIP_TOKENS = 77


def sample(index: int, recipe: LoraRecipe) -> LoraSample:
    """Noise with a road-shaped mask; speed does not depend on what is seen."""

    def read() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        picture = np.random.default_rng(index).integers(0, 256, (recipe.height, recipe.width, 3), dtype=np.uint8)
        mask = np.zeros((recipe.height, recipe.width), dtype=np.bool_)
        mask[recipe.height // 2 :] = True
        return picture, mask

    return LoraSample(str(index), str(index), f"{index:064x}", CAPTION, CAPTION, read)


class PlainLoop:
    """A step as public trainers of this model take it; all networks on the GPU."""

    def __init__(self, device: torch.device, recipe: LoraRecipe) -> None:
        import torch

        from lanepaint_assets.torch_models.components import random_component
        from lanepaint_assets.torch_models.flux.architecture import FLUX_FILL
        from lanepaint_assets.training.flux_lora.adapter import attach_lora

        def drawn(build: Callable[[], Any]) -> Any:
            return random_component(build, device, torch.bfloat16, seed=1).requires_grad_(False).eval().to(device)

        self._device, self._recipe = device, recipe
        self._t5, self._clip = drawn(FLUX_FILL.text.build), drawn(FLUX_FILL.build_clip)
        self._autoencoder, self._transformer = drawn(FLUX_FILL.build_autoencoder), drawn(FLUX_FILL.build_transformer)
        self._scheduler = FLUX_FILL.scheduler()
        self._weights = attach_lora(self._transformer, recipe.rank, recipe.alpha, seed=1)
        for weight in self._weights:
            weight.data = weight.data.float()
        self._transformer.enable_gradient_checkpointing()
        self._optimizer = torch.optim.AdamW(self._weights, lr=recipe.learning_rate)
        # Public loops read ahead too.
        self._pictures = [sample(index, recipe).read() for index in range(SAMPLES)]
        self._step = 0

    def run_step(self) -> None:
        """Encode everything, then one change of the weights."""
        import torch

        from lanepaint_assets.training.flux_lora.examples import Batch, pack, pack_mask
        from lanepaint_assets.training.flux_lora.objective import fill_losses, noise_level, noise_shift

        recipe, device, settings = self._recipe, self._device, self._autoencoder.config
        picture, mask = self._pictures[self._step % SAMPLES]
        with torch.no_grad():
            # What the words are does not matter to the time that reading them takes.
            words = self._t5(torch.ones(1, recipe.caption_tokens, dtype=torch.long, device=device)).last_hidden_state
            summary = self._clip(torch.ones(1, CLIP_TOKENS, dtype=torch.long, device=device)).pooler_output
            pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].to(device).bfloat16() / 127.5 - 1.0
            shown = torch.from_numpy(mask)[None].to(device)
            latents, masked = (
                pack(
                    (self._autoencoder.encode(image).latent_dist.sample() - settings.shift_factor)
                    * settings.scaling_factor
                )
                for image in (pixels, pixels * ~shown[:, None])
            )
        batch = Batch(
            latents=latents,
            masked=masked,
            mask=pack_mask(shown.bfloat16(), 8),
            words=words,
            summary=summary,
            rows=recipe.height // 16,
            columns=recipe.width // 16,
        )
        generator = torch.Generator().manual_seed(self._step)
        level = noise_level(noise_shift(self._scheduler, latents.shape[1]), generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        with torch.autocast("cuda", torch.bfloat16):
            losses = fill_losses(self._transformer, batch, level, noise, recipe.guidance)
        losses.total(recipe.background_weight).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        losses.painted.item()
        self._step += 1


def measure(outcome: Outcome, scratch: Path, options: argparse.Namespace) -> None:
    """Ours alone first, for its peak; then both in turns."""
    import torch
    from accelerate import Accelerator

    from lanepaint_assets.torch_models.acceleration import EXACT
    from lanepaint_assets.torch_models.devices import pick_device, use_kernel_cache
    from lanepaint_assets.torch_models.flux.architecture import FLUX_FILL
    from lanepaint_assets.torch_models.flux.parts import random_parts
    from lanepaint_assets.torch_models.residency import Residency
    from lanepaint_assets.training.flux_lora.examples import encode_examples
    from lanepaint_assets.training.flux_lora.trainer import Trainer
    from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer

    recipe = replace(LoraRecipe(), width=options.width, height=options.height, epochs=1000)
    device = pick_device("cuda:0")
    use_kernel_cache(options.cache)
    residency = Residency.of(device)
    parts = random_parts(FLUX_FILL, clip_tokenizer(), t5_tokenizer(), residency, EXACT, seed=0)
    every = Split(tuple(sample(index, recipe) for index in range(SAMPLES)), ())
    examples = encode_examples(parts, residency, every, recipe, scratch)
    residency.release_all_but()

    with residency.holding(parts.transformer):
        trainer = Trainer(
            parts.transformer.module,
            examples,
            parts.scheduler,
            recipe,
            Accelerator(),
            memory_gib=options.memory_gib,
            compiled=not options.eager,
        )
        ours = _steps(trainer.run_step, trainer.read_losses, options.steps)
        _steps(trainer.run_step, trainer.read_losses, WARM_UP_STEPS)()
        torch.cuda.reset_peak_memory_stats(device)
        ours()
        name = f"{recipe.width}x{recipe.height}"
        peak = torch.cuda.max_memory_allocated(device) / GIB
        outcome.add(f"peak memory of a training at {name}", peak, "GiB", "lower", target=TARGET_PEAK_GIB)
        outcome.add("memory that torch reserved", torch.cuda.max_memory_reserved(device) / GIB, "GiB", "lower")
        outcome.add("blocks that keep their activations", trainer.kept_blocks, "of 57", "higher")

        loop = PlainLoop(device, recipe)
        plain = _steps(loop.run_step, lambda: None, options.steps)
        _steps(loop.run_step, lambda: None, WARM_UP_STEPS)()
        torch.cuda.reset_peak_memory_stats(device)
        plain()
        # Without the network of ours, which is on the GPU meanwhile.
        own = torch.cuda.max_memory_allocated(device) - sum(w.nbytes for w in parts.transformer.module.parameters())
        outcome.add("peak memory of the plain loop", own / GIB, "GiB", "lower")
        seconds = alternating_seconds({"ours": ours, "plain": plain}, options.rounds)
    rate, plain_rate = options.steps / seconds["ours"], options.steps / seconds["plain"]
    outcome.add(f"training steps at {name}, batch 1, rank 16", rate, "steps/s", "higher", baseline=plain_rate)
    outcome.add("speed against the plain loop", rate / plain_rate, "x", "higher", target=TARGET_SPEED_UP)


def _steps(run_step: Callable[[], None], end: Callable[[], None], count: int) -> Callable[[], None]:
    """So many steps, until the GPU has done them."""

    def run() -> None:
        import torch

        for _ in range(count):
            run_step()
        end()
        torch.cuda.synchronize()

    return run


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    import torch

    # Torch beside a CPU-only torchvision: see the module.
    import lanepaint_assets_tests.torchvision_ops  # noqa: F401

    outcome = Outcome()
    if torch.cuda.is_available():
        with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
            measure(outcome, Path(scratch), options)
    else:
        outcome.skip("all figures", "torch sees no GPU here")
    report(NAME, outcome, options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Steps a second and peak memory of a LoRA training on full-size FLUX.1 Fill.")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20, help="of a round (default %(default)s)")
    parser.add_argument("--memory-gib", type=float, default=TARGET_PEAK_GIB, help="what a training may fill")
    parser.add_argument("--eager", action="store_true", help="do not compile the blocks")
    parser.add_argument("--cache", type=Path, default=None, help="folder for compiled kernels")
    main(parser.parse_args())
