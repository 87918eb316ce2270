"""A training that takes a second on a CPU: pictures of a road with a line, and the job that learns from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.training.flux_lora.run import TrainingJob
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, Split, split

CAPTION = "road with single white solid lane markings"
STYLE = "single_white_solid"
TRAINING = "ab" * 32

RECIPE = LoraRecipe(
    rank=4,
    alpha=8,
    learning_rate=1e-2,
    warmup_steps=2,
    epochs=2,
    width=64,
    height=64,
    dilation_px=4,
    validation_share=0.25,
    caption_tokens=48,
)


def road(index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A grey road below a bright sky, with a white line whose place the index decides; 96 x 80."""
    picture = np.full((80, 96, 3), 200, dtype=np.uint8)
    picture[36:] = 90 + np.random.default_rng(index).integers(0, 20, (44, 96, 1), dtype=np.uint8)
    picture[36:, 20 + 6 * index : 24 + 6 * index] = 240
    mask = np.zeros((80, 96), dtype=np.bool_)
    mask[40:78, 8:88] = True
    return picture, mask


def sample(index: int, clip: int) -> LoraSample:
    return LoraSample(f"sample_{index}", f"clip_{clip}", f"{index:064x}", CAPTION, CAPTION, lambda: road(index))


def samples(count: int = 7) -> Split:
    """Samples of clips of two."""
    return split([sample(index, index // 2) for index in range(count)], RECIPE.validation_share)


def job(checkpoint: Path, store: ArtifactStore, scratch: Path, **changes: Any) -> TrainingJob:
    """The job, with folders of its own below `scratch`."""
    for name in ("examples", "out"):
        (scratch / name).mkdir(parents=True)
    plain = TrainingJob(
        model=checkpoint,
        store_root=str(store.root),
        style=STYLE,
        training=TRAINING,
        run_id="test",
        recipe=RECIPE,
        checkpoint_steps=3,
        validation_steps=4,
        pictures=1,
        device=torch.device("cpu"),
        budget_gib=None,
        memory_gib=40.0,
        compiled=False,
        examples=scratch / "examples",
        scratch=scratch,
        out=scratch / "out",
    )
    return replace(plain, **changes)
