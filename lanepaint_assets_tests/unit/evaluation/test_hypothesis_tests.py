from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from lanepaint_assets.evaluation.hypothesis_tests import (
    MIN_CLIPS,
    clips_needed,
    equivalence_p_value,
    false_discovery_q_values,
    sign_flip_p_values,
)

Float = NDArray[np.float64]

differences = hnp.arrays(np.float64, st.integers(2, 30), elements=st.integers(-3000, 3000).map(lambda mm: mm / 1000))


def p_value(values: Float) -> float:
    return float(sign_flip_p_values(values[:, None])[0])


def by_scipy(values: Float, resamples: int) -> float:
    def size_of_mean(sample: Float, axis: int) -> Float:
        return np.abs(np.mean(sample, axis=axis))

    result = stats.permutation_test(
        (values,),
        size_of_mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


@pytest.mark.parametrize("count", [2, 6, 9, 13])
def test_with_few_clips_all_flips_are_tried_as_scipy_does(count: int) -> None:
    for seed in range(3):
        values = np.random.default_rng(seed).normal(0.3, 1.0, count)
        assert p_value(values) == pytest.approx(by_scipy(values, 2**count), abs=1e-12)


def test_with_many_clips_random_flips_come_close_to_scipys() -> None:
    values = np.random.default_rng(1).normal(0.2, 0.8, 60)
    # Both draw 9,999 flips: p near 0.05 scatters by 0.002 each.
    assert p_value(values) == pytest.approx(by_scipy(values, 9999), abs=0.01)


def test_the_smallest_p_of_six_clips_can_be_significant_and_that_of_five_cannot() -> None:
    assert p_value(np.ones(MIN_CLIPS)) == 2 / 2**MIN_CLIPS < 0.05
    assert p_value(np.ones(MIN_CLIPS - 1)) > 0.05
    assert p_value(np.ones(200)) == 1 / 10_000


def test_no_difference_at_all_is_no_evidence() -> None:
    assert p_value(np.zeros(20)) == 1.0


@settings(max_examples=30, deadline=None)
@given(differences)
def test_the_test_looks_at_sizes_alone(values: Float) -> None:
    assert 0 < p_value(values) <= 1
    assert p_value(-values) == p_value(values)
    assert p_value(4 * values) == p_value(values)


def test_equivalence_is_statsmodels_paired_test_on_two_arms() -> None:
    rng = np.random.default_rng(2)
    edited, control = rng.normal(0.0, 0.3, (2, 80))
    expected = float(ttost_paired(edited, control, -0.1, 0.1)[0])
    assert equivalence_p_value(edited - control, 0.1) == pytest.approx(expected, rel=1e-9)


def test_equal_differences_are_equivalent_exactly_if_they_lie_within_the_margin() -> None:
    assert equivalence_p_value(np.full(9, 0.05), 0.1) == 0.0
    assert equivalence_p_value(np.full(9, -0.1), 0.1) == 1.0
    assert equivalence_p_value(np.zeros(9), 0.1) == 0.0


def test_false_discoveries_are_corrected_as_by_hand() -> None:
    # p * m / rank, made monotone from the largest: 0.01 * 4 / 1, 0.02 * 4 / 2, 0.03 * 4 / 3, 0.5 * 4 / 4.
    assert false_discovery_q_values([0.5, 0.01, 0.03, 0.02]) == pytest.approx((0.5, 0.04, 0.04, 0.04))
    assert false_discovery_q_values([]) == ()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0031, 1.49))
def test_the_clips_needed_are_statsmodels_power_analysis(ratio: float) -> None:
    exact = float(TTestPower().solve_power(effect_size=ratio, alpha=0.05, power=0.8))
    # From half a million clips on, both search where one clip more changes nothing that floats can tell.
    assert clips_needed(1.0, ratio) == pytest.approx(max(MIN_CLIPS, ceil(exact)), rel=1e-5)


def test_the_clips_needed_of_a_public_spread() -> None:
    assert [clips_needed(0.77, effect) for effect in (0.1, 0.2, 0.3)] == [468, 119, 54]
    assert clips_needed(0.0, 0.1) == MIN_CLIPS
    assert clips_needed(100.0, 0.1) is None
