"""Where the road is taken for granted: the six seed points of the specification and the reference point.

Called by the road segmenters (their prompt) and by the clean-up (which component is the road). Only geometry belongs
here: no pictures, no masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Point(NamedTuple):
    """A pixel, x to the right and y down, counted from the centre of the top left pixel."""

    x: int
    y: int


class NormalizedPoint(NamedTuple):
    """A place in the frame as shares of its width and height, each in [0, 1)."""

    x: float
    y: float


# Spec 4: headings speak of nine points, these six are listed. All lie between 65 and 85 % of the
# height, where a forward camera sees the road and never the sky.
SPEC_SEEDS = (
    NormalizedPoint(0.50, 0.65),
    NormalizedPoint(0.35, 0.75),
    NormalizedPoint(0.65, 0.75),
    NormalizedPoint(0.25, 0.80),
    NormalizedPoint(0.75, 0.80),
    NormalizedPoint(0.50, 0.85),
)

# Spec 4: straight ahead of the vehicle, the place most surely on the road.
SPEC_REFERENCE = NormalizedPoint(0.50, 0.85)


@dataclass(frozen=True)
class PointGrid:
    """Seeds of the road and the reference point of the clean-up; the defaults are the specification's."""

    seeds: tuple[NormalizedPoint, ...] = SPEC_SEEDS
    reference: NormalizedPoint = SPEC_REFERENCE

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("the point grid has no seeds; give at least one point on the road, e.g. (0.5, 0.85)")
        for point in (*self.seeds, self.reference):
            if not (0.0 <= point.x < 1.0 and 0.0 <= point.y < 1.0):
                raise ValueError(
                    f"grid point ({point.x}, {point.y}) lies outside the frame: give shares of its size in [0, 1)"
                )


SPEC_GRID = PointGrid()


def grid_points(width: int, height: int, grid: PointGrid = SPEC_GRID) -> NDArray[np.int32]:
    """Pixels of the seeds in a frame.

    Args:
        width: frame width in pixels.
        height: frame height in pixels.
        grid: which points; the six of spec 4 by default.

    Returns:
        (N, 2) int32, columns x and y, all inside the frame, in the order of the grid.

    Raises:
        ValueError: the frame has no pixels.

    Source: spec 4, "6-point grid, bottom half only".
    """
    return np.array([_pixel(point, width, height) for point in grid.seeds], dtype=np.int32)


def reference_point(width: int, height: int, grid: PointGrid = SPEC_GRID) -> Point:
    """Pixel of the reference point: (W // 2, int(0.85 H)) with the specification's grid.

    Raises:
        ValueError: the frame has no pixels.
    """
    return _pixel(grid.reference, width, height)


def _pixel(point: NormalizedPoint, width: int, height: int) -> Point:
    if width < 1 or height < 1:
        raise ValueError(f"a frame of {width}x{height} pixels has no place for grid points")
    return Point(int(point.x * width), int(point.y * height))
