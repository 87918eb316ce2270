"""When the table over all chunks is made."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from dagster._core.events import DagsterEvent

from lanepaint_assets.partition_states import PartitionStates
from lanepaint_assets_tests.unit.automation.world import World, planned


def _leaderboard(world: World, minutes: int) -> bool:
    world.now += timedelta(minutes=minutes)
    return bool(world.tick("prompt_leaderboard"))


def test_the_leaderboard_is_made_at_the_full_hour_after_a_report_though_chunks_lack_theirs(world: World) -> None:
    assert not _leaderboard(world, 60)
    world.make("trajectory_reports", "chunk_0000", "v2")
    assert not _leaderboard(world, 1)
    assert _leaderboard(world, 60)
    world.make("prompt_leaderboard", None, "v2")
    assert not _leaderboard(world, 60)


def test_the_leaderboard_is_made_hourly_above_more_chunks_than_dagster_compares(world: World) -> None:
    """Dagster's staleness leaves out inputs of a hundred partitions and more; the condition may not."""
    assert not _leaderboard(world, 1)
    chunks = [f"many_{number:04d}" for number in range(150)]
    world.register(*chunks)
    for chunk in chunks:
        world.make("trajectory_reports", chunk, "v1")
    assert not _leaderboard(world, 1)
    assert _leaderboard(world, 60)
    world.make("prompt_leaderboard", None, "v1")
    assert not _leaderboard(world, 60)
    world.make("trajectory_reports", chunks[140], "v2")
    assert _leaderboard(world, 60)


def test_a_cancelled_leaderboard_waits_for_the_next_report(world: World) -> None:
    assert not _leaderboard(world, 1)
    world.make("trajectory_reports", "chunk_0000", "v2")
    assert _leaderboard(world, 60)
    world.cancel(world.start(["prompt_leaderboard"], None))
    assert not _leaderboard(world, 60)
    assert not _leaderboard(world, 60)
    world.make("trajectory_reports", "chunk_0001", "v2")
    assert _leaderboard(world, 60)


def test_a_leaderboard_that_a_backfill_is_to_make_is_not_requested_beside_it(world: World) -> None:
    assert not _leaderboard(world, 1)
    world.make("trajectory_reports", "chunk_0000", "v2")
    backfill = world.backfill({"prompt_leaderboard": {None}})
    states = PartitionStates(world.instance, world.definitions)
    assert states.whole("prompt_leaderboard").state == "queued"
    assert not _leaderboard(world, 60)
    world.complete_backfill(backfill)
    assert _leaderboard(world, 60)


def test_a_failing_leaderboard_is_tried_again_once_though_it_counts_as_not_failed_while_it_runs(world: World) -> None:
    assert not _leaderboard(world, 1)

    def under_way_then_failed(run: str) -> None:
        world.instance.add_run(dg.DagsterRun(job_name="x", run_id=run, status=dg.DagsterRunStatus.STARTED))
        world.instance.report_dagster_event(planned("prompt_leaderboard", None), run_id=run)
        assert not _leaderboard(world, 1)
        failed = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name="x")
        world.instance.report_dagster_event(failed, run_id=run)

    under_way_then_failed("1" * 32)
    assert _leaderboard(world, 1)
    for number in range(2, 5):
        under_way_then_failed(str(number) * 32)
        assert not _leaderboard(world, 1)
        assert not _leaderboard(world, 1)
