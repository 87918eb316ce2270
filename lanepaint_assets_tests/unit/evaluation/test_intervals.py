from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from lanepaint_assets.evaluation.intervals import (
    BOOTSTRAP_SEED,
    RESAMPLES,
    bootstrap_intervals,
    clip_means,
    mean_and_error,
)

Float = NDArray[np.float64]

# Numbers to a millimetre: what is equal or not is then not a matter of rounding.
differences = hnp.arrays(np.float64, st.integers(6, 20), elements=st.integers(-3000, 3000).map(lambda mm: mm / 1000))


def interval(values: Float, cameras: list[int] | None = None) -> tuple[float, float]:
    low, high = bootstrap_intervals(values[:, None], cameras or [1] * len(values))
    return float(low[0]), float(high[0])


def plain_bootstrap_t(values: Float, cameras: list[int]) -> tuple[float, float]:
    """The same interval one resample after another, by the textbook."""
    rng = np.random.default_rng(BOOTSTRAP_SEED + 1)
    groups = np.split(values, np.cumsum(cameras)[:-1])
    means = np.array([group.mean() for group in groups])
    error = means.std(ddof=1) / np.sqrt(len(means))
    ratios = []
    for _ in range(RESAMPLES):
        drawn = [
            rng.choice(groups[clip]) if len(groups[clip]) == 1 else rng.choice(groups[clip], len(groups[clip])).mean()
            for clip in rng.integers(0, len(groups), len(groups))
        ]
        ratios.append(abs(np.mean(drawn) - means.mean()) / (np.std(drawn, ddof=1) / np.sqrt(len(drawn))))
    half = float(np.quantile(ratios, 0.95)) * error
    return means.mean() - half, means.mean() + half


@pytest.mark.parametrize("cameras", [[1] * 12, [1, 2, 3, 1, 2, 1, 1, 3, 2, 1]])
def test_matrix_products_give_the_interval_of_a_resample_by_resample_bootstrap(cameras: list[int]) -> None:
    values = np.random.default_rng(4).normal(0.2, 0.8, sum(cameras))
    # Two runs with different seeds: quantiles of 9,999 resamples scatter by 1 to 2 %.
    assert interval(values, cameras) == pytest.approx(plain_bootstrap_t(values, cameras), rel=0.04, abs=0.02)


def test_with_many_clips_it_is_students_interval() -> None:
    values = np.random.default_rng(5).normal(0.2, 0.8, 400)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_contrasts_do_not_influence_each_other() -> None:
    values = np.random.default_rng(6).normal(0.0, 1.0, (20, 3))
    low, high = bootstrap_intervals(values, [1] * 20)
    for number in range(3):
        assert interval(values[:, number]) == pytest.approx((low[number], high[number]), abs=1e-12)


def test_equal_cameras_count_no_more_than_one() -> None:
    of_clip = np.random.default_rng(7).normal(0.0, 1.0, 30)
    one, three = interval(of_clip), interval(np.repeat(of_clip, 3), [3] * 30)
    assert three == pytest.approx(one, rel=0.05, abs=0.03)


def test_equal_differences_have_an_interval_of_no_width() -> None:
    assert interval(np.full(7, 0.1)) == (pytest.approx(0.1), pytest.approx(0.1))
    assert interval(np.zeros(7)) == (0.0, 0.0)


def test_too_few_clips_that_react_give_no_finite_interval() -> None:
    low, high = interval(np.array([0.0] * 19 + [1.0]))
    assert np.isinf([low, high]).all()


def test_a_layout_that_does_not_fit_is_refused() -> None:
    for cameras in ([1, 1], [3], [2, 0, 1], [2, 2]):
        with pytest.raises(ValueError, match="cells are not"):
            bootstrap_intervals(np.zeros((3, 1)), cameras)


@settings(max_examples=15, deadline=None)
@given(differences)
def test_turning_all_signs_turns_the_interval(values: Float) -> None:
    low, high = interval(values)
    turned = interval(-values)
    np.testing.assert_allclose(turned, (-high, -low), rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(differences, st.integers(-5, 5), st.sampled_from([0.5, 2.0, 4.0]))
def test_another_origin_and_unit_move_and_stretch_it(values: Float, shift: int, scale: float) -> None:
    low, high = interval(values)
    np.testing.assert_allclose(
        interval(scale * values + shift), (scale * low + shift, scale * high + shift), rtol=1e-6, atol=1e-6
    )


def test_means_over_cameras_come_before_means_over_clips() -> None:
    values = np.array([[1.0], [3.0], [8.0]])
    np.testing.assert_allclose(clip_means(values, [2, 1])[:, 0], [2.0, 8.0])
    mean, error = mean_and_error(values, [2, 1])
    assert (mean[0], error[0]) == (5.0, pytest.approx(stats.sem([2.0, 8.0])))
