"""What decides a LoRA: the numbers of its training, and which samples it learns from in which order.

Called by the step, by the trainer and by its tests. Nothing here imports a model library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.settings import Settings
from lanepaint_assets.store.seeds import seed

Schedule = Literal["cosine", "linear", "constant"]
LossWeighting = Literal["none", "sigma_sqrt", "cosmap"]

# Of fewer clips a whole one would be too much to learn nothing from.
_CLIPS_TO_SPLIT = 4

# What the engine reads of a caption. The padding is not masked, so another length would be another model.
CAPTION_TOKENS = 512


@dataclass(frozen=True)
class LoraRecipe:
    """The settings of a training that decide its result; defaults are those of spec 9.

    Attributes:
        rank, alpha: of every adapted layer; its change is scaled by alpha / rank.
        learning_rate: of AdamW, at its highest.
        schedule: how it falls after the warm-up: along a cosine or a line to zero, or not at all.
        warmup_steps: over which it rises from zero.
        epochs: how often every sample is seen.
        batch_size, accumulation, devices: samples that a device takes at once, how often before the weights change, and
            how many devices do so at the same time.
        guidance: the number that the model is told instead of being run twice; inference tells it 30.
        background_weight: of the loss outside the mask, whose pixels the model is given, against the loss inside.
        loss_weighting: of noise levels against each other, as named in SD3's paper.
        width, height: of the pictures that it learns from, multiples of 16.
        dilation_px: growth of the mask, as in inference.
        validation_share: of the samples that are kept out of training to measure on.
        caption_tokens: length that captions are padded or cut to.
        seed: every random number derives from it.
    """

    rank: int = 16
    alpha: int = 16
    learning_rate: float = 1e-5
    schedule: Schedule = "cosine"
    warmup_steps: int = 50
    epochs: int = 5
    batch_size: int = 1
    accumulation: int = 1
    devices: int = 1
    guidance: float = 30.0
    background_weight: float = 0.1
    loss_weighting: LossWeighting = "none"
    width: int = 768
    height: int = 512
    dilation_px: int = 24
    validation_share: float = 0.1
    caption_tokens: int = CAPTION_TOKENS
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings) -> LoraRecipe:
        """The recipe in force."""
        return cls(
            rank=settings.lora_rank,
            alpha=settings.lora_alpha,
            learning_rate=settings.lora_learning_rate,
            schedule=settings.lora_schedule,
            warmup_steps=settings.lora_warmup_steps,
            epochs=settings.lora_epochs,
            batch_size=settings.lora_batch_size,
            accumulation=settings.lora_accumulation,
            devices=settings.lora_gpus,
            guidance=settings.lora_guidance,
            background_weight=settings.lora_background_weight,
            loss_weighting=settings.lora_loss_weighting,
            width=settings.lora_width,
            height=settings.lora_height,
            dilation_px=settings.mask_dilation_px,
            validation_share=settings.lora_validation_share,
            seed=settings.study_seed,
        )

    def params(self) -> dict[str, JsonValue]:
        """All of it, for fingerprints and the model card."""
        return asdict(self)

    def plan(self, samples: int) -> TrainingPlan:
        """Order and number of steps for so many training samples."""
        return TrainingPlan(self, samples)


@dataclass(frozen=True)
class TrainingPlan:
    """Which samples each step sees, and with which learning rate; follows from the step alone, so that any can go on.

    Attributes:
        samples: how many there are.
    """

    recipe: LoraRecipe
    samples: int

    @property
    def samples_a_step(self) -> int:
        """Of all devices together."""
        return self.recipe.batch_size * self.recipe.accumulation * self.recipe.devices

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(self.samples / self.samples_a_step)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_an_epoch

    def samples_of(self, step: int) -> list[int]:
        """Indices of a step's samples, counted from step 0; the last step of an epoch is filled from its first ones."""
        epoch, place = divmod(step, self.steps_an_epoch)
        order = self._order(epoch)
        first = place * self.samples_a_step
        return [int(order[index % self.samples]) for index in range(first, first + self.samples_a_step)]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng(seed(self.recipe.seed, "lora", "order", epoch)).permutation(self.samples)

    def learning_rate(self, step: int) -> float:
        """Of the step of that index."""
        recipe = self.recipe
        if step < recipe.warmup_steps:
            return recipe.learning_rate * (step + 1) / recipe.warmup_steps
        if recipe.schedule == "constant":
            return recipe.learning_rate
        share = (step - recipe.warmup_steps) / max(1, self.steps - recipe.warmup_steps)
        if recipe.schedule == "linear":
            return recipe.learning_rate * (1.0 - share)
        return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class LoraSample:
    """One sample as training reads it.

    Attributes:
        key: names it, unique among the samples of a training.
        clip: item key of its clip; pictures of one clip are alike.
        fingerprint: what it was made from.
        prompt, prompt_2: for CLIP and for T5.
        read: its picture (H, W, 3) uint8 and road mask (H, W) bool.
    """

    key: str
    clip: str
    fingerprint: str
    prompt: str
    prompt_2: str
    read: Callable[[], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Split:
    """Samples to learn from, and samples to measure on."""

    training: tuple[LoraSample, ...]
    held_out: tuple[LoraSample, ...]

    @property
    def is_apart(self) -> bool:
        """Whether no clip is on both sides."""
        return not {sample.clip for sample in self.training} & {sample.clip for sample in self.held_out}


def split(samples: Sequence[LoraSample], share: float) -> Split:
    """Keep about `share` of the samples out of training: whole clips where there are enough.

    A clip's frames resemble each other, so frames of a clip that was trained on measure memory too. Which are kept out
    follows from their names: more samples of other clips change little about it.

    Args:
        samples: at least one.
        share: 0 keeps none out, and so does a single sample.
    """
    if share <= 0.0 or len(samples) < 2:
        return Split(tuple(samples), ())
    by_clip = len({sample.clip for sample in samples}) >= _CLIPS_TO_SPLIT
    groups: dict[str, list[LoraSample]] = {}
    for sample in samples:
        groups.setdefault(sample.clip if by_clip else sample.key, []).append(sample)
    wanted = max(1, round(share * len(samples)))
    held: set[str] = set()
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:-1]:
        if sum(len(groups[other]) for other in held) >= wanted:
            break
        held.add(name)
    return Split(
        training=tuple(s for name, group in groups.items() if name not in held for s in group),
        held_out=tuple(s for name, group in groups.items() if name in held for s in group),
    )
