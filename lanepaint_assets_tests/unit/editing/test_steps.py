"""How the editing steps divide their work; what they compute is tested through the graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.editing.steps import MODEL_GROUP, MODEL_GROUP_CLIPS, model_groups
from lanepaint_assets.store.items import ItemTask


def task(clip: int, prompt: int) -> ItemTask:
    return ItemTask(f"clip{clip}.front/prompt{prompt}", "a" * 64)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), unique=True))
def test_groups_keep_order_and_hold_neither_too_many_items_nor_too_many_clips(wanted: list[tuple[int, int]]) -> None:
    tasks = [task(*one) for one in wanted]
    groups = model_groups(tasks)
    assert [one for group in groups for one in group] == tasks
    for group in groups:
        assert 1 <= len(group) <= MODEL_GROUP
        assert len({one.key.split("/")[0] for one in group}) <= MODEL_GROUP_CLIPS


def test_one_prompt_of_many_clips_does_not_hold_them_all() -> None:
    assert [len(group) for group in model_groups([task(clip, 0) for clip in range(15)])] == [6, 6, 3]


def test_all_prompts_of_a_few_clips_go_together() -> None:
    groups = model_groups([task(clip, prompt) for clip in range(5) for prompt in range(7)])
    assert [len(group) for group in groups] == [32, 3]
