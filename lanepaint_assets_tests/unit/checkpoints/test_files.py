"""Digests of contents: the same for the same bytes, read once a machine, and read again whenever a file changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.checkpoints import files
from lanepaint_assets.checkpoints.files import CheckpointError, file_digest, folder_digest

CONTENT = b"weights" * 100


@pytest.fixture(autouse=True)
def _small_files_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "REMEMBERED_BYTES", 100)


def new_process() -> None:
    files._digest.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_another_process_does_not_read_a_large_file_again(weights: Path, tmp_path: Path, read: list[str]) -> None:
    (weights.parent / "config.json").write_text("{}")
    first = folder_digest(UPath(weights.parent), tmp_path / "cache")
    assert sorted(read) == ["config.json", "model.safetensors"]
    new_process()
    assert folder_digest(UPath(weights.parent), tmp_path / "cache") == first
    assert sorted(read) == ["config.json", "config.json", "model.safetensors"]
    new_process()
    assert folder_digest(UPath(weights.parent)) == first
    assert read.count("model.safetensors") == 2


def test_a_file_of_the_same_size_and_time_is_read_again_where_it_was_replaced(
    weights: Path, tmp_path: Path, read: list[str]
) -> None:
    file_digest(UPath(weights), tmp_path / "cache")
    state = weights.stat()
    weights.write_bytes(CONTENT[::-1])
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    new_process()
    assert file_digest(UPath(weights), tmp_path / "cache") == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert len(read) == 2


def test_a_copy_elsewhere_has_the_same_digest(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights.parent, tmp_path / "copy", copy_function=shutil.copy)
    assert folder_digest(UPath(tmp_path / "copy")) == folder_digest(UPath(weights.parent))


@pytest.mark.parametrize("note", ["", "half", "a b c", f"{'0' * 64} {'1' * 64}"])
def test_a_damaged_note_is_not_believed(weights: Path, tmp_path: Path, read: list[str], note: str) -> None:
    expected = file_digest(UPath(weights), tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    kept.write_text(note)
    new_process()
    assert file_digest(UPath(weights), tmp_path / "cache") == expected
    assert len(read) == 2


def test_a_file_that_changes_while_it_is_read_leaves_no_note(
    weights: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter("ab")
    monkeypatch.setattr(files, "_state", lambda _: next(states))
    file_digest(UPath(weights), tmp_path / "cache")
    assert not (tmp_path / "cache" / "digests").exists()


def test_a_file_in_memory_is_read_by_every_process(tmp_path: Path, read: list[str]) -> None:
    path = UPath("memory://test_files/model.safetensors")
    path.write_bytes(CONTENT)
    for _ in range(2):
        new_process()
        assert file_digest(path, tmp_path / "cache") == hashlib.sha256(CONTENT).hexdigest()
    assert len(read) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt: there is no such checkpoint"):
        file_digest(UPath(tmp_path / "none.pt"))


def test_a_cache_that_cannot_be_written_costs_only_time(weights: Path, tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    assert file_digest(UPath(weights), tmp_path / "cache") == hashlib.sha256(CONTENT).hexdigest()
