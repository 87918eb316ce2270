"""What `original_trajectories` and `edited_trajectories` do, without Dagster: ask the driver, once an arm.

The original arm and the null arms are computed once a clip and shared by all prompts; each edited arm differs from
them in one camera's four frames and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.engines import is_foundation_model
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.seeds import seeds
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.bridge import CameraView, Moment
    from lanepaint_assets.evaluation.driver import DriverInput

# Raise when the moment, the arms or the metrics change.
ORIGINAL_TRAJECTORIES_VERSION = "2"
EDITED_TRAJECTORIES_VERSION = "1"

ORIGINAL_ARMS_FILE = "original_arms.json"


class DrivingMoments:
    """The driver's moment of each clip of a chunk, remembered for the clip's other prompts."""

    def __init__(self, platform: Platform, reader: ChunkReader) -> None:
        self._platform = platform
        self._reader = reader

    def of(self, clip_key: str) -> tuple[Moment, DriverInput]:
        """When the driver is asked, and what it is given in the original arm.

        Raises:
            ItemError: the clip has no such moment, or the driver does not see its camera.
        """
        row = self._reader.clips.rows[clip_key]
        return self._platform.memory.get(("moment", clip_key, row.fingerprint), lambda: self._load(clip_key))

    def _load(self, clip_key: str) -> tuple[Moment, DriverInput]:
        from lanepaint_assets.evaluation.bridge import (
            BridgeError,
            CameraView,
            driver_moment,
            driver_timestamps_us,
            find_t0,
        )

        facts = self._reader.facts(clip_key)
        clip = self._reader.frames(clip_key)
        geometry = self._reader.geometry(clip_key)
        driver = self._platform.driver
        try:
            moment = find_t0(clip.timestamps_us, geometry.ego.span_us)
            wanted_us = driver_timestamps_us(clip.timestamps_us, moment)
            views = {facts.ref.camera: CameraView(clip.frames, clip.timestamps_us, geometry.camera)}
            for name in driver.cameras:
                if name != facts.ref.camera:
                    view = self._other_camera(facts.ref.clip_id, name, wanted_us)
                    if view is not None:
                        views[name] = view
            return moment, driver_moment(
                moment, facts.ref.camera, clip.timestamps_us, views, geometry.ego, driver.cameras
            )
        except BridgeError as error:
            raise ItemError(str(error)) from error

    def _other_camera(
        self, clip_id: str, camera: str, wanted_us: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> CameraView | None:
        """What a camera that is not edited saw at the driver's times; None where it was not recorded or calibrated."""
        from lanepaint_assets.clips.decoding import read_frames_at
        from lanepaint_assets.evaluation.bridge import CameraView

        source = self._reader.source
        ref = next((ref for ref in source.sibling_cameras(clip_id) if ref.camera == camera), None)
        geometry = None if ref is None else source.camera(ref)
        if ref is None or geometry is None:
            return None
        with source.open_video(ref) as path:
            frames = read_frames_at(path, source.frame_timestamps_us(ref), wanted_us)
        return CameraView(frames, wanted_us, geometry.resized(frames.shape[2], frames.shape[1]))


