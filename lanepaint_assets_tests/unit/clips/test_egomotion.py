"""The vehicle's path: interpolated between its poses, never beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion


def _ego(times_us: list[int], x_m: list[float], yaw_deg: list[float]) -> Egomotion:
    positions = np.zeros((len(times_us), 3))
    positions[:, 0] = x_m
    turns = Rotation.from_euler("z", np.asarray(yaw_deg)[:, None], degrees=True).as_quat()
    return Egomotion(np.asarray(times_us, np.int64), positions, turns.reshape(-1, 4), "recorded")


def test_poses_between_are_interpolated_in_place_and_heading() -> None:
    positions, turns = _ego([0, 100], [0.0, 10.0], [0.0, 90.0]).poses(np.asarray([50], np.int64))
    assert positions[0, 0] == pytest.approx(5.0)
    assert turns.as_euler("zyx", degrees=True)[0, 0] == pytest.approx(45.0)


def test_nothing_is_extrapolated() -> None:
    with pytest.raises(ValueError, match="covers 0 to 100 us, but 0 to 101 us"):
        _ego([0, 100], [0.0, 10.0], [0.0, 0.0]).poses(np.asarray([0, 101], np.int64))


def test_a_single_picture_has_its_one_pose() -> None:
    ego = _ego([0], [3.0], [30.0])
    positions, turns = ego.poses(np.asarray([0, 0], np.int64))
    assert positions.tolist() == [[3.0, 0.0, 0.0]] * 2
    assert turns.as_euler("zyx", degrees=True)[:, 0] == pytest.approx([30.0, 30.0])
    relative, matrices = ego.relative(np.asarray([0], np.int64), 0)
    assert relative[0] == pytest.approx([0, 0, 0])
    assert matrices[0] == pytest.approx(np.eye(3))


def test_absolute_times_lose_no_precision() -> None:
    start = 1_700_000_000_000_000
    positions, _ = _ego([start, start + 100_000], [0.0, 1.0], [0.0, 0.0]).poses(np.asarray([start + 33_333], np.int64))
    assert positions[0, 0] == pytest.approx(0.33333, abs=1e-9)
