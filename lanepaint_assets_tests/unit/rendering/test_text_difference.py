"""What differs between the words of two arms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.rendering.text_difference import TextPart, marked, paired

WORDS = st.lists(st.sampled_from(["keep", "the", "lane", "slow", "down", "\n"]), max_size=12).map(" ".join)


@given(st.text(max_size=40) | WORDS, st.text(max_size=40) | WORDS)
def test_the_pieces_give_both_texts_back(original: str, edited: str) -> None:
    left, right = marked(original, edited)
    assert "".join(part.text for part in left) == original
    assert "".join(part.text for part in right) == edited


@given(WORDS)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    left, right = marked(text, text)
    assert not any(part.changed for part in (*left, *right))


@given(WORDS, WORDS)
def test_unmarked_words_are_the_same_in_both(original: str, edited: str) -> None:
    left, right = marked(original, edited)
    same = [[word for part in side if not part.changed for word in part.text.split()] for side in (left, right)]
    assert same[0] == same[1]


def test_only_the_changed_words_are_marked_and_not_the_blank_after_them() -> None:
    left, right = marked("keep the left lane", "keep the right lane")
    assert TextPart("left", True) in left
    assert TextPart("right", True) in right


def test_equal_pairs_stand_together_after_those_that_changed() -> None:
    pairs = paired(("keep", "keep", "turn"), ("keep", "stop", "turn"))
    assert [(pair.samples, pair.same) for pair in pairs] == [
        ("sample 2", False),
        ("sample 1", True),
        ("sample 3", True),
    ]
    assert paired(("a", "a"), ("a", "a"))[0].samples == "samples 1, 2"


def test_a_sample_that_one_arm_lacks_has_no_text_there() -> None:
    (pair,) = paired((), ("stop",))
    assert pair.original == ()
    assert not pair.same
