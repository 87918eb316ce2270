"""The sensor `new_chunks` where files of registered chunks change: one request a change, whatever comes of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import dagster as dg
import pytest

from lanepaint_assets.clips import probing
from lanepaint_assets.clips.records import ClipFacts
from lanepaint_assets.clips.sensors import CHUNKS_PER_TICK, build_sensors
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.items import StepError
from lanepaint_assets_tests.unit.clips.discovery import CAMERA, Discovery, keys, let_pass, the_request


def test_a_changed_file_requests_raw_clips_of_its_chunk_once(made: Discovery) -> None:
    made.add("chunk_0001", "a", frames=30)
    request = the_request(made.tick())
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
        request = the_request(made.tick())
        assert request.run_key not in seen
        seen.add(request.run_key)
        made.make("chunk_0000")


def test_a_broken_file_that_is_uploaded_again_is_requested(made: Discovery) -> None:
    made.path("chunk_0000", "a").write_bytes(b"broken")
    made.tick()
    made.make("chunk_0000")
    assert keys(made.tick()) == []
    made.add("chunk_0000", "a", frames=27)
    assert the_request(made.tick()).partition_key == "chunk_0000"


def test_a_vanished_clip_is_retired_and_comes_back_with_its_file(made: Discovery) -> None:
    path = made.path("chunk_0000", "a")
    path.rename(path.with_suffix(".away"))
    assert the_request(made.tick()).tags["lanepaint/why"] == "0 clips changed, 1 vanished"
    made.make("chunk_0000")
    rows = made.platform.store.manifest("raw_clips", "chunk_0000").rows
    assert {row.status for row in rows.values()} == {"ok", "retired"}
    assert keys(made.tick()) == []
    path.with_suffix(".away").rename(path)
    assert the_request(made.tick()).tags["lanepaint/why"] == "1 clips changed, 0 vanished"
    made.make("chunk_0000")
    assert keys(made.tick()) == []
    assert {row.status for row in made.platform.store.manifest("raw_clips", "chunk_0000").rows.values()} == {"ok"}


def test_a_broken_clip_that_is_taken_away_is_retired(made: Discovery) -> None:
    path = made.path("chunk_0000", "a")
    path.write_bytes(b"broken")
    made.tick()
    made.make("chunk_0000")
    path.unlink()
    assert the_request(made.tick()).tags["lanepaint/why"] == "0 clips changed, 1 vanished"
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
    request = the_request(made.tick())
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
    assert the_request(discovery.tick()).tags["lanepaint/why"] == "1 clips changed, 0 vanished"
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


def test_a_change_waits_while_the_chunk_is_being_made(made: Discovery) -> None:
    made.instance.add_run(dg.DagsterRun(job_name="sam2_vp", tags={"dagster/partition": "chunk_0001"}))
    made.add("chunk_0001", "a", frames=30)
    assert keys(made.tick()) == []
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    assert the_request(made.tick()).partition_key == "chunk_0001"


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
        let_pass(monkeypatch, minutes)
        quiet = made.tick()
        assert keys(quiet) == []
        assert "chunk chunk_0001: its files changed, and raw_clips was cancelled" in str(quiet.skip_reason.skip_message)
    made.add("chunk_0001", "a", frames=33)
    assert the_request(made.tick()).partition_key == "chunk_0001"
    made.make("chunk_0001")
    assert keys(made.tick()) == []


def test_a_failed_run_for_changed_files_is_repeated_once_an_hour_later(
    made: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add("chunk_0001", "a", frames=30)
    first = the_request(made.tick())
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    soon = made.tick()
    assert keys(soon) == []
    assert "chunk chunk_0001: requested again after" in str(soon.skip_reason.skip_message)
    let_pass(monkeypatch, 61)
    second = the_request(made.tick())
    assert second.run_key != first.run_key
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    let_pass(monkeypatch, 6000)
    quiet = made.tick()
    assert keys(quiet) == []
    assert "raw_clips failed 2 times; materialize it yourself" in str(quiet.skip_reason.skip_message)
    made.make("chunk_0001")
    made.add("chunk_0001", "a", frames=33)
    assert the_request(made.tick()).partition_key == "chunk_0001"


def test_a_repetition_that_a_condition_asked_for_counts(made: Discovery, monkeypatch: pytest.MonkeyPatch) -> None:
    made.add("chunk_0001", "a", frames=30)
    made.tick()
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    selection = frozenset([dg.AssetKey("raw_clips")])
    tags = {"dagster/partition": "chunk_0001"}
    made.instance.add_run(dg.DagsterRun(job_name="__ASSET_JOB", tags=tags, asset_selection=selection))
    made.end("chunk_0001", dg.DagsterEventType.RUN_FAILURE)
    let_pass(monkeypatch, 61)
    assert keys(made.tick()) == []
