from __future__ import annotations

import pytest

from lanepaint_assets.editing.marking_standards import STANDARD_NAMES, marking_standard, nonstandard_reason
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern


@pytest.mark.parametrize(
    ("name", "dash", "gap", "width"),
    [
        ("us", 3.05, 9.14, 0.15),
        ("us_dotted", 0.91, 2.74, 0.15),
        ("de", 6, 12, 0.15),
        ("de_rural", 4, 8, 0.12),
        ("de_urban", 3, 6, 0.12),
        ("at", 6, 9, 0.12),
        ("at_motorway", 6, 12, 0.15),
        ("at_urban", 3, 3, 0.12),
        ("uk", 2, 7, 0.10),
        ("uk_urban", 1, 5, 0.10),
        ("uk_centre", 3, 6, 0.10),
        ("uk_centre_urban", 2, 4, 0.10),
    ],
)
def test_dash_gap_and_width_are_those_of_the_region_and_road(name: str, dash: float, gap: float, width: float):
    standard = marking_standard(name)
    assert standard.dash_m == pytest.approx(dash)
    assert standard.gap_m == pytest.approx(gap)
    assert standard.period_m == pytest.approx(dash + gap)
    assert standard.width_m == pytest.approx(width)
    assert standard.double_gap_m == pytest.approx(standard.width_m)
    assert name.startswith(standard.region)


def test_an_unknown_region_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="us, us_dotted, de, "):
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
    standards = [marking_standard(n) for n in STANDARD_NAMES]
    assert {s.region for s in standards if nonstandard_reason(style, s)} == flagged
    assert {s.region for s in standards if not nonstandard_reason(style, s)} == {"us", "de", "at", "uk"} - flagged
