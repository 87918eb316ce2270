"""What Dagster and the manifests know, as figures for Prometheus: `lanepaint metrics`.

Called by the command line. It looks once in a while and serves what it saw last, so that a scrape costs nothing and a
database that does not answer shows as an old look, not as a gap. Read-only. What people read belongs to
`lanepaint status`.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lanepaint_assets.automation import LARGE_GPU, SMALL_GPU
from lanepaint_assets.commands.status import LEADERBOARD, Status, Wanted, gather
from lanepaint_assets.partition_states import STATES
from lanepaint_assets.settings import KEEP_HOURS, Settings

log = logging.getLogger(__name__)

POOLS = (SMALL_GPU, LARGE_GPU)

# Those that somebody waits for, and the two ends that are worth counting.
RUN_STATUSES = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
)


@dataclass(frozen=True)
class Pool:
    """One pool of GPUs.

    Attributes:
        limit: steps that may work at the same time.
        working: that do.
        waiting: that would.
    """

    limit: int
    working: int
    waiting: int


@dataclass(frozen=True)
class Look:
    """Everything that was seen at one moment.

    Attributes:
        status: partitions, items and disk.
        runs: number by status.
        oldest_queued_s: how long the run that waits longest has waited; 0 where none does.
        pools: by name.
        heartbeat_age_s: since each daemon last said that it lives.
    """

    status: Status
    runs: dict[str, int]
    oldest_queued_s: float
    pools: dict[str, Pool]
    heartbeat_age_s: dict[str, float]


def look(settings: Settings, instance: dg.DagsterInstance) -> Look:
    """Ask everything once; seconds with thousands of chunks.

    Raises:
        Exception: whatever the storage or the bucket says when it does not answer.
    """
    now = datetime.now(UTC)
    runs = {each.value: instance.get_runs_count(dg.RunsFilter(statuses=[each])) for each in RUN_STATUSES}
    queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    oldest = instance.get_run_records(queued, limit=1, order_by="create_timestamp", ascending=True)
    status = gather(settings, Wanted((), (), timedelta(hours=KEEP_HOURS)), instance)
    return Look(
        status=status,
        runs=runs,
        oldest_queued_s=max(0.0, (now - oldest[0].create_timestamp).total_seconds()) if oldest else 0.0,
        pools={name: _pool(instance, name) for name in POOLS},
        heartbeat_age_s={
            name: max(0.0, now.timestamp() - heartbeat.timestamp)
            for name, heartbeat in instance.get_daemon_heartbeats().items()
        },
    )


def _pool(instance: dg.DagsterInstance, name: str) -> Pool:
    info = instance.event_log_storage.get_concurrency_info(name)
    # A pool that nobody gave a limit has the default one, and no slots until a step asks for one.
    return Pool(info.limit or info.slot_count, info.active_slot_count, info.pending_step_count)


class LatestLook(Collector):
    """What was seen last, in Prometheus' terms. Names and labels are an interface: dashboards and alerts use them."""

    def __init__(self) -> None:
        self._latest: Look | None = None
        self._failures = 0
        self._guard = threading.Lock()

    def saw(self, latest: Look) -> None:
        """A look that succeeded."""
        with self._guard:
            self._latest = latest

    def failed(self) -> None:
        """A look that did not: what was seen before stays, and its age tells."""
        with self._guard:
            self._failures += 1

    def collect(self) -> Iterator[Metric]:
        """Called by a scrape."""
        with self._guard:
            latest, failures = self._latest, self._failures
        failed = CounterMetricFamily("lanepaint_failed_looks", "Looks that the storage or the bucket did not answer.")
        failed.add_metric([], failures)
        yield failed
        if latest is not None:
            yield from _of_dagster(latest)
            yield from _of_partitions(latest.status)


def _of_dagster(latest: Look) -> Iterator[Metric]:
    moment = latest.status.moment.timestamp()
    yield _gauge("lanepaint_look_timestamp_seconds", "When everything was looked at.", moment)
    yield _gauges("lanepaint_runs", "Runs by status.", "status", latest.runs)
    yield _gauge("lanepaint_oldest_queued_run_seconds", "How long a run waits for its start.", latest.oldest_queued_s)
    pools = latest.pools
    limits = {name: pool.limit for name, pool in pools.items()}
    yield _gauges("lanepaint_pool_limit", "Steps of a GPU pool that may work at the same time.", "pool", limits)
    working = {name: pool.working for name, pool in pools.items()}
    yield _gauges("lanepaint_pool_working_steps", "Steps of a GPU pool that hold a slot.", "pool", working)
    waiting = {name: pool.waiting for name, pool in pools.items()}
    yield _gauges("lanepaint_pool_waiting_steps", "Steps of a GPU pool that wait for a slot.", "pool", waiting)
    ages = latest.heartbeat_age_s
    yield _gauges("lanepaint_daemon_heartbeat_age_seconds", "Since a daemon last said that it lives.", "daemon", ages)


def _of_partitions(status: Status) -> Iterator[Metric]:
    yield _gauge("lanepaint_chunks", "Registered chunks.", status.registered)
    states = GaugeMetricFamily(
        "lanepaint_partitions", "Partitions by asset and the state that Dagster gives them.", labels=["asset", "state"]
    )
    items = GaugeMetricFamily(
        "lanepaint_items", "Items of the manifests that were read, by asset and status.", labels=["asset", "status"]
    )
    for asset in (each for assets in status.assets.values() for each in assets):
        standings = [assets[asset] for assets in status.chunks.values()]
        _count(states, asset, [standing.state for standing in standings])
        counted = [standing.items for standing in standings if standing.items is not None]
        for name in ("ok", "failed", "outdated", "retired"):
            items.add_metric([asset, name], sum(getattr(each, name) for each in counted))
    if status.leaderboard is not None:
        _count(states, LEADERBOARD, [status.leaderboard.state])
    yield states
    yield items
    yield _gauge("lanepaint_manifests_expected", "Manifests that there may be.", status.manifests)
    yield _gauge("lanepaint_manifests_read", "Manifests that the last look had time for.", status.manifests_read)
    if status.disk is not None:
        yield _gauge("lanepaint_stored_bytes", "Size of all items that the last look had time for.", status.disk.size)
        size = status.disk.collectable_size
        yield _gauge("lanepaint_collectable_bytes", "Size of the versions that `lanepaint gc` would remove.", size)


def _count(states: GaugeMetricFamily, asset: str, of_partitions: Sequence[str]) -> None:
    by_state = Counter(of_partitions)
    for state in STATES:
        states.add_metric([asset, state], by_state[state])


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _gauges(name: str, about: str, label: str, values: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def serve(settings: Settings, instance: dg.DagsterInstance, *, host: str, port: int, every_s: float) -> None:
    """Look now and every `every_s` seconds, and answer `http://host:port/metrics`, until SIGTERM or Ctrl-C.

    Only in the main thread, which alone is told of signals.

    Raises:
        OSError: the port is taken.
    """
    latest, registry = LatestLook(), CollectorRegistry()
    registry.register(latest)
    server, _ = start_http_server(port, addr=host, registry=registry)
    log.info("metrics: http://%s:%d/metrics", host, server.server_port)
    # The first process of a container has no default way to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            latest.saw(look(settings, instance))
        except Exception:
            log.exception("the last figures stay")
            latest.failed()
        time.sleep(every_s)
