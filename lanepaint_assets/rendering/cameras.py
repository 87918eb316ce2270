"""Camera models and their mounting on the vehicle: from the rig frame to pixels and back to the ground.

Lives here because drawing, painting, measuring and the sample drive all need one and the same projection. Nothing
about files or data sets: `clips` reads calibration and builds these objects.

Frames of reference: rig x forward, y left, z up, metres, origin on the ground under the rear axle; camera x right,
y down, z forward. Pixel centres are integers, origin top left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

CameraQuality = Literal["calibrated", "estimated", "assumed"]

# Where PhysicalAI-AV's cameras look, to the left of forward (spec 11; the rear side cameras as they are mounted there).
YAW_BY_NAME_DEG = {
    "front_wide": 0.0,
    "front_tele": 0.0,
    "cross_left": 90.0,
    "cross_right": -90.0,
    "rear_left": 150.0,
    "rear_right": -150.0,
    "rear_tele": 180.0,
}
_VIEW_IN_NAME = re.compile(r"_(\d+)fov$")
# A car's windscreen camera; sets the scale of everything measured in pictures that nothing else is known of.
ASSUMED_HEIGHT_M = 1.45
# From the rear axle to a windscreen camera of a passenger car.
ASSUMED_FORWARD_M = 1.75

# Below this depth a point of the ground is under the bonnet or behind the lens (spec 11).
MIN_DEPTH_M = 0.5


class LensModel(Protocol):
    """Maps directions in the camera frame to pixels and back."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def project(self, points: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Project (N, 3) camera-frame points to (N, 2) pixels; the flag is False where the lens cannot see."""
        ...

    def rays(self, pixels: Float) -> Float:
        """Unit directions (N, 3) in the camera frame of (N, 2) pixels."""
        ...

    def resized(self, width: int, height: int) -> LensModel:
        """The same lens seen through a picture resized to (width, height)."""
        ...


@dataclass(frozen=True)
class FThetaLens:
    """Polynomial fisheye: a ray `theta` radians off the axis lands `r(theta)` pixels from the centre.

    `fw_poly` holds r's coefficients in ascending order, in pixels horizontally. `aspect` is the vertical scale over the
    horizontal one; it leaves 1 only when a picture was resized without keeping its proportions.
    """

    width: int
    height: int
    cx: float
    cy: float
    fw_poly: tuple[float, ...]
    aspect: float = 1.0

    @cached_property
    def _theta_table(self) -> tuple[Float, Float]:
        """Angles and radii up to where the polynomial stops growing, or to the picture's far corner."""
        theta = np.linspace(0.0, np.pi / 2, 2048)
        radius: Float = np.polynomial.polynomial.polyval(theta, np.asarray(self.fw_poly)).astype(np.float64)
        falling = np.flatnonzero(np.diff(radius) <= 0)
        end = int(falling[0]) + 1 if falling.size else theta.size
        return theta[:end], radius[:end]

    @property
    def max_theta(self) -> float:
        """Largest angle off the axis, radians, that the polynomial can represent."""
        return float(self._theta_table[0][-1])

    def project(self, points: Float) -> tuple[Float, NDArray[np.bool_]]:
        points = np.asarray(points, dtype=np.float64)
        rho = np.hypot(points[:, 0], points[:, 1])
        theta = np.arctan2(rho, points[:, 2])
        visible = theta < self.max_theta
        radius = np.polynomial.polynomial.polyval(
            np.minimum(theta, self.max_theta), np.asarray(self.fw_poly, dtype=np.float64)
        )
        scale = np.divide(radius, rho, out=np.zeros_like(rho), where=rho > 1e-12)
        pixels = np.stack(
            [self.cx + scale * points[:, 0], self.cy + self.aspect * scale * points[:, 1]],
            axis=1,
        )
        return pixels, visible

    def rays(self, pixels: Float) -> Float:
        pixels = np.asarray(pixels, dtype=np.float64)
        dx = pixels[:, 0] - self.cx
        dy = (pixels[:, 1] - self.cy) / self.aspect
        radius = np.hypot(dx, dy)
        table_theta, table_radius = self._theta_table
        theta = np.interp(radius, table_radius, table_theta)
        sine = np.divide(np.sin(theta), radius, out=np.zeros_like(radius), where=radius > 1e-12)
        return np.stack([dx * sine, dy * sine, np.cos(theta)], axis=1)

    def resized(self, width: int, height: int) -> FThetaLens:
        sx, sy = width / self.width, height / self.height
        return FThetaLens(
            width=width,
            height=height,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            fw_poly=tuple(c * sx for c in self.fw_poly),
            aspect=self.aspect * sy / sx,
        )


