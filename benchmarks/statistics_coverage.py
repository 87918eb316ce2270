"""Whether the leaderboard's statistics keep what they promise: synthetic studies with a known truth, thousands of them.

A study is one paired difference a clip: an effect plus noise. Counted are intervals that hold the truth, tests that
find an effect where there is none, claims of equivalence that are wrong, and studies of the promised size that find
what they were made for. The functions are the leaderboard's own, with its own seeds; other bootstraps stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Outcome, command_line, report
from lanepaint_assets.evaluation.hypothesis_tests import (
    SIGNIFICANCE,
    clips_needed,
    equivalence_p_value,
    false_discovery_q_values,
    sign_flip_p_values,
)
from lanepaint_assets.evaluation.intervals import CONFIDENCE_LEVEL, RESAMPLES, bootstrap_intervals, clip_means
from lanepaint_assets.evaluation.statistics import CONTROL_PROMPT, EQUIVALENCE_MARGIN_M, summarize
from lanepaint_assets_tests.unit.evaluation.outcome_rows import outcome

NAME = "statistics_coverage"

Float = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Float]

SEED = 20_261
REPETITIONS = 4000
# Spread of paired lateral shifts between clips in a public comparison, and the effect that 117 clips should show.
EFFECT_M, DEVIATION_M = 0.2, 0.77
CLIPS = 117
FEWER_CLIPS = (50, 20)
# 4,000 studies take 0.4 GB at once.
STUDIES_AT_ONCE = 500
# What stands beside the leaderboard's own: the usual bootstraps, and its own without the symmetry.
OTHERS = ("percentile", "BCa", "equal tails", "Student's t")
# A leaderboard as large as anyone has made: prompts, clips.
LARGE_STUDY = (10, 500)
PROMPTS = 10


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Noise of unit variance, as the acceptance asks for."""
    return rng.normal(0.0, 1.0, shape)


def heavy_tailed(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Student's t with 3 degrees of freedom, scaled to unit variance: a few clips move a lot."""
    noise: Float = rng.standard_t(3, shape) / np.sqrt(3.0)
    return noise


def mostly_none(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Seven of ten clips do not react at all, the others make unit variance."""
    noise: Float = rng.normal(0.0, 1.0, shape) * (rng.random(shape) < 0.3) / np.sqrt(0.3)
    return noise


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Exponential with mean 0 and unit variance: all that react move to one side."""
    return rng.exponential(1.0, shape) - 1.0


def intervals_of(studies: Float, cameras: list[int]) -> tuple[Float, Float]:
    """The leaderboard's intervals of (cells, R) studies."""
    parts = [
        bootstrap_intervals(studies[:, first : first + STUDIES_AT_ONCE], cameras)
        for first in range(0, studies.shape[1], STUDIES_AT_ONCE)
    ]
    return np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts])


def other_bootstraps(studies: Float) -> dict[str, tuple[Float, Float]]:
    """Percentile, BCa and equal-tailed studentized intervals of (n, R) studies, and those of Student's t.

    Source: Efron, "Better Bootstrap Confidence Intervals", 1987; Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, 12.5.
    """
    clips = len(studies)
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLES) / clips
    tail = (1 - CONFIDENCE_LEVEL) / 2
    found: dict[str, list[tuple[Float, Float]]] = {name: [] for name in OTHERS}
    for first in range(0, studies.shape[1], STUDIES_AT_ONCE):
        part = studies[:, first : first + STUDIES_AT_ONCE]
        mean = part.mean(axis=0)
        means = np.sort(weights @ part, axis=0)
        found["percentile"].append((means[round(tail * RESAMPLES)], means[round((1 - tail) * RESAMPLES) - 1]))
        bias = stats.norm.ppf((means < mean).mean(axis=0))
        cubes, squares = ((part - mean) ** 3).sum(axis=0), ((part - mean) ** 2).sum(axis=0)
        acceleration = cubes / (6 * squares**1.5)
        ends = []
        for quantile in (tail, 1 - tail):
            shifted = bias + stats.norm.ppf(quantile)
            rank = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)) * RESAMPLES
            ends.append(np.take_along_axis(means, np.clip(rank, 0, RESAMPLES - 1).astype(np.int64)[None], axis=0)[0])
        found["BCa"].append((ends[0], ends[1]))
        error = part.std(axis=0, ddof=1) / np.sqrt(clips)
        distance = weights @ (part - mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = distance / np.sqrt((weights @ (part - mean) ** 2 - distance**2) / (clips - 1))
        ratios = np.sort(np.nan_to_num(ratios, nan=0.0, posinf=np.inf, neginf=-np.inf), axis=0)
        within = round(tail * RESAMPLES)
        found["equal tails"].append((mean - ratios[-within] * error, mean - ratios[within - 1] * error))
        half = stats.t.ppf(1 - tail, clips - 1) * error
        found["Student's t"].append((mean - half, mean + half))
    return {
        name: (np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts]))
        for name, parts in found.items()
    }


