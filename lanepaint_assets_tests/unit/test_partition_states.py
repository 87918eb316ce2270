"""What is told of partitions, beside what Dagster's own resolver (the one behind the UI) says of the same instance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import dagster as dg
import pytest
from dagster._core.definitions.data_version import (
    CachingStaleStatusResolver,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.loader import LoadingContextForTest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lanepaint_assets.definitions import build
from lanepaint_assets.materialization import told_version
from lanepaint_assets.partition_states import PartitionState, PartitionStates
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.backfills import backfill_of_job

CHUNKS = ("chunk_0000", "chunk_0001", "chunk_0002")
# A short way through the graph, with an observed input in its middle.
ASSETS = ("raw_clips", "road_masks", "vp_inputs")
SAM2 = "sam2_checkpoint"


@cache
def definitions() -> dg.Definitions:
    return build(Settings(root="memory://states", engines="models"))


class World:
    """An instance whose partitions are reported as a run reports them, with what they were made from."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.graph = definitions().resolve_asset_graph()
        instance.add_dynamic_partitions("clip_chunk", list(CHUNKS))

    def observe(self, version: str, asset: str = SAM2) -> None:
        self.instance.report_runless_asset_event(dg.AssetObservation(asset, tags={"dagster/data_version": version}))

    def make(
        self,
        asset: str,
        chunk: str,
        version: str,
        *,
        code: str | None = None,
        complete: bool = True,
        run_id: str | None = None,
        pointer: int | None = None,
    ) -> None:
        key = dg.AssetKey(asset)
        tags = {
            "dagster/data_version": told_version(version, complete=complete),
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": code or self.graph.get(key).code_version or "",
        }
        for parent in self.graph.get(key).parent_keys:
            partition = chunk if self.graph.get(parent).is_partitioned else None
            found = self.instance.get_latest_data_version_record(parent, partition_key=partition)
            noted = (found.asset_event.tags or {})["dagster/data_version"] if found and found.asset_event else "INITIAL"
            # Of a partition Dagster notes a digest, not its version.
            tags[get_input_data_version_tag(parent)] = f"digest of {noted}" if partition else noted
            tags[get_input_event_pointer_tag(parent)] = str(pointer or found.storage_id) if found else "NULL"
        made = dg.AssetMaterialization(asset, partition=chunk, tags=tags)
        if run_id is None:
            self.instance.report_runless_asset_event(made)
            return
        self.report(run_id, DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))

    def start(self, chunk: str | None, *assets: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
        """A run that plans to make assets of a chunk, or without one of none."""
        tags = {} if chunk is None else {"dagster/partition": chunk}
        run = dg.DagsterRun(job_name="x", asset_selection=frozenset(map(dg.AssetKey, assets)), tags=tags)
        self.instance.add_run(run)
        for asset in assets:
            planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=chunk)
            self.instance.report_dagster_event(
                DagsterEvent.build_asset_materialization_planned_event("x", asset, planned), run.run_id
            )
        self.end(run.run_id, status)
        return run.run_id

    def end(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        kinds = {
            dg.DagsterRunStatus.STARTING: DagsterEventType.PIPELINE_STARTING,
            dg.DagsterRunStatus.STARTED: DagsterEventType.PIPELINE_START,
            dg.DagsterRunStatus.CANCELED: DagsterEventType.PIPELINE_CANCELED,
            dg.DagsterRunStatus.FAILURE: DagsterEventType.PIPELINE_FAILURE,
            dg.DagsterRunStatus.SUCCESS: DagsterEventType.PIPELINE_SUCCESS,
        }
        self.report(run_id, kinds[status], None)

    def report(self, run_id: str, kind: DagsterEventType, data: StepMaterializationData | None) -> None:
        event = DagsterEvent(event_type_value=kind.value, job_name="x", event_specific_data=data)
        self.instance.report_dagster_event(event, run_id)

    def state(self, asset: str, chunk: str, *, one_by_one: bool = True) -> PartitionState:
        states = PartitionStates(self.instance, definitions(), one_by_one=1000 if one_by_one else 0)
        return states.of([asset], CHUNKS)[asset][chunk]

    def by_the_resolver(self, asset: str, chunk: str) -> str:
        resolver = CachingStaleStatusResolver(self.instance, self.graph, LoadingContextForTest(self.instance))
        return resolver.get_status(dg.AssetKey(asset), chunk).value.lower()


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(instance)


def filled(world: World) -> World:
    world.observe("v1")
    for chunk in CHUNKS[:2]:
        for asset in ASSETS:
            world.make(asset, chunk, "a")
    return world


STEP = st.one_of(
    st.tuples(st.just("observe"), st.sampled_from("vw"), st.just("")),
    st.tuples(st.sampled_from(ASSETS), st.sampled_from("ab"), st.sampled_from(CHUNKS[:2])),
    st.tuples(st.just("old code"), st.sampled_from("ab"), st.sampled_from(CHUNKS[:2])),
)


@given(st.lists(STEP, max_size=10))
@hypothesis_settings(max_examples=15, deadline=None)
def test_what_is_read_from_events_is_what_the_resolver_says(steps: list[tuple[str, str, str]]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(instance)
        # Of a first observation the resolver says otherwise.
        world.observe("u")
        played(world, steps)
        told = PartitionStates(instance, definitions()).of(ASSETS, CHUNKS)
        for asset, chunk in product(ASSETS, CHUNKS):
            assert told[asset][chunk].state == world.by_the_resolver(asset, chunk), (asset, chunk)


@given(st.lists(STEP.map(lambda step: (step[0], step[1], CHUNKS[0])), max_size=10))
@hypothesis_settings(max_examples=15, deadline=None)
def test_what_is_inferred_of_a_chunk_is_what_the_resolver_says(steps: list[tuple[str, str, str]]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(instance)
        # Of a first observation the resolver says otherwise.
        world.observe("u")
        played(world, steps)
        told = PartitionStates(instance, definitions(), one_by_one=0).of(ASSETS, CHUNKS[:1])
        for asset in ASSETS:
            assert told[asset][CHUNKS[0]].state == world.by_the_resolver(asset, CHUNKS[0]), asset


def played(world: World, steps: list[tuple[str, str, str]]) -> None:
    for what, version, chunk in steps:
        if what == "observe":
            world.observe(version)
        elif what == "old code":
            world.make("road_masks", chunk, version, code="old/0")
        else:
            world.make(what, chunk, version)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_changed_checkpoint_makes_what_is_made_from_it_stale_and_names_itself(world: World, one_by_one: bool) -> None:
    filled(world).observe("v2")
    stale = world.state("road_masks", CHUNKS[0], one_by_one=one_by_one)
    assert (stale.state, stale.causes) == ("stale", (f"{SAM2} has another version",))
    assert world.state("vp_inputs", CHUNKS[0], one_by_one=one_by_one).state == "fresh"
    assert world.state("road_masks", CHUNKS[2], one_by_one=one_by_one) == PartitionState("missing")


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_first_observation_of_an_input_makes_nothing_stale_and_the_next_change_does(
    world: World, one_by_one: bool
) -> None:
    world.make("road_masks", CHUNKS[0], "a")
    world.observe("v1")
    assert world.state("road_masks", CHUNKS[0], one_by_one=one_by_one).state == "fresh"
    world.observe("v2")
    assert world.state("road_masks", CHUNKS[0], one_by_one=one_by_one).causes == (f"{SAM2} has another version",)


def test_an_input_that_is_noted_by_an_event_of_another_chunk_makes_nothing_stale(world: World) -> None:
    world.make("raw_clips", CHUNKS[0], "a")
    world.make("raw_clips", CHUNKS[1], "b")
    latest = world.instance.get_latest_data_version_record(dg.AssetKey("raw_clips"))
    assert latest is not None
    world.make("road_masks", CHUNKS[0], "a", pointer=latest.storage_id)
    world.make("raw_clips", CHUNKS[0], "a")
    assert world.state("road_masks", CHUNKS[0]).state == "fresh"
    world.make("raw_clips", CHUNKS[0], "c")
    assert world.state("road_masks", CHUNKS[0]).causes == ("raw_clips has another version",)


@pytest.mark.parametrize("one_by_one", [1000, 0])
def test_an_input_that_the_asset_does_not_read_makes_nothing_stale(world: World, one_by_one: int) -> None:
    filled(world).observe("v2")
    states = PartitionStates(world.instance, definitions(), unread=lambda _: (SAM2,), one_by_one=one_by_one)
    assert states.of(["road_masks"], CHUNKS)["road_masks"][CHUNKS[0]].state == "fresh"


@pytest.mark.parametrize("one_by_one", [True, False])
def test_an_input_that_came_out_the_same_makes_nothing_stale(world: World, one_by_one: bool) -> None:
    filled(world).make("road_masks", CHUNKS[0], "a")
    world.make("road_masks", CHUNKS[1], "b")
    assert world.state("vp_inputs", CHUNKS[0], one_by_one=one_by_one).state == "fresh"
    stale = world.state("vp_inputs", CHUNKS[1], one_by_one=one_by_one)
    assert (stale.state, stale.causes) == ("stale", ("road_masks has another version",))


def test_inputs_made_again_at_different_times_are_told_apart_without_reading_events(world: World) -> None:
    filled(world)
    world.make("road_masks", CHUNKS[0], "b")
    world.make("vp_inputs", CHUNKS[0], "b")
    world.make("road_masks", CHUNKS[1], "b")
    world.make("road_masks", CHUNKS[0], "b")
    assert world.state("vp_inputs", CHUNKS[0], one_by_one=False).state == "fresh"
    assert world.state("vp_inputs", CHUNKS[1], one_by_one=False).state == "stale"


@pytest.mark.parametrize("one_by_one", [True, False])
def test_another_code_version_is_told_with_both_and_that_nobody_acts_on_it(world: World, one_by_one: bool) -> None:
    filled(world).make("road_masks", CHUNKS[0], "a", code="sam2 0/1")
    stale = world.state("road_masks", CHUNKS[0], one_by_one=one_by_one)
    assert stale.state == "stale"
    assert "was sam2 0/1 and is " in stale.causes[0]
    assert stale.causes[0].endswith("starts nothing by itself")
    assert world.state("road_masks", CHUNKS[1], one_by_one=one_by_one).state == "fresh"


def test_code_versions_of_many_chunks_are_found_from_samples(world: World) -> None:
    chunks = [f"many_{number:04d}" for number in range(150)]
    world.instance.add_dynamic_partitions("clip_chunk", chunks)
    world.observe("v1")
    for number, chunk in enumerate(chunks):
        world.make("road_masks", chunk, "a", code="old/1" if number < 107 else None)
    found = PartitionStates(world.instance, definitions(), one_by_one=0).of(["road_masks"], chunks)["road_masks"]
    assert [chunk for chunk in chunks if found[chunk].state == "stale"] == chunks[:107]


def test_runs_make_their_partitions_running_queued_failed_or_cancelled_until_they_are_made(world: World) -> None:
    filled(world)
    run = world.start(CHUNKS[0], "road_masks", "vp_inputs")
    assert world.state("road_masks", CHUNKS[0]).state == "running"
    assert world.state("road_masks", CHUNKS[0]).run_id == run
    world.make("road_masks", CHUNKS[0], "b", run_id=run)
    assert world.state("road_masks", CHUNKS[0]).state == "fresh"
    assert world.state("vp_inputs", CHUNKS[0]).state == "running"
    assert world.state("vp_inputs", CHUNKS[0]).causes == ("road_masks has another version",)
    world.end(run, dg.DagsterRunStatus.FAILURE)
    assert world.state("vp_inputs", CHUNKS[0]).state == "failed"
    world.start(CHUNKS[0], "vp_inputs", status=dg.DagsterRunStatus.STARTING)
    assert world.state("vp_inputs", CHUNKS[0]).state == "queued"
    world.start(CHUNKS[2], "vp_inputs", status=dg.DagsterRunStatus.CANCELED)
    assert world.state("vp_inputs", CHUNKS[2]).state == "cancelled"


def test_a_cancelled_run_leaves_what_was_made_before_as_it_was(world: World) -> None:
    filled(world)
    for chunk in CHUNKS[:2]:
        world.start(chunk, "vp_inputs", status=dg.DagsterRunStatus.CANCELED)
    world.make("road_masks", CHUNKS[1], "b")
    fresh, stale = (world.state("vp_inputs", chunk) for chunk in CHUNKS[:2])
    assert (fresh.state, fresh.came_to) == ("fresh", "cancelled")
    assert (stale.state, stale.came_to) == ("stale", "cancelled")


def test_a_backfill_that_has_started_no_run_yet_makes_its_partitions_queued(world: World) -> None:
    filled(world)
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="b",
        asset_graph=world.graph,
        partition_names=[CHUNKS[0], CHUNKS[2]],
        asset_selection=[dg.AssetKey("road_masks")],
        backfill_timestamp=0.0,
        tags={},
        dynamic_partitions_store=world.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    world.instance.add_backfill(backfill)
    assert [world.state("road_masks", chunk).state for chunk in CHUNKS] == ["queued", "fresh", "queued"]
    cancelled = backfill.with_status(BulkActionStatus.CANCELED)  # type: ignore[no-untyped-call]
    world.instance.update_backfill(cancelled)
    assert [world.state("road_masks", chunk).state for chunk in CHUNKS] == ["fresh", "fresh", "missing"]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_backfill_of_a_job_makes_what_it_has_not_launched_queued(world: World, one_by_one: bool) -> None:
    filled(world).instance.add_backfill(backfill_of_job("sam2_only", [CHUNKS[0], CHUNKS[2]], launched=CHUNKS[0]))
    for asset in ASSETS:
        states = [world.state(asset, chunk, one_by_one=one_by_one).state for chunk in CHUNKS]
        assert states == ["fresh", "fresh", "queued"]
    assert world.state("first_frames", CHUNKS[2], one_by_one=one_by_one).state == "missing"


@given(st.lists(st.tuples(st.sampled_from(CHUNKS), st.booleans(), st.sampled_from("ab")), max_size=6))
@hypothesis_settings(max_examples=10, deadline=None)
def test_what_was_made_for_some_prompts_only_is_told_however_many_chunks_there_are(
    steps: list[tuple[str, bool, str]],
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(instance)
        for chunk, complete, version in steps:
            world.make("first_frames", chunk, version, complete=complete)
        last = {chunk: complete for chunk, complete, _ in steps}
        for one_by_one in (True, False):
            told = {chunk: world.state("first_frames", chunk, one_by_one=one_by_one).complete for chunk in CHUNKS}
            assert told == {chunk: last.get(chunk) for chunk in CHUNKS}


def test_what_was_made_for_some_prompts_only_stays_that_while_a_run_is_to_make_it_and_when_it_is_cancelled(
    world: World,
) -> None:
    world.make("first_frames", CHUNKS[0], "a", complete=False)
    run = world.start(CHUNKS[0], "first_frames")
    for one_by_one in (True, False):
        assert world.state("first_frames", CHUNKS[0], one_by_one=one_by_one).complete is False
    world.end(run, dg.DagsterRunStatus.CANCELED)
    for one_by_one in (True, False):
        assert world.state("first_frames", CHUNKS[0], one_by_one=one_by_one).complete is False


def test_events_that_are_read_tell_when(world: World) -> None:
    world.make("first_frames", CHUNKS[0], "a")
    assert world.state("first_frames", CHUNKS[0]).made is not None
    assert world.state("first_frames", CHUNKS[0], one_by_one=False).made is None


def test_the_leaderboard_is_behind_reports_made_since_however_many_they_are(world: World) -> None:
    chunks = [f"many_{number:04d}" for number in range(120)]
    world.instance.add_dynamic_partitions("clip_chunk", chunks)
    states = PartitionStates(world.instance, definitions())
    assert states.whole("prompt_leaderboard") == PartitionState("missing")
    for chunk in chunks:
        world.make("trajectory_reports", chunk, "a")
    world.instance.report_runless_asset_event(dg.AssetMaterialization("prompt_leaderboard"))
    assert PartitionStates(world.instance, definitions()).whole("prompt_leaderboard").state == "fresh"
    world.make("trajectory_reports", chunks[7], "b")
    behind = PartitionStates(world.instance, definitions()).whole("prompt_leaderboard")
    assert (behind.state, behind.causes) == ("stale", ("1 trajectory_reports made since",))


def test_the_leaderboard_is_running_failed_and_made_again_as_its_runs_are(world: World) -> None:
    def told() -> PartitionState:
        return PartitionStates(world.instance, definitions()).whole("prompt_leaderboard")

    run = world.start(None, "prompt_leaderboard")
    assert (told().state, told().run_id) == ("running", run)
    world.end(run, dg.DagsterRunStatus.FAILURE)
    assert (told().state, told().run_id) == ("failed", run)
    world.instance.report_runless_asset_event(dg.AssetMaterialization("prompt_leaderboard"))
    assert (told().state, told().run_id) == ("fresh", None)
    world.end(world.start(None, "prompt_leaderboard"), dg.DagsterRunStatus.CANCELED)
    assert (told().state, told().came_to) == ("fresh", "cancelled")
    world.end(world.start(None, "prompt_leaderboard"), dg.DagsterRunStatus.FAILURE)
    assert told().state == "failed"