@dataclass(frozen=True)
class PinholeLens:
    """Ideal perspective lens, focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def project(self, points: Float) -> tuple[Float, NDArray[np.bool_]]:
        points = np.asarray(points, dtype=np.float64)
        visible = points[:, 2] > 1e-6
        depth = np.where(visible, points[:, 2], 1.0)
        pixels = np.stack([self.cx + self.fx * points[:, 0] / depth, self.cy + self.fy * points[:, 1] / depth], axis=1)
        return pixels, visible

    def rays(self, pixels: Float) -> Float:
        pixels = np.asarray(pixels, dtype=np.float64)
        directions = np.stack(
            [
                (pixels[:, 0] - self.cx) / self.fx,
                (pixels[:, 1] - self.cy) / self.fy,
                np.ones(len(pixels)),
            ],
            axis=1,
        )
        unit: Float = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        return unit

    def resized(self, width: int, height: int) -> PinholeLens:
        sx, sy = width / self.width, height / self.height
        return PinholeLens(
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )


@dataclass(frozen=True)
class RigCamera:
    """A lens mounted on the vehicle.

    Attributes:
        lens: the lens, in pixels of the picture in use.
        rotation: (3, 3), turns camera-frame directions into rig-frame directions.
        position_m: (3,), the lens in the rig frame.
        quality: `calibrated` (from the data set), `estimated` (from the pictures), `assumed` (by camera name).
    """

    lens: FThetaLens | PinholeLens
    rotation: Float
    position_m: Float
    quality: CameraQuality

    @property
    def width(self) -> int:
        return self.lens.width

    @property
    def height(self) -> int:
        return self.lens.height

    def project(self, points_rig: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Project (N, 3) rig points to (N, 2) pixels.

        Returns:
            Pixels, and a flag that is True where the point lies in front of the lens and inside the picture.
        """
        in_camera = (np.asarray(points_rig, dtype=np.float64) - self.position_m) @ self.rotation
        pixels, seen = self.lens.project(in_camera)
        inside = (
            (pixels[:, 0] >= -0.5)
            & (pixels[:, 0] <= self.width - 0.5)
            & (pixels[:, 1] >= -0.5)
            & (pixels[:, 1] <= self.height - 0.5)
        )
        return pixels, seen & inside & (in_camera[:, 2] > MIN_DEPTH_M)

    def ground(self, pixels: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Where the rays of (N, 2) pixels meet the plane z = 0.

        Returns:
            (N, 2) rig x and y in metres, and a flag that is False for rays at or above the horizon.
        """
        directions = self.lens.rays(pixels) @ self.rotation.T
        down = directions[:, 2] < -1e-6
        reach = np.where(down, -self.position_m[2] / np.where(down, directions[:, 2], -1.0), 0.0)
        return self.position_m[:2] + reach[:, None] * directions[:, :2], down

    def resized(self, width: int, height: int) -> RigCamera:
        """The same camera behind a picture resized to (width, height)."""
        return replace(self, lens=self.lens.resized(width, height))


def camera_by_name(name: str, width: int, height: int) -> RigCamera | None:
    """A pinhole with the field of view that a camera's name ends in, turned to where the name says: the last resort.

    Args:
        name: for example `camera_cross_left_120fov`.
        width, height: of its pictures.

    Returns:
        A camera of quality `assumed`; None where the name does not say both.

    Source: spec 11, focal length and camera yaw; it looks from where windscreen cameras are, not from the axle.
    """
    view = _VIEW_IN_NAME.search(name)
    yaw_deg = next((yaw for place, yaw in YAW_BY_NAME_DEG.items() if place in name), None)
    if view is None or yaw_deg is None or not 0 < int(view[1]) < 180:
        return None
    focal = width / (2 * float(np.tan(np.radians(int(view[1])) / 2)))
    lens = PinholeLens(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    place = np.array([ASSUMED_FORWARD_M, 0.0, ASSUMED_HEIGHT_M])
    return RigCamera(lens, mounting_rotation(float(np.radians(yaw_deg)), 0.0), place, quality="assumed")


def mounting_rotation(yaw_rad: float, pitch_down_rad: float, roll_rad: float = 0.0) -> Float:
    """Camera-to-rig rotation of a camera turned `yaw_rad` to the left and `pitch_down_rad` towards the ground.

    `roll_rad` turns the camera clockwise about its own axis, as seen from behind it.
    """
    axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cp, sp = np.cos(pitch_down_rad), np.sin(pitch_down_rad)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    pitch = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    roll = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    rotation: Float = yaw @ pitch @ axes @ roll
    return rotation
