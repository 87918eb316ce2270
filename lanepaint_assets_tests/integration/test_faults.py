"""What goes wrong in practice: a run that is killed, two runs at once, and files that are no clips."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.fixtures import FEW_FRAMES, Graph, assert_files_are_whole, statuses
from lanepaint_assets_tests.unit.clips.videos import write_numbered, write_sound

REPOSITORY = Path(__file__).resolve().parents[2]
CHUNK = "chunk_0000"
ALL_ASSETS = [asset for assets in STAGE_ASSETS.values() for asset in assets]

# Files that name the run, or hold how long something took; their rows are compared, their bytes cannot be equal.
STAMPED = ("_inference.json", "report.html", "report.txt", "metadata.csv")

# A kill must fall into a run, not before or after it.
TIME_LIMIT_S = 300.0


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_a_chunk_with_one_good_and_six_broken_files_succeeds_for_the_good_one(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_numbered(folder / "good.mp4", count=90, rate=10, size=(192, 108))
    (folder / "empty.mp4").write_bytes(b"")
    whole = write_numbered(tmp_path / "whole.mp4", count=60, rate=10).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "not_a_video.mp4").write_text("# a shopping list\nmilk\n" * 50)
    write_sound(folder / "audio_only.mp4")
    write_numbered(folder / "too_short.mp4", count=1, rate=10)
    unreadable = write_numbered(folder / "unreadable.mp4", count=30, rate=10)
    graph = Graph(tmp_path / "root", folder, instance)
    (chunk,) = graph.register()
    # Root may read every file, whatever its mode; a folder of the name is unreadable for everybody.
    unreadable.unlink()
    unreadable.mkdir()

    result = graph.run("master_pipeline", chunk)
    assert result.success
    clips = graph.store.manifest("raw_clips", chunk).rows
    assert len(clips) == 7
    reasons = {key.split(".")[0].rsplit("_", 1)[0]: row.reason for key, row in clips.items()}
    assert reasons.pop("good") is None
    expected = {
        "empty": "empty",
        "truncated": "moov|truncated|cut",
        "not_a_video": "not a video|no video|invalid",
        "audio_only": "video stream|audio|picture",
        "too_short": "frame|short",
        "unreadable": "exist|read|folder|director",
    }
    assert set(reasons) == set(expected)
    for name, words in expected.items():
        assert reasons[name], name
        assert any(word in reasons[name].lower() for word in words.split("|")), (name, reasons[name])
    assert len(set(reasons.values())) == 6

    for asset in ("road_masks", "vp_inputs", "original_trajectories"):
        found = {
            key.split(".")[0].rsplit("_", 1)[0]: row for key, row in graph.store.manifest(asset, chunk).rows.items()
        }
        assert found.pop("good").status == "ok", asset
        for name, row in found.items():
            assert row.status == "failed"
            assert row.reason == f"raw_clips failed: {reasons[name]}", asset
    edited = graph.store.manifest("edited_videos", chunk).rows
    assert [key for key, row in edited.items() if row.status == "ok"] == [key for key in edited if "good" in key]

    report = graph.store.manifest("trajectory_reports", chunk).rows[CHUNK_ROW]
    text = graph.store.read_bytes(report, "report.txt").decode()
    page = graph.store.read_bytes(report, "report.html").decode()
    for name in expected:
        assert name in text, name
        assert name in page, name
    warned = [c for c in result.get_asset_check_evaluations() if c.check_name == "no_failed_items" and not c.passed]
    assert "raw_clips" in {check.asset_key.to_user_string() for check in warned}
    assert {check.severity for check in warned} == {dg.AssetCheckSeverity.WARN}


def test_a_broken_file_that_is_mended_is_tried_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_numbered(folder / "good.mp4", count=30, rate=10)
    (folder / "late.mp4").write_bytes(b"")
    graph = Graph(tmp_path / "root", folder, instance)
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk)
    graph.journal.take()
    write_numbered(folder / "late.mp4", count=30, rate=10)
    graph.run("sam2_only", chunk)
    assert len(graph.journal.take()) == 1
    assert set(statuses(graph.store.manifest("vp_inputs", chunk)).values()) == {"ok"}


# A process that runs a job with the fast engines, after everything is imported and its twin is ready too.
TWIN = """
import sys
from pathlib import Path
import dagster as dg
from lanepaint_assets_tests.fixtures import Graph
root, source = map(Path, sys.argv[1:])
with dg.DagsterInstance.ephemeral() as instance:
    graph = Graph(root, source, instance, prompts=("single_white_dashed", "double_yellow_solid"))
    print("ready", flush=True)
    sys.stdin.readline()
    graph.register()
    result = graph.run("sam2_vp", "chunk_0000")
    videos = sum(entry[0] == "video" for entry in graph.journal.take())
    print(videos, flush=True)
