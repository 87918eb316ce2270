"""The mask clean-up in OpenCV's and NumPy's plain functions: what the compiled form must equal, pixel by pixel.

Written to be read, not to be fast. Of equally large regions the first in reading order is kept; OpenCV numbers regions
by blocks of 2 x 2 pixels, so the order of its labels is not asked.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.cleanup import OBJECT_DIAMETER_SHARE, CleanedMasks, KernelSizes
from lanepaint_assets.segmentation.point_grid import Point

Mask = NDArray[np.bool_]


def plain_clean_up(raw: Mask, reference: Point, kernel_px: KernelSizes = KernelSizes()) -> CleanedMasks:  # noqa: B008
    component = plain_component(raw, reference, kernel_px)
    closed = cv2.morphologyEx(
        component.astype(np.uint8),
        cv2.MORPH_CLOSE,
        plain_ellipse(kernel_px.close_px),
        iterations=kernel_px.close_iterations,
    )
    road = plain_fill(closed > 0)
    return CleanedMasks(road, plain_paint(component, road))


def plain_component(raw: Mask, reference: Point, kernel_px: KernelSizes = KernelSizes()) -> Mask:  # noqa: B008
    opened = cv2.morphologyEx(raw.astype(np.uint8), cv2.MORPH_OPEN, plain_ellipse(kernel_px.open_px))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    if count == 1:
        return np.zeros(raw.shape, dtype=np.bool_)
    kept = labels[reference.y, reference.x]
    if kept == 0:
        areas = statistics[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0
        in_reading_order = labels.ravel()
        kept = in_reading_order[np.argmax(areas[in_reading_order] == areas.max())]
    return np.asarray(labels == kept)


def plain_fill(mask: Mask) -> Mask:
    """All that a flood from a ring of background around the frame does not reach."""
    background = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    cv2.floodFill(background, None, (0, 0), 0, flags=4)
    return mask | (background[1:-1, 1:-1] > 0)


def plain_paint(component: Mask, road: Mask) -> Mask:
    """The road less each hole that holds a pixel of the holes' opening."""
    holes = (road & ~component).astype(np.uint8)
    diameter_px = 2 * int(OBJECT_DIAMETER_SHARE * road.shape[0] / 2) + 1
    core = cv2.morphologyEx(holes, cv2.MORPH_OPEN, plain_ellipse(diameter_px)) > 0
    _, labels = cv2.connectedComponents(holes, connectivity=4)
    objects = np.setdiff1d(labels[core], 0)
    return road & ~np.isin(labels, objects)


def plain_ellipse(diameter_px: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)).astype(np.uint8)
