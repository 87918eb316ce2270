"""The rules that decide which samples a subset keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.training.filters import (
    RULES,
    MissingFactError,
    SampleFilter,
    broken_rules,
    filter_samples,
    removal_sentence,
)
from lanepaint_assets.training.samples import SampleFacts, TrainingSample


def sample(caption: str, confidence: float = 0.9, mask_share: float = 0.3) -> TrainingSample:
    facts = SampleFacts("chunk_0001", "a.front", "f" * 64, "e/1", 0, 0, confidence, mask_share, "0" * 16)
    return TrainingSample("images/a.png", "masks/a.png", caption, caption, facts)


def caption(count: str = "single", color: str = "white", pattern: str = "solid") -> str:
    return f"road with {count} {color} {pattern} lane markings"


WANTED = SampleFilter(Count.SINGLE, Color.WHITE, Pattern.SOLID, min_confidence=0.5, min_mask_share=0.1)


@pytest.mark.parametrize(
    ("given_sample", "broken"),
    [
        (sample(caption()), []),
        (sample(caption(count="double")), ["count"]),
        (sample(caption(color="mixed")), ["color"]),
        (sample(caption(pattern="dashed")), ["pattern"]),
        (sample(caption(count="unknown")), ["clear_road", "count"]),
        (sample(caption(), confidence=0.49), ["confidence"]),
        (sample(caption(), mask_share=0.0), ["mask_share"]),
        (sample("a lovely road"), ["caption"]),
        (
            sample(caption("double", "yellow", "dashed"), 0.0, 0.0),
            ["count", "color", "pattern", "confidence", "mask_share"],
        ),
    ],
)
def test_each_rule_removes_what_it_is_about(given_sample: TrainingSample, broken: list[str]) -> None:
    assert broken_rules(given_sample, WANTED) == broken


def test_any_keeps_every_value_and_unknown_only_where_the_road_need_not_be_clear() -> None:
    any_style = SampleFilter()
    assert not broken_rules(sample(caption("double", "mixed", "dashed")), any_style)
    assert broken_rules(sample(caption(pattern="unknown")), any_style) == ["clear_road"]
    assert not broken_rules(sample(caption(pattern="unknown")), SampleFilter(require_clear_road=False))


STYLES = st.builds(LaneStyle, st.sampled_from(Count), st.sampled_from(Color), st.sampled_from(Pattern))
SAMPLES = st.builds(
    sample,
    st.one_of(STYLES.map(lambda style: style.caption), st.just("nonsense")),
    st.floats(0, 1),
    st.floats(0, 1),
)


@given(st.lists(SAMPLES, max_size=20), STYLES, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_every_sample_is_kept_or_counted_for_one_rule_and_stricter_rules_keep_no_more(
    samples: list[TrainingSample], style: LaneStyle, clear: bool, confidence: float, share: float
) -> None:
    rules = SampleFilter(style.count, style.color, style.pattern, clear, confidence, share)
    found = filter_samples(samples, rules)
    assert found.samples == len(samples)
    assert set(found.removed) == set(RULES) == set(found.fails)
    assert all(found.removed[rule] <= found.fails[rule] for rule in RULES)
    assert all(kept.style == style for kept in found.kept)
    laxer = filter_samples(samples, SampleFilter(style.count, None, style.pattern, clear, confidence, share))
    assert set(found.kept) <= set(laxer.kept)


def test_a_confidence_that_nobody_knows_is_an_error_only_where_it_is_asked_for() -> None:
    stranger = TrainingSample("images/x.png", "masks/x.png", caption(), caption())
    assert not broken_rules(stranger, SampleFilter())
    with pytest.raises(MissingFactError, match=r"confidence of images/x.png is not known"):
        broken_rules(stranger, SampleFilter(min_confidence=0.1))


def test_a_mask_without_facts_is_measured() -> None:
    stranger = TrainingSample("images/x.png", "masks/x.png", caption(), caption())
    assert broken_rules(stranger, SampleFilter(min_mask_share=0.2), lambda _: 0.1) == ["mask_share"]
    assert broken_rules(stranger, SampleFilter(min_mask_share=0.2), lambda _: 0.2) == []


def test_the_sentence_names_only_rules_that_removed_something() -> None:
    assert removal_sentence(5, {"count": 3, "color": 0, "clear_road": 2}) == (
        "of 5 samples, clear_road removed 2 (an attribute is unknown), count removed 3 (another count)"
    )
    assert removal_sentence(5, {}) == "of 5 samples, none was removed"
