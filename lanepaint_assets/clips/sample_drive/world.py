"""The world of one clip in metres: the road, its markings, the ego vehicle's motion, traffic and what stands beside.

Called by `render.py`, `truth.py` and `write.py`. World frame: x forward at t = 0, y left, z up, origin on the ground
under the rear axle at t = 0; the road is the plane z = 0. Road coordinates: s along the centreline from the ego vehicle
at t = 0, d to the left of it. No pixels and no files here.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.sample_drive.layout import Section, draw_section
from lanepaint_assets.clips.sample_drive.profile import PROFILE_VERSION, Conditions, draw_conditions

Float = NDArray[np.float64]
VehicleKind = Literal["car", "suv", "van", "truck"]

# The road is built this far behind and ahead of the drive, so that every camera sees road to the horizon.
BEHIND_M, AHEAD_M = 260.0, 620.0
# Ego motion is recorded at 100 Hz, and for half a second before and after the pictures (plus filter run-in).
EGO_RATE_HZ = 100
EGO_MARGIN_S = 0.6
# Comfortable cornering: speed is reduced so that v^2/R stays below this.
LATERAL_LIMIT_MPS2 = 2.2
# Length, width, height of a passenger car of the fleet, and of other vehicles.
DIMENSIONS: dict[VehicleKind, tuple[float, float, float]] = {
    "car": (4.5, 1.82, 1.46),
    "suv": (4.8, 1.92, 1.72),
    "van": (5.4, 2.0, 2.3),
    "truck": (9.5, 2.5, 3.6),
}


@dataclass(frozen=True)
class Centreline:
    """The road's reference line, one sample a metre, starting at arc length `first_m`."""

    first_m: float
    x: Float
    y: Float
    heading: Float
    curvature: Float

    @property
    def last_m(self) -> float:
        return self.first_m + self.x.size - 2.0

    def world(self, s: Float, d: Float) -> Float:
        """World (N, 2) of road coordinates."""
        s = np.asarray(s, dtype=np.float64)
        at = np.arange(self.x.size) + self.first_m
        x, y = np.interp(s, at, self.x), np.interp(s, at, self.y)
        heading = self.heading_at(s)
        return np.stack([x - d * np.sin(heading), y + d * np.cos(heading)], axis=-1)

    def heading_at(self, s: Float) -> Float:
        """Direction of the road, radians."""
        return np.interp(s, np.arange(self.x.size) + self.first_m, self.heading)

    def locate(self, points: Float, near_s: Float) -> tuple[Float, Float]:
        """Road coordinates of world points (N, 2), searched from arc lengths `near_s` (N,)."""
        s = np.asarray(near_s, dtype=np.float64).copy()
        at = np.arange(self.x.size) + self.first_m
        d = np.zeros_like(s)
        for _ in range(12):
            heading = self.heading_at(s)
            ex, ey = points[:, 0] - np.interp(s, at, self.x), points[:, 1] - np.interp(s, at, self.y)
            d = -ex * np.sin(heading) + ey * np.cos(heading)
            bend = np.maximum(1.0 - np.interp(s, at, self.curvature) * d, 0.4)
            step = (ex * np.cos(heading) + ey * np.sin(heading)) / bend
            s = np.clip(s + np.clip(step, -60, 60), self.first_m, self.last_m)
        return s, d

    def table(self) -> Float:
        """(N, 5) x, y, tangent x, tangent y, curvature, as the pixel loops want it."""
        return np.stack([self.x, self.y, np.cos(self.heading), np.sin(self.heading), self.curvature], axis=1)


@dataclass(frozen=True)
class Vehicle:
    """Another vehicle: its looks and its way along the road, `s_m` (N,) at the ego motion's times."""

    kind: VehicleKind
    color: tuple[float, float, float]
    d_m: float
    direction: int
    s_m: Float

    @property
    def size_m(self) -> tuple[float, float, float]:
        return DIMENSIONS[self.kind]


@dataclass(frozen=True)
class Block:
    """A building standing on the ground: centre, half extents along and across the road, height, facade number."""

    s_m: float
    d_m: float
    half_along_m: float
    half_across_m: float
    height_m: float
    facade: int


@dataclass(frozen=True)
class World:
    """Everything of one clip."""

    clip_id: str
    seed: int
    clip_index: int
    conditions: Conditions
    centreline: Centreline
    section: Section
    times_us: NDArray[np.int64]
    ego_s_m: Float
    ego_d_m: Float
    ego_speed_mps: Float
    ego_acceleration_mps2: Float
    ego_curvature: Float
    egomotion: Egomotion
    vehicles: tuple[Vehicle, ...]
    trees: Float
    blocks: tuple[Block, ...]
    rails: Float
    posts: Float
    sun: Float

    def random(self, topic: int) -> np.random.Generator:
        """A generator of its own for each topic, so that one part's draws never shift another's."""
        return np.random.default_rng([PROFILE_VERSION, self.seed, self.clip_index, topic])


