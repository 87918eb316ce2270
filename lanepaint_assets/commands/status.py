"""`lanepaint status`: where every chunk stands, what is out of date and why, what failed, how much disk it takes.

Gathered here from Dagster (`partition_states.py`) and from the store's manifests (`status_items.py`); told by
`status_output.py`. Nothing is changed. What takes long, reading every manifest and measuring the disk, ends after some
seconds unless all of it is asked for, and the answer says how far it came.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from lanepaint_assets.automation import unread_checkpoints
from lanepaint_assets.commands.collect import before_any_run
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.commands.launch import dagster_home
from lanepaint_assets.commands.status_items import Failure, Items, Place, Rows, failures, read_rows
from lanepaint_assets.definitions import build
from lanepaint_assets.jobs import STAGE_ASSETS, open_instance
from lanepaint_assets.partition_states import PartitionState, PartitionStates, State
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.remote_errors import as_os_errors
from lanepaint_assets.settings import Settings, SettingsError
from lanepaint_assets.store.collection import collectable, stored_versions
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.layout import AREAS

if TYPE_CHECKING:
    import dagster

# Stages as `lanepaint run` names them, and what `lanepaint dataset make` makes beside them.
STAGES: dict[str, tuple[str, ...]] = {**STAGE_ASSETS, "training": ("training_samples", "filtered_samples")}
# Gathers all chunks, so it has a state of its own and no standing in a chunk.
LEADERBOARD = "prompt_leaderboard"
STAGE_NAMES = {"1": "Segmentation", "2": "Editing", "3": "Evaluation", "training": "Training data"}

# Exit statuses: everything asked for is fresh or was never asked for; something failed; something is not finished.
WELL, FAILED, UNFINISHED = 0, 1, 3

# What a person waits for the manifests, and as long again for the disk.
LOOK_S = 3.0
# Whose manifests are read first.
_RANK: dict[State, int] = {
    "failed": 0, "stale": 1, "cancelled": 1, "running": 2, "queued": 2, "fresh": 2, "missing": 3
}  # fmt: skip
# Failed runs that are asked for their reasons; a run takes some milliseconds.
_ASKED_RUNS = 100


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        chunks: of these only; empty for all.
        stages: keys of `STAGES`; empty for all.
        kept_for: versions written more recently do not count as collectable.
        full: read every manifest and measure all of the disk, however long it takes.
        failed_only: read every manifest and measure nothing.
    """

    chunks: tuple[str, ...]
    stages: tuple[str, ...]
    kept_for: timedelta
    full: bool = False
    failed_only: bool = False


@dataclass(frozen=True)
class Standing:
    """One asset of one chunk.

    Attributes:
        known: what Dagster knows; None without an instance.
        rows: what the manifest says; None where it was not read.
    """

    known: PartitionState | None
    rows: Rows | None

    @property
    def items(self) -> Items | None:
        """Counts; None where there is no manifest, or none that could be read."""
        return self.rows.items if self.rows is not None and self.rows.any else None

    @property
    def state(self) -> str:
        """Dagster's word, or without an instance whether the manifest has any row."""
        if self.known is not None:
            return self.known.state
        if self.rows is None or self.rows.problem is not None:
            return "unread"
        return "made" if self.rows.any else "missing"

    @property
    def has_failed(self) -> bool:
        """Its last run failed, or some of its items."""
        return self.state == "failed" or (self.items is not None and self.items.failed > 0)

    @property
    def is_unfinished(self) -> bool:
        """A run or a person has something left to do."""
        incomplete = self.known is not None and self.known.complete is False
        outdated = self.items is not None and self.items.outdated > 0
        return self.state in ("stale", "running", "queued", "cancelled") or incomplete or outdated


@dataclass(frozen=True)
class Disk:
    """What items take below the root, in bytes and versions.

    Attributes:
        is_measured: whether everything was looked at; else the figures are the least that it can be.
    """

    size: int
    versions: int
    collectable_size: int
    collectable_versions: int
    is_measured: bool


