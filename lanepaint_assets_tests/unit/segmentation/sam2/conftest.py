"""SAM 2 is tested on tiny networks."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...