def clip_identifier(seed: int, clip_index: int) -> str:
    """A UUID that depends on nothing but the profile, the seed and the index."""
    digest = hashlib.sha256(f"sample drive {PROFILE_VERSION} {seed} {clip_index}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _curvature(conditions: Conditions, length_m: float, random: np.random.Generator) -> Float:
    """Curvature a metre: straights and bends joined by clothoid-like ramps, turning back before the road loops."""
    tightest = 1.0 / conditions.radius_m
    knots, values = [0.0], [0.0]
    heading, first = 0.0, True
    while knots[-1] < length_m + 400:
        step = float(random.uniform(45, 130)) * min(max(conditions.radius_m / 250, 0.8), 3.0)
        share = 1.0 if first else float(random.choice([0.0, random.uniform(0.3, 1.0), 1.0], p=[0.15, 0.45, 0.4]))
        sign = float(random.choice([-1.0, 1.0]))
        if abs(heading) > 0.35:
            sign = -float(np.sign(heading))
        # Between two bends of opposite sign lies a piece of straight road.
        first = first and knots[-1] < BEHIND_M
        value = sign * share * tightest
        knots.append(knots[-1] + step)
        values.append(value)
        heading += 0.5 * (values[-1] + values[-2]) * step
    curve = PchipInterpolator(knots, values)(np.arange(int(length_m) + 2))
    return gaussian_filter1d(np.asarray(curve, dtype=np.float64), 6.0)


def _speed(
    curvature: Float, start_m: float, conditions: Conditions, seconds: float, random: np.random.Generator
) -> Float:
    """Arc length (N,) at 100 Hz from -0.6 s on: slows for bends, breathes on straights."""
    steps = round((seconds + 2 * EGO_MARGIN_S) * EGO_RATE_HZ) + 1
    limit = np.minimum(conditions.speed_mps, np.sqrt(LATERAL_LIMIT_MPS2 / np.maximum(np.abs(curvature), 1e-5)))
    # A driver looks ahead: the limit of the next 40 m counts.
    limit = gaussian_filter1d(np.array([limit[i : i + 40].min() for i in range(limit.size)]), 10.0)
    swing, phase = float(random.uniform(0.03, 0.09)), float(random.uniform(0, 6.28))
    speeds = np.empty(steps)
    place = start_m
    speed = float(limit[int(start_m)])
    for i in range(steps):
        speeds[i] = speed
        wish = float(limit[int(place)]) * (1 + swing * np.sin(0.55 * i / EGO_RATE_HZ + phase))
        speed += float(np.clip((wish - speed) / 0.9, -2.8, 1.8)) / EGO_RATE_HZ
        place += speed / EGO_RATE_HZ
    smooth = gaussian_filter1d(speeds, 15.0, mode="nearest")
    return start_m + np.concatenate([[0.0], np.cumsum(0.5 * (smooth[1:] + smooth[:-1])) / EGO_RATE_HZ])


def _body_angles(
    acceleration: Float, lateral: Float, conditions: Conditions, random: np.random.Generator
) -> tuple[Float, Float]:
    """Pitch (nose down positive) and roll in radians: a damped body on its springs, shaken by bumps."""
    steps, dt = acceleration.size, 1.0 / EGO_RATE_HZ
    shocks = np.zeros(steps)
    for _ in range(int(random.poisson(conditions.bumps_per_10_s * steps * dt / 10.0))):
        # Front axle up, then the rear axle follows.
        at = int(random.integers(steps))
        size = float(random.uniform(0.05, 0.17))
        shocks[at : at + 6] -= size
        shocks[at + 12 : at + 18] += size
    rough = gaussian_filter1d(random.normal(0, 1, steps), 4.0)
    pitch, rate = np.zeros(steps), 0.0
    omega, damping = 2 * np.pi * 1.4, 0.32
    for i in range(1, steps):
        wish = np.radians(-0.14) * acceleration[i]
        force = omega**2 * (wish - pitch[i - 1]) - 2 * damping * omega * rate + shocks[i] * 3.0 + 0.25 * rough[i]
        rate += force * dt
        pitch[i] = pitch[i - 1] + rate * dt
    limit = np.radians(0.5)
    pitch = limit * np.tanh(pitch / limit)
    roll = np.radians(0.25) * lateral / LATERAL_LIMIT_MPS2 + np.radians(0.05) * gaussian_filter1d(
        random.normal(0, 3.0, steps), 12.0
    )
    return pitch, np.asarray(roll, dtype=np.float64)


def _traffic(
    world_s: Float, section: Section, conditions: Conditions, random: np.random.Generator
) -> tuple[Vehicle, ...]:
    """Vehicles lane by lane, far enough apart never to touch."""
    paints = (
        (0.62, 0.62, 0.63), (0.03, 0.03, 0.035), (0.25, 0.26, 0.28), (0.35, 0.02, 0.02), (0.03, 0.07, 0.22),
        (0.75, 0.75, 0.73), (0.10, 0.12, 0.10), (0.30, 0.22, 0.12),
    )  # fmt: skip
    time = np.arange(world_s.size) / EGO_RATE_HZ - EGO_MARGIN_S
    mean_speed = float((world_s[-1] - world_s[0]) / (time[-1] - time[0]))
    kinds: tuple[VehicleKind, ...] = ("car", "car", "car", "suv", "suv", "van", "truck")
    vehicles: list[Vehicle] = []
    ego_lane = next(i for i, lane in enumerate(section.lanes) if lane[0] == section.ego_lane_m)
    free = dict.fromkeys(range(len(section.lanes)), 0.0)
    gap = float(random.uniform(0.9, 1.7)) * mean_speed + 8.0
    for number in range(conditions.vehicles):
        # The first vehicle leads the ego vehicle, the second comes the other way (or passes), the third follows it.
        others = [i for i in free if i != ego_lane]
        lane = ego_lane if number in (0, 2) else others[(number + int(random.integers(len(others)))) % len(others)]
        d, direction = section.lanes[lane]
        kind = kinds[int(random.integers(len(kinds)))]
        if lane == ego_lane:
            offset = gap + 2.0 * np.sin(0.4 * time) if number == 0 else -0.8 * gap - 6.0 + np.sin(0.3 * time)
            s = world_s + offset
        elif direction == 1:
            drift = (0.06 if lane < ego_lane else -0.06) * mean_speed
            s = world_s + free[lane] - 25.0 + float(random.uniform(0, 8)) + drift * time
            free[lane] += float(random.uniform(22, 45))
        else:
            # First meeting within the first seconds, the next ones at intervals.
            meet = 12.0 + free[lane] + float(random.uniform(5, 25))
            s = world_s[0] + meet - 0.9 * mean_speed * (time - time[0]) + mean_speed * 1.2
            free[lane] += float(random.uniform(40, 110))
        vehicles.append(
            Vehicle(kind, paints[int(random.integers(len(paints)))], d + float(random.uniform(-0.2, 0.2)), direction, s)
        )
    return tuple(vehicles)


def _roadside(
    centreline: Centreline, section: Section, conditions: Conditions, random: np.random.Generator
) -> tuple[Float, tuple[Block, ...], Float, Float]:
    """Trees (N, 5: s, d, height, width, picture), buildings, guard rails (M, 3: s, d, length), posts (K, 2: s, d)."""
    scenario = conditions.scenario
    length = centreline.last_m - centreline.first_m
    trees: list[tuple[float, ...]] = []
    blocks: list[Block] = []
    half_gravel = section.gravel_m
    for side in (-1, 1):
        edge = section.left_m if side > 0 else -section.right_m
        cursor = centreline.first_m + float(random.uniform(0, 30))
        while conditions.buildings_per_100_m > 0.02 and cursor < centreline.last_m:
            half_along = float(random.uniform(5, 13))
            half_across = float(random.uniform(4, 7))
            distance = float(random.uniform(*scenario.building_distance_m))
            blocks.append(
                Block(
                    s_m=cursor + half_along,
                    d_m=side * (edge + half_gravel + distance + half_across),
                    half_along_m=half_along,
                    half_across_m=half_across,
                    height_m=float(random.uniform(5, 16 if scenario.name == "city_traffic" else 8)),
                    facade=int(random.integers(4)),
                )
            )
            cursor += 2 * half_along + max(
                float(random.exponential(200.0 / conditions.buildings_per_100_m)) - 22.0, 1.5
            )
        count = int(conditions.trees_per_100_m * length / 200.0)
        near, far = scenario.tree_distance_m
        # Trees stand in groups: density follows a smooth random profile.
        places = centreline.first_m + length * random.random(count * 3)
        groups = np.sin(places / 37.0 + random.uniform(0, 6)) + np.sin(places / 91.0 + random.uniform(0, 6))
        places = places[groups > -0.3 - 1.2 * (scenario.name == "tree_avenue")][:count]
        for s in places:
            height = float(random.uniform(5, 13))
            distance = near + (far - near) * float(random.random()) ** 1.7
            d = side * (edge + half_gravel + distance)
            if any(abs(s - b.s_m) < b.half_along_m + 2 and abs(d - b.d_m) < b.half_across_m + 2 for b in blocks):
                continue
            trees.append((float(s), d, height, height * float(random.uniform(0.6, 0.95)), float(random.integers(6))))
    rails: list[tuple[float, ...]] = []
    posts: list[tuple[float, ...]] = []
    for side in (-1, 1):
        edge = side * ((section.left_m if side > 0 else -section.right_m) + half_gravel + 0.25)
        if conditions.guard_rail:
            places = np.arange(centreline.first_m, centreline.last_m - 8, 8.0)
            share = -0.2 if scenario.name == "open_highway" else 0.3
            there = np.sin(places / 70.0 + 2 * side + conditions.radius_m) > share
            rails.extend((float(s), edge, 8.0) for s in places[there])
        posts.extend((float(s), edge) for s in np.arange(centreline.first_m, centreline.last_m, 50.0))
    return (
        np.asarray(trees, dtype=np.float64).reshape(-1, 5),
        tuple(blocks),
        np.asarray(rails, dtype=np.float64).reshape(-1, 3),
        np.asarray(posts, dtype=np.float64).reshape(-1, 2),
    )


def build_world(seed: int, clip_index: int, seconds: float) -> World:
    """Lay out one clip. The same arguments give the same world, to the last bit on one machine."""
    conditions = draw_conditions(seed, clip_index)
    random = np.random.default_rng([PROFILE_VERSION, seed, clip_index, 2])
    section = draw_section(conditions, random)
    length = BEHIND_M + conditions.speed_mps * 1.15 * (seconds + 2) + AHEAD_M
    curvature = _curvature(conditions, length, random)
    along = _speed(curvature, BEHIND_M, conditions, seconds, random)
    steps = along.size
    times_us = np.arange(steps, dtype=np.int64) * (1_000_000 // EGO_RATE_HZ) - round(EGO_MARGIN_S * 1e6)
    zero = int(np.flatnonzero(times_us == 0)[0])
    origin_s = float(along[zero])
    along = along - origin_s
    # The ego vehicle wanders in its lane as people do.
    t = times_us / 1e6
    wander = 0.13 * np.sin(0.5 * t + random.uniform(0, 6)) + 0.07 * np.sin(1.1 * t + random.uniform(0, 6))
    ego_d = section.ego_lane_m + wander

    heading = np.concatenate([[0.0], np.cumsum(0.5 * (curvature[1:] + curvature[:-1]))])
    middle = 0.5 * (heading[1:] + heading[:-1])
    x = np.concatenate([[0.0], np.cumsum(np.cos(middle))])
    y = np.concatenate([[0.0], np.cumsum(np.sin(middle))])
    draft = Centreline(-origin_s, x, y, heading, curvature)
    path = draft.world(along, ego_d)
    velocity = np.gradient(path, 1.0 / EGO_RATE_HZ, axis=0)
    # The rear axle moves where the vehicle points.
    yaw = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    turn = Rotation.from_euler("z", -yaw[zero]).as_matrix()[:2, :2]
    line = (np.stack([x, y], axis=1) - path[zero]) @ turn.T
    centreline = Centreline(-origin_s, line[:, 0], line[:, 1], heading - yaw[zero], curvature)
    path = (path - path[zero]) @ turn.T
    yaw = yaw - yaw[zero]
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    acceleration = gaussian_filter1d(np.gradient(speed, 1.0 / EGO_RATE_HZ), 8.0)
    ego_curvature = gaussian_filter1d(np.gradient(yaw, 1.0 / EGO_RATE_HZ), 8.0) / np.maximum(speed, 1.0)
    pitch, roll = _body_angles(acceleration, speed**2 * ego_curvature, conditions, random)
    quaternions = Rotation.from_euler("ZYX", np.stack([yaw, pitch, roll], axis=1)).as_quat()
    egomotion = Egomotion(
        timestamps_us=times_us,
        positions_m=np.column_stack([path, np.zeros(steps)]),
        quaternions_xyzw=np.asarray(quaternions, dtype=np.float64),
        quality="recorded",
    )
    trees, blocks, rails, posts = _roadside(centreline, section, conditions, random)
    height, azimuth = conditions.sun_height, conditions.sun_azimuth
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    return World(
        clip_id=clip_identifier(seed, clip_index),
        seed=seed,
        clip_index=clip_index,
        conditions=conditions,
        centreline=centreline,
        section=section,
        times_us=times_us,
        ego_s_m=along,
        ego_d_m=ego_d,
        ego_speed_mps=speed,
        ego_acceleration_mps2=acceleration,
        ego_curvature=ego_curvature,
        egomotion=egomotion,
        vehicles=_traffic(along, section, conditions, random),
        trees=trees,
        blocks=blocks,
        rails=rails,
        posts=posts,
        sun=sun,
    )
