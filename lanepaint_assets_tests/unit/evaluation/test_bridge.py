from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.bridge import (
    BridgeError,
    CameraView,
    driver_moment,
    ego_history,
    find_t0,
    future_times_us,
    grid_note,
    ground_truth,
    history_times_us,
    replace_camera,
    resize_bilinear,
)
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, LEFT, camera, circle_drive, grid_times, numbered_frames

START_US = 1_700_000_000_000_000
BOTH = (LEFT, FRONT)


def original_arm(left_shift_us: int = 0, left_rate_us: int = 33_333, left_count: int = 420) -> DriverInput:
    times = grid_times(start_us=START_US)
    ego = circle_drive(curvature_1pm=0.01, start_us=START_US, duration_s=14.0)
    left_times = START_US + left_shift_us + left_rate_us * np.arange(left_count, dtype=np.int64)
    views = {
        FRONT: CameraView(numbered_frames(100), times, camera()),
        LEFT: CameraView(numbered_frames(left_count, 32, 18), left_times, camera(32, 18)),
    }
    return driver_moment(find_t0(times, ego.span_us), FRONT, times, views, ego, BOTH)


def test_t0_is_the_last_grid_time_with_history_before_and_a_future_after_it() -> None:
    times = grid_times(start_us=START_US)
    moment = find_t0(times, (START_US, START_US + 14_000_000))
    assert moment.has_future
    assert moment.reason is None
    # 14.0 - 6.4 = 7.6 s; the last multiple of 0.125 s up to it is 7.5 s.
    assert moment.t0_us == START_US + 7_500_000
    assert times[moment.grid_index] == moment.t0_us


@settings(deadline=None)
@given(
    st.integers(4, 120),
    st.sampled_from([100_000, 125_000, 33_333]),
    st.integers(-3_000_000, 3_000_000),
    st.integers(200_000, 25_000_000),
)
def test_a_moment_is_complete_and_last_or_says_why_not(count: int, step: int, lead_us: int, span_us: int) -> None:
    times = grid_times(count, step)
    span = (-lead_us, -lead_us + span_us)
    complete = [i for i in range(3, count) if times[i] - 1_600_000 >= span[0] and times[i] + 6_400_000 <= span[1]]
    try:
        moment = find_t0(times, span)
    except BridgeError:
        assert not any(span[0] <= times[i] <= span[1] for i in range(3, count))
        return
    assert moment.has_future == bool(complete)
    assert span[0] <= moment.t0_us <= span[1]
    if complete:
        assert moment.grid_index == complete[-1]
        assert moment.extended_history_steps == 0
    else:
        assert moment.reason is not None
        assert "no ground truth" in moment.reason
        assert moment.extended_history_steps == sum(t < span[0] for t in history_times_us(moment.t0_us))


def test_a_short_clip_takes_its_last_frame_and_says_that_there_is_no_ground_truth() -> None:
    ego = circle_drive(duration_s=1.0)
    moment = find_t0(grid_times(9), ego.span_us)
    assert (moment.t0_us, moment.has_future, moment.extended_history_steps) == (1_000_000, False, 5)
    assert moment.reason is not None
    assert "5 of 16 history poses continued backwards" in moment.reason
    assert ground_truth(ego, moment) is None


def test_a_clip_without_four_frames_inside_the_ego_motion_is_refused() -> None:
    with pytest.raises(BridgeError, match="too short or its clocks differ"):
        find_t0(grid_times(3), (0, 20_000_000))
    with pytest.raises(BridgeError, match="clocks differ"):
        find_t0(grid_times(100), (START_US, START_US + 20_000_000))


def test_the_four_driver_frames_end_at_t0_and_are_consecutive_on_the_grid() -> None:
    moment = original_arm()
    np.testing.assert_array_equal(np.diff(moment.frame_timestamps_us), [125_000] * 3)
    assert moment.frame_timestamps_us[-1] == START_US + 7_500_000
    np.testing.assert_array_equal(moment.frames[FRONT][:, 0, 0, 0], [57, 58, 59, 60])


