"""What is requested without a person asking, each sentence played through on an instance in memory.

The real definitions are evaluated, a group at a time as the sensors do it; what assets make is only reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, StepMaterializationData

from lanepaint_assets.automation import (
    AUTOMATION_RETRIES,
    GROUPS,
    LARGE_GPU,
    OP_RETRIES,
    RUN_RETRIES,
    SMALL_GPU,
)
from lanepaint_assets.conditions import AUTOMATION, REQUESTED_BY_TAG
from lanepaint_assets.definitions import build
from lanepaint_assets.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHUNKS = ("chunk_0000", "chunk_0001")
CHECKPOINTS = (
    "sam2_checkpoint",
    "flux_fill_checkpoint",
    "cogvideox_checkpoint",
    "videopainter_branch_checkpoint",
    "qwen_vl_checkpoint",
    "alpamayo_checkpoint",
)
# In the order that a chunk goes through.
VIDEO_ASSETS = (
    "raw_clips",
    "road_masks",
    "vp_inputs",
    "first_frames",
    "edited_videos",
    "original_trajectories",
    "edited_trajectories",
    "video_quality",
    "trajectory_videos",
    "trajectory_reports",
)
TRAINING_ASSETS = ("training_samples", "filtered_samples")
NOON = datetime(2026, 3, 2, 12, 10, tzinfo=UTC)

MODELS = Settings(root="memory://automation", engines="models")


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@cache
def _built(settings: Settings) -> dg.Definitions:
    return build(settings)


class World:
    """An instance, and what each group's sensor remembers."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings = MODELS) -> None:
        self.instance = instance
        self.definitions = _built(settings)
        self.now = NOON
        self.cursors: dict[str, AssetDaemonCursor] = {}

    def register(self, *chunks: str) -> None:
        self.instance.add_dynamic_partitions("clip_chunk", list(chunks))

    def observe(self, asset: str, version: str) -> None:
        self.instance.report_runless_asset_event(dg.AssetObservation(asset, tags={"dagster/data_version": version}))

    def make(self, asset: str, chunk: str | None, version: str, *, complete: bool = True) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset, partition=chunk, metadata={"complete": complete}, tags={"dagster/data_version": version}
            )
        )

    def fail(self, asset: str, chunk: str) -> None:
        """Run one asset for real: nothing is in the store, so the step fails."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        outcome = job.execute_in_process(
            partition_key=chunk,
            asset_selection=[dg.AssetKey(asset)],
            instance=self.instance,
            raise_on_error=False,
            run_config=QUIET,
        )
        assert not outcome.success

    def tick(self, *groups: str) -> dict[str, set[str | None]]:
        """One evaluation of every group's sensor: requested partitions by asset, without empty ones."""
        self.now += timedelta(seconds=60)
        requested: dict[str, set[str | None]] = {}
        for group in groups or GROUPS:
            result = dg.evaluate_automation_conditions(
                self.definitions,
                self.instance,
                asset_selection=dg.AssetSelection.groups(group),
                cursor=self.cursors.get(group),
                evaluation_time=self.now,
            )
            self.cursors[group] = result.cursor
            for key in self.definitions.resolve_asset_graph().materializable_asset_keys:
                if partitions := result.get_requested_partitions(key):
                    requested[key.to_user_string()] = set(partitions)
        return requested

    def run(self, assets: Sequence[str], chunk: str, version: str) -> None:
        """Make assets of a chunk in one run, as a request of one sensor asks for."""
        run = dg.DagsterRun(job_name="x", asset_selection=frozenset(map(dg.AssetKey, assets)))
        self.instance.add_run(run)
        for asset in assets:
            self.instance.report_dagster_event(_materialized(asset, chunk, version), run_id=run.run_id)

    def follow(self, version: str) -> list[str]:
        """Make whatever is requested until nothing is; the assets in the order in which they were made."""
        made: list[str] = []
        for _ in range(20):
            ticks = [self.tick(group) for group in GROUPS]
            if not any(ticks):
                return made
            for requested in ticks:
                assets = [asset for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS) if asset in requested]
                for chunk in CHUNKS:
                    if chosen := [asset for asset in assets if chunk in requested[asset]]:
                        self.run(chosen, chunk, version)
                made += assets
        raise AssertionError("it never comes to rest")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _two_chunks(instance: dg.DagsterInstance) -> World:
    """Two chunks made completely, a third one registered only, everything observed."""
    made = World(instance)
    made.register(*CHUNKS, "chunk_0002")
    for asset in (*CHECKPOINTS, "prompt_catalogue"):
        made.observe(asset, "v1")
    for chunk in CHUNKS:
        for asset in (*VIDEO_ASSETS, *TRAINING_ASSETS):
            made.make(asset, chunk, "v1")
    return made


