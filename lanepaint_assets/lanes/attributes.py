"""The three attributes of a lane marking and the one sentence that states them (spec 7 and 8).

Count, colour and pattern, their words, the normalized caption and its strict parser. No pictures here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Count(StrEnum):
    """How many parallel strokes make the line."""

    SINGLE = "single"
    DOUBLE = "double"
    UNKNOWN = "unknown"


class Color(StrEnum):
    """Paint colour; `mixed` where the lines of a road differ."""

    WHITE = "white"
    YELLOW = "yellow"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class Pattern(StrEnum):
    """Continuous or interrupted; `mixed` where the lines of a road differ."""

    SOLID = "solid"
    DASHED = "dashed"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class LaneStyle:
    """Count x colour x pattern."""

    count: Count
    color: Color
    pattern: Pattern

    @property
    def key(self) -> str:
        """`single_white_solid`: partition key and prompt key."""
        return f"{self.count}_{self.color}_{self.pattern}"

    @property
    def caption(self) -> str:
        """The normalized caption of spec 7."""
        return f"road with {self.count} {self.color} {self.pattern} lane markings"

    @property
    def is_known(self) -> bool:
        """True where no attribute is `unknown`."""
        return "unknown" not in (self.count, self.color, self.pattern)


UNKNOWN_STYLE = LaneStyle(Count.UNKNOWN, Color.UNKNOWN, Pattern.UNKNOWN)

_CAPTION = re.compile(
    r"road with (?P<count>{}) (?P<color>{}) (?P<pattern>{}) lane markings".format(
        "|".join(Count), "|".join(Color), "|".join(Pattern)
    )
)


def parse_caption(caption: str) -> LaneStyle:
    """Read the normalized caption back.

    Raises:
        ValueError: the text is not exactly of the normalized form.
    """
    match = _CAPTION.fullmatch(caption)
    if match is None:
        raise ValueError(
            f"caption {caption!r} is not of the form 'road with <count> <color> <pattern> lane markings' with count in "
            f"{[str(c) for c in Count]}, color in {[str(c) for c in Color]}, pattern in {[str(p) for p in Pattern]}"
        )
    return LaneStyle(Count(match["count"]), Color(match["color"]), Pattern(match["pattern"]))
