"""A small renderer of a flat road with known lines, for tests of what is measured on it.

Every pixel's ray is cut with the ground, and the ground is a formula: asphalt with grain, grass beyond the verge, paint
where a line's rule says so. Supersampled, so that far lines fade as they do in pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.rendering.cameras import FThetaLens, PinholeLens, RigCamera, mounting_rotation

Float = NDArray[np.float64]

WHITE = (0.62, 0.62, 0.60)
YELLOW = (0.58, 0.36, 0.05)
ASPHALT = (0.085, 0.085, 0.088)
GRASS = (0.05, 0.10, 0.02)


@dataclass(frozen=True)
class PaintedLine:
    """One line: `offset_m` to the left of the road's middle; dashes repeat along the road's arc."""

    offset_m: float
    color: tuple[float, float, float] = WHITE
    double: bool = False
    dash_m: float | None = None
    period_m: float = 12.0
    width_m: float = 0.12

    def covers(self, along: Float, across: Float) -> NDArray[np.bool_]:
        off = across - self.offset_m
        half = self.width_m / 2
        on = (np.abs(np.abs(off) - self.width_m) < half) if self.double else (np.abs(off) < half)
        if self.dash_m is not None:
            on &= np.mod(along, self.period_m) < self.dash_m
        return on


@dataclass(frozen=True)
class FlatRoad:
    """A road of constant curvature through the origin, heading along x."""

    lines: tuple[PaintedLine, ...]
    curvature: float = 0.0
    half_width_m: float = 5.5
    shadow: bool = False
    grain: NDArray[np.float64] = field(
        default_factory=lambda: np.random.default_rng(7).normal(0.0, 1.0, (512, 512)).clip(-2.5, 2.5)
    )

    def along_across(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Arc length along the middle and distance to its left, of world points."""
        if self.curvature == 0.0:
            return x, y
        radius = 1.0 / self.curvature
        from_centre = np.hypot(x, radius - y)
        across = radius - np.sign(radius) * from_centre
        along = np.arctan2(x * np.sign(radius), np.abs(radius - y)) * radius
        return along, across

    def light(self, x: Float, y: Float) -> Float:
        """Linear light (N, 3) of ground points."""
        along, across = self.along_across(x, y)
        fine = self.grain[np.floor(along / 0.06).astype(int) % 512, np.floor(across / 0.06).astype(int) % 512]
        coarse = self.grain[np.floor(along / 0.9).astype(int) % 512, np.floor(across / 0.7).astype(int) % 512]
        asphalt = np.asarray(ASPHALT) * (1.0 + 0.10 * fine + 0.07 * coarse)[:, None]
        color = np.where(
            (np.abs(across) < self.half_width_m)[:, None], asphalt, np.asarray(GRASS) * (1 + 0.3 * fine)[:, None]
        )
        for line in self.lines:
            paint = np.asarray(line.color) * (1.0 + 0.04 * fine)[:, None]
            color = np.where(line.covers(along, across)[:, None], paint, color)
        if self.shadow:
            shaded = np.mod(along + 0.4 * across, 14.0) < 5.0
            color = color * np.where(shaded, 0.25, 1.0)[:, None]
        return color

    def middle_y(self, x: Float, offset_m: float) -> Float:
        """World y of the offset curve at world x."""
        if self.curvature == 0.0:
            return np.full_like(x, offset_m)
        radius = 1.0 / self.curvature
        return radius - np.sign(radius) * np.sqrt((abs(radius) - np.sign(radius) * offset_m) ** 2 - x**2)


def camera(width: int = 640, height: int = 360, fisheye: bool = False) -> RigCamera:
    rotation = mounting_rotation(0.0, 0.02)
    position = np.array([1.7, 0.0, 1.45])
    if fisheye:
        scale = width / 1920
        lens: FThetaLens | PinholeLens = FThetaLens(
            width,
            height,
            (width - 1) / 2,
            (height - 1) / 2,
            tuple(scale * c for c in (0.0, 927.5, 23.14, -58.5, 16.51)),
        )
    else:
        focal = width / 2 / np.tan(np.deg2rad(30.0))
        lens = PinholeLens(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return RigCamera(lens, rotation, position, "calibrated")


def drive(
    count: int, speed_mps: float, rate_hz: float = 10.0, yaw_rate: float = 0.0, start: Float | None = None
) -> Egomotion:
    """Constant speed and yaw rate from `start` (x, y, heading)."""
    t = np.arange(count) / rate_hz
    x0, y0, heading0 = (0.0, 0.0, 0.0) if start is None else start
    heading = heading0 + yaw_rate * t
    if yaw_rate:
        x = x0 + speed_mps / yaw_rate * (np.sin(heading) - np.sin(heading0))
        y = y0 - speed_mps / yaw_rate * (np.cos(heading) - np.cos(heading0))
    else:
        x, y = x0 + speed_mps * t * np.cos(heading0), y0 + speed_mps * t * np.sin(heading0)
    zero = np.zeros_like(t)
    return Egomotion(
        (t * 1e6).round().astype(np.int64),
        np.column_stack([x, y, zero]),
        np.column_stack([zero, zero, np.sin(heading / 2), np.cos(heading / 2)]),
        "recorded",
    )


def render(road: FlatRoad, view: RigCamera, ego: Egomotion, seed: int = 0) -> NDArray[np.uint8]:
    """(T, H, W, 3) sRGB uint8."""
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.arange(view.width), np.arange(view.height))
    samples = [
        view.ground(np.column_stack([(u + d).ravel(), (v - d).ravel()]).astype(np.float64)) for d in (-0.25, 0.25)
    ]
    frames = []
    for position, quaternion in zip(ego.positions_m, ego.quaternions_xyzw, strict=True):
        heading = 2 * np.arctan2(quaternion[2], quaternion[3])
        c, s = np.cos(heading), np.sin(heading)
        total = np.zeros((u.size, 3))
        for points, hits in samples:
            color = np.tile([0.35, 0.45, 0.6], (u.size, 1))
            near = hits & (np.hypot(points[:, 0], points[:, 1]) < 200.0)
            x, y = points[near, 0], points[near, 1]
            color[near] = road.light(position[0] + c * x - s * y, position[1] + s * x + c * y)
            total += color / len(samples)
        shown = np.where(total <= 0.0031308, 12.92 * total, 1.055 * np.clip(total, 1e-6, 1.0) ** (1 / 2.4) - 0.055)
        noisy = shown * 255 + rng.normal(0.0, 1.5, shown.shape)
        frames.append(noisy.round().clip(0, 255).astype(np.uint8).reshape(view.height, view.width, 3))
    return np.stack(frames)
