"""The sensor `new_chunks`: every chunk is registered and requested once, whatever happens in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from lanepaint_assets import partitions
from lanepaint_assets.clips import probing, sensors
from lanepaint_assets.clips.records import ChunkMembership, ClipFacts, ClipRef
from lanepaint_assets.clips.sensors import CHUNKS_PER_TICK, build_sensors
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import StepError
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
    other = make_raw_clips(Platform(made.settings), "chunk_0000", "again")
    assert not other.computed
    made.make("chunk_0001")
    assert keys(made.tick()) == []


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


def test_a_broken_clip_that_is_taken_away_is_retired(made: Discovery) -> None:
    path = made.path("chunk_0000", "a")
    path.write_bytes(b"broken")
    made.tick()
    made.make("chunk_0000")
    path.unlink()
    assert _request(made.tick()).tags["lanepaint/why"] == "0 clips changed, 1 vanished"
    made.make("chunk_0000")
    assert {row.status for row in made.platform.store.manifest("raw_clips", "chunk_0000").rows.values()} == {
        "ok",
        "retired",
    }
    assert keys(made.tick()) == []


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


def test_another_setting_makes_no_flood_nor_do_clips_that_failed(made: Discovery) -> None:
    made.path("chunk_0000", "a").write_bytes(b"broken")
    made.tick()
    made.make("chunk_0000")
    made.settings = made.settings.model_copy(update={"frame_limit": 4})
    assert keys(made.tick()) == []


def test_a_clip_that_was_missing_from_the_first_is_requested_when_its_file_comes(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.tick()
    path = discovery.path("chunk_0000", "a")
    path.rename(path.with_suffix(".away"))
    discovery.make("chunk_0000")
    rows = discovery.platform.store.manifest("raw_clips", "chunk_0000").rows
    assert {row.status for row in rows.values()} == {"ok", "failed"}
    assert keys(discovery.tick()) == []
    path.with_suffix(".away").rename(path)
    assert _request(discovery.tick()).tags["lanepaint/why"] == "1 clips changed, 0 vanished"
    discovery.make("chunk_0000")
    assert keys(discovery.tick()) == []


def test_changed_files_are_found_while_new_chunks_and_new_clips_wait_for_their_turn(made: Discovery) -> None:
    made.add("chunk_0000", "late")
    made.add("chunk_0001", "a", frames=30)
    for number in range(2, 2 * CHUNKS_PER_TICK):
        made.add(f"chunk_{number:04d}", "a")
    first = made.tick()
    assert len(keys(first)) == CHUNKS_PER_TICK + 1
    assert "changed_files:chunk_0001" in str(keys(first)[-1])
    registered: list[str] = []
    while len(registered) < len(registered := registered_chunks(made.instance)):
        made.tick()
    assert len(registered) == 2 * CHUNKS_PER_TICK + 1
    assert "chunk_0000_part_02" in registered


# Runs for changed files that end otherwise


def _at(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    """Let the sensor believe that it is so many minutes later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp(time.time() + 60 * minutes, tz)

    monkeypatch.setattr(sensors, "datetime", Later)


def test_a_change_waits_while_the_chunk_is_being_made(made: Discovery) -> None:
    made.instance.add_run(dg.DagsterRun(job_name="sam2_vp", tags={"dagster/partition": "chunk_0001"}))
    made.add("chunk_0001", "a", frames=30)
    assert keys(made.tick()) == []
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    assert _request(made.tick()).partition_key == "chunk_0001"


def _first_only(probe: Callable[..., ClipFacts], calls: Iterator[int], *arguments: Any) -> ClipFacts:
    if next(calls):
        raise StepError("the run is over")
    return probe(*arguments)