def covering(interval: tuple[Float, Float], truth: float) -> float:
    """Per cent of intervals that hold the truth."""
    low, high = interval
    return 100.0 * float(((low <= truth) & (truth <= high)).mean())


def measure(rounds: int, repetitions: int = REPETITIONS) -> Outcome:
    """All figures; those with a target are the acceptance's: 117 clips, 0.2 m, normal noise of 0.77 m."""
    outcome = Outcome()
    rng = np.random.default_rng(SEED)
    for clips in (CLIPS, *FEWER_CLIPS):
        _one_camera(outcome, rng, clips, repetitions, is_accepted_on=clips == CLIPS)
    for noise in (heavy_tailed, mostly_none, skewed):
        for clips in (CLIPS, *FEWER_CLIPS):
            _other_noise(outcome, rng, noise, clips, repetitions)
    _two_cameras(outcome, rng, repetitions)
    _families(outcome, rng, repetitions)
    _equivalence(outcome, rng, repetitions)
    _promised_power(outcome, rng, repetitions)
    prompts, clips = LARGE_STUDY
    seconds = [_timed(prompts, clips) for _ in range(rounds)]
    outcome.add(f"leaderboard of {prompts} prompts and {clips} clips, all metrics", median(seconds), "s", "lower")
    return outcome


def _one_camera(
    outcome: Outcome, rng: np.random.Generator, clips: int, repetitions: int, *, is_accepted_on: bool
) -> None:
    """Coverage with the effect, false positives without it."""
    target = 1.0 if is_accepted_on else None
    studies = EFFECT_M + DEVIATION_M * normal(rng, (clips, repetitions))
    others = {name: covering(ends, EFFECT_M) for name, ends in other_bootstraps(studies).items()}
    covered = covering(intervals_of(studies, [1] * clips), EFFECT_M)
    outcome.add(f"interval covers the truth, n = {clips}", covered, "%", "higher", baseline=others["percentile"])
    outcome.add(f"its distance from 95 %, n = {clips}", abs(covered - 95), "points", "lower", target=target)
    for name in OTHERS[1:]:
        outcome.add(f"for comparison: {name} covers the truth, n = {clips}", others[name], "%", "higher")
    nothing = DEVIATION_M * normal(rng, (clips, repetitions))
    false = 100.0 * float((sign_flip_p_values(nothing) < SIGNIFICANCE).mean())
    outcome.add(f"false positives of the test without effect, n = {clips}", false, "%", "lower")
    outcome.add(f"their distance from 5 %, n = {clips}", abs(false - 5), "points", "lower", target=target)
    excluded = 100.0 - covering(intervals_of(nothing, [1] * clips), 0.0)
    outcome.add(f"intervals without 0 without effect, n = {clips}", excluded, "%", "lower")
    outcome.add(f"their distance from 5 %, intervals, n = {clips}", abs(excluded - 5), "points", "lower", target=target)
    found = 100.0 * float((sign_flip_p_values(studies) < SIGNIFICANCE).mean())
    outcome.add(f"effects of {EFFECT_M:g} m found, n = {clips}", found, "%", "higher")


def _other_noise(outcome: Outcome, rng: np.random.Generator, noise: Noise, clips: int, repetitions: int) -> None:
    name = noise.__name__.replace("_", " ")
    studies = EFFECT_M + DEVIATION_M * noise(rng, (clips, repetitions))
    low, high = intervals_of(studies, [1] * clips)
    named = np.isfinite(high - low)
    others = {of: covering(ends, EFFECT_M) for of, ends in other_bootstraps(studies).items()}
    covered = covering((low[named], high[named]), EFFECT_M)
    what = f"interval covers the truth, {name} noise, n = {clips}"
    outcome.add(what, covered, "%", "higher", baseline=others["percentile"])
    for of in OTHERS[1:]:
        outcome.add(f"for comparison: {of}, {name} noise, n = {clips}", others[of], "%", "higher")
    if not named.all():
        outcome.add(f"no interval, {name} noise, n = {clips}", 100.0 * float((~named).mean()), "%", "lower")
    nothing = DEVIATION_M * noise(rng, (clips, repetitions))
    false = 100.0 * float((sign_flip_p_values(nothing) < SIGNIFICANCE).mean())
    outcome.add(f"false positives, {name} noise, n = {clips}", false, "%", "lower")


