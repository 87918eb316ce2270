"""`lanepaint status` as a person or a script types it, on chunks that went through the real graph with fast engines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, DagsterEventType
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.loader import LoadingContextForTest

from lanepaint_assets.commands.status import Standing, Status, Wanted, gather
from lanepaint_assets.commands.status_items import Items, Place, Rows, failures
from lanepaint_assets.commands.status_output import tell
from lanepaint_assets.definitions import build
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.partition_states import PartitionState, PartitionStates
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.fixtures import Graph
from lanepaint_assets_tests.terminal import Answer, typed
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"
BROKEN = f"b.{CAMERA}"
OBSERVED = ("prompt_catalogue", "sam2_checkpoint")

Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chunk 0 is segmented, chunk 1 too but for a broken clip, chunk 2 has only a broken one, chunk 3 is untouched."""
    place = tmp_path_factory.mktemp("status")
    home = place / "root" / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for number in range(4):
        folder = place / "clips" / CAMERA / f"chunk_{number:04d}"
        folder.mkdir(parents=True)
        if number != 2:
            write_numbered(folder / "a.mp4", count=40, rate=10, size=(64, 48))
        if number in (1, 2):
            (folder / "b.mp4").write_bytes(b"no video")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for asset in OBSERVED:
            observe(instance, asset, "v1")
        graph = Graph(place / "root", place / "clips", instance)
        graph.register()
        for number in range(3):
            graph.run("sam2_only", f"chunk_{number:04d}", raise_on_error=False)
    return place


def observe(instance: dg.DagsterInstance, asset: str, version: str) -> None:
    instance.report_runless_asset_event(dg.AssetObservation(asset, tags={"dagster/data_version": version}))


