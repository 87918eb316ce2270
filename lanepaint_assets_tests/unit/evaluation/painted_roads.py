"""Pictures of a flat road with two painted lines, drawn through a real camera, for drivers that look."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets_tests.unit.evaluation.drives import camera

ASPHALT, GRASS, SKY, PAINT = (90, 90, 92), (70, 110, 60), (150, 180, 220), (225, 225, 225)


def road_camera() -> RigCamera:
    return camera(720, 405)


def road_pictures(
    ego: Egomotion,
    timestamps_us: NDArray[np.int64],
    curvature_1pm: float,
    lane_centre_m: float,
    lane_width_m: float = 3.6,
    painted: bool = True,
) -> NDArray[np.uint8]:
    """(N, 405, 720, 3): a lane whose centre runs `lane_centre_m` to the left of where the vehicle drives."""
    view = road_camera()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : view.height, 0 : view.width]
    ground, is_ground = view.ground(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
    pictures = []
    for time in timestamps_us:
        position, rotation = ego.relative(np.array([time]), int(timestamps_us[-1]))
        x, y = (ground @ rotation[0][:2, :2].T + position[0][:2]).T
        if curvature_1pm:
            radius = 1 / curvature_1pm
            lateral = np.sign(radius) * (abs(radius) - np.hypot(x, y - radius))
        else:
            lateral = y
        picture = np.where(is_ground[:, None], ASPHALT, SKY).astype(np.float64)
        picture[is_ground & (np.abs(lateral) > 6.0)] = GRASS
        for edge_m in (lane_width_m / 2, -lane_width_m / 2):
            on_line = is_ground & (np.abs(lateral - lane_centre_m - edge_m) < 0.075)
            picture[on_line & painted] = PAINT
        picture += rng.normal(0.0, 5.0, picture.shape)
        frame = picture.reshape(view.height, view.width, 3).clip(0, 255).astype(np.uint8)
        pictures.append(cv2.GaussianBlur(frame, (3, 3), 0.6))
    return np.stack(pictures).astype(np.uint8)
