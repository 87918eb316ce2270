"""What `trajectory_videos`, `trajectory_reports` and `prompt_leaderboard` do, without Dagster: show and sum up.

CPU work only: no driver is asked here, so no GPU waits for an encoder.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.engines import is_foundation_model
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow, Manifest
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.results import InferenceResult
    from lanepaint_assets.rendering.report import ItemSection
    from lanepaint_assets.rendering.scene import EngineLabel, TrajectoryScene

# Raise when the drawing, the page or the table changes.
TRAJECTORY_VIDEOS_VERSION = "1"
TRAJECTORY_REPORTS_VERSION = "1"
PROMPT_LEADERBOARD_VERSION = "1"

REPORT_FILE = "report.html"
TEXT_FILE = "report.txt"
METRICS_FILE = "metrics.parquet"
LEADERBOARD_FILE = "leaderboard.parquet"

# The leaderboard spans all chunks; its manifest stands under this name where others have a chunk key.
ALL_CHUNKS = "all"


def make_trajectory_videos(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Overlay and comparison video of every clip x prompt."""
    reader = ChunkReader(platform, chunk, "trajectory_videos")
    trajectories, edited = reader.manifest("edited_trajectories"), reader.manifest("edited_videos")
    edits = reader.edits(selection)
    tasks = []
    for key, edit in edits.items():
        need = needs({"edited_trajectories": (trajectories, key), "edited_videos": (edited, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="trajectory_videos",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=None,
                    params={"algorithm": TRAJECTORY_VIDEOS_VERSION},
                ),
                selected=edit.selected,
                blocked=need.blocked,
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.rendering.comparison import render_comparison
        from lanepaint_assets.rendering.overlay import render_overlay

        started = perf_counter()
        edit = edits[task.key]
        stem = Path(reader.edited_name(edit.clip_key)).stem
        result = _inference(platform, reader, trajectories.rows[task.key], edit)
        scene = _scene(reader, edit, task.key, result, edit_engines(edited.rows[task.key], result, edit))
        loaded = perf_counter()
        render_overlay(scene, folder / f"{stem}_overlay.mp4")
        overlaid = perf_counter()
        render_comparison(scene, folder / f"{stem}_comparison.mp4", folder / f"{stem}_comparison_preview.mp4")
        return ItemOutput(
            facts={"prompt": edit.prompt.key},
            timings_s={
                "load": loaded - started,
                "overlay": overlaid - loaded,
                "comparison": perf_counter() - overlaid,
            },
        )

    return run_items(
        platform.store,
        "trajectory_videos",
        chunk,
        reader.spread(tasks),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("trajectory_videos"),
    )


def _inference(platform: Platform, reader: ChunkReader, row: ItemRow, edit: Edit) -> InferenceResult:
    from lanepaint_assets.evaluation.results import InferenceResult

    stem = Path(reader.edited_name(edit.clip_key)).stem
    return InferenceResult.from_json(platform.store.read_bytes(row, f"{stem}_inference.json"))


def _scene(
    reader: ChunkReader, edit: Edit, item_key: str, result: InferenceResult, engines: tuple[EngineLabel, ...]
) -> TrajectoryScene:
    from lanepaint_assets.rendering.scene import TrajectoryScene

    clip, geometry = reader.frames(edit.clip_key), reader.geometry(edit.clip_key)
    edited_frames, _ = reader.edited_frames(item_key)
    return TrajectoryScene(
        original_frames=clip.frames,
        edited_frames=edited_frames,
        timestamps_us=clip.timestamps_us,
        rate_hz=clip.grid.rate_hz,
        t0_us=result.temporal.t0_us,
        camera=geometry.camera,
        ego=geometry.ego,
        gt_future_m=result.ground_truth_m,
        history_m=result.history_m,
        original_trajectories_m=result.original.trajectories_m,
        edited_trajectories_m=result.edited.trajectories_m,
        clip_id=result.clip_id,
        camera_name=result.camera_name,
        prompt_key=result.prompt_key,
        prompt_text=result.prompt_text,
        engines=engines,
        original_min_ade_m=result.original_min_ade,
        edited_min_ade_m=result.min_ade_meters,
        min_ade_reason=result.ground_truth_reason,
    )


def edit_engines(edited: ItemRow, result: InferenceResult, edit: Edit) -> tuple[EngineLabel, ...]:
    """The engines that had a part in one item: its driver, and its painter unless nothing was painted."""
    from lanepaint_assets.rendering.scene import EngineLabel

    driver = EngineLabel("driver", result.driver.name, result.driver.version, result.driver.is_foundation_model)
    if edit.prompt.kind == "roundtrip" or edited.engine is None:
        return (driver,)
    name, _, version = edited.engine.rpartition(" ")
    return (EngineLabel("painter", name, version, is_foundation_model(edited.engine)), driver)


def make_trajectory_reports(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """One HTML page, one text and one table over all items of the chunk, failed ones included."""
    reader = ChunkReader(platform, chunk, "trajectory_reports")
    trajectories, videos = reader.manifest("edited_trajectories"), reader.manifest("trajectory_videos")
    edits = reader.edits(())
    upstream = {
        f"{asset}/{key}": f"{manifest.rows[key].fingerprint}:{manifest.rows[key].status}"
        for asset, manifest in (("edited_trajectories", trajectories), ("trajectory_videos", videos))
        for key in edits
        if key in manifest.rows
    }
    refused = {f"raw_clips/{key}": row.reason or "" for key, row in reader.clips.rows.items() if row.status == "failed"}
    task = ItemTask(
        key=CHUNK_ROW,
        fingerprint=fingerprint(
            asset="trajectory_reports",
            item_key=CHUNK_ROW,
            upstream={**upstream, **refused},
            engine=None,
            params={"algorithm": TRAJECTORY_REPORTS_VERSION},
        ),
    )

    def compute(_: ItemTask, folder: Path) -> ItemOutput:
        return _write_report(platform, reader, edits, trajectories, videos, run_id, folder)

    return run_items(platform.store, "trajectory_reports", chunk, [task], compute, run_id=run_id)


def _write_report(
    platform: Platform,
    reader: ChunkReader,
    edits: dict[str, Edit],
    trajectories: Manifest,
    videos: Manifest,
    run_id: str,
    folder: Path,
) -> ItemOutput:
    from lanepaint_assets.rendering.report import ChunkReport, RefusedClip, render_html
    from lanepaint_assets.rendering.report_text import render_text

    refused = {key: row for key, row in reader.clips.rows.items() if row.status == "failed"}
    edited = reader.manifest("edited_videos")
    sections: list[ItemSection] = []
    engines: dict[str, EngineLabel] = {}
    rows: list[dict[str, object]] = []
    for key, edit in edits.items():
        if edit.clip_key in refused:
            continue
        section, result = _section(platform, reader, key, edit, trajectories, videos)
        sections.append(section)
        if result is not None:
            for label in edit_engines(edited.rows[key], result, edit):
                engines[label.text] = label
            rows.append(_metrics_row(result))
    rate_hz = next((reader.facts(e.clip_key).grid_rate_hz for e in edits.values() if e.clip_key not in refused), 8.0)
    clips = {ref.item_key: ref for ref in reader.membership.clips}
    report = ChunkReport(
        chunk=reader.chunk,
        clip_grid=platform.settings.clip_grid,
        frame_rate_hz=rate_hz,
        engines=tuple(engines[name] for name in sorted(engines)),
        items=tuple(sections),
        refused_clips=tuple(
            RefusedClip(clips[key].clip_id, clips[key].camera, row.reason or "failed")
            for key, row in refused.items()
            if key in clips
        ),
        run_name=run_id,
    )
    (folder / REPORT_FILE).write_text(render_html(report), encoding="utf-8")
    (folder / TEXT_FILE).write_text(render_text(report), encoding="utf-8")
    pd.DataFrame(rows).to_parquet(folder / METRICS_FILE, index=False)
    return ItemOutput(
        facts={
            "items": len(sections),
            "ok": sum(section.status == "ok" for section in sections),
            "refused_clips": len(refused),
        }
    )


def _section(
    platform: Platform,
    reader: ChunkReader,
    key: str,
    edit: Edit,
    trajectories: Manifest,
    videos: Manifest,
) -> tuple[ItemSection, InferenceResult | None]:
    from lanepaint_assets.rendering.report import ItemSection, ItemTrajectories, VerdictSummary

    row, video = trajectories.rows.get(key), videos.rows.get(key)
    ref = reader.facts(edit.clip_key).ref
    head = ItemSection(
        clip_id=ref.clip_id,
        camera=ref.camera,
        prompt_key=edit.prompt.key,
        prompt_text=edit.prompt.instruction,
        status="failed",
        is_control=edit.prompt.is_control,
    )
    if row is None or row.folder is None or row.status == "failed":
        reason = "not made yet" if row is None else row.reason or row.status
        return replace(head, reason=reason), None
    result = _inference(platform, reader, row, edit)
    stem = Path(reader.edited_name(edit.clip_key)).stem
    verdict, reasons = _verdict(platform, reader, key)
    shown = video is not None and video.status == "ok"
    section = replace(
        head,
        status="ok" if row.status == "ok" else "outdated",
        reason=result.edited.note or result.ground_truth_reason or _video_failure(video),
        original_min_ade_m=result.original_min_ade,
        edited_min_ade_m=result.min_ade_meters,
        arms_ade_m=result.divergence.ade_m,
        lateral_shift_3s_m=result.divergence.lateral_at(3.0),
        verdict=None if verdict is None else VerdictSummary(verdict == "PASS", reasons),
        original_reasoning=result.original.reasoning,
        edited_reasoning=result.edited.reasoning,
        trajectories=ItemTrajectories(
            result.original.trajectories_m, result.edited.trajectories_m, result.ground_truth_m, result.history_m
        ),
        preview_mp4=(
            platform.store.read_bytes(video, f"{stem}_comparison_preview.mp4") if shown and video is not None else None
        ),
        comparison_file=f"{video.folder}/{stem}_comparison.mp4" if shown and video is not None else None,
        overlay_file=f"{video.folder}/{stem}_overlay.mp4" if shown and video is not None else None,
        t0_frame=int(np.searchsorted(reader.facts(edit.clip_key).grid.timestamps_us, result.temporal.t0_us)),
        camera_quality=result.projection_quality,
        ego_quality=result.ego_quality,
    )
    return section, result


def _video_failure(video: ItemRow | None) -> str | None:
    """Why an item with trajectories has no video."""
    if video is None:
        return "its videos are not made yet"
    return f"its videos failed: {video.reason}" if video.status == "failed" else None


def _verdict(platform: Platform, reader: ChunkReader, key: str) -> tuple[str | None, str]:
    """What the inspector said of the item's first frame."""
    row = platform.store.manifest("first_frames", reader.chunk).rows.get(key)
    verdict = row.facts.get("verdict") if row is not None else None
    reasons = row.facts.get("reasons") if row is not None else None
    return verdict if isinstance(verdict, str) else None, reasons if isinstance(reasons, str) else ""


def _metrics_row(result: InferenceResult) -> dict[str, object]:
    return {
        "clip_id": result.clip_id,
        "camera": result.camera_name,
        "prompt": result.prompt_key,
        "driver": f"{result.driver.name} {result.driver.version}",
        "samples": result.samples,
        "clip_grid": result.temporal.clip_grid,
        "original_min_ade_m": result.original_min_ade,
        "min_ade_m": result.min_ade_meters,
        "ade_between_arms_m": result.divergence.ade_m,
        **{f"lateral_shift_{shift.time_s:g}s_m": shift.shift_m for shift in result.divergence.lateral},
        "final_speed_change_mps": result.divergence.final_speed_change_mps,
        "noise_floor_ade_m": result.noise_floor_ade_m,
        "ego_quality": result.ego_quality,
        "projection_quality": result.projection_quality,
    }


def make_prompt_leaderboard(platform: Platform, run_id: str) -> PartitionOutcome:
    """Paired statistics of every prompt over all chunks that have a report."""
    store = platform.store
    reports = {
        chunk: row
        for chunk in store.chunk_keys()
        if (row := store.manifest("trajectory_reports", chunk).rows.get(CHUNK_ROW)) is not None and row.status == "ok"
    }
    task = ItemTask(
        key=CHUNK_ROW,
        fingerprint=fingerprint(
            asset="prompt_leaderboard",
            item_key=CHUNK_ROW,
            upstream={chunk: row.fingerprint for chunk, row in reports.items()},
            engine=None,
            params={"algorithm": PROMPT_LEADERBOARD_VERSION},
        ),
    )

    def compute(_: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.statistics import PromptOutcome, summarize

        outcomes = []
        for row in reports.values():
            table = pd.read_parquet(io.BytesIO(store.read_bytes(row, METRICS_FILE)))
            for record in table.to_dict(orient="records"):
                before, after = record["original_min_ade_m"], record["min_ade_m"]
                outcomes.append(
                    PromptOutcome(
                        clip_id=record["clip_id"],
                        camera_name=record["camera"],
                        prompt_key=record["prompt"],
                        min_ade_m=None if pd.isna(before) or pd.isna(after) else float(after) - float(before),
                        lateral_shift_3s_m=float(record["lateral_shift_3s_m"]),
                        ade_between_arms_m=float(record["ade_between_arms_m"]),
                    )
                )
        summaries = [asdict(summary) for summary in summarize(outcomes)]
        pd.DataFrame(summaries).to_parquet(folder / LEADERBOARD_FILE, index=False)
        (folder / "leaderboard.json").write_text(json.dumps(summaries, indent=1))
        return ItemOutput(facts={"chunks": len(reports), "items": len(outcomes)})

    return run_items(store, "prompt_leaderboard", ALL_CHUNKS, [task], compute, run_id=run_id)
