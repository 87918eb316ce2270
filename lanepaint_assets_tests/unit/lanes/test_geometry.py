"""What is not known of a clip's geometry is estimated within stated bounds; what is known passes through."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.ego_estimation import estimate_egomotion
from lanepaint_assets.lanes.geometry import assumed_camera, clip_geometry, estimate_camera
from lanepaint_assets.rendering.cameras import PinholeLens, RigCamera, mounting_rotation
from lanepaint_assets_tests.unit.lanes.flat_road import YELLOW, FlatRoad, PaintedLine, camera, drive, render

ROAD = FlatRoad((PaintedLine(1.75, YELLOW), PaintedLine(-1.75, dash_m=3.0, period_m=9.0)))


def _direction(view: RigCamera) -> np.ndarray:
    """Pixel at which the road's direction is seen."""
    return view.lens.project(np.array([[1.0, 0.0, 0.0]]) @ view.rotation)[0][0]


def test_known_camera_and_ego_motion_pass_through() -> None:
    view, ego = camera(), drive(4, 10.0)
    geometry = clip_geometry(np.zeros((4, 360, 640, 3), np.uint8), ego.timestamps_us, view, ego)
    assert geometry.camera is view
    assert geometry.ego is ego


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.02), (0.05, 0.0), (-0.04, -0.04)])
def test_pitch_and_yaw_follow_from_where_the_lines_meet(yaw: float, pitch: float) -> None:
    true = RigCamera(camera().lens, mounting_rotation(yaw, pitch), np.array([1.75, 0.0, 1.45]), "calibrated")
    found = estimate_camera(render(ROAD, true, drive(2, 10.0)))
    assert found.quality == "estimated"
    assert np.abs(_direction(found) - _direction(true)).max() < 6.0


def test_a_picture_without_lines_gets_the_assumed_camera() -> None:
    found = estimate_camera(np.full((1, 360, 640, 3), 90, np.uint8))
    assert found.quality == "assumed"
    assert found.position_m[2] == pytest.approx(1.45)
    assert assumed_camera(640, 360).lens == found.lens


@pytest.mark.parametrize(("yaw_rate", "fisheye"), [(0.0, False), (0.08, False), (-0.1, True)])
def test_ego_motion_of_a_rendered_road_is_found_within_two_percent(yaw_rate: float, fisheye: bool) -> None:
    view, true = camera(fisheye=fisheye), drive(16, 12.0, yaw_rate=yaw_rate)
    road = FlatRoad(ROAD.lines, curvature=yaw_rate / 12.0)
    found = estimate_egomotion(render(road, view, true), true.timestamps_us, view)
    assert found.quality == "estimated"
    assert found.positions_m[-1, 0] == pytest.approx(true.positions_m[-1, 0], rel=0.02)
    assert found.positions_m[-1, 1] == pytest.approx(true.positions_m[-1, 1], abs=0.25)


def test_a_standing_vehicle_is_found_standing() -> None:
    view, true = camera(), drive(6, 0.0)
    found = estimate_egomotion(render(ROAD, view, true), true.timestamps_us, view)
    assert np.abs(found.positions_m).max() < 0.05


def test_a_camera_that_does_not_look_ahead_is_as_its_name_says_and_a_front_camera_only_where_pictures_do_not_tell() -> (
    None
):
    view, true = camera(), drive(6, 10.0)
    frames = render(ROAD, view, true)
    side = clip_geometry(frames, true.timestamps_us, None, true, "camera_cross_left_120fov").camera
    assert side.quality == "assumed"
    assert (side.rotation @ [0.0, 0.0, 1.0])[1] == pytest.approx(1.0)
    named = clip_geometry(frames, true.timestamps_us, None, true, "camera_front_tele_30fov").camera
    assert named.quality == "estimated"
    blank = clip_geometry(np.zeros_like(frames), true.timestamps_us, None, true, "camera_front_tele_30fov").camera
    assert blank.quality == "assumed"
    assert isinstance(blank.lens, PinholeLens)
    assert blank.lens.fx == pytest.approx(blank.width / 2 / np.tan(np.radians(15)))


def test_estimates_are_the_same_every_time() -> None:
    view, true = camera(), drive(6, 10.0)
    frames = render(ROAD, view, true)
    one, two = (clip_geometry(frames, true.timestamps_us, None, None) for _ in range(2))
    assert np.array_equal(one.camera.rotation, two.camera.rotation)
    assert np.array_equal(one.ego.positions_m, two.ego.positions_m)


def test_a_single_picture_stands_still() -> None:
    ego = clip_geometry(np.zeros((1, 360, 640, 3), np.uint8), np.zeros(1, np.int64), None, None).ego
    assert isinstance(ego, Egomotion)
    assert np.abs(ego.positions_m).max() == 0.0


def test_the_driven_distance_of_a_recorded_street_is_found_within_six_percent(real_data: Path) -> None:
    folder = real_data / "ego_kitti_seq1"
    if not folder.is_dir():
        pytest.skip(f"no recorded street at {folder}")
    pictures = [cv2.imread(str(p)) for p in sorted((folder / "image_l").glob("*.png"))]
    frames = np.stack([p for p in pictures if p is not None])[..., ::-1].copy()
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    # The camera's pitch against the road is not published; the recorded path says how it looks along its own motion.
    pitch_down = -float(poses[-1, 1, 3] / poses[-1, 2, 3])
    lens = PinholeLens(1226, 370, 707.0912, 707.0912, 601.8873, 183.1104)
    view = RigCamera(lens, mounting_rotation(0.0, pitch_down), np.array([1.08, 0.0, 1.65]), "calibrated")
    times = (np.arange(len(frames)) * 100_000).astype(np.int64)
    found = estimate_egomotion(frames, times, view)
    assert float(np.linalg.norm(found.positions_m[-1])) == pytest.approx(float(poses[-1, 2, 3]), rel=0.06)
