from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.shading import (
    DEFAULT_CONTRAST,
    LINEAR_OF_BYTE,
    LUMINANCE,
    PaintBrightness,
    PaintSamples,
    byte_of,
    byte_table,
    paint_gain,
)
from lanepaint_assets.lanes.attributes import Color

Float32 = NDArray[np.float32]

# Bluish asphalt, as many cameras show it.
ASPHALT = np.array([0.08, 0.08, 0.11], np.float32)
WHITE = np.array([0.55, 0.55, 0.55], np.float32)
YELLOW = np.array([0.55, 0.363, 0.0385], np.float32)


def samples(paint: Float32, count: int = 600) -> PaintSamples:
    """Fresh paint in sun and, half as bright, in shadow, and asphalt that was taken for the line."""
    result = PaintSamples()
    for light in (1.0, 0.5):
        result.add(np.tile(light * paint, (count, 1)), np.tile(light * ASPHALT, (count, 1)))
        result.add(np.tile(light * ASPHALT, (count, 1)), np.tile(light * ASPHALT, (count, 1)))
    return result


def test_every_byte_survives_the_way_to_linear_light_and_back():
    assert [byte_of(float(LINEAR_OF_BYTE[b]), byte_table()) for b in range(256)] == list(range(256))


def test_new_white_paint_is_as_neutral_as_the_old_on_bluish_asphalt():
    painted = paint_gain(Color.WHITE, samples(WHITE).brightness()) * ASPHALT
    assert painted / painted.mean() == pytest.approx(np.ones(3), abs=0.04)
    assert painted @ np.asarray(LUMINANCE) == pytest.approx(0.55, rel=0.05)


def test_what_yellow_paint_teaches_makes_new_yellow_paint_alike():
    painted = paint_gain(Color.YELLOW, samples(YELLOW).brightness()) * ASPHALT
    assert painted[:2] == pytest.approx(YELLOW[:2], rel=0.08)
    assert painted[2] < 0.15 * painted[0]


def test_what_is_asphalt_all_over_teaches_nothing():
    none = PaintSamples()
    none.add(np.tile(1.1 * ASPHALT, (5000, 1)), np.tile(ASPHALT, (5000, 1)))
    assert none.brightness() == PaintSamples().brightness()
    assert none.brightness().contrast == DEFAULT_CONTRAST


def test_paint_of_default_brightness_is_a_multiple_of_the_asphalts_own_light():
    gain = paint_gain(Color.WHITE, PaintBrightness(3.0, 0.75))
    assert gain == pytest.approx([3.0, 3.0, 3.0])
