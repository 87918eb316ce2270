"""`raw_clips` in Dagster."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips.assets import build_assets
from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.partitions import register_membership
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings


def _failure(platform: Platform, instance: dg.DagsterInstance, key: str) -> str:
    """What a person reads of the step that failed."""
    result = dg.materialize(
        build_assets(), partition_key=key, instance=instance, resources={"platform": platform}, raise_on_error=False
    )
    (event,) = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    assert told is not None
    assert told.description is not None
    return told.description


@pytest.mark.parametrize("key", ["by_hand", "By Hand"])
def test_a_partition_that_is_no_chunk_fails_in_one_line_that_names_those_that_are(tmp_path: Path, key: str) -> None:
    platform = Platform(Settings(root=str(tmp_path)))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("clip_chunk", [key])
        told = _failure(platform, instance, key)
    assert told.startswith(f"chunk '{key}' is not registered below {tmp_path}")
    assert "\n" not in told


def test_a_source_that_is_away_fails_in_one_line(tmp_path: Path) -> None:
    platform = Platform(Settings(root=str(tmp_path / "root")))
    clip = ClipRef(clip_id="a", camera="camera_front_wide_120fov", uri="a.mp4", size=1, etag="1")
    with dg.DagsterInstance.ephemeral() as instance:
        register_membership(
            platform, instance, ChunkMembership(key="chunk_0001", source=str(tmp_path / "away"), clips=(clip,))
        )
        told = _failure(platform, instance, "chunk_0001")
    assert f"source '{tmp_path}/away'" in told
    assert "\n" not in told
