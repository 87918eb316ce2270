"""What a changed input requests, in which order, and what it does not."""

from __future__ import annotations

import dagster as dg
import pytest

from lanepaint_assets.conditions import AUTOMATION, REQUESTED_BY_TAG
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.automation.world import (
    BOTH,
    CHECKPOINTS,
    CHUNKS,
    MODELS,
    TRAINING_ASSETS,
    VIDEO_ASSETS,
    World,
    built,
    materialized,
)


def test_nothing_is_requested_while_nothing_changes(world: World) -> None:
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        world.observe(asset, "v1")
    assert world.tick() == {}
    assert world.tick() == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # What follows within a group is requested in the same tick and made after it in the same run.
        ("sam2_checkpoint", {"road_masks", "vp_inputs", "training_samples", "filtered_samples"}),
        ("flux_fill_checkpoint", {"first_frames", "edited_videos"}),
        ("qwen_vl_checkpoint", {"first_frames", "edited_videos", "training_samples", "filtered_samples"}),
        ("cogvideox_checkpoint", {"edited_videos"}),
        ("videopainter_branch_checkpoint", {"edited_videos"}),
        (
            "alpamayo_checkpoint",
            {"original_trajectories", "edited_trajectories", "trajectory_videos", "trajectory_reports"},
        ),
        # Prompt text and promoted LoRAs are both in its data version.
        ("prompt_catalogue", {"first_frames", "edited_videos"}),
    ],
)
def test_a_changed_input_requests_the_existing_partitions_that_depend_on_it_and_no_others(
    world: World, changed: str, expected: set[str]
) -> None:
    world.observe(changed, "v2")
    assert world.tick() == dict.fromkeys(expected, BOTH)


def test_a_changed_partition_requests_only_itself_further_down(world: World) -> None:
    world.make("raw_clips", "chunk_0001", "v2")
    requested = world.tick()
    assert set(requested) == {
        "road_masks", "vp_inputs", "original_trajectories", "training_samples", "filtered_samples",
    }  # fmt: skip
    assert all(partitions == {"chunk_0001"} for partitions in requested.values())


@pytest.mark.parametrize("changed", ["sam2_checkpoint", "prompt_catalogue", "raw_clips"])
def test_a_change_goes_in_order_through_the_graph_and_makes_everything_once(world: World, changed: str) -> None:
    if changed == "raw_clips":
        world.make("raw_clips", "chunk_0000", "v2")
    else:
        world.observe(changed, "v2")
    made = [asset for asset in world.follow("v2") if asset in VIDEO_ASSETS]
    assert made == sorted(set(made), key=made.index), "an asset was made twice"
    order = {asset: place for place, asset in enumerate(made)}
    for asset, above in {
        "vp_inputs": ("road_masks",),
        "first_frames": ("vp_inputs",),
        "edited_videos": ("first_frames", "vp_inputs"),
        "edited_trajectories": ("edited_videos", "original_trajectories"),
        "video_quality": ("edited_videos",),
        "trajectory_videos": ("edited_trajectories",),
        "trajectory_reports": ("edited_trajectories", "trajectory_videos"),
    }.items():
        for upstream in above:
            if upstream in order:
                assert order[upstream] < order[asset]
    assert made[-1] == "trajectory_reports"


def test_an_asset_waits_for_all_that_is_out_of_date_above_it(world: World) -> None:
    world.make("raw_clips", "chunk_0000", "v2")
    world.tick()
    # The short way to edited_trajectories is finished first; the masks, four steps above them, are not.
    world.make("original_trajectories", "chunk_0000", "v2")
    assert world.tick("evaluation") == {}


def test_an_asset_that_came_out_the_same_requests_nothing_more(world: World) -> None:
    world.observe("sam2_checkpoint", "v2")
    world.tick()
    for chunk in CHUNKS:
        for asset in ("road_masks", "vp_inputs", *TRAINING_ASSETS):
            world.make(asset, chunk, "v1")
    assert world.tick() == {}


def test_a_change_that_comes_while_the_partition_is_made_is_not_lost(world: World) -> None:
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {"edited_videos": BOTH}
    world.observe("cogvideox_checkpoint", "v3")
    for chunk in CHUNKS:
        world.make("edited_videos", chunk, "v2")
    assert world.tick("editing") == {"edited_videos": BOTH}


def test_a_change_that_comes_while_the_sensor_is_off_is_not_lost(world: World) -> None:
    world.observe("cogvideox_checkpoint", "v2")
    for _ in range(3):
        world.tick("segmentation")
    assert world.tick("editing") == {"edited_videos": BOTH}


def test_what_was_never_made_is_not_requested_by_a_change(world: World) -> None:
    world.make("raw_clips", "chunk_0002", "v1")
    world.observe("sam2_checkpoint", "v2")
    assert all("chunk_0002" not in partitions for partitions in world.tick().values())


