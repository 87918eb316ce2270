"""Whether a training learns: the loss on held-out samples of the sample drive, before and after, on a tiny network.

The samples are those of `training_samples` and `filtered_samples`, made by the CPU engines of rendered clips; the
network has the real classes and random weights, so it has everything to learn and its pictures mean nothing. Held out
are whole clips; noise and noise levels are the same before and after. Speed at full size is `lora_gpu`'s topic.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import Outcome, command_line, report
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.partitions import LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.training.filter_steps import make_filtered_samples
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, split
from lanepaint_assets.training.lora_steps import lora_samples
from lanepaint_assets.training.sample_steps import make_training_samples

NAME = "lora_training"

# Roads that no one tuned on.
EVALUATION_SEED = 90_019
CLIPS, CLIP_S, CLIP_FPS, CLIP_SIZE = 6, 8.0, 10, (480, 270)

TARGET_CHANGE_PERCENT = -30.0

# A network of 1.4 million weights starts from noise and needs larger steps than a released one; everything else is as
# in the settings, but for the size.
RECIPE = LoraRecipe(
    learning_rate=3e-3, warmup_steps=20, epochs=8, width=192, height=128, validation_share=0.3, caption_tokens=48
)


def drive_samples(root: Path) -> list[LoraSample]:
    """Samples of all clips, whatever their style, from the assets that make them."""
    drive = root / "drive"
    write_sample_drive(
        drive,
        seed=EVALUATION_SEED,
        chunks=1,
        clips_per_chunk=CLIPS,
        seconds=CLIP_S,
        width=CLIP_SIZE[0],
        height=CLIP_SIZE[1],
        fps=CLIP_FPS,
        other_cameras=False,
    )
    every_style = Settings(
        root=str(root / "store"),
        source=str(drive),
        training_frames="every:0.5",
        training_inspection="single",
        filter_count="any",
        filter_color="any",
        filter_pattern="any",
        filter_require_clear_road=False,
    )
    platform = Platform(every_style, progress=lambda *_: None)
    source = platform.source()
    for listing in source.chunks():
        platform.store.save_chunk(ChunkMembership(key=listing.key, source=source.address, clips=listing.clips))
        make_raw_clips(platform, listing.key, NAME)
        make_training_samples(platform, listing.key, NAME)
        make_filtered_samples(platform, listing.key, NAME, LANE_STYLES)
    return lora_samples(platform, LANE_STYLES[0])


def measure(root: Path) -> Outcome:
    """Train, and compare the held-out loss."""
    import torch
    from accelerate import Accelerator

    from lanepaint_assets.torch_models.acceleration import EXACT
    from lanepaint_assets.torch_models.flux.parts import random_parts
    from lanepaint_assets.torch_models.residency import Residency
    from lanepaint_assets.training.flux_lora.examples import encode_examples
    from lanepaint_assets.training.flux_lora.trainer import Trainer
    from lanepaint_assets_tests.tiny_models.flux_fill import tiny_architecture
    from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer

    torch.set_num_threads(1)  # tiny networks gain nothing from threads
    samples = split(drive_samples(root), RECIPE.validation_share)
    architecture = replace(
        tiny_architecture(), heads=4, head_width=32, rope_axes=(8, 12, 12), double_blocks=2, single_blocks=2
    )
    residency = Residency(torch.device("cpu"))
    parts = random_parts(architecture, clip_tokenizer(), t5_tokenizer(), residency, EXACT, seed=0)
    examples_folder = root / "examples"
    examples_folder.mkdir()
    examples = encode_examples(parts, residency, samples, RECIPE, examples_folder)
    trainer = Trainer(
        parts.transformer.module, examples, parts.scheduler, RECIPE, Accelerator(cpu=True), memory_gib=40.0
    )
    before = trainer.validate()
    while trainer.state.step < trainer.plan.steps:
        trainer.run_step()
    after = trainer.validate()
    assert before is not None
    assert after is not None
    outcome = Outcome()
    outcome.add(
        "change of the held-out loss",
        100.0 * (after.loss / before.loss - 1.0),
        "%",
        "lower",
        target=TARGET_CHANGE_PERCENT,
    )
    outcome.add("held-out loss inside the mask", after.painted, "", "lower", baseline=before.painted)
    outcome.add("held-out loss outside the mask", after.background, "", "lower", baseline=before.background)
    outcome.add("steps", trainer.plan.steps, "", "higher")
    outcome.add("samples learnt from", len(samples.training), "", "higher")
    outcome.add("samples held out", len(samples.held_out), "", "higher")
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    # Torch beside a CPU-only torchvision: see the module.
    import lanepaint_assets_tests.torchvision_ops  # noqa: F401

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        report(NAME, measure(Path(scratch)), options.json)


if __name__ == "__main__":
    main(command_line(NAME, "Fall of the held-out loss in a LoRA training on the sample drive.").parse_args())
