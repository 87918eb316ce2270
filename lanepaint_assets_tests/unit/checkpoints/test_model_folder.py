"""Checkpoints that are folders: complete ones are found, and each way of being incomplete is named by its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError, folder_digest, folder_mark
from lanepaint_assets.checkpoints.model_folder import local_model_folder


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_a_complete_local_folder_is_used_where_it_is(pipeline: Path) -> None:
    assert local_model_folder(UPath(pipeline)) == pipeline


def test_a_single_model_is_complete_with_its_configuration_and_weights(pipeline: Path) -> None:
    assert local_model_folder(UPath(pipeline / "vae")) == pipeline / "vae"


@pytest.mark.parametrize(
    "lost",
    [
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_missing_file_is_named(pipeline: Path, lost: str) -> None:
    (pipeline / lost).unlink()
    with pytest.raises(CheckpointError, match=rf"{lost}: this file of the checkpoint is missing"):
        local_model_folder(UPath(pipeline))


@pytest.mark.parametrize("part", ["vae", "scheduler", "tokenizer"])
def test_a_missing_part_is_named(pipeline: Path, part: str) -> None:
    for path in (pipeline / part).iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=f"{part}: this part of the checkpoint is missing"):
        local_model_folder(UPath(pipeline))


def test_files_of_tools_do_not_change_a_folders_digest(pipeline: Path) -> None:
    before = folder_digest(UPath(pipeline))
    (pipeline / ".cache").mkdir()
    (pipeline / ".cache" / "download.lock").write_text("")
    assert folder_digest(UPath(pipeline)) == before


@pytest.mark.parametrize("kept_bytes", [0, 5, 40, -1])
def test_weights_that_are_cut_short_are_named(pipeline: Path, kept_bytes: int) -> None:
    shard = pipeline / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=f"{shard.name}: this file of the checkpoint is damaged or cut short"):
        local_model_folder(UPath(pipeline))


def test_a_configuration_that_is_no_json_is_named(pipeline: Path) -> None:
    (pipeline / "vae" / "config.json").write_text('{"layers": ')
    with pytest.raises(CheckpointError, match=r"vae/config\.json: not readable as JSON"):
        local_model_folder(UPath(pipeline))


def test_an_absent_checkpoint_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"flux_inp: there is no such checkpoint"):
        local_model_folder(UPath(tmp_path / "flux_inp"))


def test_a_remote_folder_is_copied_once_and_checked_there(pipeline: Path, tmp_path: Path) -> None:
    remote = UPath("memory://checkpoints/flux_inp")
    for path in pipeline.rglob("*"):
        if path.is_file():
            (remote / path.relative_to(pipeline).as_posix()).write_bytes(path.read_bytes())
    copy = local_model_folder(remote, tmp_path / "cache")
    assert {path.relative_to(copy) for path in copy.rglob("*")} == {
        p.relative_to(pipeline) for p in pipeline.rglob("*")
    }
    first = (copy / "model_index.json").stat().st_ino
    assert local_model_folder(remote, tmp_path / "cache") == copy
    assert (copy / "model_index.json").stat().st_ino == first
    with pytest.raises(CheckpointError, match="needs a folder to be copied to"):
        local_model_folder(remote)


def test_a_folders_digest_follows_names_and_contents_and_not_the_place(pipeline: Path, tmp_path: Path) -> None:
    before = folder_digest(UPath(pipeline))
    moved = pipeline.rename(tmp_path / "elsewhere")
    assert folder_digest(UPath(moved)) == before
    (moved / "vae" / "config.json").rename(moved / "vae" / "other.json")
    assert folder_digest(UPath(moved)) != before
    with pytest.raises(CheckpointError, match="there is no checkpoint in this folder"):
        folder_digest(UPath(tmp_path / "empty"))


def test_a_folders_mark_changes_with_every_replaced_file(pipeline: Path) -> None:
    marks = [folder_mark(pipeline)]
    weights = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    marks.append(folder_mark(pipeline))
    (pipeline / "new.txt").write_text("")
    marks.append(folder_mark(pipeline))
    assert len(set(marks)) == 3
    assert folder_mark(pipeline) == marks[-1]
