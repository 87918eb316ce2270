"""Automation with webserver, daemon and code server as real processes: a checkpoint that changes on disk, and a daemon
that is killed with SIGKILL at every write of a tick and of a backfill.

Conditions, sensors and observations have unit tests of their own; here stands what only the processes together show.
"""

from __future__ import annotations

import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import torch
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from lanepaint_assets.automation import FRESHNESS, GROUPS
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.sam2.architecture import build_predictor
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.integration.fast_location import fast_definitions
from lanepaint_assets_tests.servers import Servers
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY, moving_texture

pytestmark = pytest.mark.slow

CHUNKS = ("chunk_0001", "chunk_0002", "chunk_0003")
MASKS = ("road_masks", "vp_inputs")
MATERIALIZED = tuple(FRESHNESS)
SEGMENTATION, DISCOVERY = "segmentation_automation", "new_chunks"
DYING_DAEMON = ("-m", "lanepaint_assets_tests.integration.dying_daemon")

# The daemon looks every 5 s; two looks that ask for nothing are after everything that follows from a change.
CALM_LOOKS = 2
# Three runs of 10 s one after the other and the looks after them, on cores that others use too.
CALM_S = 420.0
# A daemon starts within 10 s on two idle cores, and looks at once.
DEATH_S = 120.0

# A minute between two observations, one between two looks, and two runs that load torch.
OBSERVED_S = 600.0

# The daemon looks at backfills every 30 s.
CLOSING_S = 75.0

# Longest time that a run may take to begin, and between two looks for such; five minutes together where not set.
SOON = "  start_timeout_seconds: 60\n  poll_interval_seconds: 10\n"

Made = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Moment:
    """The newest event then, and the clock."""

    event: int
    time: float


BEGINNING = Moment(0, 0.0)


@dataclass(frozen=True)
class Live:
    """Running servers, and what their instance says."""

    servers: Servers
    instance: dg.DagsterInstance
    source: Path

    def now(self) -> Moment:
        """What happens from here on counts."""
        return Moment(self.instance.event_log_storage.get_maximum_record_id() or 0, time.time())

    def made(self, assets: Sequence[str], since: Moment = BEGINNING) -> Made:
        """How often each partition was materialized, by asset and chunk."""
        found: Made = Counter()
        for asset in assets:
            asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), after_storage_id=since.event)
            for record in self.instance.fetch_materializations(asked, limit=1000).records:
                assert record.partition_key is not None
                found[asset, record.partition_key] += 1
        return found

    def runs(self, since: Moment) -> Counter[str]:
        """How many runs each chunk had."""
        records = self.instance.get_run_records()
        chunks = (
            record.dagster_run.tags.get("dagster/partition")
            for record in records
            if record.create_timestamp.timestamp() >= since.time
        )
        return Counter(chunk for chunk in chunks if chunk is not None)

    def looks(self, sensor: str, after: float) -> list[InstigatorTick]:
        """Ticks of a sensor that came to an end, newest first."""
        for state in self.instance.all_instigator_state():
            if state.instigator_name == sensor:
                return list(
                    self.instance.get_ticks(
                        state.instigator_origin_id,
                        state.selector_id,
                        after=after,
                        statuses=[TickStatus.SUCCESS, TickStatus.SKIPPED],
                    )
                )
        return []

    def is_busy(self) -> bool:
        """Whether a run or a backfill is not finished."""
        runs = self.instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES), limit=1)
        return bool(runs) or bool(self.instance.get_backfills(status=BulkActionStatus.REQUESTED, limit=1))

    def wait_until_calm(self, looks: int = CALM_LOOKS) -> None:
        """Wait until the sensor of segmentation looked so often, all the while with nothing under way."""
        since = time.time()

        def is_calm() -> bool:
            nonlocal since
            found = len(self.looks(SEGMENTATION, since))
            if self.is_busy():
                since = time.time()
                return False
            return found >= looks

        self.servers.wait_for("rest", is_calm, CALM_S)

    def kill_at_rest(self) -> Moment:
        """Kill the daemon while nothing is to be done, so that what comes next meets none."""
        self.wait_until_calm()
        self.servers.kill_daemon()
        return self.now()

    def let_the_daemon_die_at(self, moment: str, sensor: str = SEGMENTATION) -> None:
        """Start a daemon that is killed at a moment of `dying_daemon.MOMENTS`, and wait for it."""
        self.servers.start_daemon(*DYING_DAEMON, moment, sensor)
        try:
            self.servers.wait_until_daemon_is_killed(DEATH_S)
        except AssertionError:
            # The next test needs a daemon that lives.
            self.servers.kill_daemon()
            self.servers.start_daemon()
            raise

    def close(self, backfill_id: str) -> None:
        """Wait for the end of a backfill that has nothing left to make; cancel it where it does not come.

        Dagster asks once whether a dead run is to be retried. Asked before the run is noted as failed, it says no, and
        the run's backfill waits for the retry for ever.
        """
        ended = time.time() + CLOSING_S

        def is_closed() -> bool:
            found = self.instance.get_backfill(backfill_id)
            assert found is not None
            return found.status is not BulkActionStatus.REQUESTED or time.time() > ended

        self.servers.wait_for("the end of the backfill", is_closed, CALM_S)
        found = self.instance.get_backfill(backfill_id)
        if found is not None and found.status is BulkActionStatus.REQUESTED:
            self.servers.cancel(backfill_id)

    def finish(self) -> None:
        """Start a daemon and let it do what is left."""
        self.servers.start_daemon()
        self.wait_until_calm()

    def publish_checkpoint(self, version: str) -> None:
        """What an observation of a changed checkpoint leaves."""
        self.instance.report_runless_asset_event(
            dg.AssetObservation(asset_key="sam2_checkpoint", tags={"dagster/data_version": version})
        )


