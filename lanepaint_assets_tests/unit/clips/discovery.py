"""A source of clips in a folder and a daemon that carries out what the sensor `new_chunks` asks for.

Used by the tests of that sensor; `conftest.py` makes them.
"""

from __future__ import annotations

import time
from datetime import datetime, tzinfo
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips import sensors
from lanepaint_assets.clips.sensors import build_sensors
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"


class Discovery:
    """A source in a folder, and a daemon that carries out what the sensor's ticks ask for."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.source = folder / "data"
        self.source.mkdir()
        self.instance = instance
        self.settings = Settings(root=str(folder / "root"), source=str(self.source), chunk_stable_minutes=0, workers=1)
        self.cursor: str | None = None

    @property
    def platform(self) -> Platform:
        """What a code server has that was started just now."""
        return Platform(self.settings)

    def path(self, chunk: str, clip: str) -> Path:
        return self.source / CAMERA / chunk / f"{clip}.mp4"

    def add(self, chunk: str, *clips: str, frames: int = 24) -> None:
        for clip in clips or ("a", "b"):
            self.path(chunk, clip).parent.mkdir(parents=True, exist_ok=True)
            write_numbered(self.path(chunk, clip), frames)

    def evaluate(self) -> dg.SensorResult:
        """The tick up to where the daemon gets the answer."""
        (sensor,) = build_sensors()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"platform": self.platform}
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def launch(self, request: dg.RunRequest) -> None:
        """Put a run into the queue, as the daemon does."""
        assert request.partition_key is not None
        assert request.run_key is not None
        tags = {"dagster/run_key": request.run_key, "dagster/partition": request.partition_key, **request.tags}
        assert not self.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": request.run_key}))
        chosen = frozenset(request.asset_selection) if request.asset_selection else None
        self.instance.add_run(dg.DagsterRun(job_name="master_pipeline", tags=tags, asset_selection=chosen))

    def end(self, chunk: str, how: dg.DagsterEventType) -> None:
        """End the runs of a chunk that are queued."""
        for run in self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": chunk})):
            if not run.is_finished:
                event = dg.DagsterEvent(event_type_value=how.value, job_name=run.job_name)
                self.instance.report_dagster_event(event, run_id=run.run_id)

    def tick(self) -> dg.SensorResult:
        """A whole tick: requests are launched, then the cursor is kept."""
        result = self.evaluate()
        for request in result.run_requests or []:
            self.launch(request)
        self.cursor = result.cursor
        return result

    def make(self, chunk: str) -> None:
        """Materialize `raw_clips` of a chunk."""
        make_raw_clips(self.platform, chunk, f"run_{time.monotonic_ns()}")
        self.instance.report_runless_asset_event(dg.AssetMaterialization("raw_clips", partition=chunk))
        self.end(chunk, dg.DagsterEventType.RUN_SUCCESS)


def keys(result: dg.SensorResult) -> list[str | None]:
    """Of all runs that a tick asks for."""
    return [request.run_key for request in result.run_requests or []]


def the_request(result: dg.SensorResult) -> dg.RunRequest:
    """The only one."""
    (request,) = result.run_requests or []
    return request


def let_pass(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    """Let the sensor believe that it is so many minutes later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp(time.time() + 60 * minutes, tz)

    monkeypatch.setattr(sensors, "datetime", Later)
