"""What the model is asked, word for word.

Called by `engine.py`. The form of an answer and its examples are made from `answers.py`, so that what is asked for and
what is accepted cannot drift apart. Pictures are named "Picture 1", "Picture 2" by `model.py`, in the order given.

Raise `PROMPTS_VERSION`, which is the engine's version, with any change of words: they change every answer.
"""

from __future__ import annotations

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.qwen.answers import (
    CAPTION_CHARACTERS,
    Answer,
    AttributeMark,
    AttributesAnswer,
    JudgeAnswer,
    answer_schema,
)

PROMPTS_VERSION = "1"

_WORDS = """\
The words mean:
- count: "single" is one stripe of paint; "double" is two parallel stripes of one line with a narrow gap between them. \
The left and the right boundary of a lane are two lines, not a double one.
- color: "white" or "yellow" paint. Low sun and street lamps tint white paint; compare it with other white things.
- pattern: "solid" is unbroken paint; "dashed" is pieces of paint with gaps of bare road, repeated evenly."""

_CAPTION_RULES = f"""\
A caption tells an image painter what the finished picture shows. It names the count, colour and pattern of the lane \
markings, then the road's surface, the light and the weather as they are in the picture. It describes and never \
commands: no "change", "replace", "instead of", no words about what is not there. It is one sentence of plain English \
on one line, at most {CAPTION_CHARACTERS * 4 // 5} characters."""

_ATTRIBUTES_EXAMPLE = AttributesAnswer(
    seen="A broken white line on the left and an unbroken white line on the right, one stripe each.",
    count=Count.SINGLE,
    color=Color.WHITE,
    pattern=Pattern.MIXED,
)

# Two examples, for one alone would be taken for the verdict to give.
_PASS_EXAMPLE = JudgeAnswer(
    count=AttributeMark(reason="Each lane boundary is one stripe.", passed=True),
    color=AttributeMark(reason="The paint is white.", passed=True),
    pattern=AttributeMark(reason="Evenly spaced dashes up to the horizon.", passed=True),
    perspective=AttributeMark(reason="The lines lie where they lay and meet at the same point.", passed=True),
    texture=AttributeMark(reason="Asphalt, cracks and shadows are as before.", passed=True),
    verdict="PASS",
    revised_caption=None,
)
_FAIL_EXAMPLE = JudgeAnswer(
    count=AttributeMark(reason="Two stripes run side by side, as wanted.", passed=True),
    color=AttributeMark(reason="The paint is white, but yellow was wanted.", passed=False),
    pattern=AttributeMark(reason="The lines are unbroken, as wanted.", passed=True),
    perspective=AttributeMark(reason="The lines lie where they lay.", passed=True),
    texture=AttributeMark(reason="The asphalt is as before.", passed=True),
    verdict="FAIL",
    revised_caption=(
        "road with double yellow solid lane markings, two saturated yellow stripes side by side on dark wet asphalt "
        "under an overcast sky"
    ),
)


def caption_prompt(instruction: str, wanted: LaneStyle) -> str:
    """Asks for a first caption of the one picture shown."""
    return f"""\
Picture 1 is a frame of a driving video. Its lane markings are going to be repainted.
Editing instruction: {_quoted(instruction)}
Wanted lane markings: {_wanted(wanted)}.

Write the caption of the repainted picture. {_CAPTION_RULES}
Answer with the caption alone: no quotation marks, no heading, no explanation."""


def attributes_prompt() -> str:
    """Asks for the lane markings of the one picture shown."""
    return f"""\
Picture 1 is a frame of a driving video. Look at the lane markings that bound the lane in which the camera drives, \
left and right, and describe them as they are. Do not guess: an attribute that cannot be seen is "unknown".

{_WORDS}
Where the left and the right line differ in colour or pattern, answer "mixed"; where they differ in count, answer for \
the clearer one.

{_form(AttributesAnswer)}
An answer of the right form, about another picture:
{_ATTRIBUTES_EXAMPLE.model_dump_json()}"""


def judge_prompt(instruction: str, wanted: LaneStyle, caption: str) -> str:
    """Asks for the verdict over the second of two pictures."""
    return f"""\
Picture 1 is a frame of a driving video. Picture 2 is the same frame after a painter repainted its lane markings.
Editing instruction: {_quoted(instruction)}
Wanted lane markings: {_wanted(wanted)}.
Caption that the painter worked from: {_quoted(caption)}

Judge Picture 2 as a strict inspector: from what is painted there, not from what the caption claims. Look at the lines \
that bound the lane in which the camera drives. Five attributes pass or fail, each for itself:
- count: every line has the wanted number of stripes, and no old paint is left beside it.
- color: the paint has the wanted colour.
- pattern: the lines are unbroken or interrupted as wanted, up to the distance where they can no longer be told.
- perspective: the lines lie where the lines of Picture 1 lie, follow the road and meet at the same vanishing point.
- texture: the road between the lines, vehicles, shadows and all else are as in Picture 1, not smeared or invented.
{_WORDS}
An attribute that is not asked for passes. One that you cannot tell fails.

If any attribute fails, write a revised caption that makes the painter mend it: keep the wanted count, colour and \
pattern, say what failed in plainer visual words, and do not repeat the caption above. {_CAPTION_RULES}

{_form(JudgeAnswer)}
Answers of the right form, about other pictures:
{_PASS_EXAMPLE.model_dump_json()}
{_FAIL_EXAMPLE.model_dump_json()}"""


def again(prompt: str, complaint: str) -> str:
    """The same question after an answer that was refused; `complaint` is the parser's."""
    return f"""\
{prompt}

Your last answer could not be used: {complaint}. Answer once more, with one JSON object of that form only."""


def _form(form: type[Answer]) -> str:
    return f"""\
Answer with one JSON object and nothing else. It must be valid under this JSON schema, with every field:
{answer_schema(form)}"""


def _wanted(style: LaneStyle) -> str:
    words = {"count": style.count.value, "color": style.color.value, "pattern": style.pattern.value}
    return ", ".join(
        f"{name} {'is not asked for' if word == 'unknown' else word}".replace(
            "mixed", "mixed (the left and the right line differ)"
        )
        for name, word in words.items()
    )


def _quoted(text: str) -> str:
    """On one line, so that it cannot be taken for more of the question."""
    return '"' + " ".join(text.replace('"', "'").split()) + '"'
