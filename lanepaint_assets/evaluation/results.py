"""The JSON files that the evaluation leaves: `*_inference.json` and the arms that all prompts share.

Written and read by the evaluation assets, the report and the leaderboard. File names and folders are the stage's
business, drawing is `rendering`'s, and no number is computed here that `metrics.py` could compute.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.evaluation.bridge import Moment, blanked, grid_note
from lanepaint_assets.evaluation.driver import Driver, DriverInput, DriverOutput, ask
from lanepaint_assets.evaluation.metrics import (
    AccuracyMetrics,
    DivergenceMetrics,
    accuracy,
    ade_between,
    divergence,
)
from lanepaint_assets.evaluation.off_lane import EgoLane, NoLaneError, OffLane, off_lane
from lanepaint_assets.evaluation.reasoning import ReasoningDifference, reasoning_difference
from lanepaint_assets.rendering.cameras import CameraQuality
from lanepaint_assets.rendering.scene import EngineLabel

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

ESTIMATED_EGO_REASON = "no ground truth: ego motion was estimated from the pictures that the driver sees, not recorded"


def no_truth_reason(moment: Moment, ego_quality: Literal["recorded", "estimated"]) -> str | None:
    """Why there is no ground truth; None where there is one.

    Estimated ego motion is none, however long it is: it comes from the same pictures that the driver sees.
    """
    return ESTIMATED_EGO_REASON if ego_quality == "estimated" else moment.reason


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid")


class ArmRecord(_Record):
    """What a driver answered in one arm: (K, 64, 3) positions, a reasoning text each, what limited it, decisions."""

    trajectories_m: Positions
    reasoning: tuple[str, ...]
    note: str | None = None
    decisions: tuple[str, ...] | None = None

    @classmethod
    def of(cls, output: DriverOutput) -> ArmRecord:
        """The record of a driver's answer."""
        return cls(
            trajectories_m=output.trajectories_m,
            reasoning=output.reasoning,
            note=output.note,
            decisions=output.decisions,
        )


class OriginalArms(_Record):
    """The arms that no prompt changes, computed once a clip and shared by all of its prompts.

    Attributes:
        original: the unedited frames.
        null_same_seeds_ade_m: ADE between `original` and the same frames and seeds again; 0 for a driver that is
            deterministic, and no effect below it means anything.
        null_other_seeds: the same frames with other seeds.
        null_other_seeds_ade_m: ADE between `original` and that: the noise floor of a comparison without common seeds.
        null_other_seeds_lateral_3s_m: size of the lateral shift between them at 3 s, never negative.
        positive_control: the same seeds with the edited camera blanked; None where the settings do not ask for it.
        lane: the vehicle's own lane, measured in the original frames; None where it could not be.
        lane_reason: why there is no lane; None where there is one.
        edited_camera_only: whether the driver saw the edited camera alone, in all arms.
        ground_truth_m: (64, 3), None where the recording is too short.
        history_m: (16, 3).
    """

    original: ArmRecord
    null_same_seeds_ade_m: float
    null_other_seeds: ArmRecord
    null_other_seeds_ade_m: float
    null_other_seeds_lateral_3s_m: float
    positive_control: ArmRecord | None
    lane: EgoLane | None
    lane_reason: str | None
    edited_camera_only: bool
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
        *,
        blanked_camera: str | None = None,
        lane: EgoLane | str = "the lane was not measured",
        edited_camera_only: bool = False,
    ) -> OriginalArms:
        """Ask the driver: the original, the same again, the same with `other_seeds`, and with a camera blanked.

        Args:
            moment: with the edited camera alone where `edited_camera_only`.
            blanked_camera: the edited camera, for the positive control; None leaves it out.
            lane: of the vehicle, or why there is none.

        Raises:
            DriverError: an answer is none.
        """
        original = ask(driver, moment, seeds)
        again = ask(driver, moment, seeds)
        other = ask(driver, moment, other_seeds)
        noise = divergence(original.trajectories_m, other.trajectories_m, ground_truth_m)
        blank = None if blanked_camera is None else ask(driver, blanked(moment, blanked_camera), seeds)
        return cls(
            original=ArmRecord.of(original),
            null_same_seeds_ade_m=ade_between(original.trajectories_m, again.trajectories_m),
            null_other_seeds=ArmRecord.of(other),
            null_other_seeds_ade_m=noise.ade_m,
            null_other_seeds_lateral_3s_m=abs(noise.lateral_at(3.0)),
            positive_control=None if blank is None else ArmRecord.of(blank),
            lane=None if isinstance(lane, str) else lane,
            lane_reason=lane if isinstance(lane, str) else None,
            edited_camera_only=edited_camera_only,
            ground_truth_m=ground_truth_m,
            history_m=moment.history_xyz_m,
        )

    @property
    def arms(self) -> tuple[ArmRecord, ...]:
        """All arms that were asked and kept."""
        return tuple(arm for arm in (self.original, self.null_other_seeds, self.positive_control) if arm is not None)

    def to_json(self) -> str:
        """The file's text."""
        return self.model_dump_json() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> OriginalArms:
        """Read the file back; pydantic's ValidationError (a ValueError) where it is none."""
        return cls.model_validate_json(text)


