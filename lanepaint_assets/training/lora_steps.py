"""What `lane_loras` does, without Dagster: a lane style's samples become its LoRA, and that becomes the one in use.

A partition is a lane style, its items are versions: trainings of other samples, settings or base models. How a LoRA is
trained is `flux_lora/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, StepError, run_items
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.promoted_loras import ASSET, BASE_ASSET, PromotedLora, promote, promoted_lora
from lanepaint_assets.training.filter_steps import style_removals
from lanepaint_assets.training.lora_card import CARD_FILE, LINEAGE_FILE, CardFacts, lineage_csv, model_card
from lanepaint_assets.training.lora_checkpoints import CheckpointShelf, version_of
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, Split, split
from lanepaint_assets.training.samples import StoredSample, style_samples

# Raise when the objective, the layers or the examples change.
LANE_LORAS_VERSION = "1"
ENGINE = f"flux_lora/{LANE_LORAS_VERSION}"


CURVE_FILE = "loss.png"
PICTURES_FOLDER = "pictures"
TENSORBOARD_FOLDER = "tensorboard"


@dataclass(frozen=True)
class LoraOutcome:
    """What a materialization came to.

    Attributes:
        partition: as of every asset.
        row: of the version that the samples and settings call for now.
        in_use: the style's LoRA afterwards; None where none was ever promoted.
    """

    partition: PartitionOutcome
    row: ItemRow
    in_use: PromotedLora | None


def make_lane_lora(platform: Platform, style: LaneStyle, run_id: str) -> LoraOutcome:
    """Train the LoRA of a lane style, or go on where a killed training left off, and promote it.

    Raises:
        StepError: there are no samples, no base model, or the training failed as a whole.
    """
    base_folder = platform.mounted_checkpoint(BASE_ASSET)
    samples = lora_samples(platform, style)
    recipe = LoraRecipe.of(platform.settings)
    base = platform.checkpoint_digest(BASE_ASSET)
    training = fingerprint(
        asset=ASSET,
        item_key=style.key,
        upstream={sample.key: f"{sample.fingerprint} {sample.prompt} {sample.prompt_2}" for sample in samples},
        engine=ENGINE,
        checkpoints={BASE_ASSET: base},
        params=recipe.params(),
    )
    task = ItemTask(key=version_of(training), fingerprint=training, engine=ENGINE)
    outcome = run_items(
        platform.store,
        ASSET,
        style.key,
        [task],
        _Training(platform, style, split(samples, recipe.validation_share), recipe, base_folder, base, run_id).compute,
        run_id=run_id,
        progress=platform.progress_for(ASSET),
    )
    row = outcome.manifest.rows[task.key]
    if row.status != "ok":
        raise StepError(f"the LoRA of {style.key} could not be trained: {row.reason}")
    CheckpointShelf(platform.store, style.key, training, run_id).discard()
    _promote(platform, style.key, row, trained_now=task.key in outcome.computed)
    return LoraOutcome(outcome, row, promoted_lora(platform.store, style.key))


def _promote(platform: Platform, style_key: str, row: ItemRow, *, trained_now: bool) -> None:
    """Put a finished training in use, unless people do that, or a person ended it early."""
    if platform.settings.lora_promotion == "manual" or row.facts["stopped"]:
        return
    current = promoted_lora(platform.store, style_key)
    # A person's choice stands until a new training finishes. A run that was killed between finishing and promoting is
    # made up for by the next one.
    if trained_now or current is None or (current.promoted_by == "training" and current.version != row.key):
        promote(platform.store, style_key, row, "training")


def lora_samples(platform: Platform, style: LaneStyle) -> list[LoraSample]:
    """The samples of a lane style in all chunks that are complete now.

    Raises:
        StepError: there are none; the message says which rules removed how many.
    """
    stored = style_samples(platform, style.key)
    if not stored:
        counts = style_removals(platform, style.key)
        raise StepError(
            f"no samples to train the LoRA of {style.key} on: {counts}; materialize filtered_samples of more chunks"
        )
    return [_sample(platform, sample) for sample in stored]


def _sample(platform: Platform, stored: StoredSample) -> LoraSample:
    facts = stored.sample.facts
    assert facts is not None, "samples in the store have facts"

    def read() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        from lanepaint_assets.clips.pictures import read_picture

        picture = read_picture(stored.read_image(platform.store), stored.image_name)
        mask = read_picture(stored.read_mask(platform.store), stored.mask_name)
        return picture, mask[..., 0] > 127

    return LoraSample(
        key=f"{facts.chunk}/{stored.row.key}/{stored.image_name}",
        clip=f"{facts.chunk}/{facts.item}",
        fingerprint=stored.fingerprint,
        prompt=stored.prompt,
        prompt_2=stored.prompt_2,
        read=read,
    )


@dataclass(frozen=True)
class _Training:
    """One training, as `run_items` has it computed.

    Attributes:
        base_folder, base: the base model's checkpoint and its digest.
    """

    platform: Platform
    style: LaneStyle
    samples: Split
    recipe: LoraRecipe
    base_folder: UPath
    base: str
    run_id: str

    def compute(self, task: ItemTask, folder: Path) -> ItemOutput:
        try:
            from lanepaint_assets.checkpoints.model_folder import local_model_folder
            from lanepaint_assets.torch_models.devices import pick_device, use_kernel_cache
            from lanepaint_assets.training.flux_lora.run import RESULT_FILE, TrainingJob, train_lora, write_tensorboard
        except ImportError as error:
            raise StepError(f"training needs {error.name}: install lanepaint with the extra 'train'") from error

        settings = self.platform.settings
        started = perf_counter()
        use_kernel_cache(settings.cache_folder)
        with TemporaryDirectory(prefix="lanepaint-lora-") as scratch:
            examples = Path(scratch) / "examples"
            examples.mkdir()
            job = TrainingJob(
                model=local_model_folder(self.base_folder, settings.cache_folder),
                store_root=str(self.platform.store.root),
                style=self.style.key,
                training=task.fingerprint,
                run_id=self.run_id,
                recipe=self.recipe,
                checkpoint_steps=settings.lora_checkpoint_steps,
                validation_steps=settings.lora_validation_steps,
                pictures=settings.lora_pictures,
                device=pick_device(settings.flux_device),
                budget_gib=settings.gpu_memory_gib,
                memory_gib=settings.lora_memory_gib,
                compiled=settings.lora_compile,
                examples=examples,
                scratch=Path(scratch),
                out=folder,
            )
            try:
                result = train_lora(job, self.samples, self.platform.store)
            except ItemError as error:
                # The one item of its partition: what stops it is said as the step's failure, not as a share of items.
                raise StepError(str(error)) from error
        losses = LossLog.read(folder)
        (folder / RESULT_FILE).unlink()
        (folder / CURVE_FILE).write_bytes(losses.curve_png(f"LoRA {self.style.key} {task.key}"))
        (folder / LINEAGE_FILE).write_text(lineage_csv(self.samples))
        first, last = (losses.validation[0], losses.validation[-1]) if losses.validation else (None, None)
        card = CardFacts(
            self.style.key, self.style.caption, task.key, self.base, result.steps, result.steps_meant, first, last
        )
        (folder / CARD_FILE).write_text(model_card(card, self.recipe, self.samples))
        has_tensorboard = write_tensorboard(folder / TENSORBOARD_FOLDER, losses)
        return ItemOutput(
            facts={
                "samples": len(self.samples.training),
                "held_out": len(self.samples.held_out),
                "steps": result.steps,
                "stopped": result.stopped,
                "base": self.base,
                "loss_before": None if first is None else first.loss,
                "loss_after": None if last is None else last.loss,
                "tensorboard": has_tensorboard,
            },
            timings_s={"train": perf_counter() - started},
        )