def make_original_trajectories(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """The original and the null arms of every clip."""
    reader = ChunkReader(platform, chunk, "original_trajectories")
    entry = platform.entry("driver")
    settings = platform.settings
    moments = DrivingMoments(platform, reader)
    tasks = []
    for key in reader.clip_keys:
        need = needs({"raw_clips": (reader.clips, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="original_trajectories",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=entry.label,
                    params={
                        "algorithm": ORIGINAL_TRAJECTORIES_VERSION,
                        "samples": settings.samples,
                        "study_seed": settings.study_seed,
                    },
                ),
                blocked=need.blocked,
                engine=entry.label,
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.bridge import ground_truth
        from lanepaint_assets.evaluation.metrics import accuracy
        from lanepaint_assets.evaluation.results import OriginalArms

        started = perf_counter()
        moment, driver_input = moments.of(task.key)
        truth = ground_truth(reader.geometry(task.key).ego, moment) if _is_recorded(reader, task.key) else None
        loaded = perf_counter()
        drawn = seeds(settings.study_seed, "driver", task.key, 2 * settings.samples)
        arms = OriginalArms.run(
            platform.driver, driver_input, drawn[: settings.samples], drawn[settings.samples :], truth
        )
        (folder / ORIGINAL_ARMS_FILE).write_text(arms.to_json())
        measured = accuracy(arms.original.trajectories_m, truth, moment.reason)
        facts: dict[str, JsonValue] = {
            "t0_s": round(moment.t0_us / 1e6, 3),
            "min_ade_m": _rounded(measured.min_ade_m),
            "null_same_seeds_ade_m": round(arms.null_same_seeds_ade_m, 6),
            "null_other_seeds_ade_m": round(arms.null_other_seeds_ade_m, 4),
            "ego_quality": driver_input.ego_quality,
            "note": arms.original.note or moment.reason,
        }
        return ItemOutput(facts=facts, timings_s={"load": loaded - started, "drive": perf_counter() - loaded})

    return run_items(
        platform.store,
        "original_trajectories",
        chunk,
        tasks,
        compute,
        run_id=run_id,
        workers=settings.workers,
        progress=platform.progress_for("original_trajectories"),
    )


def _is_recorded(reader: ChunkReader, clip_key: str) -> bool:
    """Estimated ego motion is no ground truth: it comes from the same pictures that the driver sees."""
    return reader.geometry(clip_key).ego.quality == "recorded"


def make_edited_trajectories(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """The edited arm of every clip x prompt, compared with the clip's original arms."""
    reader = ChunkReader(platform, chunk, "edited_trajectories")
    edited, originals = reader.manifest("edited_videos"), reader.manifest("original_trajectories")
    entry = platform.entry("driver")
    settings = platform.settings
    moments = DrivingMoments(platform, reader)
    edits = reader.edits(selection)
    tasks = []
    for key, edit in edits.items():
        need = needs({"edited_videos": (edited, key), "original_trajectories": (originals, edit.clip_key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="edited_trajectories",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=entry.label,
                    params={"algorithm": EDITED_TRAJECTORIES_VERSION},
                ),
                selected=edit.selected,
                blocked=need.blocked,
                engine=entry.label,
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.bridge import BridgeError, replace_camera
        from lanepaint_assets.evaluation.results import DriverStamp, InferenceResult, OriginalArms, VisData

        started = perf_counter()
        edit = edits[task.key]
        facts = reader.facts(edit.clip_key)
        moment, original_input = moments.of(edit.clip_key)
        frames, times_us = reader.edited_frames(task.key, original_input.frame_timestamps_us)
        try:
            edited_input = replace_camera(original_input, facts.ref.camera, frames, times_us)
        except BridgeError as error:
            raise ItemError(str(error)) from error
        loaded = perf_counter()
        output = platform.driver.predict(
            edited_input, seeds(settings.study_seed, "driver", edit.clip_key, settings.samples)
        )
        arms = OriginalArms.from_json(platform.store.read_bytes(originals.rows[edit.clip_key], ORIGINAL_ARMS_FILE))
        result = InferenceResult.of_arms(
            clip_id=facts.ref.clip_id,
            camera_name=facts.ref.camera,
            prompt_key=edit.prompt.key,
            prompt_text=edit.prompt.instruction,
            run_name=run_id,
            driver=DriverStamp(
                name=entry.name, version=entry.version, is_foundation_model=is_foundation_model(entry.label)
            ),
            study_seed=settings.study_seed,
            moment=moment,
            clip_grid=facts.grid_name,
            edited_input=edited_input,
            original_arms=arms,
            edited=output,
        )
        stem = Path(reader.edited_name(edit.clip_key)).stem
        (folder / f"{stem}_inference.json").write_text(result.to_json())
        vis = VisData.of(result, original_input, edited_input, reader.frames(edit.clip_key).frames)
        (folder / f"{stem}_vis_data.npz").write_bytes(vis.to_npz())
        return ItemOutput(
            facts={
                "prompt": edit.prompt.key,
                "original_min_ade_m": _rounded(result.original_min_ade),
                "min_ade_m": _rounded(result.min_ade_meters),
                "ade_between_arms_m": round(result.divergence.ade_m, 4),
                "lateral_shift_3s_m": round(result.divergence.lateral_at(3.0), 4),
                "noise_floor_ade_m": round(result.noise_floor_ade_m, 4),
                "verdict": edited.rows[task.key].facts.get("verdict"),
                "note": output.note or result.ground_truth_reason,
            },
            timings_s={"load": loaded - started, "drive": perf_counter() - loaded},
        )

    return run_items(
        platform.store,
        "edited_trajectories",
        chunk,
        reader.spread(tasks),
        compute,
        run_id=run_id,
        workers=settings.workers,
        progress=platform.progress_for("edited_trajectories"),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
