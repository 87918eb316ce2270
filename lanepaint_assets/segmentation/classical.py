"""The `classical` road segmenter: learns the road's look from the picture itself and cuts it out along the plane.

Called through the `RoadSegmenter` role. Clean-up and files are not its business, and nothing here may know a data set:
every constant is either geometry of a car on a road or a property of 8-bit pictures.

How a frame is segmented, at 320 pixels' width:
1. the vanishing point is voted for by edges (`road_shape.py`); below it lies the road plane;
2. the strip ahead of the car and the seeds that look like it teach what road looks like, the sides and the upper part
   what it does not look like (`road_appearance.py`); in a video, the frames before teach too;
3. two paths over the plane, left and right, enclose what looks like road and end where the surface changes;
4. upright things are cut out: above an object's foot, its column of the picture shows no road up to the horizon;
   vehicles of the road's own colour are found by their outline (`upright_boxes.py`);
5. steps 3 and 4 teach the look again, and are repeated.

Limits: a pavement of the road's own colour without a kerb line belongs to the road; a vehicle of the road's own colour
seen from the side may, in part; a frame of sky or trees alone gets a mask of its lower part, only a frame of one colour
or of noise gets none; where a vehicle cuts the visible road in two, the clean-up keeps the larger part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.point_grid import SPEC_GRID, PointGrid, grid_points
from lanepaint_assets.segmentation.road_appearance import Appearance, Float, Look, observe
from lanepaint_assets.segmentation.road_shape import (
    RoadPlane,
    VanishingVotes,
    best_heights,
    best_path,
    choose_vanishing_point,
    vanishing_votes,
)
from lanepaint_assets.segmentation.upright_boxes import find_boxes

Mask = NDArray[np.bool_]

# A lane marking is still a pixel wide 15 m ahead; larger frames cost more and tell no more.
WORK_WIDTH_PX = 320
# The picture as a whole must vary by 2 % in brightness, or there is nothing to see in it.
MIN_CONTRAST = 0.02
# Road and the rest must differ by this much log odds on average; else the cut is arbitrary.
MIN_SEPARATION = 0.5

# Offsets are in frame widths at the bottom row, some 3.5 m (`road_shape.OFFSET_LIMIT`).
# The car is wider than 0.2, so this much to either side is lane; the boundaries cannot be nearer than half of it.
CORE_OFFSET, MIN_HALF_WIDTH = 0.2, 0.1
# Farther out than a lane: teaches what is not road until the boundaries are known.
SIDE_OFFSET = 1.0
# Sky and houses differ from road more than verges do; they must not drown these.
ABOVE_HORIZON_WEIGHT = 0.3
# Below this share of the height the bonnet may be in the picture.
BONNET_FROM_CORE, BONNET_FROM = 0.93, 0.80
SEED_RADIUS_SHARE = 0.02

# Clutter: brightness changes along the direction of travel, against the road's own. Lane lines run with it and cause
# none, vehicles and kerbs across do.
CLUTTER_WINDOW_PX, CLUTTER_FROM, CLUTTER_LIMIT, CLUTTER_FLOOR = 11, 3.0, 2.0, 0.008
CLUTTER_COST = 0.5
ROUGH_WINDOW_PX, ROUGH_FLOOR = 15, 0.01

# Log odds before looking: road straight ahead, as likely as not 0.75 aside, unlikely beyond.
PRIOR_AHEAD, PRIOR_SLOPE, PRIOR_RANGE, PRIOR_WEIGHT = 1.2, 1.6, (-2.0, 1.0), 0.5
# Neighbouring pixels repeat each other's evidence, so a pixel counts for little against the boundary's own contrast.
REGION_WEIGHT = 0.06
# Windows of 12 columns, half a metre, to either side of a boundary; brightness counts less, since shadows change it.
EDGE_WINDOW, EDGE_SMOOTHING_ROWS = 12, 5
EDGE_CUE_WEIGHTS = np.array([0.3, 1.0, 1.0])
EDGE_CUE_FLOOR = np.array([0.03, 0.006, 0.006])
EDGE_SATURATION = 8.0
NOISE_HALF_WIDTH = 35
STEP_REACH = 6
MIN_STEP_COST = 0.3
MEMORY_COST, MEMORY_LIMIT = 0.05, 30.0

# What lane markings are wide, in columns: half a metre. Narrower strips unlike the road are road.
MARKING_COLUMNS = 13
# A road pixel cannot look very unlike road, but an object may look like anything: so likeness counts little.
LIKENESS_RANGE = (-2.0, 0.5)
# What an upright box takes from the likeness of its pixels: more than a car body of the road's colour gains.
BOX_COST = 1.0
HEIGHT_STEP_COST, HEIGHT_JUMP_COST = 0.5, 6.0

ROUNDS = 3
KEEP_LOOK, KEEP_LOOK_WHEN_SURPRISED, KEEP_LOOK_IN_ROUND, KEEP_VOTES = 0.85, 0.2, 0.6, 0.7
# The strip ahead should look like the road did a frame ago; below this log odds the surface has changed.
SURPRISE = 0.5
# Mean difference of log brightness at which the last frame's boundaries count for a third.
SAME_SCENE = 0.1


@dataclass(frozen=True, eq=False)
class _Boundaries:
    """The two paths of a frame: picture rows (R,), bottom first, and the plane's columns left and right."""

    rows: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Left and right columns at other rows, bottom first."""
        left, right = (
            np.interp(rows[::-1], self.rows[::-1], path[::-1])[::-1].astype(np.float64)
            for path in (self.left, self.right)
        )
        return left, right


@dataclass(frozen=True, eq=False)
class _Memory:
    """What frame k tells frame k+1."""

    luma: Float
    votes: VanishingVotes
    appearance: Appearance
    boundaries: _Boundaries

    def likeness(self, look: Look) -> float:
        """1 for the same picture, towards 0 for another scene: frames far apart in time guide each other little."""
        return float(np.exp(-np.mean(np.abs(look.luma - self.luma)) / SAME_SCENE))


@dataclass(frozen=True, eq=False)
class _Scene:
    """One frame with what is computed once for all rounds.

    Attributes:
        look: the frame.
        plane: the road plane.
        clutter: (h, w) how much more restless than the road, 0 to `CLUTTER_LIMIT`.
        boxed: (h, w) True where an upright box stands.
        core: (h, w) weights of the strip ahead.
        elsewhere: (h, w) weights of what is hardly road.
        edge: (R, OFFSETS) contrast between left and right of each place on the plane, 0 to 1.
    """

    look: Look
    plane: RoadPlane
    clutter: Float
    boxed: Mask
    core: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    edge: Float


class ClassicalRoadSegmenter:
    """Weight-free `RoadSegmenter`; see the module's description. It holds no state between calls."""

    name = "classical"
    version = "1"

    def __init__(self, grid: PointGrid = SPEC_GRID) -> None:
        self._grid = grid

    def segment_picture(self, frame: NDArray[np.uint8]) -> Mask:
        """Raw road mask (H, W) of one sRGB frame (H, W, 3); all False where no road can be told from the rest."""
        return self._segment(frame, None)[0]

    def segment_video(self, frames: NDArray[np.uint8]) -> Mask:
        """Raw road masks (T, H, W) of sRGB frames (T, H, W, 3), each guided by the one before."""
        masks = np.zeros(frames.shape[:3], dtype=np.bool_)
        memory: _Memory | None = None
        for index, frame in enumerate(frames):
            masks[index], memory = self._segment(frame, memory)
        return masks

    def _segment(self, frame: NDArray[np.uint8], memory: _Memory | None) -> tuple[Mask, _Memory | None]:
        height, width = frame.shape[:2]
        work_width = min(WORK_WIDTH_PX, width)
        work_height = max(1, round(height * work_width / width))
        look = observe(frame, work_width, work_height)
        if float(look.luma.std()) < MIN_CONTRAST:
            return np.zeros((height, width), dtype=np.bool_), memory

        votes = vanishing_votes(look.luma)
        if memory is not None:
            votes = memory.votes.mixed_with(votes, KEEP_VOTES)
        scene = _scene(
            look, RoadPlane.at(*choose_vanishing_point(votes, work_width, work_height), work_width, work_height)
        )
        appearance = self._first_appearance(scene, memory)
        remembered = None if memory is None else memory.appearance
        for _ in range(ROUNDS):
            odds = appearance.log_odds(look)
            boundaries = _boundaries(scene, odds, memory)
            surface = scene.plane.between(boundaries.left, boundaries.right)
            road = surface & ~_objects(scene, odds, surface)
            appearance = _mixed(remembered, _learned(scene, road), KEEP_LOOK_IN_ROUND)
        if not _stands_out(odds, road):
            return np.zeros((height, width), dtype=np.bool_), memory

        enlarged = cv2.resize(road.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged > 0.5), _Memory(look.luma, votes, appearance, boundaries)

    def _first_appearance(self, scene: _Scene, memory: _Memory | None) -> Appearance:
        """The look of the road from the strip ahead, the seeds that agree with it, and the frames before."""
        core = Appearance.learned(scene.look, scene.core, scene.elsewhere)
        weights = scene.core + self._agreeing_seeds(scene, core.log_odds(scene.look))
        fresh = Appearance.learned(scene.look, weights, np.where(weights > scene.core, 0.0, scene.elsewhere))
        if memory is None:
            return fresh
        odds = memory.appearance.log_odds(scene.look)
        familiar = float((odds * scene.core).sum() / max(float(scene.core.sum()), 1e-6)) > SURPRISE
        return memory.appearance.mixed_with(fresh, KEEP_LOOK if familiar else KEEP_LOOK_WHEN_SURPRISED)

    def _agreeing_seeds(self, scene: _Scene, odds: Float) -> NDArray[np.float64]:
        """Weights (h, w) of discs around the grid's points that look like the strip ahead.

        A seed can lie on a pavement of a narrow street or on the vehicle in front; those disagree and are left out.
        """
        plane = scene.plane
        discs = np.zeros(odds.shape, dtype=np.float64)
        radius = max(1, round(SEED_RADIUS_SHARE * plane.width))
        for x, y in grid_points(plane.width, plane.height, self._grid):
            disc = np.zeros(odds.shape, dtype=np.uint8)
            cv2.circle(disc, (int(x), int(y)), radius, 1, cv2.FILLED)
            inside = (disc > 0) & plane.below
            if inside.any() and float(odds[inside].mean()) > SURPRISE:
                discs[inside] = 1.0
        return discs


