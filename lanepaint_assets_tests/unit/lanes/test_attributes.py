"""The normalized caption says exactly the three attributes, and its parser accepts nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern, parse_caption

STYLES = st.builds(LaneStyle, st.sampled_from(Count), st.sampled_from(Color), st.sampled_from(Pattern))


@given(STYLES)
def test_every_style_survives_its_caption(style: LaneStyle) -> None:
    assert parse_caption(style.caption) == style


@given(STYLES, STYLES)
def test_two_styles_share_a_key_only_if_they_are_equal(one: LaneStyle, other: LaneStyle) -> None:
    assert (one.key == other.key) == (one == other)


def test_key_and_caption_are_the_documented_words() -> None:
    style = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)
    assert style.key == "double_yellow_solid"
    assert style.caption == "road with double yellow solid lane markings"


def test_a_style_is_known_only_without_any_unknown() -> None:
    assert LaneStyle(Count.SINGLE, Color.MIXED, Pattern.DASHED).is_known
    assert not LaneStyle(Count.SINGLE, Color.UNKNOWN, Pattern.DASHED).is_known
    assert not UNKNOWN_STYLE.is_known


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "road with single white solid lane marking",
        "road with single white solid lane markings.",
        " road with single white solid lane markings",
        "road with single white solid lane markings\n",
        "Road with single white solid lane markings",
        "road with white single solid lane markings",
        "road with single solid lane markings",
        "road with triple white solid lane markings",
        "road with single red solid lane markings",
        "road with single white dotted lane markings",
        "road with mixed white solid lane markings",
        "road  with single white solid lane markings",
        "road with single white solid lane markings, wet",
        "a road with single white solid lane markings",
    ],
)
def test_a_malformed_caption_is_refused_with_the_allowed_words(caption: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_caption(caption)


@given(st.text(max_size=80))
def test_arbitrary_text_is_refused_or_is_its_own_caption(text: str) -> None:
    try:
        style = parse_caption(text)
    except ValueError:
        return
    assert style.caption == text
