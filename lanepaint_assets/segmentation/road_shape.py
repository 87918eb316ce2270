"""Where road can be in a forward camera's picture: the vanishing point, the plane below it, and paths on that plane.

Called by the `classical` engine only. Pure geometry and dynamic programming: nothing here looks at colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled

Float = NDArray[np.float32]

# Where a forward camera has its vanishing point, as shares of width and height; the spread is wide enough for a
# camera that looks at the sky for a third or for two thirds of its picture.
USUAL_PLACE = (0.50, 0.48)
PLACE_SPREAD = (0.07, 0.15)
SEARCH_X, SEARCH_Y = (0.2, 0.8, 31), (0.25, 0.70, 31)
# Lines are looked for below this share of the height: above it, houses and trees outvote the road.
LINES_FROM = 0.55
# The horizon of a mounted camera, as shares of the height around the clip's own: pitch moves it by less than a degree.
NEAR_HORIZON = (-0.03, -0.015, 0.0, 0.015, 0.03)
# How far a frame's vanishing point may lie from the clip's: curves move it sideways.
MOUNTED_SPREAD = (0.07, 0.02)
MIN_GRADIENT, STRONG_GRADIENT = 0.02, 0.08
# Neither upright (posts, walls) nor level (kerbs across, shadows): within 11 degrees of either.
SLANTED = 0.98
MAX_VOTERS = 4000
# Sine of the angle by which a line may miss the vanishing point.
MISS_SINE = 0.06
VOTE_SHARPNESS = 1.5

# Lateral offsets run over +-2.5 frame widths at the bottom row. A camera 1.4 m above the road sees there some 0.25 to
# 0.3 widths a metre, so this spans ten metres to either side.
OFFSET_LIMIT = 2.5
OFFSETS = 401
# Rows closer to the horizon than this share of the height show too few pixels of road to tell anything.
HORIZON_GAP = 0.02
DIAGONAL = np.float32(1.4)


@dataclass(frozen=True, eq=False)
class VanishingVotes:
    """How many lines of a frame run through each candidate, (rows, columns) float64, at most 1.

    Attributes:
        votes: one a candidate.
        xs, ys: the candidates' places as shares of width and height.
    """

    votes: NDArray[np.float64]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]

    def mixed_with(self, newer: VanishingVotes, keep: float) -> VanishingVotes:
        """Votes on the same candidates, a share kept of these."""
        return VanishingVotes(keep * self.votes + (1 - keep) * newer.votes, self.xs, self.ys)


@dataclass(frozen=True, eq=False)
class RoadPlane:
    """The picture below the vanishing point, rectified: rows of the picture from the bottom up, lateral offset across.

    Lines that run towards the vanishing point, as road edges do, stand upright here. The scale across is in frame
    widths at the bottom row; a column is a fixed distance on flat ground.

    Attributes:
        width: picture width in pixels.
        height: picture height in pixels.
        x: vanishing point, pixels.
        y: vanishing point, pixels.
        rows: (R,) picture rows, bottom first.
        nearness: (R,) from 1 at the bottom row to nearly 0 at the horizon.
        offsets: (OFFSETS,) lateral offsets.
        map_x: (R, OFFSETS) float32 picture columns.
        map_y: (R, OFFSETS) float32 picture rows.
        offset_at: (h, w) float32 lateral offset of each pixel; meaningless above the horizon.
        below: (h, w) bool, below the horizon.
    """

    width: int
    height: int
    x: float
    y: float
    rows: NDArray[np.int64]
    nearness: NDArray[np.float64]
    offsets: NDArray[np.float64]
    map_x: Float
    map_y: Float
    offset_at: Float
    below: NDArray[np.bool_]

    @staticmethod
    def at(x: float, y: float, width: int, height: int) -> RoadPlane:
        """The plane below the vanishing point (x, y)."""
        top = int(np.ceil(y + HORIZON_GAP * height))
        rows = np.arange(height - 1, top - 1, -1)
        nearness = ((rows - y) / (height - y)).astype(np.float64)
        offsets = np.linspace(-OFFSET_LIMIT, OFFSET_LIMIT, OFFSETS)
        map_x = (x + offsets[None] * nearness[:, None] * width).astype(np.float32)
        map_y = np.ascontiguousarray(np.broadcast_to(rows[:, None], map_x.shape), dtype=np.float32)
        row, column = np.mgrid[0:height, 0:width].astype(np.float32)
        offset_at = (column - x) / np.maximum((row - y) / (height - y) * width, 1e-3)
        return RoadPlane(
            width, height, x, y, rows, nearness, offsets, map_x, map_y, offset_at.astype(np.float32), row >= top
        )

    @property
    def pixels_a_column(self) -> NDArray[np.float64]:
        """(R,) picture pixels that one column of the plane spans in each row."""
        return np.asarray(self.nearness * (self.width * float(self.offsets[1] - self.offsets[0])))

    @property
    def nearness_by_row(self) -> NDArray[np.float64]:
        """(h,) nearness of every picture row, 0 from the horizon up."""
        nearness = np.zeros(self.height)
        nearness[self.rows] = self.nearness
        return nearness

    @property
    def ahead(self) -> int:
        """The column straight ahead of the camera: the middle of the picture at its bottom row."""
        return int(self.column_of((0.5 * self.width - self.x) / self.width))

    @property
    def in_picture(self) -> NDArray[np.bool_]:
        """(R, OFFSETS), which places of the plane the picture shows."""
        return (self.map_x >= 0) & (self.map_x <= self.width - 1)

    def column_of(self, offset: float) -> int:
        return round((offset / (2 * OFFSET_LIMIT) + 0.5) * (OFFSETS - 1))

    def rectified(self, picture: Float, *, repeat_edge: bool = False) -> Float:
        """(R, OFFSETS[, C]) of a picture (h, w[, C]); beyond its edges 0, or the edge repeated."""
        border = cv2.BORDER_REPLICATE if repeat_edge else cv2.BORDER_CONSTANT
        return np.asarray(
            cv2.remap(picture, self.map_x, self.map_y, cv2.INTER_LINEAR, borderMode=border), dtype=np.float32
        )

    def pictured(self, plane: Float) -> Float:
        """(h, w) of a rectified field (R, OFFSETS); meaningless above the horizon."""
        map_x = (self.offset_at / (2 * OFFSET_LIMIT) + 0.5) * (OFFSETS - 1)
        map_y = np.broadcast_to(
            (self.height - 1 - np.arange(self.height, dtype=np.float32))[:, None], (self.height, self.width)
        )
        return np.asarray(
            cv2.remap(plane, map_x, np.ascontiguousarray(map_y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            dtype=np.float32,
        )

    def between(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(h, w) mask of what lies between two paths, one column a row each."""
        scale = self.nearness * self.width
        start, end = self.x + self.offsets[left] * scale, self.x + self.offsets[right] * scale
        columns = np.arange(self.width)[None]
        mask = np.zeros((self.height, self.width), dtype=np.bool_)
        mask[self.rows] = (columns >= start[:, None]) & (columns <= end[:, None])
        return mask