def test_a_cancelled_run_for_changed_files_is_left_alone_and_told_until_the_files_change_again(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add("chunk_0001", "a", "b", frames=30)
    made.tick()
    # One clip was done when a person cancelled the run, so that what is left looks like another change.
    monkeypatch.setattr("lanepaint_assets.clips.probing.probe_clip", partial(_first_only, probing.probe_clip, count()))
    with pytest.raises(StepError):
        make_raw_clips(made.platform, "chunk_0001", "cancelled")
    monkeypatch.undo()
    made.end("chunk_0001", dg.DagsterEventType.RUN_CANCELED)
    for minutes in (0, 600):
        _at(monkeypatch, minutes)
        quiet = made.tick()
        assert keys(quiet) == []
        assert "chunk chunk_0001: its files changed, and raw_clips was cancelled" in str(quiet.skip_reason.skip_message)
    made.add("chunk_0001", "a", frames=33)
    assert _request(made.tick()).partition_key == "chunk_0001"
    made.make("chunk_0001")
    assert keys(made.tick()) == []


def test_a_failed_run_for_changed_files_is_repeated_once_an_hour_later(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add("chunk_0001", "a", frames=30)
    first = _request(made.tick())
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    soon = made.tick()
    assert keys(soon) == []
    assert "chunk chunk_0001: requested again after" in str(soon.skip_reason.skip_message)
    _at(monkeypatch, 61)
    second = _request(made.tick())
    assert second.run_key != first.run_key
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    _at(monkeypatch, 6000)
    quiet = made.tick()
    assert keys(quiet) == []
    assert "raw_clips failed 2 times; materialize it yourself" in str(quiet.skip_reason.skip_message)
    made.make("chunk_0001")
    made.add("chunk_0001", "a", frames=33)
    assert _request(made.tick()).partition_key == "chunk_0001"


def test_a_repetition_that_a_condition_asked_for_counts(made: Discovery, monkeypatch: pytest.MonkeyPatch) -> None:
    made.add("chunk_0001", "a", frames=30)
    made.tick()
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    selection = frozenset([dg.AssetKey("raw_clips")])
    tags = {"dagster/partition": "chunk_0001"}
    made.instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", tags=tags, asset_selection=selection))
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    _at(monkeypatch, 61)
    assert keys(made.tick()) == []


# Files that are still being written


def _is_waiting(result: dg.SensorResult, chunk: str) -> bool:
    return not keys(result) and f"still being written: {chunk}" in str(result.skip_reason.skip_message)


def test_a_chunk_is_taken_as_a_whole_when_its_upload_has_rested(
    discovery: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery.settings = discovery.settings.model_copy(update={"chunk_stable_minutes": 5.0})
    for clip in "abc":
        discovery.add("chunk_0000", clip)
        assert _is_waiting(discovery.tick(), "chunk_0000")
    _at(monkeypatch, 4)
    assert _is_waiting(discovery.tick(), "chunk_0000")
    _at(monkeypatch, 6)
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]
    assert [ref.clip_id for ref in discovery.platform.store.chunk("chunk_0000").clips] == ["a", "b", "c"]
    discovery.add("chunk_0000", "late")
    _at(monkeypatch, 0)
    assert _is_waiting(discovery.tick(), "chunk_0000")
    _at(monkeypatch, 6)
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000_part_02"]


def test_a_file_that_is_being_replaced_is_requested_when_it_has_rested(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.settings = made.settings.model_copy(update={"chunk_stable_minutes": 5.0})
    made.path("chunk_0001", "a").write_bytes(made.path("chunk_0001", "a").read_bytes()[:100])
    assert _is_waiting(made.tick(), "chunk_0001")
    _at(monkeypatch, 6)
    assert _request(made.tick()).partition_key == "chunk_0001"


# Backfills that have launched nothing yet


def _backfill(instance: dg.DagsterInstance, name: str, status: BulkActionStatus, *chunks: str) -> None:
    wanted = AssetGraphSubset(
        partitions_subsets_by_asset_key={dg.AssetKey("raw_clips"): DefaultPartitionsSubset({*chunks})}
    )
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=name,
        asset_graph_subset=wanted,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill.with_status(status))


@pytest.mark.parametrize("status", [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELED])
def test_chunks_that_a_backfill_was_to_make_are_not_requested_beside_it(
    discovery: Discovery, status: BulkActionStatus
) -> None:
    for number in range(3):
        discovery.add(f"chunk_{number:04d}")
    _backfill(discovery.instance, "first", status, "chunk_0000", "chunk_0002")
    assert keys(discovery.tick()) == ["new_chunks:chunk_0001"]


def test_a_backfill_that_dagster_failed_to_carry_out_loses_no_chunk(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    _backfill(discovery.instance, "first", BulkActionStatus.FAILED, "chunk_0000")
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]


def test_a_backfill_of_a_job_counts_for_the_chunks_that_it_has_not_come_to(discovery: Discovery) -> None:
    for number in range(3):
        discovery.add(f"chunk_{number:04d}")
    discovery.instance.add_backfill(
        PartitionBackfill(
            backfill_id="job",
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=time.time(),
            partition_names=["chunk_0000", "chunk_0001"],
            last_submitted_partition_name="chunk_0000",
        )
    )
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000", "new_chunks:chunk_0002"]


def test_a_change_waits_for_a_backfill_that_will_take_it_along(made: Discovery) -> None:
    _backfill(made.instance, "all", BulkActionStatus.REQUESTED, "chunk_0001")
    made.add("chunk_0001", "a", frames=30)
    assert keys(made.tick()) == []
    made.instance.update_backfill(
        next(iter(made.instance.get_backfills())).with_status(BulkActionStatus.COMPLETED_FAILED)
    )
    assert _request(made.tick()).partition_key == "chunk_0001"


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


def test_partition_keys_that_are_no_chunks_are_named_and_block_no_other(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.instance.add_dynamic_partitions("clip_chunk", ["by_hand", "By Hand|2"])
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]
    told = str(discovery.tick().skip_reason.skip_message)
    assert "partitions that are no chunks of the store: By Hand|2, by_hand. Delete these keys" in told


def test_an_unreadable_membership_is_named_and_blocks_no_other(discovery: Discovery) -> None:
    discovery.add("chunk_0000")
    discovery.add("chunk_0001")
    discovery.evaluate()
    (Path(discovery.settings.root) / "chunks" / "chunk_0000.json").write_text("{")
    assert keys(discovery.tick()) == ["new_chunks:chunk_0001"]
    assert "chunk_0000.json is not a readable chunk" in str(discovery.tick().skip_reason.skip_message)


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


def test_chunks_of_another_source_take_a_tick_no_time_and_hide_none_of_this_one(
    discovery: Discovery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = ClipRef(clip_id="x", camera=CAMERA, uri="x.mp4", size=1, etag="1")
    others = [f"chunk_{number:04d}" for number in range(40)]
    for key in others:
        discovery.platform.store.save_chunk(ChunkMembership(key=key, source="gs://elsewhere", clips=(clip,)))
    discovery.instance.add_dynamic_partitions("clip_chunk", others)
    discovery.add("chunk_7777")
    # A clock that goes a second forward whenever it is read: each tick has time for one batch.
    monkeypatch.setattr(sensors, "FIRST_RUNS_S", 1.0)
    monkeypatch.setattr(sensors.time, "monotonic", count().__next__)
    asked = [keys(discovery.tick()) for _ in range(4)]
    assert asked == [[], [], ["new_chunks:chunk_7777"], []]


def test_the_cursor_is_one_place_however_many_chunks_there_are(discovery: Discovery) -> None:
    for number in range(30):
        discovery.add(f"chunk_{number:04d}", "a")
        discovery.tick()
    discovery.tick()
    kept = json.loads(str(discovery.cursor))
    assert set(kept) == {"after"}
    assert kept["after"] in registered_chunks(discovery.instance)
