"""`lanepaint metrics` as Prometheus scrapes it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lanepaint_assets.commands.status import Standing, Status
from lanepaint_assets.commands.status_items import Items, Rows
from lanepaint_assets.metrics import LatestLook, Look, Pool, look
from lanepaint_assets.partition_states import PartitionState
from lanepaint_assets.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root" / "dagster"
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "root"))
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def test_a_look_counts_chunks_runs_and_steps_that_wait_for_a_gpu(
    home: Path, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    instance.add_dynamic_partitions("clip_chunk", ["chunk_0000", "chunk_0001"])
    instance.event_log_storage.set_concurrency_slots("gpu_80gb", 2)
    for number in range(3):
        instance.event_log_storage.claim_concurrency_slot("gpu_80gb", f"run{number}", "edited_videos")

    seen = look(Settings(root=str(tmp_path / "root")), instance)

    assert seen.status.registered == 2
    assert seen.pools["gpu_80gb"] == Pool(limit=2, working=2, waiting=1)
    assert seen.pools["gpu_24gb"].limit == 1
    assert seen.runs["QUEUED"] == 0
    assert seen.oldest_queued_s == 0.0


def scraped(collector: LatestLook) -> dict[tuple[str, tuple[str, ...]], float]:
    """Value of each figure, by its name and labels."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def an_answer() -> Look:
    made = Standing(PartitionState("fresh"), Rows(Items(ok=5, failed=1), any=True, failed=()))
    stale = Standing(PartitionState("stale"), Rows(Items(ok=2, outdated=4), any=True))
    status = Status(
        moment=datetime(2030, 1, 1, tzinfo=UTC),
        root="gs://bucket",
        has_instance=True,
        instance="/home",
        registered=2,
        assets={"1": ("road_masks",)},
        chunks={"chunk_0000": {"road_masks": made}, "chunk_0001": {"road_masks": stale}},
        failures=(),
        leaderboard=PartitionState("failed"),
        manifests_read=2,
        manifests=2,
        disk=None,
    )
    return Look(status, {"QUEUED": 7}, 12.0, {"gpu_80gb": Pool(8, 8, 3)}, {"SENSOR": 4.0})


def test_a_scrape_tells_what_was_seen() -> None:
    collector = LatestLook()
    collector.saw(an_answer())

    figures = scraped(collector)

    assert figures["lanepaint_partitions", ("road_masks", "fresh")] == 1
    assert figures["lanepaint_partitions", ("road_masks", "stale")] == 1
    assert figures["lanepaint_partitions", ("road_masks", "failed")] == 0
    assert figures["lanepaint_partitions", ("prompt_leaderboard", "failed")] == 1
    assert figures["lanepaint_items", ("road_masks", "ok")] == 7
    assert figures["lanepaint_items", ("road_masks", "failed")] == 1
    assert figures["lanepaint_runs", ("QUEUED",)] == 7
    assert figures["lanepaint_pool_waiting_steps", ("gpu_80gb",)] == 3
    assert figures["lanepaint_daemon_heartbeat_age_seconds", ("SENSOR",)] == 4


def test_a_look_that_fails_leaves_the_last_figures_and_is_counted() -> None:
    collector = LatestLook()
    collector.saw(an_answer())
    before = scraped(collector)

    collector.failed()

    after = scraped(collector)
    assert after.pop(("lanepaint_failed_looks_total", ())) == 1
    assert before.pop(("lanepaint_failed_looks_total", ())) == 0
    assert after == before


def test_before_the_first_look_only_failures_are_told() -> None:
    assert list(scraped(LatestLook())) == [("lanepaint_failed_looks_total", ())]


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    import re

    collector = LatestLook()
    collector.saw(an_answer())
    told = {name for name, _ in scraped(collector)} | {"lanepaint_stored_bytes", "lanepaint_collectable_bytes"}
    dashboard = json.loads((REPOSITORY / "k8s" / "dashboard.json").read_text())
    questions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    alerts = (REPOSITORY / "k8s" / "alerts.yaml").read_text()

    asked = set(re.findall(r"\blanepaint_\w+", " ".join([*questions, alerts])))

    assert questions
    assert asked <= told
    assert told - asked <= {"lanepaint_manifests_expected", "lanepaint_manifests_read"}


def test_the_command_answers_over_http_and_ends_when_it_is_told_to(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["-c", "from lanepaint_assets.cli import main; main()", "metrics", "--port", str(port), "--every", "3600"]
    server = subprocess.Popen([sys.executable, *words], env=os.environ, cwd=home, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        text = ""
        while "lanepaint_chunks 0.0" not in text and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.2)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                continue
        assert 'lanepaint_partitions{asset="road_masks",state="fresh"} 0.0' in text
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
    assert b"Traceback" not in said
    assert server.returncode == 0