"""


def test_two_processes_on_the_same_chunk_at_once_lose_and_corrupt_nothing(tmp_path: Path, tiny_drive: Path) -> None:
    root = tmp_path / "root"
    twins = [
        subprocess.Popen(
            [sys.executable, "-c", TWIN, str(root), str(tiny_drive)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for twin in twins:
        assert twin.stdout is not None
        assert twin.stdout.readline().strip() == "ready"
    answers = []
    for twin in twins:
        assert twin.stdin is not None
        twin.stdin.write("go\n")
        twin.stdin.flush()
    for twin in twins:
        out, errors = twin.communicate(timeout=TIME_LIMIT_S)
        assert twin.returncode == 0, errors[-3000:]
        answers.append(int(out))
    assert 6 <= sum(answers) <= 12

    store = ArtifactStore(str(root))
    for asset in ("raw_clips", "road_masks", "vp_inputs", "first_frames", "edited_videos"):
        manifest = store.manifest(asset, CHUNK)
        assert len(manifest.rows) == (8 if asset in ("first_frames", "edited_videos") else 2)
        assert set(statuses(manifest).values()) == {"ok"}, asset
        assert assert_files_are_whole(root, manifest) >= len(manifest.rows)
    assert not list(root.rglob("*.part*"))


def _start_run(root: Path, source: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "LANEPAINT_ROOT": str(root),
        "LANEPAINT_SOURCE": str(source),
        "LANEPAINT_FRAME_LIMIT": str(FEW_FRAMES),
        "LANEPAINT_PROMPTS": "single_white_dashed,double_yellow_solid",
        "LANEPAINT_SAMPLES": "2",
        "LANEPAINT_REFINE_ITERATIONS": "2",
        "LANEPAINT_WORKERS": "2",
    }
    with (root.parent / f"{root.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", "from lanepaint_assets.cli import main; main()", "run"],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _finish(process: subprocess.Popen[bytes], root: Path) -> None:
    log = root.parent / f"{root.name}.log"
    assert process.wait(timeout=TIME_LIMIT_S) == 0, log.read_text()[-3000:]


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIME_LIMIT_S
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _finished(root: Path) -> dict[tuple[str, str], ItemRow]:
    store = ArtifactStore(str(root))
    return {
        (asset, key): row
        for asset in ALL_ASSETS
        for key, row in store.manifest(asset, CHUNK).rows.items()
        if row.status == "ok"
    }


def _comparable(rows: dict[tuple[str, str], ItemRow]) -> dict[tuple[str, str], tuple[str, str, dict[str, str]]]:
    return {
        place: (
            row.fingerprint,
            row.status,
            {file.name: "" if file.name.endswith(STAMPED) else file.sha256 for file in row.files},
        )
        for place, row in rows.items()
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_ends_like_an_undisturbed_one(tmp_path: Path, tiny_drive: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _finish(_start_run(undisturbed, tiny_drive), undisturbed)

    process = _start_run(killed, tiny_drive)
    store = ArtifactStore(str(killed))
    _wait_for(
        lambda: "ok" in statuses(store.manifest("edited_videos", CHUNK)).values(),
        process,
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = _finished(killed)
    edited_before = [place for place in before if place[0] == "edited_videos"]
    assert 1 <= len(edited_before) < 8, "the kill did not fall into the middle"

    _finish(_start_run(killed, tiny_drive), killed)
    after = _finished(killed)
    for place, row in before.items():
        assert after[place].run_id == row.run_id, place
        assert after[place].folder == row.folder, place
        assert after[place].files == row.files, place
    assert len({row.run_id for row in after.values()}) == 2
    assert _comparable(after) == _comparable(_finished(undisturbed))
    for asset in ALL_ASSETS:
        assert_files_are_whole(killed, store.manifest(asset, CHUNK))
