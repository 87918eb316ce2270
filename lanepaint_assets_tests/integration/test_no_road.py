"""Clips that show no road: told with a reason, never painted, and no harm to the chunk's other clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.classical import ClassicalRoadSegmenter
from lanepaint_assets_tests.fixtures import FEW_FRAMES, Graph

CAMERA = "camera_front_wide_120fov"


class ClassicalGraph(Graph):
    """The graph with the real segmenter: it is the one that can be wrong about a road."""

    def platform(self, **changes: object) -> Platform:
        built = super().platform(**changes)
        return Platform(
            built.settings,
            segmenter=ClassicalRoadSegmenter(),
            first_frame_painter=built.first_frame_painter,
            video_painter=built.video_painter,
            inspector=built.inspector,
            driver=built.driver,
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """(T, 270, 480, 3) frames of a sample drive."""
    folder = tmp_path_factory.mktemp("street") / "drive"
    write_sample_drive(
        folder, seed=3, chunks=1, clips_per_chunk=1, seconds=2.4, width=480, height=270, fps=10, other_cameras=False
    )
    source = open_source(str(folder), (CAMERA,))
    facts = probe_clip(source, next(source.chunks()).clips[0], "spec_8fps", FEW_FRAMES)
    with source.open_video(facts.ref) as path:
        return read_frames(path, facts).frames


def test_clips_without_a_road_fail_with_their_reasons_and_the_others_are_edited(
    tmp_path: Path, instance: dg.DagsterInstance, road: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    random = np.random.default_rng(0)
    sky = np.repeat(road[:, :20], 14, axis=1)[:, :270]
    shown = {
        "road": road,
        "black": np.zeros_like(road),
        "green": np.full_like(road, (40, 160, 60)),
        "sky": sky,
        "noise": random.integers(0, 256, road.shape, dtype=np.uint8),
        "upside_down": road[:, ::-1],
    }
    for name, frames in shown.items():
        write_video(folder / f"{name}.mp4", np.ascontiguousarray(frames), 8.0)
    graph = ClassicalGraph(tmp_path / "root", folder, instance, min_road_confidence=0.5)
    (chunk,) = graph.register()

    assert graph.run("sam2_vp", chunk).success
    masks = {
        key.split(".")[0].rsplit("_", 1)[0]: row for key, row in graph.store.manifest("road_masks", chunk).rows.items()
    }
    assert masks.pop("road").status == "ok"
    assert {name: row.status for name, row in masks.items()} == dict.fromkeys(masks, "failed")
    for name, row in masks.items():
        assert row.reason, name
        assert "confidence" in row.reason
        assert "LANEPAINT_MIN_ROAD_CONFIDENCE" in row.reason
    edits = {
        key.split(".")[0].rsplit("_", 1)[0]: row.status
        for key, row in graph.store.manifest("edited_videos", chunk).rows.items()
    }
    assert edits.pop("road") == "ok"
    assert "ok" not in edits.values()
