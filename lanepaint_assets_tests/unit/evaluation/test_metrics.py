from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import optimize

from lanepaint_assets.evaluation.metrics import (
    LATERAL_TIMES_S,
    accuracy,
    ade_between,
    divergence,
    final_speed_mps,
    lateral_offset_m,
    medoid_index,
)

Float = NDArray[np.float64]
TIMES_S = 0.1 * np.arange(1, 65)


def straight(speed_mps: float = 10.0, lateral_m: float = 0.0) -> Float:
    return np.stack([speed_mps * TIMES_S, np.full(64, lateral_m), np.zeros(64)], axis=1)


def curve(speed_mps: float, curvature_1pm: float) -> Float:
    angle = speed_mps * curvature_1pm * TIMES_S
    return np.stack([np.sin(angle), 1 - np.cos(angle), 0 * angle], axis=1) / curvature_1pm


@st.composite
def samples(draw: st.DrawFn, least: int = 1) -> Float:
    count = draw(st.integers(least, 5))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    return straight() + rng.normal(0.0, 2.0, (count, 64, 3))


def moved(points: Float, yaw: float, shift: tuple[float, float]) -> Float:
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return points @ turn.T + (*shift, 3.0)


@settings(deadline=None)
@given(samples(), st.floats(-3.1, 3.1), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_accuracy_does_not_depend_on_where_the_world_is(
    trajectories: Float, yaw: float, shift: tuple[float, float]
) -> None:
    here = accuracy(trajectories, straight())
    there = accuracy(moved(trajectories, yaw, shift), moved(straight(), yaw, shift))
    assert here.min_ade_m == pytest.approx(there.min_ade_m, abs=1e-9)
    assert here.mean_ade_m == pytest.approx(there.mean_ade_m, abs=1e-9)
    assert here.medoid_ade_m == pytest.approx(there.medoid_ade_m, abs=1e-9)
    assert here.min_fde_m == pytest.approx(there.min_fde_m, abs=1e-9)


@settings(deadline=None)
@given(samples(least=2))
def test_more_samples_never_make_min_ade_worse(trajectories: Float) -> None:
    values = [accuracy(trajectories[:k], straight()).min_ade_m or 0.0 for k in range(1, len(trajectories) + 1)]
    assert all(b <= a for a, b in pairwise(values))


@settings(deadline=None)
@given(samples())
def test_min_ade_is_what_the_formula_says(trajectories: Float) -> None:
    truth = straight()
    expected = min(
        sum(np.hypot(p[0] - g[0], p[1] - g[1]) for p, g in zip(sample, truth, strict=True)) / 64
        for sample in trajectories
    )
    result = accuracy(trajectories, truth)
    assert result.min_ade_m == pytest.approx(expected)
    assert result.mean_ade_m is not None
    assert result.min_ade_m <= result.mean_ade_m + 1e-12


def test_height_plays_no_part() -> None:
    lifted = straight()[None] + (0.0, 0.0, 5.0)
    assert accuracy(lifted, straight()).min_ade_m == 0.0


@settings(deadline=None)
@given(samples())
def test_an_arm_differs_from_itself_by_nothing(trajectories: Float) -> None:
    same = divergence(trajectories, trajectories.copy(), straight())
    assert same.ade_m == 0.0
    assert all(shift.shift_m == 0.0 for shift in same.lateral)
    assert same.final_speed_change_mps == 0.0
    assert accuracy(trajectories, trajectories[0]).min_ade_m == 0.0


def test_without_ground_truth_accuracy_is_empty_and_says_why() -> None:
    result = accuracy(straight()[None], None, "clip of 5 s")
    assert (result.min_ade_m, result.medoid_ade_m, result.reason) == (None, None, "clip of 5 s")


def test_without_ground_truth_the_lateral_shift_is_measured_from_the_original_arm_and_says_so() -> None:
    original = curve(10.0, 0.01)[None]
    result = divergence(original, original + np.array([0.0, 0.2, 0.0]), None)
    assert result.lateral_frame == "original_prediction"
    assert 0.1 < result.lateral_at(3.0) <= 0.2


@settings(deadline=None)
@given(st.floats(-3, 3), st.sampled_from([-0.02, -0.005, 0.004, 0.02]), st.floats(5, 15))
def test_a_shift_to_the_left_of_the_road_is_positive_on_every_curve(
    shift_m: float, curvature: float, speed: float
) -> None:
    truth = curve(speed, curvature)
    angle = speed * curvature * TIMES_S
    normal = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1)
    result = divergence(truth[None], (truth + shift_m * normal)[None], truth)
    assert [s.time_s for s in result.lateral] == list(LATERAL_TIMES_S)
    for shift in result.lateral:
        # The polyline of 10 Hz points lies up to (v * 0.1)^2 * curvature / 8 inside the curve: under 6 mm here.
        assert shift.shift_m == pytest.approx(shift_m, abs=0.01)