@pytest.fixture(scope="module")
def first_look() -> dict[str, AssetDaemonCursor]:
    """What the sensors remember of it. The same for every instance that is filled in the same way."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = _two_chunks(instance)
        assert made.tick() == {}
        return made.cursors


@pytest.fixture
def world(instance: dg.DagsterInstance, first_look: dict[str, AssetDaemonCursor]) -> World:
    """The two chunks after the first look."""
    made = _two_chunks(instance)
    made.now += timedelta(seconds=60)
    made.cursors = dict(first_look)
    return made


BOTH: set[str | None] = set(CHUNKS)


def _materialized(asset: str, chunk: str, version: str, *, complete: bool = True) -> DagsterEvent:
    made = dg.AssetMaterialization(
        asset, partition=chunk, metadata={"complete": complete}, tags={"dagster/data_version": version}
    )
    return DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="x",
        event_specific_data=StepMaterializationData(made),
    )


def _planned(asset: str, chunk: str | None) -> DagsterEvent:
    return DagsterEvent.build_asset_materialization_planned_event(
        "x", asset, AssetMaterializationPlannedData(dg.AssetKey(asset), partition=chunk)
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


def test_a_raised_code_version_requests_nothing(instance: dg.DagsterInstance, world: World) -> None:
    world.definitions = _built(MODELS.model_copy(update={"driver": "constant_velocity"}))
    assert world.tick() == {}


# Failures


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
    graph = _built(MODELS).resolve_asset_graph()
    policies = {graph.get(key).assets_def.op.retry_policy for key in graph.materializable_asset_keys}
    assert policies == {None}
    assert OP_RETRIES == 0
    failing_step = (1 + OP_RETRIES) * (1 + AUTOMATION_RETRIES)
    dying_process = (1 + OP_RETRIES) * (1 + RUN_RETRIES) * (1 + AUTOMATION_RETRIES)
    assert (failing_step, dying_process) == (2, 4)
    stated = ["fails is executed 2 times for one cause", "kills its process 4 times"]
    described = [
        sensor.description
        for sensor in _built(MODELS).sensors or []
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


def test_a_failing_leaderboard_is_tried_again_once_though_it_counts_as_not_failed_while_it_runs(world: World) -> None:
    def under_way_then_failed(run: str) -> None:
        world.instance.add_run(dg.DagsterRun(job_name="x", run_id=run, status=dg.DagsterRunStatus.STARTED))
        world.instance.report_dagster_event(_planned("prompt_leaderboard", None), run_id=run)
        assert not _leaderboard(world, 1)
        failed = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name="x")
        world.instance.report_dagster_event(failed, run_id=run)

    under_way_then_failed("1" * 32)
    assert _leaderboard(world, 1)
    for number in range(2, 5):
        under_way_then_failed(str(number) * 32)
        assert not _leaderboard(world, 1)
        assert not _leaderboard(world, 1)


# Narrowed runs


def test_a_partition_that_a_narrowed_run_left_incomplete_is_requested_for_the_rest(world: World) -> None:
    world.make("first_frames", "chunk_0001", "v1", complete=False)
    assert world.tick("editing")["first_frames"] == {"chunk_0001"}
    world.make("first_frames", "chunk_0001", "v1")
    world.make("edited_videos", "chunk_0001", "v1")
    assert world.tick("editing") == {}


def test_what_stays_incomplete_after_a_requested_run_is_not_requested_for_ever(world: World) -> None:
    world.make("first_frames", "chunk_0001", "v1", complete=False)
    world.tick("editing")
    world.instance.add_run(dg.DagsterRun(job_name="x", run_id="a" * 32, tags={REQUESTED_BY_TAG: AUTOMATION}))
    for asset in ("first_frames", "edited_videos"):
        world.instance.report_dagster_event(_materialized(asset, "chunk_0001", "v1", complete=False), run_id="a" * 32)
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


# Leaderboard


def _leaderboard(world: World, minutes: int) -> bool:
    world.now += timedelta(minutes=minutes)
    return "prompt_leaderboard" in world.tick("evaluation")


def test_the_leaderboard_is_made_at_the_full_hour_after_a_report_though_chunks_lack_theirs(world: World) -> None:
    assert not _leaderboard(world, 60)
    world.make("trajectory_reports", "chunk_0000", "v2")
    assert not _leaderboard(world, 1)
    assert _leaderboard(world, 60)
    world.make("prompt_leaderboard", None, "v2")
    assert not _leaderboard(world, 60)


# Guards


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
    world.definitions = _built(MODELS.model_copy(update={"automation_partitions": 1}))
    world.instance.add_run(dg.DagsterRun(job_name="x", run_id="b" * 32, status=dg.DagsterRunStatus.STARTED))
    world.instance.report_dagster_event(_planned("edited_videos", "chunk_0000"), run_id="b" * 32)
    world.observe("cogvideox_checkpoint", "v2")
    assert world.tick("editing") == {}


def test_every_group_with_conditions_has_a_sensor_that_is_off_and_emits_backfills() -> None:
    definitions = _built(MODELS)
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
        graph = _built(settings).resolve_asset_graph()
        return {key.to_user_string(): set(graph.get(key).pools or ()) for key in graph.materializable_asset_keys}

    models = pools(MODELS)
    small = {asset for asset, named in models.items() if named == {SMALL_GPU}}
    large = {asset for asset, named in models.items() if named == {LARGE_GPU}}
    assert small == {"road_masks", "vp_inputs"}
    assert large == {
        "training_samples", "first_frames", "edited_videos", "original_trajectories", "edited_trajectories",
        "lane_loras",
    }  # fmt: skip
    on_cpu = pools(Settings(root="memory://automation"))
    assert {asset for asset, named in on_cpu.items() if named} == {"lane_loras"}


def test_every_made_asset_has_a_freshness_policy_that_warns_before_it_fails() -> None:
    graph = _built(MODELS).resolve_asset_graph()
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
