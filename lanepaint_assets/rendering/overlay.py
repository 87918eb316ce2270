"""The overlay video: the edited clip with the driver's trajectories on the road, a legend, a HUD and the inset.

Called by the evaluation stage; the comparison draws its two panels with the same `ScenePainter`. No metrics here, and
no files but the video.

What is shown when. The plan belongs to t0 and lies on the road, so it stays in its place while the vehicle approaches
it and then drives along it. Waypoints appear one after another, linearly in the frame's index, all in the last frame
(spec 11). Before t0 the path that the vehicle still drives up to t0 leads to it, in grey. Without ego motion the plan
cannot stay in its place: it is fixed to the vehicle, and the HUD says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.rendering import drawing
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeInset, BirdsEyeView
from lanepaint_assets.rendering.hud import draw_clock, hud_layer, legend_layer
from lanepaint_assets.rendering.projection import (
    POINTS_PER_STEP,
    densified,
    focal_px,
    project_line,
    revealed_count,
    rig_motion,
)
from lanepaint_assets.rendering.scene import GT_COLOR, HISTORY_COLOR, ArmName, TrajectoryScene, sample_color

Float = NDArray[np.float64]

# Widths as if painted on the road. The ground truth is wider, so that a prediction on top of it hides neither.
PREDICTION_WIDTH_M, GT_WIDTH_M, HISTORY_WIDTH_M = 0.13, 0.36, 0.13
# Limits at 960 x 540: still a line far away, not a carpet under the bonnet.
MIN_WIDTH_PX, MAX_WIDTH_PX = 2.0, 7.0
# Step of the driven path before t0.
PATH_STEP_US = 100_000
# Encoding costs five times the drawing. A comparison frame of 1920 x 540 on one core takes 25 ms with ultrafast, 37 ms
# with superfast and 52 ms with veryfast; the files' sizes are as 1.8 to 1.5 to 1.
VIDEO_PRESET = "ultrafast"
OVERLAY_CRF = 20


class ScenePainter:
    """Draws one arm of a scene frame by frame; everything that does not move is prepared once."""

    def __init__(self, scene: TrajectoryScene, arm: ArmName, view: BirdsEyeView) -> None:
        width, height = scene.size
        camera = scene.camera
        self._scene, self._arm = scene, arm
        self._frames = scene.frames(arm)
        self._camera = camera if (camera.width, camera.height) == (width, height) else camera.resized(width, height)
        self._scale = drawing.picture_scale(width, height)
        self._focal_px = focal_px(self._camera)
        self._rotations, self._offsets, self._known = rig_motion(scene.ego, scene.timestamps_us, scene.t0_us)
        self._gt = None if scene.gt_future_m is None else densified(scene.gt_future_m)
        self._samples = [densified(sample) for sample in scene.trajectories_m(arm)]
        gt_steps = 0 if scene.gt_future_m is None else len(scene.gt_future_m)
        self._steps = max(int(scene.trajectories_m(arm).shape[1]), gt_steps)
        self._path_times_us, self._path = _driven_path(scene)
        self._inset = BirdsEyeInset(scene, arm, view)
        self._hud = hud_layer(scene, arm, follows_road=bool(self._known.any()))
        self._legend = legend_layer(scene, arm)

    def draw_frame(self, index: int, canvas: drawing.Picture) -> None:
        """Fill `canvas`, (H, W, 3), with frame `index` and everything on it. It may be a view into a larger picture."""
        scene = self._scene
        canvas[:] = self._frames[index]
        now_us = int(scene.timestamps_us[index])
        steps = revealed_count(index, len(self._frames), self._steps)
        rotation, offset = self._rotations[index], self._offsets[index]
        if self._known[index] or not self._known.any():
            self._draw_plan(canvas, steps, now_us, rotation, offset)
        self._inset.draw(canvas, steps, -offset @ rotation if self._known[index] else None)
        self._legend.stamp(canvas)
        self._hud.layer.stamp(canvas)
        draw_clock(canvas, self._hud, (now_us - scene.t0_us) / 1e6)

    def _draw_plan(self, canvas: drawing.Picture, steps: int, now_us: int, rotation: Float, offset: Float) -> None:
        end = steps * POINTS_PER_STEP + 1
        ahead = self._path[self._path_times_us >= now_us]
        self._draw_line(canvas, ahead, rotation, offset, HISTORY_WIDTH_M, HISTORY_COLOR, tip=False)
        if self._gt is not None:
            self._draw_line(canvas, self._gt[:end], rotation, offset, GT_WIDTH_M, GT_COLOR, tip=False)
        # Backwards: the first sample, in the colour of the bird's-eye inset, ends on top.
        for number in reversed(range(len(self._samples))):
            sample, color = self._samples[number][:end], sample_color(number)
            self._draw_line(canvas, sample, rotation, offset, PREDICTION_WIDTH_M, color, tip=True)

    def _draw_line(
        self,
        canvas: drawing.Picture,
        points_m: Float,
        rotation: Float,
        offset: Float,
        width_m: float,
        color: drawing.Color,
        tip: bool,
    ) -> None:
        # Limits of equal ratio, so that the ground truth stays the wider line at any distance.
        ratio = max(1.0, 0.75 * width_m / PREDICTION_WIDTH_M)
        low, high = MIN_WIDTH_PX * self._scale * ratio, MAX_WIDTH_PX * self._scale * ratio
        for line in project_line(self._camera, points_m, rotation, offset):
            widths = np.clip(width_m * self._focal_px / line.depths_m, max(1.0, low), max(1.0, high))
            drawing.draw_polyline(canvas, line.points_px, widths, color, max(0.5, self._scale))
            if tip and line.reaches_tip:
                drawing.draw_dot(canvas, line.points_px[-1], float(widths[-1]) / 2 + 1.5 * self._scale, color)


def _driven_path(scene: TrajectoryScene) -> tuple[NDArray[np.int64], Float]:
    """Times (N,) and places (N, 3), rig frame at t0, that the vehicle passes on its way to t0; empty where unknown."""
    nowhere = np.empty(0, dtype=np.int64), np.empty((0, 3))
    if scene.ego is None:
        return nowhere
    first, last = scene.ego.span_us
    start = max(first, int(scene.timestamps_us[0]))
    if not start < scene.t0_us <= last:
        return nowhere
    times = np.arange(scene.t0_us, start - 1, -PATH_STEP_US, dtype=np.int64)[::-1]
    return times, scene.ego.relative(times, scene.t0_us)[0]


def overlay_frames(scene: TrajectoryScene) -> Iterator[drawing.Picture]:
    """The overlay's frames one by one: (H, W, 3) sRGB uint8, as many as the scene has."""
    painter = ScenePainter(scene, "edited", BirdsEyeView.around(scene))
    for index in range(len(scene.edited_frames)):
        canvas = np.empty_like(scene.edited_frames[index])
        painter.draw_frame(index, canvas)
        yield canvas


def render_overlay(scene: TrajectoryScene, path: Path, crf: int = OVERLAY_CRF, preset: str = VIDEO_PRESET) -> None:
    """Write the edited clip with its projected trajectories to `path` (mp4), frame by frame.

    Args:
        scene: what to show.
        path: the file to write.
        crf: quality of the H.264 encoder, lower is better.
        preset: its effort.

    Source: spec 11.
    """
    write_video(path, overlay_frames(scene), scene.rate_hz, crf=crf, preset=preset)
