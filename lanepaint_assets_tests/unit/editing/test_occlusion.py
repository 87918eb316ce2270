from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.line_strips import LineStrip, StripGrid
from lanepaint_assets.editing.occlusion import Occlusion, RoadLook

GRID = StripGrid(count=176, first_m=3.0, last_m=90.0, half_width_m=1.35, column_m=0.075)
FRAMES, STEP_M = 24, 1.5
ASPHALT = 0.15
Look = Callable[[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]], None]


def strip(k: int, change: Look) -> LineStrip:
    """A white line 15 cm wide on grainy asphalt; `change` alters the light (J, M, 3) of stations s and metres ahead."""
    s = 10.0 + k * STEP_M + GRID.ahead_m
    shape = (GRID.count, GRID.columns_m.size)
    grain = 1 + 0.05 * np.random.default_rng(k).normal(size=shape)
    light = np.repeat((ASPHALT * grain)[..., None], 3, axis=2).astype(np.float32)
    light[:, np.abs(GRID.columns_m) < 0.08] = 0.6
    change(k, s, GRID.ahead_m, light)
    valid = np.ones(shape, dtype=np.bool_)
    return LineStrip(GRID, s, np.zeros((*shape, 2)), np.zeros((*shape, 2), np.float32), light, valid, ~valid)


def occlusions(change: Look) -> tuple[Occlusion, ...]:
    look = RoadLook(GRID, 200.0)
    for k in range(FRAMES):
        one = strip(k, change)
        look.add([one], one.beyond[None], np.full((1, GRID.count, 3), ASPHALT, np.float32))
    return look.occlusions()


def alpha_at(occlusion: Occlusion, k: int, ahead_m: float, m: float) -> float:
    alpha = np.ones(1, np.float32)
    here = 10.0 + k * STEP_M
    one = np.array([here + ahead_m], np.float32), np.array([m], np.float32)
    occlusion.dim(here, np.zeros(1, np.int16), *one, alpha)
    return float(alpha[0])


def test_a_plain_road_is_hidden_nowhere():
    assert not any(one.hidden.any() for one in occlusions(lambda *_: None))


@pytest.mark.parametrize("color", [(0.3, 0.02, 0.02), (0.02, 0.05, 0.25), (0.5, 0.5, 0.5)])
def test_a_vehicle_that_passes_is_hidden_while_it_stands_there(color: tuple[float, float, float]):
    def passes(k: int, _s: NDArray[np.float64], ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        if k == 12:
            light[(ahead > 6) & (ahead < 10)] = color

    found = occlusions(passes)
    assert alpha_at(found[12], 12, 8.0, 0.0) == 0.0
    assert alpha_at(found[12], 12, 8.0, 0.4) == 0.0
    assert alpha_at(found[12], 12, 14.0, 0.0) == 1.0
    assert alpha_at(found[11], 11, 8.0, 0.0) == 1.0


def test_a_shadow_that_passes_hides_nothing():
    def shaded(k: int, _s: NDArray[np.float64], ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        if 8 <= k < 12:
            light[(ahead > 6) & (ahead < 10)] *= 0.2

    assert not any(one.hidden.any() for one in occlusions(shaded))


def test_shadows_of_trees_that_stay_on_the_road_hide_nothing():
    def dappled(_k: int, s: NDArray[np.float64], _ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        light[np.mod(s, 5.0) < 2.0] *= 0.25

    assert not any(one.hidden.any() for one in occlusions(dappled))


def test_a_white_vehicle_that_keeps_pace_beside_the_line_is_hidden_in_every_frame():
    def beside(_k: int, _s: NDArray[np.float64], ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        body = (ahead > 4) & (ahead < 9)
        light[np.ix_(body, GRID.columns_m < -0.2)] = 0.8

    for k, found in enumerate(occlusions(beside)):
        assert alpha_at(found, k, 6.0, -0.4) == 0.0
        assert alpha_at(found, k, 6.0, 0.3) == 1.0
        assert alpha_at(found, k, 14.0, -0.4) == 1.0


@pytest.mark.parametrize("body", [0.06, 0.28, 0.6])
def test_off_the_mask_a_grey_body_is_no_road_on_the_line_that_it_covers_either(body: float):
    def passes(k: int, _s: NDArray[np.float64], ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        if k == 12:
            light[(ahead > 6) & (ahead < 10)] = body

    found = occlusions(passes)
    covered = (GRID.ahead_m > 6.3) & (GRID.ahead_m < 9.7)
    near = np.abs(GRID.columns_m) < 0.5
    assert found[12].strange[0][np.ix_(covered, near)].all()
    assert not found[12].strange[0][GRID.ahead_m > 11].any()
    assert not found[11].strange.any()


def test_what_is_as_narrow_as_a_line_is_no_body():
    def worn(k: int, _s: NDArray[np.float64], ahead: NDArray[np.float64], light: NDArray[np.float32]) -> None:
        if k == 12:
            light[np.ix_((ahead > 6) & (ahead < 10), np.abs(GRID.columns_m) < 0.08)] = ASPHALT

    assert not any(one.strange.any() for one in occlusions(worn))
