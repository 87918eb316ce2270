"""Trajectories through ego poses and the camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera, mounting_rotation
from lanepaint_assets.rendering.projection import (
    POINTS_PER_STEP,
    densified,
    focal_px,
    project_lines,
    revealed_count,
    rig_motion,
)
from lanepaint_assets_tests.unit.rendering.scenes import (
    HEIGHT,
    SPEED_MPS,
    WIDTH,
    front_camera,
    straight_drive,
    straight_future,
)

STILL = np.eye(3), np.zeros(3)
FISHEYE = FThetaLens(960, 540, 479.5, 300.0, (0.0, 463.75, 11.57, -29.25, 8.25))


def test_a_point_on_the_road_lands_where_the_pinhole_formula_says() -> None:
    camera = front_camera()
    points = np.array([[12.0, 1.0, 0.0], [22.0, 1.0, 0.0]])
    (line,) = project_lines(camera, [points], *STILL)
    # 10 and 20 m from a lens 1.5 m high with 160 px focal length; left of the axis is left in the picture.
    np.testing.assert_allclose(line.points_px[0], [159.5 - 160 * 1 / 10, 89.5 + 160 * 1.5 / 10])
    np.testing.assert_allclose(line.points_px[1], [159.5 - 160 * 1 / 20, 89.5 + 160 * 1.5 / 20])
    np.testing.assert_allclose(line.depths_m, [10.0, 20.0])


def test_heights_are_set_to_the_ground() -> None:
    flat = np.array([[12.0, 1.0, 0.0], [22.0, 1.0, 0.0]])
    raised = flat + np.array([0.0, 0.0, 0.8])
    on_ground = project_lines(front_camera(), [flat], *STILL)[0].points_px
    np.testing.assert_allclose(project_lines(front_camera(), [raised], *STILL)[0].points_px, on_ground)


def test_a_line_is_cut_in_space_half_a_metre_before_the_lens_and_not_at_a_point() -> None:
    """A waypoint behind the camera and one far ahead: a line between their pixels would be a wild one."""
    camera = RigCamera(FISHEYE, mounting_rotation(0.0, 0.9), np.array([2.0, 0.0, 1.5]), "calibrated")
    ends = np.array([[-1.0, 0.2, 0.0], [12.0, 0.2, 0.0]])
    (line,) = project_lines(camera, [ends], *STILL, margin_px=1e6)
    depths = (ends - camera.position_m) @ camera.rotation[:, 2]
    assert depths[0] < 0.5 < depths[1]
    share = (0.5 - depths[0]) / (depths[1] - depths[0])
    expected, _ = camera.lens.project(
        (ends[0] + share * (ends[1] - ends[0]) - camera.position_m)[None] @ camera.rotation
    )
    np.testing.assert_allclose(line.points_px[0], expected[0], atol=1e-6)
    assert line.depths_m[0] == pytest.approx(0.5)


@given(lateral=st.floats(-12, 12), yaw=st.floats(-0.6, 0.6), margin=st.floats(0, 30))
def test_lines_end_on_the_pictures_edge_and_none_lies_outside_it(lateral: float, yaw: float, margin: float) -> None:
    camera = front_camera(yaw_rad=yaw)
    points = densified(straight_future(lateral))
    for line in project_lines(camera, [points], *STILL, margin_px=margin):
        x, y = line.points_px.T
        assert x.min() >= -0.5 - margin - 1e-6
        assert x.max() <= WIDTH - 0.5 + margin + 1e-6
        assert y.min() >= -0.5 - margin - 1e-6
        assert y.max() <= HEIGHT - 0.5 + margin + 1e-6
        if not line.reaches_tip or line.depths_m[0] > 5:
            # It was cut: one end lies on an edge.
            gaps = np.abs(
                np.stack([x + 0.5 + margin, x - WIDTH + 0.5 - margin, y + 0.5 + margin, y - HEIGHT + 0.5 - margin])
            )
            assert min(gaps[:, 0].min(), gaps[:, -1].min()) < 1e-6


def test_several_lines_are_not_joined_and_know_where_they_come_from() -> None:
    near, far = np.array([[8.0, 0.0, 0.0], [12.0, 0.0, 0.0]]), np.array([[20.0, 1.0, 0.0], [30.0, 1.0, 0.0]])
    hidden = np.array([[-9.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])
    lines = project_lines(front_camera(), [near, hidden, np.empty((0, 3)), far], *STILL)
    assert [line.line for line in lines] == [0, 3]
    assert all(line.reaches_tip for line in lines)
    assert [len(line.points_px) for line in lines] == [2, 2]


def test_a_waypoint_that_is_not_a_number_breaks_the_line_and_nothing_else() -> None:
    points = densified(straight_future())[40:80]
    points[20] = np.nan
    assert [len(line.points_px) for line in project_lines(front_camera(), [points], *STILL)] == [20, 19]


def test_points_at_most_half_a_metre_before_the_lens_plane_are_dropped() -> None:
    # A camera that looks down sees ground under itself only from beyond the lens plane.
    points = np.stack([np.linspace(-20.0, 40.0, 241), np.full(241, 0.3), np.zeros(241)], axis=1)
    camera = front_camera()
    for line in project_lines(camera, [points], *STILL):
        assert line.depths_m.min() >= 0.5 - 1e-9
    assert project_lines(camera, [points[points[:, 0] <= 2.5]], *STILL) == []


def test_a_rear_camera_does_not_show_what_lies_ahead() -> None:
    assert project_lines(front_camera(yaw_rad=np.pi), [straight_future()[2:]], *STILL) == []


def test_a_line_that_leaves_the_view_and_returns_comes_in_two_stretches() -> None:
    there = np.stack([np.linspace(10, 30, 20), np.zeros(20), np.zeros(20)], axis=1)
    behind = np.stack([np.full(5, -10.0), np.linspace(0, 4, 5), np.zeros(5)], axis=1)
    lines = project_lines(front_camera(), [np.vstack([there, behind, there])], *STILL)
    # Each with a point more, where it passes the picture's edge.
    assert [len(line.points_px) for line in lines] == [21, 21]
    assert [line.reaches_tip for line in lines] == [False, True]


def test_the_plan_stays_in_its_place_on_the_road_while_the_vehicle_drives_on() -> None:
    ego = straight_drive(yaw_rad=0.7)
    times = np.array([3_000_000, 5_000_000], dtype=np.int64)
    rotations, offsets, known = rig_motion(ego, times, t0_us=5_000_000)
    assert known.all()
    point = np.array([30.0, 2.0, 0.0])
    np.testing.assert_allclose(rotations[1] @ point + offsets[1], point, atol=1e-9)
    # Two seconds before t0 the same place is 20 m further ahead.
    np.testing.assert_allclose(rotations[0] @ point + offsets[0], point + np.array([2 * SPEED_MPS, 0, 0]), atol=1e-6)


def test_times_without_a_pose_are_flagged_and_not_extrapolated() -> None:
    times = np.array([0, 1_000_000, 30_000_000], dtype=np.int64)
    rotations, offsets, known = rig_motion(straight_drive(20.0), times, t0_us=1_000_000)
    assert known.tolist() == [True, True, False]
    np.testing.assert_array_equal(rotations[2], np.eye(3))
    assert not rig_motion(None, times, 0)[2].any()
    assert not rig_motion(straight_drive(20.0), times, 40_000_000)[2].any()
    assert offsets.shape == (3, 3)


def test_waypoints_survive_cutting_into_finer_steps() -> None:
    future = straight_future(1.5)
    fine = densified(future)
    np.testing.assert_allclose(fine[POINTS_PER_STEP::POINTS_PER_STEP], future)
    np.testing.assert_array_equal(fine[0], np.zeros(3))
    assert densified(np.empty((0, 3))).shape == (1, 3)


def test_an_empty_or_single_point_line_draws_nothing() -> None:
    assert project_lines(front_camera(), [np.zeros((1, 3))], *STILL) == []
    assert project_lines(front_camera(), [np.empty((0, 3))], *STILL) == []


def test_the_focal_length_of_a_fisheye_is_its_slope_on_the_axis() -> None:
    lens = FThetaLens(960, 540, 480.0, 270.0, (0.0, 463.75, 11.5))
    assert focal_px(RigCamera(lens, mounting_rotation(0, 0), np.array([2.0, 0, 1.5]), "calibrated")) == 463.75
    assert focal_px(front_camera()) == 160.0


@given(frames=st.integers(1, 200), steps=st.integers(0, 64))
def test_the_reveal_never_goes_back_and_ends_complete(frames: int, steps: int) -> None:
    counts = [revealed_count(index, frames, steps) for index in range(frames)]
    assert counts == sorted(counts)
    assert counts[-1] == steps
    assert all(0 <= count <= steps for count in counts)


@given(
    lateral=st.floats(-5, 5),
    pitch=st.floats(-0.1, 0.3),
    yaw=st.floats(-np.pi, np.pi),
    start=st.floats(-50, 50),
)
def test_whatever_is_returned_is_finite_and_before_the_camera(
    lateral: float, pitch: float, yaw: float, start: float
) -> None:
    camera = front_camera(pitch_rad=pitch, yaw_rad=yaw)
    for line in project_lines(camera, [densified(straight_future(lateral))], np.eye(3), np.array([start, 0.0, 0.0])):
        assert np.isfinite(line.points_px).all()
        assert len(line.points_px) == len(line.depths_m) >= 2
        assert line.depths_m.min() >= 0.5 - 1e-9


def test_a_fisheye_shows_the_road_as_its_own_projection_does() -> None:
    camera = RigCamera(FISHEYE, mounting_rotation(0.0, 0.05), np.array([1.8, 0.0, 1.45]), "calibrated")
    points = densified(straight_future(-2.0))
    (line,) = project_lines(camera, [points], *STILL)
    expected, inside = camera.project(points)
    assert inside.any()
    np.testing.assert_allclose(line.points_px[-1], expected[-1])
    assert line.points_px[:, 0].min() == pytest.approx(line.points_px[-1, 0], abs=40)
