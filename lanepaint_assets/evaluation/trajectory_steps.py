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
from lanepaint_assets.engines import engine_named
from lanepaint_assets.evaluation.video_steps import VIS_DATA_SUFFIX, shown_clip
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, StepError, run_items
from lanepaint_assets.store.seeds import seeds
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.bridge import CameraView, Moment
    from lanepaint_assets.evaluation.driver import DriverInput
    from lanepaint_assets.evaluation.off_lane import EgoLane

# Raise when the moment, the arms or the metrics change.
ORIGINAL_TRAJECTORIES_VERSION = "4"
EDITED_TRAJECTORIES_VERSION = "3"

ORIGINAL_ARMS_FILE = "original_arms.json"

# What the lane is measured in. Ground already passed gives whole dash periods (two seconds at 9 m/s are 18 m); at
# 30 m/s four frames a second look at each piece of the road five times.
LANE_BEFORE_US = 2_000_000
LANE_FRAME_EVERY_US = 250_000


class DrivingMoments:
    """The driver's moment of each clip of a chunk, remembered for the clip's other prompts."""

    def __init__(self, platform: Platform, reader: ChunkReader) -> None:
        self._platform = platform
        self._reader = reader

    def of(self, clip_key: str) -> tuple[Moment, DriverInput]:
        """When the driver is asked, and what it is given in the original arm.

        Raises:
            ItemError: the clip has no such moment, or the driver does not see its camera.
            StepError: the driver does not allow being shown the edited camera alone, as the settings ask for.
        """
        row = self._reader.clips.rows[clip_key]
        return self._platform.memory.get(("moment", clip_key, row.fingerprint), lambda: self._load(clip_key))

    def _load(self, clip_key: str) -> tuple[Moment, DriverInput]:
        from lanepaint_assets.evaluation.bridge import (
            BridgeError,
            CameraModeError,
            CameraView,
            cameras_shown,
            driver_moment,
            driver_timestamps_us,
            find_t0,
        )

        facts = self._reader.facts(clip_key)
        clip = self._reader.frames(clip_key)
        geometry = self._reader.geometry(clip_key)
        try:
            shown = cameras_shown(self._platform.driver, facts.ref.camera, self._platform.settings.edited_camera_only)
            moment = find_t0(clip.timestamps_us, geometry.ego.span_us)
            wanted_us = driver_timestamps_us(clip.timestamps_us, moment)
            views = {facts.ref.camera: CameraView(clip.frames, clip.timestamps_us, geometry.camera)}
            for name in shown:
                if name != facts.ref.camera:
                    view = self._other_camera(facts.ref.clip_id, name, wanted_us)
                    if view is not None:
                        views[name] = view
            return moment, driver_moment(moment, facts.ref.camera, clip.timestamps_us, views, geometry.ego, shown)
        except CameraModeError as error:
            raise StepError(str(error)) from error
        except BridgeError as error:
            raise ItemError(str(error)) from error

    def _other_camera(
        self, clip_id: str, camera: str, wanted_us: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> CameraView | None:
        """What a camera that is not edited saw at the driver's times; None where it was not recorded.

        Without calibration its geometry is what its name says; a model that looks at pictures alone needs no better.
        """
        from lanepaint_assets.clips.decoding import read_frames_at
        from lanepaint_assets.clips.grids import latest_at_or_before
        from lanepaint_assets.evaluation.bridge import CameraView
        from lanepaint_assets.rendering.cameras import camera_by_name

        source = self._reader.source
        ref = next((ref for ref in source.sibling_cameras(clip_id) if ref.camera == camera), None)
        if ref is None:
            return None
        with source.open_video(ref) as path:
            taken_us = source.frame_timestamps_us(ref)
            frames = read_frames_at(path, taken_us, wanted_us)
        # When each was taken, so that a gap in this camera's recording is noticed.
        shown_us = wanted_us if taken_us is None else taken_us[latest_at_or_before(taken_us, wanted_us)]
        height, width = frames.shape[1:3]
        calibrated = source.camera(ref)
        geometry = camera_by_name(camera, width, height) if calibrated is None else calibrated.resized(width, height)
        return None if geometry is None else CameraView(frames, shown_us, geometry)


def original_tasks(platform: Platform, reader: ChunkReader) -> list[ItemTask]:
    """The original arms that the settings call for, one task a clip."""
    entry = platform.entry("driver")
    checkpoints = platform.checkpoint_digests("driver")
    settings = platform.settings
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
                    checkpoints=checkpoints,
                    params={
                        "algorithm": ORIGINAL_TRAJECTORIES_VERSION,
                        "engine_settings": platform.deciding_settings("driver"),
                        "samples": settings.samples,
                        "study_seed": settings.study_seed,
                        "edited_camera_only": settings.edited_camera_only,
                        "positive_control": settings.positive_control,
                        "lane": engine_named("inspector", "measured").label,
                        "other_cameras": _other_cameras(reader, key) if entry.family == "models" else {},
                    },
                ),
                blocked=need.blocked,
                engine=entry.label,
            )
        )
    return tasks