@pytest.fixture
def lanepaint(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("LANEPAINT_ROOT", str(world / "root"))
    monkeypatch.setenv("LANEPAINT_SOURCE", str(world / "clips"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def type_in(*words: str) -> Answer:
        return typed(monkeypatch, capsys, "status", *words)

    return type_in


def as_json(answer: Answer) -> dict[str, Any]:
    found = json.loads(answer.out)
    assert isinstance(found, dict)
    return found


def cells(answer: Answer, asset: str) -> dict[str, str]:
    lines = answer.out.splitlines()
    (header,) = [line.split() for line in lines if line.split()[:1] == ["fresh"]]
    (row,) = [line.split() for line in lines if line.startswith(f"  {asset} ") and ":" not in line]
    return dict(zip(header, row[1:], strict=True))


def test_chunks_are_counted_by_asset_and_state(lanepaint: Command) -> None:
    told = lanepaint()
    assert "Chunks: 4 registered" in told.out
    assert cells(told, "road_masks") == {"fresh": "2", "failed": "1", "missing": "1"}
    assert cells(told, "first_frames") == {"fresh": ".", "failed": ".", "missing": "4"}
    assert max(map(len, told.out.splitlines())) <= 80


def test_something_that_failed_is_told_once_with_its_reason_and_by_the_exit_status(lanepaint: Command) -> None:
    told = lanepaint()
    assert told.code == 1
    assert told.out.count(f"chunk_0001 raw_clips {BROKEN}: it is not a video") == 1
    # The items' rows below repeat it, the steps below were not come to.
    assert "chunk_0001 road_masks" not in told.out
    assert "failed raw_clips, which 2 below wait for" in told.out


def test_items_that_failed_are_counted_without_those_that_only_follow(lanepaint: Command) -> None:
    said = " ".join(lanepaint().out.split())
    assert "chunk_0001: 1 item failed;" in said


@contextmanager
def failing_step(world: Path, asset: str, chunk: str | None, *, step: str, why: str) -> Iterator[None]:
    """Within the context, the last run that was to make a partition failed at a step."""
    with dg.DagsterInstance.from_config(str(world / "root" / "dagster")) as instance:
        run = dg.DagsterRun(job_name="x", tags={} if chunk is None else {"dagster/partition": chunk})
        instance.add_run(run)
        planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=chunk)
        told_why = UserFailureData(label="x", description=why)  # type: ignore[no-untyped-call]
        failure = StepFailureData(error=None, user_failure_data=told_why)  # type: ignore[no-untyped-call]
        for event in (
            DagsterEvent.build_asset_materialization_planned_event("x", step, planned),
            DagsterEvent(
                event_type_value=DagsterEventType.STEP_FAILURE.value,
                job_name="x",
                step_key=step,
                event_specific_data=failure,
            ),
            DagsterEvent(event_type_value=DagsterEventType.PIPELINE_FAILURE.value, job_name="x"),
        ):
            instance.report_dagster_event(event, run.run_id)
        try:
            yield
        finally:
            instance.delete_run(run.run_id)


def test_a_step_that_makes_several_assets_tells_its_reason(world: Path, lanepaint: Command) -> None:
    with failing_step(world, "road_masks", "chunk_0003", step="segmentation", why="no such checkpoint"):
        told = lanepaint("--failed", "--chunk", "chunk_0003")
    assert told.out.startswith("  chunk_0003 road_masks: segmentation: no such checkpoint (run ")


def test_a_leaderboard_that_failed_is_told_with_its_reason_and_by_the_exit_status(
    world: Path, lanepaint: Command
) -> None:
    with failing_step(world, "prompt_leaderboard", None, step="prompt_leaderboard", why="a report lacks its table"):
        told, failures = lanepaint("--stage", "3"), lanepaint("--failed", "--stage", "3")
        found = as_json(lanepaint("--json", "--stage", "3"))
    assert "  prompt_leaderboard failed" in told.out.splitlines()
    assert (told.code, failures.code, found["exit_status"]) == (1, 1, 1)
    assert failures.out.startswith("  prompt_leaderboard: a report lacks its table (run ")
    assert found["prompt_leaderboard"]["state"] == "failed"
    assert [(each["chunk"], each["asset"]) for each in found["failures"]] == [(None, "prompt_leaderboard")]
    assert lanepaint("--stage", "3").code == 0


def test_items_of_a_clip_that_failed_alike_are_all_told_and_what_follows_is_not() -> None:
    def failed(asset: str, *items: tuple[str, str]) -> tuple[Place, Rows]:
        return Place("chunk_1", asset), Rows(items=Items(0, len(items)), any=True, failed=items)

    told = failures(
        [
            failed("edited_videos", ("clip/a", "out of memory"), ("clip/b", "out of memory")),
            failed("edited_trajectories", ("clip/a", "edited_videos of clip/a failed: out of memory")),
        ]
    )
    assert [(failure.asset, failure.item) for failure in told] == [
        ("edited_videos", "clip/a"),
        ("edited_videos", "clip/b"),
    ]


def test_only_what_failed(lanepaint: Command) -> None:
    told = lanepaint("--failed")
    assert told.code == 1
    places = [line.split(":")[0].split() for line in told.out.splitlines() if line.startswith("  chunk")]
    assert places == [["chunk_0001", "raw_clips", BROKEN], ["chunk_0002", "raw_clips", BROKEN]]


def test_nothing_that_failed_is_a_success(lanepaint: Command) -> None:
    told = lanepaint("--failed", "--chunk", "chunk_0000")
    assert (told.code, told.out) == (0, "nothing failed\n")


@contextmanager
def other_clips(world: Path) -> Iterator[None]:
    """Within the context, raw_clips of chunk 0 came out otherwise than what everything was made from."""
    with dg.DagsterInstance.from_config(str(world / "root" / "dagster")) as instance:
        record = instance.get_latest_data_version_record(dg.AssetKey("raw_clips"), partition_key="chunk_0000")
        assert record is not None
        version = (record.asset_event.tags or {})["dagster/data_version"] if record.asset_event else ""
        make_clips(instance, "another")
        try:
            yield
        finally:
            make_clips(instance, version)


def make_clips(instance: dg.DagsterInstance, version: str) -> None:
    made = dg.AssetMaterialization("raw_clips", partition="chunk_0000", tags={"dagster/data_version": version})
    instance.report_runless_asset_event(made)


def test_a_chunk_in_detail_and_what_makes_it_stale(lanepaint: Command, world: Path) -> None:
    assert lanepaint("--chunk", "chunk_0000").code == 0
    with other_clips(world):
        told = lanepaint("--chunk", "chunk_0000", "--stage", "1")
    assert told.code == 3
    lines = [" ".join(line.split()) for line in told.out.splitlines()]
    assert "raw_clips fresh 1 of 1 item made just now" in lines
    place = next(number for number, line in enumerate(lines) if line.startswith("road_masks stale 1 of 1 item made"))
    assert lines[place + 1] == "raw_clips has another version"
    assert not any("first_frames" in line for line in lines)


def test_what_is_stale_is_summed_up_by_its_cause(lanepaint: Command, world: Path) -> None:
    with other_clips(world):
        told = lanepaint("--stage", "1")
    assert "  raw_clips has another version: road_masks (1 chunk)" in told.out
    assert cells(told, "road_masks") == {"fresh": "1", "stale": "1", "failed": "1", "missing": "1"}


def test_real_runs_are_judged_as_by_the_resolver_behind_the_ui(world: Path) -> None:
    definitions = build(Settings(root=str(world / "root")))
    chunks = ["chunk_0000", "chunk_0001"]
    with dg.DagsterInstance.from_config(str(world / "root" / "dagster")) as instance:

        def agree() -> set[str]:
            resolver = CachingStaleStatusResolver(
                instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance)
            )
            told = PartitionStates(instance, definitions).of(STAGE_ASSETS["1"], chunks)
            for asset, chunk in product(STAGE_ASSETS["1"], chunks):
                assert told[asset][chunk].state == resolver.get_status(dg.AssetKey(asset), chunk).value.lower()
            return {told[asset][chunk].state for asset, chunk in product(STAGE_ASSETS["1"], chunks)}

        with other_clips(world):
            assert agree() == {"fresh", "stale"}
        # Made again in between, with the version that everything was made from.
        assert agree() == {"fresh"}


def test_a_checkpoint_that_no_chosen_engine_reads_makes_nothing_stale(lanepaint: Command, world: Path) -> None:
    with dg.DagsterInstance.from_config(str(world / "root" / "dagster")) as instance:
        observe(instance, "sam2_checkpoint", "v2")
    assert lanepaint("--chunk", "chunk_0000").code == 0


def test_a_script_reads_the_same_as_json(lanepaint: Command) -> None:
    told = lanepaint("--json")
    found = as_json(told)
    assert told.code == found["exit_status"] == 1
    assert found["counts"]["road_masks"] == {"fresh": 2, "failed": 1, "missing": 1}
    assert found["chunks"]["chunk_0001"]["raw_clips"]["items"] == {"ok": 1, "failed": 1, "outdated": 0, "retired": 0}
    assert found["chunks"]["chunk_0003"]["raw_clips"]["state"] == "missing"
    assert [(each["chunk"], each["item"]) for each in found["failures"]] == [
        ("chunk_0001", BROKEN),
        ("chunk_0002", BROKEN),
    ]
    assert found["manifests_read"] == found["manifests"] == 4 * 12


def test_disk_is_measured_with_what_can_be_collected(lanepaint: Command, world: Path) -> None:
    disk = as_json(lanepaint("--json"))["disk"]
    assert disk["is_measured"]
    assert (disk["versions"], disk["collectable_versions"]) == (6, 0)
    masks = world / "root/outputs/sam2/chunk_0000/road_masks"
    (item,) = masks.iterdir()
    lost = item / ("0" * 64)
    lost.mkdir()
    (lost / "mask.bin").write_bytes(b"x" * 1000)
    old = (datetime.now(UTC) - timedelta(hours=48)).timestamp()
    manifest = world / "root/outputs/sam2/chunk_0000/road_masks.manifest.json"
    before = manifest.stat().st_mtime
    for file in (lost / "mask.bin", manifest):
        os.utime(file, (old, old))
    try:
        assert "1.0 kB in 1 version can be removed, which nothing names any more: lanepaint gc" in " ".join(
            lanepaint("--chunk", "chunk_0000").out.split()
        )
    finally:
        (lost / "mask.bin").unlink()
        lost.rmdir()
        os.utime(manifest, (before, before))


def test_without_an_instance_the_store_alone_is_told_and_none_is_made(
    lanepaint: Command, world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("outputs", "chunks"):
        (root / name).symlink_to(world / "root" / name)
    monkeypatch.setenv("LANEPAINT_ROOT", str(root))
    told = lanepaint()
    assert "no instance on this machine" in told.out
    assert "chunk_0000: made, 3 of 12 assets, 9 missing" in told.out
    assert told.out.count(f"chunk_0001 raw_clips {BROKEN}: it is not a video") == 1
    assert told.code == 1
    assert not (root / "dagster").exists()


def test_a_dagster_storage_that_does_not_answer_leaves_what_the_store_tells(
    lanepaint: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dagster.yaml").write_text("run_storage: {module: nowhere, class: Nothing, config: {}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    told = lanepaint("--chunk", "chunk_0000", "--stage", "1")
    assert f"the storage of {tmp_path} does not answer" in " ".join(told.out.split())
    assert any(line.split()[:2] == ["road_masks", "made"] for line in told.out.splitlines())


def test_a_manifest_that_cannot_be_read_is_a_failure_and_not_the_end(
    lanepaint: Command, world: Path, tmp_path: Path
) -> None:
    manifest = world / "root/outputs/sam2/chunk_0000/road_masks.manifest.json"
    content = manifest.read_bytes()
    manifest.write_text("{")
    try:
        told = lanepaint("--chunk", "chunk_0000")
    finally:
        manifest.write_bytes(content)
    assert told.code == 1
    assert "is not a readable manifest" in " ".join(told.out.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [(("--chunk", "chunk_9"), "chunk chunk_9 is not registered"), (("--stage", "4"), "there is no stage 4; stages: 1")],
)
def test_what_does_not_exist_is_one_line(lanepaint: Command, words: tuple[str, ...], named: str) -> None:
    told = lanepaint(*words)
    assert told.code == 2
    assert named in told.err
    assert len(told.err.splitlines()) == 1


def test_an_empty_store_says_what_to_do(lanepaint: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "nothing"))
    told = lanepaint()
    assert told.code == 0
    assert "lanepaint chunks add" in told.out
    assert not (tmp_path / "nothing").exists()


def many(count: int) -> Status:
    """A status of many chunks: one failed, every other one stale."""
    assets = STAGE_ASSETS["1"]

    def standing(number: int) -> Standing:
        if number == 7:
            return Standing(PartitionState("failed"), Rows(Items(failed=2), any=True))
        return Standing(PartitionState("stale", ("sam2_checkpoint has another version",)), None)

    chunks = {f"chunk_{number:05d}": dict.fromkeys(assets, standing(number)) for number in range(count)}
    return Status(
        moment=datetime.now(UTC),
        root="/root",
        has_instance=True,
        instance="/home",
        registered=count,
        assets={"1": assets},
        chunks=chunks,
        failures=(),
        leaderboard=None,
        manifests_read=3,
        manifests=3 * count,
        disk=None,
    )


@pytest.mark.parametrize("width", [80, 120])
def test_many_chunks_are_summed_up_and_the_worst_are_listed(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines: list[str] = []
    tell(many(10_000), limit=5, in_detail=False, say=lines.append)
    assert len(lines) < 40
    assert max(map(len, lines)) <= width
    listed = [line.split(":")[0].strip() for line in lines if line.startswith("  chunk_")]
    assert listed == ["chunk_00007", "chunk_00000", "chunk_00001", "chunk_00002", "chunk_00003"]
    assert any(line.startswith("  and 9,995 more: lanepaint status --json") for line in lines)
    assert any("9,999" in line and "raw_clips" in line for line in lines)
    assert "looked at in 3 of 30,000 partitions" in " ".join(lines)


@pytest.mark.parametrize(
    ("state", "items", "exit_status"),
    [
        ("fresh", Items(ok=3), 0),
        ("missing", None, 0),
        ("fresh", Items(ok=2, failed=1), 1),
        ("failed", None, 1),
        ("stale", Items(ok=3), 3),
        ("fresh", Items(ok=2, outdated=1), 3),
        ("cancelled", None, 3),
        ("running", None, 3),
    ],
)
def test_the_exit_status_tells_failed_from_unfinished(state: Any, items: Items | None, exit_status: int) -> None:
    chunks = {
        "chunk_0000": {"road_masks": Standing(PartitionState(state), None if items is None else Rows(items, any=True))}
    }
    status = many(0)
    assert Status(**{**vars(status), "chunks": chunks}).exit_status == exit_status


def test_a_narrowed_partition_is_unfinished() -> None:
    assert Standing(PartitionState("fresh", complete=False), None).is_unfinished
    assert not Standing(PartitionState("fresh", complete=True), None).is_unfinished


def test_gathering_is_in_memory_stores_too() -> None:
    settings = Settings(root="memory://status-empty")
    assert gather(settings, Wanted((), (), timedelta(hours=1))).chunks == {}
