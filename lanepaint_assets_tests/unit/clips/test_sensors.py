"""The sensor `new_chunks`: every chunk is registered and requested once, whatever happens in between."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from lanepaint_assets import partitions
from lanepaint_assets.clips import sensors
from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.clips.sensors import CHUNKS_PER_TICK
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets_tests.unit.backfills import backfill_of_job
from lanepaint_assets_tests.unit.clips.discovery import CAMERA, Discovery, keys, let_pass, the_request


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
    let_pass(monkeypatch, 4)
    assert _is_waiting(discovery.tick(), "chunk_0000")
    let_pass(monkeypatch, 6)
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000"]
    assert [ref.clip_id for ref in discovery.platform.store.chunk("chunk_0000").clips] == ["a", "b", "c"]
    discovery.add("chunk_0000", "late")
    let_pass(monkeypatch, 0)
    assert _is_waiting(discovery.tick(), "chunk_0000")
    let_pass(monkeypatch, 6)
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000_part_02"]


def test_a_file_that_is_being_replaced_is_requested_when_it_has_rested(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.settings = made.settings.model_copy(update={"chunk_stable_minutes": 5.0})
    made.path("chunk_0001", "a").write_bytes(made.path("chunk_0001", "a").read_bytes()[:100])
    assert _is_waiting(made.tick(), "chunk_0001")
    let_pass(monkeypatch, 6)
    assert the_request(made.tick()).partition_key == "chunk_0001"


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
    chunks = ["chunk_0000", "chunk_0001"]
    discovery.instance.add_backfill(backfill_of_job("master_pipeline", chunks, launched="chunk_0000"))
    assert keys(discovery.tick()) == ["new_chunks:chunk_0000", "new_chunks:chunk_0002"]


def test_a_change_waits_for_a_backfill_that_will_take_it_along(made: Discovery) -> None:
    _backfill(made.instance, "all", BulkActionStatus.REQUESTED, "chunk_0001")
    made.add("chunk_0001", "a", frames=30)
    assert keys(made.tick()) == []
    made.instance.update_backfill(
        next(iter(made.instance.get_backfills())).with_status(BulkActionStatus.COMPLETED_FAILED)
    )
    assert the_request(made.tick()).partition_key == "chunk_0001"


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
    discovery.launch(the_request(result))
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
