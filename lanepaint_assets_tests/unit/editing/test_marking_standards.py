from __future__ import annotations

import pytest

from lanepaint_assets.editing.marking_standards import STANDARD_NAMES, marking_standard, nonstandard_reason
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern


@pytest.mark.parametrize(("name", "dash", "period"), [("us", 3.05, 12.19), ("de", 6, 18), ("at", 6, 15), ("uk", 2, 9)])
def test_dash_and_period_are_those_of_the_region(name: str, dash: float, period: float):
    standard = marking_standard(name)
    assert standard.dash_m == pytest.approx(dash)
    assert standard.period_m == pytest.approx(period)
    assert standard.double_gap_m == pytest.approx(standard.width_m)


def test_an_unknown_region_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="us, de, at, uk"):
        marking_standard("fr")


@pytest.mark.parametrize(
    ("style", "flagged"),
    [
        (LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID), {"us", "de", "at", "uk"}),
        (LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID), {"de", "at", "uk"}),
        (LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.DASHED), {"de", "at", "uk"}),
        (LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED), set()),
        (LaneStyle(Count.DOUBLE, Color.WHITE, Pattern.SOLID), set()),
        (LaneStyle(Count.DOUBLE, Color.WHITE, Pattern.DASHED), {"us", "de", "at", "uk"}),
    ],
)
def test_only_combinations_that_a_region_does_not_know_are_flagged(style: LaneStyle, flagged: set[str]):
    assert {n for n in STANDARD_NAMES if nonstandard_reason(style, marking_standard(n))} == flagged
