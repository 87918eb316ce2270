"""Digests of a bucket's checkpoints: read once by anybody, believed for that very object, also through a mount."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.checkpoints import files as files_module
from lanepaint_assets.checkpoints.digest import list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError, folder_digest
from lanepaint_assets.checkpoints.known_digests import KnownDigests
from lanepaint_assets.store.artifacts import ArtifactStore

COG = "cogvideox_checkpoint"
CONTENT = b"weights" * 100


@pytest.fixture
def known(gcs_folder: str, tmp_path: Path) -> KnownDigests:
    """Of a checkpoint of two files in a bucket."""
    made = KnownDigests(ArtifactStore(gcs_folder), COG, tmp_path / "cache")
    (made.folder / "config.json").write_text("{}")
    (made.folder / "model.safetensors").write_bytes(CONTENT)
    return made


def elsewhere(known: KnownDigests, tmp_path: Path) -> KnownDigests:
    """As another process on another machine has it."""
    files_module._digest.cache_clear()
    return KnownDigests(ArtifactStore(str(known.store.root)), known.asset, tmp_path / "another_cache")


def mount(known: KnownDigests, folder: Path) -> UPath:
    """What a read-only mount of the bucket shows: its objects, with their times."""
    for each in list_checkpoint(known.folder).files:
        shown = folder / each.name
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_bytes((known.folder / each.name).read_bytes())
        os.utime(shown, (each.touched.timestamp(),) * 2)
    return UPath(folder)


def test_the_digest_is_that_of_the_contents_and_another_machine_reads_nothing(
    known: KnownDigests, tmp_path: Path, read: list[str]
) -> None:
    expected = folder_digest(known.folder)
    files_module._digest.cache_clear()
    read.clear()
    assert known.digest(known.folder, None) == expected
    assert sorted(read) == ["config.json", "model.safetensors"]
    assert elsewhere(known, tmp_path).digest(known.folder, None) == expected
    assert len(read) == 2


def test_a_checkpoint_of_one_file_has_the_digest_of_that_file(
    known: KnownDigests, tmp_path: Path, read: list[str]
) -> None:
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert known.digest(known.folder, "model.safetensors") == expected
    assert elsewhere(known, tmp_path).digest(known.folder, "model.safetensors") == expected
    assert read == ["model.safetensors"]
    with pytest.raises(CheckpointError, match=r"none\.pt: there is no such checkpoint"):
        known.digest(known.folder, "none.pt")


def test_an_object_that_is_written_anew_is_read_anew_whatever_its_size(
    known: KnownDigests, tmp_path: Path, read: list[str]
) -> None:
    before = known.digest(known.folder, None)
    (known.folder / "model.safetensors").write_bytes(CONTENT[::-1])
    read.clear()
    after = elsewhere(known, tmp_path).digest(known.folder, None)
    assert read == ["model.safetensors"]
    assert after == folder_digest(known.folder) != before


def test_through_a_mount_nothing_is_read_that_is_known(known: KnownDigests, tmp_path: Path, read: list[str]) -> None:
    expected = known.digest(known.folder, None)
    mounted = mount(known, tmp_path / "mount")
    read.clear()
    assert elsewhere(known, tmp_path).digest(mounted, None) == expected
    assert read == []


def test_what_is_read_through_a_mount_is_known_to_the_next(
    known: KnownDigests, tmp_path: Path, read: list[str]
) -> None:
    mounted = mount(known, tmp_path / "mount")
    expected = known.digest(mounted, None)
    assert len(read) == 2
    assert elsewhere(known, tmp_path).digest(mounted, None) == expected
    assert len(read) == 2


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"more"])
def test_a_mount_that_shows_an_older_state_than_the_bucket_is_read(
    known: KnownDigests, tmp_path: Path, read: list[str], content: bytes
) -> None:
    mounted = mount(known, tmp_path / "mount")
    (known.folder / "model.safetensors").write_bytes(content)
    new = known.digest(known.folder, None)
    read.clear()
    shown = elsewhere(known, tmp_path).digest(mounted, None)
    assert "model.safetensors" in read
    assert shown == folder_digest(mounted) != new
    assert elsewhere(known, tmp_path).digest(known.folder, None) == new


def test_a_copy_is_read_whatever_is_known_of_the_bucket(known: KnownDigests, tmp_path: Path, read: list[str]) -> None:
    known.digest(known.folder, None)
    copy = mount(known, tmp_path / "copy")
    (Path(copy.path) / "model.safetensors").write_bytes(CONTENT[::-1])
    assert known.digest(copy, None) == folder_digest(copy)


def test_an_object_that_changes_while_it_is_read_is_known_by_nothing(
    known: KnownDigests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files_module._read_digest

    def replaced_while_read(path: UPath) -> str:
        digest = real(path)
        if path.name == "model.safetensors":
            path.write_bytes(CONTENT[::-1])
        return digest

    with monkeypatch.context() as patched:
        patched.setattr(files_module, "_read_digest", replaced_while_read)
        old = known.digest(known.folder, None)
    assert elsewhere(known, tmp_path).digest(known.folder, None) == folder_digest(known.folder) != old


@pytest.mark.parametrize("note", [b"", b"half {", b'{"files": {"model.safetensors": ["x"]}}'])
def test_a_damaged_note_is_not_believed(known: KnownDigests, tmp_path: Path, note: bytes) -> None:
    expected = known.digest(known.folder, None)
    (known.store.root / "observed" / "digests" / f"{COG}.json").write_bytes(note)
    assert elsewhere(known, tmp_path).digest(known.folder, None) == expected


def test_a_root_on_this_disk_keeps_no_such_notes(tmp_path: Path) -> None:
    local = KnownDigests(ArtifactStore(str(tmp_path / "root")), COG, tmp_path / "cache")
    Path(local.folder.path).mkdir(parents=True)
    (local.folder / "model.safetensors").write_bytes(CONTENT)
    assert local.digest(local.folder, None) == folder_digest(local.folder)
    assert not (tmp_path / "root" / "observed").exists()
