"""Frames of one clip: poses the cameras, gathers what stands and drives around, calls the pixel loops.

Called by `write.py`. `ClipRenderer.frame` may be called from several threads at once:
all they share is a cache of scenes, where the worst race computes one twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive.ground_kernel import BACKGROUND, FIRST_VEHICLE, cast_background
from lanepaint_assets.clips.sample_drive.materials import (
    FACADES,
    POST,
    RAIL,
    SHADOW,
    Materials,
    bake_materials,
)
from lanepaint_assets.clips.sample_drive.panel_kernels import KEEPS_LABEL, develop, draw_panels
from lanepaint_assets.clips.sample_drive.world import EGO_RATE_HZ, Vehicle, World
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera

Float = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PANEL_COLUMNS = 16
# Things farther than this are less than a few pixels high, and the panorama has trees of its own.
PANEL_REACH_M = 320.0
# Vibration of the mount that no ego motion records.
MOUNT_SHAKE_RAD = float(np.radians(0.02))
LENS_BLUR_PX = 0.5
# Sensor noise: 3 % of a bright pixel, as of a small sensor by day.
NOISE = 0.03
EGO_SIZE_M = (4.87, 2.12, 1.48)
EGO_MIDDLE_M = 1.42


# Panels (P, PANEL_COLUMNS) and the order to draw them in.
Scene = tuple[Float, NDArray[np.int64]]


@dataclass(frozen=True)
class CameraTrack:
    """A camera, its pose at each of its frames, and what depends on its lens alone."""

    camera: RigCamera
    times_us: NDArray[np.int64]
    rotations: Float
    positions: Float
    arc_m: Float
    rays: F32
    falloff: F32
    lens: Float


@dataclass(frozen=True)
class Frame:
    """A developed picture (H, W, 3) and its label (H, W): background, road, or a vehicle."""

    picture: U8
    label: U8


class ClipRenderer:
    """Renders one clip; baking its materials takes about a second."""

    def __init__(self, world: World, scene_times_us: NDArray[np.int64]) -> None:
        """Bake `world`; `scene_times_us` are the times of its frames, for what moves."""
        self.world = world
        self._scene_times_us = scene_times_us
        self._scenes: dict[int, Scene] = {}
        self.materials: Materials = bake_materials(world)
        self._centre = world.centreline.table()
        self._static = self._static_panels()
        self._feet = world.centreline.world(world.trees[:, 0], world.trees[:, 1])
        self._curve = tone_curve()

    def track(self, camera: RigCamera, times_us: NDArray[np.int64], topic: int) -> CameraTrack:
        """Prepare a camera; `topic` seeds its vibration."""
        lens = camera.lens
        if not isinstance(lens, FThetaLens):
            raise TypeError("the sample drive has f-theta cameras only")
        positions, rotations = self.world.egomotion.poses(times_us)
        matrices = rotations.as_matrix()
        shake = self.world.random(topic).normal(0.0, MOUNT_SHAKE_RAD, (times_us.size, 2))
        turned = np.repeat(camera.rotation[None], times_us.size, axis=0)
        # A small turn about the camera's own x (pitch) and z (roll) axes.
        small = np.repeat(np.eye(3)[None], times_us.size, axis=0)
        small[:, 1, 2], small[:, 2, 1] = -shake[:, 0], shake[:, 0]
        small[:, 0, 1], small[:, 1, 0] = -shake[:, 1], shake[:, 1]
        columns, rows = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
        rays = lens.rays(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
        rays = rays.reshape(lens.height, lens.width, 3)
        off_axis = np.arccos(np.clip(rays[..., 2], -1, 1))
        t = (times_us - self.world.times_us[0]) / 1e6 * EGO_RATE_HZ
        return CameraTrack(
            camera=camera,
            times_us=times_us,
            rotations=matrices @ turned @ small,
            positions=positions + matrices @ camera.position_m,
            arc_m=np.interp(t, np.arange(self.world.ego_s_m.size), self.world.ego_s_m),
            rays=rays.astype(np.float32),
            falloff=(self.materials.light.exposure * (0.72 + 0.28 * np.cos(off_axis) ** 2)).astype(np.float32),
            lens=np.array([lens.cx, lens.cy, lens.aspect, 1.0 / lens.fw_poly[1], *lens.fw_poly]),
        )

    def frame(self, track: CameraTrack, index: int) -> Frame:
        """Render frame `index` of a camera."""
        shape = track.falloff.shape
        radiance = np.empty((*shape, 3), dtype=np.float32)
        label = np.empty(shape, dtype=np.uint8)
        look, rotation = self.materials, np.ascontiguousarray(track.rotations[index])
        position = track.positions[index]
        cast_background(
            radiance, label, track.rays, rotation, position, float(track.arc_m[index]), self._centre,
            self.world.centreline.first_m, look.section, look.strokes, look.colors, look.light.kernel, look.grain,
            look.cloudy, look.noise_table, look.detail.cells, look.detail.table, look.detail.frame, look.shade.cells,
            look.shade.table, look.shade.frame, look.panorama, look.panorama_frame,
        )  # fmt: skip
        panels, order = self._scene(index)
        draw_panels(
            radiance, label, track.rays, rotation, position, track.lens, panels, order, look.atlas.texels,
            look.atlas.table, look.light.kernel,
        )  # fmt: skip
        picture = np.empty((*shape, 3), dtype=np.uint8)
        spot = (int(track.times_us[index]) * 7919) & 0xFFFF
        # A lens spreads a point over about one pixel.
        blurred = np.asarray(cv2.GaussianBlur(radiance, (3, 3), LENS_BLUR_PX), dtype=np.float32)
        develop(picture, blurred, track.falloff, self._curve, look.static, spot & 255, spot >> 8, NOISE)
        return Frame(picture, label)

    def vehicle_poses(self, time_us: int) -> Float:
        """(V, 4) world x, y, heading and speed of the other vehicles."""
        at = (time_us - int(self.world.times_us[0])) / 1e6 * EGO_RATE_HZ
        return np.array([self._pose(v, at) for v in self.world.vehicles]).reshape(-1, 4)

    def _pose(self, vehicle: Vehicle, at: float) -> tuple[float, float, float, float]:
        low = min(max(int(at), 0), vehicle.s_m.size - 2)
        step = float(vehicle.s_m[low + 1] - vehicle.s_m[low])
        s = float(vehicle.s_m[low]) + (at - low) * step
        line = self.world.centreline
        # Vehicles that leave the built road are parked at its end, out of sight.
        s = min(max(s, line.first_m), line.last_m)
        i = min(int(s - line.first_m), line.x.size - 2)
        f = s - line.first_m - i
        heading = float(line.heading[i] + f * (line.heading[i + 1] - line.heading[i]))
        x = float(line.x[i] + f * (line.x[i + 1] - line.x[i])) - vehicle.d_m * np.sin(heading)
        y = float(line.y[i] + f * (line.y[i + 1] - line.y[i])) + vehicle.d_m * np.cos(heading)
        return x, y, heading + (0.0 if vehicle.direction > 0 else np.pi), abs(step) * EGO_RATE_HZ

    def _lit(self, normals: Float) -> Float:
        """Irradiance (N, 3) of surfaces with outward normals (N, 3)."""
        light, sun = self.materials.light, self.world.sun
        beam = light.sun_on_level / max(float(sun[2]), 0.1)
        facing = np.clip(normals @ sun, 0.0, None)
        sky = 0.55 + 0.35 * np.clip(normals[:, 2], -1.0, 1.0)
        return facing[:, None] * beam + sky[:, None] * light.ambient + 0.12 * light.sun_on_level

    def _static_panels(self) -> Float:
        """Facades, rails and posts: panels that stand still."""
        line, rows = self.world.centreline, []

        def add(origin: Float, u: Float, v: Float, texture: int, repeat: float, one_sided: bool) -> None:
            normal = np.cross(u, v)
            tint = self._lit((normal / np.linalg.norm(normal))[None])[0]
            rows.append(np.concatenate([origin, u, v, tint, [texture, BACKGROUND, repeat, one_sided]]))

        def up(height: float) -> Float:
            return np.array([0.0, 0.0, height])

        for block in self.world.blocks:
            signs = ((1, -1), (1, 1), (-1, 1), (-1, -1))
            heading = float(line.heading_at(np.array([block.s_m]))[0])
            ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
            middle = line.world(np.array([block.s_m]), np.array([block.d_m]))[0]
            corners = [middle + a * block.half_along_m * ahead + b * block.half_across_m * left for a, b in signs]
            for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
                u = np.append(end - start, 0.0)
                add(np.append(start, 0.0), u, up(block.height_m), FACADES + block.facade, 0.0, True)
        for s, d, length in self.world.rails:
            ends = line.world(np.array([s, s + length]), np.array([d, d]))
            side = ends if d > 0 else ends[::-1]
            add(np.append(side[0], 0.0), np.append(side[1] - side[0], 0.0), up(0.78), RAIL, 4.0, False)
        for s, d in self.world.posts:
            heading = float(line.heading_at(np.array([s]))[0])
            foot = line.world(np.array([s]), np.array([d]))[0]
            across = 0.14 * np.array([-np.sin(heading), np.cos(heading), 0.0])
            add(np.append(foot, 0.0) - 0.5 * across, across, up(1.0), POST, 0.0, False)
        return np.asarray(rows, dtype=np.float64).reshape(-1, PANEL_COLUMNS)

    def _tree_panels(self, eye: Float) -> Float:
        """Trees turn towards the camera; their pictures are flat."""
        trees = self.world.trees
        foot = self._feet
        away = foot - eye[:2]
        distance = np.hypot(away[:, 0], away[:, 1])
        near = distance < PANEL_REACH_M
        foot, away, distance, trees = foot[near], away[near], distance[near], trees[near]
        right = np.stack([away[:, 1], -away[:, 0]], axis=1) / np.maximum(distance, 0.1)[:, None]
        rows = np.zeros((len(trees), PANEL_COLUMNS))
        rows[:, 0:2] = foot - 0.5 * trees[:, 3:4] * right
        rows[:, 3:5] = trees[:, 3:4] * right
        rows[:, 8] = trees[:, 2]
        light = self.materials.light
        toward = np.clip(-(away @ self.world.sun[:2]) / np.maximum(distance, 0.1), -1, 1)
        rows[:, 9:12] = light.ambient * 0.9 + (0.75 + 0.3 * toward)[:, None] * 1.3 * light.sun_on_level
        rows[:, 12] = trees[:, 4]
        return rows

    def _scene(self, index: int) -> Scene:
        """The panels of frame `index`, made once for all cameras: their clocks differ by less than 3 ms."""
        scene = self._scenes.get(index)
        if scene is None:
            scene = self._scenes[index] = self._panels(int(self._scene_times_us[index]))
        return scene

    def _panels(self, time_us: int) -> Scene:
        """All panels (P, 16) around the vehicle and the order to draw them in, far ones first, shadows before all."""
        ego, turn = self.world.egomotion.poses(np.array([time_us]))
        facing = float(turn.as_euler("ZYX")[0, 0])
        eye = ego[0] + np.array([1.75 * np.cos(facing), 1.75 * np.sin(facing), 1.45])
        groups = [self._static, self._tree_panels(eye)]
        middles = [g[:, 0:2] + 0.5 * (g[:, 3:5] + g[:, 6:8]) for g in groups]
        depth = [np.hypot(m[:, 0] - eye[0], m[:, 1] - eye[1]) for m in middles]
        poses = self.vehicle_poses(time_us)
        shadows = [self._shadows(ego[0, 0], ego[0, 1], facing, EGO_SIZE_M, EGO_MIDDLE_M)]
        for number, (x, y, heading, _) in enumerate(poses):
            distance = float(np.hypot(x - eye[0], y - eye[1]))
            if distance > PANEL_REACH_M:
                continue
            panels, near = self._vehicle_panels(number, x, y, heading, eye)
            groups.append(panels)
            # One vehicle's panels stay together; among them the nearer ones come later.
            depth.append(distance + 1e-3 * near)
            shadows.append(self._shadows(x, y, heading, self.world.vehicles[number].size_m, 0.0))
        for shadow in shadows:
            groups.append(shadow)
            depth.append(np.full(len(shadow), 1e6))
        every, distances = np.concatenate(groups), np.concatenate(depth)
        order = np.argsort(-distances, kind="stable")
        order = order[(distances[order] < PANEL_REACH_M) | (distances[order] > 1e5)]
        return every, order.astype(np.int64)

    def _vehicle_panels(self, number: int, x: float, y: float, heading: float, eye: Float) -> tuple[Float, Float]:
        model = self.materials.models[number]
        c, s = np.cos(heading), np.sin(heading)
        turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])  # row vectors times this go to the world
        corners = model.corners.reshape(-1, 3, 3) @ turn
        corners[:, 0] += (x, y, 0.0)
        normals = model.normals @ turn
        middle = corners[:, 0] + 0.5 * (corners[:, 1] + corners[:, 2])
        rows = np.zeros((len(normals), PANEL_COLUMNS))
        rows[:, :9] = corners.reshape(-1, 9)
        rows[:, 9:12] = model.tints * self._lit(normals)
        rows[:, 12] = model.textures
        rows[:, 13] = FIRST_VEHICLE + number
        rows[:, 15] = 1.0
        return rows, np.linalg.norm(eye - middle, axis=1)

    def _shadows(self, x: float, y: float, heading: float, size: tuple[float, float, float], middle: float) -> Float:
        """The dark under a vehicle, and its shadow in the sun, as two patches on the road."""
        ahead = np.array([np.cos(heading), np.sin(heading)])
        left = np.array([-ahead[1], ahead[0]])
        light, sun = self.materials.light, self.world.sun
        throw = -sun[:2] / max(float(sun[2]), 0.15) * size[2]
        share = light.sun_on_level / (light.sun_on_level + light.ambient)
        foot = np.array([x, y]) + middle * ahead
        rows = np.zeros((2, PANEL_COLUMNS))
        for row, (shift, more, dark) in enumerate(
            ((np.zeros(2), np.zeros(2), np.full(3, 0.72)), (0.5 * throw, throw, 0.9 * share))
        ):
            length = size[0] * 1.12 + 0.9 * abs(float(more @ ahead))
            width = size[1] * 1.15 + 0.9 * abs(float(more @ left))
            corner = foot + shift - 0.5 * length * ahead - 0.5 * width * left
            rows[row, 0:2], rows[row, 2] = corner, 0.002
            rows[row, 3:5], rows[row, 6:8] = length * ahead, width * left
            rows[row, 9:12] = dark
            rows[row, 12], rows[row, 13] = SHADOW, KEEPS_LABEL
        return rows


def tone_curve() -> U8:
    """(4096,) sRGB of exposed radiance 0..4: linear in the shadows, a soft shoulder in the highlights."""
    value = np.arange(4096) / 1024.0
    soft = np.clip(1.15 * value * (1 + value / 9.0) / (1 + value), 0, 1)
    encoded = np.where(soft <= 0.0031308, 12.92 * soft, 1.055 * soft ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded), dtype=np.uint8)
