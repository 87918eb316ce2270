"""Items computed together: each is recorded when it is finished, and one item's trouble is its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import (
    ItemError,
    ItemOutput,
    ItemTask,
    PartitionOutcome,
    StepError,
    Write,
    run_item_groups,
)
from lanepaint_assets_tests.unit.store.conftest import fp


class Together:
    """Computes groups in reverse order, and does what a test asks when it comes to an item."""

    def __init__(self, **trouble: Exception) -> None:
        self.groups: list[tuple[str, ...]] = []
        self.trouble = trouble
        self.while_open: list[tuple[str, ...]] = []

    def __call__(self, group: Sequence[ItemTask]) -> Iterator[tuple[ItemTask, Write]]:
        self.groups.append(tuple(task.key for task in group))
        for task in reversed(group):
            if f"group_{task.key}" in self.trouble:
                raise self.trouble[f"group_{task.key}"]
            yield task, partial(self._write, task)

    def _write(self, task: ItemTask, folder: Path) -> ItemOutput:
        if task.key in self.trouble:
            raise self.trouble[task.key]
        (folder / "out.txt").write_text(task.key)
        return ItemOutput({"group": len(self.groups)})


def run(store: ArtifactStore, together: Together, *keys: str, size: int = 2, workers: int = 1) -> PartitionOutcome:
    return run_item_groups(
        store,
        "first_frames",
        "chunk_0001",
        [ItemTask(key, fp(key)) for key in keys],
        together,
        run_id="run",
        grouping=lambda todo: [todo[first : first + size] for first in range(0, len(todo), size)],
        workers=workers,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_items_come_in_groups_of_the_size_asked_for_and_are_all_recorded(
    local_store: ArtifactStore, workers: int
) -> None:
    together = Together()
    outcome = run(local_store, together, "a", "b", "c", "d", "e", workers=workers)
    assert sorted(together.groups) == [("a", "b"), ("c", "d"), ("e",)]
    assert outcome.computed == ("a", "b", "c", "d", "e")
    assert {row.status for row in outcome.rows} == {"ok"}


def test_what_stands_is_no_part_of_a_group(local_store: ArtifactStore) -> None:
    run(local_store, Together(), "a", "c")
    together = Together()
    outcome = run(local_store, together, "a", "b", "c", "d")
    assert together.groups == [("b", "d")]
    assert outcome.reused == ("a", "c")
    run(local_store, again := Together(), "a", "b", "c", "d")
    assert again.groups == []


def test_an_item_that_cannot_be_made_fails_alone(local_store: ArtifactStore) -> None:
    outcome = run(local_store, Together(b=ItemError("no road")), "a", "b", "c", size=3)
    assert outcome.failed == ("b",)
    assert outcome.manifest.rows["b"].reason == "no road"
    assert outcome.computed == ("a", "c")


def test_a_group_that_breaks_off_fails_its_unfinished_items_only(local_store: ArtifactStore) -> None:
    outcome = run(local_store, Together(group_a=OSError("cannot read the clip")), "a", "b", "c", "d")
    assert outcome.failed == ("a",)
    assert outcome.manifest.rows["a"].reason == "OSError: cannot read the clip"
    assert outcome.computed == ("b", "c", "d")


def test_an_item_that_a_group_forgets_is_a_failure_and_not_a_gap(local_store: ArtifactStore) -> None:
    def forgetful(group: Sequence[ItemTask]) -> Iterator[tuple[ItemTask, Write]]:
        yield group[0], lambda _: ItemOutput()

    outcome = run(local_store, forgetful, "a", "b")  # type: ignore[arg-type]
    assert outcome.failed == ("b",)
    assert "left out" in str(outcome.manifest.rows["b"].reason)


def test_a_step_that_cannot_go_on_stops_and_keeps_what_was_finished(local_store: ArtifactStore) -> None:
    with pytest.raises(StepError, match="no checkpoint"):
        run(local_store, Together(group_a=StepError("no checkpoint")), "a", "b", "c")
    rows = local_store.manifest("first_frames", "chunk_0001").rows
    assert {key: row.status for key, row in rows.items()} == {"b": "ok"}