def make_original_trajectories(platform: Platform, chunk: str, run_id: str) -> PartitionOutcome:
    """The original and the null arms of every clip, and what else no prompt changes: its lane, its positive control."""
    reader = ChunkReader(platform, chunk, "original_trajectories")
    settings = platform.settings
    moments = DrivingMoments(platform, reader)

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.bridge import ground_truth
        from lanepaint_assets.evaluation.driver import DriverError
        from lanepaint_assets.evaluation.metrics import accuracy, ade_between, farthest_m
        from lanepaint_assets.evaluation.results import OriginalArms, no_truth_reason

        started = perf_counter()
        moment, driver_input = moments.of(task.key)
        no_truth = no_truth_reason(moment, driver_input.ego_quality)
        truth = ground_truth(reader.geometry(task.key).ego, moment) if no_truth is None else None
        loaded = perf_counter()
        lane = _ego_lane(reader, task.key, moment)
        drawn = seeds(settings.study_seed, "driver", task.key, 2 * settings.samples)
        measured_lane = perf_counter()
        try:
            arms = OriginalArms.run(
                platform.driver,
                driver_input,
                drawn[: settings.samples],
                drawn[settings.samples :],
                truth,
                blanked_camera=reader.facts(task.key).ref.camera if settings.positive_control else None,
                lane=lane,
                edited_camera_only=settings.edited_camera_only,
            )
        except DriverError as error:
            raise ItemError(str(error)) from error
        (folder / ORIGINAL_ARMS_FILE).write_text(arms.to_json())
        measured = accuracy(arms.original.trajectories_m, truth, no_truth)
        facts: dict[str, JsonValue] = {
            "t0_s": round(moment.t0_us / 1e6, 3),
            "min_ade_m": _rounded(measured.min_ade_m),
            "farthest_m": round(farthest_m(*(arm.trajectories_m for arm in arms.arms)), 1),
            "null_same_seeds_ade_m": round(arms.null_same_seeds_ade_m, 6),
            "null_other_seeds_ade_m": round(arms.null_other_seeds_ade_m, 4),
            "null_other_seeds_lateral_3s_m": round(arms.null_other_seeds_lateral_3s_m, 4),
            "positive_control_ade_m": (
                None
                if arms.positive_control is None
                else round(ade_between(arms.original.trajectories_m, arms.positive_control.trajectories_m), 4)
            ),
            "lane_seen_to_m": None if arms.lane is None else round(arms.lane.seen_to_m, 1),
            "lane_reason": arms.lane_reason,
            "ego_quality": driver_input.ego_quality,
            "note": arms.original.note or no_truth,
        }
        return ItemOutput(
            facts=facts,
            timings_s={
                "load": loaded - started,
                "lane": measured_lane - loaded,
                "drive": perf_counter() - measured_lane,
            },
        )

    try:
        return run_items(
            platform.store,
            "original_trajectories",
            chunk,
            original_tasks(platform, reader),
            compute,
            run_id=run_id,
            workers=settings.workers,
            progress=platform.progress_for("original_trajectories"),
        )
    finally:
        platform.release_driver()


