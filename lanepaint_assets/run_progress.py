"""What a run tells about itself while it is under way: tags of its chunk and commit, how far each asset and the loops
inside its items are; and how long its items may go on when its process is asked to end.

`platform_resource` wraps the platform that assets are given, so that no asset has to do anything for it. What an asset
tells at its end is in `materialization.py`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution

import dagster as dg
from dagster._core.events import EngineEventData

from lanepaint_assets.loop_progress import LoopListener, loops_told_to
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.stopping import grace_period

log = logging.getLogger(__name__)

CHUNK_TAG = "lanepaint/chunk"
COMMIT_TAG = "lanepaint/commit"

# Between two reports of an asset: often enough to see a step move; an hour is 120 rows of the event log.
REPORT_EVERY_S = 30.0

Report = Callable[[str, dict[str, dg.MetadataValue]], None]
"""Given one line for people, and the same as metadata."""


class ItemProgress:
    """Turns the progress of items into a line now and then: done, of how many, and the time left at the pace so far.

    Args:
        report: where lines go.
        chunk: named in each.
        clock: seconds; given by tests.
    """

    def __init__(self, report: Report, chunk: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._chunk, self._clock = report, chunk, clock
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def __call__(self, asset: str, done: int, total: int, label: str) -> None:  # noqa: ARG002 - the listener's signature
        """See `ProgressListener`."""
        now = self._clock()
        if done == 0:
            self._started[asset] = self._told[asset] = now
            if total:
                self._tell(asset, 0, total, None)
            return
        if done < total and now - self._told.get(asset, now) < REPORT_EVERY_S:
            return
        self._told[asset] = now
        self._tell(asset, done, total, (now - self._started.get(asset, now)) / done * (total - done))

    def _tell(self, asset: str, done: int, total: int, left_s: float | None) -> None:
        left = "" if left_s is None else f", {_readable(left_s)} left" if done < total else ", finished"
        metadata: dict[str, dg.MetadataValue] = {
            "asset": dg.MetadataValue.asset(dg.AssetKey(asset)),
            "items_done": dg.MetadataValue.int(done),
            "items_to_compute": dg.MetadataValue.int(total),
        }
        if left_s is not None:
            metadata["seconds_left"] = dg.MetadataValue.int(round(left_s))
        self._report(f"{asset} {self._chunk}: {done} of {total} items{left}", metadata)


def loop_line(report: Report) -> LoopListener:
    """Turns the progress of loops inside items into lines."""

    def tell(what: str, done: int, total: int, left_s: float) -> None:
        metadata: dict[str, dg.MetadataValue] = {
            "steps_done": dg.MetadataValue.int(done),
            "steps": dg.MetadataValue.int(total),
            "seconds_left": dg.MetadataValue.int(round(left_s)),
        }
        report(f"{what}: step {done} of {total}, {_readable(left_s)} left", metadata)

    return tell


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def installed_commit(settings: Settings) -> str | None:
    """The commit of the installed code: the setting, or what pip noted of an install from a repository; else None.

    Git itself is not asked: a container has neither the program nor the history.
    """
    if settings.git_commit is not None:
        return settings.git_commit
    try:
        noted = json.loads(distribution("lanepaint").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    commit = noted.get("vcs_info", {}).get("commit_id")
    return commit if isinstance(commit, str) else None


@contextmanager
def _told_if_possible(what: str) -> Iterator[None]:
    """A database that is away for a moment costs a line about a run, not the run."""
    try:
        yield
    except Exception:
        log.warning("%s could not be told to Dagster's storage", what, exc_info=True)


def platform_resource(platform: Platform) -> dg.ResourceDefinition:
    """The platform as assets and sensors are given it; in a run it also tags the run and reports progress.

    Progress is an engine event: the run's page shows it at once, with its metadata. An observation of the asset would
    count as a new version of the partition for the conditions, and what a step logs as events comes only at its end.
    """
    commit = installed_commit(platform.settings)

    def in_context(context: dg.InitResourceContext) -> Iterator[Platform]:
        run, instance = context.run, context.instance
        if run is None or instance is None:
            yield platform
            return
        chunk = run.tags.get("dagster/partition")
        tags = {name: value for name, value in ((CHUNK_TAG, chunk), (COMMIT_TAG, commit)) if value}
        if tags:
            with _told_if_possible("the tags of the run"):
                instance.add_run_tags(run.run_id, tags)

        def report(line: str, metadata: dict[str, dg.MetadataValue]) -> None:
            log.info(line)
            with _told_if_possible("progress"):
                instance.report_engine_event(line, run, EngineEventData(metadata))

        with (
            platform.told(ItemProgress(report, chunk or "")) as told,
            loops_told_to(loop_line(report)),
            grace_period(platform.settings.stop_grace_s),
        ):
            yield told

    return dg.ResourceDefinition(in_context, description="Settings, store, source and engines.")
