"""The two paths along the road plane, left and right, that enclose what looks like road.

Called by the `classical` engine only. What looks like road is given (`road_evidence.py`); here are the edges of the
surface and the dynamic programming that follows them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.road_appearance import Float, Look
from lanepaint_assets.segmentation.road_shape import RoadPlane, best_path

# The car is wider than 0.2 frame widths at the bottom row; a boundary cannot be nearer than half of it.
MIN_HALF_WIDTH = 0.1
# Neighbouring pixels repeat each other's evidence, so a pixel counts for little against the boundary's own contrast.
REGION_WEIGHT, ODDS_LIMIT = 0.05, 3.0
# Windows of 12 columns, half a metre, to either side of a boundary; brightness counts less, since shadows change it.
EDGE_WINDOW, EDGE_SMOOTHING_ROWS = 12, 5
EDGE_CUE_WEIGHTS = np.array([0.3, 1.0, 1.0], dtype=np.float32)
EDGE_CUE_FLOOR = np.array([0.03, 0.006, 0.006], dtype=np.float32)
EDGE_SATURATION = 8.0
NOISE_HALF_WIDTH = 35
STEP_REACH = 6
STEP_COST, MIN_STEP_COST = 0.5, 0.15
# Farther from a boundary than this, a pixel is simply inside or outside.
INSIDE_LIMIT = 0.6


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The plane's columns, left and right, of each of its rows (R,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]

    def inside(self, plane: RoadPlane) -> Float:
        """(h, w) float32: lateral distance from the nearer boundary in offsets, positive between them, limited."""
        distance = np.full(plane.offset_at.shape, -INSIDE_LIMIT, dtype=np.float32)
        offset = plane.offset_at[plane.rows]
        left, right = (plane.offsets[path].astype(np.float32)[:, None] for path in (self.left, self.right))
        distance[plane.rows] = np.clip(np.minimum(offset - left, right - offset), -INSIDE_LIMIT, INSIDE_LIMIT)
        return distance


def surface_edges(look: Look, plane: RoadPlane) -> Float:
    """(R, OFFSETS): how much the surface differs between the half metres left and right of each place, 0 to 1.

    Measured against what the lane itself varies by, so that coarse asphalt needs a clearer edge than smooth.
    """
    window = EDGE_WINDOW
    cues = cv2.blur(plane.rectified(look.cues, repeat_edge=True), (1, EDGE_SMOOTHING_ROWS))
    sums = np.cumsum(np.pad(cues, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float32)
    means = (sums[:, window:] - sums[:, :-window]) / window
    contrast = np.abs(means[:, window:] - means[:, :-window])
    # contrast[:, k] belongs to column k + window; the farthest third of the rows is too coarse to tell noise.
    lane = slice(max(0, plane.ahead - window - NOISE_HALF_WIDTH), plane.ahead - window + NOISE_HALF_WIDTH)
    near = contrast[: max(1, contrast.shape[0] * 2 // 3), lane]
    noise = np.percentile(near, 60, axis=(0, 1)) + EDGE_CUE_FLOOR
    edge = np.zeros(plane.map_x.shape, dtype=np.float32)
    edge[:, window : window + contrast.shape[1]] = contrast @ (EDGE_CUE_WEIGHTS / noise)
    return np.asarray(np.minimum(edge / EDGE_SATURATION, 1.0) * plane.in_picture, dtype=np.float32)


def find_boundaries(plane: RoadPlane, rectified_odds: Float, edges: Float) -> Boundaries:
    """Paths that enclose the most road-like area and run along edges of the surface.

    Args:
        plane: the road plane.
        rectified_odds: (R, OFFSETS) log odds of road.
        edges: (R, OFFSETS) from `surface_edges`.
    """
    pixels = plane.pixels_a_column
    evidence = np.clip(rectified_odds, -ODDS_LIMIT, ODDS_LIMIT)
    area = REGION_WEIGHT * np.cumsum(evidence, axis=1) * pixels[:, None]
    step_cost = np.maximum(STEP_COST * pixels, MIN_STEP_COST)
    half = plane.column_of(MIN_HALF_WIDTH) - plane.column_of(0.0)
    last = plane.offsets.size
    left = best_path(edges - area, step_cost, STEP_REACH, 0, max(plane.ahead - half, 2))
    right = best_path(edges + area, step_cost, STEP_REACH, min(plane.ahead + half, last - 2), last)
    return Boundaries(left, right)
