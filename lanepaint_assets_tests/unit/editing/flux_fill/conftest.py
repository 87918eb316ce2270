"""What the suites of FLUX.1 Fill share: one thread, for tiny networks, and one checkpoint on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test changes."""
    return save_tiny_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-Fill-dev", shards=True)
