"""The leaderboard's statistics on synthetic studies with a known truth; the full count is the benchmark's."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics_coverage import CLIPS, DEVIATION_M, EFFECT_M, covering, intervals_of, other_bootstraps
from lanepaint_assets.evaluation.hypothesis_tests import SIGNIFICANCE, sign_flip_p_values


@pytest.mark.slow
def test_intervals_cover_the_truth_and_tests_find_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(8)
    noise = DEVIATION_M * rng.normal(0.0, 1.0, (CLIPS, 1500))
    # 1,500 studies scatter by 0.56 points: three of those around 95 and 5 %.
    assert covering(intervals_of(EFFECT_M + noise, [1] * CLIPS), EFFECT_M) == pytest.approx(95.0, abs=1.7)
    assert 100.0 * (sign_flip_p_values(noise) < SIGNIFICANCE).mean() == pytest.approx(5.0, abs=1.7)


def test_the_intervals_that_stand_beside_are_those_of_scipy() -> None:
    from scipy import stats

    studies = np.random.default_rng(9).exponential(1.0, (30, 2))
    found = other_bootstraps(studies)
    for name, method in (("percentile", "percentile"), ("BCa", "BCa")):
        for column in range(2):
            expected = stats.bootstrap(
                (studies[:, column],), np.mean, method=method, rng=np.random.default_rng(0)
            ).confidence_interval
            low, high = found[name]
            assert (low[column], high[column]) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert covering((np.array([0.0, 2.0]), np.array([1.0, 3.0])), 0.5) == 50.0
