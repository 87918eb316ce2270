"""Checkpoints as folders of small files: made without any model library, in the released layouts."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lanepaint_assets.checkpoints import files

# The moment that tests call now; files lie long before it.
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def written(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pipeline(folder: Path, value: float = 1.0) -> Path:
    """A pipeline as diffusers saves it: one model in shards, one in a single file, and two parts without weights."""
    components = {"transformer": ["diffusers", "T"], "vae": ["diffusers", "V"], "scheduler": ["diffusers", "S"]}
    written(
        folder / "model_index.json",
        {"_class_name": "P", **components, "tokenizer": ["transformers", "K"], "safety_checker": [None, None]},
    )
    written(folder / "transformer" / "config.json", {"_diffusers_version": "0"})
    shards = {
        "a": "diffusion_pytorch_model-00001-of-00002.safetensors",
        "b": "diffusion_pytorch_model-00002-of-00002.safetensors",
    }
    written(folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json", {"weight_map": shards})
    for name, shard in shards.items():
        save_file({name: np.full((4, 4), value, np.float32)}, folder / "transformer" / shard)
    written(folder / "vae" / "config.json", {"_diffusers_version": "0"})
    save_file({"c": np.ones(3, np.float32)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    written(folder / "scheduler" / "scheduler_config.json", {})
    written(folder / "tokenizer" / "tokenizer_config.json", {})
    return folder


def write_torch_file(path: Path, content: bytes = b"weights") -> Path:
    """An archive as torch.save writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", b"\x80\x02.")
        archive.writestr(f"{path.stem}/data/0", content)
    return path


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "pipeline")


def age(folder: Path, moment: float) -> None:
    """Give every file a time of its own choice; the kernel's time of change cannot be set."""
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the files whose content was read; what this process remembers is forgotten before and after."""
    names: list[str] = []
    real = files._read_digest

    def reading(path: Any) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(files, "_read_digest", reading)
    files._digest.cache_clear()
    yield names
    files._digest.cache_clear()
