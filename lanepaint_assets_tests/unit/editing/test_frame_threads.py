from __future__ import annotations

import time

import pytest

from lanepaint_assets.editing.frame_threads import in_order


def test_results_come_in_the_frames_order_however_long_each_takes():
    def work(k: int) -> int:
        time.sleep(0.002 * (7 - k))
        return k * k

    assert list(in_order(work, 8)) == [k * k for k in range(8)]


def test_an_error_of_one_frame_reaches_the_caller():
    def work(k: int) -> int:
        if k == 3:
            raise ValueError("frame 3")
        return k

    with pytest.raises(ValueError, match="frame 3"):
        list(in_order(work, 6))


def test_no_frames_give_no_results():
    assert list(in_order(lambda k: k, 0)) == []
