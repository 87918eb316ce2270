"""The bird's-eye inset of spec 11: history grey, ground truth red, predictions cyan, in metres, rig frame at t0.

Used by the overlay; the report draws its own vector version. One inset serves one arm of one scene, and both arms of a
scene share their scale, so that they can be compared by eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.planes import Planes
from lanepaint_assets.rendering import canvas, drawing
from lanepaint_assets.rendering.plots import round_ticks
from lanepaint_assets.rendering.projection import POINTS_PER_STEP, densified
from lanepaint_assets.rendering.scene import GT_COLOR, HISTORY_COLOR, PREDICTION_COLOR, ArmName, TrajectoryScene

Float = NDArray[np.float64]

# Spec 11: 250 px, on the 1080 lines of the data set and on half of them. Smaller and larger pictures scale it.
SPEC_SIDE_PX = 250
# A lane and a half to either side: what a driver's deviation is judged against.
MIN_HALF_WIDTH_M = 5.0
MIN_LENGTH_M = 20.0
GRID_COLOR: drawing.Color = (70, 80, 92)
# The inset holds thin lines: more opaque than the other panels.
OPACITY = 0.78


def inset_side_px(width: int, height: int) -> int:
    """Side of the inset: 250 px from 960 x 540 to 1920 x 1080, scaled with smaller and larger pictures."""
    small = drawing.picture_scale(width, height)
    return max(48, canvas.even(SPEC_SIDE_PX * (small if small < 1 else max(1.0, small / 2))))


@dataclass(frozen=True)
class BirdsEyeView:
    """The patch of ground that an inset shows, rig frame at t0, metres.

    Lateral distances may be stretched: a shift of half a metre in a plan of 150 m is what people look for.
    """

    behind_m: float
    ahead_m: float
    half_width_m: float

    @classmethod
    def around(cls, scene: TrajectoryScene) -> BirdsEyeView:
        """The patch that holds every trajectory of both arms."""
        parts = [scene.original_trajectories_m.reshape(-1, 3), scene.edited_trajectories_m.reshape(-1, 3)]
        parts += [part for part in (scene.gt_future_m, scene.history_m) if part is not None]
        points = np.vstack([np.zeros((1, 3)), *parts])
        points = points[np.isfinite(points).all(axis=1)]
        ahead = max(MIN_LENGTH_M, float(points[:, 0].max()) * 1.05)
        behind = min(max(3.0, -float(points[:, 0].min())), ahead / 3) * 1.05
        half_width = max(MIN_HALF_WIDTH_M, float(np.abs(points[:, 1]).max()) * 1.15)
        # Never squeezed: a turn keeps its shape.
        return cls(behind, ahead, min(half_width, max(MIN_HALF_WIDTH_M, (ahead + behind) / 2)))

    @property
    def stretch(self) -> float:
        """How many times larger lateral distances are drawn than longitudinal ones."""
        return (self.ahead_m + self.behind_m) / (2 * self.half_width_m)


class BirdsEyeInset:
    """Draws the inset of one arm on frame after frame.

    Grid, words and history are prepared once. What is revealed stays, so each frame adds only its new waypoints.
    """

    def __init__(self, scene: TrajectoryScene, arm: ArmName, view: BirdsEyeView) -> None:
        width, height = scene.canvas_size
        self.side_px = min(inset_side_px(width, height), width, height)
        margin = max(4, canvas.even(8 * drawing.picture_scale(width, height)))
        self.x_px = min(margin, width - self.side_px)
        self.y_px = max(0, height - margin - self.side_px)
        self._view = view
        self._weight = self.side_px / SPEC_SIDE_PX
        self._plan = self._draw_backdrop()
        self._predictions = canvas.LineLayer.empty(self.x_px, self.y_px, self.side_px, self.side_px)
        self._revealed = 0
        if scene.history_m is not None:
            self._plan.line(self._pixels(scene.history_m), max(1.0, 2.6 * self._weight), HISTORY_COLOR)
        self._gt = np.empty((0, 2)) if scene.gt_future_m is None else self._pixels(densified(scene.gt_future_m))
        self._samples = [
            self._pixels(densified(sample)) for sample in scene.trajectories_m(arm) if np.isfinite(sample).all()
        ]

    def draw(self, picture: Planes, revealed_steps: int, rig_position_m: Float | None) -> None:
        """Lay the inset over `picture`, in place.

        Args:
            picture: frame of the size of the scene.
            revealed_steps: waypoints to show, never fewer than in the frame before.
            rig_position_m: (3,) where the vehicle is now, in the rig frame at t0; None where that is not known.
        """
        new = slice(self._revealed * POINTS_PER_STEP, revealed_steps * POINTS_PER_STEP + 1)
        if revealed_steps > self._revealed:
            # The ground truth is wider, so that a prediction on top of it hides neither.
            self._plan.line(self._gt[new], max(1.0, 3.4 * self._weight), GT_COLOR)
            for sample in self._samples:
                self._predictions.line(sample[new], max(1.0, 1.6 * self._weight), PREDICTION_COLOR)
        self._revealed = revealed_steps
        self._plan.stamp(picture)
        self._predictions.stamp(picture)
        patch = picture.part(self.x_px, self.y_px, self.side_px, self.side_px)
        self._vehicle(patch, self._pixels(np.zeros((1, 3)) if rig_position_m is None else rig_position_m[None])[0])

    def _pixels(self, points_m: Float) -> Float:
        view = self._view
        across = (0.5 - points_m[:, 1] / (2 * view.half_width_m)) * (self.side_px - 1)
        up = (view.ahead_m - points_m[:, 0]) / (view.ahead_m + view.behind_m) * (self.side_px - 1)
        return np.stack([across, up], axis=1)

    def _vehicle(self, patch: Planes, tip: Float) -> None:
        if not (0 <= tip[0] < self.side_px and -2 <= tip[1] < self.side_px):
            return
        size = max(3.0, 6.0 * self._weight)
        corners = tip + size * np.array([[0.0, -1.2], [0.8, 1.0], [0.0, 0.5], [-0.8, 1.0]])
        canvas.fill_polygon(patch, corners, drawing.WHITE)

    def _draw_backdrop(self) -> canvas.LineLayer:
        builder = canvas.LayerBuilder(self.side_px, self.side_px, OPACITY)
        picture, view = builder.picture, self._view
        size = drawing.font_px(11, self._weight)
        for x_m in round_ticks(-view.behind_m, view.ahead_m, 5):
            y = round(float(self._pixels(np.array([[x_m, 0.0, 0.0]]))[0, 1]))
            cv2.line(picture, (0, y), (self.side_px, y), GRID_COLOR, 1)
            # Labels keep clear of the title above and of the lateral labels below.
            if x_m >= 0 and 2.6 * size < y < self.side_px - 2.6 * size:
                drawing.draw_text(picture, f"{x_m:g} m", 4, y - size - 2, size, drawing.SOFT_WHITE)
        for y_m in round_ticks(-view.half_width_m, view.half_width_m, 5):
            x = round(float(self._pixels(np.array([[0.0, y_m, 0.0]]))[0, 0]))
            cv2.line(picture, (x, 0), (x, self.side_px), GRID_COLOR, 1)
            label = f"{y_m:+g}" if y_m else "0"
            left = x - drawing.text_width(label, size) // 2
            if 0 < left < self.side_px - drawing.text_width(label, size):
                bottom = self.side_px - drawing.line_height(size)
                drawing.draw_text(picture, label, left, bottom, size, drawing.SOFT_WHITE)
        stretched = f", lateral ×{view.stretch:.1f}" if view.stretch > 1.05 else ""
        title = drawing.fit_text(f"bird's eye{stretched}", self.side_px - 8, size, True)
        drawing.draw_text(picture, title, 4, 2, size, drawing.WHITE, True)
        return builder.line_layer(self.x_px, self.y_px)
