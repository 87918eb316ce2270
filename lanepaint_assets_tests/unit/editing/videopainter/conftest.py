"""The video model is tested on tiny networks."""

from __future__ import annotations

import pytest

from lanepaint_assets_tests import torchvision_ops  # noqa: F401


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...
