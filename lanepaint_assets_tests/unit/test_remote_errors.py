"""A bucket that refuses or does not answer: what cannot be asked is told, and all the rest goes on."""

from __future__ import annotations

import asyncio
import importlib
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import requests
from upath import UPath

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import Observation, due_checkpoints, observe_checkpoints
from lanepaint_assets.clips.sensors import build_sensors
from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.materialization import clear_failures
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.remote_errors import as_os_errors
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.gcs_client import gcs_options
from lanepaint_assets_tests.fault_proxy import Fault, FaultProxy, Plan, Request, running_fault_proxy
from lanepaint_assets_tests.gcs_server import GcsServer
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline

CAMERA = "camera_front_wide_120fov"
FLUX, COG = "flux_fill_checkpoint", "cogvideox_checkpoint"


class FaultyBucket:
    """A bucket with files, of which some names cannot be asked for."""

    def __init__(self, server: GcsServer, proxy: FaultProxy) -> None:
        self._server, self._proxy = server, proxy
        self._prefix = uuid.uuid4().hex
        self.address = f"gs://{server.bucket.name}/{self._prefix}"

    def put(self, name: str, content: bytes = b"x") -> None:
        self._server.bucket.put(f"{self._prefix}/{name}", content, {}, None)

    def fail(self, *names: str, fault: Fault = Fault.UNAVAILABLE) -> None:
        """Every request with one of the names in it, from now on."""

        def plan(request: Request) -> Fault | None:
            return fault if any(name in request.path for name in names) else None

        self.plan(plan)

    def mend(self) -> None:
        self.plan(lambda _: None)

    def plan(self, plan: Plan) -> None:
        """What happens to every request from now on."""
        self._proxy.plan = plan