def _scene(look: Look, plane: RoadPlane) -> _Scene:
    gradient_x, gradient_y = (cv2.Sobel(look.luma, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    row, column = np.mgrid[0 : plane.height, 0 : plane.width].astype(np.float32)
    towards_x, towards_y = column - plane.x, row - plane.y
    along = np.abs(gradient_x * towards_x + gradient_y * towards_y) / (np.hypot(towards_x, towards_y) + 1e-3)
    along = cv2.blur(along, (CLUTTER_WINDOW_PX, CLUTTER_WINDOW_PX))
    rough = cv2.blur(np.hypot(gradient_x, gradient_y), (ROUGH_WINDOW_PX, ROUGH_WINDOW_PX))

    # No car body in the sample of road.
    boxed = np.zeros(plane.below.shape, dtype=np.bool_)
    for box in find_boxes(look.luma, plane):
        boxed[: box.foot, box.left : box.right] = True
    visible = plane.below & ~boxed & (row < BONNET_FROM_CORE * plane.height)
    lane = visible & (np.abs(plane.offset_at) < 2 * CORE_OFFSET)
    calm = max(float(np.percentile(along[lane], 40)) if lane.any() else 0.0, CLUTTER_FLOOR)
    smooth = max(float(np.percentile(rough[lane], 30)) if lane.any() else 0.0, ROUGH_FLOOR)
    clutter = np.clip(along / calm - CLUTTER_FROM, 0.0, CLUTTER_LIMIT).astype(np.float32)

    core = (visible & (np.abs(plane.offset_at) < CORE_OFFSET)) * np.exp(-rough / smooth - clutter)
    elsewhere = np.where(plane.below, boxed | (np.abs(plane.offset_at) > SIDE_OFFSET), ABOVE_HORIZON_WEIGHT)
    return _Scene(
        look, plane, clutter, boxed, core.astype(np.float64), elsewhere.astype(np.float64), _surface_edges(look, plane)
    )


def _surface_edges(look: Look, plane: RoadPlane) -> Float:
    """How much the surface differs between the half metres left and right of each place on the plane, 0 to 1.

    Measured against what the lane itself varies by, so that coarse asphalt needs a clearer edge than smooth.
    """
    window = EDGE_WINDOW
    cues = cv2.blur(plane.rectified(look.cues, repeat_edge=True), (1, EDGE_SMOOTHING_ROWS))
    sums = np.cumsum(np.pad(cues, ((0, 0), (1, 0), (0, 0))), axis=1)
    means = (sums[:, window:] - sums[:, :-window]) / window
    contrast = np.abs(means[:, window:] - means[:, :-window])
    # contrast[:, k] belongs to column k + window; the farthest third of the rows is too coarse to tell noise.
    lane = slice(max(0, plane.ahead - window - NOISE_HALF_WIDTH), plane.ahead - window + NOISE_HALF_WIDTH)
    near = contrast[: max(1, contrast.shape[0] * 2 // 3), lane]
    noise = np.percentile(near, 60, axis=(0, 1)) + EDGE_CUE_FLOOR
    edge = np.zeros(plane.map_x.shape, dtype=np.float32)
    edge[:, window : window + contrast.shape[1]] = contrast @ (EDGE_CUE_WEIGHTS / noise)
    return np.asarray(np.minimum(edge / EDGE_SATURATION, 1.0) * plane.in_picture, dtype=np.float32)


def _boundaries(scene: _Scene, odds: Float, memory: _Memory | None) -> _Boundaries:
    """Left and right paths that enclose the most road-like area and run along edges of the surface."""
    plane = scene.plane
    prior = np.clip(PRIOR_AHEAD - PRIOR_SLOPE * np.abs(plane.offsets), *PRIOR_RANGE)
    evidence = plane.rectified(_softened(odds)) + PRIOR_WEIGHT * prior[None]
    pixels = plane.pixels_a_column
    area = REGION_WEIGHT * np.cumsum(evidence, axis=1) * pixels[:, None]
    gain_left, gain_right = scene.edge - area, scene.edge + area
    if memory is not None:
        trust = MEMORY_COST * memory.likeness(scene.look)
        before = memory.boundaries.at(plane.rows)
        columns = np.arange(plane.offsets.size)[None]
        for gain, path in zip((gain_left, gain_right), before, strict=True):
            gain -= trust * np.minimum(np.abs(columns - path[:, None]), MEMORY_LIMIT) * pixels[:, None]
    step_cost = np.maximum(pixels, MIN_STEP_COST)
    half = plane.column_of(MIN_HALF_WIDTH) - plane.column_of(0.0)
    last = plane.offsets.size
    left = best_path(gain_left, step_cost, STEP_REACH, 0, max(plane.ahead - half, 2))
    right = best_path(gain_right, step_cost, STEP_REACH, min(plane.ahead + half, last - 2), last)
    return _Boundaries(plane.rows, left, right)


def _objects(scene: _Scene, odds: Float, surface: Mask) -> Mask:
    """What stands on the surface, and the bonnet: (h, w).

    A vehicle is at least about as tall as the camera is high, so it hides the road behind it up to the horizon: every
    column of the picture is road up to some height and object above it. The bonnet is the same from below.
    """
    plane = scene.plane
    likeness = plane.rectified(_softened(odds))
    unmarked = cv2.morphologyEx(likeness, cv2.MORPH_CLOSE, np.ones((1, MARKING_COLUMNS), dtype=np.uint8))
    likeness = np.clip(
        plane.pictured(np.asarray(unmarked, dtype=np.float32)) - CLUTTER_COST * scene.clutter, *LIKENESS_RANGE
    )
    likeness = np.where(scene.boxed, np.minimum(likeness, -BOX_COST), likeness) * surface
    row = np.arange(plane.height)[:, None]
    bonnet_from = int(BONNET_FROM * plane.height)

    upwards = np.where(row > bonnet_from, 0.0, likeness)[plane.rows]
    feet = best_heights(_running_gain(upwards), HEIGHT_STEP_COST, HEIGHT_JUMP_COST)
    # The bonnet's rows were left out on the way up, so no object starts in them; boxes are cut out by themselves.
    standing = (plane.height - 1 - row >= feet[None]) & (row <= bonnet_from)
    downwards = np.where(standing | scene.boxed, 0.0, likeness)[bonnet_from:]
    bonnet = bonnet_from + best_heights(_running_gain(downwards), HEIGHT_STEP_COST, HEIGHT_JUMP_COST)
    return np.asarray(surface & (standing | scene.boxed | (row >= bonnet[None])))


def _running_gain(likeness: NDArray[np.floating]) -> NDArray[np.float64]:
    """(columns, rows + 1): what a column gains when its first n rows are road."""
    gain = np.zeros((likeness.shape[1], likeness.shape[0] + 1))
    gain[:, 1:] = np.cumsum(likeness, axis=0).T
    return gain


def _softened(odds: Float) -> Float:
    return np.asarray(cv2.blur(odds, (3, 3)), dtype=np.float32)


def _learned(scene: _Scene, road: Mask) -> Appearance:
    elsewhere = np.where(scene.plane.below, 1.0, ABOVE_HORIZON_WEIGHT) * ~road
    return Appearance.learned(scene.look, road.astype(np.float64), elsewhere)


def _mixed(before: Appearance | None, now: Appearance, keep: float) -> Appearance:
    return now if before is None else before.mixed_with(now, keep)


def _stands_out(odds: Float, road: Mask) -> bool:
    """Whether what was cut out looks unlike what was left."""
    if not road.any() or road.all():
        return False
    return float(odds[road].mean() - odds[~road].mean()) > MIN_SEPARATION
