"""Regional presets of dash, gap and width, and which styles a region's rules do not know.

Called by the prompt catalogue (names), the procedural painter (metres) and reports (flags). Numbers and rules only: no
pictures, no geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern

StandardName = Literal["us", "de", "at", "uk"]

STANDARD_NAMES: tuple[StandardName, ...] = get_args(StandardName)

# No primary source gives the gap of a double line as a number; one line's width is what practice and drawings show.
DOUBLE_GAP_IN_LINE_WIDTHS = 1.0


@dataclass(frozen=True)
class MarkingStandard:
    """Dash, gap, stroke width and lane width of one region, metres.

    `lane_width_m` places a boundary that the clip does not show.
    """

    name: StandardName
    dash_m: float
    gap_m: float
    width_m: float
    lane_width_m: float

    @property
    def period_m(self) -> float:
        """One dash and one gap."""
        return self.dash_m + self.gap_m

    @property
    def double_gap_m(self) -> float:
        """Clear distance between the two strokes of a double line."""
        return DOUBLE_GAP_IN_LINE_WIDTHS * self.width_m


_STANDARDS: dict[StandardName, MarkingStandard] = {
    # MUTCD: 10 ft dash, 30 ft gap; normal lines are 4 to 6 in wide, 6 in is the usual width on fast roads. 12 ft lanes.
    "us": MarkingStandard("us", dash_m=3.05, gap_m=9.14, width_m=0.15, lane_width_m=3.66),
    # German Autobahn (RMS, FGSV): 6 m dash, 12 m gap, narrow line 0.15 m; lanes of the RAA are 3.50 to 3.75 m.
    "de": MarkingStandard("de", dash_m=6.0, gap_m=12.0, width_m=0.15, lane_width_m=3.5),
    # Austrian rural roads: 6 m dash, 9 m gap, at least 0.10 m wide (motorways as in Germany).
    "at": MarkingStandard("at", dash_m=6.0, gap_m=9.0, width_m=0.12, lane_width_m=3.5),
    # UK Traffic Signs Manual ch. 5, table 4-2: lane line above 40 mph, 2 m mark, 7 m gap, 0.10 m. 3.65 m lanes.
    "uk": MarkingStandard("uk", dash_m=2.0, gap_m=7.0, width_m=0.10, lane_width_m=3.65),
}


def marking_standard(name: str) -> MarkingStandard:
    """The preset called `name`.

    Raises:
        ValueError: there is no such preset; the message lists those there are.
    """
    for known, standard in _STANDARDS.items():
        if known == name:
            return standard
    raise ValueError(f"there is no marking standard {name!r}; choose one of {', '.join(STANDARD_NAMES)}")


def nonstandard_reason(style: LaneStyle, standard: MarkingStandard) -> str | None:
    """Why a region's rules do not know `style` as a lane line, or None where they do.

    Such combinations are painted all the same: the flag is for the person who reads the result.

    Sources: MUTCD 3B.01 and 3B.04 (US); RMS and StVO sign 296 (DE); Bodenmarkierungsverordnung (AT); Traffic Signs
    Manual chapter 5 and Highway Code rules 127 to 132 (UK).
    """
    if Color.YELLOW is style.color:
        if standard.name == "us" and style.count is Count.SINGLE and style.pattern is Pattern.SOLID:
            return "a US centre line is yellow broken, broken beside solid, or double solid, never single solid"
        if standard.name == "us" and style.count is Count.DOUBLE and style.pattern is Pattern.DASHED:
            return "in the US a double broken yellow line marks a reversible lane only"
        if standard.name == "de":
            return "in Germany yellow lane lines are temporary, for road works"
        if standard.name == "at":
            return "in Austria permanent lane lines are white; yellow restricts stopping"
        if standard.name == "uk":
            return "in the UK lane and centre lines are white; yellow beside the kerb restricts waiting"
    if style.count is Count.DOUBLE and style.pattern is Pattern.DASHED:
        return f"a double line with both strokes broken is no regular lane line ({standard.name})"
    return None
