"""How long a tick takes with ten thousand chunks, and what a partition costs of which nothing has changed.

A tick of discovery, and of the conditions of each group; `unchanged_partition` has the second half.

On a PostgreSQL server that the benchmark starts for itself, where its programs are to be had; otherwise on the SQLite
that Dagster brings, and the figures say so. Chunks are entered as rows of materializations: nothing is computed. The
quiet tick is what happens every minute; in the other one the prompt catalogue and SAM 2's checkpoint have changed.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import sqlalchemy

from benchmarks.harness import Outcome, command_line, report
from benchmarks.unchanged_partition import measure_unchanged
from lanepaint_assets.automation import GROUPS
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sensors import build_sensors
from lanepaint_assets.clips.sources import ChunkListing
from lanepaint_assets.definitions import build
from lanepaint_assets.local_postgres import PostgresError, server_programs, temporary_server
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings

NAME = "automation"
CHUNKS = 10_000
CAMERA = "camera_front_wide_120fov"
TARGET_TICK_S = 10.0
TARGET_MEMORY_MIB = 1024.0
# Rows a statement.
BATCH = 2000


def measure(chunks: int, rounds: int) -> Outcome:
    """All figures; the storage is filled first, which takes longer than measuring."""
    outcome = Outcome()
    on_server = _has_server(outcome)
    with _instance_at("automation", on_server) as (place, instance):
        source = place / "data"
        keys = [f"chunk_{number:05d}" for number in range(chunks)]
        settings = Settings(root=str(place / "root"), source=str(source), engines="models", chunk_stable_minutes=0)
        _discovery(instance, settings, source, keys, outcome)
        _fill(instance, settings, keys)
        _conditions(instance, settings, outcome)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    outcome.add("memory of the process that evaluates", peak_mib, "MiB", "lower", target=TARGET_MEMORY_MIB)
    # An instance of its own: every run would look through the partitions of the first half.
    with _instance_at("unchanged", on_server) as (place, instance):
        measure_unchanged(place, instance, rounds, outcome)
    return outcome


def _discovery(
    instance: dg.DagsterInstance, settings: Settings, source: Path, keys: list[str], outcome: Outcome
) -> None:
    for key in keys:
        folder = source / CAMERA / key
        folder.mkdir(parents=True)
        (folder / "clip.mp4").write_bytes(b"x")
    (sensor,) = build_sensors()
    cursor: str | None = None
    for name in ("first tick of discovery", "next tick of discovery"):
        started = time.perf_counter()
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"platform": Platform(settings)}
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        outcome.add(name, time.perf_counter() - started, "s", "lower", target=TARGET_TICK_S)
    outcome.add("cursor of discovery", len(cursor or ""), "bytes", "lower")
    # The rest at once: a tick registers only a few.
    platform = Platform(settings)
    listings = list(platform.source().chunks())

    def fix(listing: ChunkListing) -> None:
        platform.store.save_chunk(ChunkMembership(key=listing.key, source=platform.source_address, clips=listing.clips))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(fix, listings))
    instance.add_dynamic_partitions("clip_chunk", keys)
    started = time.perf_counter()
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"platform": Platform(settings)}
    ) as context:
        sensor(context)
    outcome.add("tick of discovery, all registered", time.perf_counter() - started, "s", "lower", target=TARGET_TICK_S)


def _fill(instance: dg.DagsterInstance, settings: Settings, keys: list[str]) -> None:
    """Enter one materialization for every chunk of every asset, as copies of a real one's row."""
    graph = build(settings).resolve_asset_graph()
    for name in (*CHECKPOINT_FOLDERS, "prompt_catalogue"):
        instance.report_runless_asset_event(dg.AssetObservation(name, tags={"dagster/data_version": "v1"}))
    assets = [
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if isinstance(graph.get(key).partitions_def, dg.DynamicPartitionsDefinition)
    ]
    for asset in sorted(assets):
        for key in keys[-1:]:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset, partition=key, tags={"dagster/data_version": "v1"})
            )
        with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            _copy_rows(connection, asset, keys[-1], keys[:-1])


