"""The side-by-side video and its preview."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from lanepaint_assets.rendering.comparison import comparison_frames, preview_size, render_comparison
from lanepaint_assets.rendering.scene import PREDICTION_COLOR
from lanepaint_assets_tests.unit.rendering.scenes import front_camera, grey_video, pictures, scene, straight_future
from lanepaint_assets_tests.unit.rendering.test_overlay import around, has_color


def test_each_side_shows_its_own_frames_and_its_own_predictions() -> None:
    turned = np.stack([straight_future(-3.0)])
    shown = scene(960, 540, frames=4, edited_trajectories_m=turned, edited_mp4=grey_video(960, 540, 4, level=160))
    frame = pictures(comparison_frames(shown))[-2]
    assert frame.shape == (540, 1920, 3)
    assert np.abs(frame[150, 400].astype(int) - 96).max() <= 2
    assert np.abs(frame[150, 960 + 400].astype(int) - 160).max() <= 2
    points, _ = front_camera(960, 540).project(np.array([[10.0, 3.0, 0.0], [10.0, -3.0, 0.0]]))
    left, right = points
    panel = np.array([960.0, 0.0])
    assert has_color(around(frame, left), PREDICTION_COLOR)
    assert not has_color(around(frame, right), PREDICTION_COLOR)
    assert has_color(around(frame, right + panel), PREDICTION_COLOR)
    assert not has_color(around(frame, left + panel), PREDICTION_COLOR)


def test_the_hud_of_each_side_has_its_own_min_ade() -> None:
    one = scene(960, 540, frames=1, original_min_ade_m=1.0, edited_min_ade_m=1.0)
    [same] = pictures(comparison_frames(one))
    [other] = pictures(comparison_frames(replace(one, edited_min_ade_m=8.88)))
    np.testing.assert_array_equal(same[:, :956], other[:, :956])
    assert (same[:60, 962:] != other[:60, 962:]).any()


def test_video_and_preview_have_every_frame_and_their_sizes(tmp_path: Path) -> None:
    shown = scene(640, 360, frames=6)
    full, preview = tmp_path / "x_comparison.mp4", tmp_path / "x_comparison_preview.mp4"
    render_comparison(shown, full, preview)
    for path, size in ((full, (1280, 360)), (preview, (960, 270))):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == size
            assert sum(1 for _ in container.decode(stream)) == 6
    assert preview.stat().st_size < full.stat().st_size


def test_no_preview_is_written_where_none_is_asked_for(tmp_path: Path) -> None:
    render_comparison(scene(frames=2), tmp_path / "x_comparison.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["x_comparison.mp4"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1920, 540), (960, 270)), ((640, 180), (640, 180)), ((3840, 1080), (960, 270)), ((322, 121), (322, 120))],
)
def test_previews_are_even_and_at_most_960_wide(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert preview_size(*size) == expected
