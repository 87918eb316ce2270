"""The ground truth beside a sample drive: what every pixel shows and where every line lies. Written and read here.

`write.py` writes it; tests and benchmarks read it with `read_truth`. No stage of the platform may: an engine that sees
the truth proves nothing.

Files of a clip, under `truth/<clip_id>/`: `lines.json` (lines, vehicles, conditions), `motion.npz` (ego path, vehicles'
poses, lines' points), `masks.npz` (packed bits of road and vehicles in every frame of the front camera).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.sample_drive.layout import Color, Count, Marking, MarkingKind, Pattern
from lanepaint_assets.clips.sample_drive.world import VehicleKind, World

Float = NDArray[np.float64]
Role = Literal["ego_left", "ego_right", "other"]

# Lines are given this far beyond the drive's ends.
LINE_BEFORE_M, LINE_AFTER_M = 60.0, 300.0


@dataclass(frozen=True)
class TrueLine:
    """One lane line.

    Attributes:
        role: which boundary of the lane that the ego vehicle drives in.
        points_m: (N, 3) its middle in the world frame of the ego motion, one point a metre; `s_m` (N,) their arc
            lengths along the road's centreline, `d_m` the constant offset from it.
        stroke_m: painted width of one stroke; `spacing_m` clear width between a double line's strokes.
        dash_m, period_m, phase_m: dashes are painted where (s - phase) mod period < dash; 0 for solid lines.
        wear: share of the paint that is lost on average.
    """

    role: Role
    kind: MarkingKind
    count: Count
    color: Color
    pattern: Pattern
    d_m: float
    stroke_m: float
    spacing_m: float
    dash_m: float
    period_m: float
    phase_m: float
    wear: float
    points_m: Float
    s_m: Float

    def painted(self) -> NDArray[np.bool_]:
        """(N,) True where a point of `points_m` lies on paint (worn paint counts)."""
        if self.pattern == "solid":
            return np.ones(self.s_m.size, dtype=np.bool_)
        return np.asarray(np.mod(self.s_m - self.phase_m, self.period_m) < self.dash_m)


@dataclass(frozen=True)
class TrueVehicle:
    """Another vehicle; `poses` (T, 4) holds world x, y, heading and speed of its middle at every front frame."""

    kind: VehicleKind
    size_m: tuple[float, float, float]
    poses: Float


@dataclass(frozen=True)
class ClipTruth:
    """All that is known of one clip.

    Attributes:
        timestamps_us: (T,) times of the front camera's frames.
        conditions: the drawn conditions by name, for tables of results.
        ego: the recorded motion, in the world frame of everything here.
        ego_s_m, ego_d_m: (N,) the ego vehicle's road coordinates at `ego.timestamps_us`.
    """

    clip_id: str
    width: int
    height: int
    timestamps_us: NDArray[np.int64]
    conditions: dict[str, object]
    ego: Egomotion
    ego_s_m: Float
    ego_d_m: Float
    lines: tuple[TrueLine, ...]
    vehicles: tuple[TrueVehicle, ...]
    road_bits: NDArray[np.uint8]
    vehicle_bits: NDArray[np.uint8]

    @property
    def scenario(self) -> str:
        return str(self.conditions["scenario"])

    def road_mask(self, frame: int) -> NDArray[np.bool_]:
        """(H, W) True where source frame `frame` shows paved road, paint included and vehicles excluded."""
        return self._unpacked(self.road_bits[frame])

    def vehicle_mask(self, frame: int) -> NDArray[np.bool_]:
        """(H, W) True where source frame `frame` shows another vehicle."""
        return self._unpacked(self.vehicle_bits[frame])

    def _unpacked(self, bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
        flat = np.unpackbits(bits, count=self.height * self.width)
        return flat.reshape(self.height, self.width).astype(np.bool_)


def line_roles(world: World) -> tuple[Role, ...]:
    """The role of each marking: the nearest one on either side of the ego lane bounds it."""
    lane = world.section.ego_lane_m
    reach = 0.75 * world.section.lane_width_m
    offsets = [marking.d_m - lane for marking in world.section.markings]
    left = min((o for o in offsets if 0 < o < reach), default=None)
    right = max((o for o in offsets if -reach < o < 0), default=None)
    return tuple("ego_left" if o == left else "ego_right" if o == right else "other" for o in offsets)


def write_truth(
    folder: Path,
    world: World,
    timestamps_us: NDArray[np.int64],
    size: tuple[int, int],
    road_bits: NDArray[np.uint8],
    vehicle_bits: NDArray[np.uint8],
    vehicle_poses: Float,
) -> None:
    """Write one clip's truth into `folder`/truth/<clip_id>.

    Args:
        timestamps_us: (T,) the front camera's.
        size: width and height of its pictures.
        road_bits, vehicle_bits: (T, ceil(H W / 8)) packed masks.
        vehicle_poses: (T, V, 4).
    """
    place = folder / "truth" / world.clip_id
    place.mkdir(parents=True)
    line = world.centreline
    s = np.arange(
        max(line.first_m, np.floor(world.ego_s_m[0] - LINE_BEFORE_M)),
        min(line.last_m, world.ego_s_m[-1] + LINE_AFTER_M),
    )
    points = [
        np.column_stack([line.world(s, np.full(s.size, m.d_m)), np.zeros(s.size)]) for m in world.section.markings
    ]
    conditions = asdict(world.conditions) | {"scenario": world.conditions.scenario.name}
    text = {
        "clip_id": world.clip_id,
        "width": size[0],
        "height": size[1],
        "conditions": conditions,
        "paved_m": [world.section.right_m, world.section.left_m],
        "lines": [
            {"role": role} | asdict(marking)
            for role, marking in zip(line_roles(world), world.section.markings, strict=True)
        ],
        "vehicles": [{"kind": v.kind, "size_m": v.size_m} for v in world.vehicles],
    }
    (place / "lines.json").write_text(json.dumps(text, indent=1))
    np.savez(
        place / "motion.npz",
        timestamps_us=timestamps_us,
        ego_times_us=world.egomotion.timestamps_us,
        ego_positions_m=world.egomotion.positions_m,
        ego_quaternions_xyzw=world.egomotion.quaternions_xyzw,
        ego_s_m=world.ego_s_m,
        ego_d_m=world.ego_d_m,
        line_s_m=s,
        line_points_m=np.stack(points),
        vehicle_poses=vehicle_poses,
    )
    np.savez_compressed(place / "masks.npz", road=road_bits, vehicle=vehicle_bits)


def read_truth(folder: Path, clip_id: str) -> ClipTruth:
    """Read one clip's truth back.

    Raises:
        FileNotFoundError: `folder` is no sample drive, or has no such clip.
    """
    place = folder / "truth" / clip_id
    if not place.is_dir():
        known = sorted(p.name for p in (folder / "truth").glob("*"))
        raise FileNotFoundError(
            f"{folder} has no truth of clip {clip_id!r}; it has {', '.join(known) or 'none at all'}"
        )
    text = json.loads((place / "lines.json").read_text())
    with np.load(place / "motion.npz") as motion, np.load(place / "masks.npz") as masks:
        lines = []
        for row, points in zip(text["lines"], motion["line_points_m"], strict=True):
            role = row.pop("role")
            marking = Marking(**row)
            lines.append(TrueLine(role=role, points_m=points, s_m=motion["line_s_m"], **asdict(marking)))
        vehicles = tuple(
            TrueVehicle(
                row["kind"], (row["size_m"][0], row["size_m"][1], row["size_m"][2]), motion["vehicle_poses"][:, i]
            )
            for i, row in enumerate(text["vehicles"])
        )
        return ClipTruth(
            clip_id=clip_id,
            width=text["width"],
            height=text["height"],
            timestamps_us=motion["timestamps_us"],
            conditions=text["conditions"],
            ego=Egomotion(
                motion["ego_times_us"], motion["ego_positions_m"], motion["ego_quaternions_xyzw"], quality="recorded"
            ),
            ego_s_m=motion["ego_s_m"],
            ego_d_m=motion["ego_d_m"],
            lines=tuple(lines),
            vehicles=vehicles,
            road_bits=masks["road"],
            vehicle_bits=masks["vehicle"],
        )
