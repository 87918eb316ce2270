"""`lanepaint gc` as a person types it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.commands.collect import in_words
from lanepaint_assets.jobs import oldest_unfinished_run
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.terminal import typed
from lanepaint_assets_tests.unit.store.conftest import fp

HOUR_S = 3600.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one item in two versions, both written two days ago."""
    root = tmp_path / "root"
    monkeypatch.setenv("LANEPAINT_ROOT", str(root))
    store = ArtifactStore(str(root))
    for version in (1, 2):
        staged = tmp_path / f"staged_{version}"
        staged.mkdir()
        (staged / "mask.bin").write_bytes(b"x" * 1500)
        folder, files = store.publish("road_masks", "chunk_0001", "clip.front", fp("clip.front", version), staged)
        row = ItemRow(
            key="clip.front", fingerprint=fp("clip.front", version), status="ok", folder=folder, files=files, run_id="r"
        )
        store.merge("road_masks", "chunk_0001", [row])
    for file in (root / "outputs").rglob("*"):
        os.utime(file, (time.time() - 48 * HOUR_S,) * 2)
    return root


def versions(root: Path) -> set[str]:
    return {folder.name for folder in (root / "outputs/sam2/chunk_0001/road_masks/clip.front").iterdir()}


def test_gc_removes_what_no_manifest_names_and_tells_how_much(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = typed(monkeypatch, capsys, "gc", "--dry-run")
    assert "would free 1.6 kB in 1 version" in told.out
    assert versions(root) == {fp("clip.front", 1), fp("clip.front", 2)}
    done = typed(monkeypatch, capsys, "gc")
    assert "road_masks: 1.6 kB in 1 version" in done.out
    assert versions(root) == {fp("clip.front", 2)}
    assert typed(monkeypatch, capsys, "gc").out == "nothing to collect\n"


def test_gc_keeps_what_is_younger_than_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, capsys, "gc", "--keep-hours", "72").out == "nothing to collect\n"
    assert len(versions(root)) == 2


def test_gc_keeps_what_lost_its_name_a_moment_ago(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.utime(root / "outputs/sam2/chunk_0001/road_masks.manifest.json")
    assert typed(monkeypatch, capsys, "gc").out == "nothing to collect\n"
    assert len(versions(root)) == 2


def test_gc_keeps_what_a_run_under_way_may_still_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @dg.job
    def slow() -> None: ...

    home = root / "dagster"
    home.mkdir(parents=True)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        assert oldest_unfinished_run(instance) is None
        started = instance.create_run_for_job(slow, status=dg.DagsterRunStatus.STARTED)
        for file in (root / "outputs").rglob("*"):
            os.utime(file)
        told = typed(monkeypatch, capsys, "gc", "--keep-hours", "0")
        assert "a run is under way since" in told.out
        assert len(versions(root)) == 2
        instance.report_run_canceled(started)
        assert oldest_unfinished_run(instance) is None


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (3_200_000, "3.2 MB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_told_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
