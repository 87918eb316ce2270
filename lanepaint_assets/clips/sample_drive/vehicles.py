"""Other vehicles as a handful of textured panels: body sides, windows, ends, roof, and the shadow on the ground.

Called by `materials.py` (which textures exist) and `render.py` (panels of a frame). No motion: `world.py` moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive.textures import (
    F32,
    GLASS,
    end_picture,
    side_picture,
    trapezoid_picture,
)
from lanepaint_assets.clips.sample_drive.world import Vehicle

Float = NDArray[np.float64]


@dataclass(frozen=True)
class VehicleModel:
    """Panels in the vehicle's own frame: x forward, y left, z up, origin on the ground under its middle.

    Attributes:
        corners: (P, 9) origin and two edges of each panel; u runs to the right, v upwards as seen from outside.
        normals: (P, 3) outward.
        textures: (P,) index into the atlas.
        tints: (P, 3) colour that multiplies the texture.
    """

    corners: Float
    normals: Float
    textures: NDArray[np.int64]
    tints: Float


def build_model(vehicle: Vehicle, pictures: list[F32], plain: int) -> VehicleModel:
    """Make the vehicle's textures (appended to `pictures`) and its panels; `plain` is the index of plain white."""
    length, width, height = vehicle.size_m
    kind, body = vehicle.kind, vehicle.color
    first = len(pictures)
    boxy = kind in ("van", "truck")
    side = side_picture(kind, body)
    belt = 0.60 if not boxy else 0.97
    split = round(side.shape[0] * (1 - belt))
    lower, upper = side[split:].copy(), side[: max(split, 2)].copy()
    lower_z = height * belt
    pictures += [
        lower,
        lower[:, ::-1].copy(),
        upper,
        upper[:, ::-1].copy(),
        end_picture(kind, body, True, width, lower_z),
        end_picture(kind, body, False, width, lower_z),
        trapezoid_picture(GLASS, 0.1, body),
    ]
    half, mid = width / 2, length / 2
    tuck = 0.1 * width
    rows: list[tuple[float, ...]] = []
    normals: list[tuple[float, float, float]] = []
    textures: list[int] = []
    tints: list[tuple[float, float, float]] = []
    white = (1.0, 1.0, 1.0)

    def panel(origin: tuple[float, float, float], u: tuple[float, float, float], v: tuple[float, float, float],
              texture: int, tint: tuple[float, float, float]) -> None:  # fmt: skip
        rows.append((*origin, *u, *v))
        normal = np.cross(u, v)
        normals.append(tuple(normal / np.linalg.norm(normal)))
        textures.append(texture)
        tints.append(tint)

    def cap(
        x0: float, z0: float, x1: float, z1: float, inset: float, texture: int, tint: tuple[float, float, float]
    ) -> None:
        # A plate across the vehicle from (x0, z0) up or back to (x1, z1).
        panel((x0, half - inset, z0), (0, -width + 2 * inset, 0), (x1 - x0, 0, z1 - z0), texture, tint)

    # Left side (driving to the left in its picture), right side (mirrored).
    panel((mid, half, 0), (-length, 0, 0), (0, 0, lower_z), first, white)
    panel((-mid, -half, 0), (length, 0, 0), (0, 0, lower_z), first + 1, white)
    if not boxy:
        panel((mid, half, lower_z), (-length, 0, 0), (0, -tuck, height - lower_z), first + 2, white)
        panel((-mid, -half, lower_z), (length, 0, 0), (0, tuck, height - lower_z), first + 3, white)
        tail = 0.97 if kind == "suv" else 0.9
        x_at = [mid - share * length for share in (0.26, 0.43, tail - 0.17, tail)]
        # Bonnet, windscreen, roof, rear window, boot: seen from above, in front or behind.
        panel((mid, -half, lower_z * 0.86), (0, width, 0), (x_at[0] - mid, 0, lower_z * 0.14), plain, body)
        panel((x_at[0], -half, lower_z), (0, width, 0), (x_at[1] - x_at[0], 0, height - lower_z), first + 6, white)
        panel((x_at[1], -half + tuck, height - 0.01), (0, width - 2 * tuck, 0), (x_at[2] - x_at[1], 0, 0), plain, body)
        cap(x_at[3], lower_z, x_at[2], height, 0.0, first + 6, white)
        cap(-mid, lower_z, x_at[3], lower_z, 0.0, plain, body)
    else:
        panel((mid, -half, height * belt), (0, width, 0), (-length, 0, 0), plain, body)
    panel((-mid, half, 0), (0, -width, 0), (0, 0, lower_z), first + 4, white)
    panel((mid, -half, 0), (0, width, 0), (0, 0, lower_z), first + 5, white)
    return VehicleModel(
        np.asarray(rows, dtype=np.float64),
        np.asarray(normals, dtype=np.float64),
        np.asarray(textures, dtype=np.int64),
        np.asarray(tints, dtype=np.float64),
    )
