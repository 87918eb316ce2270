"""What a failure requests: one more attempt, and then nothing until an input changes."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml

from lanepaint_assets.automation import AUTOMATION_RETRIES, OP_RETRIES, RUN_RETRIES
from lanepaint_assets_tests.unit.automation.world import BOTH, MODELS, QUIET, World, built

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_failure_is_tried_again_once_and_then_it_is_quiet_until_an_input_changes(world: World) -> None:
    world.fail("road_masks", "chunk_0001")
    # And what is made from it, in the same run.
    assert world.tick("segmentation") == {"road_masks": {"chunk_0001"}, "vp_inputs": {"chunk_0001"}}
    world.fail("road_masks", "chunk_0001")
    for _ in range(4):
        assert world.tick("segmentation") == {}
    world.observe("sam2_checkpoint", "v2")
    assert world.tick("segmentation")["road_masks"] == BOTH


def test_after_a_success_a_failure_is_tried_again_anew(world: World) -> None:
    for _ in range(2):
        world.fail("edited_trajectories", "chunk_0000")
        assert world.tick("evaluation")["edited_trajectories"] == {"chunk_0000"}
        world.make("edited_trajectories", "chunk_0000", "v1")
        world.tick("evaluation")


def test_partitions_that_had_failed_before_the_first_look_stay_quiet(instance: dg.DagsterInstance) -> None:
    world = World(instance)
    world.register("chunk_0000")
    world.make("raw_clips", "chunk_0000", "v1")
    world.observe("sam2_checkpoint", "v1")
    world.fail("road_masks", "chunk_0000")
    for _ in range(3):
        assert world.tick("segmentation") == {}


def test_a_failure_of_raw_clips_is_tried_again_once(world: World) -> None:
    world.fail("raw_clips", "chunk_0001")
    assert world.tick("clips") == {"raw_clips": {"chunk_0001"}}
    world.fail("raw_clips", "chunk_0001")
    assert world.tick("clips") == world.tick("clips") == {}


def test_what_a_failed_run_never_came_to_is_made_once_its_input_is_there(world: World) -> None:
    """The chain of a new chunk goes on after its failed link is mended, though its later assets were never made."""
    world.make("raw_clips", "chunk_0002", "v1")
    job = world.definitions.resolve_job_def("sam2_only")
    job.execute_in_process(
        partition_key="chunk_0002",
        instance=world.instance,
        asset_selection=[dg.AssetKey("road_masks"), dg.AssetKey("vp_inputs")],
        raise_on_error=False,
        run_config=QUIET,
    )
    requested = world.tick("segmentation")
    assert requested == {"road_masks": {"chunk_0002"}, "vp_inputs": {"chunk_0002"}}


def test_attempts_multiply_to_what_is_stated() -> None:
    retries = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())["run_retries"]
    assert retries == {"enabled": True, "max_retries": RUN_RETRIES, "retry_on_asset_or_op_failure": False}
    graph = built(MODELS).resolve_asset_graph()
    policies = {graph.get(key).assets_def.op.retry_policy for key in graph.materializable_asset_keys}
    assert policies == {None}
    assert OP_RETRIES == 0
    failing_step = (1 + OP_RETRIES) * (1 + AUTOMATION_RETRIES)
    dying_process = (1 + OP_RETRIES) * (1 + RUN_RETRIES) * (1 + AUTOMATION_RETRIES)
    assert (failing_step, dying_process) == (2, 4)
    stated = ["fails is executed 2 times for one cause", "kills its process 4 times"]
    described = [
        sensor.description
        for sensor in built(MODELS).sensors or []
        if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    ]
    for text in [(REPOSITORY / "dagster.yaml").read_text(), *described]:
        assert all(sentence in str(text) for sentence in stated)


def test_a_requested_run_that_fails_before_the_next_look_is_tried_again(world: World) -> None:
    world.observe("sam2_checkpoint", "v2")
    assert world.tick("segmentation")["road_masks"] == BOTH
    world.fail("road_masks", "chunk_0001")
    assert world.tick("segmentation")["road_masks"] == {"chunk_0001"}
    world.fail("road_masks", "chunk_0001")
    assert world.tick("segmentation") == {}


def test_a_run_that_dagster_starts_again_itself_is_waited_for(world: World) -> None:
    """Its process dies: the run, Dagster's second one, the one requested here, Dagster's second one of that."""
    for requested in ({"road_masks": {"chunk_0001"}, "vp_inputs": {"chunk_0001"}}, {}):
        world.die(world.start(["road_masks", "vp_inputs"], "chunk_0001"))
        again = world.start(["road_masks", "vp_inputs"], "chunk_0001")
        assert world.tick("segmentation") == {}
        world.die(again)
        assert world.tick("segmentation") == requested
    assert world.tick("segmentation") == {}


def test_what_failed_holds_up_what_is_below_it_until_it_is_mended(world: World) -> None:
    world.observe("sam2_checkpoint", "v2")
    assert world.tick("segmentation")["road_masks"] == BOTH
    world.run(["road_masks", "vp_inputs"], "chunk_0000", "v2")
    for _ in range(2):
        world.fail("road_masks", "chunk_0001")
        world.tick("segmentation")
    world.observe("prompt_catalogue", "v2")
    assert world.tick("editing")["first_frames"] == {"chunk_0000"}
    assert world.tick("editing") == {}
    world.run(["road_masks", "vp_inputs"], "chunk_0001", "v2")
    assert world.tick("editing")["first_frames"] == {"chunk_0001"}
