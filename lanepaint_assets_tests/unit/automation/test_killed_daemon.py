"""A daemon that is killed in the middle of a tick: what its next one requests.

The daemon's part is played here: it stores a cursor, and submits requests or dies before it does. With real servers it
is killed in `integration/test_automation_servers.py`.
"""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from lanepaint_assets.conditions import AUTOMATION, REQUESTED_BY_TAG
from lanepaint_assets.group_sensor import REQUEST_TAG
from lanepaint_assets_tests.unit.automation.world import BOTH, CHUNKS, MODELS, World, built

EDITING = "editing_automation"


class Daemon:
    """Asks one group's sensor and submits what it requests."""

    def __init__(self, world: World, sensor: str = EDITING) -> None:
        self.world, self.sensor = world, sensor
        self.stored: str | None = None

    def look(self) -> SensorExecutionData:
        """A tick up to where its requests are noted."""
        repository = self.world.definitions.get_repository_def()
        with dg.build_sensor_context(
            instance=self.world.instance, cursor=self.stored, repository_def=repository, sensor_name=self.sensor
        ) as context:
            return repository.get_sensor_def(self.sensor).evaluate_tick(context)

    def submit(self, tick: SensorExecutionData) -> dg.DagsterRun | str | None:
        """Hand in what was requested: the run, the id of the backfill, or nothing."""
        if not tick.run_requests:
            return None
        (request,) = tick.run_requests
        if request.asset_graph_subset is None:
            return self.world.start(
                [key.to_user_string() for key in request.asset_selection or ()], request.partition_key, request.tags
            )
        subset = request.asset_graph_subset
        return self.world.backfill(
            {
                key.to_user_string(): set(subset.get_partitions_subset(key).get_partition_keys())
                for key in subset.asset_keys
            },
            request.tags,
        )

    def tick(self) -> dg.DagsterRun | str | None:
        """A whole one."""
        done = self.look()
        submitted = self.submit(done)
        self.stored = done.cursor
        return submitted


def _one_after_the_other(world: World) -> World:
    world.definitions = built(MODELS.model_copy(update={"automation_partitions": 1}))
    return world


def test_a_tick_that_was_resumed_forgets_no_change_that_waits_for_its_turn(world: World) -> None:
    daemon = Daemon(_one_after_the_other(world))
    daemon.tick()
    world.observe("cogvideox_checkpoint", "v2")
    run = daemon.submit(daemon.look())
    assert isinstance(run, dg.DagsterRun)
    daemon.stored = None  # as Dagster leaves it after it resumed a tick
    assert daemon.tick() is None
    world.finish(run, "edited_videos", CHUNKS[0], "v2")
    world.succeed(run)
    following = daemon.tick()
    assert isinstance(following, dg.DagsterRun)
    assert following.tags["dagster/partition"] == CHUNKS[1]


def test_a_backfill_that_was_submitted_before_the_tick_ended_is_not_requested_again(world: World) -> None:
    daemon = Daemon(world)
    daemon.tick()
    world.observe("cogvideox_checkpoint", "v2")
    backfill = daemon.submit(daemon.look())
    assert isinstance(backfill, str)
    # The cursor from before the request is still stored.
    assert daemon.tick() is None
    for chunk in CHUNKS:
        world.make("edited_videos", chunk, "v2")
    world.complete_backfill(backfill)
    assert daemon.tick() is None
    world.observe("cogvideox_checkpoint", "v3")
    assert daemon.tick() is not None


def test_what_was_not_submitted_is_requested_by_the_next_tick(world: World) -> None:
    daemon = Daemon(world)
    daemon.tick()
    world.observe("cogvideox_checkpoint", "v2")
    lost = daemon.look()
    assert lost.run_requests
    submitted = daemon.tick()
    assert isinstance(submitted, str)
    assert daemon.tick() is None


@pytest.mark.parametrize("resumed", [True, False])
def test_a_tick_that_is_killed_after_a_killed_one_repeats_and_loses_nothing(world: World, resumed: bool) -> None:
    daemon = Daemon(_one_after_the_other(world))
    daemon.tick()
    world.observe("cogvideox_checkpoint", "v2")
    run = daemon.submit(daemon.look())
    assert isinstance(run, dg.DagsterRun)
    if resumed:
        daemon.stored = None
    world.finish(run, "edited_videos", CHUNKS[0], "v2")
    world.succeed(run)
    assert daemon.look().run_requests  # before it could submit
    following = daemon.submit(daemon.look())
    assert isinstance(following, dg.DagsterRun)
    assert following.tags["dagster/partition"] == CHUNKS[1]
    assert daemon.tick() is None
    world.finish(following, "edited_videos", CHUNKS[1], "v2")
    world.succeed(following)
    assert daemon.tick() is None


def test_the_first_tick_may_be_killed_too(world: World) -> None:
    daemon = Daemon(world)
    daemon.look()
    daemon.tick()
    world.observe("cogvideox_checkpoint", "v2")
    assert isinstance(daemon.tick(), str)


def test_each_group_goes_on_from_its_own_request(world: World) -> None:
    editing, segmentation = Daemon(world), Daemon(world, "segmentation_automation")
    editing.tick()
    segmentation.tick()
    world.observe("cogvideox_checkpoint", "v2")
    world.observe("sam2_checkpoint", "v2")
    editing.submit(editing.look())
    segmentation.look()
    assert editing.tick() is None
    assert isinstance(segmentation.tick(), str)


def test_a_request_says_who_asked_and_which_evaluation(world: World) -> None:
    daemon = Daemon(world)
    daemon.tick()
    marks = set()
    for version in ("v2", "v3"):
        world.make("first_frames", CHUNKS[1], version)
        run = daemon.tick()
        assert isinstance(run, dg.DagsterRun)
        assert run.tags[REQUESTED_BY_TAG] == AUTOMATION
        marks.add(run.tags[REQUEST_TAG])
        world.finish(run, "edited_videos", CHUNKS[1], version)
        world.succeed(run)
    assert len(marks) == 2


def test_several_requests_of_a_tick_are_one_backfill(world: World) -> None:
    """So that none of them can be left over: a run of one chunk and a run of other assets of another."""
    daemon = Daemon(world)
    daemon.tick()
    world.make("first_frames", CHUNKS[1], "v2")
    world.make("vp_inputs", CHUNKS[0], "v2")
    (request,) = daemon.look().run_requests or []
    assert request.asset_graph_subset is not None
    wanted = {
        key.to_user_string(): set(request.asset_graph_subset.get_partitions_subset(key).get_partition_keys())
        for key in request.asset_graph_subset.asset_keys
    }
    assert wanted == {"first_frames": {CHUNKS[0]}, "edited_videos": BOTH}
    assert request.tags[REQUESTED_BY_TAG] == AUTOMATION
    assert "dagster/partition" not in request.tags
