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
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_pictures
from lanepaint_assets.clips.planes import Planes, new_frame
from lanepaint_assets.rendering import canvas, drawing
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeInset, BirdsEyeView
from lanepaint_assets.rendering.hud import draw_clock, hud_layer, legend_layer
from lanepaint_assets.rendering.projection import (
    POINTS_PER_STEP,
    ProjectedLine,
    densified,
    focal_px,
    project_lines,
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
# Encoding costs three times the drawing. A comparison frame of 1920 x 540 on one core takes 25 ms with ultrafast, 37 ms
# with superfast and 52 ms with veryfast; the files' sizes are as 1.8 to 1.5 to 1.
VIDEO_PRESET = "ultrafast"
# 38 dB against what was drawn on a picture full of grain; a script with OpenCV's MPEG-4 leaves 34 dB at the same size.
OVERLAY_QP = 22


class ScenePainter:
    """Draws one arm of a scene frame by frame; everything that does not move is prepared once."""

    def __init__(self, scene: TrajectoryScene, arm: ArmName, view: BirdsEyeView) -> None:
        width, height = scene.size
        camera = scene.camera
        self._scene = scene
        self._camera = camera if (camera.width, camera.height) == (width, height) else camera.resized(width, height)
        self._scale = drawing.picture_scale(width, height)
        self._focal_px = focal_px(self._camera)
        self._rotations, self._offsets, self._known = rig_motion(scene.ego, scene.taken_us, scene.t0_us)
        self._gt = None if scene.gt_future_m is None else densified(scene.gt_future_m)
        self._samples = [densified(sample) for sample in scene.trajectories_m(arm)]
        gt_steps = 0 if scene.gt_future_m is None else len(scene.gt_future_m)
        self._steps = max(int(scene.trajectories_m(arm).shape[1]), gt_steps)
        self._path_times_us, self._path = _driven_path(scene)
        self._inset = BirdsEyeInset(scene, arm, view)
        self._hud = hud_layer(scene, arm, follows_road=bool(self._known.any()))
        self._legend = legend_layer(scene, arm)

    def draw_frame(self, index: int, picture: Planes) -> None:
        """Draw everything on frame `index`, in place; frames come in order. It may be a part of a larger picture."""
        scene = self._scene
        border = max(0.5, self._scale)
        for mark, line in self.plan(index):
            # Limits of equal ratio, so that the ground truth stays the wider line at any distance.
            ratio = self._scale * _width_ratio(mark.width_m)
            low, high = max(1.0, MIN_WIDTH_PX * ratio), max(1.0, MAX_WIDTH_PX * ratio)
            widths = np.clip(mark.width_m * self._focal_px / line.depths_m, low, high)
            canvas.draw_ribbon(picture, line.points_px, widths, mark.color, border)
            if mark.has_tip and line.reaches_tip:
                canvas.draw_dot(picture, line.points_px[-1], float(widths[-1]) / 2 + 1.5 * self._scale, mark.color)
        rotation, offset = self._rotations[index], self._offsets[index]
        self._inset.draw(picture, self._revealed(index), -offset @ rotation if self._known[index] else None)
        self._legend.stamp(picture)
        self._hud.layer.stamp(picture)
        draw_clock(picture, self._hud, (int(scene.timestamps_us[index]) - scene.t0_us) / 1e6)

    def plan(self, index: int) -> list[tuple[Mark, ProjectedLine]]:
        """The lines on the road in frame `index`, those to be drawn on top last."""
        if not self._known[index] and self._known.any():
            return []
        end = self._revealed(index) * POINTS_PER_STEP + 1
        driven = self._path[self._path_times_us >= int(self._scene.taken_us[index])]
        marks = [Mark(driven, HISTORY_WIDTH_M, HISTORY_COLOR, has_tip=False)]
        if self._gt is not None:
            marks.append(Mark(self._gt[:end], GT_WIDTH_M, GT_COLOR, has_tip=False))
        # Backwards: the first sample, in the colour of the bird's-eye inset, ends on top.
        marks += [
            Mark(self._samples[number][:end], PREDICTION_WIDTH_M, sample_color(number), has_tip=True)
            for number in reversed(range(len(self._samples)))
        ]
        margin = MAX_WIDTH_PX * self._scale * _width_ratio(GT_WIDTH_M) + max(0.5, self._scale)
        points = [mark.points_m for mark in marks]
        lines = project_lines(self._camera, points, self._rotations[index], self._offsets[index], margin)
        return [(marks[line.line], line) for line in lines]

    def _revealed(self, index: int) -> int:
        return revealed_count(index, len(self._scene.timestamps_us), self._steps)


@dataclass(frozen=True, eq=False)
class Mark:
    """A line on the road: (N, 3) points in the rig frame at t0, its width there, and whether its end gets a dot."""

    points_m: Float
    width_m: float
    color: drawing.Color
    has_tip: bool


def _width_ratio(width_m: float) -> float:
    """How much wider than a prediction a line's limits in the picture are."""
    return max(1.0, 0.75 * width_m / PREDICTION_WIDTH_M)


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


def overlay_frames(scene: TrajectoryScene) -> Iterator[av.VideoFrame]:
    """The overlay's frames one by one, as many as the scene has.

    Raises:
        InvalidClipError: the edited video is damaged.
    """
    painter = ScenePainter(scene, "edited", BirdsEyeView.around(scene))
    for index, picture in enumerate(scene.frames("edited")):
        frame = new_frame(*scene.canvas_size)
        planes = Planes.of(frame)
        planes.take(picture)
        painter.draw_frame(index, planes)
        yield frame


def render_overlay(scene: TrajectoryScene, path: Path, qp: int = OVERLAY_QP, preset: str = VIDEO_PRESET) -> None:
    """Write the edited clip with its projected trajectories to `path` (mp4), frame by frame.

    Args:
        scene: what to show.
        path: the file to write.
        qp: quantizer of the H.264 encoder, lower is better.
        preset: its effort.

    Source: spec 11.
    """
    write_pictures(path, overlay_frames(scene), scene.rate_hz, qp=qp, preset=preset)
