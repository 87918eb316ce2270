"""`lanepaint render`: the videos again from one file, and a rerun recording where rerun is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lanepaint_assets.cli import cli
from lanepaint_assets.commands.errors import CommandError, person_errors
from lanepaint_assets.commands.render import render
from lanepaint_assets.evaluation.rerun_recording import RerunMissingError
from lanepaint_assets.evaluation.vis_data import VisDataError
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.overlay import render_overlay
from lanepaint_assets_tests.unit.evaluation.vis_items import vis_data

STEM = "clip-1.camera_front_wide_120fov_vp_edit_sample0_generated"


@pytest.fixture
def item(tmp_path: Path) -> Path:
    path = tmp_path / f"{STEM}_vis_data.npz"
    path.write_bytes(vis_data().to_npz())
    return path


def test_the_videos_are_those_that_the_asset_draws(item: Path, tmp_path: Path) -> None:
    said: list[str] = []
    render(item, tmp_path / "again", None, said.append)
    assert {path.name for path in (tmp_path / "again").iterdir()} == {f"{STEM}_overlay.mp4", f"{STEM}_comparison.mp4"}
    render_overlay(vis_data().scene(), tmp_path / "overlay.mp4")
    render_comparison(vis_data().scene(), tmp_path / "comparison.mp4", tmp_path / "preview.mp4")
    for kind in ("overlay", "comparison"):
        drawn = (tmp_path / "again" / f"{STEM}_{kind}.mp4").read_bytes()
        assert drawn == (tmp_path / f"{kind}.mp4").read_bytes()
    assert len(said) == 2


def test_without_a_folder_they_land_in_the_current_one(
    item: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    result = CliRunner().invoke(cli, ["render", str(item)])
    assert result.exit_code == 0, result.output
    assert len(list(here.glob("*.mp4"))) == 2


def test_a_file_that_is_missing_or_none_is_a_persons_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"gone\.npz cannot be read: No such file"):
        render(tmp_path / "gone.npz", tmp_path / "out", None, print)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, something=np.zeros(3))
    with pytest.raises(VisDataError, match=r"wrong\.npz is not a whole vis_data\.npz"):
        render(wrong, tmp_path / "out", None, print)
    assert not (tmp_path / "out").exists()
    assert {VisDataError, RerunMissingError} <= set(person_errors())


def test_without_rerun_a_recording_is_refused_with_the_remedy_before_anything_is_written(
    item: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RerunMissingError, match=r"pip install 'lanepaint\[rerun\]'"):
        render(item, tmp_path / "out", tmp_path / "item.rrd", print)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "item.rrd").exists()


def test_a_recording_holds_both_arms_frames_and_plans_in_the_data_sets_time(item: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra rerun)")
    from rerun.chunk import RrdReader

    path = tmp_path / "item.rrd"
    render(item, tmp_path / "out", path, print)
    found: dict[str, set[int]] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch()
        times = found.setdefault(chunk.entity_path, set())
        if "dataset_time" in batch.schema.names:
            times.update(int(value.value // 1000) for value in batch.column("dataset_time"))
    wanted = set(vis_data().shown.timestamps_us.tolist())
    for entity in ("/original/frames", "/edited/frames", "/original/plan", "/edited/plan", "/world/vehicle"):
        assert found[entity] == wanted
    assert {"/world/ground_truth", "/world/history", "/world/original/sample_2", "/world/edited/sample_0"} <= set(found)
    assert "/world/vehicle/camera" in found
    assert sorted(file.name for file in tmp_path.iterdir()) == [item.name, "item.rrd", "out"]
