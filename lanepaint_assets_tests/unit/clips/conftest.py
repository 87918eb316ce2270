"""What tests of the sensor `new_chunks` begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets_tests.unit.clips.discovery import Discovery, keys


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def discovery(tmp_path: Path, instance: dg.DagsterInstance) -> Discovery:
    """A source without chunks."""
    return Discovery(tmp_path, instance)


@pytest.fixture
def made(discovery: Discovery) -> Discovery:
    """Two chunks whose `raw_clips` are made."""
    for chunk in ("chunk_0000", "chunk_0001"):
        discovery.add(chunk)
    discovery.tick()
    for chunk in ("chunk_0000", "chunk_0001"):
        discovery.make(chunk)
    assert keys(discovery.tick()) == []
    return discovery