def test_what_was_never_made_holds_up_nothing_below_it(world: World) -> None:
    for asset in VIDEO_ASSETS:
        if asset != "road_masks":
            world.make(asset, "chunk_0002", "v1")
    world.tick()
    world.observe("sam2_checkpoint", "v2")
    assert "chunk_0002" not in world.tick("segmentation")["road_masks"]
    world.observe("prompt_catalogue", "v2")
    # The other two wait for their masks.
    assert world.tick("editing") == {"first_frames": {"chunk_0002"}, "edited_videos": {"chunk_0002"}}


# Checkpoints


def test_a_first_observation_is_no_change(instance: dg.DagsterInstance) -> None:
    world = World(instance)
    world.register("chunk_0000")
    for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
        world.make(asset, "chunk_0000", "v1")
    assert world.tick() == {}
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        world.observe(asset, "v1")
    assert world.tick() == {}
    world.observe("sam2_checkpoint", "v2")
    assert world.tick("segmentation") == {"road_masks": {"chunk_0000"}, "vp_inputs": {"chunk_0000"}}


def test_checkpoints_that_no_chosen_engine_reads_block_and_request_nothing(instance: dg.DagsterInstance) -> None:
    world = World(instance, Settings(root="memory://automation"))
    world.register("chunk_0000")
    world.observe("prompt_catalogue", "v1")  # and no checkpoint at all
    for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
        world.make(asset, "chunk_0000", "v1")
    world.tick()
    for version in ("absent", "v1", "v2"):
        for checkpoint in CHECKPOINTS:
            world.observe(checkpoint, version)
        assert world.tick() == {}
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing") == {"first_frames": {"chunk_0000"}, "edited_videos": {"chunk_0000"}}


def test_the_checkpoint_of_the_inspector_that_verifies_edits_requests_only_their_quality(
    instance: dg.DagsterInstance,
) -> None:
    """Everything else is made on the CPU."""
    world = World(instance, Settings(root="memory://automation", verifying_inspector="qwen2_5_vl"))
    world.register("chunk_0000")
    for asset in ("prompt_catalogue", "qwen_vl_checkpoint"):
        world.observe(asset, "v1")
    for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
        world.make(asset, "chunk_0000", "v1")
    world.tick()
    world.observe("qwen_vl_checkpoint", "v2")
    # And the report that shows it.
    assert world.tick() == {"video_quality": {"chunk_0000"}, "trajectory_reports": {"chunk_0000"}}


def test_a_raised_code_version_requests_nothing(instance: dg.DagsterInstance, world: World) -> None:
    world.definitions = built(MODELS.model_copy(update={"driver": "constant_velocity"}))
    assert world.tick() == {}


# Narrowed runs


def test_a_partition_that_a_narrowed_run_left_incomplete_is_requested_for_the_rest(world: World) -> None:
    world.make("first_frames", "chunk_0001", "v1", complete=False)
    requested = world.tick("editing")
    assert requested["first_frames"] == {"chunk_0001"}
    world.run(sorted(requested, reverse=True), "chunk_0001", "v1")
    assert world.tick("editing") == {}


def test_what_stays_incomplete_after_a_requested_run_is_not_requested_for_ever(world: World) -> None:
    world.make("first_frames", "chunk_0001", "v1", complete=False)
    world.tick("editing")
    world.instance.add_run(dg.DagsterRun(job_name="x", run_id="a" * 32, tags={REQUESTED_BY_TAG: AUTOMATION}))
    for asset in ("first_frames", "edited_videos"):
        world.instance.report_dagster_event(materialized(asset, "chunk_0001", "v1", complete=False), run_id="a" * 32)
    assert world.tick("editing") == world.tick("editing") == {}


# No loop


def test_a_new_chunk_leads_to_training_samples_but_never_to_a_training(world: World) -> None:
    for asset in ("raw_clips", "training_samples", "filtered_samples"):
        world.make(asset, "chunk_0002", "v1")
    for chunk in CHUNKS:
        world.make("filtered_samples", chunk, "v2")
    assert world.tick() == {}


def test_no_loop_leads_from_a_new_chunk_back_to_edits(world: World) -> None:
    graph = world.definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("lane_loras")).automation_condition is None
    reached, open_ends = set(), [dg.AssetKey("raw_clips")]
    while open_ends:
        for child in graph.get(open_ends.pop()).child_keys:
            # Only an asset with a condition is made again when what it is made from changes.
            if child not in reached and graph.get(child).automation_condition is not None:
                reached.add(child)
                open_ends.append(child)
    assert dg.AssetKey("filtered_samples") in reached
    assert not reached & {dg.AssetKey("lane_loras"), dg.AssetKey("prompt_catalogue")}


def test_a_finished_training_changes_nothing_until_it_is_promoted(world: World) -> None:
    world.make("lane_loras", "single_white_dashed", "v2")
    assert world.tick() == {}
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing") == {"first_frames": BOTH, "edited_videos": BOTH}
