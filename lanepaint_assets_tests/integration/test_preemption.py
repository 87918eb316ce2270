"""A step whose machine is taken away: SIGTERM and some seconds later SIGKILL, or SIGKILL at once, in a run of the real
graph whose steps are processes under the executor class that starts pods on a cluster.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lanepaint_assets import k8s_steps
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.fixtures import assert_files_are_whole, statuses
from lanepaint_assets_tests.integration import steps_in_processes
from lanepaint_assets_tests.integration.steps_in_processes import NOTES_VARIABLE, SECONDS_VARIABLE
from lanepaint_assets_tests.unit.clips.videos import write_numbered

pytestmark = pytest.mark.slow

CHUNK = "chunk_0001"
CLIPS = 4
TIME_LIMIT_S = 240.0


class Notes:
    """What the processes of a step have begun and done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def of(self, what: str) -> list[int]:
        """The process of each clip that was begun, or done, in order."""
        lines = (line.split() for line in self._path.read_text().splitlines())
        return [int(process) for process, noted in lines if noted == what]

    def wait_for(self, what: str, count: int, ended: Callable[[], bool]) -> int:
        """Wait until so many clips were begun or done; returns the last one's process."""
        deadline = time.monotonic() + TIME_LIMIT_S
        while len(self.of(what)) < count:
            assert time.monotonic() < deadline, f"{count} clips were not {what}"
            assert not ended(), f"the run ended before {count} clips were {what}"
            time.sleep(0.01)
        return self.of(what)[count - 1]


class Run:
    """A run of `sam2_only` in a thread, as a run's own pod has it in its main process."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, seconds_per_clip: float, grace_s: float) -> None:
        self.settings = Settings(
            root=str(folder / "root"),
            source=str(folder / "clips"),
            executor="k8s",
            workers=1,
            frame_limit=4,
            min_road_confidence=0.0,
            stop_grace_s=grace_s,
        )
        self.notes, self.instance = Notes(folder / "notes"), instance
        for name, value in self.settings.model_dump(exclude_unset=True).items():
            os.environ[f"LANEPAINT_{name.upper()}"] = str(value)
        os.environ |= {SECONDS_VARIABLE: str(seconds_per_clip), NOTES_VARIABLE: str(folder / "notes")}
        self._result: list[dg.JobExecutionResult] = []
        self._thread = threading.Thread(target=self._execute)

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(TIME_LIMIT_S)

    def _execute(self) -> None:
        with dg.execute_job(
            dg.reconstructable(steps_in_processes.sam2_only),
            self.instance,
            tags={"dagster/partition": CHUNK},
        ) as result:
            self._result.append(result)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    @property
    def succeeded(self) -> bool:
        assert self._result, "the run raised"
        return self._result[0].success

    def events(self, kind: dg.DagsterEventType, step: str = "segmentation") -> list[Any]:
        (run,) = self.instance.get_runs(limit=1)
        events = [
            record.event_log_entry.dagster_event for record in self.instance.get_records_for_run(run.run_id).records
        ]
        return [event for event in events if event and event.event_type is kind and event.step_key == step]

    def rows(self) -> dict[str, str]:
        return statuses(Platform(self.settings).store.manifest("road_masks", CHUNK))

    def assert_whole(self) -> None:
        manifest = Platform(self.settings).store.manifest("road_masks", CHUNK)
        assert Counter(statuses(manifest).values()) == Counter(ok=CLIPS)
        assert assert_files_are_whole(Path(self.settings.root), manifest) >= CLIPS
        (made,) = self.instance.fetch_materializations(dg.AssetKey("road_masks"), limit=5).records
        assert made.asset_materialization is not None
        assert made.asset_materialization.metadata["items"].value == CLIPS


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    monkeypatch.setattr(k8s_steps, "WAIT_S", k8s_steps.WAIT_S)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for number in range(CLIPS):
        clip = tmp_path / "clips" / "camera_front_wide_120fov" / CHUNK / f"clip_{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(clip, count=20, rate=10)
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:

        def begin(seconds_per_clip: float, grace_s: float) -> Run:
            run = Run(tmp_path, instance, seconds_per_clip, grace_s)
            register_chunks(Platform(run.settings), instance)
            return run

        yield begin


def test_a_step_that_is_told_to_end_finishes_its_clip_and_another_process_makes_only_the_rest(
    start: Callable[..., Run],
) -> None:
    with start(seconds_per_clip=1.5, grace_s=30.0) as run:
        process = run.notes.wait_for("begun", 2, lambda: run.ended)
        os.kill(process, signal.SIGTERM)
    assert run.succeeded
    assert Counter(run.notes.of("begun")).most_common() == [
        (run.notes.of("begun")[0], 2),
        (run.notes.of("begun")[2], 2),
    ]
    assert len(run.notes.of("done")) == CLIPS
    assert len(run.events(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert not run.events(dg.DagsterEventType.STEP_FAILURE)
    run.assert_whole()


def test_a_clip_that_takes_longer_than_the_grace_period_is_left_for_the_next_process(start: Callable[..., Run]) -> None:
    with start(seconds_per_clip=3.0, grace_s=0.5) as run:
        process = run.notes.wait_for("begun", 2, lambda: run.ended)
        told = time.monotonic()
        os.kill(process, signal.SIGTERM)
        while run.events(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []:
            assert not run.ended
            assert time.monotonic() - told < 30.0
            time.sleep(0.05)
        assert len(run.rows()) == 1
    assert run.succeeded
    # One clip was begun twice, none was done twice.
    assert len(run.notes.of("begun")) == CLIPS + 1
    assert len(run.notes.of("done")) == CLIPS
    run.assert_whole()


def test_a_step_that_is_killed_at_once_goes_on_in_another_process(start: Callable[..., Run]) -> None:
    with start(seconds_per_clip=1.0, grace_s=30.0) as run:
        process = run.notes.wait_for("begun", 3, lambda: run.ended)
        before = run.rows()
        os.kill(process, signal.SIGKILL)
    assert len(before) == 2
    assert run.succeeded
    assert len(run.notes.of("done")) == CLIPS
    assert not run.events(dg.DagsterEventType.STEP_FAILURE)
    run.assert_whole()


def test_a_step_whose_machines_are_taken_away_again_and_again_comes_to_its_end(start: Callable[..., Run]) -> None:
    with start(seconds_per_clip=1.0, grace_s=30.0) as run:
        for begun in range(1, CLIPS):
            os.kill(run.notes.wait_for("begun", begun, lambda: run.ended), signal.SIGTERM)
    assert run.succeeded
    assert len(set(run.notes.of("begun"))) == CLIPS
    assert len(run.notes.of("done")) == CLIPS
    run.assert_whole()
