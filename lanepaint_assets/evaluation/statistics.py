"""Paired statistics over clips: what a prompt does to a driver on average, how sure that is, and where nobody can tell.

The leaderboard and the chunk report call `summarize`. It says which contrasts there are and what their numbers mean;
intervals are `intervals.py`'s, tests `hypothesis_tests.py`'s, rows `outcomes.py`'s. No files, no pages.

What is claimed was fixed before any data: one primary line a prompt and driver (lateral shift at 3 s of every produced
edit, edit minus `repaint_as_measured`). Every other line is exploratory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.evaluation.driver_study import DriverStudy, driver_study
from lanepaint_assets.evaluation.hypothesis_tests import (
    MIN_CLIPS,
    SIGNIFICANCE,
    clips_needed,
    equivalence_p_value,
    false_discovery_q_values,
    sign_flip_p_values,
)
from lanepaint_assets.evaluation.intervals import bootstrap_intervals, clip_means
from lanepaint_assets.evaluation.outcomes import PromptOutcome

MetricName = Literal[
    "lateral_shift_1s_m",
    "lateral_shift_3s_m",
    "lateral_shift_5s_m",
    "lateral_shift_6_4s_m",
    "change_min_ade_m",
    "change_mean_ade_m",
    "change_medoid_ade_m",
    "change_min_fde_m",
    "ade_between_arms_m",
    "speed_change_mps",
    "reasoning_changed_share",
    "off_lane_change",
]
Contrast = Literal["edit - repaint_as_measured", "edit - original"]
Population = Literal["produced", "judge_passed"]
FamilyRole = Literal["primary", "exploratory"]
Verdict = Literal["effect", "no effect larger than the margin", "cannot tell"]

CONTROL_PROMPT = "repaint_as_measured"
PRIMARY_METRIC: MetricName = "lateral_shift_3s_m"
PRIMARY_CONTRAST: Contrast = "edit - repaint_as_measured"
PRIMARY_POPULATION: Population = "produced"
# A third of the play that a car has in a lane on either side, and what lane keeping itself varies by.
EQUIVALENCE_MARGIN_M = 0.1
STATED_EFFECTS_M = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Metric:
    """What is compared.

    Attributes:
        name: a field of `PromptOutcome`.
        words: for people.
        unit: `m`, `m/s` or `share`. Margin and stated effects are in metres and hold for nothing else.
        is_signed: False for distances: against the original they are never negative, so that 0 is no hypothesis.
    """

    name: MetricName
    words: str
    unit: Literal["m", "m/s", "share"]
    is_signed: bool = True


METRICS = (
    Metric("lateral_shift_3s_m", "lateral shift at 3 s", "m"),
    Metric("lateral_shift_1s_m", "lateral shift at 1 s", "m"),
    Metric("lateral_shift_5s_m", "lateral shift at 5 s", "m"),
    Metric("lateral_shift_6_4s_m", "lateral shift at 6.4 s", "m"),
    Metric("change_min_ade_m", "change of minADE", "m"),
    Metric("change_mean_ade_m", "change of mean ADE", "m"),
    Metric("change_medoid_ade_m", "change of medoid ADE", "m"),
    Metric("change_min_fde_m", "change of minFDE", "m"),
    Metric("ade_between_arms_m", "ADE between arms", "m", is_signed=False),
    Metric("speed_change_mps", "change of speed", "m/s"),
    Metric("reasoning_changed_share", "changed reasoning", "share", is_signed=False),
    Metric("off_lane_change", "change of off-lane share", "share"),
)


@dataclass(frozen=True)
class ClipsNeeded:
    """Clips that would show a true effect of `effect_m` in 80 of 100 studies; None for more than 900,000."""

    effect_m: float
    clips: int | None


@dataclass(frozen=True)
class ContrastSummary:
    """One line of the leaderboard. What there is no number for is None, and `reason` says why.

    Attributes:
        driver: who answered; lines never mix drivers.
        prompt_key, is_control, contrast, metric, population: what is compared.
        role: `primary` for what was claimed beforehand, else `exploratory`.
        clips, edits: n, the clips with both sides, and their edits (several cameras of a clip are one clip).
        mean: mean difference over clips; None for n = 0.
        low, high: 95 % confidence interval.
        deviation: standard deviation between clips.
        p_value: sign-flip test against no effect.
        q_value: Benjamini-Hochberg. Of a primary line over all primary lines, so that no exploratory metric changes
            what was claimed; of an exploratory line over all lines.
        equivalent, equivalence_p: whether the effect is shown to be smaller than the margin (TOST at 5 %).
        clips_needed: for each of `STATED_EFFECTS_M`, from `deviation`.
        verdict: in words.
        reason: what limits the line; None where nothing does.
    """

    driver: str
    prompt_key: str
    is_control: bool
    contrast: Contrast
    metric: MetricName
    population: Population
    role: FamilyRole
    clips: int
    edits: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    equivalent: bool | None = None
    equivalence_p: float | None = None
    clips_needed: tuple[ClipsNeeded, ...] = ()
    verdict: Verdict = "cannot tell"
    reason: str | None = None


@dataclass(frozen=True)
class StudySummary:
    """All lines, by driver, then prompt; and what holds for all lines of a driver."""

    lines: tuple[ContrastSummary, ...]
    drivers: tuple[DriverStudy, ...]


Place = tuple[str, str]


@dataclass(frozen=True)
class _Comparison:
    """A line before its numbers: clip and camera to the difference there, and how many edits have no other side."""

    line: ContrastSummary
    differences: Mapping[Place, float]
    unpaired: int

    @property
    def layout(self) -> tuple[int, ...]:
        """Cameras of each clip, in order of clips."""
        return tuple(Counter(clip for clip, _ in sorted(self.differences)).values())

    @property
    def column(self) -> NDArray[np.float64]:
        """Differences in order of clips and cameras, whatever the order of the input."""
        return np.array([self.differences[place] for place in sorted(self.differences)], dtype=np.float64)


def summarize(outcomes: Iterable[PromptOutcome]) -> StudySummary:
    """Every prompt against the control prompt and against the original, for every metric and population.

    Against the original, an outcome is a difference already. Against the control, the control's outcome on the same
    clip and camera is subtracted: what remains is the markings, without what any repainting does. The control must be
    of the same painter, grid, study seed and number of samples. Controls themselves are compared with the original
    only. Outdated outcomes are left out; several outcomes of one clip, camera, prompt and driver (of a clip that is in
    two chunks) count as their mean.
    """
    by_driver: defaultdict[str, list[PromptOutcome]] = defaultdict(list)
    for outcome in outcomes:
        by_driver[outcome.driver].append(outcome)
    comparisons: list[_Comparison] = []
    studies = []
    for driver in sorted(by_driver):
        comparisons += _comparisons(driver, [outcome for outcome in by_driver[driver] if not outcome.is_outdated])
        studies.append(driver_study(by_driver[driver]))
    return StudySummary(_corrected(_measured(comparisons)), tuple(studies))


def _comparisons(driver: str, outcomes: Sequence[PromptOutcome]) -> list[_Comparison]:
    by_prompt: defaultdict[str, list[PromptOutcome]] = defaultdict(list)
    for outcome in outcomes:
        by_prompt[outcome.prompt].append(outcome)
    control = by_prompt.get(CONTROL_PROMPT, [])
    found = []
    for prompt in sorted(by_prompt):
        produced = by_prompt[prompt]
        is_control = produced[0].is_control
        passed = [outcome for outcome in produced if outcome.judge_passed]
        populations: tuple[tuple[Population, list[PromptOutcome]], ...] = (
            ("produced", produced),
            ("judge_passed", passed),
        )
        for population, members in populations[: 1 if is_control else 2]:
            for metric in METRICS:
                edited = _by_place(_changes(members, metric.name))
                paired = _by_place(_changes_from(control, members, metric.name))
                contrasts: dict[Contrast, Mapping[Place, float]] = {"edit - original": edited}
                if not is_control:
                    contrasts = {"edit - repaint_as_measured": paired, **contrasts}
                for contrast, differences in contrasts.items():
                    is_primary = (contrast, metric.name, population) == (
                        PRIMARY_CONTRAST,
                        PRIMARY_METRIC,
                        PRIMARY_POPULATION,
                    )
                    line = ContrastSummary(
                        driver=driver,
                        prompt_key=prompt,
                        is_control=is_control,
                        contrast=contrast,
                        metric=metric.name,
                        population=population,
                        role="primary" if is_primary else "exploratory",
                        clips=len({clip for clip, _ in differences}),
                        edits=len(differences),
                        mean=None,
                    )
                    found.append(_Comparison(line, differences, len(edited) - len(differences)))
    return found


def _changes(outcomes: Iterable[PromptOutcome], metric: MetricName) -> Iterator[tuple[PromptOutcome, float]]:
    """Outcomes with their metric, where it was measured."""
    for outcome in outcomes:
        value: float | None = getattr(outcome, metric)
        if value is not None and isfinite(value):
            yield outcome, value


def _changes_from(
    control: Iterable[PromptOutcome], outcomes: Iterable[PromptOutcome], metric: MetricName
) -> Iterator[tuple[PromptOutcome, float]]:
    """Outcomes with their metric less that of a control made the same way: else more would differ than markings."""
    repainted: defaultdict[tuple[object, ...], list[float]] = defaultdict(list)
    for outcome, value in _changes(control, metric):
        repainted[_setup(outcome)].append(value)
    for outcome, value in _changes(outcomes, metric):
        controls = repainted.get(_setup(outcome))
        if controls:
            # A clip may lie in several chunks; their edits are averaged too.
            yield outcome, value - sum(controls) / len(controls)


def _setup(outcome: PromptOutcome) -> tuple[object, ...]:
    return (
        *(outcome.clip_id, outcome.camera, outcome.painter),
        *(outcome.clip_grid, outcome.study_seed, outcome.samples, outcome.edited_camera_only),
    )


def _by_place(values: Iterable[tuple[PromptOutcome, float]]) -> dict[Place, float]:
    """Clip and camera to the value there, the mean of several."""
    found: defaultdict[Place, list[float]] = defaultdict(list)
    for outcome, value in values:
        found[outcome.clip_id, outcome.camera].append(value)
    return {place: sum(several) / len(several) for place, several in found.items()}


def _measured(comparisons: Sequence[_Comparison]) -> list[ContrastSummary]:
    """The lines with all numbers that need no other line; those with the same clips are resampled together."""
    by_layout: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, comparison in enumerate(comparisons):
        by_layout[comparison.layout].append(index)
    lines = [comparison.line for comparison in comparisons]
    for layout, indices in by_layout.items():
        chosen = [comparisons[index] for index in indices]
        if len(layout) < MIN_CLIPS:
            for index, comparison in zip(indices, chosen, strict=True):
                lines[index] = _too_few(comparison)
            continue
        values = np.stack([comparison.column for comparison in chosen], axis=1)
        means = clip_means(values, layout)
        lows, highs = bootstrap_intervals(values, layout)
        p_values = sign_flip_p_values(means)
        for number, (index, comparison) in enumerate(zip(indices, chosen, strict=True)):
            lines[index] = _line(comparison, means[:, number], lows[number], highs[number], p_values[number])
    return lines


def _too_few(comparison: _Comparison) -> ContrastSummary:
    line, layout = comparison.line, comparison.layout
    reasons = [f"n = {line.clips}: below {MIN_CLIPS} clips no test can reach 5 %"]
    if line.clips == 0 and comparison.unpaired:
        reasons = ["n = 0: no clip has both the edit and its control"]
    elif line.clips == 0:
        reasons = ["n = 0: no clip has this number"]
    elif comparison.unpaired:
        reasons.append(_left_out(comparison.unpaired))
    mean = float(clip_means(comparison.column[:, None], layout).mean()) if layout else None
    return replace(line, mean=mean, reason="; ".join(reasons))


def _line(
    comparison: _Comparison, means: NDArray[np.float64], low: float, high: float, p_value: float
) -> ContrastSummary:
    """A line with at least `MIN_CLIPS` clips: all but what depends on other lines."""
    metric = next(metric for metric in METRICS if metric.name == comparison.line.metric)
    against_zero = metric.is_signed or comparison.line.contrast != "edit - original"
    in_metres = metric.unit == "m" and against_zero
    reasons = []
    has_interval = bool(np.isfinite([low, high]).all())
    most = Counter(means.tolist()).most_common(1)[0][1]
    if most == means.size:
        reasons.append(f"all {most} differences are equal")
    elif not has_interval:
        reasons.append(f"no interval: {most} of {means.size} differences are equal, too many to resample")
    if not against_zero:
        reasons.append("a distance is never negative: compare it with the control's and with the noise floor")
    if comparison.unpaired:
        reasons.append(_left_out(comparison.unpaired))
    deviation = float(means.std(ddof=1))
    equivalence_p = equivalence_p_value(means, EQUIVALENCE_MARGIN_M) if in_metres else None
    return replace(
        comparison.line,
        mean=float(means.mean()),
        low=float(low) if has_interval else None,
        high=float(high) if has_interval else None,
        deviation=deviation,
        p_value=float(p_value) if against_zero else None,
        equivalent=None if equivalence_p is None else equivalence_p < SIGNIFICANCE,
        equivalence_p=equivalence_p,
        clips_needed=tuple(ClipsNeeded(effect, clips_needed(deviation, effect)) for effect in STATED_EFFECTS_M)
        if in_metres
        else (),
        reason="; ".join(reasons) or None,
    )


def _left_out(unpaired: int) -> str:
    return f"{unpaired} edit{'s' * (unpaired > 1)} without a control left out"


def _corrected(lines: Sequence[ContrastSummary]) -> tuple[ContrastSummary, ...]:
    """The lines with q-values and verdicts."""
    tested = [index for index, line in enumerate(lines) if line.p_value is not None]
    primary = [index for index in tested if lines[index].role == "primary"]
    q_values: dict[int, float] = {}
    # Primary lines come last: their family is their own.
    for family in (tested, primary):
        p_values = [p for index in family if (p := lines[index].p_value) is not None]
        q_values |= dict(zip(family, false_discovery_q_values(p_values), strict=True))
    return tuple(_judged(line, q_values.get(index)) for index, line in enumerate(lines))


def _judged(line: ContrastSummary, q_value: float | None) -> ContrastSummary:
    verdict: Verdict = "cannot tell"
    reason = line.reason
    if q_value is not None and q_value < SIGNIFICANCE:
        verdict = "effect"
        if line.equivalent:
            small = f"an effect, but smaller than {EQUIVALENCE_MARGIN_M:g} m"
            reason = small if reason is None else f"{small}; {reason}"
    elif line.equivalent:
        verdict = "no effect larger than the margin"
    return replace(line, q_value=q_value, verdict=verdict, reason=reason)