@dataclass(frozen=True)
class Status:
    """Everything that is told.

    Attributes:
        moment: when.
        root: the store's address.
        has_instance: whether Dagster was asked.
        instance: where its instance is, or why there is none.
        registered: chunks in all.
        assets: by stage, those that were asked for.
        chunks: those that were asked for, each with its assets.
        failures: steps first, then items where they arose.
        leaderboard: of the one asset that gathers all chunks; None where it was not asked for.
        manifests_read, manifests: of how many partitions the rows are known.
        disk: None where it was not asked for.
    """

    moment: datetime
    root: str
    has_instance: bool
    instance: str
    registered: int
    assets: dict[str, tuple[str, ...]]
    chunks: dict[str, dict[str, Standing]]
    failures: tuple[Failure, ...]
    leaderboard: PartitionState | None
    manifests_read: int
    manifests: int
    disk: Disk | None

    @property
    def exit_status(self) -> int:
        """`FAILED` where anything failed, else `UNFINISHED` where anything is left to do, else `WELL`."""
        standings = [standing for assets in self.chunks.values() for standing in assets.values()]
        if self.leaderboard is not None:
            standings.append(Standing(self.leaderboard, None))
        if self.failures or any(standing.has_failed for standing in standings):
            return FAILED
        return UNFINISHED if any(standing.is_unfinished for standing in standings) else WELL


def gather(settings: Settings, wanted: Wanted, instance: dagster.DagsterInstance | None = None) -> Status:
    """Look at everything that is asked for.

    Args:
        settings: whose store.
        wanted: what of it.
        instance: one that is open already; without it the one that other commands use is opened, where there is one.

    Raises:
        CommandError: a chunk is not registered, or there is no such stage.
        SettingsError: `DAGSTER_HOME` is no folder.
    """
    platform = Platform(settings)
    instance, where = _existing_instance(settings) if instance is None else (instance, instance.root_directory)
    registered = platform.store.chunk_keys() if instance is None else registered_chunks(instance)
    keys = _chosen(wanted.chunks, registered)
    assets = {stage: STAGES[stage] for stage in _chosen_stages(wanted.stages)}
    names = [asset for stage in assets.values() for asset in stage]
    states: dict[str, dict[str, PartitionState]] = {}
    leaderboard = None
    if instance is not None:
        definitions, unread = build(settings, platform=platform), partial(unread_checkpoints, settings)
        dagster_states = PartitionStates(instance, definitions, unread=unread)
        states = dagster_states.of(names, keys)
        if "3" in assets and not wanted.chunks:
            leaderboard = dagster_states.whole(LEADERBOARD)
    seconds = None if wanted.full or wanted.failed_only else LOOK_S
    rows = read_rows(platform.store, _worst_first(keys, names, states), seconds)
    standings = {
        key: {asset: Standing(states.get(asset, {}).get(key), rows.get(Place(key, asset))) for asset in names}
        for key in keys
    }
    places = (Place(key, asset) for key in keys for asset in names)
    failed = list(failures((place, rows[place]) for place in places if place in rows))
    if instance is not None:
        steps = _failed_steps(dagster_states, states, keys, leaderboard)
        failed = [*(step for step in steps if not _repeats(step, rows)), *failed]
    return Status(
        moment=datetime.now(UTC),
        root=str(platform.store.root),
        has_instance=instance is not None,
        instance=where,
        registered=len(registered),
        assets=assets,
        chunks=standings,
        failures=tuple(failed),
        leaderboard=leaderboard,
        manifests_read=len(rows),
        manifests=len(keys) * len(names),
        disk=None if wanted.failed_only else _disk(platform, instance, wanted, names, seconds),
    )


def _existing_instance(settings: Settings) -> tuple[dagster.DagsterInstance | None, str]:
    """The instance that other commands use and where it is, or why there is none: looking must not make one."""
    home = dagster_home(settings)
    if not os.environ.get("DAGSTER_HOME") and not (home / "dagster.yaml").exists():
        return None, "no instance on this machine (DAGSTER_HOME is not set)"
    try:
        instance = open_instance(home)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - any database, which says in its own way that it does not answer
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        return None, f"the storage of {os.environ['DAGSTER_HOME']} does not answer ({said})"
    return instance, os.environ["DAGSTER_HOME"]


