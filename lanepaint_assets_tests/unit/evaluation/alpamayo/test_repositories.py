"""The three repositories on disk: found in either layout, named when they are missing, shown as a cache of the hub."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from huggingface_hub import hf_hub_download
from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.evaluation.alpamayo.repositories import local_checkpoint
from lanepaint_assets.evaluation.alpamayo.worker import offline_hub
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import save_checkpoint


def as_hub_cache(folder: Path, name: str) -> None:
    """Move a plain download to where the hub's own cache would keep it."""
    organization = "nvidia" if name.startswith("Alpamayo") else "Qwen"
    cached = folder / f"models--{organization}--{name}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("c0ffee")
    (cached / "snapshots").mkdir()
    (folder / name).rename(cached / "snapshots" / "c0ffee")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("Alpamayo-R1-10B", "nvidia/Alpamayo-R1-10B"),
        ("Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
        ("Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
    ],
)
def test_the_missing_repository_is_named_with_the_command_that_gets_it(
    tmp_path: Path, name: str, repository: str
) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(CheckpointError) as missing:
        local_checkpoint(UPath(folder), "r1", None)
    assert f"{repository} is missing of the three repositories" in str(missing.value)
    assert f"hf download {repository}" in str(missing.value)


def test_the_other_release_needs_its_own_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nvidia/Alpamayo-1\.5-10B is missing"):
        local_checkpoint(UPath(save_checkpoint(tmp_path)), "1.5", None)


def test_a_half_copied_repository_is_named_by_its_file(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path)
    (folder / "Qwen3-VL-2B-Instruct" / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: this file of Qwen/Qwen3-VL-2B-Instruct"):
        local_checkpoint(UPath(folder), "r1", None)


def test_weights_that_are_cut_short_are_named(tmp_path: Path) -> None:
    weights = save_checkpoint(tmp_path) / "Alpamayo-R1-10B" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* damaged or cut short"):
        local_checkpoint(UPath(tmp_path), "r1", None)


@pytest.mark.parametrize("cached", [False, True])
def test_the_packages_libraries_find_the_companions_without_network(tmp_path: Path, cached: bool) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint")
    (folder / "Qwen3-VL-8B-Instruct" / "model-00001-of-00004.safetensors").write_bytes(b"not read")
    if cached:
        for name in ("Alpamayo-R1-10B", "Qwen3-VL-8B-Instruct", "Qwen3-VL-2B-Instruct"):
            as_hub_cache(folder, name)
    found = local_checkpoint(UPath(folder), "r1", None)
    assert (found.weights / "model.safetensors").exists()
    found.link(tmp_path / "hub")
    with offline_hub(tmp_path / "hub"):
        for repository in ("Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"):
            assert Path(hf_hub_download(repository, "tokenizer_config.json")).read_text() == '{"stand_in": true}'
    assert not list((tmp_path / "hub").rglob("*.safetensors"))


def test_the_hub_is_as_it_was_afterwards(tmp_path: Path) -> None:
    from huggingface_hub import constants

    before = (constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE)
    with patch.dict(os.environ, {"HF_HUB_CACHE": "mine"}):
        os.environ.pop("HF_HUB_OFFLINE", None)
        with offline_hub(tmp_path):
            assert os.environ["HF_HUB_CACHE"] == str(tmp_path)
            assert constants.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_CACHE"] == "mine"
        assert "HF_HUB_OFFLINE" not in os.environ
    assert before == (constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE)


def test_a_remote_checkpoint_is_copied_once(tmp_path: Path) -> None:
    remote = UPath("memory://alpamayo-checkpoint")
    local = save_checkpoint(tmp_path / "checkpoint")
    for path in local.rglob("*"):
        if path.is_file():
            target = remote / path.relative_to(local).as_posix()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    found = local_checkpoint(remote, "r1", tmp_path / "cache")
    assert found.weights.is_relative_to(tmp_path / "cache")
    found.link(tmp_path / "hub")
    with offline_hub(tmp_path / "hub"):
        assert Path(hf_hub_download("Qwen/Qwen3-VL-8B-Instruct", "config.json")).read_text() == '{"stand_in": true}'
