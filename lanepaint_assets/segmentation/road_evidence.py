"""What speaks for road at each pixel, and how much: the cues of one frame and their weights.

Called by the `classical` engine only. A cue is a picture of one measurement, normalized by the strip ahead of the car
(its colour, grain and noise) or by the road plane, so that no camera, country or light enters. Paths, memory and what
is finally cut out are not here.

The weights are those of a logistic regression on single frames, one set for all pictures: sample drives and labelled
street videos by day and at dusk counted alike, none of them from the sequences or seeds that figures are reported on.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.road_appearance import Appearance, Float, Look
from lanepaint_assets.segmentation.road_shape import RoadPlane, geodesic_distance
from lanepaint_assets.segmentation.upright_boxes import find_boxes

# Offsets are in frame widths at the bottom row, some 3.5 m (`road_shape.OFFSET_LIMIT`). The car is wider than 0.2, so
# this much to either side is lane; the calm of the road is measured in the lane twice as wide, in the nearer half.
CORE_OFFSET, CALM_OFFSET, CALM_FROM = 0.22, 0.4, 0.45
# Rows nearer to the horizon than this show too little road to learn from; below this share of the height the bonnet may
# be in the picture, and what it does to a column is not counted from there on.
CORE_FROM, BONNET_FROM, COLUMN_FROM = 0.15, 0.93, 0.90
# Farther out than a lane: teaches what is not road until the boundaries are known. Sky and houses differ from road more
# than verges do; they must not drown these.
SIDE_OFFSET, ABOVE_HORIZON_WEIGHT = 1.0, 0.3
# Gradients of log brightness a pixel: noise of 8-bit pictures makes half of it, asphalt about as much.
ALONG_FLOOR, ROUGH_FLOOR, COLOUR_STEP_FLOOR = 0.008, 0.01, 0.002
# A pixel's gradient along the direction of travel counts against its column from three times the road's own on, and no
# more than six times beyond. Lines run with the travel and cause none; feet of vehicles and kerbs across do.
COLUMN_STEP_FROM, COLUMN_STEP_LIMIT = 3.0, 6.0
# So much of it below a pixel of the strip ahead makes it a third as credible.
CORE_COLUMN_SCALE = 15.0
# Spread of log ratios below which two colours are one: a level of 8 bits in mid grey.
COLOUR_SPREAD_FLOOR = 0.004
# A shadow is lit by the sky: a road half as bright may be this much bluer.
SHADOW_BLUE = 0.1
# Far brighter or far darker than the road: by 40 % up, to half down.
BRIGHT_FROM, DARK_FROM = 0.35, 0.7
# Cost of a pixel on the way from the strip ahead: plain road, then for each multiple of its own roughness or colour
# noise beyond the first figure the second, up to the third.
WAY_FLOOR, ROUGH_WAY, COLOUR_WAY = 0.02, (2.0, 0.15, 8.0), (1.0, 0.15, 6.0)
WAY_ABOVE_HORIZON = 50.0
# An edge that runs towards the vanishing point (within 15 degrees) is a marking or a kerb, others are upright.
RADIAL_SINE = 0.26

_HALF = float(np.sqrt(0.5))


@dataclass(frozen=True)
class Weights:
    """Log odds a unit of each cue.

    Attributes:
        certain: log odds of road before looking.
        warm, cool, tinted: logarithm of the distance in colour from the strip ahead, in its own spreads: towards
            yellow, towards blue beyond what shadow explains, and across.
        bright, very_bright, dark, very_dark: difference in log brightness.
        rough: log ratio of local contrast to the road's.
        way, long_way: logarithm of the least cost of a way from the strip ahead, and what it exceeds 1.5 by.
        column: logarithm of what stands in the way below, in the pixel's column.
        restless: log ratio of gradients along the direction of travel.
        aside, far_aside: lateral offset, and what it exceeds 0.7 by.
        near, near_aside: 0 at the horizon, 1 at the bottom row; times the offset.
        upright: log density of upright edges.
        low: share of the height below the middle of the picture.
        boxed: 1 where an upright box stands (`upright_boxes.py`); its weight is set to -1, beyond the
            regression's -0.9 and -0.5, because paint on a vehicle is worse than a gap.
        colour, texture: log likelihood ratios of `Appearance`.
        inside: lateral distance from the nearer boundary path, inwards.
    """

    certain: float
    warm: float
    cool: float
    tinted: float
    bright: float
    very_bright: float
    dark: float
    very_dark: float
    rough: float
    way: float
    long_way: float
    column: float
    restless: float
    aside: float
    far_aside: float
    near: float
    near_aside: float
    upright: float
    low: float
    boxed: float
    colour: float
    texture: float
    inside: float

    def of_cues(self) -> Float:
        """Weights of `Evidence.cues`, in its order."""
        return np.array(
            [
                self.certain,
                self.warm,
                self.cool,
                self.tinted,
                self.bright,
                self.very_bright,
                self.dark,
                self.very_dark,
                self.rough,
                self.way,
                self.long_way,
                self.column,
                self.restless,
                self.aside,
                self.far_aside,
                self.near,
                self.near_aside,
                self.upright,
                self.low,
                self.boxed,
            ],
            dtype=np.float32,
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """One frame's cues.

    Attributes:
        look: the frame without its markings.
        plane: its road plane.
        core: (h, w) float64, weights of the strip ahead.
        cues: (20, h, w) float32, in the order of `Weights`, from `certain` to `boxed`.
    """

    look: Look
    plane: RoadPlane
    core: NDArray[np.float64]
    cues: Float

    @property
    def elsewhere(self) -> NDArray[np.float64]:
        """(h, w) weights of what is hardly road."""
        return np.where(self.plane.below, np.abs(self.plane.offset_at) > SIDE_OFFSET, ABOVE_HORIZON_WEIGHT).astype(
            np.float64
        )

    def log_odds(self, weights: Weights, appearance: Appearance, inside: Float | None) -> Float:
        """(h, w) float32 log odds of road, averaged over 3 x 3 pixels; meaningless above the horizon.

        Args:
            weights: of the cues.
            appearance: what road looks like, as far as known.
            inside: (h, w) distance from the nearer boundary, inwards, in offsets; None before there are any.
        """
        colour, texture = appearance.log_ratios(self.look)
        odds = _weighted_sum(weights.of_cues(), self.cues)
        odds += np.float32(weights.colour) * colour + np.float32(weights.texture) * texture
        if inside is not None:
            odds += np.float32(weights.inside) * inside
        return np.asarray(cv2.blur(odds, (3, 3)), dtype=np.float32)


def gather(look: Look, plane: RoadPlane, marked: Float) -> Evidence:
    """Measure all cues of a frame.

    Args:
        look: the frame without its markings.
        plane: its road plane.
        marked: (h, w) log brightness of the frame as it is.
    """
    gradient_x, gradient_y = (cv2.Sobel(look.luma, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    row, column = np.mgrid[0 : plane.height, 0 : plane.width].astype(np.float32)
    towards_x, towards_y = column - np.float32(plane.x), row - np.float32(plane.y)
    along = np.abs(gradient_x * towards_x + gradient_y * towards_y) / (np.hypot(towards_x, towards_y) + 1e-3)
    size = np.hypot(gradient_x, gradient_y)
    aside = np.abs(plane.offset_at)
    near = np.clip(towards_y / max(plane.height - plane.y, 1.0), 0.0, 1.0).astype(np.float32)
    visible = plane.below & (row < BONNET_FROM * plane.height)

    lane = visible & (aside < CALM_OFFSET) & (near > CALM_FROM)
    calm = max(_percentile(along[lane], 40), ALONG_FLOOR)
    smooth = max(_percentile(size[lane], 30), ROUGH_FLOOR)
    rough = cv2.blur(size, (9, 9))
    restless = np.clip(np.log((cv2.blur(along, (7, 7)) + 0.003) / (calm + 0.003)), 0, 3)
    steps = np.clip(along / calm - COLUMN_STEP_FROM, 0, COLUMN_STEP_LIMIT) * (row < COLUMN_FROM * plane.height)
    in_column = cv2.blur(np.cumsum(steps[::-1], axis=0)[::-1].astype(np.float32), (5, 1))

    boxed = np.zeros_like(look.luma)
    for box in find_boxes(marked, plane):
        boxed[: box.foot, box.left : box.right] = 1.0
    # No car body in the sample of road.
    core = (visible & (boxed == 0) & (aside < CORE_OFFSET) & (near > CORE_FROM)) * near.astype(np.float64)
    core *= np.exp(-0.7 * rough / smooth - restless - in_column / CORE_COLUMN_SCALE)
    if core.sum() < 1e-3:
        core = (plane.below & (aside < CALM_OFFSET)).astype(np.float64)
    sample = _Sample.of(core)
    brighter, warmer, colder = (
        look.cues[..., k] - np.float32(sample.median(np.ascontiguousarray(look.cues[..., k]))) for k in range(3)
    )
    towards_yellow, across = (warmer - colder) * _HALF, (warmer + colder) * _HALF
    spread_yellow, spread_across = (
        max(1.5 * sample.median(np.abs(d)), COLOUR_SPREAD_FLOOR) for d in (towards_yellow, across)
    )
    bluer = np.maximum(-towards_yellow - SHADOW_BLUE * np.clip(-brighter, 0, 1), 0)

    colour_step = np.zeros_like(look.luma)
    for k in (1, 2):
        smoothed = cv2.GaussianBlur(np.ascontiguousarray(look.cues[..., k]), (0, 0), 1)
        colour_step += np.hypot(*(cv2.Sobel(smoothed, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0)))
    usual_step = 1.5 * sample.median(colour_step) + COLOUR_STEP_FLOOR
    cost = WAY_FLOOR + _beyond(size / smooth, ROUGH_WAY) + _beyond(colour_step / usual_step, COLOUR_WAY)
    cost[~plane.below] = WAY_ABOVE_HORIZON
    way = np.log1p(geodesic_distance(core > 0.2 * core.max(), cost.astype(np.float32)))
    upright = cv2.blur(np.abs(gradient_x) * (along > RADIAL_SINE * size), (9, 9))

    aside = np.minimum(aside, 3.0)
    cues = np.stack(
        [
            np.ones_like(look.luma),
            np.minimum(np.log1p(np.maximum(towards_yellow, 0) / spread_yellow), 4),
            np.minimum(np.log1p(bluer / spread_yellow), 4),
            np.minimum(np.log1p(np.abs(across) / spread_across), 4),
            np.clip(brighter, 0, 1.5),
            np.clip(brighter - BRIGHT_FROM, 0, 1.5),
            np.clip(-brighter, 0, 1.5),
            np.clip(-brighter - DARK_FROM, 0, 1.5),
            np.clip(np.log((rough + 0.005) / (smooth + 0.005)), -1, 2.5),
            np.minimum(way, 4),
            np.clip(way - 1.5, 0, 3),
            np.minimum(np.log1p(in_column / 5), 3),
            restless,
            aside,
            np.maximum(aside - 0.7, 0),
            near,
            aside * near,
            np.clip(np.log((upright + 0.004) / 0.02), -1, 2),
            np.clip(row / plane.height - 0.5, 0, 0.5),
            boxed,
        ]
    )
    return Evidence(look, plane, core, cues.astype(np.float32, copy=False))


@compiled()
def _weighted_sum(weights: Float, cues: Float) -> Float:
    """(h, w) sum of cues (C, h, w), each times its weight (C,); BLAS would start threads for so little."""
    total = np.zeros(cues.shape[1:], dtype=np.float32)
    for k in range(weights.size):
        for i in range(cues.shape[1]):
            for j in range(cues.shape[2]):
                total[i, j] += weights[k] * cues[k, i, j]
    return total


@dataclass(frozen=True, eq=False)
class _Sample:
    """The pixels of the strip ahead that carry weight: flat indices (N,) and weights (N,)."""

    places: NDArray[np.intp]
    weights: NDArray[np.float64]

    @staticmethod
    def of(core: NDArray[np.float64]) -> _Sample:
        flat = core.ravel()
        places = np.flatnonzero(flat > 1e-3 * flat.max())
        return _Sample(places, flat[places])

    def median(self, values: Float) -> float:
        """Weighted median of (h, w) values; 0 of an empty sample."""
        if not self.places.size:
            return 0.0
        chosen = values.ravel()[self.places]
        order = np.argsort(chosen)
        heap = np.cumsum(self.weights[order])
        return float(chosen[order][np.searchsorted(heap, heap[-1] / 2)])


def _beyond(ratio: NDArray[np.floating], rule: tuple[float, float, float]) -> Float:
    """Cost of a ratio: nothing up to the first figure, then the second for each unit, up to the third."""
    start, slope, limit = rule
    return np.asarray(slope * np.clip(ratio - start, 0, limit), dtype=np.float32)


def _percentile(values: Float, percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else 0.0
