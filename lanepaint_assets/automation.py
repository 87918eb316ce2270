"""When assets are made again without a person asking: conditions, one sensor a group, pools, freshness.

Called by `definitions.py`, which applies all of it to the stages' assets. How an asset is made does not belong here,
nor how new chunks are found (`clips/sensors.py`).

What fires is a changed data version of an input: an observed checkpoint, the prompt catalogue, or an upstream partition
that came out different. A raised code version fires nothing: it would request every partition at once, so it shows as
stale and a person starts the backfill. Requests may be redundant; fingerprints decide what is computed.

What a person cancels, a run or a backfill, is left alone: its partitions are requested again when another input of them
changes, and made with all that changed before; until then they show as stale and hold nothing up below them. Partitions
that still waited for their turn are not part of what was cancelled and follow; the sensor is the switch for all of it.

`lane_loras` has no condition, on purpose: a new chunk adds training samples, and LoRAs that trained themselves anew
would change the catalogue, repaint every chunk and never come to rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.conditions import (
    AUTOMATION,
    REQUESTED_BY_TAG,
    AtMost,
    InputChanged,
    LeftIncomplete,
    Pending,
    UnderWay,
    UnsettledAbove,
)
from lanepaint_assets.engines import EngineEntry, Role, chosen_engine, engine_named
from lanepaint_assets.group_sensor import GroupSensor
from lanepaint_assets.settings import Settings
from lanepaint_assets.step_ops import with_op

AC = dg.AutomationCondition

# Groups whose assets have conditions, and when these ask; the sensor of each is off until a person turns it on.
OCCASIONS: Mapping[str, str] = {
    "clips": "when a run failed, once; changed files are the sensor new_chunks' to see",
    "segmentation": "when an input changed, or when a run failed, once",
    "training": "when an input changed, or when a run failed, once; never a LoRA",
    "editing": "when an input changed, when a run failed, once, or when it was narrowed to some prompts",
    "evaluation": "when an input changed, when a run failed, once, or when it was narrowed to some prompts",
}
GROUPS = tuple(OCCASIONS)

# Between two looks. A look costs seconds with ten thousand chunks, and a chunk takes minutes at least.
INTERVAL_S = 60

# How often a step is executed for one cause when it fails every time, and why it is no more than that:
# - op: no retries. What fails a step is a refusal, or more than the bearable share of items; items that failed are
#   tried again by any later materialization.
# - run (`run_retries` in dagster.yaml): once, only for a run whose process died. A step that failed is not rerun.
# - automation: once, by the condition `_retry_once`; then it is quiet until an input changes, or, of a partition
#   that was never made, until a person makes it.
# The three multiply: a failing step is executed 1 x 1 x 2 = 2 times, one that kills its process 1 x 2 x 2 = 4 times.
# On a cluster a step whose pod is lost is tried again by itself (`k8s_steps.LOST_PODS`), which multiplies once more.
OP_RETRIES = 0
RUN_RETRIES = 1
AUTOMATION_RETRIES = 1

# What each asset computes with. Decides the pool that its steps wait in, and which checkpoints matter to it.
ROLES: Mapping[str, tuple[Role, ...]] = {
    "road_masks": ("segmenter",),
    "vp_inputs": ("segmenter",),
    "training_samples": ("segmenter", "inspector"),
    "first_frames": ("first_frame_painter", "inspector"),
    "edited_videos": ("video_painter",),
    "original_trajectories": ("driver",),
    "edited_trajectories": ("driver",),
}

# Judges finished edits with `LANEPAINT_VERIFYING_INSPECTOR`, whatever inspector the stages before it use.
VERIFIED = frozenset({"video_quality"})

# Pools by class of GPU, not by asset: a pool's limit is the number of such GPUs, and a step holds one.
SMALL_GPU = "gpu_24gb"
LARGE_GPU = "gpu_80gb"
# SAM 2.1 large keeps within 24 GB; every other model engine is given 40 GB or more.
SMALL_GPU_ENGINES = frozenset({"sam2"})
# Always trains on a GPU, whatever the engines.
ALWAYS_LARGE_GPU = frozenset({"lane_loras"})


@dataclass(frozen=True)
class Window:
    """How old the last materialization of an asset may be before it warns and fails."""

    warn: timedelta
    fail: timedelta

    def later(self, hours: float) -> Window:
        """The window of an asset that is made some hours after this one."""
        return Window(self.warn + timedelta(hours=hours), self.fail + timedelta(hours=hours))


# Drives arrive on working days: one day without is worth a look, more than a long weekend is a broken upload.
ARRIVAL = Window(warn=timedelta(hours=24), fail=timedelta(hours=96))
# Training data is gathered in campaigns, LoRAs are trained by a person some times a quarter.
CAMPAIGN = Window(warn=timedelta(weeks=2), fail=timedelta(weeks=6))
TRAINING = Window(warn=timedelta(weeks=6), fail=timedelta(weeks=16))

# An asset is due as many hours after the clips as a chunk takes to reach it: an hour a GPU step, as many again for
# waiting in its pool. Policies look at the last materialization of the whole asset, not at chunks.
FRESHNESS: Mapping[str, Window] = {
    "raw_clips": ARRIVAL,
    "road_masks": ARRIVAL.later(2),
    "vp_inputs": ARRIVAL.later(2),
    "original_trajectories": ARRIVAL.later(2),
    "first_frames": ARRIVAL.later(4),
    "edited_videos": ARRIVAL.later(6),
    "video_quality": ARRIVAL.later(8),
    "edited_trajectories": ARRIVAL.later(8),
    "trajectory_videos": ARRIVAL.later(9),
    "trajectory_reports": ARRIVAL.later(10),
    # At the full hour after a report.
    "prompt_leaderboard": ARRIVAL.later(11),
    "training_samples": CAMPAIGN,
    "filtered_samples": CAMPAIGN,
    "lane_loras": TRAINING,
}


def refresh_condition(settings: Settings, asset: str) -> dg.AutomationCondition[Any]:
    """Request a chunk's existing partition when an input came out different, it failed once, or it was left incomplete.

    In order through the graph: not while anything above it is under way or out of date itself. A partition that was
    never made is a person's or the sensor `new_chunks`' to request, unless it was part of a run that failed.
    """

    def ignored(name: str) -> frozenset[str]:
        return unread_checkpoints(settings, name)

    unread = dg.AssetSelection.assets(*sorted(ignored(asset)))
    ready = ~AC.any_deps_missing().ignore(unread) & ~UnderWay() & ~UnsettledAbove(ignored)
    wanted = Pending(InputChanged(ignored) | LeftIncomplete()) | _retry_once()
    return AtMost(wanted & ready, settings.automation_partitions)


def source_condition(settings: Settings) -> dg.AutomationCondition[Any]:
    """Of `raw_clips`, whose input is no asset: the sensor `new_chunks` sees changed files; a failure is tried again."""
    return AtMost(_retry_once() & ~UnderWay(), settings.automation_partitions)


def leaderboard_condition() -> dg.AutomationCondition[Any]:
    """Once an hour, if a report was made. Not `eager`: that waits until no chunk lacks a report, which is never."""
    hourly = (Pending(AC.any_deps_updated()) & AC.cron_tick_passed("0 * * * *")).with_label(
        "new_reports_at_the_full_hour"
    )
    return (hourly | _retry_once()) & ~UnderWay()


def _retry_once() -> dg.AutomationCondition[Any]:
    """Once after the first failure since the last success, however often it fails then.

    The bare `execution_failed().newly_true()` is a trap for assets without partitions: they count as not failed while
    the retry runs, so that its failure is new, for ever.
    """
    failed = AC.execution_failed().newly_true().since(AC.newly_updated() | AC.initial_evaluation())
    return (Pending(failed.newly_true()) & AC.execution_failed()).with_label("failed_once")


def _engines(settings: Settings, asset: str) -> list[EngineEntry]:
    """What an asset may load, as the settings choose."""
    engines = [chosen_engine(settings, role) for role in ROLES.get(asset, ())]
    if asset in VERIFIED:
        engines.append(engine_named("inspector", settings.verifying_inspector))
    return engines


def unread_checkpoints(settings: Settings, asset: str) -> frozenset[str]:
    """Checkpoints that the asset's engines do not read: their coming and going is not its business, observed or not."""
    read = {checkpoint.asset for engine in _engines(settings, asset) for checkpoint in engine.checkpoints}
    return frozenset(CHECKPOINT_FOLDERS) - read


