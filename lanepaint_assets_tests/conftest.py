"""Fixtures that more than one suite needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and pictures; its licences forbid committing it, so it may be absent."""
    folder = Path(os.environ.get("LANEPAINT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set LANEPAINT_TEST_DATA to a folder that has them")
    return folder
