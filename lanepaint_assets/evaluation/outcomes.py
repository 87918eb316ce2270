"""What one edit did to the driver, as one flat row: the line between single items and statistics over clips.

The chunk report writes these rows to `metrics.parquet`, the leaderboard reads them back, `statistics.py` compares them.
No statistics here, and nothing that only a page needs: every field is a number to compare, a name to group by, or a
fact that a reader must know of the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from lanepaint_assets.clips.records import ClipGridName, SourceKind
from lanepaint_assets.evaluation.results import InferenceResult
from lanepaint_assets.rendering.cameras import CameraQuality
from lanepaint_assets.rendering.scene import EngineLabel


@dataclass(frozen=True)
class PromptOutcome:
    """One clip, camera and prompt. Changes are edited arm minus original arm; None where a number could not be had.

    Attributes:
        clip_id, camera, prompt: which edit; the clip is the statistical unit.
        is_control: `roundtrip` and `repaint_as_measured`, which change no marking.
        is_outdated: its inputs changed since it was made; statistics leave it out.
        driver, is_foundation_model, samples: who answered (`name version`), of which kind, and with K samples.
        study_seed: what the random numbers of the driver and the painter come from.
        painter: what painted the video; None where nothing was painted.
        engines: names of all engines that had a part, without versions, separated by commas.
        judges: names of what only judged or measured the video, the same way; empty without any.
        source_kind: whose clip it is.
        cpu_engines: those among them without a foundation model, with roles and versions; empty without any.
        edited_camera_only: whether the driver saw nothing but the edited camera.
        clip_grid: the frame grid of the clip.
        original_min_ade_m, min_ade_m: spec 10's minADE of each arm.
        change_min_ade_m, change_mean_ade_m, change_medoid_ade_m, change_min_fde_m: positive is worse.
        ade_between_arms_m: mean displacement between paired samples, never negative.
        lateral_shift_1s_m, lateral_shift_3s_m, lateral_shift_5s_m, lateral_shift_6_4s_m: left positive.
        speed_change_mps: of the last 0.5 s.
        reasoning_changed_share: paired samples whose text differs, 0 to 1.
        off_lane_change: share of waypoints outside the lane, -1 to 1.
        noise_floor_ade_m, noise_floor_lateral_3s_m: what other seeds alone do to the original.
        null_same_seeds_ade_m: what the same seeds do: 0 for a driver that is deterministic.
        judge_passed: the inspector's verdict on the edit; None where it was not asked.
        verified: whether an inspector that did not refine it agrees; None where none was asked.
        verification: its words, or that there was none.
        ego_quality, projection_quality: how the ego motion and the camera are known.
    """

    clip_id: str
    camera: str
    prompt: str
    is_control: bool
    is_outdated: bool
    driver: str
    is_foundation_model: bool
    samples: int
    study_seed: int
    painter: str | None
    engines: str
    judges: str
    source_kind: SourceKind
    cpu_engines: str
    edited_camera_only: bool
    clip_grid: ClipGridName
    original_min_ade_m: float | None
    min_ade_m: float | None
    change_min_ade_m: float | None
    change_mean_ade_m: float | None
    change_medoid_ade_m: float | None
    change_min_fde_m: float | None
    ade_between_arms_m: float | None
    lateral_shift_1s_m: float | None
    lateral_shift_3s_m: float | None
    lateral_shift_5s_m: float | None
    lateral_shift_6_4s_m: float | None
    speed_change_mps: float | None
    reasoning_changed_share: float | None
    off_lane_change: float | None
    noise_floor_ade_m: float | None
    noise_floor_lateral_3s_m: float | None
    null_same_seeds_ade_m: float | None
    judge_passed: bool | None
    verified: bool | None
    verification: str
    ego_quality: str
    projection_quality: CameraQuality

    @classmethod
    def of(
        cls,
        result: InferenceResult,
        *,
        is_control: bool,
        engines: Iterable[EngineLabel],
        judges: Iterable[str],
        source_kind: SourceKind,
        judge_passed: bool | None,
        verified: bool | None,
        verification: str,
        is_outdated: bool = False,
    ) -> PromptOutcome:
        """The row of one `*_inference.json`.

        Args:
            result: both arms, compared.
            is_control: of the prompt.
            engines: all that had a part in the item.
            judges: names of those that only judged or measured it.
            source_kind: whose clip it is.
            judge_passed: the verdict of the inspector that the edit was refined with; None where it was not asked.
            verified, verification: verdict and words of an inspector that did not refine it.
            is_outdated: whether the item's inputs changed since.
        """
        labels = tuple(engines)
        before, after, between = result.original_accuracy, result.edited_accuracy, result.divergence
        outside = result.off_lane
        return cls(
            clip_id=result.clip_id,
            camera=result.camera_name,
            prompt=result.prompt_key,
            is_control=is_control,
            is_outdated=is_outdated,
            driver=result.driver.text,
            is_foundation_model=result.driver.is_foundation_model,
            samples=result.samples,
            study_seed=result.study_seed,
            painter=next((label.named for label in labels if label.role == "painter"), None),
            engines=", ".join(dict.fromkeys(label.name for label in labels)),
            judges=", ".join(dict.fromkeys(judges)),
            source_kind=source_kind,
            cpu_engines=", ".join(dict.fromkeys(label.text for label in labels if label.is_foundation_model is False)),
            edited_camera_only=result.edited_camera_only,
            clip_grid=result.temporal.clip_grid,
            original_min_ade_m=result.original_min_ade,
            min_ade_m=result.min_ade_meters,
            change_min_ade_m=_change(before.min_ade_m, after.min_ade_m),
            change_mean_ade_m=_change(before.mean_ade_m, after.mean_ade_m),
            change_medoid_ade_m=_change(before.medoid_ade_m, after.medoid_ade_m),
            change_min_fde_m=_change(before.min_fde_m, after.min_fde_m),
            ade_between_arms_m=between.ade_m,
            lateral_shift_1s_m=between.lateral_at(1.0),
            lateral_shift_3s_m=between.lateral_at(3.0),
            lateral_shift_5s_m=between.lateral_at(5.0),
            lateral_shift_6_4s_m=between.lateral_at(6.4),
            speed_change_mps=between.final_speed_change_mps,
            reasoning_changed_share=result.reasoning.changed_share,
            off_lane_change=None if outside is None else outside.edited_share - outside.original_share,
            noise_floor_ade_m=result.noise_floor_ade_m,
            noise_floor_lateral_3s_m=result.noise_floor_lateral_3s_m,
            null_same_seeds_ade_m=result.null_same_seeds_ade_m,
            judge_passed=judge_passed,
            verified=verified,
            verification=verification,
            ego_quality=result.ego_quality,
            projection_quality=result.projection_quality,
        )


def outcomes_table(outcomes: Sequence[PromptOutcome]) -> pd.DataFrame:
    """The rows as a table whose columns keep their types however few rows there are; missing numbers are null."""
    table = pd.DataFrame(
        [asdict(outcome) for outcome in outcomes], columns=[field.name for field in fields(PromptOutcome)]
    )
    return table.astype({field.name: _column_type(str(field.type)) for field in fields(PromptOutcome)})


def outcomes_of(table: pd.DataFrame) -> list[PromptOutcome]:
    """The rows of `outcomes_table` back.

    Raises:
        ValueError: the table is one of another version; the message says which columns it lacks or has too many.
    """
    names = [field.name for field in fields(PromptOutcome)]
    missing = [name for name in names if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in names]
    if missing or unknown:
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"not a table of outcomes of this version: it {' and '.join(said)}")
    optional = table.astype(object).where(table.notna(), None)
    return [
        PromptOutcome(**{str(name): value for name, value in record.items()})
        for record in optional.to_dict(orient="records")
    ]


def _change(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _column_type(annotation: str) -> str:
    """The pandas type of a field; nullable, so that a column without any value is still one of numbers."""
    types = {"float | None": "float64", "bool": "bool", "bool | None": "boolean", "int": "int64"}
    return types.get(annotation, "string")