def pool_of(settings: Settings, assets: Iterable[str]) -> str | None:
    """The pool that a step waits in; None for a step that needs no GPU."""
    names = set(assets)
    on_gpu = {engine.name for asset in names for engine in _engines(settings, asset) if engine.checkpoints}
    if names & ALWAYS_LARGE_GPU or on_gpu - SMALL_GPU_ENGINES:
        return LARGE_GPU
    return SMALL_GPU if on_gpu else None


def automated(settings: Settings, assets: Sequence[Any]) -> list[Any]:
    """The stages' assets with conditions, freshness policies and pools."""
    conditions = {"prompt_leaderboard": leaderboard_condition(), "raw_clips": source_condition(settings)}

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        per_chunk = isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition)
        window = FRESHNESS.get(name)
        return spec.replace_attributes(
            automation_condition=conditions.get(name, refresh_condition(settings, name) if per_chunk else None),
            freshness_policy=None
            if window is None
            else dg.FreshnessPolicy.time_window(fail_window=window.fail, warn_window=window.warn),
        )

    return [
        _pooled(asset.map_asset_specs(complete), settings)
        if isinstance(asset, dg.AssetsDefinition) and asset.is_materializable
        else asset
        for asset in assets
    ]


def _pooled(asset: dg.AssetsDefinition, settings: Settings) -> dg.AssetsDefinition:
    return in_pool(asset, pool_of(settings, [key.to_user_string() for key in asset.keys]))


def in_pool(asset: dg.AssetsDefinition, pool: str | None) -> dg.AssetsDefinition:
    """The asset with its step in a pool; as it is where there is none."""
    return asset if pool is None else with_op(asset, pool=pool)


def build_sensors() -> list[GroupSensor]:
    """One sensor a group, so that a person can hold back the expensive ones.

    Evaluated in the code server, which knows this module's own conditions. Several partitions of one tick become one
    backfill, which can be cancelled as a whole.
    """
    failing = (1 + OP_RETRIES) * (1 + AUTOMATION_RETRIES)
    dying = failing * (1 + RUN_RETRIES)
    with warnings.catch_warnings():
        # Used knowingly: the code server is the only place that can evaluate conditions of one's own.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            GroupSensor(
                name=f"{group}_automation",
                target=dg.AssetSelection.groups(group),
                use_user_code_server=True,
                emit_backfills=True,
                default_status=dg.DefaultSensorStatus.STOPPED,
                minimum_interval_seconds=INTERVAL_S,
                run_tags={REQUESTED_BY_TAG: AUTOMATION},
                description=(
                    f"Makes existing partitions of the group {group} again {OCCASIONS[group]}. What is cancelled is "
                    "left alone until another input of it changes. With the retries of runs, a step that always "
                    f"fails is executed {failing} times for one cause, one that always kills its process {dying} times."
                ),
            )
            for group in GROUPS
        ]
