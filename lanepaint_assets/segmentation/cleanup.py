"""From a raw road mask to the road and paint masks: the specification's four stages, then the objects on the road.

Called by the segmentation stage and by whoever tries an engine alone, after any engine. No engine belongs here, and
nothing that looks at the picture: masks in, masks out. The stages themselves run on bits (`bit_masks.py`,
`bit_morphology.py`, `bit_components.py`) and give what OpenCV's functions give; the tests hold the OpenCV form.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.bit_components import (
    clear_regions_with,
    count_regions,
    fill_holes,
    keep_region,
    wide_regions,
)
from lanepaint_assets.segmentation.bit_masks import (
    Bits,
    Rows,
    default_workers,
    pack_mask,
    unpack_mask,
    words_across,
)
from lanepaint_assets.segmentation.bit_morphology import dilate, ellipse, erode
from lanepaint_assets.segmentation.point_grid import SPEC_GRID, Point, PointGrid, reference_point

# A hole that an ellipse of this share of the frame's height fits into is an object on the road, not a marking or a
# speck: 14 px of 540 rows, a car some 60 m away; a marking is wider only right before the vehicle.
OBJECT_DIAMETER_SHARE = 0.025


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

    Source: spec 4, four-stage mask quality pipeline; the fill is padded.
    """
    cleaner = _FrameCleaner(mask.shape, reference, kernel_px)
    cleaner.take_component(mask)
    cleaner.close_and_fill()
    return cleaner.masked(cleaner.road)


def road_component(
    mask: NDArray[np.bool_], reference: Point, kernel_px: KernelSizes = SPEC_KERNELS
) -> NDArray[np.bool_]:
    """The first two stages of the clean-up: one component, still with the holes that the engine left.

    Arguments, result and errors as in `clean_road_mask`.
    """
    cleaner = _FrameCleaner(mask.shape, reference, kernel_px)
    cleaner.take_component(mask)
    return cleaner.masked(cleaner.component)


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

    Source: ARCHITECTURE, "Time, pictures and seeds", masks.
    """
    if unfilled.shape != road.shape:
        raise ValueError(f"masks of one frame differ in shape: {unfilled.shape} and {road.shape}")
    cleaner = _FrameCleaner(road.shape, Point(0, 0), SPEC_KERNELS)
    pack_mask(unfilled, cleaner.component)
    cleaner.rows = pack_mask(road, cleaner.road)
    if fill_all_holes:
        return cleaner.masked(cleaner.road)
    cleaner.leave_objects()
    return cleaner.masked(cleaner.paint)


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
    cleaner = _FrameCleaner(raw.shape, reference_point(width, height, grid), kernel_px)
    masks = _no_masks(raw.shape, fill_all_holes=fill_all_holes)
    cleaner.clean(raw, masks)
    return masks


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
        fill_all_holes: paint over objects too, as spec 4 has it; both masks of the result are then one array.
        workers: threads; by default one a core, at most eight.

    Raises:
        ValueError: `raw` is not three-dimensional.
    """
    if raw.ndim != 3:
        raise ValueError(f"video masks have shape (frames, height, width), these have {raw.shape}")
    frames, height, width = raw.shape
    masks = _no_masks(raw.shape, fill_all_holes=fill_all_holes)
    threads = max(1, min(workers or default_workers(), frames))

    def clean_share(thread: int) -> None:
        cleaner = _FrameCleaner((height, width), reference_point(width, height, grid), kernel_px)
        for index in range(thread, frames, threads):
            road = masks.road[index]
            cleaner.clean(raw[index], CleanedMasks(road, road if fill_all_holes else masks.paint[index]))

    with ThreadPoolExecutor(max_workers=threads) as pool:
        list(pool.map(clean_share, range(threads)))
    return masks


def count_objects(masks: CleanedMasks) -> int:
    """How many separate objects the paint mask of one frame (H, W) leaves out of the road."""
    height, width = masks.road.shape
    bits = np.empty((height, words_across(width)), dtype=np.uint64)
    pack_mask(masks.road & ~masks.paint, bits)
    return count_regions(bits, width)