def _chosen(chunks: Sequence[str], registered: Sequence[str]) -> list[str]:
    missing = sorted(set(chunks) - set(registered))
    if missing:
        known = ", ".join(registered[:20]) or "none"
        raise CommandError(f"chunk {', '.join(missing)} is not registered (registered: {known})")
    return list(dict.fromkeys(chunks)) if chunks else list(registered)


def _chosen_stages(stages: Sequence[str]) -> list[str]:
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        allowed = ", ".join(f"{stage} ({STAGE_NAMES[stage].lower()})" for stage in STAGES)
        raise CommandError(f"there is no stage {', '.join(unknown)}; stages: {allowed}")
    return [stage for stage in STAGES if not stages or stage in stages]


def _worst_first(
    keys: Sequence[str], assets: Sequence[str], states: dict[str, dict[str, PartitionState]]
) -> list[Place]:
    """All partitions, those in trouble first, where the time may not suffice for all manifests.

    What was never made has no manifest, unless it was imported; it comes last.
    """
    places = [Place(key, asset) for key in keys for asset in assets]
    if states:
        places.sort(key=lambda place: _RANK[states[place.asset][place.chunk].state])
    return places


def _failed_steps(
    dagster_states: PartitionStates,
    states: dict[str, dict[str, PartitionState]],
    keys: Sequence[str],
    leaderboard: PartitionState | None,
) -> Iterator[Failure]:
    """The steps that failed in the last runs; those that their runs did not come to are left out."""
    known: dict[tuple[str | None, str], PartitionState] = {}
    if leaderboard is not None:
        known[None, LEADERBOARD] = leaderboard
    known |= {(key, asset): of_asset[key] for key in keys for asset, of_asset in states.items()}
    failed = {
        place: state.run_id for place, state in known.items() if state.state == "failed" and state.run_id is not None
    }
    run_ids = list(dict.fromkeys(run_id for run_id in failed.values()))
    reasons = dagster_states.reasons(run_ids[:_ASKED_RUNS])
    told: set[str] = set()
    for (key, asset), run_id in failed.items():
        steps = reasons.get(run_id, {"": "its run failed"})
        if asset in steps:
            yield Failure(key, asset, None, steps[asset], run_id)
        elif run_id not in told and not any(step in states for step in steps):
            # A step that makes several assets has a name of its own.
            step, reason = next(iter(steps.items()), ("", "its run failed"))
            yield Failure(key, asset, None, f"{step}: {reason}" if step else reason, run_id)
        told.add(run_id)


def _repeats(step: Failure, rows: Mapping[Place, Rows]) -> bool:
    """Whether the reason of a step only repeats those of its items."""
    found = None if step.chunk is None else rows.get(Place(step.chunk, step.asset))
    return found is not None and any(item in step.reason for item, _ in found.failed)


def _disk(
    platform: Platform,
    instance: dagster.DagsterInstance | None,
    wanted: Wanted,
    names: Sequence[str],
    seconds: float | None,
) -> Disk:
    ends = None if seconds is None else time.monotonic() + seconds
    before = datetime.now(UTC) - wanted.kept_for
    if instance is not None:
        before = before_any_run(instance, before)
    # What spans chunks, the leaderboard and LoRAs, counts where nothing was narrowed.
    assets = names if wanted.stages or wanted.chunks else AREAS
    size = versions = free_size = free_versions = 0
    is_measured = True
    try:
        with as_os_errors():
            for version in stored_versions(platform.store, assets, wanted.chunks or None):
                size, versions = size + version.size, versions + 1
                if collectable([version], before):
                    free_size, free_versions = free_size + version.size, free_versions + 1
                if ends is not None and time.monotonic() > ends:
                    is_measured = False
                    break
    except (StoreError, OSError):
        # A manifest that cannot be read is among the failures; what it names cannot be told from what it does not.
        is_measured = False
    return Disk(size, versions, free_size, free_versions, is_measured)