def _two_cameras(outcome: Outcome, rng: np.random.Generator, repetitions: int) -> None:
    """One or two cameras a clip, that differ as much as clips do."""
    cameras = [1 + clip % 2 for clip in range(CLIPS)]
    of_clip = np.repeat(normal(rng, (CLIPS, repetitions)), cameras, axis=0)
    noise = DEVIATION_M * np.sqrt(0.5) * (of_clip + normal(rng, of_clip.shape))
    covered = covering(intervals_of(EFFECT_M + noise, cameras), EFFECT_M)
    outcome.add(f"interval covers the truth, 1 or 2 cameras a clip, n = {CLIPS}", covered, "%", "higher")
    false = 100.0 * float((sign_flip_p_values(clip_means(noise, cameras)) < SIGNIFICANCE).mean())
    outcome.add(f"false positives, 1 or 2 cameras a clip, n = {CLIPS}", false, "%", "lower")


def _families(outcome: Outcome, rng: np.random.Generator, repetitions: int) -> None:
    """Ten prompts that share a control, none with an effect, and how often any looks as if it had one."""
    control = normal(rng, (CLIPS, repetitions, 1))
    noise = DEVIATION_M * np.sqrt(0.5) * (normal(rng, (CLIPS, repetitions, PROMPTS)) - control)
    p_values = sign_flip_p_values(noise.reshape(CLIPS, -1)).reshape(repetitions, PROMPTS)
    uncorrected = 100.0 * float((p_values.min(axis=1) < SIGNIFICANCE).mean())
    q_values = np.array([false_discovery_q_values(row) for row in p_values.tolist()])
    corrected = 100.0 * float((q_values.min(axis=1) < SIGNIFICANCE).mean())
    outcome.add(
        f"studies with any false effect among {PROMPTS} prompts, n = {CLIPS}",
        corrected,
        "%",
        "lower",
        baseline=uncorrected,
    )


def _equivalence(outcome: Outcome, rng: np.random.Generator, repetitions: int) -> None:
    """An effect as large as the margin must be called smaller in at most 5 % of studies."""
    studies = EQUIVALENCE_MARGIN_M + 0.3 * normal(rng, (CLIPS, repetitions))
    wrong = np.mean([equivalence_p_value(study, EQUIVALENCE_MARGIN_M) < SIGNIFICANCE for study in studies.T])
    outcome.add(f"effects of the margin called smaller, n = {CLIPS}", 100.0 * float(wrong), "%", "lower")


def _promised_power(outcome: Outcome, rng: np.random.Generator, repetitions: int) -> None:
    """Studies of as many clips as are said to be needed must find the effect in 80 of 100."""
    clips = clips_needed(DEVIATION_M, EFFECT_M)
    assert clips is not None
    studies = EFFECT_M + DEVIATION_M * normal(rng, (clips, repetitions))
    found = 100.0 * float((sign_flip_p_values(studies) < SIGNIFICANCE).mean())
    outcome.add(f"clips said to be needed for {EFFECT_M:g} m", clips, "clips", "lower")
    outcome.add("effects found with that many clips", found, "%", "higher")


def _timed(prompts: int, clips: int) -> float:
    """Seconds of one `summarize`, of outcomes in which every metric was measured."""
    rng = np.random.default_rng(SEED)
    names = (
        "change_min_ade_m",
        "change_mean_ade_m",
        "change_medoid_ade_m",
        "change_min_fde_m",
        "ade_between_arms_m",
        "lateral_shift_1s_m",
        "lateral_shift_3s_m",
        "lateral_shift_5s_m",
        "lateral_shift_6_4s_m",
        "speed_change_mps",
        "reasoning_changed_share",
        "off_lane_change",
    )
    outcomes = []
    for prompt in (CONTROL_PROMPT, *(f"prompt_{number:02d}" for number in range(prompts))):
        numbers = DEVIATION_M * normal(rng, (clips, len(names)))
        outcomes += [
            outcome(
                clip,
                prompt,
                # The judge turns down other clips of every prompt: no two populations are the same.
                judge_passed=bool(rng.random() < 0.8),
                **dict(zip(names, row, strict=True)),
            )
            for clip, row in enumerate(numbers.tolist())
        ]
    started = perf_counter()
    summarize(outcomes)
    return perf_counter() - started


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    report(NAME, measure(options.rounds, options.repetitions), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Coverage, false positives and power of the leaderboard's statistics.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="synthetic studies (default %(default)s)")
    main(parser.parse_args())