def vanishing_votes(luma: Float, horizon: float | None = None) -> VanishingVotes:
    """Let the slanted edges in the lower part of a picture vote for the point that they run towards.

    Args:
        luma: (h, w) logarithm of brightness.
        horizon: share of the height where the horizon is known to lie, nearly; None to look everywhere.
    """
    xs = np.linspace(*SEARCH_X)
    ys = np.linspace(*SEARCH_Y) if horizon is None else horizon + np.array(NEAR_HORIZON)
    height, width = luma.shape
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.25)
    grad_x, grad_y = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    size = np.hypot(grad_x, grad_y)
    slanted = (np.abs(grad_x) < SLANTED * size) & (np.abs(grad_y) < SLANTED * size) & (size > MIN_GRADIENT)
    slanted[: int(LINES_FROM * height)] = False
    rows, columns = np.nonzero(slanted)
    if rows.size > MAX_VOTERS:
        strongest = np.argpartition(-size[rows, columns], MAX_VOTERS)[:MAX_VOTERS]
        rows, columns = rows[strongest], columns[strongest]
    strength = size[rows, columns].astype(np.float64)
    sides = _count_votes(
        columns.astype(np.float64),
        rows.astype(np.float64),
        grad_x[rows, columns] / strength,
        grad_y[rows, columns] / strength,
        np.minimum(strength, STRONG_GRADIENT),
        xs * width,
        ys * height,
    )
    # A point where lines from the left and from the right meet is worth more than twice as many from one side.
    votes = (np.sqrt(sides[0]) + np.sqrt(sides[1])) ** 2
    return VanishingVotes(votes / max(float(votes.max()), 1e-6), xs, ys)


