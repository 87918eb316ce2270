"""Which LoRA a style is painted with."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.promoted_loras import ASSET, WEIGHTS_FILE, promote, promoted_lora

STYLE, OTHER = "single_white_solid", "double_yellow_solid"
BASE = "ba" * 32


def version(store: ArtifactStore, folder: Path, number: int) -> ItemRow:
    folder.mkdir()
    (folder / WEIGHTS_FILE).write_text(f"weights {number}")
    key, made_from = f"v{number}", f"{number:064x}"
    below, files = store.publish(ASSET, STYLE, key, made_from, folder)
    return ItemRow(
        key=key, fingerprint=made_from, status="ok", folder=below, files=files, facts={"base": BASE}, run_id="r"
    )


def test_a_style_has_the_lora_promoted_last_and_other_styles_have_none(store: ArtifactStore, tmp_path: Path) -> None:
    assert promoted_lora(store, STYLE) is None
    first, second = version(store, tmp_path / "1", 1), version(store, tmp_path / "2", 2)
    for row, by in ((first, "training"), (second, "person"), (first, "person")):
        promote(store, STYLE, row, by)  # type: ignore[arg-type]
        found = promoted_lora(store, STYLE)
        assert found is not None
        assert (found.version, found.fingerprint, found.base, found.promoted_by) == (row.key, row.fingerprint, BASE, by)
        assert found.path.read_text() == f"weights {row.key[1]}"
    assert promoted_lora(store, OTHER) is None


def test_a_row_without_weights_is_not_promoted(store: ArtifactStore) -> None:
    failed = ItemRow(key="v1", fingerprint="1" * 64, status="failed", reason="no samples", run_id="r")
    with pytest.raises(StoreError, match="no samples"):
        promote(store, STYLE, failed, "person")
    assert promoted_lora(store, STYLE) is None


def test_a_promoted_lora_that_is_gone_is_said_with_the_remedy(local_store: ArtifactStore, tmp_path: Path) -> None:
    promote(local_store, STYLE, version(local_store, tmp_path / "1", 1), "training")
    found = promoted_lora(local_store, STYLE)
    assert found is not None
    found.path.unlink()
    with pytest.raises(StoreError, match=f"lanepaint loras promote {STYLE}"):
        promoted_lora(local_store, STYLE)


def test_a_pointer_that_is_no_pointer_is_said(local_store: ArtifactStore) -> None:
    file = Path(local_store.root.path) / f"outputs/training/{STYLE}/promoted_lora.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with pytest.raises(StoreError, match="names no LoRA"):
        promoted_lora(local_store, STYLE)
