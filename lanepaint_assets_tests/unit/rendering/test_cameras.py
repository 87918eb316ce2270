"""The projection that everything shares: round trips, the data set's own camera model, resizing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.rendering.cameras import FThetaLens, PinholeLens, RigCamera, camera_by_name, mounting_rotation

FLEET_POLY = (0.0, 927.5, 23.14, -58.5, 16.51)
FULL = FThetaLens(width=1920, height=1080, cx=958.0, cy=543.0, fw_poly=FLEET_POLY)
PINHOLE = PinholeLens(width=1280, height=720, fx=900.0, fy=910.0, cx=640.0, cy=350.0)

angles = st.floats(-0.2, 0.2)
lenses = st.sampled_from([FULL, PINHOLE, FULL.resized(960, 540), FULL.resized(640, 480), PINHOLE.resized(333, 555)])


def camera(lens: FThetaLens | PinholeLens, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> RigCamera:
    return RigCamera(lens, mounting_rotation(yaw, pitch, roll), np.array([1.75, 0.0, 1.45]), "calibrated")


@given(lens=lenses, x=st.floats(0.02, 0.98), y=st.floats(0.02, 0.98))
def test_a_pixel_comes_back_from_its_own_ray(lens: FThetaLens | PinholeLens, x: float, y: float) -> None:
    pixel = np.array([[x * lens.width, y * lens.height]])
    ray = lens.rays(pixel)
    assert np.linalg.norm(ray) == pytest.approx(1.0)
    back, seen = lens.project(ray * 7.0)
    assert seen.all()
    np.testing.assert_allclose(back, pixel, atol=0.02)


@given(lens=lenses, pitch=angles, roll=angles, yaw=angles, x=st.floats(5, 60), y=st.floats(-8, 8))
def test_ground_points_come_back_from_their_pixels(
    lens: FThetaLens | PinholeLens, pitch: float, roll: float, yaw: float, x: float, y: float
) -> None:
    rig = camera(lens, yaw, pitch, roll)
    pixels, seen = rig.project(np.array([[x, y, 0.0]]))
    if not seen[0]:
        return
    ground, hit = rig.ground(pixels)
    assert hit[0]
    # A hundredth of a pixel at 60 m is a few decimetres along the road.
    np.testing.assert_allclose(ground[0], [x, y], rtol=2e-3, atol=5e-3)


@settings(deadline=None)  # the first example imports the package
@given(theta=st.floats(0.02, 1.0), around=st.floats(-np.pi, np.pi))
def test_f_theta_agrees_with_the_data_sets_own_camera_off_the_axis(theta: float, around: float) -> None:
    from physical_ai_av.utils import camera_models as models

    row = {"width": 1920, "height": 1080, "cx": 958.0, "cy": 543.0}
    row |= {f"fw_poly_{i}": c for i, c in enumerate(FLEET_POLY)} | {f"bw_poly_{i}": float(i == 1) for i in range(5)}
    theirs = models.FThetaCameraModel.from_camera_row(pd.Series(row))
    point = 12.0 * np.array([[np.sin(theta) * np.cos(around), np.sin(theta) * np.sin(around), np.cos(theta)]])
    ours, _ = FULL.project(point)
    np.testing.assert_allclose(ours, np.asarray(theirs.ray2pixel(point)), atol=1e-6)


def test_a_point_on_the_axis_lands_on_the_centre() -> None:
    pixels, seen = FULL.project(np.array([[0.0, 0.0, 10.0]]))
    assert seen.all()
    np.testing.assert_allclose(pixels[0], [958.0, 543.0])


@given(
    lens=lenses, x=st.floats(0.1, 0.9), y=st.floats(0.1, 0.9), width=st.integers(64, 3000), height=st.integers(64, 2000)
)
def test_resizing_maps_pixels_by_their_centres(
    lens: FThetaLens | PinholeLens, x: float, y: float, width: int, height: int
) -> None:
    pixel = np.array([[x * lens.width, y * lens.height]])
    moved, _ = lens.resized(width, height).project(lens.rays(pixel))
    wanted = (pixel + 0.5) * (width / lens.width, height / lens.height) - 0.5
    np.testing.assert_allclose(moved, wanted, atol=0.02 * max(1.0, width / lens.width, height / lens.height))


def test_points_behind_the_lens_or_outside_the_picture_are_not_seen() -> None:
    for lens in (FULL, PINHOLE):
        _, seen = camera(lens).project(
            np.array([[-10.0, 0.0, 0.0], [2.0, 0.0, 0.0], [10.0, 80.0, 0.0], [10.0, 0.0, 0.0]])
        )
        assert seen.tolist() == [False, False, False, True]


def test_rays_above_the_horizon_do_not_meet_the_ground() -> None:
    _, hit = camera(FULL).ground(np.array([[958.0, 543.0], [958.0, 300.0], [958.0, 700.0]]))
    assert hit.tolist() == [False, False, True]


def test_mounting_turns_left_down_and_clockwise() -> None:
    forward = np.array([0.0, 0.0, 1.0])
    assert (mounting_rotation(0.3, 0.0) @ forward)[1] > 0.2
    assert (mounting_rotation(0.0, 0.3) @ forward)[2] < -0.2
    # Turned clockwise, the camera's right side points down.
    assert (mounting_rotation(0.0, 0.0, 0.3) @ np.array([1.0, 0.0, 0.0]))[2] < -0.2


@given(yaw=st.floats(-3.1, 3.1), pitch=angles, roll=angles)
def test_mounting_is_a_rotation(yaw: float, pitch: float, roll: float) -> None:
    rotation = mounting_rotation(yaw, pitch, roll)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "view_deg", "yaw_deg"),
    [
        ("camera_front_wide_120fov", 120, 0),
        ("camera_cross_left_120fov", 120, 90),
        ("camera_cross_right_120fov", 120, -90),
        ("camera_rear_right_70fov", 70, -150),
        ("camera_rear_tele_30fov", 30, 180),
    ],
)
def test_a_cameras_name_says_how_wide_it_sees_and_where_it_looks(name: str, view_deg: int, yaw_deg: int) -> None:
    named = camera_by_name(name, 1920, 1080)
    assert named is not None
    assert named.quality == "assumed"
    corners = named.lens.rays(np.array([[-0.5, 539.5], [1919.5, 539.5]]))
    assert np.degrees(np.arccos(corners[0] @ corners[1])) == pytest.approx(view_deg, abs=0.01)
    ahead = named.rotation @ np.array([0.0, 0.0, 1.0])
    assert np.degrees(np.arctan2(ahead[1], ahead[0])) % 360 == pytest.approx(yaw_deg % 360, abs=1e-9)
    # What is right of the axis is right of the car's direction of view, and the road lies below the horizon.
    pixels, seen = named.project(named.position_m + 10 * ahead - np.array([[0.0, 0.0, 1.45]]))
    assert seen.all()
    assert pixels[0, 1] > 600


@pytest.mark.parametrize("name", ["dashcam", "camera_front_wide", "camera_roof_120fov", "camera_front_wide_400fov"])
def test_a_name_that_does_not_say_both_gives_no_camera(name: str) -> None:
    assert camera_by_name(name, 640, 360) is None
