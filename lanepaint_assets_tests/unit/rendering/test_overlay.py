"""The overlay video and its parts: what colour is where, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.video_file import InvalidClipError
from lanepaint_assets.rendering import drawing
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView, inset_side_px
from lanepaint_assets.rendering.hud import CPU_NOTICE, hud_layer, legend_layer
from lanepaint_assets.rendering.overlay import overlay_frames, render_overlay
from lanepaint_assets.rendering.scene import (
    GT_COLOR,
    HISTORY_COLOR,
    PREDICTION_COLOR,
    SAMPLE_COLORS,
    EngineLabel,
    sample_color,
)
from lanepaint_assets_tests.unit.rendering.scenes import (
    front_camera,
    grey_video,
    pictures,
    scene,
    straight_drive,
    straight_future,
)


def has_color(region: NDArray[np.uint8], color: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool((np.abs(region.astype(int) - color).max(axis=-1) <= tolerance).any())


def around(frame: NDArray[np.uint8], point: NDArray[np.float64], reach: int = 4) -> NDArray[np.uint8]:
    x, y = np.round(point).astype(int)
    return frame[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


def test_predictions_and_driven_path_have_their_colours_where_they_project_to() -> None:
    shown = scene(960, 540, ego=straight_drive())
    frame = pictures(overlay_frames(shown))[-2]
    pixels, seen = front_camera(960, 540).project(np.array([[14.0, 3.0, 0.0], [14.0, 0.0, 0.0]]))
    assert seen.all()
    assert has_color(around(frame, pixels[0]), PREDICTION_COLOR)
    assert has_color(around(frame, pixels[1]), GT_COLOR)
    assert not has_color(around(frame, pixels[0] + [60, 0]), PREDICTION_COLOR)


def test_waypoints_appear_in_step_with_the_frames() -> None:
    shown = scene(960, 540, frames=16, ego=None, gt_future_m=None)
    far, _ = front_camera(960, 540).project(np.array([[50.0, 3.0, 0.0]]))
    frames = pictures(overlay_frames(shown))
    # 50 m are waypoint 50 of 64, shown from frame 12 of 16 on.
    assert not has_color(around(frames[8], far[0], 2), PREDICTION_COLOR)
    assert has_color(around(frames[15], far[0], 2), PREDICTION_COLOR)


def test_before_t0_the_plan_lies_further_ahead_and_a_grey_path_leads_to_it() -> None:
    shown = scene(960, 540, frames=17, gt_future_m=None)
    shown = replace(shown, t0_us=int(shown.timestamps_us[16]))
    frames = pictures(overlay_frames(shown))
    near, _ = front_camera(960, 540).project(np.array([[9.5, 0.0, 0.0], [9.5, 3.0, 0.0]]))
    # One second before t0 the vehicle still has 10 m to drive: at 9.5 m lies its own path, not the plan.
    assert has_color(around(frames[8], near[0]), HISTORY_COLOR)
    assert not has_color(around(frames[8], near[1]), PREDICTION_COLOR)
    assert has_color(around(frames[16], near[1]), PREDICTION_COLOR)


def test_frames_outside_the_recorded_motion_show_no_plan_on_the_road() -> None:
    shown = scene(960, 540, ego=straight_drive(3.3), gt_future_m=None)
    shown = replace(shown, t0_us=3_250_000)
    last = pictures(overlay_frames(shown))[-1]
    road = last[280:480, 300:700]
    assert int(shown.timestamps_us[-1]) > 3_300_000
    assert not has_color(road, PREDICTION_COLOR)


def test_the_inset_shows_history_truth_and_predictions_at_the_bottom_left() -> None:
    frame = pictures(overlay_frames(scene(960, 540)))[-1]
    side = inset_side_px(960, 540)
    assert side == 250
    inset = frame[540 - 8 - side : 540 - 8, 8 : 8 + side]
    for color in (HISTORY_COLOR, GT_COLOR, PREDICTION_COLOR):
        assert has_color(inset, color)
    assert not has_color(inset, SAMPLE_COLORS[1])


@pytest.mark.parametrize(("size", "side"), [((960, 540), 250), ((1920, 1080), 250), ((3840, 2160), 500)])
def test_the_inset_has_the_specified_side(size: tuple[int, int], side: int) -> None:
    assert inset_side_px(*size) == side


def test_both_arms_share_one_view_that_holds_every_trajectory() -> None:
    shown = scene(edited_trajectories_m=np.stack([straight_future(9.0)]))
    view = BirdsEyeView.around(shown)
    assert view.half_width_m > 9.0
    assert view.ahead_m > 64.0
    assert view.behind_m >= 15.0


def test_samples_cycle_through_five_colours_apart_from_truth_and_history() -> None:
    assert len(set(SAMPLE_COLORS)) == 5
    assert [sample_color(index) for index in range(7)] == [*SAMPLE_COLORS, *SAMPLE_COLORS[:2]]
    for color in SAMPLE_COLORS:
        for meant in (GT_COLOR, HISTORY_COLOR):
            assert np.abs(np.subtract(color, meant)).max() > 60


@pytest.mark.parametrize("size", [(320, 180), (960, 540), (1920, 1080), (161, 121)])
def test_panels_stay_inside_pictures_of_any_size(size: tuple[int, int]) -> None:
    shown = scene(*size, frames=2, clip_id="a_very_long_clip_id_" * 8, prompt_text="größer und länger " * 20)
    for layer in (hud_layer(shown, "edited", True).layer, legend_layer(shown, "edited")):
        assert layer.x >= 0
        assert layer.y >= 0
        assert layer.x + layer.size[0] <= shown.canvas_size[0]
        assert layer.y + layer.size[1] <= shown.canvas_size[1]
    assert next(overlay_frames(shown)).width == size[0] + size[0] % 2


def test_a_cpu_engine_is_announced_and_a_foundation_model_is_not() -> None:
    def has_notice(shown_engines: tuple[EngineLabel, ...]) -> bool:
        strip = hud_layer(scene(960, 540, frames=2, engines=shown_engines), "edited", True).layer.ink.to_rgb()
        return has_color(strip, drawing.AMBER)

    assert "not a foundation model" in CPU_NOTICE
    assert has_notice((EngineLabel("driver", "lane_follow", "2", False),))
    assert not has_notice((EngineLabel("driver", "alpamayo", "1.5", True),))
    assert not has_notice((EngineLabel("painter", "imported", "", None),)), "nobody knows what made it"


def test_the_original_names_no_painter() -> None:
    assert [engine.role for engine in scene().engines_of("original")] == ["driver"]
    assert [engine.role for engine in scene().engines_of("edited")] == ["painter", "driver"]


def test_a_missing_min_ade_says_why() -> None:
    shown = scene(edited_min_ade_m=None, min_ade_reason="no ego motion after t0")
    assert shown.min_ade_text("original") == "minADE 1.00 m"
    assert shown.min_ade_text("edited") == "minADE n/a: no ego motion after t0"


def test_a_scene_without_predictions_truth_history_or_motion_is_still_drawn() -> None:
    none = np.empty((0, 64, 3))
    bare = scene(ego=None, gt_future_m=None, history_m=None, original_trajectories_m=none, edited_trajectories_m=none)
    assert len(list(overlay_frames(bare))) == len(bare.timestamps_us)


def test_a_prediction_that_is_not_a_number_is_left_out() -> None:
    broken = np.stack([np.full((64, 3), np.nan), straight_future(3.0)])
    shown = scene(960, 540, edited_trajectories_m=broken, edited_min_ade_m=float("nan"))
    frame = pictures(overlay_frames(shown))[-2]
    pixels, _ = front_camera(960, 540).project(np.array([[14.0, 3.0, 0.0]]))
    assert has_color(around(frame, pixels[0]), sample_color(1))
    assert shown.min_ade_text("edited") == "minADE n/a"


def test_the_camera_of_another_picture_size_is_resized() -> None:
    [same] = pictures(overlay_frames(scene(320, 180, frames=1)))
    [given_large] = pictures(overlay_frames(scene(320, 180, frames=1, camera=front_camera(960, 540))))
    assert np.abs(same.astype(int) - given_large).mean() < 0.5


def test_arms_of_another_length_or_size_are_refused() -> None:
    with pytest.raises(ValueError, match="trajectories"):
        scene(edited_trajectories_m=np.zeros((64, 3)))
    with pytest.raises(ValueError, match="taken"):
        scene(taken_us=np.arange(3, dtype=np.int64))
    for strange in (grey_video(frames=3), grey_video(640, 360)):
        with pytest.raises(InvalidClipError, match="clip_0001"):
            list(overlay_frames(scene(edited_mp4=strange)))


def test_a_damaged_video_is_refused() -> None:
    whole = grey_video()
    with pytest.raises(InvalidClipError):
        list(overlay_frames(scene(edited_mp4=whole[: len(whole) // 2])))


def test_the_overlay_is_written_with_every_frame(tmp_path: Path) -> None:
    shown = scene()
    path = tmp_path / "clip_overlay.mp4"
    render_overlay(shown, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (320, 180)
        assert stream.average_rate == 8
        assert sum(1 for _ in container.decode(stream)) == len(shown.timestamps_us)
