"""PostgreSQL as Dagster's storage: whole runs on a real server, one that restarts or is away in the middle of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.local_postgres import PostgresError, PostgresServer, server_programs, temporary_server
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items
from lanepaint_assets_tests.fixtures import Graph, assert_files_are_whole, materializations, statuses

pytest.importorskip("dagster_postgres", reason="pip install 'lanepaint[local-postgres]'")

REPOSITORY = Path(__file__).resolve().parents[2]
CHUNK = "chunk_0000"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        server_programs()
    except PostgresError as error:
        pytest.skip(str(error))
    with temporary_server() as started:
        yield started


@pytest.fixture
def instance(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """As `make dev-postgres` configures it: the project's dagster.yaml, and the address by reference."""
    home = tmp_path / "home"
    monkeypatch.setenv("LANEPAINT_POSTGRES_URL", server.url)
    made = subprocess.run(
        ["make", "--no-print-directory", f"DAGSTER_HOME={home}", str(home / "dagster.yaml")],
        cwd=REPOSITORY,
        env={**os.environ, "LANEPAINT_ROOT": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    configured = (home / "dagster.yaml").read_text()
    assert server.url not in configured
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert type(opened.event_log_storage).__name__ == "PostgresEventLogStorage"
        yield opened


def test_a_whole_run_is_in_the_database_and_a_second_one_reuses_everything(
    tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance
) -> None:
    graph = Graph(tmp_path / "root", tiny_drive, instance)
    (chunk,) = graph.register()
    first = graph.run("sam2_vp", chunk)
    assert instance.get_run_by_id(first.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert instance.get_run_by_id(first.run_id).tags["lanepaint/chunk"] == chunk
    assert set(instance.get_materialized_partitions(dg.AssetKey("edited_videos"))) == {chunk}
    assert graph.journal.take()
    second = graph.run("sam2_vp", chunk)
    assert graph.journal.take() == []
    made = materializations(second)["edited_videos"]
    assert made.metadata["computed"].value == 0
    assert not list((tmp_path / "home").rglob("*.db")), "something was kept in SQLite"


def _partition(store: ArtifactStore, between: Callable[[str], None]) -> dg.AssetsDefinition:
    """An asset of four items that calls `between` while it makes each."""

    @dg.asset
    def masks(context) -> dg.MaterializeResult:
        def compute(task: ItemTask, staged: Path) -> ItemOutput:
            between(task.key)
            (staged / "out.txt").write_text(task.key)
            return ItemOutput()

        tasks = [ItemTask(key, key * 64) for key in "abcd"]
        outcome = run_items(store, "road_masks", CHUNK, tasks, compute, run_id=context.run.run_id)
        context.log.info("all were made")
        return dg.MaterializeResult(metadata={"computed": len(outcome.computed), "reused": len(outcome.reused)})

    return masks


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_between_two_items_costs_the_run_nothing(
    tmp_path: Path, server: PostgresServer, instance: dg.DagsterInstance, mode: str
) -> None:
    """`immediate` is what a crash of its machine looks like."""

    def restart(key: str) -> None:
        if key == "b":
            server.stop(mode)
            server.start()

    store = ArtifactStore(str(tmp_path / "store"))
    result = dg.materialize([_partition(store, restart)], instance=instance)
    assert result.success
    assert instance.get_run_by_id(result.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert statuses(store.manifest("road_masks", CHUNK)) == dict.fromkeys("abcd", "ok")
    (made,) = instance.fetch_materializations(dg.AssetKey("masks"), limit=1).records
    assert made.asset_materialization.metadata["computed"].value == 4


def test_while_the_server_is_away_for_seconds_events_wait_for_it(
    tmp_path: Path, server: PostgresServer, instance: dg.DagsterInstance
) -> None:
    """A switch to a standby takes seconds; Dagster tries for about six."""

    def away(key: str) -> None:
        if key == "b":
            server.stop()
            threading.Timer(2.0, server.start).start()

    store = ArtifactStore(str(tmp_path / "store"))
    result = dg.materialize([_partition(store, away)], instance=instance)
    assert result.success
    assert statuses(store.manifest("road_masks", CHUNK)) == dict.fromkeys("abcd", "ok")


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_with_a_clear_message_and_its_items_are_kept(
    tmp_path: Path, server: PostgresServer, instance: dg.DagsterInstance
) -> None:
    def gone(key: str) -> None:
        if key == "c":
            server.stop()

    store = ArtifactStore(str(tmp_path / "store"))
    try:
        with pytest.raises(Exception, match="too many retries for DB connection"):
            dg.materialize([_partition(store, gone)], instance=instance)
    finally:
        server.start()
    made = statuses(store.manifest("road_masks", CHUNK))
    assert made == dict.fromkeys("abcd", "ok")
    again = dg.materialize([_partition(store, lambda _: None)], instance=instance)
    assert again.success
    (record,) = instance.fetch_materializations(dg.AssetKey("masks"), limit=1).records
    assert record.asset_materialization.metadata["reused"].value == 4


def test_a_command_whose_database_is_away_says_so_in_one_line(tmp_path: Path, server: PostgresServer) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("storage: {postgres: {postgres_url: {env: LANEPAINT_POSTGRES_URL}}}")
    server.stop()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", "from lanepaint_assets.cli import main; main()", "run", "--stages", "1"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "LANEPAINT_ROOT": str(tmp_path / "root"),
                "LANEPAINT_POSTGRES_URL": server.url,
                "DAGSTER_HOME": str(home),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        server.start()
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("lanepaint: Dagster's database, LANEPAINT_POSTGRES_URL, does not answer ("), ended.stderr
    assert last.endswith("give the command again: finished items are kept")
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


RUNNING = """
import os, sys
from pathlib import Path
import dagster as dg
from lanepaint_assets_tests.fixtures import Graph
root, source, home = map(Path, sys.argv[1:])
with dg.DagsterInstance.from_config(str(home)) as instance:
    graph = Graph(root, source, instance)
    graph.register()
    print("ready", flush=True)
    result = graph.run("sam2_vp", "chunk_0000", raise_on_error=False)
    print("succeeded" if result.success else "failed", flush=True)
"""


def test_the_real_graph_survives_restarts_of_the_server_all_through_its_run(
    tmp_path: Path, tiny_drive: Path, server: PostgresServer, instance: dg.DagsterInstance
) -> None:
    """Whatever an interruption hits, the run ends, and the next one makes what is left and nothing twice."""
    root, home = tmp_path / "root", tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNING, str(root), str(tiny_drive), str(home)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    restarts = 0
    while process.poll() is None and restarts < 20:
        server.stop("fast")
        server.start()
        restarts += 1
        time.sleep(1.5)
    said, errors = process.communicate(timeout=180)
    assert restarts >= 1
    assert "succeeded" in said or "server closed the connection" in errors or "terminating connection" in errors, errors
    graph = Graph(root, tiny_drive, instance)
    graph.register()
    assert graph.run("sam2_vp", CHUNK).success
    for asset in ("raw_clips", "road_masks", "vp_inputs", "first_frames", "edited_videos"):
        manifest = graph.store.manifest(asset, CHUNK)
        assert set(statuses(manifest).values()) == {"ok"}, asset
        assert_files_are_whole(root, manifest)
