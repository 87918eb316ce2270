"""Tests of the video model run on tiny networks, for which a second thread is a hindrance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lanepaint_assets_tests import torchvision_ops  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