def once(assets: Sequence[str], chunks: Sequence[str]) -> Made:
    return Counter({(asset, chunk): 1 for asset in assets for chunk in chunks})


def write_clips(source: Path, chunks: Sequence[str]) -> None:
    for index, chunk in enumerate(chunks):
        folder = source / "camera_front_wide_120fov" / chunk
        folder.mkdir(parents=True)
        write_video(folder / "drive.mp4", moving_texture(20, 64, 48, seed=index), 10.0)


def write_checkpoint(root: Path) -> None:
    """A file that observations take for whole; nobody loads it."""
    path = root / "checkpoints" / "sam2" / "sam2.1_hiera_large.pt"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def environment(settings: Settings) -> Mapping[str, str]:
    """The variables that say what was set."""
    chosen = settings.model_dump(exclude_unset=True).items()
    return {
        f"LANEPAINT_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in chosen
    }


# A killed daemon


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Three chunks with masks; the sensor of segmentation is on and has nothing to do."""
    folder = tmp_path_factory.mktemp("killed")
    write_clips(folder / "clips", CHUNKS)
    write_checkpoint(folder / "root")
    settings = Settings(
        root=str(folder / "root"),
        source=str(folder / "clips"),
        # Its checkpoint is an input of the masks; `fast_location` puts another segmenter in its place.
        segmenter="sam2",
        checkpoint_stable_minutes=0.0,
        chunk_stable_minutes=0.0,
        min_road_confidence=0.0,
        prompts=("single_white_dashed",),
        # The driver finds clips of two seconds too short.
        max_failed_share=1.0,
        frame_limit=4,
        # Fewer than there are chunks, so that something waits when the daemon dies.
        automation_partitions=2,
    )
    servers = Servers(folder, "lanepaint_assets_tests.integration.fast_location", environment(settings))
    config = servers.home / "dagster.yaml"
    config.write_text(config.read_text().replace("run_monitoring:\n", f"run_monitoring:\n{SOON}"))
    with servers.instance() as instance:
        register_chunks(Platform(settings), instance)
        job = fast_definitions(settings).resolve_job_def("sam2_only")
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        for chunk in CHUNKS:
            assert job.execute_in_process(partition_key=chunk, instance=instance, run_config=quiet).success
        with servers:
            live = Live(servers, instance, folder / "clips")
            observed = dg.AssetKey("sam2_checkpoint")
            servers.wait_for(
                "the first observation",
                lambda: bool(instance.fetch_observations(observed, limit=1).records),
                CALM_S,
            )
            servers.turn_on(SEGMENTATION)
            yield live


@pytest.mark.parametrize(
    "moment", ["look_begun", "look_noted", "requests_reserved", "backfill_entered", "tick_finished", "cursor_written"]
)
def test_a_daemon_killed_in_a_tick_requests_every_changed_partition_once(killable: Live, moment: str) -> None:
    rest = killable.kill_at_rest()
    killable.publish_checkpoint(f"changed before {moment}")
    killable.let_the_daemon_die_at(moment)
    killable.finish()
    assert killable.made(MASKS, rest) == once(MASKS, CHUNKS)
    assert killable.runs(rest) == Counter(CHUNKS)


def test_a_daemon_killed_all_through_a_backfill_makes_every_partition_once(killable: Live) -> None:
    rest = killable.kill_at_rest()
    backfill = killable.servers.backfill(MASKS, CHUNKS)
    for moment in ("runs_planned", "run_created", *("run_queued" for _ in CHUNKS), "run_launched"):
        killable.let_the_daemon_die_at(moment)
    killable.finish()
    ended = killable.instance.get_backfill(backfill)
    assert ended is not None
    assert ended.status is BulkActionStatus.COMPLETED_SUCCESS
    assert killable.made(MASKS, rest) == once(MASKS, CHUNKS)
    assert killable.runs(rest) == Counter(CHUNKS)


def test_a_run_whose_launch_was_cut_off_is_run_again_by_itself(killable: Live) -> None:
    rest = killable.kill_at_rest()
    backfill = killable.servers.backfill(MASKS, CHUNKS[:1])
    killable.let_the_daemon_die_at("run_starting")
    killable.servers.start_daemon()
    wanted = once(MASKS, CHUNKS[:1])
    killable.servers.wait_for("the masks", lambda: killable.made(MASKS, rest) == wanted, CALM_S)
    killable.close(backfill)
    killable.wait_until_calm()
    assert killable.made(MASKS, rest) == wanted
    # The one that never began, and its retry: Dagster's, or the sensor's where Dagster overlooked it.
    assert killable.runs(rest) == Counter({CHUNKS[0]: 2})


def test_a_daemon_killed_all_through_the_discovery_of_chunks_runs_each_once(killable: Live) -> None:
    killable.servers.turn_on(DISCOVERY)
    rest = killable.kill_at_rest()
    found = ("chunk_0004", "chunk_0005")
    write_clips(killable.source, found)
    for moment in ("look_begun", "requests_reserved", "run_created", *("run_queued" for _ in found)):
        killable.let_the_daemon_die_at(moment, DISCOVERY)
    killable.finish()
    assert killable.runs(rest) == Counter(found)
    assets = [asset for stage in STAGE_ASSETS.values() for asset in stage]
    assert killable.made(assets, rest) == once(assets, found)


# A changed checkpoint


def put_sam2(root: Path, *, certainty: float) -> None:
    """Random weights, put there in one step as copying tools rename what they have finished."""
    # Of the first few, the ones that take most of every picture for road.
    torch.manual_seed(1)
    weights = build_predictor(TINY, torch.device("cpu")).state_dict()
    # Untrained, it would see nothing anywhere.
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(certainty)
    folder = root / "checkpoints" / "sam2"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights}, folder / "new.tmp")
    (folder / "new.tmp").rename(folder / "sam2.1_hiera_tiny.pt")


def test_a_checkpoint_changed_on_disk_reruns_the_partitions_that_depend_on_it_and_no_others(tmp_path: Path) -> None:
    root, (first, second, third) = tmp_path / "root", CHUNKS
    write_clips(tmp_path / "clips", CHUNKS)
    put_sam2(root, certainty=5.0)
    settings = Settings(
        root=str(root),
        source=str(tmp_path / "clips"),
        segmenter="sam2",
        sam2_model="tiny",
        device="cpu",
        driver="constant_velocity",
        observation_minutes=1,
        checkpoint_stable_minutes=0.0,
        min_road_confidence=0.0,
        # The driver finds clips of two seconds too short; those partitions exist all the same.
        max_failed_share=1.0,
        frame_limit=4,
        workers=1,
    )
    servers = Servers(tmp_path, "lanepaint_assets_tests.integration.tiny_sam2_location", environment(settings))
    with servers.instance() as instance, servers:
        live = Live(servers, instance, tmp_path / "clips")
        register_chunks(Platform(settings), instance)
        for group in GROUPS:
            servers.turn_on(f"{group}_automation")
        servers.backfill(["raw_clips", *MASKS, "original_trajectories"], [first, second])
        servers.backfill(["raw_clips", "original_trajectories"], [third])
        live.wait_until_calm(looks=1)
        dependent = once(MASKS, [first, second])
        assert live.made(MATERIALIZED) == dependent + once(["raw_clips", "original_trajectories"], CHUNKS)
        masks = fingerprints(settings, first, second)

        changed = live.now()
        put_sam2(root, certainty=6.0)
        servers.wait_for("new masks", lambda: live.made(MASKS, changed) >= dependent, OBSERVED_S)
        live.wait_until_calm(looks=1)
        assert live.made(MATERIALIZED, changed) == dependent
        assert live.runs(changed) == Counter([first, second])
        assert not masks & fingerprints(settings, first, second)


def fingerprints(settings: Settings, *chunks: str) -> set[str]:
    store = Platform(settings).store
    rows = [row for chunk in chunks for row in store.manifest("road_masks", chunk).rows.values()]
    assert {row.status for row in rows} == {"ok"}
    return {row.fingerprint for row in rows}
