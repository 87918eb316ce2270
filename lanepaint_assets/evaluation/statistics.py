"""Paired statistics over clips: what a prompt does to the driver on average, and how sure that is.

The leaderboard and the reports call `summarize`. One number a clip and prompt goes in (`metrics.py` makes them); no
files, no tables, no wording for people beyond the reason of a missing interval.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from lanepaint_assets.evaluation.results import InferenceResult

Metric = Literal["min_ade_m", "lateral_shift_3s_m", "ade_between_arms_m"]
Contrast = Literal["edit - original", "edit - repaint_as_measured"]

METRICS: tuple[Metric, ...] = ("min_ade_m", "lateral_shift_3s_m", "ade_between_arms_m")
CONTROL_PROMPT = "repaint_as_measured"
CONFIDENCE_LEVEL = 0.95
# The ends of the interval then vary by about 1 % of its width between seeds.
RESAMPLES = 9999
# Fixed, so that the same results give the same table.
BOOTSTRAP_SEED = 1


@dataclass(frozen=True)
class PromptOutcome:
    """What one edit did to the driver, edited arm minus original arm.

    Attributes:
        clip_id: the statistical unit; several cameras of a clip are averaged first.
        camera_name, prompt_key: which edit.
        min_ade_m: change of minADE; None without ground truth.
        lateral_shift_3s_m: left positive.
        ade_between_arms_m: mean displacement between paired samples, never negative.
    """

    clip_id: str
    camera_name: str
    prompt_key: str
    min_ade_m: float | None
    lateral_shift_3s_m: float
    ade_between_arms_m: float

    @classmethod
    def of(cls, result: InferenceResult) -> PromptOutcome:
        """The outcome of one `*_inference.json`."""
        original, edited = result.original_min_ade, result.min_ade_meters
        return cls(
            clip_id=result.clip_id,
            camera_name=result.camera_name,
            prompt_key=result.prompt_key,
            min_ade_m=None if original is None or edited is None else edited - original,
            lateral_shift_3s_m=result.divergence.lateral_at(3.0),
            ade_between_arms_m=result.divergence.ade_m,
        )

    def value(self, metric: Metric) -> float | None:
        """The number of one metric; None where it could not be measured."""
        values: dict[Metric, float | None] = {
            "min_ade_m": self.min_ade_m,
            "lateral_shift_3s_m": self.lateral_shift_3s_m,
            "ade_between_arms_m": self.ade_between_arms_m,
        }
        return values[metric]


@dataclass(frozen=True)
class ContrastSummary:
    """One line of the leaderboard.

    Attributes:
        prompt_key, contrast, metric: what is compared.
        clips: n, the clips that have both sides.
        mean: mean difference over clips; None for n = 0.
        low, high: bootstrap 95 % confidence interval of the mean; None where there is none.
        reason: why there is no interval, or what is special about it; None where nothing is.
    """

    prompt_key: str
    contrast: Contrast
    metric: Metric
    clips: int
    mean: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """True where the interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Interval:
    """A confidence interval, or the reason why there is none."""

    low: float | None
    high: float | None
    reason: str | None = None


def summarize(outcomes: Iterable[PromptOutcome], control_prompt: str = CONTROL_PROMPT) -> tuple[ContrastSummary, ...]:
    """Every prompt against the original and against the control prompt, for every metric, in order of prompt key.

    Against the original, an outcome is a difference already. Against the control, the control's outcome on the same
    clip is subtracted: what remains is the style, without what any repainting does. The control has no such line.

    Args:
        outcomes: at most one a clip, camera and prompt.
        control_prompt: key of the prompt that repaints what is there.
    """
    by_prompt: defaultdict[str, list[PromptOutcome]] = defaultdict(list)
    for outcome in outcomes:
        by_prompt[outcome.prompt_key].append(outcome)
    summaries = []
    for prompt_key in sorted(by_prompt):
        for metric in METRICS:
            edited = _by_place(by_prompt[prompt_key], metric)
            summaries.append(_summary(prompt_key, "edit - original", metric, edited))
            if prompt_key != control_prompt:
                control = _by_place(by_prompt.get(control_prompt, []), metric)
                paired = {place: value - control[place] for place, value in edited.items() if place in control}
                summaries.append(_summary(prompt_key, "edit - repaint_as_measured", metric, paired))
    return tuple(summaries)


def bootstrap_interval(differences: NDArray[np.float64]) -> Interval:
    """95 % bias-corrected and accelerated bootstrap interval of the mean of (n,) independent differences.

    Source: Efron, "Better Bootstrap Confidence Intervals", 1987; SciPy's implementation.
    """
    count = differences.size
    if count < 2:
        return Interval(None, None, f"n = {count}: an interval needs at least 2 clips")
    if float(np.ptp(differences)) == 0.0:
        value = float(differences[0])
        return Interval(value, value, f"all {count} differences are equal")
    # A sample that resampling cannot vary gives NaN, which is answered below with a reason instead.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE_LEVEL,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        )
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    if not np.isfinite([low, high]).all():
        return Interval(None, None, f"the bootstrap of these {count} differences is degenerate")
    return Interval(low, high)


def _by_place(outcomes: list[PromptOutcome], metric: Metric) -> dict[tuple[str, str], float]:
    """Clip and camera to the metric, where it was measured."""
    values = {(outcome.clip_id, outcome.camera_name): outcome.value(metric) for outcome in outcomes}
    return {place: value for place, value in values.items() if value is not None}


def _summary(
    prompt_key: str, contrast: Contrast, metric: Metric, differences: Mapping[tuple[str, str], float]
) -> ContrastSummary:
    """One line: cameras averaged within a clip, then clips."""
    by_clip: defaultdict[str, list[float]] = defaultdict(list)
    for (clip_id, _), value in differences.items():
        by_clip[clip_id].append(value)
    # Sorted, so that the bootstrap draws the same clips whatever the order of the input.
    values = np.array([float(np.mean(by_clip[clip_id])) for clip_id in sorted(by_clip)], dtype=np.float64)
    interval = bootstrap_interval(values)
    return ContrastSummary(
        prompt_key=prompt_key,
        contrast=contrast,
        metric=metric,
        clips=values.size,
        mean=float(values.mean()) if values.size else None,
        low=interval.low,
        high=interval.high,
        reason=interval.reason,
    )
