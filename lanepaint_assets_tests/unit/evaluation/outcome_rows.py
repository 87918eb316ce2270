"""Outcomes for tests of statistics and of the leaderboard."""

from __future__ import annotations

from dataclasses import replace

from lanepaint_assets.evaluation.outcomes import PromptOutcome
from lanepaint_assets.evaluation.statistics import ContrastSummary, StudySummary

EDIT, CONTROL = "single_yellow_dashed", "repaint_as_measured"

_PLAIN = PromptOutcome(
    clip_id="",
    camera="front",
    prompt=EDIT,
    is_control=False,
    is_outdated=False,
    driver="synthetic 1",
    is_foundation_model=True,
    samples=6,
    study_seed=0,
    painter="procedural 3",
    engines="procedural, synthetic",
    judges="",
    source_kind="own_files",
    cpu_engines="",
    edited_camera_only=False,
    clip_grid="model_10hz",
    original_min_ade_m=1.0,
    min_ade_m=1.0,
    change_min_ade_m=0.0,
    change_mean_ade_m=0.0,
    change_medoid_ade_m=0.0,
    change_min_fde_m=0.0,
    ade_between_arms_m=0.3,
    lateral_shift_1s_m=0.0,
    lateral_shift_3s_m=0.0,
    lateral_shift_5s_m=0.0,
    lateral_shift_6_4s_m=0.0,
    speed_change_mps=0.0,
    reasoning_changed_share=0.0,
    off_lane_change=None,
    noise_floor_ade_m=0.5,
    noise_floor_lateral_3s_m=0.2,
    null_same_seeds_ade_m=0.0,
    judge_passed=True,
    verified=None,
    verification="not independently verified",
    ego_quality="recorded",
    projection_quality="calibrated",
)


def outcome(clip: int, prompt: str = EDIT, shift_m: float | None = 0.0, **changes: object) -> PromptOutcome:
    """One edit of one clip that moves the plan sideways at 3 s."""
    row = replace(
        _PLAIN,
        clip_id=f"clip-{clip:04d}",
        prompt=prompt,
        is_control=prompt in (CONTROL, "roundtrip"),
        lateral_shift_3s_m=shift_m,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def line_of(summary: StudySummary, prompt: str = EDIT, **chosen: object) -> ContrastSummary:
    """The one line of a prompt that is as chosen; the primary one unless told otherwise."""
    wanted = {
        "contrast": "edit - repaint_as_measured",
        "metric": "lateral_shift_3s_m",
        "population": "produced",
        **chosen,
        "prompt_key": prompt,
    }
    (line,) = [line for line in summary.lines if all(getattr(line, name) == value for name, value in wanted.items())]
    return line


def primary_lines(summary: StudySummary) -> list[ContrastSummary]:
    """What was claimed beforehand."""
    return [line for line in summary.lines if line.role == "primary"]
