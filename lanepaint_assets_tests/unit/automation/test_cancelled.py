"""What a person cancelled is left alone, holds nothing up, and is made with the next change."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from lanepaint_assets_tests.unit.automation.world import BOTH, CHECKPOINTS, CHUNKS, MODELS, World

MASKS = ["road_masks", "vp_inputs"]
OF_ONE = {"road_masks": {"chunk_0001"}, "vp_inputs": {"chunk_0001"}}

Cancel = Callable[[World, dict[str, set[str | None]]], None]


def _cancel_runs(world: World, requested: dict[str, set[str | None]]) -> None:
    """Every run is under way at one look and terminated before the next."""
    runs = [world.start(sorted(requested), chunk) for chunk in CHUNKS]
    assert world.tick("segmentation", "editing") == {}
    for run in runs:
        world.cancel(run)


def _cancel_runs_at_once(world: World, requested: dict[str, set[str | None]]) -> None:
    """Between two looks, so that none sees a run under way."""
    for chunk in CHUNKS:
        world.cancel(world.start(sorted(requested), chunk))


def _cancel_backfill(world: World, requested: dict[str, set[str | None]]) -> None:
    """Before it launched a run."""
    backfill = world.backfill(requested)
    assert world.tick("segmentation", "editing") == {}
    world.cancel_backfill(backfill)
    assert world.tick("segmentation", "editing") == {}
    world.cancel_backfill(backfill)


def _cancel_backfill_at_once(world: World, requested: dict[str, set[str | None]]) -> None:
    backfill = world.backfill(requested)
    world.cancel_backfill(backfill)
    world.cancel_backfill(backfill)


@pytest.mark.parametrize("cancel", [_cancel_runs, _cancel_runs_at_once, _cancel_backfill, _cancel_backfill_at_once])
def test_what_was_cancelled_is_not_requested_again_until_an_input_changes(world: World, cancel: Cancel) -> None:
    world.observe("sam2_checkpoint", "v2")
    requested = world.tick("segmentation")
    cancel(world, requested)
    for _ in range(3):
        assert world.tick("segmentation") == {}
    world.observe("sam2_checkpoint", "v3")
    assert world.tick("segmentation") == requested


@pytest.mark.parametrize("cancel", [_cancel_runs, _cancel_runs_at_once, _cancel_backfill, _cancel_backfill_at_once])
def test_what_was_cancelled_holds_up_nothing_that_changes_below_it(world: World, cancel: Cancel) -> None:
    world.observe("sam2_checkpoint", "v2")
    cancel(world, world.tick("segmentation"))
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing") == {"first_frames": BOTH, "edited_videos": BOTH}


def test_a_run_that_was_cancelled_half_way_leaves_the_rest_of_its_chain_alone(world: World) -> None:
    """The run made an input of assets that it was to make too, and did not come to them."""
    run = world.start(["raw_clips", *MASKS], "chunk_0001")
    world.finish(run, "raw_clips", "chunk_0001", "v2")
    world.cancel(run)
    assert world.tick("clips", "segmentation") == world.tick("clips", "segmentation") == {}
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing")["first_frames"] == BOTH
    world.make("raw_clips", "chunk_0001", "v3")
    assert world.tick("segmentation") == OF_ONE


def test_what_a_cancelled_run_had_made_goes_on_in_other_groups(world: World) -> None:
    run = world.start(["raw_clips", *MASKS], "chunk_0001")
    world.finish(run, "raw_clips", "chunk_0001", "v2")
    world.cancel(run)
    # Of what is made from clips, these were no part of the run.
    requested = world.tick("training", "evaluation")
    for asset in ("training_samples", "filtered_samples", "original_trajectories"):
        assert requested[asset] == {"chunk_0001"}


def test_a_change_that_comes_after_the_cancelling_is_not_lost_between_two_looks(world: World) -> None:
    world.observe("sam2_checkpoint", "v2")
    requested = world.tick("segmentation")
    _cancel_runs_at_once(world, requested)
    world.observe("sam2_checkpoint", "v3")
    assert world.tick("segmentation") == requested


def test_a_backfill_of_a_person_takes_what_waited_behind_it_along_when_it_is_cancelled(world: World) -> None:
    """The sensor would otherwise ask for the same partitions a minute later."""
    backfill = world.backfill({"edited_videos": BOTH})
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {}
    world.cancel_backfill(backfill)
    world.cancel_backfill(backfill)
    assert world.tick("editing") == world.tick("editing") == {}


def test_a_cancelled_second_attempt_is_no_reason_for_a_third(world: World) -> None:
    world.fail("road_masks", "chunk_0001")
    requested = world.tick("segmentation")
    assert requested == OF_ONE
    world.cancel(world.start(sorted(requested), "chunk_0001"))
    for _ in range(3):
        assert world.tick("segmentation") == {}


def test_partitions_that_waited_for_their_turn_follow_what_was_cancelled(instance: dg.DagsterInstance) -> None:
    world = World(instance, MODELS.model_copy(update={"automation_partitions": 1}))
    world.register(*CHUNKS)
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        world.observe(asset, "v1")
    for chunk in CHUNKS:
        for asset in ("raw_clips", *MASKS, "first_frames", "edited_videos"):
            world.make(asset, chunk, "v1")
    world.tick("editing")
    world.observe("cogvideox_checkpoint", "v2")
    first = world.tick("editing")
    assert first == {"edited_videos": {CHUNKS[0]}}
    world.cancel(world.start(["edited_videos"], CHUNKS[0]))
    assert world.tick("editing") == {"edited_videos": {CHUNKS[1]}}


def test_a_cancelled_backfill_may_name_a_chunk_that_was_deleted(world: World) -> None:
    backfill = world.backfill({"edited_videos": {"chunk_0000", "chunk_0002"}})
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {"edited_videos": {"chunk_0001"}}
    world.instance.delete_dynamic_partition("clip_chunk", "chunk_0002")
    world.cancel_backfill(backfill)
    assert world.tick("editing") == {}
