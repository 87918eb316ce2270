"""The loop over a partition's items: what is computed, what is reused, and what each row says afterwards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_chunk_item, run_items
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.store.conftest import fp


class Engine:
    """Computes items, remembers which, and fails where it is told to."""

    def __init__(self, broken: Iterable[str] = ()) -> None:
        self.broken = set(broken)
        self.calls: list[str] = []
        self.folders: list[Path] = []

    def __call__(self, task: ItemTask, staged: Path) -> ItemOutput:
        self.calls.append(task.key)
        self.folders.append(staged)
        (staged / "masks").mkdir()
        (staged / "masks" / "out.txt").write_text(f"{task.key} {task.fingerprint}")
        if task.key in self.broken:
            raise ItemError(f"{task.key} is truncated at frame 12")
        return ItemOutput({"frames": 8}, {"decode": 0.5})


def tasks(*keys: str, version: int = 1, only: Iterable[str] | None = None) -> list[ItemTask]:
    chosen = set(keys if only is None else only)
    return [ItemTask(key, fp(key, version), selected=key in chosen, engine="classical 1") for key in keys]


def run(
    store: ArtifactStore, wanted: list[ItemTask], engine: Engine, run_id: str = "run", **options
) -> PartitionOutcome:
    return run_items(store, "road_masks", "chunk_0001", wanted, engine, run_id=run_id, **options)


def statuses(outcome: PartitionOutcome) -> dict[str, str]:
    return {key: row.status for key, row in outcome.manifest.rows.items()}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_is_computed_once_and_then_reused(store: ArtifactStore, workers: int) -> None:
    engine = Engine()
    first = run(store, tasks("b", "a", "c/p"), engine, workers=workers)
    assert sorted(engine.calls) == ["a", "b", "c/p"]
    assert (first.computed, first.reused, first.failed, first.complete) == (("b", "a", "c/p"), (), (), True)
    assert [row.key for row in first.rows] == ["b", "a", "c/p"]
    assert store.read_bytes(first.rows[2], "masks/out.txt") == f"c/p {fp('c/p')}".encode()
    second = run(store, tasks("b", "a", "c/p"), engine, run_id="later", workers=workers)
    assert len(engine.calls) == 3
    assert (second.computed, second.reused) == ((), ("b", "a", "c/p"))
    assert second.manifest == first.manifest
    assert second.data_version == first.data_version


def test_a_row_says_what_was_made_by_which_run_and_engine_in_what_time(local_store: ArtifactStore) -> None:
    row = run(local_store, tasks("a"), Engine(), run_id="study_7").rows[0]
    assert (row.run_id, row.engine, row.facts) == ("study_7", "classical 1", {"frames": 8})
    assert row.timings_s["decode"] == 0.5
    assert row.timings_s["total"] >= 0


def test_a_new_prompt_costs_only_that_prompt(local_store: ArtifactStore) -> None:
    engine = Engine()
    run(local_store, tasks("a/one", "b/one"), engine)
    outcome = run(local_store, tasks("a/one", "b/one", "a/two", "b/two"), engine)
    assert engine.calls == ["a/one", "b/one", "a/two", "b/two"]
    assert outcome.computed == ("a/two", "b/two")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_item_says_why_and_the_others_go_on(store: ArtifactStore, workers: int) -> None:
    outcome = run(store, tasks("a", "b", "c"), Engine(broken="b"), workers=workers)
    assert (outcome.computed, outcome.failed, outcome.complete) == (("a", "c"), ("b",), True)
    row = outcome.manifest.rows["b"]
    assert (row.status, row.reason, row.folder) == ("failed", "b is truncated at frame 12", None)


def test_a_failed_item_is_tried_again_on_every_run_and_its_success_changes_the_data_version(
    local_store: ArtifactStore,
) -> None:
    engine = Engine(broken="a")
    first = run(local_store, tasks("a", "b"), engine)
    run(local_store, tasks("a", "b"), engine)
    engine.broken = set()
    last = run(local_store, tasks("a", "b"), engine)
    assert engine.calls == ["a", "b", "a", "a"]
    assert statuses(last) == {"a": "ok", "b": "ok"}
    assert last.data_version != first.data_version


def test_an_unexpected_error_becomes_a_reason_and_its_traceback_goes_to_the_log(
    local_store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    def compute(task: ItemTask, staged: Path) -> ItemOutput:
        raise KeyError("no such column")

    with caplog.at_level(logging.ERROR):
        outcome = run(local_store, tasks("a"), compute)
    assert outcome.manifest.rows["a"].reason == "KeyError: 'no such column'"
    assert caplog.records[0].exc_info is not None


def test_a_fact_that_is_not_a_number_fails_the_item_with_its_name(local_store: ArtifactStore) -> None:
    outcome = run(local_store, tasks("a"), lambda task, staged: ItemOutput({"fps": float("nan")}))
    assert outcome.manifest.rows["a"].reason == "ValueError: value.fps is nan: only finite numbers can be stored"


def test_a_blocked_item_fails_with_the_upstream_reason_and_is_not_computed(local_store: ArtifactStore) -> None:
    engine = Engine()
    wanted = [ItemTask("a", fp("a"), blocked="road_masks failed: no road"), ItemTask("b", fp("b"))]
    outcome = run(local_store, wanted, engine)
    assert engine.calls == ["b"]
    assert outcome.failed == ("a",)
    assert outcome.manifest.rows["a"].reason == "road_masks failed: no road"
    assert outcome.complete


def test_what_is_known_of_an_item_beforehand_stands_in_its_row_whatever_comes_of_it(local_store: ArtifactStore) -> None:
    known = {"etag": "5"}
    good, bad, blocked = (replace(task, facts=known) for task in tasks("a.front", "broken.front", "c.front"))
    outcome = run(local_store, [good, bad, replace(blocked, blocked="it is gone")], Engine(broken=["broken.front"]))
    assert [row.status for row in outcome.rows] == ["ok", "failed", "failed"]
    assert [row.facts for row in outcome.rows] == [{"etag": "5", "frames": 8}, known, known]


def test_an_item_without_files_keeps_its_facts(store: ArtifactStore) -> None:
    outcome = run(store, tasks("a"), lambda task, staged: ItemOutput({"valid": True}))
    row = outcome.rows[0]
    assert (row.status, row.folder, row.files, row.facts) == ("ok", None, (), {"valid": True})
    assert run(store, tasks("a"), Engine()).reused == ("a",)


def test_unselected_items_are_reused_where_they_stand_and_outdated_where_not(local_store: ArtifactStore) -> None:
    engine = Engine()
    run(local_store, tasks("a", "b"), engine)
    wanted = [*tasks("a", only=[]), *tasks("b", "c", version=2, only=[])]
    outcome = run(local_store, wanted, engine)
    assert statuses(outcome) == {"a": "ok", "b": "outdated"}
    assert (outcome.reused, outcome.complete) == (("a",), False)
    assert engine.calls == ["a", "b"]
    assert local_store.read_bytes(outcome.manifest.rows["b"], "masks/out.txt") == f"b {fp('b')}".encode()


def test_an_outdated_item_whose_fingerprint_comes_back_is_restored_without_computing(
    local_store: ArtifactStore,
) -> None:
    engine = Engine()
    before = run(local_store, tasks("a", "b"), engine)
    run(local_store, tasks("a", "b", version=2, only=[]), engine)
    after = run(local_store, tasks("a", "b", only=[]), engine)
    assert after.manifest == before.manifest
    assert after.data_version == before.data_version
    assert engine.calls == ["a", "b"]


@pytest.mark.parametrize("selected", [["a"], []])
def test_a_result_whose_input_is_outdated_is_outdated_until_the_input_stands_again(
    local_store: ArtifactStore, selected: list[str]
) -> None:
    engine = Engine()
    before = run(local_store, tasks("a", "b"), engine)
    first, other = tasks("a", "b", only=selected)
    outcome = run(local_store, [replace(first, blocked="road_masks item a is outdated"), other], engine)
    assert statuses(outcome) == {"a": "outdated", "b": "ok"}
    assert (outcome.reused, outcome.complete) == (("b",), False)
    assert outcome.data_version != before.data_version
    assert run(local_store, tasks("a", "b"), engine).manifest == before.manifest
    assert engine.calls == ["a", "b"]


def test_a_failed_item_that_was_outdated_does_not_come_back_as_a_result(local_store: ArtifactStore) -> None:
    engine = Engine(broken="a")
    run(local_store, tasks("a"), engine)
    assert statuses(run(local_store, tasks("a", version=2, only=[]), engine)) == {"a": "outdated"}
    assert statuses(run(local_store, tasks("a", only=[]), engine)) == {"a": "failed"}
    engine.broken = set()
    assert run(local_store, tasks("a"), engine).computed == ("a",)


def test_a_vanished_item_is_retired_and_leaves_the_data_version(local_store: ArtifactStore) -> None:
    engine = Engine()
    run(local_store, tasks("a", "b"), engine)
    outcome = run(local_store, tasks("a"), engine)
    assert statuses(outcome) == {"a": "ok", "b": "retired"}
    assert outcome.complete
    alone = run_items(local_store, "road_masks", "chunk_0002", tasks("a"), engine, run_id="r")
    assert outcome.data_version == alone.data_version
    assert local_store.read_bytes(outcome.manifest.rows["b"], "masks/out.txt")
    assert run(local_store, tasks("a", "b"), engine).reused == ("a", "b")


def test_items_whose_files_were_deleted_are_computed_again(store: ArtifactStore) -> None:
    engine = Engine()
    row = run(store, tasks("a", "b"), engine).rows[0]
    store.file_path(row, "masks/out.txt").unlink()
    assert statuses(run(store, tasks("a", "b", only=[]), engine)) == {"a": "outdated", "b": "ok"}
    outcome = run(store, tasks("a", "b"), engine)
    assert engine.calls == ["a", "b", "a"]
    assert (outcome.computed, outcome.reused) == (("a",), ("b",))
    assert store.read_bytes(outcome.rows[0], "masks/out.txt") == f"a {fp('a')}".encode()


def test_an_item_that_another_run_finished_meanwhile_is_not_computed_twice(local_store: ArtifactStore) -> None:
    theirs = Engine()

    class Slow(Engine):
        def __call__(self, task: ItemTask, staged: Path) -> ItemOutput:
            if task.key == "a":
                run(local_store, tasks("a", "b"), theirs, run_id="theirs")
            return super().__call__(task, staged)

    own = Slow()
    outcome = run(local_store, tasks("a", "b"), own, run_id="own")
    assert (theirs.calls, own.calls) == (["a", "b"], ["a"])
    assert outcome.reused == ("b",)
    assert [row.run_id for row in outcome.rows] == ["theirs", "theirs"]


def test_a_run_of_an_older_catalogue_does_not_mark_the_rows_of_a_newer_one(local_store: ArtifactStore) -> None:
    run(local_store, tasks("a", "b"), Engine())

    class Overtaken(ArtifactStore):
        def merge(self, asset: str, chunk: str, rows: list[ItemRow]):
            if rows and rows[0].status == "outdated":
                run(local_store, tasks("a", "b", version=3), Engine(), run_id="newer")
            return super().merge(asset, chunk, rows)

    outcome = run(Overtaken(local_store.root), tasks("a", "b", version=2, only=[]), Engine())
    assert {row.run_id for row in outcome.rows} == {"newer"}
    assert statuses(outcome) == {"a": "ok", "b": "ok"}
    assert not outcome.complete


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_the_run_and_keeps_what_was_finished(
    local_store: ArtifactStore, interrupt: type[BaseException], workers: int
) -> None:
    done = threading.Event()

    class Interrupted(Engine):
        def __call__(self, task: ItemTask, staged: Path) -> ItemOutput:
            if task.key == "b":
                done.wait(5)
                raise interrupt
            return super().__call__(task, staged)

    engine = Interrupted()
    with pytest.raises(interrupt):
        run(local_store, tasks("a", "b", "c", "d", "e"), engine, workers=workers, progress=lambda *_: done.set())
    kept = local_store.manifest("road_masks", "chunk_0001").rows
    assert set(kept) == set(engine.calls)
    assert "a" in kept
    assert "b" not in kept
    resumed = Engine()
    outcome = run(local_store, tasks("a", "b", "c", "d", "e"), resumed)
    assert set(resumed.calls) == set("abcde") - set(kept)
    assert outcome.complete


def test_a_full_disk_stops_the_run_and_is_not_blamed_on_the_item(
    local_store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_store, "publish", full)
    with pytest.raises(OSError, match="No space left"):
        run(local_store, tasks("a", "b"), Engine())
    assert local_store.manifest("road_masks", "chunk_0001").rows == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_staged_folders_are_removed_after_success_and_failure(
    local_store: ArtifactStore, tmp_path: Path, workers: int
) -> None:
    engine = Engine(broken="b")
    run(local_store, tasks("a", "b"), engine, workers=workers, scratch=tmp_path / "scratch")
    assert len(set(engine.folders)) == 2
    assert all(folder.parent == tmp_path / "scratch" for folder in engine.folders)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_progress_counts_the_items_to_compute(local_store: ArtifactStore) -> None:
    seen: list[tuple[int, int, str]] = []
    run(local_store, tasks("a"), Engine())
    run(local_store, tasks("a", "b", "c"), Engine(), progress=lambda *step: seen.append(step))
    assert seen == [(0, 2, ""), (1, 2, "b"), (2, 2, "c")]


def test_a_store_without_flock_is_refused_before_anything_is_computed(
    local_store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    engine = Engine()
    with pytest.raises(StoreError, match="no working flock"):
        run(local_store, tasks("a"), engine)
    assert engine.calls == []


@pytest.mark.parametrize("keys", [("a", "a"), ("../a",), ("a/b/c",)])
def test_tasks_that_could_overwrite_each_other_are_refused(local_store: ArtifactStore, keys: tuple[str, ...]) -> None:
    wanted = [ItemTask(key, fp("a")) for key in keys]
    with pytest.raises(ValueError, match=r"two tasks|not allowed"):
        run(local_store, wanted, Engine())


def test_the_chunks_own_row_is_made_once_and_survives_runs_over_the_items(store: ArtifactStore) -> None:
    engine = Engine()
    run(store, tasks("a"), engine)

    def chunk_row(version: int = 1) -> ItemRow:
        return run_chunk_item(store, "road_masks", "chunk_0001", fp("_chunk", version), engine, run_id="r")

    assert chunk_row() == chunk_row()
    outcome = run(store, tasks("a"), engine)
    assert statuses(outcome) == {"_chunk": "ok", "a": "ok"}
    assert engine.calls == ["a", "_chunk"]
    store.file_path(chunk_row(), "masks/out.txt").unlink()
    assert store.read_bytes(chunk_row(), "masks/out.txt") == f"_chunk {fp('_chunk')}".encode()
    engine.broken = {"_chunk"}
    assert chunk_row(version=2).status == "failed"
    assert engine.calls == ["a", "_chunk", "_chunk", "_chunk"]


@settings(max_examples=40, deadline=None)
@given(
    history=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 2), st.booleans()), max_size=4),
            st.sets(st.sampled_from("abcd")),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_after_any_history_the_data_version_depends_on_the_last_catalogue_alone(history, tmp_path_factory) -> None:
    store = ArtifactStore(str(tmp_path_factory.mktemp("history")))
    for catalogue, broken in history:
        wanted = [ItemTask(key, fp(key, version), selected=sel) for key, (version, sel) in catalogue.items()]
        run(store, wanted, Engine(broken))
    final = [ItemTask(key, fp(key, version)) for key, (version, _) in history[-1][0].items()]
    settled = run(store, final, Engine())
    fresh = ArtifactStore(str(tmp_path_factory.mktemp("fresh")))
    assert settled.data_version == run(fresh, final, Engine()).data_version
    assert settled.complete
    assert all(row.status == "ok" for row in settled.rows)
