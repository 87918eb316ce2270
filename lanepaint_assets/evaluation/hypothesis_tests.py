"""Tests on paired differences of clips: is there an effect, is it smaller than a margin, how many clips would show it.

`statistics.py` and the benchmark call these with one number a clip. Intervals are `intervals.py`'s; what a result means
for a prompt is `statistics.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

Float = NDArray[np.float64]

SIGNIFICANCE = 0.05
POWER = 0.8
# With 5 clips the smallest p-value that sign flips can give is 2 / 2^5 = 0.06: nothing can be significant.
MIN_CLIPS = 6
# p-values near 0.05 then scatter by 0.002 between seeds. All flips are tried where they are fewer: up to 13 clips.
FLIPS = 9999
# Fixed, so that the same results give the same table.
FLIP_SEED = 2
_FLIPPED_AT_ONCE = 1000
# Sums that differ by rounding alone count as equal, as in SciPy.
_ROUNDING = 1e-14
# Effects of 1.5 standard deviations show with `MIN_CLIPS`; for those of 0.003 nobody films 900,000 clips.
_LARGEST_RATIO, _SMALLEST_RATIO = 1.5, 3e-3


def sign_flip_p_values(differences: Float) -> Float:
    """Two-sided p-values of the hypothesis that differences are as often positive as negative, at each size.

    The sizes of all means under flipped signs, 9,999 random ones or all 2^n, against the size of the mean.

    Args:
        differences: (n, L) of L contrasts over the same n clips.

    Returns:
        (L,) in (0, 1]; random flips count the data as one of them, so that none is 0.

    Source: Phipson and Smyth, "Permutation P-values should never be zero", 2010; equals `scipy.stats.permutation_test`
    with `permutation_type="samples"` on `abs(mean)` where all flips are tried.
    """
    count = len(differences)
    observed = np.abs(differences.sum(axis=0))
    tolerance = _ROUNDING * np.abs(differences).sum(axis=0)
    reached = np.zeros(differences.shape[1])
    for signs in _signs(count):
        reached += (np.abs(signs @ differences) >= observed - tolerance).sum(axis=0)
    p_values: Float = reached / 2**count if _all_are_tried(count) else (reached + 1) / (FLIPS + 1)
    return p_values


def _all_are_tried(count: int) -> bool:
    return bool(2**count <= FLIPS + 1)


def _signs(count: int) -> Iterator[Float]:
    """(flips, count) of -1 and 1, some at a time: 40 MB for 5,000 clips."""
    rng = np.random.default_rng(FLIP_SEED)
    total = 2**count if _all_are_tried(count) else FLIPS
    for first in range(0, total, _FLIPPED_AT_ONCE):
        drawn = np.arange(first, min(first + _FLIPPED_AT_ONCE, total))
        if _all_are_tried(count):
            bits = drawn[:, None] >> np.arange(count) & 1
        else:
            bits = rng.integers(0, 2, (len(drawn), count), dtype=np.int8)
        yield (1 - 2 * bits).astype(np.float64)


def equivalence_p_value(differences: Float, margin: float) -> float:
    """p-value of two one-sided t-tests (TOST) that the mean of (n >= 2,) differences lies within +-`margin`.

    Small where the effect is shown to be smaller than the margin; a large one shows nothing.
    """
    mean = float(differences.mean())
    if np.ptp(differences) <= _ROUNDING * abs(mean):
        return 0.0 if abs(mean) < margin else 1.0
    return float(DescrStatsW(differences).ttost_mean(-margin, margin)[0])


def false_discovery_q_values(p_values: Sequence[float]) -> tuple[float, ...]:
    """Benjamini-Hochberg: the share of false discoveries where this and all smaller p-values are believed."""
    if not p_values:
        return ()
    return tuple(float(q) for q in multipletests(p_values, method="fdr_bh")[1])


def clips_needed(standard_deviation: float, effect: float) -> int | None:
    """Clips that a two-sided paired t-test at 5 % needs to show `effect` in 80 of 100 studies.

    Args:
        standard_deviation: of the differences between clips, at least 0.
        effect: true mean difference, above 0, in the same unit.

    Returns:
        At least `MIN_CLIPS`; None for more than 900,000.
    """
    ratio = effect / standard_deviation if standard_deviation > 0 else _LARGEST_RATIO
    if ratio >= _LARGEST_RATIO:
        return MIN_CLIPS
    if ratio <= _SMALLEST_RATIO:
        return None
    # Student's t asks for up to 2.3 clips more than the normal distribution; trying those is ten times as fast as
    # statsmodels' own search.
    at_normal = ceil(((norm.ppf(1 - SIGNIFICANCE / 2) + norm.ppf(POWER)) / ratio) ** 2)
    candidates = at_normal + np.arange(4)
    reaches = TTestPower().power(ratio, candidates, SIGNIFICANCE) >= POWER
    return max(MIN_CLIPS, int(candidates[reaches.argmax()]))
