"""Real clips through the real CPU engines: plain mp4 files, without calibration and without ego motion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.segmentation.outputs import MASKS_FILE, read_masks
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets_tests.fixtures import assert_files_are_whole

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP_01 = "01_highway_solid_white_right_dashed_left.mp4"
TIME_LIMIT_S = 540.0


@pytest.fixture
def clip_01(real_data: Path, tmp_path: Path) -> Path:
    """A folder with clip 01 alone."""
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copyfile(real_data / "clips" / CLIP_01, folder / CLIP_01)
    return folder


def _run(root: Path, source: Path, **settings: str) -> str:
    environment = {**os.environ, "LANEPAINT_ROOT": str(root), "LANEPAINT_SOURCE": str(source)}
    environment |= {f"LANEPAINT_{name}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", "from lanepaint_assets.cli import main; main()", "run"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _assert_complete(root: Path, told: str, prompts: set[str]) -> None:
    store = ArtifactStore(str(root))
    (chunk,) = store.chunk_keys()
    for assets in STAGE_ASSETS.values():
        for asset in assets:
            manifest = store.manifest(asset, chunk)
            assert manifest.rows, asset
            failed = {key: row.reason for key, row in manifest.rows.items() if row.status != "ok"}
            assert not failed, (asset, failed)
            assert_files_are_whole(root, manifest)

    (clip,) = store.manifest("raw_clips", chunk).rows.values()
    frames = clip.facts["grid_frames"]
    (masks_row,) = store.manifest("road_masks", chunk).rows.values()
    with store.local_file(masks_row, MASKS_FILE) as path:
        masks = read_masks(path)
    assert len(masks.road) == frames
    # The camera stands on a motorway: road fills the picture's lower middle, and no sky is road.
    assert 0.1 < masks.road.mean() < 0.6
    assert masks.road[:, int(masks.road.shape[1] * 0.85), masks.road.shape[2] // 2].mean() > 0.8
    assert masks.road[:, : masks.road.shape[1] // 3].mean() < 0.02

    videos: dict[str, np.ndarray] = {}
    edited = store.manifest("edited_videos", chunk).rows
    assert {key.rpartition("/")[2] for key in edited} == prompts | {"roundtrip", "repaint_as_measured"}
    for key, row in edited.items():
        (name,) = [file.name for file in row.files if file.name.endswith(".mp4")]
        with store.local_file(row, name) as path:
            videos[key.rpartition("/")[2]] = read_all_frames(path)
    assert {len(video) for video in videos.values()} == {frames}
    height = masks.road.shape[1]
    for prompt in prompts:
        # Encoding noise aside, the edit changes the road and leaves the sky.
        change = np.abs(videos[prompt].astype(np.int16) - videos["roundtrip"])
        assert change[:, : height // 4].max() < 40, prompt
        assert change[:, height // 2 :].max() > 60, prompt

    report = store.manifest("trajectory_reports", chunk).rows[CHUNK_ROW]
    page = store.read_bytes(report, "report.html").decode()
    assert str(store.file_path(report, "report.html")) in told
    for prompt in prompts:
        assert prompt in page
    assert "lane_follow" in page
    assert "procedural" in page


def test_sixteen_frames_of_a_real_clip_become_masks_edits_and_a_report(clip_01: Path, tmp_path: Path) -> None:
    told = _run(
        tmp_path / "root",
        clip_01,
        FRAME_LIMIT="16",
        PROMPTS="double_yellow_solid",
        SAMPLES="2",
        REFINE_ITERATIONS="1",
    )
    _assert_complete(tmp_path / "root", told, {"double_yellow_solid"})


@pytest.mark.slow
def test_a_real_clip_with_two_prompts_becomes_masks_edits_and_a_report(clip_01: Path, tmp_path: Path) -> None:
    prompts = {"single_white_dashed", "double_yellow_solid"}
    told = _run(tmp_path / "root", clip_01, PROMPTS=",".join(sorted(prompts)))
    _assert_complete(tmp_path / "root", told, prompts)
