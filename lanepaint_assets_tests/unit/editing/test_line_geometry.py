"""The road's coordinates, strips, bands of pixels and fits: geometry that paint's place depends on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.editing.frame_registration import register_frames
from lanepaint_assets.editing.lane_tracks import join_lines, smooth_offsets
from lanepaint_assets.editing.line_strips import StripGrid, sample_strip
from lanepaint_assets.editing.road_band import band_pixels, course_view, pixel_rays, soft_paint_mask
from lanepaint_assets.editing.road_course import RigPose, course_of, plan_poses
from lanepaint_assets.editing.shading import linear_frame
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets_tests.unit.editing.road_scene import WHITE_DASHED, WHITE_SOLID, FlatRoad, KnownLines, TrueLine

Float = NDArray[np.float64]


@given(x=st.floats(-50, 50), y=st.floats(-50, 50), yaw=st.floats(-3, 3), px=st.floats(-80, 80), py=st.floats(-80, 80))
def test_a_pose_turns_points_to_the_rig_and_back(x: float, y: float, yaw: float, px: float, py: float):
    axes = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    pose = RigPose(np.array([x, y]), axes)
    point = np.array([[px, py]])
    assert pose.to_world(pose.to_rig(point)) == pytest.approx(point, abs=1e-9)
    assert pose.directions_to_rig(axes.T) == pytest.approx(np.eye(2), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(radius=st.floats(60, 2000), left=st.booleans(), s=st.floats(20, 60), d=st.floats(-6, 6))
def test_road_coordinates_lead_to_the_world_and_back(radius: float, left: bool, s: float, d: float):
    road = FlatRoad(curvature=(1 if left else -1) / radius)
    ego = road.ego(8.0)
    positions, rotations = ego.poses(ego.timestamps_us[::10])
    course = course_of(plan_poses(positions, rotations))
    there = course.world(np.array([s]), np.array([d]))
    again = course.road(there, np.array([s + 1.0]))
    assert float(again[0][0]) == pytest.approx(s, abs=2e-3)
    assert float(again[1][0]) == pytest.approx(d, abs=2e-3)


@pytest.mark.parametrize("curvature", [0.0, 1 / 200, -1 / 120])
def test_pixels_of_a_band_lie_where_the_road_says_they_do(curvature: float):
    road = FlatRoad(curvature=curvature)
    scene = road.scene(12)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    course = course_of(poses, road.world(np.arange(20.0, 90.0, 5.0), np.zeros(14)))
    view = course_view(course, poses[6])
    offsets = np.stack([np.full(len(view.points), d) for d in (1.8, -1.8)])
    mask = soft_paint_mask(scene.paint_masks[6])
    band = band_pixels(pixel_rays(scene.camera), scene.camera, 0.0, mask, view, offsets, 0.42)
    width = scene.frames.shape[2]
    pixels = np.stack([band.index % width, band.index // width], axis=1).astype(np.float64)

    def on_course(places: Float) -> tuple[Float, Float]:
        s, d, _ = road.ground_of(float(scene.timestamps_us[6]) / 1e6, places)
        return course.road(road.world(s, d), s + 10.0)

    s, d = on_course(pixels)
    near = s - s.min() < 18
    assert np.count_nonzero(near) > 1000
    assert np.abs(band.s - s)[near].max() < 0.01
    assert np.abs(band.m - (d - np.array([1.8, -1.8])[band.line]))[near].max() < 0.005
    # Steps to the neighbours are those of the true coordinates.
    inside = near & (pixels[:, 1] < scene.frames.shape[1] - 1) & (pixels[:, 0] < width - 1)
    for column, shift in ((0, (1.0, 0.0)), (2, (0.0, 1.0))):
        s2, d2 = on_course(pixels + np.array(shift))
        assert np.abs(band.step[:, column] - (s2 - s))[inside].max() < 0.02
        assert np.abs(band.step[:, column + 1] - (d2 - d))[inside].max() < 0.005


def test_a_band_holds_every_pixel_of_its_lines_and_each_once():
    road = FlatRoad()
    scene = road.scene(2)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    view = course_view(course_of(poses), poses[0])
    offsets = np.stack([np.full(len(view.points), d) for d in (1.8, -1.8)])
    mask = soft_paint_mask(scene.paint_masks[0])
    band = band_pixels(pixel_rays(scene.camera), scene.camera, 0.0, mask, view, offsets, 0.42)
    height, width = mask.shape
    x, y = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    _, d, ok = road.ground_of(0.0, np.stack([x.ravel(), y.ravel()], axis=1))
    wanted = np.flatnonzero(ok & (np.abs(np.abs(d) - 1.8) < 0.40) & (mask.ravel() > 0) & (y.ravel() > 140))
    assert np.unique(band.index).size == band.index.size
    assert set(wanted) <= set(band.index.tolist())


def test_a_strip_shows_the_frames_linear_light_at_its_pixels():
    scene = FlatRoad().scene(2)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    course = course_of(poses)
    grid = StripGrid(count=20, first_m=5.0, last_m=30.0, half_width_m=0.5)
    here = course.along(poses[0])
    strip = sample_strip(
        scene.frames[0], scene.paint_masks[0], scene.camera, course, poses[0], here, np.full(20, 1.8), grid
    )
    linear = linear_frame(scene.frames[0])
    low, high = np.floor(strip.pixels).astype(int), np.floor(strip.pixels).astype(int) + 1
    inside = strip.valid & (high[..., 0] < linear.shape[1]) & (high[..., 1] < linear.shape[0])
    corners = np.stack([linear[b[..., 1][inside], a[..., 0][inside]] for a in (low, high) for b in (low, high)])
    assert inside.any()
    assert (strip.light[inside] >= corners.min(axis=0) - 1e-5).all()
    assert (strip.light[inside] <= corners.max(axis=0) + 1e-5).all()


def test_readings_of_another_thing_that_agree_do_not_pull_a_line_aside():
    rng = np.random.default_rng(3)
    s = np.sort(rng.uniform(0, 100, 900))
    d = rng.normal(0, 0.01, s.size)
    seam = (s > 40) & (s < 60) & (rng.random(s.size) < 0.4)
    d[seam] += 0.5
    line = smooth_offsets(220, s, d, np.full(s.size, 0.05))
    assert np.abs(line[:200]).max() < 0.015


def test_a_bright_seam_between_dashes_leaves_frames_and_line_in_place():
    seam = TrueLine(-1.25, WHITE_SOLID, "other", width_m=0.06)
    road = FlatRoad(
        lines=(TrueLine(1.8, WHITE_DASHED, "ego_left"), TrueLine(-1.8, WHITE_DASHED, "ego_right"), seam), wander_m=0.1
    )
    scene = road.scene(16)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    course = course_of(poses)
    source = KnownLines(road, error_m=0.05, hidden=("other",))
    view = RoadView(scene.frames, scene.timestamps_us, 0, scene.camera, scene.ego, scene.paint_masks)
    tracks = join_lines(course, [poses[0]], [source.inspect(view)])
    fits, tracks = register_frames(
        scene.frames, scene.paint_masks, scene.camera, course, poses, tracks, np.zeros(len(poses)), recorded=True
    )
    for track, d_m in zip(tracks, (1.8, -1.8), strict=True):
        at = np.arange(12.0, 40.0)
        true = course.road(road.world(at, np.full(at.size, d_m)), at + 10.0)
        assert np.abs(track.at(true[0]) - true[1]).max() < 0.03
    for fit, pose in zip(fits, poses, strict=True):
        assert np.hypot(*(fit.pose.origin - pose.origin)) < 0.02
