"""The files that the evaluation leaves: `*_inference.json`, `*_vis_data.npz` and the arms that all prompts share.

Written and read by the evaluation assets, the report and the leaderboard. File names and folders are the stage's
business, drawing is `rendering`'s, and no number is computed here that `metrics.py` could compute.

`*_vis_data.npz` holds, with K samples, C cameras and T grid frames:

| key | shape, type | what |
|---|---|---|
| `original_trajectories_m`, `edited_trajectories_m` | (K, 64, 3) float64 | samples of each arm, rig frame at t0 |
| `ground_truth_m` | (64, 3) or (0, 3) float64 | driven path; empty where the recording ends before t0 + 6.4 s |
| `history_m` | (16, 3) float64 | driven path up to and including t0 |
| `t0_us`, `frame_timestamps_us` | (), (4,) int64 | the moment and the driver's frames |
| `camera_names`, `camera_indices` | (C,) str, (C,) int64 | the driver's cameras, their PhysicalAI-AV index or -1 |
| `edited_camera` | () str | the camera that was replaced |
| `original_frames_<i>` | (4, h, w, 3) uint8 | what camera i of `camera_names` gave the driver, shrunk to 576 px |
| `edited_frames` | (4, h, w, 3) uint8 | the same of the edited camera in the edited arm |
| `original_camera_frames` | (T, h, w, 3) uint8 | the edited camera's original grid frames, 256 px wide, or none |
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.evaluation.bridge import Moment, grid_note
from lanepaint_assets.evaluation.driver import Driver, DriverInput, DriverOutput
from lanepaint_assets.evaluation.metrics import (
    AccuracyMetrics,
    DivergenceMetrics,
    accuracy,
    ade_between,
    divergence,
)
from lanepaint_assets.rendering.cameras import CameraQuality

Float = NDArray[np.float64]


def _as_float(value: object) -> Float:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim not in (2, 3) or array.shape[-1] != 3 or not np.isfinite(array).all():
        raise ValueError(f"not finite (..., 3) positions, but of shape {array.shape}")
    return array


def _as_list(array: Float) -> list[object]:
    return list(array.tolist())


# Every digit is kept, so that metrics computed again from the file are those in the file.
Positions = Annotated[Float, BeforeValidator(_as_float), PlainSerializer(_as_list)]

# PhysicalAI-AV's camera numbering, which drivers trained on it use.
CAMERA_INDICES = {
    "camera_cross_left_120fov": 0,
    "camera_front_wide_120fov": 1,
    "camera_cross_right_120fov": 2,
    "camera_rear_left_70fov": 3,
    "camera_rear_tele_30fov": 4,
    "camera_rear_right_70fov": 5,
    "camera_front_tele_30fov": 6,
}
# 576 x 320 is the picture that the foundation driver sees of a 1080p frame; more would show what it did not see.
DRIVER_FRAME_WIDTH_PX = 576
# A hundred frames stay under 11 MB before compression, enough to recognize the scene.
CLIP_FRAME_WIDTH_PX = 256
# Said where the caller gave no ground truth although the ego motion is long enough.
ESTIMATED_EGO_REASON = "no ground truth: ego motion was estimated from the pictures that the driver sees, not recorded"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid")


class ArmRecord(_Record):
    """What a driver answered in one arm: (K, 64, 3) positions, a reasoning text each, what limited it."""

    trajectories_m: Positions
    reasoning: tuple[str, ...]
    note: str | None = None

    @classmethod
    def of(cls, output: DriverOutput) -> ArmRecord:
        """The record of a driver's answer."""
        return cls(trajectories_m=output.trajectories_m, reasoning=output.reasoning, note=output.note)


class OriginalArms(_Record):
    """The arms that no prompt changes, computed once a clip and shared by all of its prompts.

    Attributes:
        original: the unedited frames.
        null_same_seeds_ade_m: ADE between `original` and the same frames and seeds again; 0 for a driver that is
            deterministic, and no effect below it means anything.
        null_other_seeds: the same frames with other seeds.
        null_other_seeds_ade_m: ADE between `original` and that: the noise floor of a comparison without common seeds.
        ground_truth_m: (64, 3), None where the recording is too short.
        history_m: (16, 3).
    """

    original: ArmRecord
    null_same_seeds_ade_m: float
    null_other_seeds: ArmRecord
    null_other_seeds_ade_m: float
    ground_truth_m: Positions | None
    history_m: Positions

    @classmethod
    def run(
        cls,
        driver: Driver,
        moment: DriverInput,
        seeds: tuple[int, ...],
        other_seeds: tuple[int, ...],
        ground_truth_m: Float | None,
    ) -> OriginalArms:
        """Ask the driver three times: the original, the same again, and the same with `other_seeds`."""
        original = driver.predict(moment, seeds)
        again = driver.predict(moment, seeds)
        other = driver.predict(moment, other_seeds)
        return cls(
            original=ArmRecord.of(original),
            null_same_seeds_ade_m=ade_between(original.trajectories_m, again.trajectories_m),
            null_other_seeds=ArmRecord.of(other),
            null_other_seeds_ade_m=ade_between(original.trajectories_m, other.trajectories_m),
            ground_truth_m=ground_truth_m,
            history_m=moment.history_xyz_m,
        )

    def to_json(self) -> str:
        """The file's text."""
        return self.model_dump_json() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> OriginalArms:
        """Read the file back; pydantic's ValidationError (a ValueError) where it is none."""
        return cls.model_validate_json(text)


