"""What it costs to materialize a partition again of which nothing has changed: a hundred items, every asset.

Part of `benchmarks.automation`, which prints the figures. A run of an empty asset in the same process and on the same
instance is Dagster's own start, and is taken off.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import dagster as dg

from benchmarks.harness import Outcome
from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.definitions import build
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.partitions import CLIP_CHUNK, register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings

# Two prompts and the two control prompts for each clip: a hundred edits.
CLIPS = 25
PROMPTS = ("single_white_dashed", "double_yellow_solid")
ITEMS = 100
TARGET_S = 3.0
# The engines' own work is not the matter: the smallest pictures and the fewest frames that a driver can do with.
SIZE = (192, 108)
FEW_FRAMES = 18
CLIP_S = 9.0


def measure_unchanged(place: Path, instance: dg.DagsterInstance, rounds: int, outcome: Outcome) -> None:
    """Make a chunk once, which is not timed, then each of its assets again.

    Args:
        place: an empty folder for source and root.
        instance: where runs are recorded.
        rounds: medians are taken over this many.
        outcome: gets a figure an asset, and the slowest with its target.

    Raises:
        RuntimeError: a run computed something, or the chunk has another number of edits.
    """
    source = place / "drive"
    write_sample_drive(
        source,
        seed=3,
        chunks=1,
        clips_per_chunk=CLIPS,
        seconds=CLIP_S,
        width=SIZE[0],
        height=SIZE[1],
        fps=10,
        other_cameras=False,
    )
    settings = Settings(
        root=str(place / "root"),
        source=str(source),
        prompts=PROMPTS,
        frame_limit=FEW_FRAMES,
        # Pictures this small hide what a road is told by; a refused clip would be tried again in every run.
        min_road_confidence=0.0,
    )
    (chunk,) = register_chunks(Platform(settings), instance)
    assets = [name for names in STAGE_ASSETS.values() for name in names]
    print(f"making {len(assets)} assets of {CLIPS} clips once, some minutes", flush=True)
    _run(settings, instance, chunk, assets)
    idle = median(_seconds(_empty_definitions(), instance, chunk, ["nothing"]) for _ in range(rounds + 1))
    outcome.add("Dagster's own start of a run", idle, "s", "lower")
    slowest = 0.0
    for asset in assets:
        seconds = median(_run(settings, instance, chunk, [asset], unchanged=True) for _ in range(rounds)) - idle
        outcome.add(f"{asset}, {CLIPS} clips, unchanged", max(0.0, seconds), "s", "lower", target=TARGET_S)
        slowest = max(slowest, seconds)
    outcome.add(f"slowest asset of {ITEMS} unchanged items", slowest, "s", "lower", target=TARGET_S)


def _run(
    settings: Settings, instance: dg.DagsterInstance, chunk: str, assets: list[str], *, unchanged: bool = False
) -> float:
    """Seconds of a run with a platform of its own: nothing is remembered but what the store holds."""
    definitions = build(settings, platform=Platform(settings))
    seconds = _seconds(definitions, instance, chunk, assets)
    for asset in assets:
        made = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert made is not None
        assert made.asset_materialization is not None
        metadata = made.asset_materialization.metadata
        if unchanged and metadata["computed"].value:
            raise RuntimeError(f"{asset} computed {metadata['computed'].value} items though nothing had changed")
        if metadata["failed"].value:
            raise RuntimeError(f"{metadata['failed'].value} items of {asset} failed; they are tried again in each run")
        if asset == "edited_videos" and metadata["items"].value != ITEMS:
            raise RuntimeError(f"edited_videos has {metadata['items'].value} items, not {ITEMS}")
    return seconds


def _seconds(definitions: dg.Definitions, instance: dg.DagsterInstance, chunk: str, assets: list[str]) -> float:
    job = definitions.resolve_implicit_global_asset_job_def()
    started = time.perf_counter()
    job.execute_in_process(
        partition_key=chunk,
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return time.perf_counter() - started


def _empty_definitions() -> dg.Definitions:
    @dg.asset(partitions_def=CLIP_CHUNK)
    def nothing() -> None: ...

    return dg.Definitions(assets=[nothing])
