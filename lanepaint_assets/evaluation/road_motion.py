"""How the road moves through the picture from one frame to the next.

Called by `warp_error.py`. The vehicle's path and the camera over a flat road say most of it. What they leave (a nod
that was not recorded, a path that was estimated) is set right by four numbers a pair of frames, found by laying the
original's pictures over each other: too few to follow paint, shadows or vehicles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.birds_eye import pitched, planar_poses, road_pitch
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

# Beyond, a row of pixels is metres of road, and a nod that nobody measured moves the ground by more than that.
FARTHEST_M = 40.0
# Pixels between exactly computed ones; between them the motion of a flat road is nearly linear.
KNOT_PX = 4
# What a path or a camera may be wrong by from one frame to the next, one standard deviation each: pitch and yaw in
# radians, the way ahead and to the left in metres.
DOUBT = np.array([0.005, 0.003, 0.2, 0.05])
# Steps for the derivatives by these numbers.
DELTA = np.array([1e-3, 1e-3, 0.05, 0.02])
# Blur of the pictures at each round, as shares of their width: first what is seen from afar, then the lines' edges.
ROUNDS = (1 / 320, 1 / 480, 1 / 640, 1 / 640)
# What no motion explains (shadows, glints, seams of asphalt) comes in patches: so many points count as one. Chosen from
# four values on four clips: with fewer, registration follows such patches on drives whose motion is exactly known.
POINTS_ALIKE = 1000.0
# Fewer common points of road say nothing of the motion.
MIN_POINTS = 150
# Huber's weight: from here on, in standard deviations, a difference counts by its size, not its square.
HUBER = 1.345


@dataclass(frozen=True)
class RoadStep:
    """From one picture to the next: both cameras with their nods, and the second's pose in the rig frame of the first.

    Each picture looks at the plane under its own wheels. `pose` is x and y in metres and yaw in radians.
    """

    now: RigCamera
    then: RigCamera
    pose: tuple[float, float, float]

    @classmethod
    def of(cls, camera: RigCamera, ego: Egomotion, taken_us: NDArray[np.int64]) -> RoadStep:
        """As path and camera say.

        Args:
            camera: of the pictures' size.
            ego: covers both times.
            taken_us: (2,) when the pictures were taken.

        Raises:
            ValueError: a time lies outside the ego motion's span.
        """
        now, then = (pitched(camera, float(angle)) for angle in road_pitch(ego, taken_us))
        x_m, y_m, yaw = planar_poses(ego, taken_us[1:], int(taken_us[0]))[0]
        return cls(now, then, (float(x_m), float(y_m), float(yaw)))

    def corrected(self, by: Float) -> RoadStep:
        """The step with the numbers of `DOUBT` added."""
        x_m, y_m, yaw = self.pose
        pose = (x_m + float(by[2]), y_m + float(by[3]), yaw + float(by[1]))
        return replace(self, then=pitched(self.then, float(by[0])), pose=pose)

    def carried(self, pixels: Float) -> Float:
        """Where the ground in (N, 2) pixels of the first picture is seen in the second; NaN where it is not."""
        ground, is_ground = self.now.ground(pixels)
        is_ground &= ground[:, 0] - self.now.position_m[0] < FARTHEST_M
        x_m, y_m, yaw = self.pose
        step = ground - np.array([x_m, y_m])
        c, s = np.cos(yaw), np.sin(yaw)
        turned = (c * step[:, 0] + s * step[:, 1], -s * step[:, 0] + c * step[:, 1], np.zeros(len(step)))
        seen_at, seen = self.then.project(np.column_stack(turned))
        seen_at[~(seen & is_ground)] = np.nan
        return seen_at

    def field(self) -> Float32:
        """(H, W, 2) `carried` of every pixel, far outside the picture where there is nothing."""
        height, width = self.now.height, self.now.width
        knots = _grid(height + KNOT_PX, width + KNOT_PX)
        exact = self.carried(knots.reshape(-1, 2)).reshape(knots.shape).astype(np.float32)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(KNOT_PX)
        # Beside an unknown knot nothing is known: NaN spreads.
        full = cv2.remap(exact, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.where(np.isfinite(full), full, np.float32(-1e4)).astype(np.float32)


def registered(step: RoadStep, pictures: NDArray[np.uint8], masks: Bool) -> RoadStep:
    """Correct a step so that two pictures of the road lie over each other as well as its few numbers allow.

    Args:
        step: as path and camera say.
        pictures: (2, H, W, 3) sRGB uint8, originals.
        masks: (2, H, W) bool, road without vehicles.

    Returns:
        The corrected step, or the given one where too little road is common to both. Robust least squares over points
        of the road, held by `DOUBT`.
    """
    height, width = masks.shape[1:]
    points = _grid(height, width).reshape(-1, 2)
    points = points[masks[0][points[:, 1].astype(int), points[:, 0].astype(int)]]
    if len(points) < MIN_POINTS:
        return step
    light = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    on_road = masks[1].astype(np.float32)
    correction = np.zeros(DOUBT.size)
    for share in ROUNDS:
        before, after = (cv2.GaussianBlur(picture, (0, 0), share * width) for picture in light)
        system = _normal_equations(step, correction, points, before, after, on_road)
        if system is None:
            return step
        matrix, right_side = system
        correction = correction + np.linalg.solve(matrix, right_side)
    return step.corrected(correction)


def _normal_equations(
    step: RoadStep, correction: Float, points: Float, before: Float32, after: Float32, on_road: Float32
) -> tuple[Float, Float] | None:
    """One round of Gauss-Newton; None where too few points are common to both pictures."""
    there = step.corrected(correction).carried(points)
    # Outside the picture there is no road either.
    good: Bool = np.isfinite(there).all(axis=1) & (_sampled(on_road, np.nan_to_num(there, nan=-1e4)) > 0.99)
    moved = []
    for i in range(DOUBT.size):
        nudged = correction.copy()
        nudged[i] += DELTA[i]
        moved.append((step.corrected(nudged).carried(points) - there) / DELTA[i])
        good = good & np.isfinite(moved[-1]).all(axis=1)
    if int(good.sum()) < MIN_POINTS:
        return None
    slope_x = _sampled(cv2.Sobel(after, cv2.CV_32F, 1, 0, scale=1 / 8).astype(np.float32), there[good])
    slope_y = _sampled(cv2.Sobel(after, cv2.CV_32F, 0, 1, scale=1 / 8).astype(np.float32), there[good])
    jacobian = np.column_stack([slope_x * by[good, 0] + slope_y * by[good, 1] for by in moved])
    residual = _sampled(before, points[good]) - _sampled(after, there[good])
    # Exposure may change from frame to frame; no difference of pictures is ever surer than half a grey level.
    residual -= float(np.median(residual))
    scale = 1.4826 * float(np.median(np.abs(residual))) + 0.5
    weight = 1.0 / np.maximum(1.0, np.abs(residual) / (HUBER * scale)) / (POINTS_ALIKE * scale**2)
    weighted = jacobian * weight[:, None]
    return weighted.T @ jacobian + np.diag(1.0 / DOUBT**2), weighted.T @ residual - correction / DOUBT**2


def _grid(height: int, width: int) -> Float:
    """(rows, columns, 2) pixel positions x, y, every `KNOT_PX`-th."""
    rows, columns = (np.arange(0, size, KNOT_PX, dtype=np.float64) for size in (height, width))
    return np.stack(np.meshgrid(columns, rows), axis=-1)


def _sampled(picture: Float32, pixels: Float) -> Float:
    """(N,) values at (N, 2) pixels, bilinear, 0 outside."""
    x, y = pixels.astype(np.float32).T[..., None]
    values = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(values[:, 0], dtype=np.float64)
