"""The digest of a checkpoint: changes with its files, and with nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.checkpoints.digest import ABSENT, CONTENT_BELOW_BYTES, checkpoint_state

SECOND_US = 1_700_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sam2"
    (made / "configs").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"\0" * (CONTENT_BELOW_BYTES + 1))
    (made / "configs" / "model.yaml").write_text("layers: 4")
    for path in made.rglob("*"):
        os.utime(path, (SECOND_US, SECOND_US))
    return made


def test_a_missing_or_empty_folder_is_absent(tmp_path: Path) -> None:
    assert checkpoint_state(UPath(tmp_path / "none")).digest == ABSENT
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    state = checkpoint_state(UPath(tmp_path / "empty"))
    assert (state.digest, state.files, state.size) == (ABSENT, 0, 0)


def test_the_same_files_have_the_same_digest_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    state = checkpoint_state(UPath(folder))
    assert state.files == 2
    assert state.size == CONTENT_BELOW_BYTES + 1 + len("layers: 4")
    assert checkpoint_state(UPath(folder)) == state
    elsewhere = tmp_path / "moved" / "to"
    shutil.copytree(folder, elsewhere)  # keeps times
    assert checkpoint_state(UPath(elsewhere)) == state


def test_a_small_file_rewritten_within_the_same_second_changes_the_digest(folder: Path) -> None:
    before = checkpoint_state(UPath(folder)).digest
    config = folder / "configs" / "model.yaml"
    config.write_text("layers: 5")
    os.utime(config, (SECOND_US, SECOND_US))
    assert checkpoint_state(UPath(folder)).digest != before


def test_a_new_time_of_a_large_file_changes_the_digest(folder: Path) -> None:
    before = checkpoint_state(UPath(folder)).digest
    os.utime(folder / "model.safetensors", (SECOND_US + 60, SECOND_US + 60))
    assert checkpoint_state(UPath(folder)).digest != before


def test_a_renamed_file_changes_the_digest(folder: Path) -> None:
    before = checkpoint_state(UPath(folder)).digest
    (folder / "model.safetensors").rename(folder / "model_2.safetensors")
    assert checkpoint_state(UPath(folder)).digest != before


def test_a_checkpoint_in_memory_is_observed_too() -> None:
    folder = UPath("memory://checkpoints_test/sam2")
    assert checkpoint_state(folder).digest == ABSENT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text("layers: 4")
    state = checkpoint_state(folder)
    assert state.files == 1
    assert state.digest != ABSENT
