"""What the model may answer, and reading an answer strictly.

The classes here are the one definition of both forms: `prompts.py` shows the model their JSON schema, `engine.py` reads
what comes back. Nothing is repaired: an answer that needs guessing is refused, with a complaint worded for the model.

An answer is one JSON object and nothing else but white space around it. A code fence around the whole object is let
through, because instruction-tuned models add one by habit and it says nothing; sentences before or after it are not,
because they may take back what the object says.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import AttributeVerdict

# A sentence; models that ramble are cut off by their token limit otherwise, in the middle of the object.
REASON_CHARACTERS = 300
# About 130 tokens of English: CogVideoX reads 226, FLUX 512.
CAPTION_CHARACTERS = 500

# Complaints that the model is told of at once: more distract it.
_TOLD = 3

_FENCED = re.compile(r"```(?:json)?\s*(?P<inside>.*?)\s*```", re.DOTALL | re.IGNORECASE)

AttributeName = Literal["count", "color", "pattern", "perspective", "texture"]
ATTRIBUTES: tuple[AttributeName, ...] = ("count", "color", "pattern", "perspective", "texture")

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_CHARACTERS)]

A = TypeVar("A", bound="Answer")


class MalformedAnswerError(ValueError):
    """An answer that is not of the asked form; the message can be told to the model."""


class Answer(BaseModel):
    """A form to be filled in: no field may be missing, none may be added, no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AttributesAnswer(Answer):
    """The lane markings of one picture. What is seen comes first: models decide better after having described."""

    seen: Sentence = Field(description="one short sentence: the lane markings beside the camera's own lane")
    count: Count = Field(description="parallel stripes of one line: single, or double where two run close together")
    color: Color = Field(description="mixed where the lines differ")
    pattern: Pattern = Field(description="mixed where the lines differ")

    @property
    def style(self) -> LaneStyle:
        return LaneStyle(self.count, self.color, self.pattern)


class AttributeMark(Answer):
    """One attribute of an edited picture. The reason comes first, so that it decides rather than excuses."""

    reason: Sentence = Field(description="one short sentence: what the edited picture shows")
    passed: bool


class JudgeAnswer(Answer):
    """The verdict over an edited picture.

    A verdict that its own attributes contradict is malformed, either way: PASS with a failed attribute, FAIL without
    one. `revised_caption` must be given on FAIL; on PASS nobody reads it, so null, an empty text and a caption all do.
    """

    count: AttributeMark
    color: AttributeMark
    pattern: AttributeMark
    perspective: AttributeMark
    texture: AttributeMark
    verdict: Literal["PASS", "FAIL"] = Field(description="PASS only if all five attributes passed, else FAIL")
    revised_caption: Annotated[str, StringConstraints(max_length=CAPTION_CHARACTERS)] | None = Field(
        description="on FAIL: a better caption for the painter; on PASS: null"
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> JudgeAnswer:
        failed = [mark.attribute for mark in self.attributes if not mark.passed]
        if self.verdict == "PASS" and failed:
            raise ValueError(f"the verdict is PASS, but {' and '.join(failed)} did not pass")
        if self.verdict == "FAIL" and not failed:
            raise ValueError("the verdict is FAIL, but every attribute passed")
        if self.verdict == "FAIL" and not (self.revised_caption or "").strip():
            raise ValueError("the verdict is FAIL, but revised_caption is empty")
        return self

    @property
    def attributes(self) -> tuple[AttributeVerdict, ...]:
        """The five marks in the order of `ATTRIBUTES`, each reason on one line."""
        marks: list[tuple[AttributeName, AttributeMark]] = [(name, getattr(self, name)) for name in ATTRIBUTES]
        return tuple(AttributeVerdict(name, mark.passed, " ".join(mark.reason.split())) for name, mark in marks)


def answer_schema(form: type[Answer]) -> str:
    """The JSON schema of a form, as the model is shown it: without what is written for readers of this file."""
    schema = form.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        for remark in ("title", "description"):
            part.pop(remark, None)
        for field in part.get("properties", {}).values():
            field.pop("title", None)
    return json.dumps(schema)


def parse_answer(text: str, form: type[A]) -> A:
    """Read an answer.

    Args:
        text: all that the model said.
        form: what it was asked for.

    Raises:
        MalformedAnswerError: the text is anything but one object of that form; see the module.
    """
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    if fenced is not None:
        text = fenced["inside"]
    if not text.startswith("{"):
        raise MalformedAnswerError("the answer must be one JSON object, with nothing before or after it")
    try:
        answer = form.model_validate_json(text)
        # The validator takes the last of two equal names, which may contradict the first.
        json.loads(text, object_pairs_hook=_once)
    except ValidationError as error:
        raise MalformedAnswerError(_worded(error)) from error
    except ValueError as error:
        raise MalformedAnswerError(str(error)) from error
    return answer


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


def _worded(error: ValidationError) -> str:
    told = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:_TOLD]:
        where = ".".join(str(step) for step in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        told.append(f"{where}: {what}" if where else what)
    return "; ".join(told)