def _copy_rows(connection: sqlalchemy.Connection, asset: str, template: str, keys: list[str]) -> None:
    metadata = sqlalchemy.MetaData()
    logs = sqlalchemy.Table("event_logs", metadata, autoload_with=connection)
    tags = sqlalchemy.Table("asset_event_tags", metadata, autoload_with=connection)
    row = (
        connection.execute(
            sqlalchemy.select(logs)
            .where(logs.c.asset_key == f'["{asset}"]', logs.c.partition == template)
            .where(logs.c.dagster_event_type == "ASSET_MATERIALIZATION")
        )
        .mappings()
        .one()
    )
    copied = {name: value for name, value in row.items() if name != "id"}
    tagged = [
        {name: value for name, value in found.items() if name not in ("id", "event_id")}
        for found in connection.execute(sqlalchemy.select(tags).where(tags.c.event_id == row["id"])).mappings()
    ]
    for start in range(0, len(keys), BATCH):
        rows = [
            {**copied, "partition": key, "event": row["event"].replace(template, key)}
            for key in keys[start : start + BATCH]
        ]
        first = connection.execute(sqlalchemy.select(sqlalchemy.func.max(logs.c.id))).scalar_one()
        connection.execute(sqlalchemy.insert(logs), rows)
        made = connection.execute(sqlalchemy.select(logs.c.id).where(logs.c.id > first)).scalars().all()
        if tagged:
            connection.execute(
                sqlalchemy.insert(tags), [{**tag, "event_id": event} for event in made for tag in tagged]
            )


def _conditions(instance: dg.DagsterInstance, settings: Settings, outcome: Outcome) -> None:
    repository = build(settings).get_repository_def()
    cursors: dict[str, str | None] = {}
    for name in ("first", "quiet", "changed"):
        if name == "changed":
            for asset in ("sam2_checkpoint", "prompt_catalogue", "alpamayo_checkpoint"):
                instance.report_runless_asset_event(dg.AssetObservation(asset, tags={"dagster/data_version": "v2"}))
        for group in GROUPS:
            sensor = repository.get_sensor_def(f"{group}_automation")
            started = time.perf_counter()
            with dg.build_sensor_context(
                instance=instance, cursor=cursors.get(group), repository_def=repository, sensor_name=sensor.name
            ) as context:
                tick = sensor.evaluate_tick(context)
            seconds = time.perf_counter() - started
            cursors[group] = tick.cursor
            outcome.add(f"{name} tick of {group}", seconds, "s", "lower", target=TARGET_TICK_S)
            print(f"{name} tick of {group}: {seconds:.1f} s, {len(tick.run_requests or ())} requests", flush=True)


def _has_server(outcome: Outcome) -> bool:
    """Whether PostgreSQL is to be had; told in the outcome where SQLite has to do."""
    try:
        import dagster_postgres  # noqa: F401
    except ImportError:
        reason = "dagster-postgres is not installed (pip install 'lanepaint[postgres]'); measured on SQLite"
        outcome.skip("PostgreSQL", reason)
        return False
    try:
        server_programs()
    except PostgresError as error:
        outcome.skip("PostgreSQL", f"{error}; measured on SQLite")
        return False
    return True


@contextmanager
def _instance_at(name: str, on_server: bool) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    """A scratch folder, and an instance with a server of its own where one is to be had."""
    with tempfile.TemporaryDirectory(prefix=f"lanepaint-{name}-") as scratch, ExitStack() as stack:
        place = Path(scratch)
        home = place / "home"
        home.mkdir()
        configuration = "telemetry: {enabled: false}\n"
        if on_server:
            address = stack.enter_context(temporary_server()).url
            configuration += f"storage:\n  postgres:\n    postgres_url: {address}\n"
        (home / "dagster.yaml").write_text(configuration)
        os.environ["DAGSTER_HOME"] = str(home)
        yield place, stack.enter_context(dg.DagsterInstance.get())


def main() -> None:
    parser: argparse.ArgumentParser = command_line(NAME, __doc__ or NAME)
    parser.add_argument("--chunks", type=int, default=CHUNKS, help="Registered chunks.")
    options = parser.parse_args()
    report(NAME, measure(options.chunks, options.rounds), options.json)


if __name__ == "__main__":
    main()
