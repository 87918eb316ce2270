"""Stores of every kind that the store supports, and rows to put in them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint


@pytest.fixture
def local_store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture(params=["memory", "gs"])
def object_store(request: pytest.FixtureRequest) -> ArtifactStore:
    if request.param == "memory":
        return ArtifactStore(f"memory://{uuid.uuid4().hex}")
    return ArtifactStore(request.getfixturevalue("gcs_folder"))


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder as `compute` would."""

    def write(**files: str) -> Path:
        folder = tmp_path / f"staged_{uuid.uuid4().hex}"
        (folder / "masks").mkdir(parents=True)
        for stem, text in files.items():
            (folder / "masks" / f"{stem}.txt").write_text(text)
        return folder

    return write


def fp(key: str = "clip.front", version: int = 1) -> str:
    return fingerprint(asset="road_masks", item_key=key, upstream={}, engine="classical 1", params={"v": version})