@pytest.fixture
def bucket(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBucket]:
    # gcsfs gives up after half a minute.
    sleep = asyncio.sleep
    shorter = SimpleNamespace(sleep=lambda seconds: sleep(seconds / 1000))
    monkeypatch.setattr(importlib.import_module("gcsfs.retry"), "asyncio", shorter)
    with running_fault_proxy(gcs_server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield FaultyBucket(gcs_server, proxy)


class Location:
    """A code server whose source and checkpoints lie in the bucket, and whose store is local."""

    def __init__(self, bucket: FaultyBucket, root: Path, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.platform = Platform(
            Settings(root=str(root), source=f"{bucket.address}/data", chunk_stable_minutes=0, checkpoint_check="header")
        )

    def tick(self) -> tuple[list[str | None], str]:
        """Chunks that the sensor requests, and why it skips."""
        (sensor,) = build_sensors()
        with dg.build_sensor_context(instance=self.instance, resources={"platform": self.platform}) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        said = "" if result.skip_reason is None else str(result.skip_reason.skip_message)
        return [request.partition_key for request in result.run_requests or []], said


@pytest.fixture
def location(bucket: FaultyBucket, tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(bucket, tmp_path / "root", instance)


def test_errors_of_a_buckets_libraries_become_os_errors_and_others_stay_what_they_are() -> None:
    from aiohttp.client_exceptions import ServerDisconnectedError
    from gcsfs.retry import HttpError
    from google.auth.exceptions import RefreshError

    for error in (HttpError({"code": 503, "message": "busy"}), ServerDisconnectedError(), RefreshError("no token")):
        with pytest.raises(OSError, match=f"{type(error).__name__}: .+") as raised, as_os_errors():
            raise error
        assert raised.value.__cause__ is error
    for error in (FileNotFoundError("gone"), requests.exceptions.ProxyError("502"), KeyError("a defect")):
        with pytest.raises(type(error)) as raised, as_os_errors():
            raise error
        assert raised.value is error


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.FORBIDDEN, Fault.CUT_ANSWER])
def test_a_chunk_that_the_bucket_does_not_list_is_told_and_the_others_are_requested(
    bucket: FaultyBucket, location: Location, fault: Fault
) -> None:
    for number in range(3):
        bucket.put(f"data/{CAMERA}/chunk_{number:04d}/a.mp4")
    bucket.fail("chunk_0001", fault=fault)
    assert location.tick()[0] == ["chunk_0000", "chunk_0002"]
    # The daemon would have started those.
    for chunk in ("chunk_0000", "chunk_0002"):
        location.instance.add_run(dg.DagsterRun(job_name="master_pipeline", tags={"dagster/partition": chunk}))
    requested, said = location.tick()
    assert requested == []
    assert f"chunk chunk_0001: {bucket.address}/data/{CAMERA}/chunk_0001 cannot be read" in said
    bucket.mend()
    assert location.tick()[0] == ["chunk_0001"]


def test_a_source_that_does_not_answer_is_told_and_registered_chunks_are_still_requested(
    bucket: FaultyBucket, location: Location
) -> None:
    bucket.put(f"data/{CAMERA}/chunk_0000/a.mp4")
    register_chunks(location.platform, location.instance)
    bucket.fail("data")
    assert location.tick()[0] == ["chunk_0000"]
    location.instance.add_run(dg.DagsterRun(job_name="master_pipeline", tags={"dagster/partition": "chunk_0000"}))
    assert f"{bucket.address}/data cannot be listed" in location.tick()[1]


def test_a_person_who_adds_chunks_is_told_in_one_line_that_the_bucket_does_not_answer(
    bucket: FaultyBucket, location: Location
) -> None:
    bucket.put(f"data/{CAMERA}/chunk_0000/a.mp4")
    bucket.fail("data")
    with pytest.raises(ClipSourceError, match=r"cannot be read: HttpError: .*503"):
        register_chunks(location.platform, location.instance)


def test_a_step_whose_bucket_does_not_answer_fails_in_one_line_that_names_the_clip(
    bucket: FaultyBucket, location: Location
) -> None:
    bucket.put(f"data/{CAMERA}/chunk_0000/a.mp4")
    register_chunks(location.platform, location.instance)
    bucket.fail("a.mp4")
    with pytest.raises(dg.Failure) as failure, clear_failures():
        make_raw_clips(location.platform, "chunk_0000", "run")
    assert f"{bucket.address}/data/{CAMERA}/chunk_0000/a.mp4 cannot be read: HttpError" in str(
        failure.value.description
    )


@pytest.mark.parametrize("what", ["list", "read"])
def test_a_checkpoint_that_the_bucket_does_not_give_keeps_its_version_and_the_others_are_observed(
    bucket: FaultyBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    # What is written in the store goes by another way, which the fault does not hit.
    platform = Platform(Settings(root=str(tmp_path / "root"), checkpoint_check="header"))
    monkeypatch.setattr(
        platform, "checkpoint_folder", lambda asset: _remote(bucket, f"checkpoints/{CHECKPOINT_FOLDERS[asset]}")
    )
    files = write_pipeline(tmp_path / "pipeline")

    def upload(asset: str) -> None:
        for path in sorted(each for each in files.rglob("*") if each.is_file()):
            name = path.relative_to(files).as_posix()
            bucket.put(f"checkpoints/{CHECKPOINT_FOLDERS[asset]}/{name}", path.read_bytes())

    def observed(minutes: float) -> dict[str, Observation]:
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        return {each.asset: each for each in observe_checkpoints(platform, list(CHECKPOINT_FOLDERS), now)}

    upload(FLUX)
    before = observed(6)[FLUX]
    assert before.condition == "fine"
    upload(FLUX)
    upload(COG)
    bucket.fail("flux_inp" if what == "list" else "flux_inp%2Fmodel_index.json")
    found = observed(20)
    assert (found[FLUX].condition, found[FLUX].state.version) == ("unreadable", before.state.version)
    assert "503" in (found[FLUX].state.problem or "")
    assert found[COG].condition == "fine"
    assert set(found) == set(CHECKPOINT_FOLDERS)
    assert FLUX in due_checkpoints(platform, datetime.now(UTC) + timedelta(minutes=21))
    bucket.mend()
    after = observed(22)[FLUX]
    assert (after.condition, after.state.problem) == ("fine", None)
    assert after.state.version != before.state.version


def test_all_checkpoints_are_asked_for_at_the_same_time_so_that_a_silent_bucket_is_waited_for_once(
    bucket: FaultyBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(Settings(root=str(tmp_path / "root"), checkpoint_check="header"))
    list(observe_checkpoints(platform, list(CHECKPOINT_FOLDERS), datetime.now(UTC)))
    monkeypatch.setattr(
        platform, "checkpoint_folder", lambda asset: _remote(bucket, f"checkpoints/{CHECKPOINT_FOLDERS[asset]}")
    )
    everybody, arrived = threading.Barrier(len(CHECKPOINT_FOLDERS), timeout=30), count()

    def wait_for_the_others(_: Request) -> None:
        if next(arrived) < len(CHECKPOINT_FOLDERS):
            everybody.wait()

    bucket.plan(wait_for_the_others)
    due_checkpoints(platform, datetime.now(UTC))
    assert not everybody.broken
    assert next(arrived) >= len(CHECKPOINT_FOLDERS)


def _remote(bucket: FaultyBucket, name: str) -> UPath:
    return UPath(f"{bucket.address}/{name}", **gcs_options({}))
