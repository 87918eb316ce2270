"""Frame-exactness: what every frame of the written videos shows, and when, against the sidecar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.clips.frame_sidecar import FrameSidecar
from lanepaint_assets.clips.grids import frame_grid, grid_rate
from lanepaint_assets.evaluation.vis_data import VisData, encoded_frames
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.overlay import ScenePainter, render_overlay
from lanepaint_assets_tests.unit.evaluation.vis_items import coded_frames, read_code, shown_clip, vis_data

STEADY = {rate: np.round(np.arange(int(2.6 * rate)) * 1e6 / rate).astype(np.int64) for rate in (20, 24, 29.97, 30, 60)}


def variable_times() -> NDArray[np.int64]:
    gaps = np.random.default_rng(1).choice([16_000, 33_000, 50_000, 120_000], 60)
    return np.concatenate([[0], np.cumsum(gaps)]).astype(np.int64)


@pytest.mark.parametrize("grid_name", ["spec_8fps", "model_10hz"])
@pytest.mark.parametrize("source", [*STEADY, "variable"])
def test_every_frame_of_both_videos_is_the_sidecars_source_frame_at_the_sidecars_time(
    source: float | str, grid_name: str, tmp_path: Path
) -> None:
    source_us = variable_times() if isinstance(source, str) else STEADY[source]
    grid = frame_grid(source_us, grid_rate("spec_8fps" if grid_name == "spec_8fps" else "model_10hz"), 100)
    sidecar = FrameSidecar.of_grid(grid)
    codes = sidecar.source_index
    shown = shown_clip(
        codes,
        original_mp4=encoded_frames(coded_frames(codes), grid.rate_hz),
        edited_mp4=encoded_frames(coded_frames(codes, base=140), grid.rate_hz),
        timestamps_us=sidecar.timestamps_us,
        taken_us=grid.source_timestamps_us,
        rate_hz=grid.rate_hz,
    )
    data = VisData.from_npz(vis_data(shown).to_npz())
    overlay, comparison = tmp_path / "overlay.mp4", tmp_path / "comparison.mp4"
    render_overlay(data.scene(), overlay)
    render_comparison(data.scene(), comparison, tmp_path / "preview.mp4")

    assert [read_code(frame) for frame in read_all_frames(overlay)] == codes.tolist()
    pairs = read_all_frames(comparison)
    assert [read_code(frame, 0) for frame in pairs] == codes.tolist()
    assert [read_code(frame, 1) for frame in pairs] == codes.tolist()
    # At t0 both arms show the source frame that the driver was given.
    at_t0 = int(np.searchsorted(sidecar.timestamps_us, data.t0_us))
    given = int(np.searchsorted(source_us, data.t0_us, side="right")) - 1
    assert {read_code(pairs[at_t0], panel) for panel in (0, 1)} == {given}
    for path in (overlay, comparison, tmp_path / "preview.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            shown_s = [frame.time for frame in container.decode(stream)]
        since_first = (sidecar.timestamps_us - sidecar.timestamps_us[0]) / 1e6
        # The grid rounds its times to whole microseconds.
        np.testing.assert_allclose(shown_s, since_first, atol=1e-6)


def test_the_videos_are_h264_that_browsers_play(tmp_path: Path) -> None:
    data = vis_data()
    render_overlay(data.scene(), tmp_path / "overlay.mp4")
    render_comparison(data.scene(), tmp_path / "comparison.mp4")
    for name in ("overlay.mp4", "comparison.mp4"):
        content = (tmp_path / name).read_bytes()
        # The index lies before the pictures, so that a player starts at once.
        assert 0 < content.index(b"moov") < content.index(b"mdat")
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.codec_context.profile in ("Constrained Baseline", "Baseline", "Main", "High")
            frame = next(container.decode(stream))
            assert int(frame.colorspace) == 1  # BT.709
            assert int(frame.color_range) == 1  # limited


def test_a_frames_pose_is_that_of_when_it_was_taken() -> None:
    """A frame that is 100 ms older than its grid time shows the plan 1.2 m further ahead."""
    fresh = shown_clip()
    stale = replace(fresh, taken_us=fresh.taken_us - 100_000)
    scenes = [vis_data(shown).scene() for shown in (fresh, stale)]
    depths = []
    for scene in scenes:
        painter = ScenePainter(scene, "edited", BirdsEyeView.around(scene))
        line = next(line for mark, line in painter.plan(9) if mark.has_tip and line.reaches_tip)
        depths.append(line.depths_m[-1])
    assert depths[1] - depths[0] == pytest.approx(1.2, abs=0.02)
