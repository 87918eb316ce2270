"""Reading the model's answers: one form, strictly, with complaints that can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.qwen.answers import (
    ATTRIBUTES,
    CAPTION_CHARACTERS,
    REASON_CHARACTERS,
    Answer,
    AttributeMark,
    AttributesAnswer,
    JudgeAnswer,
    MalformedAnswerError,
    answer_schema,
    parse_answer,
)

SEEN = {"seen": "two white lines", "count": "single", "color": "white", "pattern": "dashed"}


def judged(verdict: str = "FAIL", failed: tuple[str, ...] = ("color",), **changes: Any) -> dict[str, Any]:
    marks = {name: {"reason": f"the {name} of it", "passed": name not in failed} for name in ATTRIBUTES}
    return {**marks, "verdict": verdict, "revised_caption": "road with yellow lines" if failed else None, **changes}


def without(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != name}


def test_attributes_are_read() -> None:
    answer = parse_answer(json.dumps(SEEN), AttributesAnswer)
    assert answer.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)
    assert answer.seen == "two white lines"


def test_a_verdict_is_read_with_its_attributes_in_order() -> None:
    answer = parse_answer(json.dumps(judged(failed=("color", "texture"))), JudgeAnswer)
    assert [(mark.attribute, mark.passed) for mark in answer.attributes] == [
        ("count", True),
        ("color", False),
        ("pattern", True),
        ("perspective", True),
        ("texture", False),
    ]
    assert answer.attributes[0].reason == "the count of it"
    assert answer.revised_caption == "road with yellow lines"


@pytest.mark.parametrize("revised", [None, "", "road with white lines"])
def test_nobody_reads_the_revised_caption_of_a_pass(revised: str | None) -> None:
    text = json.dumps(judged("PASS", (), revised_caption=revised))
    assert parse_answer(text, JudgeAnswer).verdict == "PASS"


@pytest.mark.parametrize(
    "form", ["{}", "\n {} \n", "```json\n{}\n```", "```\n{}\n```", "```JSON {}```", " ```json\n{}```\n"]
)
def test_white_space_and_one_code_fence_around_the_object_are_let_through(form: str) -> None:
    assert parse_answer(form.replace("{}", json.dumps(SEEN)), AttributesAnswer).count is Count.SINGLE


NOT_ONE_OBJECT = "the answer must be one JSON object, with nothing before or after it"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", NOT_ONE_OBJECT),
        ("PASS", NOT_ONE_OBJECT),
        ("null", NOT_ONE_OBJECT),
        (json.dumps([SEEN]), NOT_ONE_OBJECT),
        (f"Here it is: {json.dumps(SEEN)}", NOT_ONE_OBJECT),
        (f"Sure!\n```json\n{json.dumps(SEEN)}\n```", NOT_ONE_OBJECT),
        (f"```json\n{json.dumps(SEEN)}\n```\nI hope this helps.", NOT_ONE_OBJECT),
        (f"```json\n{json.dumps(SEEN)}", NOT_ONE_OBJECT),
        (f"{json.dumps(SEEN)} But I am not sure.", "trailing characters"),
        (f"{json.dumps(SEEN)}\n{json.dumps(SEEN)}", "trailing characters"),
        (json.dumps(SEEN)[:-1], "EOF while parsing"),
        (json.dumps(SEEN)[:30], "EOF while parsing"),
        (str(SEEN), "Invalid JSON"),
        (json.dumps(SEEN).replace('"dashed"', '"dashed",'), "trailing comma"),
        ('{"a":' * 5000, "recursion limit"),
        (json.dumps(SEEN).replace('"single"', "1" * 6000), "number out of range"),
        (json.dumps(SEEN).replace("two white", "\\ud800"), "Invalid JSON"),
        (json.dumps(SEEN).replace("two white", "\ud800"), "unicode"),
        (json.dumps(SEEN).replace("{", '{"count": "double", ', 1), "'count' is given twice"),
    ],
)
def test_anything_but_one_object_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MalformedAnswerError, match=complaint):
        parse_answer(text, AttributesAnswer)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({}, "seen: Field required; count: Field required; color: Field required"),
        (without(SEEN, "pattern"), "pattern: Field required"),
        ({**SEEN, "width": "wide"}, "width: Extra inputs are not permitted"),
        ({**SEEN, "count": "two"}, "count: Input should be 'single', 'double' or 'unknown'"),
        ({**SEEN, "count": "Single"}, "count: Input should be"),
        ({**SEEN, "count": None}, "count: Input should be"),
        ({**SEEN, "color": ["white"]}, "color: Input should be"),
        ({**SEEN, "seen": "  "}, "seen: String should have at least 1 character"),
        ({**SEEN, "seen": "x" * (REASON_CHARACTERS + 1)}, "seen: String should have at most 300 characters"),
        ({**SEEN, "seen": 3}, "seen: Input should be a valid string"),
    ],
)
def test_attributes_of_another_form_are_refused(answer: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MalformedAnswerError, match=complaint):
        parse_answer(json.dumps(answer), AttributesAnswer)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (judged("PASS"), "^the verdict is PASS, but color did not pass$"),
        (judged("PASS", ("count", "texture")), "the verdict is PASS, but count and texture did not pass"),
        (judged("FAIL", ()), "the verdict is FAIL, but every attribute passed"),
        (judged(revised_caption=None), "the verdict is FAIL, but revised_caption is empty"),
        (judged(revised_caption=" \n"), "the verdict is FAIL, but revised_caption is empty"),
        (judged(revised_caption="x" * (CAPTION_CHARACTERS + 1)), "revised_caption: .* at most 500 characters"),
        (judged(verdict="fail"), "verdict: Input should be 'PASS' or 'FAIL'"),
        (judged(verdict=False), "verdict: Input should be 'PASS' or 'FAIL'"),
        (without(judged(), "revised_caption"), "revised_caption: Field required"),
        (without(judged(), "perspective"), "perspective: Field required"),
        (judged(score=0.5), "score: Extra inputs are not permitted"),
        (judged(count=True), "count: Input should be an object"),
        (judged(count={"passed": True}), "count.reason: Field required"),
        (judged(count={"reason": "one stripe"}), "count.passed: Field required"),
        (judged(count={"reason": "one stripe", "passed": "yes"}), "count.passed: Input should be a valid boolean"),
        (judged(count={"reason": "one stripe", "passed": 1}), "count.passed: Input should be a valid boolean"),
        (judged(count={"reason": "one stripe", "passed": True, "sure": 1}), "count.sure: Extra inputs"),
    ],
)
def test_a_verdict_of_another_form_or_at_odds_with_itself_is_refused(answer: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MalformedAnswerError, match=complaint):
        parse_answer(json.dumps(answer), JudgeAnswer)


def test_a_mark_given_twice_is_refused() -> None:
    twice = json.dumps(judged()).replace('"passed": false', '"passed": true, "passed": false')
    with pytest.raises(MalformedAnswerError, match="'passed' is given twice"):
        parse_answer(twice, JudgeAnswer)


def test_a_complaint_stays_short() -> None:
    with pytest.raises(MalformedAnswerError) as refused:
        parse_answer(json.dumps({f"{'long' * 20}{index}": 0 for index in range(200)}), JudgeAnswer)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("form", [AttributesAnswer, JudgeAnswer, AttributeMark])
def test_the_schema_demands_every_field_and_no_other(form: type[Answer]) -> None:
    schema = json.loads(answer_schema(form))
    assert list(schema["properties"]) == schema["required"] == list(form.model_fields)
    assert schema["additionalProperties"] is False
    assert all(part.get("additionalProperties", False) is False for part in schema.get("$defs", {}).values())


@given(st.text())
def test_any_text_is_an_answer_or_malformed(text: str) -> None:
    for form in (AttributesAnswer, JudgeAnswer):
        with pytest.raises(MalformedAnswerError):
            parse_answer(text, form)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.sampled_from(["PASS", "FAIL"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["reason", "passed", "x"]), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, "verdict", "revised_caption", "other"]), json_values))
def test_any_changed_verdict_is_a_whole_one_or_malformed(changes: dict[str, Any]) -> None:
    try:
        answer = parse_answer(json.dumps({**judged(), **changes}), JudgeAnswer)
    except MalformedAnswerError:
        return
    assert (answer.verdict == "PASS") == all(mark.passed for mark in answer.attributes)


@given(st.data())
def test_a_damaged_verdict_is_a_whole_one_or_malformed(data: st.DataObject) -> None:
    text = json.dumps(judged())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    try:
        answer = parse_answer(text[:start] + data.draw(st.text(max_size=6)) + text[end:], JudgeAnswer)
    except MalformedAnswerError:
        return
    assert answer.verdict == "FAIL"
    assert any(not mark.passed for mark in answer.attributes)


sentences = st.text(min_size=1, max_size=REASON_CHARACTERS, alphabet=st.characters(exclude_categories=["Cs"])).filter(
    lambda text: text == text.strip() != ""
)
marks = st.builds(AttributeMark, reason=sentences, passed=st.booleans())


@given(st.builds(AttributesAnswer, seen=sentences))
def test_attributes_survive_a_round_trip(answer: AttributesAnswer) -> None:
    assert parse_answer(answer.model_dump_json(), AttributesAnswer) == answer


@given(st.tuples(*[marks] * 5), sentences)
def test_a_verdict_survives_a_round_trip(five: tuple[AttributeMark, ...], caption: str) -> None:
    passed = all(mark.passed for mark in five)
    answer = JudgeAnswer(
        **dict(zip(ATTRIBUTES, five, strict=True)),
        verdict="PASS" if passed else "FAIL",
        revised_caption=None if passed else caption,
    )
    assert parse_answer(f"```json\n{answer.model_dump_json(indent=1)}\n```", JudgeAnswer) == answer