class _FrameCleaner:
    """The stages, for one frame after another of one size and in one thread: their masks are used again.

    Args:
        shape: (H, W) of the frames.
        reference: the pixel that is most surely on the road.
        kernel_px: sizes of the ellipses.

    Attributes:
        component: the road's region before closing and filling, after `take_component`.
        road: the cleaned road, after `close_and_fill`.
        paint: the road less the objects on it, after `leave_objects`.
        rows: the rows outside which the latest of them is empty.

    Raises:
        ValueError: `shape` is not two-dimensional, or `reference` lies outside it.
    """

    def __init__(self, shape: tuple[int, ...], reference: Point, kernel_px: KernelSizes) -> None:
        if len(shape) != 2:
            raise ValueError(f"a road mask has two dimensions, this one has shape {shape}; pass one frame at a time")
        self.height, self.width = shape
        if not (0 <= reference.x < self.width and 0 <= reference.y < self.height):
            raise ValueError(f"reference point {tuple(reference)} lies outside the {self.width}x{self.height} mask")
        self.reference = reference
        self.opening = ellipse(kernel_px.open_px)
        self.closing = ellipse(kernel_px.close_px)
        self.close_iterations = kernel_px.close_iterations
        self.component, self.road, self.paint, self._spare, self._core = np.zeros(
            (5, self.height, words_across(self.width)), dtype=np.uint64
        )
        self.rows = Rows(0, 0)

    def clean(self, raw: NDArray[np.bool_], masks: CleanedMasks) -> None:
        """All stages on one raw mask (H, W); the results are written into `masks`, all False before.

        Where the two are one array, the objects are not looked for.
        """
        self.take_component(raw)
        self.close_and_fill()
        unpack_mask(self.road, masks.road)
        if masks.paint is not masks.road:
            self.leave_objects()
            unpack_mask(self.paint, masks.paint)

    def take_component(self, raw: NDArray[np.bool_]) -> None:
        """Stages 1 and 2: open, and keep the region at the reference point or the largest."""
        rows = pack_mask(raw, self.road)
        erode(self.road, self._spare, self.width, rows, self.opening)
        dilate(self._spare, self.road, self.width, rows, self.opening)
        self.rows = keep_region(self.road, self.component, self.width, rows, *self.reference)

    def close_and_fill(self) -> None:
        """Stages 3 and 4."""
        reach = self.close_iterations * self.closing.radius
        self.rows = Rows(max(0, self.rows.first - reach), min(self.height, self.rows.last + reach))
        source, target, other = self.component, self._spare, self.road
        for operation in (dilate, erode):
            for _ in range(self.close_iterations):
                operation(source, target, self.width, self.rows, self.closing)
                source, target, other = target, other, target
        # An even number of operations: the last one wrote into `road`, unless there was none.
        if self.close_iterations == 0:
            self.road[:] = self.component
        fill_holes(self.road, self.width, self.rows)

    def leave_objects(self) -> None:
        """Take the holes of `component` that are objects out of `road`."""
        self.paint[:] = self.road
        holes = self._spare
        np.bitwise_and(self.road, self.component, out=holes)
        np.bitwise_xor(self.road, holes, out=holes)
        shape = ellipse(_object_diameter_px(self.height))
        # A hole that the ellipse fits into spans its middle row and column, or the half of them within the frame.
        least_px = min(shape.radius + 1, self.height, self.width)
        regions, wide, rows = wide_regions(holes, self.width, self.rows, least_px)
        if rows.first == rows.last:
            return
        # Outside the frame counts as hole, so that a hole cut by the frame's edge is not made thinner by it. Of an
        # opening the erosion suffices: what dilation adds around a pixel belongs to the same hole.
        erode(holes, self._core, self.width, rows, shape)
        clear_regions_with(self._core, regions, wide, self.rows, self.paint)

    def masked(self, bits: Bits) -> NDArray[np.bool_]:
        """One of the masks as (H, W) bool."""
        mask = np.zeros((self.height, self.width), dtype=np.bool_)
        unpack_mask(bits, mask)
        return mask


def _no_masks(shape: tuple[int, ...], *, fill_all_holes: bool) -> CleanedMasks:
    """Masks to be filled in; with all holes filled, the paint mask is the road mask."""
    road = np.zeros(shape, dtype=np.bool_)
    return CleanedMasks(road, road if fill_all_holes else np.zeros(shape, dtype=np.bool_))


def _object_diameter_px(height: int) -> int:
    """Odd diameter of the ellipse that tells objects from markings in a frame of this height."""
    return 2 * int(OBJECT_DIAMETER_SHARE * height / 2) + 1
