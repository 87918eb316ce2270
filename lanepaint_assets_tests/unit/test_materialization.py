"""What a materialization tells: metadata of bounded size, checks, data version, and failures that people can act on."""

from __future__ import annotations

import math
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.editing.catalogue import PromptSelectionError
from lanepaint_assets.materialization import (
    CELL_CHARACTERS,
    TABLE_ROWS,
    as_result,
    clear_failures,
    item_table,
    table_value,
    tells_complete,
    timing_table,
    told_version,
)
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.drawing import encode_png
from lanepaint_assets.rendering.previews import MAX_MARKDOWN_BYTES
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.upstream import MissingUpstreamError

CHUNK = "chunk_0001"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(Settings(root=str(tmp_path), max_failed_share=0.5))


def _outcome(platform: Platform, good: int, bad: int, unselected: int = 0) -> PartitionOutcome:
    names = (
        [f"good_{n}" for n in range(good)] + [f"bad_{n}" for n in range(bad)] + [f"out_{n}" for n in range(unselected)]
    )
    tasks = [
        ItemTask(
            f"{name}.front",
            fingerprint(asset="road_masks", item_key=f"{name}.front", upstream={}, engine=None, params={}),
            selected=not name.startswith("out"),
        )
        for name in names
    ]

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        if task.key.startswith("bad"):
            raise ItemError("no road in the picture")
        (folder / "mask.png").write_bytes(b"x")
        return ItemOutput(facts={"coverage": 0.25, "nested": {"a": 1}}, timings_s={"segment": 2.0})

    return run_items(platform.store, "road_masks", CHUNK, tasks, compute, run_id="run")


def test_counts_tables_and_places_are_told(platform: Platform) -> None:
    outcome = _outcome(platform, good=3, bad=1)
    result = as_result(platform, "road_masks", outcome, run="night", engines=["classical 1"])
    told = result.metadata
    assert told["items"].value == 4
    assert told["computed"].value == 3
    assert told["reused"].value == 0
    assert told["failed"].value == 1
    assert told["engines"].value == "classical 1"
    assert told["run_name"].value == "night"
    assert Path(told["manifest"].value).is_file()
    assert result.data_version == dg.DataVersion(outcome.data_version)
    columns = {column.name: column.type for column in told["rows"].value.schema.columns}
    assert columns["coverage"] == "float"
    assert "nested" not in columns
    failed = [record.data for record in told["rows"].value.records if record.data["status"] == "failed"]
    assert failed[0]["reason"] == "no road in the picture"
    assert failed[0]["coverage"] is None


def test_checks_warn_of_failed_and_of_missing_items(platform: Platform) -> None:
    result = as_result(platform, "road_masks", _outcome(platform, good=3, bad=1, unselected=1), run="run")
    passed = {check.check_name: check.passed for check in result.check_results}
    assert passed == {"no_failed_items": False, "complete": False}
    assert {check.severity for check in result.check_results} == {dg.AssetCheckSeverity.WARN}
    (failed,) = [check for check in result.check_results if check.check_name == "no_failed_items"]
    assert "bad_0.front (no road in the picture)" in str(failed.description)
    assert failed.metadata["failed_share"].value == 0.25


def test_the_data_version_tells_what_a_narrowed_run_left_incomplete(platform: Platform) -> None:
    narrowed = _outcome(platform, good=2, bad=0, unselected=1)
    version = as_result(platform, "road_masks", narrowed, run="run").data_version
    assert version == dg.DataVersion(told_version(narrowed.data_version, complete=False))
    assert not tells_complete(version.value)
    assert tells_complete(narrowed.data_version)


def test_a_partition_fails_past_the_share_with_reasons_and_its_metadata(platform: Platform) -> None:
    outcome = _outcome(platform, good=1, bad=2)
    with pytest.raises(dg.Failure) as failure:
        as_result(platform, "road_masks", outcome, run="run")
    assert failure.value.description.startswith(f"2 of 3 items of road_masks in {CHUNK} failed: bad_0.front: no road")
    assert failure.value.allow_retries is False
    assert failure.value.metadata["failed"].value == 2
    assert platform.store.manifest("road_masks", CHUNK).rows["good_0.front"].status == "ok"