def clothoid(speed_mps: float, curvature_1pm: float, change_1pm2: float) -> Float:
    """(64, 3) on a path whose curvature grows with the way: position by integrating the heading finely."""
    arc = np.linspace(0.0, 6.4 * speed_mps, 64_001)
    heading = curvature_1pm * arc + change_1pm2 * arc**2 / 2
    middle = (heading[1:] + heading[:-1]) / 2
    xy = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([np.cos(middle), np.sin(middle)], 1), 0) * arc[1]])
    return np.column_stack([xy[1000::1000], np.zeros(64)])


def lateral_by_search(point: Float, speed_mps: float, curvature_1pm: float, change_1pm2: float) -> float:
    """Signed distance from the smooth path itself: the foot is where the way along the path has no component left."""

    def at(arc: float) -> tuple[Float, float]:
        steps = np.linspace(0.0, arc, 2001)
        heading = curvature_1pm * steps + change_1pm2 * steps**2 / 2
        xy = np.array([np.trapezoid(np.cos(heading), steps), np.trapezoid(np.sin(heading), steps)])
        return xy, float(heading[-1])

    def along(arc: float) -> float:
        xy, heading = at(arc)
        return float((point - xy) @ (np.cos(heading), np.sin(heading)))

    foot = optimize.brentq(along, -20.0, 6.4 * speed_mps + 20.0, xtol=1e-6)
    xy, heading = at(foot)
    return float((point - xy) @ (-np.sin(heading), np.cos(heading)))


@settings(deadline=None, max_examples=30)
@given(
    st.floats(4, 18),
    st.floats(-0.01, 0.01),
    st.floats(-5e-5, 5e-5),
    st.floats(-3, 3),
    st.floats(-1.5, 1.5),
    st.floats(0.6, 0.85),
)
def test_lateral_shifts_are_those_from_the_smooth_path_of_the_ground_truth(
    speed: float, curvature: float, change: float, left_m: float, drift_mps: float, pace: float
) -> None:
    """Samples that leave the road and lag behind, against the projection onto the path before it was sampled."""
    truth = clothoid(speed, curvature, change)
    original = truth[None] + np.array([0.0, 0.3, 0.0])
    edited = clothoid(pace * speed, curvature, change) + np.stack(
        [0 * TIMES_S, left_m + drift_mps * TIMES_S / 2, 0 * TIMES_S], axis=1
    )
    result = divergence(original, edited[None], truth)
    for shift in result.lateral:
        step = round(10 * shift.time_s) - 1
        wanted = lateral_by_search(edited[step, :2], speed, curvature, change) - lateral_by_search(
            original[0, step, :2], speed, curvature, change
        )
        # Chords lie up to (v * 0.1)^2 * curvature / 8 inside the path: 6 mm. (Past its end it goes on straight.)
        assert shift.shift_m == pytest.approx(wanted, abs=0.02)


@settings(deadline=None)
@given(
    arrays(np.float64, (5, 2), elements=st.floats(-60, 60)),
    st.floats(-3.1, 3.1),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_lateral_offsets_do_not_depend_on_where_the_world_is(
    points: Float, yaw: float, shift: tuple[float, float]
) -> None:
    path = curve(10.0, 0.01)
    at_height = np.column_stack([points, np.zeros(len(points))])
    here = np.abs(lateral_offset_m(points, path[:, :2]))
    there = np.abs(lateral_offset_m(moved(at_height, yaw, shift)[:, :2], moved(path, yaw, shift)[:, :2]))
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_a_standing_vehicle_has_its_left_at_positive_y() -> None:
    standing = np.zeros((64, 3))
    result = divergence(standing[None], (standing + np.array([0.0, 0.5, 0.0]))[None], standing)
    assert all(shift.shift_m == pytest.approx(0.5) for shift in result.lateral)


def test_offsets_beyond_the_end_of_the_path_are_measured_from_its_straight_continuation() -> None:
    path = straight()[:, :2]
    np.testing.assert_allclose(lateral_offset_m(np.array([[200.0, 1.0], [-50.0, -2.0]]), path), [1.0, -2.0])


def test_speed_change_is_edited_minus_original() -> None:
    result = divergence(straight(10.0)[None], straight(8.5)[None], straight())
    assert result.final_speed_change_mps == pytest.approx(-1.5)
    assert final_speed_mps(straight(7.0)[None])[0] == pytest.approx(7.0)


def test_samples_are_paired_by_their_index() -> None:
    first = np.stack([straight(lateral_m=0.0), straight(lateral_m=4.0)])
    assert ade_between(first, first[::-1]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="same samples"):
        ade_between(first, first[:1])


def test_the_medoid_is_the_sample_amid_the_others() -> None:
    fan = np.stack([straight(lateral_m=y) for y in (-3.0, 0.4, 2.5)])
    assert medoid_index(fan) == 1
    assert accuracy(fan, straight()).medoid_ade_m == pytest.approx(0.4)


@pytest.mark.parametrize("shape", [(64, 3), (0, 64, 3), (2, 63, 3), (2, 64, 2)])
def test_trajectories_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        accuracy(np.zeros(shape), straight())


def test_numbers_that_are_not_finite_are_refused() -> None:
    broken = straight()[None].copy()
    broken[0, 3, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        accuracy(broken, straight())
