"""From a raw road mask to the road and paint masks: the specification's four stages, then the objects on the road.

Called by the segmentation stage and by whoever tries an engine alone, after any engine. No engine belongs here, and
nothing that looks at the picture: masks in, masks out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.point_grid import SPEC_GRID, Point, PointGrid, reference_point

# A hole that an ellipse of this share of the frame's height fits into is an object on the road, not a marking or a
# speck (DESIGN part 6): 14 px of 540 rows, a car some 60 m away; a marking is wider only right before the vehicle.
OBJECT_DIAMETER_SHARE = 0.025

# Spec 4 caps its pool at eight workers. OpenCV frees the GIL, so threads suffice.
MAX_WORKERS = 8


@dataclass(frozen=True)
class KernelSizes:
    """Diameters of the clean-up's ellipses in pixels, odd; `close_iterations` repeats the closing's two halves."""

    open_px: int = 7
    close_px: int = 9
    close_iterations: int = 2

    def __post_init__(self) -> None:
        for name, value in (("open_px", self.open_px), ("close_px", self.close_px)):
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name}={value}: a kernel diameter is an odd number of pixels, at least 1")
        if self.close_iterations < 0:
            raise ValueError(f"close_iterations={self.close_iterations}: give 0 or more")


SPEC_KERNELS = KernelSizes()


class CleanedMasks(NamedTuple):
    """Road and paint masks of one frame, (H, W) bool, or of a video, (T, H, W) bool.

    Attributes:
        road: the specification's clean-up: one region without holes.
        paint: `road` less the objects standing on it; what painters may change.
    """

    road: NDArray[np.bool_]
    paint: NDArray[np.bool_]


def clean_road_mask(
    mask: NDArray[np.bool_], reference: Point, kernel_px: KernelSizes = SPEC_KERNELS
) -> NDArray[np.bool_]:
    """Reduce a raw road mask to one region without holes.

    Opens, keeps the component under `reference` (or the largest; of equal ones the first in reading order), closes,
    fills.

    Args:
        mask: (H, W), True on road.
        reference: pixel (x, y) most surely on the road, normally (W/2, 0.85 H).
        kernel_px: sizes of the opening and closing ellipses.

    Returns:
        (H, W), True on road; all False where `mask` is, or where the opening leaves nothing of it. Closing a narrow
        bay can leave a speck of a few pixels beside the region; the specification's order of stages keeps it.

    Raises:
        ValueError: `mask` is not two-dimensional, or `reference` lies outside it.

    Source: spec 4, four-stage mask quality pipeline; the fill is padded (DESIGN part 7).
    """
    return _filled(_closed(road_component(mask, reference, kernel_px), kernel_px))


def road_component(
    mask: NDArray[np.bool_], reference: Point, kernel_px: KernelSizes = SPEC_KERNELS
) -> NDArray[np.bool_]:
    """The first two stages of the clean-up: one component, still with the holes that the engine left.

    Arguments, result and errors as in `clean_road_mask`.
    """
    if mask.ndim != 2:
        raise ValueError(f"a road mask has two dimensions, this one has shape {mask.shape}; pass one frame at a time")
    height, width = mask.shape
    if not (0 <= reference.x < width and 0 <= reference.y < height):
        raise ValueError(f"reference point {tuple(reference)} lies outside the {width}x{height} mask")
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _ellipse(kernel_px.open_px))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return np.zeros(mask.shape, dtype=np.bool_)
    label = int(labels[reference.y, reference.x])
    if label == 0:
        label = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    return np.asarray(labels == label)


def paint_mask(
    unfilled: NDArray[np.bool_], road: NDArray[np.bool_], *, fill_all_holes: bool = False
) -> NDArray[np.bool_]:
    """The road that painters may change: `road` less the holes that are objects.

    Args:
        unfilled: (H, W), the road component before closing and filling (`road_component`). Taken before the closing,
            because 9 px twice would shut a distant vehicle that is 16 px wide.
        road: (H, W), the cleaned road mask.
        fill_all_holes: give `road` back unchanged, as spec 4 has it.

    Returns:
        (H, W) bool, a subset of `road`. A hole stays out as a whole where an ellipse of `OBJECT_DIAMETER_SHARE` of
        the height fits into it; thin holes (markings, cracks) are painted over.

    Raises:
        ValueError: the masks differ in shape.

    Source: DESIGN part 6.
    """
    if unfilled.shape != road.shape:
        raise ValueError(f"masks of one frame differ in shape: {unfilled.shape} and {road.shape}")
    if fill_all_holes:
        return road.copy()
    holes = (road & ~unfilled).astype(np.uint8)
    diameter_px = _object_diameter_px(road.shape[0])
    # Outside the frame counts as hole, so that a hole cut by the frame's edge is not made thinner by it.
    core = cv2.morphologyEx(holes, cv2.MORPH_OPEN, _ellipse(diameter_px))
    if not core.any():
        return road.copy()
    # Four neighbours: the road is connected through corners, so what it encloses is not.
    count, labels = cv2.connectedComponents(holes, connectivity=4)
    is_object = np.zeros(count, dtype=np.bool_)
    is_object[labels[core > 0]] = True
    is_object[0] = False
    return np.asarray(road & ~is_object[labels], dtype=np.bool_)


def clean_frame(
    raw: NDArray[np.bool_],
    grid: PointGrid = SPEC_GRID,
    kernel_px: KernelSizes = SPEC_KERNELS,
    *,
    fill_all_holes: bool = False,
) -> CleanedMasks:
    """Road and paint masks (H, W) of one raw mask (H, W); errors as in `clean_road_mask`."""
    if raw.ndim != 2:
        raise ValueError(f"a road mask has two dimensions, this one has shape {raw.shape}; pass one frame at a time")
    height, width = raw.shape
    unfilled = road_component(raw, reference_point(width, height, grid), kernel_px)
    road = _filled(_closed(unfilled, kernel_px))
    return CleanedMasks(road, paint_mask(unfilled, road, fill_all_holes=fill_all_holes))


def clean_video_masks(
    raw: NDArray[np.bool_],
    grid: PointGrid = SPEC_GRID,
    kernel_px: KernelSizes = SPEC_KERNELS,
    *,
    fill_all_holes: bool = False,
    workers: int | None = None,
) -> CleanedMasks:
    """Road and paint masks (T, H, W) of raw masks (T, H, W), frames in parallel threads.

    Args:
        raw: (T, H, W), True on road, from any engine.
        grid: where the reference point lies.
        kernel_px: sizes of the ellipses.
        fill_all_holes: paint over objects too, as spec 4 has it.
        workers: threads; by default one a core, at most eight.

    Raises:
        ValueError: `raw` is not three-dimensional.
    """
    if raw.ndim != 3:
        raise ValueError(f"video masks have shape (frames, height, width), these have {raw.shape}")
    road = np.zeros(raw.shape, dtype=np.bool_)
    paint = np.zeros(raw.shape, dtype=np.bool_)

    def clean(index: int) -> None:
        cleaned = clean_frame(raw[index], grid, kernel_px, fill_all_holes=fill_all_holes)
        road[index] = cleaned.road
        paint[index] = cleaned.paint

    with ThreadPoolExecutor(max_workers=workers or min(MAX_WORKERS, os.cpu_count() or 1)) as pool:
        list(pool.map(clean, range(raw.shape[0])))
    return CleanedMasks(road, paint)


def count_objects(masks: CleanedMasks) -> int:
    """How many separate objects the paint mask of one frame (H, W) leaves out of the road."""
    count, _ = cv2.connectedComponents((masks.road & ~masks.paint).astype(np.uint8), connectivity=4)
    return int(count) - 1


def _closed(mask: NDArray[np.bool_], kernel_px: KernelSizes) -> NDArray[np.bool_]:
    closed = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_CLOSE, _ellipse(kernel_px.close_px), iterations=kernel_px.close_iterations
    )
    return np.asarray(closed > 0)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what the mask encloses.

    The flood starts on a ring of background around the frame: started on pixel (0, 0) itself, a road that covers this
    pixel would turn into the whole frame, and one that reaches the upper edge would enclose a corner of sky.
    """
    background = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(background, None, (0, 0), 0)
    return mask | (background[1:-1, 1:-1] > 0)


def _object_diameter_px(height: int) -> int:
    """Odd diameter of the ellipse that tells objects from markings in a frame of this height."""
    return 2 * int(OBJECT_DIAMETER_SHARE * height / 2) + 1


def _ellipse(diameter_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)), dtype=np.uint8)