class DriverStamp(_Record):
    """The driver as reports must name it.

    Attributes:
        name, version: of the engine.
        is_foundation_model: False for the weight-free ones.
        setup: what else decides its answers: release, sampling, how many cameras it saw; "" where there is nothing.
    """

    name: str
    version: str
    is_foundation_model: bool
    setup: str = ""

    @property
    def text(self) -> str:
        """`alpamayo 1 (model=r1, ..., 4 cameras)`: drivers of different texts are different drivers."""
        return f"{self.name} {self.version}" + (f" ({self.setup})" if self.setup else "")

    @property
    def label(self) -> EngineLabel:
        """As pictures and pages name it."""
        return EngineLabel("driver", self.name, self.text.removeprefix(f"{self.name} "), self.is_foundation_model)


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
        run_name: of the run that made it: the name that a person gave and its time, else Dagster's run id.
        driver, samples, study_seed: who answered, K, and where the seeds come from.
        temporal: when.
        original_min_ade, min_ade_meters: spec 10's minADE of the original and of the edited arm, metres; None without
            ground truth.
        ground_truth_reason: why there is none; None where there is one.
        original_accuracy, edited_accuracy, divergence: all metrics.
        reasoning: how far the words of both arms differ.
        off_lane: share of either arm's waypoints outside the lane; None where the lane is unknown.
        off_lane_reason: why it is; None where it is not.
        positive_control: the original arm against the edited camera blanked, the same for all prompts of a clip: the
            effect of losing the camera altogether. None where the settings do not ask for it.
        null_same_seeds_ade_m: ADE between the original arm and the same again; 0 for a deterministic driver.
        noise_floor_ade_m, noise_floor_lateral_3s_m: ADE, and size of the lateral shift at 3 s, between the original arm
            and the same frames with other seeds.
        edited_camera_only: whether the driver saw the edited camera alone, in every arm.
        original, edited: predictions, reasoning traces and notes of both arms.
        ground_truth_m, history_m: (64, 3) or None, (16, 3).
        ego_quality, projection_quality: how the ego motion and the edited camera's geometry are known.
    """

    format_version: Literal[2] = 2
    clip_id: str
    camera_name: str
    prompt_key: str
    prompt_text: str
    run_name: str
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
    reasoning: ReasoningDifference
    off_lane: OffLane | None
    off_lane_reason: str | None
    positive_control: DivergenceMetrics | None
    null_same_seeds_ade_m: float
    noise_floor_ade_m: float
    noise_floor_lateral_3s_m: float
    edited_camera_only: bool
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
        run_name: str,
        driver: DriverStamp,
        study_seed: int,
        moment: Moment,
        clip_grid: ClipGridName,
        edited_input: DriverInput,
        original_arms: OriginalArms,
        edited: DriverOutput,
    ) -> InferenceResult:
        """Compare an edited arm with the clip's original arms; all metrics are computed here, once."""
        original, blank = original_arms.original, original_arms.positive_control
        truth = original_arms.ground_truth_m
        reason = no_truth_reason(moment, edited_input.ego_quality)
        original_accuracy = accuracy(original.trajectories_m, truth, reason)
        edited_accuracy = accuracy(edited.trajectories_m, truth, reason)
        outside, outside_reason = None, original_arms.lane_reason
        if original_arms.lane is not None:
            try:
                outside = off_lane(original.trajectories_m, edited.trajectories_m, truth, original_arms.lane)
            except NoLaneError as error:
                outside_reason = str(error)
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
            reasoning=reasoning_difference(original.reasoning, edited.reasoning, original.decisions, edited.decisions),
            off_lane=outside,
            off_lane_reason=outside_reason,
            positive_control=None
            if blank is None
            else divergence(original.trajectories_m, blank.trajectories_m, truth),
            null_same_seeds_ade_m=original_arms.null_same_seeds_ade_m,
            noise_floor_ade_m=original_arms.null_other_seeds_ade_m,
            noise_floor_lateral_3s_m=original_arms.null_other_seeds_lateral_3s_m,
            edited_camera_only=original_arms.edited_camera_only,
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
