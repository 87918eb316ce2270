"""A PhysicalAI mirror that grows while a code server has it open."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.partitions import look_at_source
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.clips.mirror import WIDE, write_mirror

pytest.importorskip("physical_ai_av")


def _held(platform: Platform, key: str) -> list[str]:
    return [ref.clip_id for ref in platform.store.chunk(key).clips]


def test_chunks_and_clips_that_the_index_names_later_are_found(tmp_path: Path) -> None:
    mirror = write_mirror(tmp_path / "mirror", {1: ["a"]})
    platform = Platform(Settings(root=str(tmp_path / "root"), source=str(mirror)))
    with dg.DagsterInstance.ephemeral() as instance:
        assert look_at_source(platform, instance).added == ("chunk_0001",)
        grown = write_mirror(tmp_path / "grown", {1: ["a", "b"], 2: ["c"]})
        shutil.copytree(grown, mirror, dirs_exist_ok=True)
        assert look_at_source(platform, instance).added == ("chunk_0002", "chunk_0001_part_02")
    assert _held(platform, "chunk_0001_part_02") == ["b"]
    assert platform.source().egomotion(platform.store.chunk("chunk_0002").clips[0]) is not None


def test_a_newer_snapshot_of_a_hugging_face_cache_is_found(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles"
    revisions = {"1" * 40: {1: ["a"]}, "2" * 40: {1: ["a"], 2: ["c"]}}
    (cache / "refs").mkdir(parents=True)
    source = None
    for revision, clips in revisions.items():
        write_mirror(cache / "snapshots" / revision, clips)
        (cache / "refs/main").write_text(revision)
        source = source or open_source(str(tmp_path), [WIDE])
        assert [listing.key for listing in source.chunks()] == [f"chunk_{chunk:04d}" for chunk in clips]


def test_a_chunk_was_touched_when_the_newest_of_its_files_came(tmp_path: Path) -> None:
    mirror = write_mirror(tmp_path / "mirror", {1: ["a"], 2: ["b"]})
    source = open_source(str(mirror), [WIDE])
    newest = mirror / "calibration/sensor_extrinsics/sensor_extrinsics.chunk_0001.parquet"
    # The time of writing is what copying tools carry over; when the file came is another.
    time.sleep(0.02)  # longer than a tick of the file system's clock
    os.utime(newest, (0, 0))
    touched = [listing.listed.touched for listing in source.chunks()]
    assert touched[0] == datetime.fromtimestamp(newest.stat().st_ctime, UTC)
    assert touched[1] is not None
    assert touched[0] > touched[1]
