"""The rules that decide which samples a subset keeps (spec 8), and how many samples each rule removed.

Called by `filter_steps.py` and the dataset commands. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.training.samples import TrainingSample

# In the order that they are asked: a sample counts for the first rule that removes it.
RULES = ("caption", "clear_road", "count", "color", "pattern", "confidence", "mask_share")

RULE_MEANING = {
    "caption": "the prompt is no normalized caption",
    "clear_road": "an attribute is unknown",
    "count": "another count",
    "color": "another colour",
    "pattern": "another pattern",
    "confidence": "the inspector was less sure",
    "mask_share": "the road takes less of the picture",
}


class MissingFactError(ValueError):
    """A rule asks for something that is not known of a sample; the message says which and what helps."""


@dataclass(frozen=True)
class SampleFilter:
    """What a subset keeps.

    Attributes:
        count, color, pattern: None for any.
        require_clear_road: remove samples with an unknown attribute, also one that may be any.
        min_confidence: 0..1, of the inspector.
        min_mask_share: 0..1, share of the picture that is road.
    """

    count: Count | None = None
    color: Color | None = None
    pattern: Pattern | None = None
    require_clear_road: bool = True
    min_confidence: float = 0.0
    min_mask_share: float = 0.0


@dataclass(frozen=True)
class Filtered:
    """What is left, and why the others are not.

    Attributes:
        kept: in the order given.
        removed: rule to samples that it removed, the first rule counting; every rule is named.
        fails: rule to samples that break it, whatever other rules say of them.
    """

    kept: tuple[TrainingSample, ...]
    removed: Mapping[str, int] = field(default_factory=dict)
    fails: Mapping[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many there were."""
        return len(self.kept) + sum(self.removed.values())


def filter_samples(
    samples: Sequence[TrainingSample],
    rules: SampleFilter,
    mask_share: Callable[[TrainingSample], float] | None = None,
) -> Filtered:
    """Apply all rules to all samples.

    Args:
        mask_share: measures what a sample without facts does not say; asked only where the rule needs it.

    Raises:
        MissingFactError: a rule asks for a fact that a sample lacks.
    """
    kept = []
    removed, fails = dict.fromkeys(RULES, 0), dict.fromkeys(RULES, 0)
    for sample in samples:
        broken = broken_rules(sample, rules, mask_share)
        for rule in broken:
            fails[rule] += 1
        if broken:
            removed[broken[0]] += 1
        else:
            kept.append(sample)
    return Filtered(tuple(kept), removed, fails)


def broken_rules(
    sample: TrainingSample, rules: SampleFilter, mask_share: Callable[[TrainingSample], float] | None = None
) -> list[str]:
    """The rules that remove one sample, in the order of `RULES`; see `filter_samples`."""
    try:
        style: LaneStyle | None = sample.style
    except ValueError:
        style = None
    broken = []
    if style is None:
        broken.append("caption")
    else:
        if rules.require_clear_road and not style.is_known:
            broken.append("clear_road")
        wanted = {"count": rules.count, "color": rules.color, "pattern": rules.pattern}
        stated = {"count": style.count, "color": style.color, "pattern": style.pattern}
        broken += [name for name, value in wanted.items() if value is not None and value != stated[name]]
    if rules.min_confidence > 0 and _confidence(sample) < rules.min_confidence:
        broken.append("confidence")
    if rules.min_mask_share > 0 and _mask_share(sample, mask_share) < rules.min_mask_share:
        broken.append("mask_share")
    return broken


def _confidence(sample: TrainingSample) -> float:
    if sample.facts is None:
        raise MissingFactError(
            f"the confidence of {sample.image} is not known: facts.csv beside train.csv has no row of it; filter "
            "without a minimum confidence"
        )
    return sample.facts.confidence


def _mask_share(sample: TrainingSample, measure: Callable[[TrainingSample], float] | None) -> float:
    if sample.facts is not None:
        return sample.facts.mask_share
    if measure is None:
        raise MissingFactError(f"how much of {sample.image} is road is not known")
    return measure(sample)


def removal_sentence(samples: int, removed: Mapping[str, int]) -> str:
    """For people: `of 40 samples, clear_road removed 3 (an attribute is unknown), count removed 37 (another count)`."""
    parts = [f"{rule} removed {count} ({RULE_MEANING[rule]})" for rule in RULES if (count := removed.get(rule, 0))]
    return f"of {samples} samples, {', '.join(parts) or 'none was removed'}"
