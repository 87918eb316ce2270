"""What the suites of FLUX.1 Fill share: one thread, for tiny networks, and one checkpoint on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(autouse=True)
def own_residency(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the models of another."""
    monkeypatch.setattr(Residency, "_all", {})


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test changes."""
    return save_tiny_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-Fill-dev", shards=True)
