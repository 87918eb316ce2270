"""Regional presets of dash, gap and width, and which styles a region's rules do not know.

Called by the prompt catalogue (names), the procedural painter (metres) and reports (flags). Numbers and rules only: no
pictures, no geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern

# The plain name of a region is its preset for fast roads between towns; the others say where they apply.
StandardName = Literal[
    "us",
    "us_dotted",
    "de",
    "de_rural",
    "de_urban",
    "at",
    "at_motorway",
    "at_urban",
    "uk",
    "uk_urban",
    "uk_centre",
    "uk_centre_urban",
]
Region = Literal["us", "de", "at", "uk"]

STANDARD_NAMES: tuple[StandardName, ...] = get_args(StandardName)

# No primary source gives the gap of a double line as a number; one line's width is what practice and drawings show.
DOUBLE_GAP_IN_LINE_WIDTHS = 1.0


@dataclass(frozen=True)
class MarkingStandard:
    """Dash, gap, stroke width and lane width of one kind of road in a region, metres.

    `lane_width_m` places a boundary that the clip does not show.
    """

    name: StandardName
    region: Region
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
    preset.name: preset
    for preset in (
        # MUTCD: 10 ft dash, 30 ft gap; normal lines are 4 to 6 in wide, 6 in is usual on fast roads. 12 ft lanes.
        MarkingStandard("us", "us", 3.05, 9.14, 0.15, 3.66),
        # MUTCD, dotted line that goes on where lanes part: 3 ft dash, 9 ft gap, as wide as the line it extends.
        MarkingStandard("us_dotted", "us", 0.91, 2.74, 0.15, 3.66),
        # German Autobahn (RMS, FGSV): 6 m dash, 12 m gap, narrow line 0.15 m; lanes of the RAA are 3.50 to 3.75 m.
        MarkingStandard("de", "de", 6.0, 12.0, 0.15, 3.5),
        # Other German roads: dash to gap as 1 to 2, narrow line 0.12 m; 4 m dashes between towns and 3 m in them.
        MarkingStandard("de_rural", "de", 4.0, 8.0, 0.12, 3.5),
        MarkingStandard("de_urban", "de", 3.0, 6.0, 0.12, 3.25),
        # Austrian roads between towns: 6 m dash, 9 m gap, at least 0.10 m wide; motorways as in Germany; in towns 3 m
        # dash, 3 m gap.
        MarkingStandard("at", "at", 6.0, 9.0, 0.12, 3.5),
        MarkingStandard("at_motorway", "at", 6.0, 12.0, 0.15, 3.5),
        MarkingStandard("at_urban", "at", 3.0, 3.0, 0.12, 3.25),
        # UK Traffic Signs Manual chapter 5, table 4-2, lane lines: above 40 mph 2 m mark, 7 m gap; else 1 m and 5 m.
        # 0.10 m wide, 3.65 m lanes.
        MarkingStandard("uk", "uk", 2.0, 7.0, 0.10, 3.65),
        MarkingStandard("uk_urban", "uk", 1.0, 5.0, 0.10, 3.65),
        # Table 4-1, centre lines: above 40 mph 3 m mark, 6 m gap; else 2 m and 4 m. 0.10 to 0.15 m wide.
        MarkingStandard("uk_centre", "uk", 3.0, 6.0, 0.10, 3.65),
        MarkingStandard("uk_centre_urban", "uk", 2.0, 4.0, 0.10, 3.65),
    )
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
        if standard.region == "us" and style.count is Count.SINGLE and style.pattern is Pattern.SOLID:
            return "a US centre line is yellow broken, broken beside solid, or double solid, never single solid"
        if standard.region == "us" and style.count is Count.DOUBLE and style.pattern is Pattern.DASHED:
            return "in the US a double broken yellow line marks a reversible lane only"
        if standard.region == "de":
            return "in Germany yellow lane lines are temporary, for road works"
        if standard.region == "at":
            return "in Austria permanent lane lines are white; yellow restricts stopping"
        if standard.region == "uk":
            return "in the UK lane and centre lines are white; yellow beside the kerb restricts waiting"
    if style.count is Count.DOUBLE and style.pattern is Pattern.DASHED:
        return f"a double line with both strokes broken is no regular lane line ({standard.region})"
    return None
