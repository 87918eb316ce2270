"""Backfills that a person starts by a job's name count like all others, before they have launched a run."""

from __future__ import annotations

import dagster as dg

from lanepaint_assets.under_way import left_to_backfills
from lanepaint_assets_tests.unit.automation.world import BOTH, CHUNKS, MODELS, World, built
from lanepaint_assets_tests.unit.backfills import backfill_of_job


def test_what_it_is_to_make_is_not_requested_beside_it(world: World) -> None:
    backfill = world.backfill_of_job("vp_only", "chunk_0000")
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {"edited_videos": {"chunk_0001"}}
    world.complete_backfill(backfill)
    assert world.tick("editing") == {"edited_videos": {"chunk_0000"}}


def test_a_failed_partition_is_not_tried_again_beside_it(world: World) -> None:
    world.backfill_of_job("sam2_only", *CHUNKS)
    world.fail("raw_clips", "chunk_0001")
    assert world.tick("clips") == {}


def test_what_is_made_from_it_waits_for_it(world: World) -> None:
    backfill = world.backfill_of_job("sam2_only", "chunk_0000")
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing")["first_frames"] == {"chunk_0001"}
    world.complete_backfill(backfill)
    assert world.tick("editing")["first_frames"] == {"chunk_0000"}


def test_it_takes_room_of_those_that_may_be_under_way(world: World) -> None:
    world.definitions = built(MODELS.model_copy(update={"automation_partitions": 2}))
    world.backfill_of_job("vp_only", *CHUNKS, "chunk_0002")
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing") == {}


def test_what_it_had_not_launched_is_left_alone_when_it_is_cancelled(world: World) -> None:
    backfill = world.backfill_of_job("vp_only", *CHUNKS)
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {}
    world.cancel_backfill(backfill)
    assert world.tick("editing") == {}
    world.cancel_backfill(backfill)
    assert world.tick("editing") == world.tick("editing") == {}
    world.observe("cogvideox_checkpoint", "v3")
    assert world.tick("editing") == {"edited_videos": BOTH}


def test_what_it_makes_is_known_of_every_job(instance: dg.DagsterInstance) -> None:
    jobs = [job for job in built(MODELS).get_repository_def().get_all_jobs() if not job.name.startswith("__")]
    makes = {job.name: job.asset_layer.selected_asset_keys for job in jobs if job.partitions_def is not None}
    assert len(makes) > 6
    for job in makes:
        instance.add_backfill(backfill_of_job(job, [f"first_of_{job}", job], launched=f"first_of_{job}", name=job))
    left = left_to_backfills(instance)
    assert {job: {asset for asset, partitions in left.items() if job in partitions} for job in makes} == makes
    assert not any(str(partition).startswith("first_of") for partitions in left.values() for partition in partitions)
