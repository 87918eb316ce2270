"""Looks at the ground that most others contradict are told apart, and nothing is told from two."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.look_agreement import BLOCK_CELLS, MIN_LOOKS, Looks, doubtful_blocks

ROWS, COLUMNS = 30, 100


def _looks(count: int) -> Looks:
    shape = (count, ROWS, COLUMNS)
    rgb = np.random.default_rng(3).integers(95, 105, (*shape, 3)).astype(np.uint8)
    # A dash of paint, seen by all.
    rgb[:, 5:20, 48:51] = 220
    everywhere = np.ones(shape, dtype=np.bool_)
    ahead = np.broadcast_to(np.linspace(5.0, 40.0, count, dtype=np.float32)[:, None, None], shape)
    return Looks(rgb, everywhere, everywhere.copy(), np.ascontiguousarray(ahead))


def test_ground_that_all_looks_show_alike_is_in_no_doubt() -> None:
    unlike, wide = doubtful_blocks(_looks(6))
    assert not unlike.any()
    assert not wide.any()


@given(hidden=st.integers(0, 5), level=st.sampled_from([20, 200, 250]))
def test_a_vehicle_in_one_look_is_doubtful_there_and_nowhere_else(hidden: int, level: int) -> None:
    looks = _looks(6)
    looks.rgb[hidden, 9:21, 20:50] = level
    unlike, wide = doubtful_blocks(looks)
    rows, columns = slice(9 // BLOCK_CELLS[0], 21 // BLOCK_CELLS[0]), slice(20 // BLOCK_CELLS[1], 50 // BLOCK_CELLS[1])
    assert unlike[hidden, rows, columns].all()
    assert unlike.sum() == unlike[hidden, rows, columns].sum()
    assert wide[hidden, rows.start - 1, columns.start - 1]


def test_a_vehicle_beside_the_own_one_hides_the_near_looks_and_is_still_told_apart() -> None:
    looks = _looks(9)
    looks.rgb[:2, 9:21, 20:50] = 230
    unlike, _ = doubtful_blocks(looks)
    assert unlike[:2, 4:6, 3].all()
    assert not unlike[2:].any()


def test_two_looks_that_differ_tell_nothing() -> None:
    looks = _looks(MIN_LOOKS - 1)
    looks.rgb[0] = 250
    assert not doubtful_blocks(looks)[0].any()
