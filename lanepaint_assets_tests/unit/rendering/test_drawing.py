"""Text and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.rendering import drawing


@given(text=st.text(max_size=60), width=st.integers(0, 300), size=st.integers(9, 40), bold=st.booleans())
def test_fitted_text_is_never_wider_than_asked(text: str, width: int, size: int, bold: bool) -> None:
    fitted = drawing.fit_text(text, width, size, bold)
    assert drawing.text_width(fitted, size, bold) <= width
    assert "\n" not in fitted


def test_text_that_fits_is_left_alone_and_longer_text_ends_with_an_ellipsis() -> None:
    assert drawing.fit_text("short", 300, 14) == "short"
    cut = drawing.fit_text("a name that is much too long for its place", 100, 14)
    assert cut.endswith("…")
    assert cut.startswith("a name")
    assert drawing.fit_text("anything", 1, 14) == ""


def test_text_outside_ascii_is_drawn_and_differs_from_a_question_mark() -> None:
    for text in ("Straße", "čšř", "дорога", "t0 −1.20 s · Δ"):
        assert drawing.text_mask(text, 16).max() > 200
    assert not np.array_equal(drawing.text_mask("ß", 16), drawing.text_mask("?", 16))


@given(text=st.text(alphabet=st.characters(), max_size=30))
def test_any_text_can_be_drawn(text: str) -> None:
    canvas = np.zeros((40, 60, 3), dtype=np.uint8)
    drawing.draw_text(canvas, text, -10, 30, 12, drawing.WHITE)


def test_lone_surrogates_and_control_characters_become_printable() -> None:
    assert drawing.printable("a\x00b\nc\ud800d") == "a b c?d"


def test_text_beyond_the_picture_changes_nothing() -> None:
    canvas = np.zeros((20, 20, 3), dtype=np.uint8)
    drawing.draw_text(canvas, "gone", 40, 5, 12, drawing.WHITE)
    drawing.draw_text(canvas, "gone", 5, -60, 12, drawing.WHITE)
    assert not canvas.any()


@pytest.mark.parametrize(("size", "expected"), [((960, 540), 1.0), ((1920, 1080), 2.0), ((320, 180), 1 / 3)])
def test_sizes_follow_the_picture(size: tuple[int, int], expected: float) -> None:
    assert drawing.picture_scale(*size) == pytest.approx(expected)
    assert drawing.font_px(13, drawing.picture_scale(*size)) >= drawing.MIN_FONT_PX


def test_a_picture_is_reduced_with_its_proportions_and_never_enlarged() -> None:
    picture = np.zeros((100, 400, 3), dtype=np.uint8)
    assert drawing.fit_inside(picture, 200, 200).shape == (50, 200, 3)
    assert drawing.fit_inside(picture, 800, 800) is picture