def choose_vanishing_point(
    votes: VanishingVotes, usual: tuple[float, float] = USUAL_PLACE, spread: tuple[float, float] = PLACE_SPREAD
) -> tuple[float, float]:
    """(x, y) with most votes as shares of width and height, near the usual place; there where nobody voted."""
    likely_x = np.exp(-0.5 * ((votes.xs - usual[0]) / spread[0]) ** 2)
    likely_y = np.exp(-0.5 * ((votes.ys - usual[1]) / spread[1]) ** 2)
    clear = np.maximum(cv2.GaussianBlur(votes.votes, (0, 0), 0.8) - np.median(votes.votes), 0.0) ** VOTE_SHARPNESS
    score = clear * likely_y[:, None] * likely_x[None]
    if score.max() <= 0:
        return usual
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    rows, columns = slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
    # The fourth power keeps the centre of mass at the peak's top.
    peak = score[rows, columns] ** 4
    return float((peak * votes.xs[columns][None]).sum() / peak.sum()), float(
        (peak * votes.ys[rows][:, None]).sum() / peak.sum()
    )


@compiled()
def _count_votes(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    normal_x: NDArray[np.float64],
    normal_y: NDArray[np.float64],
    weight: NDArray[np.float64],
    candidate_x: NDArray[np.float64],
    candidate_y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Votes (2, rows, columns) of edge pixels left and right of each candidate."""
    votes = np.zeros((2, candidate_y.size, candidate_x.size))
    for k in range(xs.size):
        for i in range(candidate_y.size):
            dy = ys[k] - candidate_y[i]
            # Close to the point every direction hits it.
            if dy < 8.0:
                continue
            for j in range(candidate_x.size):
                dx = xs[k] - candidate_x[j]
                cross = normal_x[k] * dx + normal_y[k] * dy
                squared = dx * dx + dy * dy
                # Most candidates are missed by far: the root is only taken for the others.
                if cross * cross < MISS_SINE * MISS_SINE * squared:
                    miss = abs(cross) / squared**0.5
                    votes[1 if dx > 0 else 0, i, j] += weight[k] * (1.0 - miss / MISS_SINE)
    return votes


@compiled()
def best_path(
    gain: NDArray[np.float64], step_cost: NDArray[np.float64], reach: int, first: int, last: int
) -> NDArray[np.int64]:
    """The path (R,) through (R, N) with the most gain, row by row, between the columns `first` and `last` - 1.

    A step of d columns into row r costs `step_cost[r]` * |d| and is at most `reach` wide.
    """
    rows, columns = gain.shape
    score = np.full(columns, -1e18)
    came_from = np.zeros((rows, columns), np.int32)
    score[first:last] = gain[0, first:last]
    for row in range(1, rows):
        reached = np.full(columns, -1e18)
        for column in range(first, last):
            best = -1e18
            for origin in range(max(first, column - reach), min(last, column + reach + 1)):
                value = score[origin] - step_cost[row] * abs(origin - column)
                if value > best:
                    best = value
                    came_from[row, column] = origin
            reached[column] = best + gain[row, column]
        score = reached
    path = np.zeros(rows, np.int64)
    path[rows - 1] = first + np.argmax(score[first:last])
    for row in range(rows - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path


def geodesic_distance(start: NDArray[np.bool_], cost: Float) -> Float:
    """(h, w): least cost of a way from `start` to each pixel, over eight neighbours; nearly exact.

    Args:
        start: (h, w) True where ways begin.
        cost: (h, w) cost of entering a pixel.

    Source: raster scans as in fast geodesic segmentation; two rounds, since ways on a road bend little.
    """
    distance = np.where(start, np.float32(0), np.float32(1e6))
    _relax(distance, cost)
    return distance


@compiled()
def _relax(distance: Float, cost: Float) -> None:
    """Two rounds of a scan down and a scan up, in place."""
    rows, columns = distance.shape
    for _ in range(2):
        for direction in range(2):
            for i in range(rows):
                y = i if direction == 0 else rows - 1 - i
                before = y - 1 if direction == 0 else y + 1
                inside = 0 <= before < rows
                for j in range(columns):
                    x = j if direction == 0 else columns - 1 - j
                    step = cost[y, x]
                    least = distance[y, x]
                    if inside:
                        least = min(least, distance[before, x] + step)
                        if x > 0:
                            least = min(least, distance[before, x - 1] + DIAGONAL * step)
                        if x < columns - 1:
                            least = min(least, distance[before, x + 1] + DIAGONAL * step)
                    beside = x - 1 if direction == 0 else x + 1
                    if 0 <= beside < columns:
                        least = min(least, distance[y, beside] + step)
                    distance[y, x] = least