class DriverStamp(_Record):
    """The driver as reports must name it; `is_foundation_model` False for the weight-free ones."""

    name: str
    version: str
    is_foundation_model: bool


class TemporalConfig(_Record):
    """When the driver was asked, and on which frames.

    Attributes:
        clip_grid: the frame grid's name.
        frame_timestamps_us: the four driver frames, the same in both arms.
        t0_us: the last of them.
        history_step_s, history_steps, future_step_s, future_steps: always 10 Hz, whatever the grid.
        extended_history_steps: history poses that lie before the recording and were continued backwards.
        off_distribution_note: set where the frame spacing is not the one that driving models were trained on.
    """

    clip_grid: ClipGridName
    frame_timestamps_us: tuple[int, ...]
    t0_us: int
    history_step_s: float = 0.1
    history_steps: int = 16
    future_step_s: float = 0.1
    future_steps: int = 64
    extended_history_steps: int = 0
    off_distribution_note: str | None = None

    @classmethod
    def of(cls, moment: Moment, frame_timestamps_us: NDArray[np.int64], clip_grid: ClipGridName) -> TemporalConfig:
        """The configuration of a moment on a grid."""
        return cls(
            clip_grid=clip_grid,
            frame_timestamps_us=tuple(int(time) for time in frame_timestamps_us),
            t0_us=moment.t0_us,
            extended_history_steps=moment.extended_history_steps,
            off_distribution_note=grid_note(clip_grid),
        )


class InferenceResult(_Record):
    """`*_inference.json`: one clip and one prompt.

    Attributes:
        clip_id, camera_name, prompt_key, prompt_text: what was edited, and how.
        run_name: the run id that a person gave, None without one.
        driver, samples, study_seed: who answered, K, and where the seeds come from.
        temporal: when.
        original_min_ade, min_ade_meters: spec 10's minADE of the original and of the edited arm, metres; None without
            ground truth.
        ground_truth_reason: why there is none; None where there is one.
        original_accuracy, edited_accuracy, divergence: all metrics.
        noise_floor_ade_m: ADE between the original arm and the same frames with other seeds.
        original, edited: predictions, reasoning traces and notes of both arms.
        ground_truth_m, history_m: (64, 3) or None, (16, 3).
        ego_quality, projection_quality: how the ego motion and the edited camera's geometry are known.
    """

    format_version: Literal[1] = 1
    clip_id: str
    camera_name: str
    prompt_key: str
    prompt_text: str
    run_name: str | None
    driver: DriverStamp
    samples: int
    study_seed: int
    temporal: TemporalConfig
    original_min_ade: float | None
    min_ade_meters: float | None
    ground_truth_reason: str | None
    original_accuracy: AccuracyMetrics
    edited_accuracy: AccuracyMetrics
    divergence: DivergenceMetrics
    noise_floor_ade_m: float
    original: ArmRecord
    edited: ArmRecord
    ground_truth_m: Positions | None
    history_m: Positions
    ego_quality: Literal["recorded", "estimated"]
    projection_quality: CameraQuality

    @classmethod
    def of_arms(
        cls,
        *,
        clip_id: str,
        camera_name: str,
        prompt_key: str,
        prompt_text: str,
        run_name: str | None,
        driver: DriverStamp,
        study_seed: int,
        moment: Moment,
        clip_grid: ClipGridName,
        edited_input: DriverInput,
        original_arms: OriginalArms,
        edited: DriverOutput,
    ) -> InferenceResult:
        """Compare an edited arm with the clip's original arms; all metrics are computed here, once."""
        original = original_arms.original
        truth = original_arms.ground_truth_m
        reason = moment.reason or (ESTIMATED_EGO_REASON if edited_input.ego_quality == "estimated" else None)
        original_accuracy = accuracy(original.trajectories_m, truth, reason)
        edited_accuracy = accuracy(edited.trajectories_m, truth, reason)
        return cls(
            clip_id=clip_id,
            camera_name=camera_name,
            prompt_key=prompt_key,
            prompt_text=prompt_text,
            run_name=run_name,
            driver=driver,
            samples=len(original.trajectories_m),
            study_seed=study_seed,
            temporal=TemporalConfig.of(moment, edited_input.frame_timestamps_us, clip_grid),
            original_min_ade=original_accuracy.min_ade_m,
            min_ade_meters=edited_accuracy.min_ade_m,
            ground_truth_reason=original_accuracy.reason,
            original_accuracy=original_accuracy,
            edited_accuracy=edited_accuracy,
            divergence=divergence(original.trajectories_m, edited.trajectories_m, truth),
            noise_floor_ade_m=original_arms.null_other_seeds_ade_m,
            original=original,
            edited=ArmRecord.of(edited),
            ground_truth_m=truth,
            history_m=original_arms.history_m,
            ego_quality=edited_input.ego_quality,
            projection_quality=edited_input.cameras[camera_name].quality,
        )

    def to_json(self) -> str:
        """The file's text."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> InferenceResult:
        """Read the file back; pydantic's ValidationError (a ValueError) where it is none."""
        return cls.model_validate_json(text)