def _other_cameras(reader: ChunkReader, clip_key: str) -> dict[str, JsonValue]:
    """Etags of the videos beside a clip's own, which a model sees too: one may be added or changed later."""
    ref = next(ref for ref in reader.membership.clips if ref.item_key == clip_key)
    return {
        other.camera: other.etag for other in reader.source.sibling_cameras(ref.clip_id) if other.camera != ref.camera
    }


def _driver_setup(platform: Platform, moment: DriverInput) -> str:
    """What decides a driver's answers beside its name and version, for people."""
    prefix = f"{platform.entry('driver').name}_"
    parts = [f"{name.removeprefix(prefix)}={value}" for name, value in platform.deciding_settings("driver").items()]
    return ", ".join([*parts, *([f"{len(moment.frames)} cameras"] if len(moment.frames) > 1 else [])])


def _ego_lane(reader: ChunkReader, clip_key: str, moment: Moment) -> EgoLane | str:
    """The vehicle's lane in the original frames around t0 and up to the plan's end; or why there is none.

    Always measured by the CPU method, whatever inspector judges edits: others name no places on the ground. The frames
    are decoded for this alone, because the grid may end at t0 where the drive does not.
    """
    from lanepaint_assets.clips.decoding import read_frames_at
    from lanepaint_assets.clips.grids import latest_at_or_before
    from lanepaint_assets.clips.video_file import InvalidClipError
    from lanepaint_assets.evaluation.bridge import FUTURE_SPAN_US
    from lanepaint_assets.evaluation.off_lane import NoLaneError, measure_ego_lane
    from lanepaint_assets.lanes.inspector import RoadView
    from lanepaint_assets.lanes.measured import MeasuredLaneInspector

    facts, geometry = reader.facts(clip_key), reader.geometry(clip_key)
    taken_us = reader.source.frame_timestamps_us(facts.ref)
    if taken_us is None or geometry.camera.quality != "calibrated":
        return f"the camera's geometry is {geometry.camera.quality}, not calibrated: lane boundaries have no sure place"
    wanted_us = np.arange(moment.t0_us - LANE_BEFORE_US, moment.t0_us + FUTURE_SPAN_US + 1, LANE_FRAME_EVERY_US)
    first_us, last_us = geometry.ego.span_us
    # A frame is shown until the next one would come, so that a grid time may lie behind the last one; never t0's own.
    within = (wanted_us <= taken_us[-1]) | (wanted_us == moment.t0_us)
    known = taken_us[taken_us >= first_us]
    wanted_us = wanted_us[within & (wanted_us <= last_us) & (wanted_us >= (known[0] if known.size else np.inf))]
    if moment.t0_us not in wanted_us:
        return "no frame around t0 was taken while the ego motion was recorded"
    try:
        with reader.source.open_video(facts.ref) as path:
            frames = read_frames_at(path, taken_us, wanted_us)
    except InvalidClipError as error:
        return f"the frames behind t0 cannot be read: {error}"
    shown_us = taken_us[latest_at_or_before(taken_us, wanted_us)]
    at_t0 = int(np.searchsorted(wanted_us, moment.t0_us))
    try:
        return measure_ego_lane(
            MeasuredLaneInspector(), RoadView(frames, shown_us, at_t0, geometry.camera, geometry.ego), moment.t0_us
        )
    except NoLaneError as error:
        return str(error)


