from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.evaluation.reasoning import reasoning_difference

TEXTS = st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=5)


@given(TEXTS)
def test_the_same_words_do_not_differ_however_they_are_spaced(texts: list[str]) -> None:
    spaced = ["  ".join(text.split()) + "\n" for text in texts]
    same = reasoning_difference(texts, spaced, texts, [text.upper() for text in texts])
    assert (same.changed_share, same.similarity, same.decision_changed_share) == (0.0, 1.0, 0.0)


@given(TEXTS, st.randoms())
def test_shares_stay_between_none_and_all(texts: list[str], random: object) -> None:
    other = [text[::-1] for text in texts]
    found = reasoning_difference(texts, other)
    assert 0.0 <= found.changed_share <= 1.0
    assert 0.0 <= found.similarity <= 1.0
    assert (found.changed_share == 0.0) == all(a.split() == b.split() for a, b in zip(texts, other, strict=True))
    assert found.decision_changed_share is None


def test_texts_are_paired_by_sample_and_similarity_counts_words() -> None:
    before = ("keep the lane", "nudge left for the cyclist")
    after = ("keep the lane", "nudge right for the cyclist")
    found = reasoning_difference(before, after, ("keep", "left"), ("keep", "right"))
    assert found.changed_share == 0.5
    # Four of five words match: 2 * 4 / 10; the other sample matches wholly.
    assert found.similarity == pytest.approx((1.0 + 0.8) / 2)
    assert found.decision_changed_share == 0.5
    swapped = reasoning_difference(before, after[::-1])
    assert swapped.changed_share == 1.0


def test_a_driver_that_names_decisions_in_one_arm_alone_has_none_to_compare() -> None:
    assert reasoning_difference(("a",), ("a",), ("keep",), None).decision_changed_share is None


def test_arms_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        reasoning_difference(("a", "b"), ("a",))
    with pytest.raises(ValueError, match="without samples"):
        reasoning_difference((), ())
