"""Two chunks that were made completely, after the sensors' first look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from lanepaint_assets_tests.unit.automation.world import World, two_chunks


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture(scope="session")
def first_look() -> dict[str, AssetDaemonCursor]:
    """What the sensors remember of it. The same for every instance that is filled in the same way."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = two_chunks(instance)
        assert made.tick() == {}
        return made.cursors


@pytest.fixture
def world(instance: dg.DagsterInstance, first_look: dict[str, AssetDaemonCursor]) -> World:
    """The two chunks after the first look."""
    made = two_chunks(instance)
    made.now += timedelta(seconds=60)
    made.cursors = dict(first_look)
    return made