@dataclass(frozen=True, eq=False)
class VisData:
    """`*_vis_data.npz` in memory; see the module's table for shapes."""

    original_trajectories_m: Float
    edited_trajectories_m: Float
    ground_truth_m: Float | None
    history_m: Float
    t0_us: int
    frame_timestamps_us: NDArray[np.int64]
    camera_names: tuple[str, ...]
    edited_camera: str
    original_frames: tuple[NDArray[np.uint8], ...]
    edited_frames: NDArray[np.uint8]
    original_camera_frames: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        result: InferenceResult,
        original_input: DriverInput,
        edited_input: DriverInput,
        original_camera_frames: NDArray[np.uint8] | None = None,
    ) -> VisData:
        """Gather what a picture of `result` needs, pictures shrunk.

        Args:
            result: of the same clip and prompt.
            original_input, edited_input: what the driver was given in both arms.
            original_camera_frames: (T, H, W, 3) grid frames of the edited camera, or None to leave them out.
        """
        camera = result.camera_name
        empty = np.zeros((0, 0, 0, 3), dtype=np.uint8)
        return cls(
            original_trajectories_m=result.original.trajectories_m,
            edited_trajectories_m=result.edited.trajectories_m,
            ground_truth_m=result.ground_truth_m,
            history_m=result.history_m,
            t0_us=result.temporal.t0_us,
            frame_timestamps_us=original_input.frame_timestamps_us,
            camera_names=tuple(original_input.frames),
            edited_camera=camera,
            original_frames=tuple(shrunk(frames, DRIVER_FRAME_WIDTH_PX) for frames in original_input.frames.values()),
            edited_frames=shrunk(edited_input.frames[camera], DRIVER_FRAME_WIDTH_PX),
            original_camera_frames=(
                empty if original_camera_frames is None else shrunk(original_camera_frames, CLIP_FRAME_WIDTH_PX)
            ),
        )

    def to_npz(self) -> bytes:
        """The file's bytes, the same for the same content."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            original_trajectories_m=self.original_trajectories_m,
            edited_trajectories_m=self.edited_trajectories_m,
            ground_truth_m=np.zeros((0, 3)) if self.ground_truth_m is None else self.ground_truth_m,
            history_m=self.history_m,
            t0_us=np.int64(self.t0_us),
            frame_timestamps_us=self.frame_timestamps_us,
            camera_names=np.array(self.camera_names, dtype=np.str_),
            camera_indices=np.array([CAMERA_INDICES.get(name, -1) for name in self.camera_names], dtype=np.int64),
            edited_camera=np.str_(self.edited_camera),
            edited_frames=self.edited_frames,
            original_camera_frames=self.original_camera_frames,
            **{f"original_frames_{i}": frames for i, frames in enumerate(self.original_frames)},
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> VisData:
        """Read the file back.

        Raises:
            ValueError: the bytes are not such a file; the message names the remedy.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                names = tuple(str(name) for name in arrays["camera_names"])
                truth = arrays["ground_truth_m"]
                return cls(
                    original_trajectories_m=arrays["original_trajectories_m"],
                    edited_trajectories_m=arrays["edited_trajectories_m"],
                    ground_truth_m=truth if len(truth) else None,
                    history_m=arrays["history_m"],
                    t0_us=int(arrays["t0_us"]),
                    frame_timestamps_us=arrays["frame_timestamps_us"],
                    camera_names=names,
                    edited_camera=str(arrays["edited_camera"]),
                    original_frames=tuple(arrays[f"original_frames_{i}"] for i in range(len(names))),
                    edited_frames=arrays["edited_frames"],
                    original_camera_frames=arrays["original_camera_frames"],
                )
        except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"not a vis_data.npz of this version ({error}); materialize `edited_trajectories` of this clip again"
            ) from error


def shrunk(frames: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) at most `width_px` wide, averaged over areas; smaller frames as they are."""
    count, height, width = frames.shape[:3]
    if width <= width_px or count == 0:
        return frames
    size = (width_px, max(1, round(height * width_px / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames])
