from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lanepaint_assets.evaluation.hypothesis_tests import MIN_CLIPS
from lanepaint_assets.evaluation.outcomes import PromptOutcome
from lanepaint_assets.evaluation.statistics import METRICS, ContrastSummary, StudySummary, summarize
from lanepaint_assets_tests.unit.evaluation.outcome_rows import CONTROL, EDIT, line_of, outcome, primary_lines


def study(edited: list[float], repainted: list[float], prompt: str = EDIT, **changes: object) -> list[PromptOutcome]:
    rows = [outcome(clip, prompt, shift, **changes) for clip, shift in enumerate(edited)]
    return rows + [outcome(clip, CONTROL, shift) for clip, shift in enumerate(repainted)]


def primary(summary: StudySummary, prompt: str = EDIT) -> ContrastSummary:
    line = line_of(summary, prompt)
    assert line.role == "primary"
    return line


def original(summary: StudySummary, prompt: str = EDIT) -> ContrastSummary:
    return line_of(summary, prompt, contrast="edit - original")


def test_the_control_is_subtracted_clip_by_clip() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.0, 5.0, 30)
    effect = rng.normal(0.2, 0.05, 30)
    summary = summarize(study(list(difficulty + effect), list(difficulty)))
    line = primary(summary)
    assert line.mean == pytest.approx(effect.mean())
    assert line.low is not None
    assert line.high is not None
    expected = stats.ttest_1samp(effect, 0.0).confidence_interval(0.95)
    assert (line.low, line.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert line.verdict == "effect"
    assert original(summary).verdict == "cannot tell"


def test_each_prompt_has_one_primary_line_and_controls_have_none() -> None:
    rows = study([0.1] * 8, [0.0] * 8) + [outcome(clip, "roundtrip") for clip in range(8)]
    rows += [outcome(clip, "double_white_solid") for clip in range(8)]
    summary = summarize(rows)
    assert [line.prompt_key for line in primary_lines(summary)] == ["double_white_solid", EDIT]
    assert {(line.metric, line.contrast, line.population) for line in primary_lines(summary)} == {
        ("lateral_shift_3s_m", "edit - repaint_as_measured", "produced")
    }
    of_controls = [line for line in summary.lines if line.is_control]
    assert {line.contrast for line in of_controls} == {"edit - original"}
    assert len(of_controls) == 2 * len(METRICS)


def test_drivers_never_share_a_line() -> None:
    rows = study([0.1] * 8, [0.0] * 8)
    others = [replace(row, driver="another 1") for row in study([0.5] * 7, [0.0] * 7)]
    summary = summarize(rows + others)
    assert [study.driver for study in summary.drivers] == ["another 1", "synthetic 1"]
    assert [(line.driver, line.clips, line.mean) for line in primary_lines(summary)] == [
        ("another 1", 7, pytest.approx(0.5)),
        ("synthetic 1", 8, pytest.approx(0.1)),
    ]


def test_with_fewer_clips_than_any_test_can_use_there_is_a_mean_and_a_reason() -> None:
    line = primary(summarize(study([0.3] * (MIN_CLIPS - 1), [0.0] * MIN_CLIPS)))
    assert (line.clips, line.mean) == (MIN_CLIPS - 1, pytest.approx(0.3))
    assert (line.low, line.p_value, line.q_value, line.equivalent, line.clips_needed) == (None, None, None, None, ())
    assert line.verdict == "cannot tell"
    assert line.reason == "n = 5: below 6 clips no test can reach 5 %"


def test_edits_without_their_control_are_left_out_and_counted() -> None:
    line = primary(summarize(study([0.5] * 9, [0.0] * 7)))
    assert (line.clips, line.reason) == (7, "all 7 differences are equal; 2 edits without a control left out")
    lonely = primary(summarize(study([0.1] * 9, [])))
    assert (lonely.clips, lonely.mean) == (0, None)
    assert lonely.reason == "n = 0: no clip has both the edit and its control"
    missing = line_of(summarize(study([0.1] * 9, [0.0] * 9)), metric="off_lane_change")
    assert missing.reason == "n = 0: no clip has this number"


def test_a_control_of_another_painter_is_no_control() -> None:
    rows = study([0.1] * 9, [0.0] * 9)
    changed = [replace(row, painter="videopainter 1") if row.prompt == EDIT else row for row in rows]
    assert primary(summarize(changed)).clips == 0
    assert "Mixed video painters in one line: procedural 3, videopainter 1." in summarize(changed).drivers[0].warnings


def test_a_control_of_another_study_seed_is_no_control() -> None:
    # Two studies of the same clips: what differs between their seeds must not pass for the markings' effect.
    first = study([0.1] * 9, [0.0] * 9)
    second = [replace(row, study_seed=7, lateral_shift_3s_m=(row.lateral_shift_3s_m or 0.0) + 5.0) for row in first]
    both = summarize([*first, *second])
    assert primary(both).mean == pytest.approx(0.1)
    assert primary(both).clips == 9
    assert "Mixed study seeds in one line: 0, 7." in both.drivers[0].warnings
    crossed = [row for row in first if row.prompt == EDIT] + [row for row in second if row.prompt == CONTROL]
    assert primary(summarize(crossed)).clips == 0


def test_cameras_of_one_clip_are_one_observation() -> None:
    rows = study([0.1] * 8, [0.0] * 8)
    rows += [replace(row, camera="left", lateral_shift_3s_m=(row.lateral_shift_3s_m or 0.0) * 3) for row in rows]
    line = primary(summarize(rows))
    assert (line.clips, line.edits, line.mean) == (8, 16, pytest.approx(0.2))


def test_only_edits_that_the_judge_passed_are_in_the_secondary_population() -> None:
    rows = study([0.1] * 12, [0.0] * 12)
    judged = [replace(row, judge_passed=row.prompt == EDIT and index < 7) for index, row in enumerate(rows)]
    line = line_of(summarize(judged), population="judge_passed")
    assert (line.clips, line.role) == (7, "exploratory")
    assert primary(summarize(judged)).clips == 12


def test_a_spread_smaller_than_the_margin_shows_that_there_is_no_effect_that_matters() -> None:
    noise = np.random.default_rng(3).normal(0.0, 0.1, 60)
    line = primary(summarize(study(list(noise - noise.mean() + 0.01), [0.0] * 60)))
    assert line.equivalent
    assert line.verdict == "no effect larger than the margin"
    wide = primary(summarize(study(list(noise * 20), [0.0] * 60)))
    assert (wide.equivalent, wide.verdict) == (False, "cannot tell")


def test_an_effect_that_is_sure_but_small_is_said_to_be_small() -> None:
    noise = np.random.default_rng(4).normal(0.05, 0.02, 60)
    line = primary(summarize(study(list(noise), [0.0] * 60)))
    assert (line.verdict, line.equivalent) == ("effect", True)
    assert line.reason == "an effect, but smaller than 0.1 m"


def test_a_distance_is_not_tested_against_zero() -> None:
    summary = summarize(study([0.1] * 9, [0.0] * 9))
    distance = line_of(summary, contrast="edit - original", metric="ade_between_arms_m")
    assert (distance.mean, distance.p_value, distance.equivalent) == (pytest.approx(0.3), None, None)
    assert distance.reason is not None
    assert "never negative" in distance.reason
    against_control = line_of(summary, metric="ade_between_arms_m")
    assert against_control.p_value == 1.0


def test_primary_lines_are_corrected_among_themselves_and_the_others_over_all() -> None:
    rng = np.random.default_rng(5)
    rows = [outcome(clip, CONTROL) for clip in range(20)]
    for number in range(4):
        shifts = rng.normal(0.12 * number, 0.3, 20)
        rows += [outcome(clip, f"prompt_{number}", shift, speed_change_mps=shift) for clip, shift in enumerate(shifts)]
    summary = summarize(rows)
    of_primary = [line.p_value for line in primary_lines(summary)]
    assert [line.q_value for line in primary_lines(summary)] == pytest.approx(
        multipletests(of_primary, method="fdr_bh")[1]
    )
    tested = [line for line in summary.lines if line.p_value is not None]
    over_all = multipletests([line.p_value for line in tested], method="fdr_bh")[1]
    for line, q_value in zip(tested, over_all, strict=True):
        if line.role == "exploratory":
            assert line.q_value == pytest.approx(q_value)


def test_outdated_edits_are_left_out_and_said_so() -> None:
    rows = study([0.1] * 9, [0.0] * 9)
    rows = [replace(row, is_outdated=row.clip_id == "clip-0003") for row in rows]
    summary = summarize(rows)
    assert primary(summary).clips == 8
    assert "2 outdated edits are left out: their inputs changed since they were made." in summary.drivers[0].warnings


def test_a_clip_in_two_chunks_counts_once() -> None:
    rows = study([0.1] * 9, [0.0] * 9)
    summary = summarize([*rows, replace(rows[0], lateral_shift_3s_m=1.0)])
    line = primary(summary)
    assert (line.clips, line.edits) == (9, 9)
    assert line.mean == pytest.approx((8 * 0.1 + 0.55) / 9)
    assert any("exist twice" in warning for warning in summary.drivers[0].warnings)


def test_what_mixes_or_limits_a_drivers_lines_is_said() -> None:
    rows = study([0.1] * 9, [0.0] * 9)
    rows[0] = replace(rows[0], clip_grid="spec_8fps", samples=1, edited_camera_only=True)
    rows[1] = replace(rows[1], null_same_seeds_ade_m=0.02, ego_quality="estimated", cpu_engines="painter a 1 (CPU)")
    (found,) = summarize(rows).drivers
    said = " ".join(found.warnings)
    for words in ("numbers of samples", "frame grids", "cameras of the driver", "0.125 s apart", "not deterministic"):
        assert words in said
    assert "1 clips have estimated ego motion" in said
    assert found.cpu_engines == ("painter a 1 (CPU)",)
    assert (found.clips, found.edits, found.controls) == (9, 9, 9)
    assert (found.judged, found.passed, found.verified, found.agreed) == (9, 9, 0, 0)
    assert found.noise_floor_lateral_3s_m == pytest.approx(0.2)
    assert not summarize(study([0.1] * 9, [0.0] * 9)).drivers[0].warnings


def test_nothing_in_gives_nothing_out() -> None:
    assert summarize([]) == StudySummary((), ())


millimetres = st.integers(-2000, 2000).map(lambda mm: mm / 1000)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(millimetres, millimetres), min_size=MIN_CLIPS, max_size=15), st.randoms(use_true_random=False)
)
def test_the_order_of_rows_and_the_names_of_clips_change_nothing(
    pairs: list[tuple[float, float]], random: object
) -> None:
    rows = study([edited for edited, _ in pairs], [control for _, control in pairs])
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert summarize(shuffled) == summarize(rows)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(millimetres, millimetres), min_size=MIN_CLIPS, max_size=15), millimetres)
def test_the_same_amount_added_to_both_arms_changes_nothing(pairs: list[tuple[float, float]], amount: float) -> None:
    before = primary(summarize(study([edited for edited, _ in pairs], [control for _, control in pairs])))
    after = primary(
        summarize(study([edited + amount for edited, _ in pairs], [control + amount for _, control in pairs]))
    )
    assert (after.verdict, after.clips) == (before.verdict, before.clips)
    numbers = [
        (getattr(line, name) for name in ("mean", "low", "high", "p_value", "equivalence_p"))
        for line in (before, after)
    ]
    for old, new in zip(*numbers, strict=True):
        assert new == (None if old is None else pytest.approx(old, rel=1e-6, abs=1e-6))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(millimetres, millimetres), min_size=MIN_CLIPS, max_size=15))
def test_exchanging_edit_and_control_turns_the_line(pairs: list[tuple[float, float]]) -> None:
    line = primary(summarize(study([edited for edited, _ in pairs], [control for _, control in pairs])))
    turned = primary(summarize(study([control for _, control in pairs], [edited for edited, _ in pairs])))
    assert turned.mean == pytest.approx(-(line.mean or 0.0), abs=1e-9)
    assert turned.p_value == line.p_value
    assert turned.verdict == line.verdict
    if line.low is not None and line.high is not None:
        assert (turned.low, turned.high) == pytest.approx((-line.high, -line.low), rel=1e-9, abs=1e-9)
