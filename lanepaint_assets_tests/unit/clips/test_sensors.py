"""The sensor `new_chunks`: every chunk is registered and requested once, whatever happens in between."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets import partitions
from lanepaint_assets.clips import sensors
from lanepaint_assets.clips.sensors import CHUNKS_PER_TICK, build_sensors
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


class Discovery:
    """A source in a folder, and a daemon that carries out what the sensor's ticks ask for."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.source = folder / "data"
        self.source.mkdir()
        self.instance = instance
        self.settings = Settings(root=str(folder / "root"), source=str(self.source))
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
        self.instance.add_run(dg.DagsterRun(job_name="master_pipeline", tags=tags))

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


def keys(result: dg.SensorResult) -> list[str | None]:
    return [request.run_key for request in result.run_requests or []]


@pytest.fixture
def discovery(tmp_path: Path, instance: dg.DagsterInstance) -> Discovery:
    return Discovery(tmp_path, instance)


def test_new_chunks_are_registered_and_requested_once(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.add("chunk_0001")
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000", "new_chunks:chunk_0001"]
    assert registered_chunks(discovery.instance) == ["chunk_0000", "chunk_0001"]
    quiet = discovery.tick()
    assert keys(quiet) == []
    assert quiet.skip_reason is not None
    assert "no new chunk" in str(quiet.skip_reason.skip_message)
    assert "2 of 2 chunks compared" in str(quiet.skip_reason.skip_message)


def test_a_tick_requests_no_more_than_so_many_and_the_next_ones_go_on(discovery: Discovery) -> None:
    for number in range(CHUNKS_PER_TICK + 3):
        discovery.add(f"chunk_{number:04d}", "a")
    assert len(keys(discovery.tick())) == CHUNKS_PER_TICK
    assert len(registered_chunks(discovery.instance)) == CHUNKS_PER_TICK
    assert len(keys(discovery.tick())) == 3


def test_a_chunk_that_a_person_has_run_is_not_requested(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.instance.add_run(dg.DagsterRun(job_name="sam2_only", tags={"dagster/partition": "chunk_0000"}))
    assert keys(discovery.tick()) == []


# Killed


def test_a_tick_that_dies_before_its_answer_loses_nothing(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.evaluate()
    assert registered_chunks(discovery.instance) == ["chunk_0000"]
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]


def test_a_daemon_that_dies_between_two_launches_requests_only_what_was_not_launched(discovery: Discovery) -> None:
    for number in range(3):
        discovery.add(f"chunk_{number:04d}")
    first, *_ = discovery.evaluate().run_requests or []
    discovery.launch(first)
    assert keys(discovery.tick()) == ["new_chunks:chunk_0001", "new_chunks:chunk_0002"]


def test_a_look_that_dies_between_membership_and_key_goes_on(
    discovery: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery.add("chunk_0000")

    def die(name: str, keys: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(discovery.instance, "add_dynamic_partitions", die)
    with pytest.raises(KeyboardInterrupt):
        discovery.evaluate()
    monkeypatch.undo()
    assert discovery.platform.store.chunk_keys() == ["chunk_0000"]
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]


@pytest.mark.parametrize("cursor", [None, "", "not json", "[]", '{"before": 1}'])
def test_a_lost_or_foreign_cursor_requests_nothing_twice(discovery: Discovery, cursor: str | None) -> None:
    discovery.add("chunk_0000")
    discovery.tick()
    discovery.cursor = cursor
    assert keys(discovery.tick()) == []


# Changed files


@pytest.fixture
def made(discovery: Discovery) -> Discovery:
    for chunk in ("chunk_0000", "chunk_0001"):
        discovery.add(chunk)
    discovery.tick()
    for chunk in ("chunk_0000", "chunk_0001"):
        discovery.make(chunk)
    assert keys(discovery.tick()) == []
    return discovery


def _request(result: dg.SensorResult) -> dg.RunRequest:
    (request,) = result.run_requests or []
    return request


def test_a_changed_file_requests_raw_clips_of_its_chunk_once(made: Discovery) -> None:
    made.add("chunk_0001", "a", frames=30)
    request = _request(made.tick())
    assert request.partition_key == "chunk_0001"
    assert request.asset_selection == [dg.AssetKey("raw_clips")]
    assert request.tags["lanepaint/why"] == "1 clips changed, 0 vanished"
    assert keys(made.tick()) == []
    before = make_raw_clips(Platform(made.settings), "chunk_0000", "again")
    made.make("chunk_0001")
    assert keys(made.tick()) == []
    assert not before.computed


def test_the_data_version_of_raw_clips_follows_the_files(made: Discovery) -> None:
    before = make_raw_clips(made.platform, "chunk_0001", "r").data_version
    made.add("chunk_0001", "a", frames=30)
    changed = make_raw_clips(made.platform, "chunk_0001", "r")
    assert changed.data_version != before
    assert len(changed.computed) == 1


def test_a_file_that_changes_back_and_forth_is_requested_every_time(made: Discovery) -> None:
    contents = [made.path("chunk_0000", name).read_bytes() for name in ("a", "b")]
    seen = set()
    for turn in range(4):
        path = made.path("chunk_0000", "a")
        path.write_bytes(contents[turn % 2] + b"\0" * (turn % 2))
        request = _request(made.tick())
        assert request.run_key not in seen
        seen.add(request.run_key)
        made.make("chunk_0000")


def test_a_broken_file_that_is_uploaded_again_is_requested(made: Discovery) -> None:
    made.path("chunk_0000", "a").write_bytes(b"broken")
    made.tick()
    made.make("chunk_0000")
    assert keys(made.tick()) == []
    made.add("chunk_0000", "a", frames=27)
    assert _request(made.tick()).partition_key == "chunk_0000"


def test_a_vanished_clip_is_retired_and_comes_back_with_its_file(made: Discovery) -> None:
    path = made.path("chunk_0000", "a")
    path.rename(path.with_suffix(".away"))
    assert _request(made.tick()).tags["lanepaint/why"] == "0 clips changed, 1 vanished"
    made.make("chunk_0000")
    rows = made.platform.store.manifest("raw_clips", "chunk_0000").rows
    assert {row.status for row in rows.values()} == {"ok", "retired"}
    assert keys(made.tick()) == []
    path.with_suffix(".away").rename(path)
    assert _request(made.tick()).tags["lanepaint/why"] == "1 clips changed, 0 vanished"
    made.make("chunk_0000")
    assert keys(made.tick()) == []
    assert {row.status for row in made.platform.store.manifest("raw_clips", "chunk_0000").rows.values()} == {"ok"}


def test_a_vanished_chunk_is_retired_and_stays_a_partition(made: Discovery) -> None:
    for clip in ("a", "b"):
        made.path("chunk_0000", clip).unlink()
    made.path("chunk_0000", "a").parent.rmdir()
    request = _request(made.tick())
    assert (request.partition_key, request.tags["lanepaint/why"]) == ("chunk_0000", "0 clips changed, 2 vanished")
    made.make("chunk_0000")
    rows = made.platform.store.manifest("raw_clips", "chunk_0000").rows
    assert {row.status for row in rows.values()} == {"retired"}
    assert all(row.folder for row in rows.values())
    assert keys(made.tick()) == []
    assert registered_chunks(made.instance) == ["chunk_0000", "chunk_0001"]


def test_a_source_that_lists_nothing_retires_nothing(made: Discovery) -> None:
    before = made.platform.source()
    (made.source / CAMERA).rename(made.source / "away")
    (made.source / CAMERA).mkdir()
    platform = made.platform
    platform._sources[platform.source_address] = before  # as in a code server that had opened it
    (sensor,) = build_sensors()
    with dg.build_sensor_context(instance=made.instance, resources={"platform": platform}) as context:
        result = sensor(context)
    assert keys(result) == []
    assert "none is taken for vanished" in str(result.skip_reason.skip_message)


def test_another_setting_makes_no_flood(made: Discovery) -> None:
    made.settings = made.settings.model_copy(update={"frame_limit": 4})
    assert keys(made.tick()) == []


# Trouble


def test_an_unreadable_chunk_blocks_no_other_and_is_told(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.add("chunk_0001")
    (discovery.path("chunk_0000", "a").parent / "b\udcff.mp4").write_bytes(b"x")
    assert keys(discovery.tick()) == ["new_chunks:chunk_0001"]
    told = str(discovery.tick().skip_reason.skip_message)
    assert "chunk chunk_0000: the file name" in told
    assert "not UTF-8" in told


def test_an_unreadable_source_is_told_and_registered_chunks_are_still_requested(
    discovery: Discovery, tmp_path: Path
) -> None:
    discovery.add("chunk_0000")
    discovery.evaluate()
    discovery.source.rename(tmp_path / "away")
    result = discovery.evaluate()
    assert keys(result) == ["new_chunks:chunk_0000"]
    discovery.launch(_request(result))
    assert "cannot be listed" in str(discovery.evaluate().skip_reason.skip_message)


# Large sources


def test_a_look_ends_after_some_seconds_and_the_next_ones_go_round(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2, 40):
        made.add(f"chunk_{number:04d}", "a")
    while len(registered_chunks(made.instance)) < 40:
        made.tick()
    for chunk in registered_chunks(made.instance):
        made.make(chunk)
    made.add("chunk_0039", "a", frames=30)
    made.cursor = None
    # A clock that goes a second forward whenever it is read: each look has time for one batch.
    monkeypatch.setattr(sensors, "LOOK_S", 1.0)
    monkeypatch.setattr(partitions.time, "monotonic", count().__next__)
    looks = [made.tick() for _ in range(4)]
    assert [keys(look) != [] for look in looks] == [False, False, True, False]
    assert [json.loads(str(look.cursor))["after"] for look in looks] == [
        "chunk_0015", "chunk_0031", "chunk_0007", "chunk_0023",
    ]  # fmt: skip


def test_the_cursor_is_one_place_however_many_chunks_there_are(discovery: Discovery) -> None:
    for number in range(30):
        discovery.add(f"chunk_{number:04d}", "a")
        discovery.tick()
    discovery.tick()
    kept = json.loads(str(discovery.cursor))
    assert set(kept) == {"after"}
    assert kept["after"] in registered_chunks(discovery.instance)
