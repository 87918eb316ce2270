"""The rule between two rows of one item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lanepaint_assets.store.manifest import FileRecord, ItemRow, Manifest, surviving_row


def row(key: str = "a", fingerprint: str = "1", status: str = "ok", run_id: str = "r") -> ItemRow:
    reason = "broken" if status == "failed" else None
    return ItemRow.model_validate(
        {"key": key, "fingerprint": fingerprint * 64, "status": status, "reason": reason, "run_id": run_id}
    )


ROWS = st.builds(
    row,
    key=st.sampled_from("ab"),
    fingerprint=st.sampled_from("12"),
    status=st.sampled_from(["ok", "failed", "outdated", "retired"]),
    run_id=st.uuids().map(str),
)


def test_of_two_results_with_one_fingerprint_the_first_published_stays() -> None:
    assert surviving_row(row(run_id="first"), row(run_id="second")).run_id == "first"


def test_of_two_fingerprints_the_later_run_wins() -> None:
    assert surviving_row(row(fingerprint="1"), row(fingerprint="2")).fingerprint == "2" * 64
    assert surviving_row(row(fingerprint="1"), row(fingerprint="2", status="failed")).status == "failed"


def test_a_failure_never_replaces_a_result_of_the_same_fingerprint() -> None:
    assert surviving_row(row(), row(status="failed")).status == "ok"


def test_a_result_replaces_a_failure() -> None:
    assert surviving_row(row(status="failed"), row()).status == "ok"


@pytest.mark.parametrize("remark", ["outdated", "retired"])
def test_a_remark_applies_only_to_the_row_it_was_made_about(remark: str) -> None:
    assert surviving_row(row(), row(status=remark)).status == remark
    assert surviving_row(row(fingerprint="2", run_id="other"), row(status=remark)).run_id == "other"


@given(st.lists(ROWS), st.lists(ROWS))
def test_merging_keeps_every_key_and_is_the_same_in_one_step_or_two(
    first: list[ItemRow], second: list[ItemRow]
) -> None:
    empty = Manifest(asset="road_masks", chunk="c")
    merged = empty.merged(first).merged(second)
    assert merged == empty.merged([*first, *second])
    assert set(merged.rows) == {own.key for own in [*first, *second]}
    assert list(merged.rows) == sorted(merged.rows)


@given(st.lists(ROWS), st.lists(ROWS))
def test_merging_leaves_rows_of_other_writers_alone(theirs: list[ItemRow], own: list[ItemRow]) -> None:
    before = Manifest(asset="road_masks", chunk="c").merged(theirs)
    after = before.merged([member for member in own if member.key == "a"])
    assert after.rows.get("b") == before.rows.get("b")


@given(st.lists(ROWS), ROWS)
def test_no_failure_takes_a_result_away(history: list[ItemRow], last: ItemRow) -> None:
    before = Manifest(asset="road_masks", chunk="c").merged(history)
    after = before.merged([last])
    old = before.rows.get(last.key)
    if old is not None and old.status == "ok" and last.status == "failed" and old.fingerprint == last.fingerprint:
        assert after.rows[last.key] == old


@given(st.lists(ROWS))
def test_a_manifest_reads_back_as_it_was_written(rows: list[ItemRow]) -> None:
    manifest = Manifest(asset="road_masks", chunk="c").merged(rows)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "failed"},
        {"status": "ok", "reason": "but why"},
        {"status": "done"},
        {"key": "../a"},
        {"fingerprint": "1"},
        {"folder": "/etc"},
        {"folder": "outputs/../../etc"},
        {"files": [{"name": "x", "size": 1, "sha256": "0" * 64}]},
        {"timings_s": {"decode": float("nan")}},
        {"unknown": 1},
    ],
)
def test_a_row_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ItemRow.model_validate({"key": "a", "fingerprint": "1" * 64, "status": "ok", "run_id": "r", **wrong})


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "a//b", "a\\b", "a\nb"])
def test_a_file_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        FileRecord(name=name, size=0, sha256="0" * 64)
