"""Finds vehicles on the road plane by their outline alone: two upright sides on a level foot.

Called by the `classical` engine only, because a dark car on a dark road cannot be told by its colour. Nothing here
looks at colour or remembers frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.road_appearance import Float
from lanepaint_assets.segmentation.road_shape import RoadPlane

# Width over height of the part below the horizon. That part is as high as the camera, 1.2 to 2 m; cars to lorries are
# 1.6 to 2.6 m wide.
NARROWEST, WIDEST = 0.8, 2.2
# Change of log brightness a pixel that makes an edge; noise of 8-bit pictures stays below a third of it.
MIN_GRADIENT = 0.02
# Cosine of 18 degrees: sides lean with the body, feet with the road's camber.
ALIGNED = 0.95
# An edge that runs towards the vanishing point (within 15 degrees) is a marking or a kerb.
RADIAL_SINE = 0.26
# Edges may wander by this many pixels and still count as one side.
TOLERANCE_PX = 2
MIN_COVERAGE_SIDE, MIN_COVERAGE_FOOT, MIN_SCORE = 0.6, 0.6, 2.1
# Smaller boxes are found by chance among trees and houses; distant vehicles are found by their colour.
MIN_HEIGHT_PX = 14
# A window or a bumper makes a good box too; the whole vehicle is the largest of nearly equal ones.
SCORE_A_ROW = 0.015
# Coarse asphalt is full of weak edges: only those well above the median of the lane count.
LANE_OFFSET, GRAIN_FACTOR = 0.4, 2.5
MAX_BOXES = 4


@dataclass(frozen=True)
class Box:
    """An upright thing: columns `left` to `right` (exclusive), standing on row `foot`."""

    left: int
    right: int
    foot: int


def find_boxes(luma: Float, plane: RoadPlane) -> list[Box]:
    """Upright boxes that reach from the road up to the horizon, the most certain first, not overlapping.

    Args:
        luma: (h, w) logarithm of brightness.
        plane: the road plane of the same picture.
    """
    gradient_x, gradient_y = (cv2.Sobel(luma, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    size = np.hypot(gradient_x, gradient_y) + 1e-6
    row, column = np.mgrid[0 : plane.height, 0 : plane.width].astype(np.float32)
    towards_x, towards_y = column - plane.x, row - plane.y
    along = np.abs(gradient_x * towards_x + gradient_y * towards_y) / (np.hypot(towards_x, towards_y) + 1e-3)
    lane = plane.below & (np.abs(plane.offset_at) < LANE_OFFSET)
    grain = float(np.median(size[lane])) if lane.any() else 0.0
    edge = (size > max(MIN_GRADIENT, GRAIN_FACTOR * grain)) & (along > RADIAL_SINE * size)
    reach = 2 * TOLERANCE_PX + 1
    sides = cv2.dilate((edge & (np.abs(gradient_x) > ALIGNED * size)).astype(np.uint8), np.ones((3, reach), np.uint8))
    feet = cv2.dilate((edge & (np.abs(gradient_y) > ALIGNED * size)).astype(np.uint8), np.ones((reach, 3), np.uint8))
    top = round(plane.y)
    boxes = []
    side_sums = np.cumsum(sides[top:].astype(np.float64), axis=0)
    foot_sums = np.pad(np.cumsum(feet[top:].astype(np.float64), axis=1), ((0, 0), (1, 0)))
    for _ in range(MAX_BOXES):
        left, right, height = _best_box(side_sums, foot_sums)
        if height == 0:
            break
        boxes.append(Box(left, right, top + height))
        # What one box has used cannot hold up another.
        side_sums[:, max(0, left - reach) : right + reach] = 0.0
    return boxes


@compiled()
def _best_box(sides: NDArray[np.float64], feet: NDArray[np.float64]) -> tuple[int, int, int]:
    """Columns and height of the box with the best covered outline; height 0 where none is good enough."""
    rows, columns = sides.shape
    best = 0.0
    found = (0, 0, 0)
    for height in range(MIN_HEIGHT_PX, rows):
        for left in range(columns - 1):
            side = sides[height, left] / height
            if side < MIN_COVERAGE_SIDE:
                continue
            for width in range(int(NARROWEST * height), min(int(WIDEST * height), columns - 1 - left)):
                other = sides[height, left + width] / height
                if other < MIN_COVERAGE_SIDE:
                    continue
                foot = (feet[height, left + width] - feet[height, left]) / width
                score = min(side, 1.0) + min(other, 1.0) + foot
                if foot < MIN_COVERAGE_FOOT or score < MIN_SCORE:
                    continue
                score += SCORE_A_ROW * height
                if score > best:
                    best = score
                    found = (left, left + width, height)
    return found
