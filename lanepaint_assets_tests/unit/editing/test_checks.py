"""What is checked of first frames and edited videos."""

from __future__ import annotations

import dagster as dg
import pytest
from pydantic import JsonValue

from lanepaint_assets.editing.checks import edited_video_checks, first_frame_checks
from lanepaint_assets.item_checks import ERROR, WARN, ItemCheck, check_result
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.check_rows import made, partition

SETTINGS = Settings(root="memory://checks")
WHOLE: dict[str, JsonValue] = {"frames": 90, "source_frames": 90, "time_error_us": 0, "background_changed_px": 0}


def _check(name: str, settings: Settings = SETTINGS) -> ItemCheck:
    return next(
        check for check in (*first_frame_checks(settings), *edited_video_checks(settings)) if check.name == name
    )


def _result(name: str, *rows: ItemRow, settings: Settings = SETTINGS) -> dg.AssetCheckResult:
    return check_result("edited_videos", _check(name, settings), partition(*rows))


def _judged(key: str, verdict: str | None, **facts: JsonValue) -> ItemRow:
    return made({"verdict": verdict, "reasons": "color: it is yellow", **facts}, f"{key}.front/p")


@pytest.mark.parametrize("name", ["frames_equal_source", "background_unchanged"])
def test_a_video_with_its_clips_frames_times_and_background_passes(name: str) -> None:
    assert _result(name, made(WHOLE)).passed


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"frames": 89}, "it has 89 frames, its clip's grid 90"),
        ({"time_error_us": 125_000}, "its times are up to 125000 us beside the grid's"),
        ({"time_error_us": None}, "its sidecar has another number of entries"),
    ],
)
def test_other_frames_or_times_than_the_source_are_errors(facts: dict[str, JsonValue], words: str) -> None:
    result = _result("frames_equal_source", made({**WHOLE, **facts}))
    assert not result.passed
    assert result.severity == ERROR
    assert words in str(result.description)


def test_a_changed_background_is_an_error() -> None:
    result = _result("background_unchanged", made({**WHOLE, "background_changed_px": 3}))
    assert not result.passed
    assert result.severity == ERROR
    assert "3 pixels outside the mask" in str(result.description)


def test_a_changed_background_that_a_person_asked_for_is_a_warning() -> None:
    settings = Settings(root="memory://checks", keep_masked_pixels=False)
    result = _result("background_unchanged", made({**WHOLE, "background_changed_px": 3}), settings=settings)
    assert not result.passed
    assert result.severity == WARN


@pytest.mark.parametrize("name", ["frames_equal_source", "background_unchanged"])
def test_videos_made_before_this_was_measured_do_not_pass(name: str) -> None:
    result = _result(name, made({"prompt": "p"}))
    assert not result.passed
    assert result.severity == WARN
    assert "was not measured" in str(result.description)


def test_enough_passed_first_frames_pass_and_attributes_are_told_by_share() -> None:
    good: dict[str, JsonValue] = {"attributes": {"color": True, "pattern": True}, "iterations": 1}
    bad: dict[str, JsonValue] = {"attributes": {"color": False, "pattern": True}, "iterations": 3}
    result = _result("verdict_rate", _judged("a", "PASS", **good), _judged("b", "FAIL", **bad))
    assert result.passed
    told = {name: value.value for name, value in result.metadata.items()}
    assert (told["color_passed_share"], told["pattern_passed_share"]) == (0.5, 1.0)
    assert told["iterations_mean"] == 2
    assert told["failed_share"] == 0.5
    assert "b.front/p (color: it is yellow)" in str(result.description)


def test_too_few_passed_first_frames_are_a_warning_and_a_person_sets_how_many_are_enough() -> None:
    rows = (_judged("a", "PASS"), _judged("b", "FAIL"), _judged("c", "FAIL"))
    result = _result("verdict_rate", *rows)
    assert not result.passed
    assert result.severity == WARN
    assert _result("verdict_rate", *rows, settings=Settings(root="memory://checks", min_verdict_rate=0.3)).passed


def test_control_prompts_have_no_verdict_and_do_not_count() -> None:
    result = _result("verdict_rate", _judged("a", "PASS"), _judged("control", None))
    assert result.passed
    assert result.metadata["judged_items"].value == 1


def test_imported_first_frames_were_not_judged() -> None:
    result = _result("verdict_rate", _judged("a", None, origin="imported"))
    assert not result.passed
    assert "not measured when the item was imported" in str(result.description)
