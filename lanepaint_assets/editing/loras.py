"""Which LoRA an edit is painted with: a person's file for all prompts, or the one promoted for the prompt's lane style.

Called by the editing steps and the command line. How LoRAs are made is the training stage's, how one is loaded the
engine's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upath import UPath

from lanepaint_assets.checkpoints.files import file_digest, local_file
from lanepaint_assets.editing.catalogue import Prompt, PromptCatalogue
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import canonical_json
from lanepaint_assets.store.promoted_loras import BASE_ASSET, promoted_lora

if TYPE_CHECKING:
    from lanepaint_assets.editing.engine import LoraWeights


@dataclass(frozen=True)
class ChosenLora:
    """A LoRA before it is needed: where it is, what identifies it, how strongly it acts.

    Attributes:
        path: the file, local or remote.
        digest: of its content, or of what it was made from; enters fingerprints.
        scale: 1 as trained, 0 not at all.
        refusal: why it may not be used; None where it may.
    """

    path: UPath
    digest: str
    scale: float
    refusal: str | None = None

    def weights(self, platform: Platform) -> LoraWeights:
        """The LoRA on this machine's disk."""
        from lanepaint_assets.editing.engine import LoraWeights

        return LoraWeights(local_file(self.path, platform.settings.cache_folder), self.scale)


def chosen_lora(platform: Platform, prompt: Prompt) -> ChosenLora | None:
    """The LoRA of a prompt; None where the painter has no model to adapt, or where no LoRA is promoted.

    Raises:
        CheckpointError: the file that the settings name is not there.
        StoreError: a promoted LoRA is gone or its pointer damaged.
    """
    settings = platform.settings
    if not platform.entry("first_frame_painter").takes_loras:
        return None
    if settings.flux_lora is not None:
        path = UPath(settings.flux_lora)
        return ChosenLora(path, file_digest(path), settings.flux_lora_scale)
    found = None if prompt.lora_style is None else promoted_lora(platform.store, prompt.lora_style)
    if found is None:
        return None
    refusal = None
    if found.base != platform.checkpoint_digests("first_frame_painter")[BASE_ASSET]:
        refusal = (
            f"the LoRA {found.version} of {found.style} was trained on another FLUX.1 Fill checkpoint than the one in "
            "use; train it again, or put the other checkpoint back"
        )
    return ChosenLora(found.path, found.fingerprint, settings.flux_lora_scale, refusal)


def promoted_fingerprints(store: ArtifactStore, catalogue: PromptCatalogue) -> dict[str, str]:
    """Fingerprint of the LoRA in use of each lane style that the catalogue names, where there is one.

    Raises:
        StoreError: a promoted LoRA is gone or its pointer damaged.
    """
    styles = sorted({prompt.lora_style for prompt in catalogue.prompts if prompt.lora_style is not None})
    promoted = {style: promoted_lora(store, style) for style in styles}
    return {style: lora.fingerprint for style, lora in promoted.items() if lora is not None}


def catalogue_version(catalogue: PromptCatalogue, loras: Mapping[str, str]) -> str:
    """Data version of `prompt_catalogue`: changes with a prompt's fields and with a style's LoRA."""
    content = canonical_json({"prompts": catalogue.digest, "loras": loras})
    return hashlib.sha256(content.encode("ascii")).hexdigest()
