from __future__ import annotations

import io

import pandas as pd
import pytest

from lanepaint_assets.evaluation.outcomes import PromptOutcome, outcomes_of, outcomes_table
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.evaluation.outcome_rows import outcome
from lanepaint_assets_tests.unit.evaluation.test_results import a_result

PAINTER = EngineLabel("painter", "videopainter", "1", True)
DRIVER = EngineLabel("driver", "constant_velocity", "1", False)


def made_of(with_truth: bool = True, **changes: object) -> PromptOutcome:
    given = {
        "is_control": False,
        "engines": (PAINTER, DRIVER),
        "judges": ("measured", "lpips"),
        "source_kind": "sample_drive",
        "judge_passed": True,
        "verified": True,
        "verification": "agreed",
    }
    return PromptOutcome.of(a_result(with_truth=with_truth, shift_m=0.4), **{**given, **changes})  # type: ignore[arg-type]


def test_an_outcome_is_edited_minus_original() -> None:
    result, made = a_result(shift_m=0.4), made_of()
    assert result.min_ade_meters is not None
    assert result.original_min_ade is not None
    assert made.change_min_ade_m == result.min_ade_meters - result.original_min_ade
    assert made.ade_between_arms_m == pytest.approx(0.4)
    # On a curve to the left, a step along +y is not all to the left of the path.
    assert made.lateral_shift_3s_m is not None
    assert 0.3 < made.lateral_shift_3s_m < 0.4
    assert made.noise_floor_lateral_3s_m == result.noise_floor_lateral_3s_m
    assert made.reasoning_changed_share == result.reasoning.changed_share
    assert made.study_seed == result.study_seed


def test_an_outcome_names_who_took_part() -> None:
    made = made_of()
    assert (made.driver, made.painter, made.cpu_engines) == (
        "constant_velocity 1",
        "videopainter 1",
        "driver constant_velocity 1 (CPU)",
    )
    assert made.engines == "videopainter, constant_velocity"
    assert made.judges == "measured, lpips"
    assert made.source_kind == "sample_drive"
    assert made_of(engines=(DRIVER,)).painter is None
    imported = made_of(engines=(EngineLabel("painter", "imported", "", None), DRIVER))
    assert (imported.painter, imported.cpu_engines) == ("imported", "driver constant_velocity 1 (CPU)")


def test_what_needs_a_driven_path_is_absent_without_one() -> None:
    made = made_of(with_truth=False)
    assert (made.min_ade_m, made.change_min_ade_m, made.change_min_fde_m) == (None, None, None)
    assert made.lateral_shift_3s_m is not None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [outcome(1), outcome(2, judge_passed=None, painter=None, off_lane_change=0.5)],
        [outcome(1, shift_m=None, judge_passed=False)],
    ],
    ids=["no rows", "two rows", "a column of nothing"],
)
def test_a_table_written_and_read_gives_the_rows_back(rows: list[PromptOutcome]) -> None:
    file = io.BytesIO()
    outcomes_table(rows).to_parquet(file, index=False)
    file.seek(0)
    assert outcomes_of(pd.read_parquet(file)) == rows


def test_columns_keep_their_types_where_nothing_was_measured() -> None:
    empty, full = outcomes_table([outcome(1, shift_m=None)]), outcomes_table([outcome(1), outcome(2)])
    assert dict(empty.dtypes) == dict(full.dtypes)


def test_a_table_of_another_version_is_refused_by_its_columns() -> None:
    table = outcomes_table([outcome(1)]).rename(columns={"painter": "brush"})
    with pytest.raises(ValueError, match="it lacks painter and has unknown brush"):
        outcomes_of(table)
