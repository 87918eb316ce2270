"""How items' findings become a check's result: what passes, what warns, and that nothing unknown passes for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.item_checks import (
    COMPLETE_CHECK,
    ERROR,
    FAILED_ITEMS,
    LISTED_ITEMS,
    LONGEST_TEXT,
    WARN,
    Finding,
    ItemCheck,
    check_result,
    check_results,
    check_specs,
    not_measured,
    number,
)
from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.store.items import PartitionOutcome
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.check_rows import failed, made, outdated, partition


def _judge(row: ItemRow) -> Finding | None:
    """Passes a level below 10; is not concerned with rows of kind control."""
    if row.facts.get("kind") == "control":
        return None
    level = number(row, "level")
    if level is None:
        return not_measured(row, "the level")
    passed = level < 10
    return Finding(passed, "" if passed else f"its level is {level:.0f}", {"level": level, "is_odd": level % 2 == 1})


LEVEL = ItemCheck("level", "Every level is below 10.", ERROR, _judge)


def _result(*rows: ItemRow, missing: int = 0, check: ItemCheck = LEVEL) -> dg.AssetCheckResult:
    return check_result("road_masks", check, partition(*rows, missing=missing))


def _figure(result: dg.AssetCheckResult, name: str) -> Any:
    return result.metadata[name].value


def test_all_items_within_bounds_pass_with_their_figures() -> None:
    result = _result(made({"level": 1}, "a.front"), made({"level": 4}, "b.front"))
    assert result.passed
    assert result.severity == ERROR
    assert result.description == "2 of 2 judged items pass."
    assert (_figure(result, "items"), _figure(result, "judged_items"), _figure(result, "failed_items")) == (2, 2, 0)
    assert (_figure(result, "level_mean"), _figure(result, "level_min"), _figure(result, "level_max")) == (2.5, 1, 4)
    assert _figure(result, "is_odd_share") == 0.5
    assert "findings" not in result.metadata


def test_an_item_at_fault_fails_the_check_with_its_severity_and_is_named() -> None:
    result = _result(made({"level": 1}, "a.front"), made({"level": 12}, "b.front"))
    assert not result.passed
    assert result.severity == ERROR
    assert result.description == "1 of 2 judged items pass. At fault: b.front (its level is 12)."
    assert _figure(result, "failed_share") == 0.5
    (record,) = _figure(result, "findings").records
    assert record.data == {"item": "b.front", "finding": "its level is 12", "figures": "level 12, is_odd no"}


def test_what_was_not_measured_warns_and_says_so_even_where_all_else_passes() -> None:
    result = _result(made({"level": 1}, "a.front"), made({}, "b.front"))
    assert not result.passed
    assert result.severity == WARN
    assert "Not measured: b.front (the level was not measured when the item was made)." in str(result.description)
    assert _figure(result, "not_measured_items") == 1
    assert "imported" in str(_result(made({"origin": "imported"})).description)


def test_a_fault_is_not_softened_by_items_that_were_not_measured() -> None:
    result = _result(made({"level": 12}, "a.front"), made({}, "b.front"))
    assert not result.passed
    assert result.severity == ERROR


def test_failed_items_are_not_judged_and_are_counted() -> None:
    result = _result(made({"level": 1}, "a.front"), failed("no road"))
    assert result.passed
    assert _figure(result, "not_made_items") == 1
    assert str(result.description).endswith("Not made, so not judged: 1.")


@pytest.mark.parametrize("missing", [0, 1])
def test_where_nothing_was_made_nothing_passes(missing: int) -> None:
    result = _result(failed("no road"), missing=missing)
    assert not result.passed
    assert result.severity == WARN
    assert str(result.description).startswith("Nothing was measured")


def test_an_outdated_row_is_not_judged_by_what_it_once_held() -> None:
    result = _result(made({"level": 1}, "a.front"), outdated({"level": 99}), missing=1)
    assert result.passed
    assert _figure(result, "judged_items") == 1
    assert _figure(result, "not_made_items") == 2


def test_items_that_a_check_does_not_concern_pass_and_it_says_that_there_was_nothing_to_judge() -> None:
    result = _result(made({"kind": "control"}))
    assert result.passed
    assert "nothing to judge" in str(result.description)


def test_a_partition_without_items_passes() -> None:
    assert _result().passed


@pytest.mark.parametrize(("bad", "passes"), [(0, True), (1, True), (2, False)])
def test_a_check_of_a_share_allows_as_many_faults_as_it_says(bad: int, passes: bool) -> None:
    rows = [made({"level": 20 if n < bad else 1}, f"clip_{n}.front") for n in range(10)]
    result = _result(*rows, check=replace(LEVEL, least_share=0.9))
    assert result.passed is passes
    assert _figure(result, "failed_items") == bad
    assert _figure(result, "least_share_that_must_pass") == 0.9


@given(judged=st.integers(1, 40), data=st.data())
def test_a_share_check_passes_exactly_where_enough_items_pass(judged: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, judged))
    hundredths = data.draw(st.integers(0, 100))
    rows = [made({"level": 20 if n < bad else 1}, f"clip_{n}.front") for n in range(judged)]
    result = _result(*rows, check=replace(LEVEL, least_share=hundredths / 100))
    assert result.passed is ((judged - bad) * 100 >= hundredths * judged)


def test_a_long_list_of_findings_is_cut_and_the_count_is_not() -> None:
    rows = [made({"level": 50}, f"clip_{n}.front") for n in range(LISTED_ITEMS + 5)]
    result = _result(*rows)
    assert len(_figure(result, "findings").records) == LISTED_ITEMS
    assert _figure(result, "failed_items") == LISTED_ITEMS + 5
    assert f"and {LISTED_ITEMS + 4} more" in str(result.description)


def test_a_long_reason_is_cut() -> None:
    result = _result(failed("x" * 2000), check=FAILED_ITEMS)
    assert len(str(result.description)) < LONGEST_TEXT + 100
    assert len(_figure(result, "findings").records[0].data["finding"]) == LONGEST_TEXT


def test_the_share_of_failed_items_is_told_with_reasons() -> None:
    result = _result(
        made({}, "a.front"), made({}, "c.front"), made({}, "d.front"), failed("moov atom"), check=FAILED_ITEMS
    )
    assert not result.passed
    assert result.severity == WARN
    assert _figure(result, "failed_share") == 0.25
    assert "b.front (moov atom)" in str(result.description)
    assert _result(made({}), check=FAILED_ITEMS).passed


def _complete(outcome: PartitionOutcome) -> dg.AssetCheckResult:
    return check_results("road_masks", (), outcome)[-1]


def test_a_narrowed_partition_is_not_complete_and_says_how_many_items_it_has() -> None:
    narrowed = _complete(partition(made({}), outdated({}), missing=1))
    assert not narrowed.passed
    assert narrowed.description == "1 of 3 items are as the settings ask for."
    assert _complete(partition(made({}), failed("no road"))).passed


def test_results_are_those_that_were_announced() -> None:
    announced = check_specs("road_masks", (LEVEL,))
    results = check_results("road_masks", (LEVEL,), partition(made({"level": 1})))
    assert [spec.name for spec in announced] == ["level", "no_failed_items", COMPLETE_CHECK]
    assert [result.check_name for result in results] == [spec.name for spec in announced]
    for spec in announced:
        assert spec.partitions_def == CLIP_CHUNK
        assert spec.description
        assert not spec.blocking


@pytest.mark.parametrize("value", [None, "3", True, [3]])
def test_only_numbers_are_numbers(value: object) -> None:
    assert number(made({"level": value}), "level") is None  # type: ignore[dict-item]