def make_edited_trajectories(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """The edited arm of every clip x prompt, compared with the clip's original arms."""
    reader = ChunkReader(platform, chunk, "edited_trajectories")
    edited, originals = reader.manifest("edited_videos"), reader.manifest("original_trajectories")
    entry = platform.entry("driver")
    checkpoints = platform.checkpoint_digests("driver")
    settings = platform.settings
    moments = DrivingMoments(platform, reader)
    comparable = {task.key: task.fingerprint for task in original_tasks(platform, reader)}
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
                    checkpoints=checkpoints,
                    params={
                        "algorithm": EDITED_TRAJECTORIES_VERSION,
                        "engine_settings": platform.deciding_settings("driver"),
                    },
                ),
                selected=edit.selected,
                blocked=need.blocked,
                engine=entry.label,
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.evaluation.bridge import BridgeError, replace_camera
        from lanepaint_assets.evaluation.driver import DriverError, ask
        from lanepaint_assets.evaluation.metrics import farthest_m
        from lanepaint_assets.evaluation.results import DriverStamp, InferenceResult, OriginalArms
        from lanepaint_assets.evaluation.vis_data import VisData

        started = perf_counter()
        edit = edits[task.key]
        if originals.rows[edit.clip_key].fingerprint != comparable[edit.clip_key]:
            # Another driver, other seeds or other cameras: the difference would not be the edit's.
            raise ItemError(
                f"the original arm of {edit.clip_key} was made with another driver, other settings or an earlier clip "
                "than the edited arm would be; materialize original_trajectories of the chunk first"
            )
        facts = reader.facts(edit.clip_key)
        moment, original_input = moments.of(edit.clip_key)
        # The others are decoded when the driver has answered: 600 MB at 1080p are not held while it thinks.
        frames, times_us = reader.edited_frames(task.key, original_input.frame_timestamps_us)
        loaded = perf_counter()
        try:
            edited_input = replace_camera(original_input, facts.ref.camera, frames, times_us)
            output = ask(
                platform.driver, edited_input, seeds(settings.study_seed, "driver", edit.clip_key, settings.samples)
            )
        except (BridgeError, DriverError) as error:
            raise ItemError(str(error)) from error
        driven = perf_counter()
        arms = OriginalArms.from_json(platform.store.read_bytes(originals.rows[edit.clip_key], ORIGINAL_ARMS_FILE))
        result = InferenceResult.of_arms(
            clip_id=facts.ref.clip_id,
            camera_name=facts.ref.camera,
            prompt_key=edit.prompt.key,
            prompt_text=edit.prompt.instruction,
            run_name=run_id,
            driver=DriverStamp(
                name=entry.name,
                version=entry.version,
                is_foundation_model=entry.family == "models",
                setup=_driver_setup(platform, edited_input),
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
        shown = shown_clip(reader, task.key, edit, result.driver)
        vis = VisData.of(result, original_input, edited_input, shown)
        (folder / f"{stem}{VIS_DATA_SUFFIX}").write_bytes(vis.to_npz())
        return ItemOutput(
            facts={
                "prompt": edit.prompt.key,
                "original_min_ade_m": _rounded(result.original_min_ade),
                "min_ade_m": _rounded(result.min_ade_meters),
                "farthest_m": round(farthest_m(result.edited.trajectories_m), 1),
                "ade_between_arms_m": round(result.divergence.ade_m, 4),
                "lateral_shift_3s_m": round(result.divergence.lateral_at(3.0), 4),
                "noise_floor_ade_m": round(result.noise_floor_ade_m, 4),
                "reasoning_changed_share": round(result.reasoning.changed_share, 4),
                "off_lane_change": (
                    None
                    if result.off_lane is None
                    else round(result.off_lane.edited_share - result.off_lane.original_share, 4)
                ),
                "verdict": edited.rows[task.key].facts.get("verdict"),
                "note": output.note or result.ground_truth_reason,
            },
            timings_s={"load": loaded - started, "drive": driven - loaded, "write": perf_counter() - driven},
        )

    try:
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
    finally:
        platform.release_driver()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
