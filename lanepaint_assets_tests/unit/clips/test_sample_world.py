"""The sample drive's world in metres: the fixed profile, the road's coordinates, the ego motion."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.clips.sample_drive.profile import PROFILE_VERSION, SCENARIOS, draw_conditions
from lanepaint_assets.clips.sample_drive.render import ClipRenderer
from lanepaint_assets.clips.sample_drive.rig import FRONT_CAMERA, frame_times_us, sample_camera
from lanepaint_assets.clips.sample_drive.truth import line_roles
from lanepaint_assets.clips.sample_drive.world import EGO_RATE_HZ, LATERAL_LIMIT_MPS2, build_world, clip_identifier


def test_the_profile_stays_as_hard_as_published() -> None:
    # A change of any of these is another profile: raise PROFILE_VERSION, and only ever to a harder one.
    assert PROFILE_VERSION == 1
    by_name = {s.name: s for s in SCENARIOS}
    assert by_name["rural_curves"].radius_m == (150, 260)
    assert {s.wear for s in SCENARIOS} == {(0.10, 0.45), (0.10, 0.40), (0.15, 0.45)}
    assert by_name["tree_avenue"].trees_per_100_m == (18, 30)
    assert by_name["city_traffic"].vehicles == (8, 13)
    assert by_name["rural_curves"].sun_height_deg == (9, 30)


@given(seed=st.integers(0, 10_000), index=st.integers(0, 40))
def test_conditions_stay_inside_their_scenario(seed: int, index: int) -> None:
    conditions = draw_conditions(seed, index)
    scenario = conditions.scenario
    assert scenario.radius_m[0] <= conditions.radius_m <= scenario.radius_m[1]
    assert scenario.wear[0] <= conditions.wear <= scenario.wear[1]
    assert conditions.layout in scenario.layouts
    assert conditions == draw_conditions(seed, index)
    if index < 4:
        assert scenario is SCENARIOS[index]


def test_clip_ids_differ_by_seed_and_index() -> None:
    ids = {clip_identifier(seed, index) for seed in range(5) for index in range(5)}
    assert len(ids) == 25
    assert all(len(i) == 36 and i.count("-") == 4 for i in ids)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 50),
    index=st.integers(0, 3),
    s=st.floats(-100, 500),
    d=st.floats(-20, 20),
    off=st.floats(-15, 15),
)
def test_road_coordinates_come_back(seed: int, index: int, s: float, d: float, off: float) -> None:
    line = build_world(seed, index, 1.0).centreline
    point = line.world(np.array([s]), np.array([d]))
    back_s, back_d = line.locate(point, np.array([s + off]))
    # Between the samples a metre apart the line is straight, its direction is not: a tenth of a per cent.
    assert back_s[0] == pytest.approx(s, abs=0.05)
    assert back_d[0] == pytest.approx(d, abs=0.01)


@pytest.mark.parametrize("index", range(4))
def test_the_ego_motion_follows_the_road(index: int) -> None:
    world = build_world(7, index, 6.0)
    motion = world.egomotion
    assert motion.span_us[0] <= -500_000
    assert motion.span_us[1] >= 6_500_000
    assert np.all(np.diff(motion.timestamps_us) == 1_000_000 // EGO_RATE_HZ)
    s, d = world.centreline.locate(motion.positions_m[:, :2], world.ego_s_m)
    np.testing.assert_allclose(s, world.ego_s_m, atol=0.05)
    np.testing.assert_allclose(d, world.ego_d_m, atol=0.02)
    # It points where it drives, and starts at the origin.
    _, turn = motion.poses(motion.timestamps_us)
    velocity = np.gradient(motion.positions_m, 1.0 / EGO_RATE_HZ, axis=0)
    across = turn.inv().apply(velocity)[:, 1]
    assert np.abs(across).max() < 0.05 * world.ego_speed_mps.max()
    origin, level = motion.poses(np.array([0], dtype=np.int64))
    np.testing.assert_allclose(origin[0], 0, atol=1e-9)
    assert abs(level.as_euler("ZYX")[0, 0]) < 1e-9
    # Nobody corners harder than people do, and the body pitches by half a degree at most.
    assert (world.ego_speed_mps**2 * np.abs(world.ego_curvature)).max() < 2 * LATERAL_LIMIT_MPS2
    assert np.abs(np.degrees(turn.as_euler("ZYX")[:, 1])).max() <= 0.5


@pytest.mark.parametrize("index", range(4))
def test_vehicles_keep_apart(index: int) -> None:
    for seed in range(4):
        world = build_world(seed, index, 14.0)
        for lane_d, direction in world.section.lanes:
            lane = [v for v in world.vehicles if abs(v.d_m - lane_d) < 0.5 and v.direction == direction]
            lane.sort(key=lambda v: float(v.s_m[0]))
            for behind, ahead in pairwise(lane):
                gap = (ahead.s_m - behind.s_m).min()
                assert gap > 0.5 * (ahead.size_m[0] + behind.size_m[0])
        ego_lane = [v for v in world.vehicles if abs(v.d_m - world.section.ego_lane_m) < 0.5]
        assert all(np.abs(v.s_m - world.ego_s_m).min() > 6.0 for v in ego_lane)


def test_every_clip_has_a_line_to_bound_the_ego_lane() -> None:
    for index in range(12):
        roles = line_roles(build_world(3, index, 1.0))
        assert roles.count("ego_left") == 1
        assert roles.count("ego_right") <= 1


def test_frames_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    def picture(seed: int) -> bytes:
        world = build_world(seed, 0, 0.5)
        times = frame_times_us(FRONT_CAMERA, 0.5, 10, world.random(20))
        renderer = ClipRenderer(world, times)
        track = renderer.track(sample_camera(FRONT_CAMERA, world.conditions, 160, 90), times, 40)
        return renderer.frame(track, 3).picture.tobytes()

    first = picture(1)
    assert picture(1) == first
    assert picture(2) != first
