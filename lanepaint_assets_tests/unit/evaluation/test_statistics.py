from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.evaluation.statistics import (
    ContrastSummary,
    PromptOutcome,
    bootstrap_interval,
    summarize,
)
from lanepaint_assets_tests.unit.evaluation.test_results import a_result

EDIT, CONTROL = "single_yellow_dashed", "repaint_as_measured"


def outcome(
    clip: int, prompt: str = EDIT, shift: float = 0.0, min_ade: float | None = 0.0, camera: str = "front"
) -> PromptOutcome:
    return PromptOutcome(f"clip-{clip:03d}", camera, prompt, min_ade, shift, abs(shift))


def the(summaries: tuple[ContrastSummary, ...], prompt: str, contrast: str, metric: str) -> ContrastSummary:
    (found,) = [s for s in summaries if (s.prompt_key, s.contrast, s.metric) == (prompt, contrast, metric)]
    return found


def test_the_control_is_subtracted_clip_by_clip() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.0, 5.0, 30)
    effect = rng.normal(0.2, 0.05, 30)
    outcomes = [outcome(i, CONTROL, difficulty[i]) for i in range(30)]
    outcomes += [outcome(i, EDIT, difficulty[i] + effect[i]) for i in range(30)]
    summaries = summarize(outcomes)
    paired = the(summaries, EDIT, "edit - repaint_as_measured", "lateral_shift_3s_m")
    assert paired.mean == pytest.approx(effect.mean())
    assert paired.excludes_zero
    assert paired.high is not None
    assert paired.low is not None
    assert paired.high - paired.low < 0.1
    assert not the(summaries, EDIT, "edit - original", "lateral_shift_3s_m").excludes_zero


def test_the_control_has_no_line_against_itself() -> None:
    summaries = summarize([outcome(i, CONTROL) for i in range(3)])
    assert {s.contrast for s in summaries} == {"edit - original"}


def test_one_clip_gives_a_mean_without_an_interval_and_says_why() -> None:
    summary = the(summarize([outcome(1, shift=0.3)]), EDIT, "edit - original", "lateral_shift_3s_m")
    assert (summary.clips, summary.mean, summary.low, summary.high) == (1, 0.3, None, None)
    assert summary.reason == "n = 1: an interval needs at least 2 clips"


def test_clips_without_ground_truth_or_without_a_control_count_only_where_they_can() -> None:
    outcomes = [outcome(1, min_ade=None), outcome(2, min_ade=0.5), outcome(1, CONTROL, min_ade=0.1)]
    summaries = summarize(outcomes)
    assert the(summaries, EDIT, "edit - original", "min_ade_m").clips == 1
    empty = the(summaries, EDIT, "edit - repaint_as_measured", "min_ade_m")
    assert (empty.clips, empty.mean, empty.reason) == (0, None, "n = 0: an interval needs at least 2 clips")
    assert the(summaries, EDIT, "edit - repaint_as_measured", "lateral_shift_3s_m").clips == 1


def test_cameras_of_one_clip_are_one_observation() -> None:
    outcomes = [outcome(1, shift=0.1), outcome(1, shift=0.3, camera="left"), outcome(2, shift=0.6)]
    summary = the(summarize(outcomes), EDIT, "edit - original", "lateral_shift_3s_m")
    assert summary.clips == 2
    assert summary.mean == pytest.approx(0.4)


def test_equal_differences_have_an_interval_of_no_width() -> None:
    interval = bootstrap_interval(np.full(5, 0.25))
    assert (interval.low, interval.high, interval.reason) == (0.25, 0.25, "all 5 differences are equal")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=25), st.randoms())
def test_an_interval_brackets_its_mean_lies_among_the_data_and_ignores_their_order(
    values: list[float], random: object
) -> None:
    interval = bootstrap_interval(np.array(values))
    if interval.low is None or interval.high is None:
        assert interval.reason is not None
        return
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    outcomes = [outcome(i, shift=value) for i, value in enumerate(values)]
    assert summarize(outcomes) == summarize(outcomes[::-1])


def test_the_interval_covers_the_true_mean_about_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        interval = bootstrap_interval(rng.normal(1.0, 1.0, 25))
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 1.0 <= interval.high
    # 95 % claimed; BCa at n = 25 covers about 93 %, and 200 trials scatter by 1.8 %.
    assert 0.88 <= hits / 200 <= 0.99


def test_an_outcome_is_edited_minus_original() -> None:
    result = a_result(shift_m=0.4)
    made = PromptOutcome.of(result)
    assert result.min_ade_meters is not None
    assert result.original_min_ade is not None
    assert made.min_ade_m == result.min_ade_meters - result.original_min_ade
    assert made.ade_between_arms_m == pytest.approx(0.4)
    # On a curve to the left, a step along +y is not all to the left of the path.
    assert 0.3 < made.lateral_shift_3s_m < 0.4
    assert PromptOutcome.of(a_result(with_truth=False)).min_ade_m is None