@settings(deadline=None)
@given(st.integers(0, 200_000))
def test_other_cameras_give_the_latest_frame_at_or_before_each_time(shift_us: int) -> None:
    moment = original_arm(left_shift_us=shift_us)
    relative = moment.frame_timestamps_us - START_US - shift_us
    expected = (relative // 33_333).astype(np.uint8)
    np.testing.assert_array_equal(moment.frames[LEFT][:, 0, 0, 0], expected)


def test_a_camera_that_starts_late_or_ends_early_is_named() -> None:
    with pytest.raises(BridgeError, match=f"{LEFT} starts at"):
        original_arm(left_shift_us=9_000_000)
    with pytest.raises(BridgeError, match=f"{LEFT} has no frame within 0.25 s"):
        original_arm(left_count=100)


def test_history_is_ten_hertz_in_the_rig_frame_at_t0_whatever_the_grid() -> None:
    history = original_arm().history_xyz_m
    np.testing.assert_allclose(history[-1], 0.0, atol=1e-9)
    # A circle of 100 m radius at 12 m/s: 1.5 s back is 18 m of arc, 0.18 rad, turning left.
    np.testing.assert_allclose(history[0], [-100 * np.sin(0.18), 100 * (1 - np.cos(0.18)), 0.0], atol=1e-3)
    steps = np.linalg.norm(np.diff(history, axis=0), axis=1)
    np.testing.assert_allclose(steps, 1.2, rtol=1e-3)


def test_a_short_history_goes_on_backwards_at_constant_velocity() -> None:
    ego = circle_drive(speed_mps=10.0, duration_s=1.0)
    history, rotation = ego_history(ego, 1_000_000)
    np.testing.assert_allclose(history[:, 0], np.arange(-15, 1) * 1.0, atol=1e-9)
    np.testing.assert_allclose(rotation, np.broadcast_to(np.eye(3), (16, 3, 3)), atol=1e-9)


def test_ground_truth_is_where_the_vehicle_went() -> None:
    ego = circle_drive(speed_mps=10.0, start_us=START_US)
    truth = ground_truth(ego, find_t0(grid_times(start_us=START_US), ego.span_us))
    assert truth is not None
    np.testing.assert_allclose(truth[:, 0], np.arange(1, 65) * 1.0, atol=1e-6)
    np.testing.assert_allclose(truth[:, 1:], 0.0, atol=1e-6)
    assert future_times_us(0)[-1] == 6_400_000


def test_replacing_a_camera_changes_that_camera_alone() -> None:
    moment = original_arm()
    times = grid_times(start_us=START_US)
    edited = replace_camera(moment, FRONT, numbered_frames(100, offset=100), times)
    np.testing.assert_array_equal(edited.frames[FRONT][:, 0, 0, 0], [157, 158, 159, 160])
    assert edited.frames[LEFT] is moment.frames[LEFT]
    assert edited.history_xyz_m is moment.history_xyz_m
    np.testing.assert_array_equal(moment.frames[FRONT][:, 0, 0, 0], [57, 58, 59, 60])


def test_frames_are_put_back_by_time_and_not_by_position() -> None:
    moment = original_arm()
    times = grid_times(start_us=START_US)
    cut = replace_camera(moment, FRONT, numbered_frames(21, offset=40), times[40:61])
    np.testing.assert_array_equal(cut.frames[FRONT][:, 0, 0, 0], [57, 58, 59, 60])


def test_an_edited_video_of_another_grid_is_refused_naming_both() -> None:
    moment = original_arm()
    times = START_US + 100_000 * np.arange(100, dtype=np.int64)
    with pytest.raises(BridgeError, match="different frame grids") as caught:
        replace_camera(moment, FRONT, numbered_frames(100), times)
    assert str(int(moment.frame_timestamps_us[0])) in str(caught.value)
    assert str(int(times[-1])) in str(caught.value)


def test_a_video_and_a_sidecar_of_different_length_are_refused() -> None:
    with pytest.raises(BridgeError, match="has 99 frames but its timestamps sidecar 100 entries"):
        replace_camera(original_arm(), FRONT, numbered_frames(99), grid_times(start_us=START_US))


def test_an_edit_of_a_camera_that_the_driver_does_not_see_is_refused_naming_its_cameras() -> None:
    moment = original_arm()
    with pytest.raises(BridgeError, match=f"does not see camera_rear_tele_30fov.*{LEFT}, {FRONT}"):
        replace_camera(moment, "camera_rear_tele_30fov", numbered_frames(4), moment.frame_timestamps_us)
    ego = circle_drive()
    times = grid_times()
    views = {FRONT: CameraView(numbered_frames(100), times, camera())}
    with pytest.raises(BridgeError, match="does not see"):
        driver_moment(find_t0(times, ego.span_us), LEFT, times, views, ego, (FRONT,))
    with pytest.raises(BridgeError, match="was not decoded"):
        driver_moment(find_t0(times, ego.span_us), LEFT, times, views, ego, BOTH)


def test_a_camera_that_was_not_recorded_is_left_out() -> None:
    ego = circle_drive()
    times = grid_times()
    views = {FRONT: CameraView(numbered_frames(100), times, camera())}
    assert set(driver_moment(find_t0(times, ego.span_us), FRONT, times, views, ego, BOTH).frames) == {FRONT}


def test_resizing_maps_pixel_centres() -> None:
    ramp = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8)[None, None, :, None], (1, 4, 16, 3)).copy()
    doubled = resize_bilinear(ramp, 32, 8)[0, 4, :, 0].astype(float)
    expected = np.clip(((np.arange(32) + 0.5) / 2 - 0.5) * 10, 0, 150)
    np.testing.assert_allclose(doubled, expected, atol=0.51)
    assert resize_bilinear(ramp, 16, 4) is ramp


def test_edited_frames_of_another_size_are_resized_to_the_originals() -> None:
    moment = original_arm()
    edited = replace_camera(moment, FRONT, numbered_frames(4, 720, 480, offset=9), moment.frame_timestamps_us)
    assert edited.frames[FRONT].shape == (4, 36, 64, 3)
    np.testing.assert_array_equal(edited.frames[FRONT][:, 5, 5, 0], [9, 10, 11, 12])


def test_only_the_grid_that_models_were_not_trained_on_carries_a_note() -> None:
    assert grid_note("model_10hz") is None
    assert "model_10hz" in (grid_note("spec_8fps") or "")


def test_ego_motion_that_was_estimated_stays_marked() -> None:
    recorded = circle_drive()
    ego = Egomotion(recorded.timestamps_us, recorded.positions_m, recorded.quaternions_xyzw, "estimated")
    times = grid_times()
    views = {FRONT: CameraView(numbered_frames(100), times, camera())}
    assert driver_moment(find_t0(times, ego.span_us), FRONT, times, views, ego, (FRONT,)).ego_quality == "estimated"
