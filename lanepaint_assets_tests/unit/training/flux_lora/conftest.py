"""What the suites of LoRA training share: one thread, for tiny networks, and one base model on disk."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(autouse=True, scope="package")
def libraries_are_no_garbage() -> Iterator[None]:
    """Each release of a model collects garbage, which takes half a second with all libraries to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that no test changes."""
    return save_tiny_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-Fill-dev")
