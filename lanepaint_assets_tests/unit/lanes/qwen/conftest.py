"""Qwen2.5-VL is tested on a tiny network in the released layout."""

from __future__ import annotations

from pathlib import Path

import pytest

import lanepaint_assets_tests.torchvision_ops  # noqa: F401


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL in the released layout; tests copy it before they change it."""
    from lanepaint_assets_tests.tiny_models.qwen import save_tiny_qwen

    return save_tiny_qwen(tmp_path_factory.mktemp("qwen") / "tiny")
