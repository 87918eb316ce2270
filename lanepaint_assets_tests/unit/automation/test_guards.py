"""What keeps requests from becoming a flood: caps, backfills, pools, sensors that are off; and freshness."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from lanepaint_assets.automation import LARGE_GPU, SMALL_GPU
from lanepaint_assets.conditions import AUTOMATION, REQUESTED_BY_TAG
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.automation.world import (
    CHECKPOINTS,
    MODELS,
    TRAINING_ASSETS,
    VIDEO_ASSETS,
    World,
    built,
    planned,
)


def test_no_more_than_the_set_number_of_partitions_is_under_way_and_the_rest_follows(
    instance: dg.DagsterInstance,
) -> None:
    world = World(instance, MODELS.model_copy(update={"automation_partitions": 4}))
    chunks = [f"chunk_{number:04d}" for number in range(10)]
    world.register(*chunks)
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        world.observe(asset, "v1")
    for chunk in chunks:
        for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
            world.make(asset, chunk, "v1")
    world.tick("editing")
    world.observe("cogvideox_checkpoint", "v2")
    made: list[str] = []
    while len(made) < 10:
        requested = sorted(map(str, world.tick("editing")["edited_videos"]))
        assert requested == chunks[len(made) : len(made) + 4]
        for chunk in requested:
            world.make("edited_videos", chunk, "v2")
        made += requested
    assert world.tick("editing") == {}


def test_partitions_under_way_take_room(world: World) -> None:
    world.definitions = built(MODELS.model_copy(update={"automation_partitions": 1}))
    world.instance.add_run(dg.DagsterRun(job_name="x", run_id="b" * 32, status=dg.DagsterRunStatus.STARTED))
    world.instance.report_dagster_event(planned("edited_videos", "chunk_0000"), run_id="b" * 32)
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {}


def test_every_group_with_conditions_has_a_sensor_that_is_off_and_emits_backfills() -> None:
    definitions = built(MODELS)
    sensors = {
        sensor.name: sensor
        for sensor in definitions.sensors or []
        if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    }
    graph = definitions.resolve_asset_graph()
    groups = {
        graph.get(key).group_name
        for key in graph.materializable_asset_keys
        if graph.get(key).automation_condition is not None
    }
    assert set(sensors) == {f"{group}_automation" for group in groups}
    for sensor in sensors.values():
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
        assert sensor.emit_backfills
        assert sensor.run_tags == {REQUESTED_BY_TAG: AUTOMATION}


def test_a_sensors_tick_asks_for_one_backfill_of_several_partitions_and_a_run_of_one(world: World) -> None:
    repository = world.definitions.get_repository_def()
    cursors: dict[str, str | None] = {}

    def requests(name: str) -> Sequence[dg.RunRequest]:
        sensor = repository.get_sensor_def(name)
        with dg.build_sensor_context(
            instance=world.instance, cursor=cursors.get(name), repository_def=repository, sensor_name=name
        ) as context:
            tick = sensor.evaluate_tick(context)
        cursors[name] = tick.cursor
        return tick.run_requests or []

    assert requests("editing_automation") == requests("segmentation_automation") == []
    world.observe("cogvideox_checkpoint", "v2")
    (backfill,) = requests("editing_automation")
    assert backfill.asset_graph_subset is not None
    assert backfill.tags[REQUESTED_BY_TAG] == AUTOMATION
    world.make("raw_clips", "chunk_0001", "v2")
    (run,) = requests("segmentation_automation")
    assert run.partition_key == "chunk_0001"
    assert run.tags[REQUESTED_BY_TAG] == AUTOMATION


def test_steps_of_models_wait_in_the_pool_of_their_class_of_gpu() -> None:
    def pools(settings: Settings) -> dict[str, set[str]]:
        graph = built(settings).resolve_asset_graph()
        return {key.to_user_string(): set(graph.get(key).pools or ()) for key in graph.materializable_asset_keys}

    models = pools(MODELS)
    small = {asset for asset, named in models.items() if named == {SMALL_GPU}}
    large = {asset for asset, named in models.items() if named == {LARGE_GPU}}
    assert small == {"road_masks", "vp_inputs"}
    assert large == {
        "training_samples", "first_frames", "edited_videos", "original_trajectories", "edited_trajectories",
        "lane_loras",
    }  # fmt: skip
    verified = pools(Settings(root="memory://automation", verifying_inspector="qwen2_5_vl"))
    assert {asset for asset, named in verified.items() if named == {LARGE_GPU}} == {"video_quality", "lane_loras"}
    on_cpu = pools(Settings(root="memory://automation"))
    assert {asset for asset, named in on_cpu.items() if named} == {"lane_loras"}


def test_every_made_asset_has_a_freshness_policy_that_warns_before_it_fails() -> None:
    graph = built(MODELS).resolve_asset_graph()
    windows = {}
    for key in graph.materializable_asset_keys:
        policy = graph.get(key).freshness_policy
        assert policy is not None, key
        assert policy.warn_window < policy.fail_window
        windows[key.to_user_string()] = policy.warn_window.to_timedelta()
    for upstream, asset in (("raw_clips", "road_masks"), ("road_masks", "first_frames"),
                            ("first_frames", "edited_videos"), ("edited_videos", "edited_trajectories"),
                            ("edited_trajectories", "trajectory_reports"), ("trajectory_reports", "prompt_leaderboard"),
                            ("filtered_samples", "lane_loras")):  # fmt: skip
        assert windows[upstream] < windows[asset]
