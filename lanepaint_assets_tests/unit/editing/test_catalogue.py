from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.editing.catalogue import CatalogueError, PromptSelectionError, load_catalogue
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern

BUILT_IN = [
    "single_white_solid",
    "single_white_dashed",
    "double_yellow_solid",
    "single_yellow_dashed",
    "double_white_solid",
]
CONTROLS = ["roundtrip", "repaint_as_measured"]
STYLE = "style: {count: single, color: white, pattern: solid}"


def written(folder: Path, *entries: str) -> str:
    path = folder / "mine.yaml"
    path.write_text("prompts:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return str(path)


def test_the_five_prompts_are_numbered_in_the_order_of_the_specification():
    catalogue = load_catalogue(None)
    assert [(p.number, p.key) for p in catalogue.edits] == list(enumerate(BUILT_IN, start=1))
    assert [p.key for p in catalogue.controls] == CONTROLS


def test_every_built_in_prompt_asks_for_the_style_that_its_key_names():
    for prompt in load_catalogue(None).edits:
        assert prompt.style is not None
        assert prompt.style.key == prompt.key == prompt.lora_style


def test_prompts_are_selected_by_number_and_by_key_each_once():
    chosen = load_catalogue(None).select(["3", 1, "double_yellow_solid"])
    assert [p.key for p in chosen] == ["single_white_solid", "double_yellow_solid"]


def test_an_empty_selection_is_every_edit():
    assert [p.key for p in load_catalogue(None).select(None)] == BUILT_IN
    assert [p.key for p in load_catalogue(None).select([])] == BUILT_IN


def test_controls_are_called_for_whatever_is_selected():
    assert [p.key for p in load_catalogue(None).called_for([2])] == ["single_white_dashed", *CONTROLS]


def test_an_unknown_prompt_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(PromptSelectionError, match=r"'9', 'purple'.*1 single_white_solid.*roundtrip"):
        load_catalogue(None).select([9, "purple"])


def test_a_file_of_ones_own_adds_prompts_behind_the_built_in_ones(tmp_path: Path):
    path = written(tmp_path, f"key: mine, instruction: thin lines, {STYLE}, marking_standard: de")
    prompt = load_catalogue(path)["mine"]
    assert (prompt.number, prompt.marking_standard) == (6, "de")
    assert prompt.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)


def test_a_prompt_with_a_built_in_key_replaces_it_and_keeps_its_number(tmp_path: Path):
    catalogue = load_catalogue(written(tmp_path, f"key: single_white_dashed, instruction: mine, {STYLE}"))
    assert catalogue.select([2])[0].instruction == "mine"
    assert len(catalogue.edits) == 5
    assert catalogue.digest != load_catalogue(None).digest


def test_the_number_of_a_prompt_changes_neither_its_fields_nor_the_digest(tmp_path: Path):
    first, second = (f"key: {k}, instruction: x, {STYLE}" for k in "ab")
    one, two = load_catalogue(written(tmp_path, first, second)), load_catalogue(written(tmp_path, second, first))
    assert one["a"].number != two["a"].number
    assert one["a"].resolved_fields() == two["a"].resolved_fields()
    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"key: a b, instruction: x, {STYLE}", r"prompt 1 \(a b\), field 'key'.*a-z0-9"),
        (f"key: roundtrip, instruction: x, {STYLE}", r"'roundtrip' is reserved"),
        (f"key: '7', instruction: x, {STYLE}", r"would be read as a prompt's number"),
        (f"key: a, {STYLE}", r"prompt 1 \(a\), field 'instruction': Field required"),
        (
            "key: a, instruction: x, style: {count: triple, color: white, pattern: solid}",
            r"style.count.*'single' or 'double'",
        ),
        (
            "key: a, instruction: x, style: {count: single, color: unknown, pattern: solid}",
            r"style.color.*'white' or 'yellow'",
        ),
        (f"key: a, instruction: x, {STYLE}, marking_standard: fr", r"marking_standard.*'us', .* or 'uk_centre_urban'"),
        (f"key: a, instruction: x, {STYLE}, colour: red", r"field 'colour': Extra inputs"),
        (f"key: a, key: b, instruction: x, {STYLE}", r"'key' stands twice"),
    ],
)
def test_a_wrong_entry_is_refused_naming_file_prompt_field_and_what_is_allowed(
    tmp_path: Path, entry: str, message: str
):
    with pytest.raises(CatalogueError, match=message) as caught:
        load_catalogue(written(tmp_path, entry))
    assert "mine.yaml" in str(caught.value)


def test_two_prompts_with_one_key_are_refused(tmp_path: Path):
    with pytest.raises(CatalogueError, match="'a' is given to more than one prompt"):
        load_catalogue(written(tmp_path, f"key: a, instruction: x, {STYLE}", f"key: a, instruction: y, {STYLE}"))


def test_a_missing_file_and_one_that_is_no_catalogue_are_refused(tmp_path: Path):
    with pytest.raises(CatalogueError, match="cannot be read"):
        load_catalogue(str(tmp_path / "none.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("prompts: {a: 1}")
    with pytest.raises(CatalogueError, match="the list 'prompts'"):
        load_catalogue(str(broken))


@given(st.lists(st.sampled_from([*BUILT_IN, *CONTROLS, "1", "2", "3", "4", "5"]), min_size=1))
def test_a_selection_keeps_the_catalogues_order_and_holds_nothing_twice(wanted: list[str]):
    chosen = [p.key for p in load_catalogue(None).select(wanted)]
    assert chosen == [key for key in [*BUILT_IN, *CONTROLS] if key in chosen]
    assert len(set(chosen)) == len(chosen) == len({BUILT_IN[int(w) - 1] if w.isdigit() else w for w in wanted})
