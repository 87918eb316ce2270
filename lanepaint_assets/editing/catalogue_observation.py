"""What an observation says of the prompt catalogue: the version in force, and why a changed file is not taken.

Called by the editing stage's assets and the trigger of observations. A file that cannot be used, or a promoted LoRA
that is gone, leaves the version before in force: nothing downstream is asked for until it is mended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from lanepaint_assets.editing.catalogue import CatalogueError, Prompt, load_catalogue
from lanepaint_assets.editing.loras import catalogue_version, promoted_fingerprints
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.observed import Found, Observed, last_observed, record_observed

ASSET = "prompt_catalogue"


@dataclass(frozen=True)
class CatalogueObservation:
    """What is told of the catalogue.

    Attributes:
        state: what is in force.
        prompts: those that were read; none where the file cannot be used.
        with_lora: lane styles of them that have a LoRA.
    """

    state: Observed
    prompts: tuple[Prompt, ...]
    with_lora: frozenset[str]


def observe_catalogue(platform: Platform, now: datetime) -> CatalogueObservation:
    """Read the catalogue anew, whatever this process read before, and remember what was found."""
    found, prompts, styles = _read(platform)
    return CatalogueObservation(record_observed(platform.store, ASSET, found, now), prompts, styles)


def due_catalogue(platform: Platform, now: datetime) -> list[str]:  # noqa: ARG001  # nothing here waits for a time
    """The catalogue, if an observation would find it otherwise than the last one did."""
    last = last_observed(platform.store, ASSET)
    return [ASSET] if last is None or last.mark != _read(platform)[0].mark else []


def _read(platform: Platform) -> tuple[Found, tuple[Prompt, ...], frozenset[str]]:
    try:
        catalogue = load_catalogue(platform.settings.prompt_file)
        loras = promoted_fingerprints(platform.store, catalogue)
    except (CatalogueError, StoreError) as error:
        problem = str(error)
        return Found(hashlib.sha256(problem.encode()).hexdigest()[:16], None, problem), (), frozenset()
    version = catalogue_version(catalogue, loras)
    return Found(version, version), catalogue.prompts, frozenset(loras)
