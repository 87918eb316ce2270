"""SIGTERM in the middle of a loop over items: what is under way is finished or abandoned, and nothing else is begun."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, StepError, Write, run_item_groups, run_items
from lanepaint_assets.store.stopping import grace_period
from lanepaint_assets_tests.unit.store.conftest import fp

LONG_S = 60.0
SHORT_S = 0.3


class InterruptedStepError(BaseException):
    """What Dagster's handler raises in its place."""


@pytest.fixture(autouse=True)
def raising_handler() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise InterruptedStepError

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    assert signal.getsignal(signal.SIGTERM) is interrupt, "the handler of before was not put back"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def wait_long() -> None:
    """As a computation in Python does: an exception can end it."""
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        time.sleep(0.01)
    raise AssertionError("nobody ended it")


class Work:
    """Computes items, and does something while it computes a certain one."""

    def __init__(self, at: str, meanwhile: Callable[[], None]) -> None:
        self.at, self.meanwhile = at, meanwhile
        self.begun: list[str] = []

    def __call__(self, task: ItemTask, staged: Path) -> ItemOutput:
        self.begun.append(task.key)
        (staged / "out.txt").write_text(task.key)
        if task.key == self.at:
            self.meanwhile()
        return ItemOutput()


TASKS = [ItemTask(key, fp(key)) for key in "abcd"]


def run(store: ArtifactStore, work: Work, workers: int = 1) -> None:
    run_items(store, "road_masks", "chunk_0001", TASKS, work, run_id="run", workers=workers)


def statuses(store: ArtifactStore) -> dict[str, str]:
    return {key: row.status for key, row in store.manifest("road_masks", "chunk_0001").rows.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_under_way_is_finished_and_none_is_begun_after_it(local_store: ArtifactStore, workers: int) -> None:
    work = Work("b", terminate)
    with grace_period(LONG_S), pytest.raises(InterruptedStepError):
        run(local_store, work, workers)
    assert "b" in work.begun
    assert statuses(local_store) == dict.fromkeys(work.begun, "ok")
    assert len(work.begun) < len(TASKS)


def test_the_next_run_makes_only_what_is_left(local_store: ArtifactStore) -> None:
    with grace_period(LONG_S), pytest.raises(InterruptedStepError):
        run(local_store, Work("b", terminate))
    after = Work("", terminate)
    run(local_store, after)
    assert after.begun == ["c", "d"]
    assert statuses(local_store) == dict.fromkeys("abcd", "ok")


def test_an_item_that_takes_longer_than_the_grace_period_is_abandoned_and_leaves_no_trace(
    local_store: ArtifactStore, tmp_path: Path
) -> None:
    def stop_and_go_on() -> None:
        terminate()
        wait_long()

    work = Work("b", stop_and_go_on)
    started = time.monotonic()
    with grace_period(SHORT_S), pytest.raises(InterruptedStepError):
        run_items(local_store, "road_masks", "chunk_0001", TASKS, work, run_id="run", scratch=tmp_path / "scratch")
    assert SHORT_S <= time.monotonic() - started < 10.0
    assert statuses(local_store) == {"a": "ok"}
    assert not list((tmp_path / "scratch").iterdir())


def test_nobody_waits_for_a_thread_beyond_the_grace_period_and_it_enters_nothing(local_store: ArtifactStore) -> None:
    may_end, ended = threading.Event(), threading.Event()

    def stop_and_go_on() -> None:
        terminate()
        may_end.wait(LONG_S)
        ended.set()

    work = Work("a", stop_and_go_on)
    with grace_period(SHORT_S), pytest.raises(InterruptedStepError):
        run(local_store, work, workers=2)
    before = statuses(local_store)
    assert "a" not in before
    may_end.set()
    assert ended.wait(10.0)
    while any(thread.name.startswith("lanepaint-item") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert statuses(local_store) == before


def test_a_second_signal_ends_the_item_at_once(local_store: ArtifactStore) -> None:
    def stop_twice() -> None:
        terminate()
        terminate()
        wait_long()

    with grace_period(LONG_S), pytest.raises(InterruptedStepError):
        run(local_store, Work("b", stop_twice))
    assert statuses(local_store) == {"a": "ok"}


def test_an_interrupt_that_is_lost_while_python_cleans_up_still_ends_the_loop(local_store: ArtifactStore) -> None:
    def stop_where_nothing_can_be_raised() -> None:
        terminate()
        try:
            wait_long()
        except InterruptedStepError:
            return

    with grace_period(SHORT_S), pytest.raises(InterruptedStepError):
        run(local_store, Work("b", stop_where_nothing_can_be_raised))
    assert statuses(local_store) == {"a": "ok"}


def test_an_abandoned_item_is_not_called_a_failed_one(local_store: ArtifactStore) -> None:
    """What breaks because the time is over says nothing about the clip."""

    def stop_and_break() -> None:
        terminate()
        try:
            wait_long()
        except InterruptedStepError:
            raise ItemError("the worker is gone") from None

    with grace_period(SHORT_S), pytest.raises(InterruptedStepError):
        run(local_store, Work("b", stop_and_break))
    assert statuses(local_store) == {"a": "ok"}


def test_a_group_keeps_what_it_has_finished_and_its_others_are_left_for_the_next_run(
    local_store: ArtifactStore,
) -> None:
    closed = []

    def write(_: Path) -> ItemOutput:
        return ItemOutput()

    def compute(group: Sequence[ItemTask]) -> Iterator[tuple[ItemTask, Write]]:
        try:
            for task in group:
                if task.key == "b":
                    terminate()
                yield task, write
        finally:
            closed.append(True)

    with grace_period(LONG_S), pytest.raises(InterruptedStepError):
        run_item_groups(
            local_store, "road_masks", "chunk_0001", TASKS, compute, run_id="run", grouping=lambda tasks: [tasks]
        )
    assert statuses(local_store) == {"a": "ok", "b": "ok"}
    assert closed == [True]


def test_without_a_grace_period_the_signal_has_its_usual_effect(local_store: ArtifactStore) -> None:
    def stop_and_go_on() -> None:
        terminate()
        wait_long()

    with pytest.raises(InterruptedStepError):
        run(local_store, Work("b", stop_and_go_on))
    assert statuses(local_store) == {"a": "ok"}


def test_a_handler_that_raises_nothing_does_not_let_half_a_partition_pass(local_store: ArtifactStore) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with grace_period(LONG_S), pytest.raises(StepError, match="asked to end before all of its items were made"):
            run(local_store, Work("b", terminate))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_loop_in_another_thread_leaves_signals_alone(local_store: ArtifactStore) -> None:
    handlers = []
    work = Work("b", lambda: handlers.append(signal.getsignal(signal.SIGTERM)))
    with grace_period(LONG_S):
        thread = threading.Thread(target=run, args=(local_store, work))
        thread.start()
        thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
    assert statuses(local_store) == dict.fromkeys("abcd", "ok")
