"""The model card of a LoRA, and the list of samples it was trained on: what it is, and where it comes from.

Called by `lora_steps.py`. Numbers come from there; nothing is measured here.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass

from lanepaint_assets.training.lora_log import ValidationLoss
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, Split

CARD_FILE = "README.md"
LINEAGE_FILE = "lineage.csv"


@dataclass(frozen=True)
class CardFacts:
    """What the card says besides the recipe.

    Attributes:
        style, caption: of the lane style.
        version: of the LoRA.
        base: digest of the base model's checkpoint.
        steps, steps_meant: done, and done without an early stop.
        first, last: validation losses of the base model and at the end; None without held-out samples.
    """

    style: str
    caption: str
    version: str
    base: str
    steps: int
    steps_meant: int
    first: ValidationLoss | None
    last: ValidationLoss | None


def lineage_csv(samples: Split) -> str:
    """Every sample with its fingerprint, and whether it was trained or measured on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sample", "clip", "fingerprint", "use"))
    for use, group in (("training", samples.training), ("held out", samples.held_out)):
        writer.writerows((sample.key, sample.clip, sample.fingerprint, use) for sample in group)
    return text.getvalue()


def model_card(facts: CardFacts, recipe: LoraRecipe, samples: Split) -> str:
    """The card as Markdown, with the head that model hubs read."""
    lineage = hashlib.sha256(lineage_csv(samples).encode()).hexdigest()
    stopped = f", ended early by request; {facts.steps_meant} were meant" if facts.steps < facts.steps_meant else ""
    settings = "\n".join(f"| {name} | {value} |" for name, value in recipe.params().items())
    return f"""---
base_model: black-forest-labs/FLUX.1-Fill-dev
library_name: diffusers
pipeline_tag: image-to-image
tags: [lora, inpainting, lane-markings]
license: other
---

# LoRA `{facts.style}`, version {facts.version}

Fine-tunes FLUX.1 Fill to paint "{facts.caption}" into the road of a driving picture. It loads through
`FluxFillPipeline.load_lora_weights`; scale 0 is the base model. It was made for first frames of clips, with a mask of
the whole road; on other pictures it is untested. The licence of the base model applies to it.

## Training

{facts.steps} steps{stopped}, on {len(samples.training)} samples of {_clips(samples.training)} clips.

{_loss_sentence(facts, samples)}

| setting | value |
|---|---|
{settings}

## Where it comes from

| | |
|---|---|
| base model's checkpoint | `{facts.base}` |
| samples | `{LINEAGE_FILE}`, SHA-256 `{lineage}` |

`{LINEAGE_FILE}` names every sample, its clip, and the fingerprint of the clip's samples, which covers the source video,
the segmenter and the inspector. Captions and masks were made by these engines, not by people.
"""


def _loss_sentence(facts: CardFacts, samples: Split) -> str:
    if facts.first is None or facts.last is None:
        return "No sample was held out, so nothing says how it does on pictures that it has not seen."
    change = 100.0 * (facts.last.loss / facts.first.loss - 1.0)
    where = "other clips" if samples.is_apart else "clips that it was trained on, too"
    return (
        f"Loss on up to 8 of {len(samples.held_out)} held-out samples of {_clips(samples.held_out)} {where}, with the "
        f"same noise: {facts.first.loss:.4f} for the base model, {facts.last.loss:.4f} at the end ({change:+.1f} %)."
    )


def _clips(samples: tuple[LoraSample, ...]) -> int:
    return len({sample.clip for sample in samples})
