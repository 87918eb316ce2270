"""A small flat road rendered from exact geometry, and a line source that knows it: what the painter's tests look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.editing.engine import EditScene
from lanepaint_assets.editing.road_band import pitched
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole, RoadView
from lanepaint_assets.rendering.cameras import PinholeLens, RigCamera, mounting_rotation

Float = NDArray[np.float64]

WHITE_SOLID = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)
WHITE_DASHED = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)
DOUBLE_YELLOW = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)
YELLOW_DASHED = LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.DASHED)
DOUBLE_WHITE = LaneStyle(Count.DOUBLE, Color.WHITE, Pattern.SOLID)


@dataclass(frozen=True)
class TrueLine:
    """d from the road's centre circle, left positive, and how it is painted."""

    d_m: float
    style: LaneStyle
    role: LineRole = "other"
    width_m: float = 0.12
    dash_m: float = 3.0
    period_m: float = 12.0


LANE = (
    TrueLine(1.8, WHITE_SOLID, "ego_left"),
    TrueLine(-1.8, WHITE_DASHED, "ego_right"),
)


@dataclass(frozen=True)
class FlatRoad:
    """A road along a circle (or straight) through the world's origin, heading along x at s = 0."""

    curvature: float = 0.0
    lines: tuple[TrueLine, ...] = LANE
    pitch_rad: float = 0.0
    wander_m: float = 0.0
    speed_mps: float = 10.0
    shadow: bool = False
    seed: int = 1
    camera: RigCamera = field(
        default_factory=lambda: RigCamera(
            PinholeLens(480, 270, 300.0, 300.0, 239.5, 129.5),
            mounting_rotation(0.0, 0.06),
            np.array([1.5, 0.0, 1.5]),
            "calibrated",
        )
    )

    def world(self, s: Float, d: Float) -> Float:
        k = self.curvature
        if abs(k) < 1e-9:
            return np.stack([s, d], axis=1)
        return np.stack([np.sin(k * s) * (1 / k - d), 1 / k - np.cos(k * s) * (1 / k - d)], axis=1)

    def road(self, xy: Float) -> tuple[Float, Float]:
        k = self.curvature
        if abs(k) < 1e-9:
            return xy[:, 0], xy[:, 1]
        to_centre = 1 / k - xy[:, 1]
        radius = np.hypot(xy[:, 0], to_centre) * np.sign(k)
        return np.arctan2(xy[:, 0] * np.sign(k), to_centre * np.sign(k)) / k, 1 / k - radius

    def pose(self, t_s: float) -> tuple[Float, float]:
        """World position and yaw."""
        s = 5.0 + self.speed_mps * t_s
        d = self.wander_m * np.sin(0.8 * t_s)
        xy = self.world(np.array([s]), np.array([d]))[0]
        slope = self.wander_m * 0.8 * np.cos(0.8 * t_s) / self.speed_mps if self.speed_mps else 0.0
        return xy, self.curvature * s + float(np.arctan(slope))

    def ego(self, duration_s: float) -> Egomotion:
        times = np.arange(0.0, duration_s + 0.2, 0.02)
        poses = [self.pose(t) for t in times]
        return Egomotion(
            (times * 1e6).astype(np.int64),
            np.array([[*xy, 0.0] for xy, _ in poses]),
            np.array(
                [
                    Rotation.from_euler("ZY", [yaw, self.pitch(t)]).as_quat()
                    for t, (_, yaw) in zip(times, poses, strict=True)
                ]
            ),
            "recorded",
        )

    def scene(self, count: int, rate_hz: float = 8.0) -> EditScene:
        times = np.round(np.arange(count) / rate_hz * 1e6).astype(np.int64)
        rendered = [self._render(k, float(t) / 1e6) for k, t in enumerate(times)]
        return EditScene(
            item_key="synthetic.camera",
            frames=np.stack([f for f, _ in rendered]),
            timestamps_us=times,
            paint_masks=np.stack([m for _, m in rendered]),
            camera=self.camera,
            ego=self.ego(count / rate_hz),
        )

    def frame_camera(self, t_s: float) -> RigCamera:
        return pitched(self.camera, self.pitch(t_s))

    def pitch(self, t_s: float) -> float:
        """The body bounces at 1.5 Hz."""
        return self.pitch_rad * float(np.sin(2 * np.pi * 1.5 * t_s))

    def ground_of(self, t_s: float, pixels: Float) -> tuple[Float, Float, NDArray[np.bool_]]:
        """True road coordinates of pixels of the frame at t."""
        ground, ok = self.frame_camera(t_s).ground(pixels)
        xy, yaw = self.pose(t_s)
        c, s = np.cos(yaw), np.sin(yaw)
        along, across = self.road(ground @ np.array([[c, s], [-s, c]]) + xy)
        return along, across, ok & (np.hypot(*ground.T) < 150)

    def _render(self, k: int, t_s: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        h, w, up = self.camera.height, self.camera.width, 2
        x, y = np.meshgrid((np.arange(w * up) + 0.5) / up - 0.5, (np.arange(h * up) + 0.5) / up - 0.5)
        s, d, ok = self.ground_of(t_s, np.stack([x.ravel(), y.ravel()], axis=1))
        rng = np.random.default_rng(self.seed)
        tile = rng.normal(0, 1, (512, 512))
        # Grain of a few centimetres, repeated every 25 m.
        grain = tile[(s / 0.05).astype(np.int64) % 512, (d / 0.05).astype(np.int64) % 512]
        light = np.where(ok & (np.abs(d) < 6), 0.17 * (1 + 0.06 * grain), 0.0)[:, None] * np.array([1.0, 1.0, 0.98])
        for line in self.lines:
            centre = np.abs(d - line.d_m)
            on = centre < line.width_m / 2
            if line.style.count is Count.DOUBLE:
                on = np.abs(centre - line.width_m) < line.width_m / 2
            if line.style.pattern is Pattern.DASHED:
                on &= np.mod(s, line.period_m) < line.dash_m
            paint = np.array([0.6, 0.6, 0.6] if line.style.color is Color.WHITE else [0.6, 0.4, 0.07])
            light[on & ok] = paint
        light[ok & (np.abs(d) >= 6)] = [0.06, 0.16, 0.04]
        light[~ok] = [0.4, 0.55, 0.9]
        if self.shadow:
            light[ok & (np.mod(s, 9.0) < 4.0)] *= 0.25
        small = cv2.resize(light.reshape(h * up, w * up, 3), (w, h), interpolation=cv2.INTER_AREA)
        srgb = np.where(small <= 0.0031308, small * 12.92, 1.055 * np.maximum(small, 1e-9) ** (1 / 2.4) - 0.055)
        noise = np.random.default_rng(self.seed * 1000 + k).normal(0, 1.0, srgb.shape)
        frame = np.clip(srgb * 255 + noise, 0, 255).round().astype(np.uint8)
        mask = (ok & (np.abs(d) < 5.7)).reshape(h * up, w * up)[1::up, 1::up]
        return frame, mask


@dataclass(frozen=True)
class KnownLines:
    """Answers with the road's true lines, as a cubic through points 5 to 40 m ahead, `error_m` beside them."""

    road: FlatRoad
    error_m: float = 0.0
    hidden: tuple[LineRole, ...] = ()

    def inspect(self, view: RoadView) -> LaneInspection:
        t_s = float(view.timestamps_us[view.target_index]) / 1e6
        xy, yaw = self.road.pose(t_s)
        here = float(self.road.road(xy[None])[0][0])
        c, s = np.cos(yaw), np.sin(yaw)
        found = []
        for line in self.road.lines:
            if line.role in self.hidden:
                continue
            points = self.road.world(here + np.arange(4.0, 40.0), np.full(36, line.d_m + self.error_m))
            rig = (points - xy) @ np.array([[c, -s], [s, c]])
            dashed = line.style.pattern is Pattern.DASHED
            phase = -here % line.period_m if dashed else float("nan")
            found.append(
                LaneLine(
                    role=line.role,
                    coefficients=np.polynomial.polynomial.polyfit(rig[:, 0], rig[:, 1], 3),
                    x_range_m=(4.0, 38.0),
                    polyline_px=np.zeros((2, 2)),
                    style=line.style,
                    confidence=0.9,
                    style_confidence=0.9,
                    width_m=line.width_m,
                    dash_m=line.dash_m if dashed else float("nan"),
                    period_m=line.period_m if dashed else float("nan"),
                    phase_m=phase,
                )
            )
        reason = None if found else "nothing but asphalt"
        return LaneInspection(tuple(found), WHITE_SOLID, 0.9, self.road.camera, reason)