def test_exactly_the_allowed_share_does_not_fail(platform: Platform) -> None:
    assert as_result(platform, "road_masks", _outcome(platform, good=1, bad=1), run="run")


def test_a_partition_without_items_is_reported(platform: Platform) -> None:
    told = as_result(platform, "road_masks", _outcome(platform, good=0, bad=0), run="run").metadata
    assert told["items"].value == 0
    assert told["rows"].value.records == []


def test_timings_count_what_this_run_computed(platform: Platform) -> None:
    first = timing_table(_outcome(platform, good=2, bad=0))
    row = first.set_index("phase").loc["segment"]
    assert (row["items"], row["total_s"], row["mean_s"]) == (2, 4.0, 2.0)
    assert timing_table(_outcome(platform, good=2, bad=0)).empty


def test_a_preview_that_is_too_large_for_the_event_log_is_reduced(platform: Platform) -> None:
    outcome = _outcome(platform, good=1, bad=0)
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3)).astype(np.uint8)
    large = encode_png(noise)
    assert len(large) > MAX_MARKDOWN_BYTES
    shown = as_result(platform, "road_masks", outcome, run="run", preview_png=large).metadata["preview"].value
    assert shown.startswith("![preview of road_masks](data:image/jpeg;base64,")
    assert len(shown) <= MAX_MARKDOWN_BYTES


def test_a_long_table_is_cut() -> None:
    value = table_value(pd.DataFrame({"n": range(TABLE_ROWS + 50)})).value
    assert len(value.records) == TABLE_ROWS


def test_long_text_in_a_table_is_cut() -> None:
    value = table_value(pd.DataFrame({"text": ["x" * 1000]})).value
    assert value.records[0].data["text"] == "x" * (CELL_CHARACTERS - 1) + "…"


def test_what_is_looked_at_comes_first_and_tables_last(platform: Platform) -> None:
    extra = {"metrics": table_value(pd.DataFrame({"n": [1]})), "report": dg.MetadataValue.path("report.html")}
    picture = encode_png(np.zeros((4, 4, 3), np.uint8))
    outcome = _outcome(platform, good=1, bad=0)
    told = list(as_result(platform, "road_masks", outcome, run="run", preview_png=picture, extra=extra).metadata)
    assert told[:2] == ["preview", "report"]
    assert told[told.index("manifest") + 1 :] == ["metrics", "rows", "timings"]


def test_cells_are_plain_values_that_dagster_keeps() -> None:
    frame = pd.DataFrame(
        {
            "number": [1, 2],
            "share": [0.5, math.nan],
            "flag": [True, False],
            "text": ["a", None],
            "list": [[1], (2, 3)],
            "when": pd.to_datetime(["2026-01-01", "2026-01-02"]),
        }
    )
    value = table_value(frame).value
    types = {column.name: column.type for column in value.schema.columns}
    assert types == {
        "number": "int",
        "share": "float",
        "flag": "bool",
        "text": "string",
        "list": "string",
        "when": "string",
    }
    assert value.records[1].data["share"] is None
    assert value.records[0].data["list"] == "[1]"


def test_item_tables_name_every_item(platform: Platform) -> None:
    table = item_table(_outcome(platform, good=2, bad=1))
    assert list(table["item"]) == ["good_0.front", "good_1.front", "bad_0.front"]


@pytest.mark.parametrize(
    "error",
    [
        MissingUpstreamError("no masks"),
        PromptSelectionError("no prompt"),
        StoreError("chunk 'by_hand' is not registered"),
        ClipSourceError("no source"),
    ],
)
def test_what_a_person_can_mend_fails_in_one_line_and_is_not_retried(error: Exception) -> None:
    with pytest.raises(dg.Failure) as failure, clear_failures():
        raise error
    assert failure.value.description == str(error)
    assert failure.value.allow_retries is False


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="disk full"), clear_failures():
        raise OSError("disk full")
