"""Which videos a page has room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.rendering.report_budget import in_turns, within

CLIPS = st.integers(0, 6).flatmap(
    lambda count: st.tuples(
        *[st.lists(st.tuples(st.just(clip), st.integers(0, 9)), unique=True, max_size=5) for clip in range(count)]
    )
)


@given(CLIPS, CLIPS)
def test_every_item_has_one_turn(
    edits: tuple[list[tuple[int, int]], ...], controls: tuple[list[tuple[int, int]], ...]
) -> None:
    assert sorted(in_turns(edits, controls)) == sorted(item for clip in (*edits, *controls) for item in clip)


def test_each_clip_comes_once_before_any_comes_twice_with_another_prompt_each() -> None:
    edits = [[f"{clip}/{prompt}" for prompt in "xyz"] for clip in "abc"]
    order = in_turns(edits, [["a/control"], ["b/control"], ["c/control"]])
    assert order[:3] == ["a/x", "b/y", "c/z"]
    assert [key[0] for key in order[:9]] == ["a", "b", "c"] * 3
    assert order[9:] == ["a/control", "b/control", "c/control"]


@given(st.dictionaries(st.integers(0, 20), st.integers(0, 100)), st.integers(0, 500))
def test_what_is_chosen_fits(sizes: dict[int, int], budget: int) -> None:
    chosen = within(sizes, list(range(21)), budget)
    assert sum(sizes[key] for key in chosen) <= budget
    if sum(sizes.values()) <= budget:
        assert chosen == set(sizes)


def test_a_small_video_may_follow_one_that_is_too_large() -> None:
    assert within({"a": 60, "b": 60, "c": 30}, ["a", "b", "c"], 100) == {"a", "c"}
