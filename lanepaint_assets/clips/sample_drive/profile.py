"""How hard the sample drive is: a fixed table, and the draw of one clip's conditions from it.

Called by `world.py`. Figures of the whole project are measured on these drives, so the table is only ever replaced by
a harder one under a new `PROFILE_VERSION`; it is never softened to make a figure better. No geometry, no pixels here.

Profile, version 1. Every clip draws from one scenario; the first four clips of a seed show one scenario each, later
ones draw at random.

==================  ================  =================  ==================  ==================
what                open_highway      rural_curves       tree_avenue         city_traffic
==================  ================  =================  ==================  ==================
tightest radius     900 to 2500 m     150 to 260 m       220 to 600 m        400 to 1500 m
speed               22 to 33 m/s      14 to 22 m/s       13 to 20 m/s        9 to 15 m/s
lanes               2 to 3 one way    1 each way         1 each way          2 each way
paint lost          10 to 45 %        10 to 40 %         15 to 45 %          10 to 40 %
tree shadows        few               some               dappled, most road  some
cast blocks         none              farm buildings     none                house shadows
vehicles            4 to 8            2 to 5             2 to 4              8 to 13
sun height          18 to 50 deg      9 to 30 deg        22 to 50 deg        16 to 45 deg
overcast            25 %              30 %               never               25 %
patches a 100 m     0 to 3            1 to 5             1 to 5              2 to 6
==================  ================  =================  ==================  ==================

In all: every dash is worn differently (half to one and a half times the clip's loss); cracks, tar seams, wheel tracks;
pitch up to +-0.5 deg from speed bumps, acceleration and unevenness, recorded in the ego motion, plus mount vibration of
0.02 deg that is not; haze of 0.6 to 3 km; sensor noise, lens blur, vignetting; markings of the United States and of
Germany, white and yellow, single and double, solid and dashed, edge lines absent in part of the clips; vehicles ahead,
oncoming, beside and behind; H.264 at a consumer camera's quality. Not covered: night, rain, snow, intersections, lane
changes of the ego vehicle, slopes of the road itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

PROFILE_VERSION = 1
# Which of numpy's streams the conditions are drawn from: one where the four clips of seed 0 differ in light and layout.
CONDITIONS_TOPIC = 36

ScenarioName = Literal["open_highway", "rural_curves", "tree_avenue", "city_traffic"]
LayoutName = Literal[
    "us_highway", "de_autobahn", "us_double_yellow", "us_dashed_yellow", "de_rural", "double_white", "us_four_lane",
    "de_four_lane",
]  # fmt: skip
Range = tuple[float, float]


@dataclass(frozen=True)
class Scenario:
    """One column of the profile. Ranges are uniform; counts include both ends."""

    name: ScenarioName
    layouts: tuple[LayoutName, ...]
    radius_m: Range
    speed_mps: Range
    wear: Range
    trees_per_100_m: Range
    tree_distance_m: Range
    buildings_per_100_m: Range
    building_distance_m: Range
    vehicles: tuple[int, int]
    sun_height_deg: Range
    overcast: float
    patches_per_100_m: Range
    guard_rail: float
    bumps_per_10_s: Range


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="open_highway",
        layouts=("us_highway", "de_autobahn"),
        radius_m=(900, 2500),
        speed_mps=(22, 33),
        wear=(0.10, 0.45),
        trees_per_100_m=(3, 8),
        tree_distance_m=(7, 40),
        buildings_per_100_m=(0.0, 0.3),
        building_distance_m=(30, 80),
        vehicles=(4, 8),
        sun_height_deg=(18, 50),
        overcast=0.25,
        patches_per_100_m=(0, 3),
        guard_rail=0.8,
        bumps_per_10_s=(0, 2),
    ),
    Scenario(
        name="rural_curves",
        layouts=("us_double_yellow", "us_dashed_yellow", "de_rural"),
        radius_m=(150, 260),
        speed_mps=(14, 22),
        wear=(0.10, 0.40),
        trees_per_100_m=(5, 12),
        tree_distance_m=(4, 35),
        buildings_per_100_m=(0.2, 0.7),
        building_distance_m=(12, 50),
        vehicles=(2, 5),
        sun_height_deg=(9, 30),
        overcast=0.30,
        patches_per_100_m=(1, 5),
        guard_rail=0.5,
        bumps_per_10_s=(1, 4),
    ),
    Scenario(
        name="tree_avenue",
        layouts=("de_rural", "us_double_yellow", "double_white", "us_dashed_yellow"),
        radius_m=(220, 600),
        speed_mps=(13, 20),
        wear=(0.15, 0.45),
        trees_per_100_m=(18, 30),
        tree_distance_m=(2.5, 14),
        buildings_per_100_m=(0.0, 0.3),
        building_distance_m=(16, 50),
        vehicles=(2, 4),
        sun_height_deg=(22, 50),
        overcast=0.0,
        patches_per_100_m=(1, 5),
        guard_rail=0.2,
        bumps_per_10_s=(1, 4),
    ),
    Scenario(
        name="city_traffic",
        layouts=("us_four_lane", "de_four_lane"),
        radius_m=(400, 1500),
        speed_mps=(9, 15),
        wear=(0.10, 0.40),
        trees_per_100_m=(4, 9),
        tree_distance_m=(3, 9),
        buildings_per_100_m=(5, 8),
        building_distance_m=(7, 14),
        vehicles=(8, 13),
        sun_height_deg=(16, 45),
        overcast=0.25,
        patches_per_100_m=(2, 6),
        guard_rail=0.1,
        bumps_per_10_s=(1, 5),
    ),
)


@dataclass(frozen=True)
class Conditions:
    """What one clip drew: the scenario and every number that is the same for the whole clip.

    Angles are radians; `sun_azimuth` is measured from the direction of travel at t = 0, left positive.
    `principal_row` is the lens centre's row as a share of the picture's height.
    """

    scenario: Scenario
    layout: LayoutName
    radius_m: float
    speed_mps: float
    wear: float
    trees_per_100_m: float
    buildings_per_100_m: float
    patches_per_100_m: float
    bumps_per_10_s: float
    vehicles: int
    sun_height: float
    sun_azimuth: float
    overcast: bool
    haze_m: float
    asphalt: float
    dryness: float
    guard_rail: bool
    edge_lines: bool
    camera_pitch_down: float
    principal_row: float


def draw_conditions(seed: int, clip_index: int) -> Conditions:
    """Draw the conditions of one clip; the same arguments always give the same clip."""
    random = np.random.default_rng([PROFILE_VERSION, seed, clip_index, CONDITIONS_TOPIC])

    def between(limits: Range) -> float:
        return float(random.uniform(*limits))

    at = clip_index if clip_index < len(SCENARIOS) else int(random.integers(len(SCENARIOS)))
    scenario = SCENARIOS[at]
    # Both lens centres that the public fleet is known for; the lower one comes with a more inclined camera.
    low_centre = bool(random.random() < 0.5)
    side = 1.0 if random.random() < 0.5 else -1.0
    overcast = bool(random.random() < scenario.overcast)
    return Conditions(
        scenario=scenario,
        layout=scenario.layouts[int(random.integers(len(scenario.layouts)))],
        radius_m=between(scenario.radius_m),
        speed_mps=between(scenario.speed_mps),
        wear=between(scenario.wear),
        trees_per_100_m=between(scenario.trees_per_100_m),
        buildings_per_100_m=between(scenario.buildings_per_100_m),
        patches_per_100_m=between(scenario.patches_per_100_m),
        bumps_per_10_s=between(scenario.bumps_per_10_s),
        vehicles=int(random.integers(scenario.vehicles[0], scenario.vehicles[1] + 1)),
        sun_height=float(np.radians(between(scenario.sun_height_deg))),
        sun_azimuth=side * float(np.radians(between((35, 150)))),
        overcast=overcast,
        haze_m=between((600, 1500)) if overcast else between((1200, 3000)),
        asphalt=between((0.075, 0.19)),
        dryness=between((0.0, 0.8)),
        guard_rail=bool(random.random() < scenario.guard_rail),
        edge_lines=scenario.name == "open_highway" or bool(random.random() < 0.75),
        camera_pitch_down=float(np.radians(between((4.0, 6.0) if low_centre else (-1.0, 1.5)))),
        principal_row=(754 / 1080 if low_centre else 543 / 1080) + between((-0.008, 0.008)),
    )
