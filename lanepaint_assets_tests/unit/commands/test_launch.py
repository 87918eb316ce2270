"""`lanepaint run` on the terminal: what it tells of a run, and that an interrupt ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.commands.launch import Session, run
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.items import StepError
from lanepaint_assets_tests.fixtures import Graph, Journal, TrapezoidSegmenter
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"
CHUNKS = ("chunk_0000", "chunk_0001")


class StoppedSegmenter(TrapezoidSegmenter):
    """Raises in the place of a result."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Journal())
        self._error = error
        self.asked = 0

    def segment_video(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        self.asked += 1
        raise self._error


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    for chunk in CHUNKS:
        folder = tmp_path / "clips" / CAMERA / chunk
        folder.mkdir(parents=True)
        write_numbered(folder / "a.mp4", count=40, rate=10, size=(64, 48))
    with dg.DagsterInstance.ephemeral() as instance:
        made = Graph(tmp_path / "root", tmp_path / "clips", instance)
        made.register()
        yield made


def segment(graph: Graph, segmenter: TrapezoidSegmenter, told: list[str], **changes: bool) -> bool:
    settings = graph.settings(**changes)
    session = Session(settings, Platform(settings, segmenter=segmenter), graph.instance)
    return run(session, stages="1", prompts=(), chunks=CHUNKS, run_id=None, say=told.append)


def test_an_interrupt_ends_the_command_and_its_run_counts_as_cancelled(graph: Graph) -> None:
    told: list[str] = []
    stopped = StoppedSegmenter(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        segment(graph, stopped, told)
    assert stopped.asked == 1
    assert told[0].startswith("sam2_only of chunk_0000 (1 of 2)")
    assert told[-1] == "interrupted; the same command goes on from here"
    assert not any("failed" in line or "chunk_0001" in line for line in told[1:])
    (only,) = graph.instance.get_runs()
    assert only.status == dg.DagsterRunStatus.CANCELED
    assert segment(graph, TrapezoidSegmenter(Journal()), told)


def test_rows_of_earlier_runs_are_not_told_of_a_run_that_failed_before_them(graph: Graph) -> None:
    told: list[str] = []
    assert segment(graph, TrapezoidSegmenter(Journal()), told)
    assert "  road_masks: 1 of 1 items" in told
    again: list[str] = []
    broken = StoppedSegmenter(StepError("no such checkpoint"))
    assert not segment(graph, broken, again, fill_all_holes=True)
    assert "  segmentation failed: no such checkpoint" in again
    assert "  raw_clips: 1 of 1 items" in again
    assert not any("road_masks:" in line for line in again)
