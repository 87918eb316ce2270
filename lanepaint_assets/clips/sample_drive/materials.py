"""What the surfaces of one clip look like: baked road maps, sky panorama, light, paint, textures.

Called once a clip by `render.py`. Baking is what makes a frame cheap: patches, cracks and every shadow are drawn here
in road coordinates, with anisotropic pyramids, and only looked up later. No camera and no time here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from lanepaint_assets.clips.sample_drive.textures import (
    Atlas,
    build_atlas,
    bush_picture,
    cloth_picture,
    facade_picture,
    noise_pyramid,
    post_picture,
    rail_picture,
    shadow_picture,
    tileable_noise,
    tree_picture,
)
from lanepaint_assets.clips.sample_drive.vehicles import VehicleModel, build_model
from lanepaint_assets.clips.sample_drive.world import World

Float = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

# Cells a metre of the road maps. A crack is 2 to 4 cm wide; a shadow's soft edge 10 to 30 cm.
DETAIL_CELLS = (12.0, 20.0)
SHADE_CELLS = (9.0, 9.0)
# Shadows are baked this far to either side of the centreline.
SHADE_REACH_M = 26.0
# The panorama's lowest and highest elevation, and its size: 0.18 degrees a column, finer rows.
PANORAMA = (np.radians(-3.0), np.radians(62.0), 460, 2048)

TREES, BUSH, FACADES, RAIL, POST, SHADOW, PLAIN, VEHICLES = 0, 6, 7, 11, 12, 13, 14, 15


@dataclass(frozen=True)
class RoadMap:
    """A map in road coordinates: flat pyramid, its table, and its frame (s0, d0, cells a metre along, across)."""

    cells: U8
    table: I64
    frame: Float


@dataclass(frozen=True)
class Light:
    """Linear radiance: `kernel` as `cast_background` wants it, and exposure for the sensor."""

    kernel: Float
    sun_on_level: Float
    ambient: Float
    exposure: float
    horizon: Float


@dataclass(frozen=True)
class Materials:
    """Everything that a renderer needs besides the geometry."""

    light: Light
    colors: Float
    section: Float
    strokes: Float
    grain: F32
    cloudy: F32
    noise_table: I64
    detail: RoadMap
    shade: RoadMap
    panorama: F32
    panorama_frame: Float
    atlas: Atlas
    models: tuple[VehicleModel, ...]
    static: F32


def bake_materials(world: World) -> Materials:
    """Draw everything of one clip once."""
    random = world.random(3)
    light = _light(world)
    cloudy_field = tileable_noise(random, 2.6, 2.0)
    grain_field = tileable_noise(random, 0.7)
    cloudy, table = noise_pyramid(cloudy_field)
    grain, _ = noise_pyramid(grain_field)
    dryness = world.conditions.dryness
    pictures = [tree_picture(random, i >= 4, dryness) for i in range(6)]
    pictures.append(bush_picture(random))
    pictures += [facade_picture(random, i) for i in range(4)]
    pictures += [rail_picture(), post_picture(), shadow_picture(), cloth_picture()]
    models = tuple(build_model(vehicle, pictures, PLAIN) for vehicle in world.vehicles)
    base = world.conditions.asphalt
    warm = float(random.uniform(-0.04, 0.06))
    colors = np.array(
        [
            [base * (1 + warm), base, base * (1 - 0.8 * warm)],
            [0.21, 0.185, 0.15],
            [0.058, 0.092, 0.024],
            [0.20, 0.165, 0.075],
        ]
    )
    colors[2] += dryness * 0.35 * (colors[3] - colors[2])
    section = world.section
    return Materials(
        light=light,
        colors=colors,
        section=np.array([section.right_m, section.left_m, section.gravel_m, float(random.uniform(0.1, 0.5))]),
        strokes=strokes(world),
        grain=grain,
        cloudy=cloudy,
        noise_table=table,
        detail=_detail_map(world, cloudy_field),
        shade=_shade_map(world),
        panorama=_panorama(world, light, cloudy_field),
        panorama_frame=np.array(
            [PANORAMA[0], (PANORAMA[2] - 1) / (PANORAMA[1] - PANORAMA[0]), PANORAMA[3] / (2 * np.pi)]
        ),
        atlas=build_atlas(pictures),
        models=models,
        static=random.normal(size=(256, 256)).astype(np.float32),
    )


def strokes(world: World) -> Float:
    """The painted strokes (K, 10) as `cast_background` wants them; a double line is two."""
    rows = []
    for number, marking in enumerate(world.section.markings):
        offsets = [0.0]
        if marking.count == "double":
            apart = 0.5 * (marking.stroke_m + marking.spacing_m)
            offsets = [-apart, apart]
        color = (0.56, 0.56, 0.54) if marking.color == "white" else (0.55, 0.33, 0.035)
        rows += [
            (marking.d_m + offset, marking.stroke_m / 2, marking.dash_m, marking.period_m, marking.phase_m, *color,
             marking.wear, 101.0 * number + 17.0 * i)
            for i, offset in enumerate(offsets)
        ]  # fmt: skip
    return np.asarray(rows, dtype=np.float64)


def _light(world: World) -> Light:
    """Sun and sky: a low sun is warm and leaves the sky to fill the shadows; clouds leave almost only the sky."""
    conditions = world.conditions
    height = conditions.sun_height
    air = 1.0 / (np.sin(height) + 0.06)
    beam = np.exp(-np.array([0.055, 0.115, 0.21]) * air) * 3.2
    ambient = np.array([0.50, 0.62, 0.82]) * (0.55 + 0.5 * np.sin(height))
    if conditions.overcast:
        beam = beam * 0.06
        ambient = np.array([0.86, 0.90, 0.96]) * (0.9 + 0.5 * np.sin(height))
    level = beam * np.sin(height)
    horizon = np.array([0.62, 0.72, 0.86]) if not conditions.overcast else np.array([0.72, 0.75, 0.79])
    horizon = horizon * (0.45 + 0.4 * (level.mean() + ambient.mean()))
    haze = 0.92 * horizon
    sheen = 0.0 if conditions.overcast else 0.09 * float(np.clip(np.cos(height) ** 4, 0.0, 1.0))
    exposure = 0.21 / (conditions.asphalt * float(level.mean() + ambient.mean()))
    # The camera exposes for the whole picture: dark asphalt may stay dark and pale concrete pale.
    exposure = exposure**0.45 * (0.21 / (0.13 * float(level.mean() + ambient.mean()))) ** 0.55
    return Light(
        kernel=np.array([*level, *ambient, *haze, conditions.haze_m, *world.sun, sheen]),
        sun_on_level=level,
        ambient=ambient,
        exposure=float(exposure),
        horizon=horizon,
    )


def _road_map(cells: U8, s0: float, d0: float, scale: tuple[float, float]) -> RoadMap:
    """Pyramid that halves along the road every level, and across it every second one: as a far road is seen."""
    pieces, rows, offset = [], [], 0
    level, along, across = cells, 0, 0
    for depth in range(10):
        rows.append((offset, level.shape[0], level.shape[1], along, across))
        pieces.append(level.ravel())
        offset += level.size
        halve = depth % 2 == 1
        if level.shape[1] < 8 or level.shape[0] < 4:
            break
        # Odd remainders are cut, so that cell borders stay where they are.
        cut = level[: level.shape[0] // 2 * 2 if halve else None, : level.shape[1] // 2 * 2]
        size = (cut.shape[1] // 2, cut.shape[0] // 2 if halve else cut.shape[0])
        level = cv2.resize(cut, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        along, across = along + 1, across + int(halve)
    return RoadMap(np.concatenate(pieces), np.asarray(rows, dtype=np.int64), np.array([s0, d0, *scale]))


def _detail_map(world: World, noise: Float) -> RoadMap:
    """Brightness of the asphalt, 128 neutral: wheel tracks, oil, patches, cracks, tar seams."""
    random = world.random(4)
    section = world.section
    s0, s1 = world.centreline.first_m, world.centreline.last_m
    d0, d1 = section.right_m - 0.6, section.left_m + 0.6
    along, across = DETAIL_CELLS
    shape = (round((d1 - d0) * across), round((s1 - s0) * along))
    d = d0 + (np.arange(shape[0]) + 0.5) / across
    base = np.full(shape[0], 128.0)
    for lane, _ in section.lanes:
        for wheel in (-0.8, 0.8):
            base -= 9.0 * np.exp(-(((d - lane - wheel) / 0.28) ** 2))
        base -= 7.0 * np.exp(-(((d - lane) / 0.3) ** 2))
    base += 8.0 * np.clip((np.abs(d - (d0 + d1) / 2) - (d1 - d0) / 2 + 1.6) / 1.0, 0, 1)
    blotches = np.asarray(cv2.resize(noise.astype(np.float32), (shape[1] // 12, 96)), dtype=np.float32)
    blotches = np.asarray(cv2.resize(blotches, (shape[1], shape[0])), dtype=np.float32)
    cells = np.clip(base[:, None] + 26.0 * (blotches - 0.5), 0, 255).astype(np.uint8)

    def cell(s: float, at_d: float) -> tuple[int, int]:
        return round((s - s0) * along * 16), round((at_d - d0) * across * 16)

    length = s1 - s0
    for _ in range(int(random.poisson(world.conditions.patches_per_100_m * length / 100))):
        s, at_d = float(random.uniform(s0, s1)), float(random.uniform(d0, d1))
        size = float(random.uniform(1, 9)), float(random.uniform(0.6, 2.6))
        gray = int(np.clip(random.normal(112, 16), 70, 160))
        corners = [cell(s, at_d), cell(s + size[0], at_d), cell(s + size[0], at_d + size[1]), cell(s, at_d + size[1])]
        jitter = [(x + int(random.integers(-20, 21)), y + int(random.integers(-20, 21))) for x, y in corners]
        polygon = np.asarray([jitter], dtype=np.int32)
        cv2.fillPoly(cells, [polygon], gray, cv2.LINE_AA, 4)
        cv2.polylines(cells, [polygon], True, 62, 1, cv2.LINE_AA, 4)
    # Long tar seams between lanes, thin transverse and wandering cracks, some of them sealed.
    for lane, _ in section.lanes:
        at = lane + world.section.lane_width_m / 2 + float(random.uniform(0.15, 0.4))
        s = s0
        while s < s1:
            stretch = float(random.uniform(20, 120))
            if random.random() < 0.45:
                steps = np.arange(s, min(s + stretch, s1), 1.5)
                wobble = at + 0.03 * np.cumsum(random.normal(0, 0.5, steps.size))
                line = np.asarray(
                    [cell(float(a), float(b)) for a, b in zip(steps, wobble, strict=True)], dtype=np.int32
                )
                cv2.polylines(cells, [line], False, int(random.integers(45, 75)), 1, cv2.LINE_AA, 4)
            s += stretch + float(random.uniform(10, 60))
    for _ in range(int(length / 9.0)):
        s, at_d = float(random.uniform(s0, s1)), float(random.uniform(d0, d1))
        heading = float(random.uniform(0, 2 * np.pi)) if random.random() < 0.5 else np.pi / 2
        points = []
        for _ in range(int(random.integers(6, 26))):
            points.append(cell(s, at_d))
            heading += float(random.normal(0, 0.35))
            s, at_d = s + 0.25 * np.cos(heading), at_d + 0.25 * np.sin(heading)
        line = np.asarray(points, dtype=np.int32)
        cv2.polylines(
            cells, [line], False, int(random.integers(40, 85)), 1 + int(random.random() < 0.15), cv2.LINE_AA, 4
        )
    return _road_map(cells, s0, d0, DETAIL_CELLS)


def _shade_map(world: World) -> RoadMap:
    """Share of the sun that reaches the ground, 255 all: crowns made of leaf clusters, trunks, buildings."""
    random = world.random(5)
    line = world.centreline
    along, across = SHADE_CELLS
    s0, d0 = line.first_m, -SHADE_REACH_M
    shape = (round(2 * SHADE_REACH_M * across), round((line.last_m - line.first_m) * along))
    if world.conditions.overcast:
        return _road_map(np.full(shape, 255, np.uint8), s0, d0, SHADE_CELLS)
    cells = np.full(shape, 255, np.uint8)
    throw = -world.sun[:2] / max(float(world.sun[2]), 0.15)

    def place(world_points: Float, near: Float) -> NDArray[np.int32]:
        s, d = line.locate(world_points, near)
        return np.stack([(s - s0) * along * 16, (d - d0) * across * 16], axis=1).round().astype(np.int32)

    for block in world.blocks:
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        s = block.s_m + signs[:, 0] * block.half_along_m
        foot = line.world(s, block.d_m + signs[:, 1] * block.half_across_m)
        corners = np.concatenate([foot, foot + block.height_m * throw])
        outline = cv2.convexHull(place(corners, np.tile(s, 2)))
        cv2.fillConvexPoly(cells, outline, 20, cv2.LINE_AA, 4)
    foot = line.world(world.trees[:, 0], world.trees[:, 1])
    for tree, base in zip(world.trees, foot, strict=True):
        height, spread = float(tree[2]), float(tree[3])
        count = int(200 * (spread / 6.0) ** 1.5) + 30
        where = random.normal(0, 0.25, (count, 3)) * np.array([spread, spread, 0.8 * height])
        crown = base + where[:, :2] + (0.62 * height + where[:, 2:]).clip(0.25 * height) * throw
        spots = place(crown, np.full(count, tree[0])) // 16
        trunk = place(np.stack([base, base + 0.5 * height * throw]), np.full(2, tree[0]))
        cv2.line(cells, trunk[0].tolist(), trunk[1].tolist(), 40, 2, cv2.LINE_AA, 4)
        # Leaf clusters of 20 to 80 cm; the light between them makes the dapples.
        axes = np.maximum(random.uniform(0.1, 0.4, (count, 2)) * SHADE_CELLS, 1).astype(np.int32)
        tilt, gray = random.uniform(0, 180, count), random.integers(8, 80, count)
        for i in np.flatnonzero((spots[:, 1] >= 0) & (spots[:, 1] < shape[0])).tolist():
            cv2.ellipse(cells, spots[i].tolist(), axes[i].tolist(), float(tilt[i]), 0, 360, int(gray[i]), -1)
    # The sun is half a degree wide: from a crown 8 m up the edge of a shadow is about 13 cm soft.
    soft = np.asarray(cv2.GaussianBlur(cells, (0, 0), 0.13 * along), dtype=np.uint8)
    return _road_map(soft, s0, d0, SHADE_CELLS)


def _fractal_skyline(random: np.random.Generator, columns: int, roughness: float) -> Float:
    """A periodic skyline, mean 0, standard deviation 1."""
    frequency = np.arange(columns // 2 + 1)
    power = np.where(frequency > 2, np.maximum(frequency, 1.0) ** -roughness, 0.0)
    wave = np.fft.irfft(power * np.exp(2j * np.pi * random.random(frequency.size)), columns)
    return np.asarray(wave / wave.std(), dtype=np.float64)


def _panorama(world: World, light: Light, noise: Float) -> F32:
    """Sky with clouds, hills and far trees, all around: (rows, columns, 3), bottom row first."""
    random = world.random(6)
    low, high, rows, columns = PANORAMA
    elevation = np.linspace(low, high, rows)[:, None]
    azimuth = (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi
    overcast = world.conditions.overcast
    zenith = np.array([0.14, 0.30, 0.66]) if not overcast else np.array([0.66, 0.70, 0.76])
    zenith = zenith * float(light.horizon.mean()) * 1.25
    rise = np.clip(np.sin(np.maximum(elevation, 0.0)), 0, 1)[..., None] ** 0.55
    sky = light.horizon * 1.12 * (1 - rise) + zenith * rise
    sky = np.repeat(sky, columns, axis=1)
    around = np.arccos(
        np.clip(
            np.cos(elevation) * np.cos(world.conditions.sun_height) * np.cos(azimuth - world.conditions.sun_azimuth)
            + np.sin(elevation) * np.sin(world.conditions.sun_height),
            -1,
            1,
        )
    )[..., None]
    if not overcast:
        beam = light.sun_on_level / max(float(light.sun_on_level.max()), 1e-6)
        sky += beam * (0.9 * np.exp(-((around / 0.30) ** 2)) + 0.35 * np.exp(-around / 0.6) + 12 * (around < 0.010))
    # Clouds lie on a level ceiling, so that they crowd together towards the horizon.
    ceiling = 1.0 / (np.tan(np.maximum(elevation, 0.005)) + 0.10)
    scale = float(random.uniform(26, 46))
    cloud, finer = (
        cv2.remap(
            noise.astype(np.float32),
            (ceiling * np.cos(azimuth) * scale * detail % 512).astype(np.float32),
            (ceiling * np.sin(azimuth) * scale * detail % 512).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        for detail in (1.0, 3.1)
    )
    cover = float(random.uniform(0.45, 0.62))
    thick = np.clip((cloud * 0.75 + finer * 0.25 - cover) * 6.0, 0, 1) ** 1.3
    thick *= np.clip(elevation / 0.12, 0, 1)
    white = (light.sun_on_level * 1.5 + light.ambient) * 0.8
    # Thick parts are grey below; edges towards the sun glow.
    belly = np.clip((cloud - cover - 0.04) * 4.0, 0, 1)[..., None]
    if overcast:
        sky *= (0.86 + 0.3 * cv2.GaussianBlur(cloud, (0, 0), 3.0))[..., None]
    else:
        sky = sky + 0.85 * thick[..., None] * (white * (1.05 - 0.42 * belly) - sky)
    lit = light.sun_on_level + light.ambient
    city = world.conditions.scenario.name == "city_traffic"
    for hue, far, base, swing, roughness in (
        (np.array([0.075, 0.085, 0.06]), 0.78, 0.045, 0.016, 1.3),
        (np.array([0.06, 0.075, 0.035]), 0.55, 0.022, 0.009, 1.0),
        (np.array([0.04, 0.055, 0.02]), 0.22, 0.016 + 0.018 * city, 0.006, 0.5),
    ):
        skyline = base + swing * _fractal_skyline(random, columns, roughness)
        ragged = gaussian_filter1d(random.normal(0, 1, columns), 0.8, mode="wrap")
        inside = np.clip((skyline - elevation) / np.radians(0.15) + 0.5, 0, 1)[..., None]
        tone = hue * lit * 0.75 * (1 + 0.12 * ragged[None, :, None])
        tone = tone * (1 - far) + light.kernel[6:9] * far
        sky += inside * (tone - sky)
    # Below the horizon lies the far field, as hazy as the ground that ends before it.
    keep = float(np.exp(-550.0 / world.conditions.haze_m))
    field = np.array([0.09, 0.105, 0.04]) * lit * keep + light.kernel[6:9] * (1 - keep)
    sky += np.clip(0.5 - elevation / np.radians(0.2), 0, 1)[..., None] * (field - sky)
    return np.maximum(sky, 0.0).astype(np.float32)
