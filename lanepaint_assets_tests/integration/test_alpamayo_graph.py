"""The `alpamayo` driver in the asset graph, its package replaced by the stand-in, in an interpreter of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lanepaint_assets.evaluation.alpamayo.engine import CAMERAS
from lanepaint_assets.platform import Platform
from lanepaint_assets_tests.fixtures import AgreeingInspector, Graph, StripePainter, TrapezoidSegmenter
from lanepaint_assets_tests.unit.clips.videos import write_numbered
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import FRONT, interpreter, save_checkpoint


class AlpamayoGraph(Graph):
    """Fast engines, and the driver as settings build it: 1.5, because sample clips have one camera."""

    python: str = ""

    def platform(self, **changes: Any) -> Platform:
        chosen = {"driver": "alpamayo", "alpamayo_model": "1.5", "alpamayo_python": self.python, **changes}
        painter = StripePainter(self.journal)
        return Platform(
            self.settings(**chosen),
            segmenter=TrapezoidSegmenter(self.journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=AgreeingInspector(),
        )


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line with its process id for every time that the model was loaded."""
    path = tmp_path / "loads.txt"
    path.touch()
    monkeypatch.setenv("STAND_IN_LOADS", str(path))
    return path


@pytest.fixture
def graph(tmp_path: Path, tiny_drive: Path) -> Iterator[AlpamayoGraph]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = AlpamayoGraph(tmp_path / "root", tiny_drive, instance, prompts=("single_white_dashed",))
        graph.python = interpreter(tmp_path)
        save_checkpoint(graph.root / "checkpoints" / "alpamayo", "1.5")
        yield graph


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What `original_trajectories` failed with."""
    failures = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    (event,) = [event for event in failures if event.step_key == "original_trajectories"]
    return str(event.step_failure_data.user_failure_data.description)


def test_trajectories_are_the_models_loaded_once_a_step_and_nothing_is_left_running(
    graph: AlpamayoGraph, loads: Path
) -> None:
    (chunk,) = graph.register()
    assert graph.run("master_pipeline", chunk).success
    processes = [int(line) for line in loads.read_text().split()]
    assert len(processes) == len(set(processes)) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)

    manifest = graph.store.manifest("edited_trajectories", chunk)
    assert {(row.status, row.engine) for row in manifest.rows.values()} == {("ok", "alpamayo 1")}
    for row in manifest.rows.values():
        (name,) = [record.name for record in row.files if record.name.endswith("_inference.json")]
        result = json.loads(graph.store.read_bytes(row, name))
        setup = "chunk=6, max_tokens=256, model=1.5, temperature=0.6, top_p=0.98"
        assert result["driver"] == {"name": "alpamayo", "version": "1", "is_foundation_model": True, "setup": setup}
        assert result["edited"]["note"] == f"shown {FRONT} alone"
        assert all(text.startswith("word") for text in result["edited"]["reasoning"])

    # Another device or interpreter is no other result; another temperature is.
    os.truncate(loads, 0)
    graph.run("alpamayo_only", chunk, alpamayo_device="cpu")
    assert not loads.read_text()
    graph.run("alpamayo_only", chunk, alpamayo_temperature=0.7)
    assert len(loads.read_text().split()) == 2


def test_r1_drives_clips_of_a_bucket_with_its_four_cameras_and_refuses_others(tmp_path: Path, loads: Path) -> None:
    source = tmp_path / "source"
    for camera in CAMERAS:
        (source / camera / "chunk_0001").mkdir(parents=True)
        write_numbered(source / camera / "chunk_0001" / f"whole.{camera}.mp4", 75, size=(192, 108))
    shutil.copy(
        source / FRONT / "chunk_0001" / f"whole.{FRONT}.mp4", source / FRONT / "chunk_0001" / f"alone.{FRONT}.mp4"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        graph = AlpamayoGraph(tmp_path / "root", source, instance)
        graph.python = interpreter(tmp_path)
        save_checkpoint(graph.root / "checkpoints" / "alpamayo", "r1")
        (chunk,) = graph.register()
        for job in ("sam2_only", "alpamayo_only"):
            graph.run(job, chunk, raise_on_error=False, alpamayo_model="r1")
        rows = graph.store.manifest("original_trajectories", chunk).rows
    driven, refused = rows[f"whole.{FRONT}"], rows[f"alone.{FRONT}"]
    assert (driven.status, driven.engine) == ("ok", "alpamayo 1"), driven.reason
    assert "Alpamayo R1 needs all of its 4 cameras" in (refused.reason or "")
    assert len(loads.read_text().split()) == 1


def test_a_missing_package_or_repository_fails_the_step_in_one_line(graph: AlpamayoGraph, tmp_path: Path) -> None:
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "alpamayo1_5.py").touch()
    python = interpreter(tmp_path / "hidden", path=tmp_path / "hidden")
    said = failure(graph.run("alpamayo_only", chunk, raise_on_error=False, alpamayo_python=python))
    assert "cannot import alpamayo1_5" in said
    assert "LANEPAINT_ALPAMAYO_PYTHON" in said

    said = failure(graph.run("alpamayo_only", chunk, raise_on_error=False, alpamayo_model="r1"))
    assert "nvidia/Alpamayo-R1-10B is missing of the three repositories" in said
