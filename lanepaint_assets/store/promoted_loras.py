"""Which LoRA each lane style is painted with: a pointer a style, changed in one atomic step.

Written by training and by `lanepaint loras promote`, read by editing. How a LoRA is made and used is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from upath import UPath

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.layout import area, check_chunk_key, check_fingerprint
from lanepaint_assets.store.manifest import ItemRow, RelativePath
from lanepaint_assets.store.replace import atomic_file

ASSET = "lane_loras"
# The checkpoint that LoRAs are trained on and paint with.
BASE_ASSET = "flux_fill_checkpoint"

# The name under which diffusers looks for a LoRA in a folder.
WEIGHTS_FILE = "pytorch_lora_weights.safetensors"

PromotedBy = Literal["training", "person"]

_Digest = Annotated[str, AfterValidator(check_fingerprint)]


class _Pointer(BaseModel):
    """Content of a style's pointer file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: str
    version: str
    fingerprint: _Digest
    base: _Digest
    file: RelativePath
    promoted_by: PromotedBy


@dataclass(frozen=True)
class PromotedLora:
    """The LoRA of a lane style.

    Attributes:
        style: key of the lane style.
        version: its item key in `lane_loras`.
        path: weights in diffusers' format, in the store; local only where the store is.
        fingerprint: what it was made from: samples, base model and recipe.
        base: digest of the base model's checkpoint; on any other model it is worth nothing.
        promoted_by: a finished training, or a person.
    """

    style: str
    version: str
    path: UPath
    fingerprint: str
    base: str
    promoted_by: PromotedBy


def promoted_lora(store: ArtifactStore, style_key: str) -> PromotedLora | None:
    """The LoRA of a lane style; None where none was promoted: the style is painted with the base model.

    Raises:
        StoreError: the pointer cannot be read, or its LoRA is no longer in the store.
    """
    path = store.root / _pointer_path(style_key)
    content = atomic_file(path).read()
    if content is None:
        return None
    try:
        pointer = _Pointer.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(
            f"{path} names no LoRA ({error.errors()[0]['msg']}); delete it, or promote one anew"
        ) from error
    weights = store.root / pointer.file
    if not weights.exists():
        raise StoreError(
            f"{weights}, the promoted LoRA of {style_key}, is gone; promote another one with `lanepaint loras promote "
            f"{style_key}`, or delete {path}"
        )
    return PromotedLora(
        style=style_key,
        version=pointer.version,
        path=weights,
        fingerprint=pointer.fingerprint,
        base=pointer.base,
        promoted_by=pointer.promoted_by,
    )


def promote(store: ArtifactStore, style_key: str, row: ItemRow, promoted_by: PromotedBy) -> None:
    """Make a finished row of `lane_loras` the LoRA of its style.

    Raises:
        StoreError: the row holds no LoRA.
    """
    base = row.facts.get("base")
    names = {record.name for record in row.files}
    if not row.has_result or WEIGHTS_FILE not in names or not isinstance(base, str):
        raise StoreError(f"version {row.key} of {style_key} holds no LoRA: {row.reason or 'it has no weights'}")
    pointer = _Pointer(
        style=style_key,
        version=row.key,
        fingerprint=row.fingerprint,
        base=base,
        file=f"{row.folder}/{WEIGHTS_FILE}",
        promoted_by=promoted_by,
    )
    content = pointer.model_dump_json(indent=1).encode()
    atomic_file(store.root / _pointer_path(style_key)).update(lambda _: content)


def _pointer_path(style_key: str) -> str:
    return f"outputs/{area(ASSET)}/{check_chunk_key(style_key)}/promoted_lora.json"
