"""The `classical` road segmenter: learns the road's look from the picture itself and cuts it out along the plane.

Called through the `RoadSegmenter` role. Clean-up and files are not its business, and nothing here may know a data set:
every constant is geometry of a car on a road, a property of 8-bit pictures, or a weight that all pictures share.

How a frame is segmented, at 320 pixels' width:
1. the vanishing point is voted for by edges (`road_shape.py`); below it lies the road plane. A video's camera is
   mounted, so that its frames vote for one horizon;
2. what is bright and narrow, as markings are, is replaced by what surrounds it (`road_appearance.py`);
3. the strip ahead of the car and the seeds that look like it teach what road looks like, the sides and the upper part
   what it does not look like;
4. colour, brightness, texture, ways without an edge, upright things, and the place on the plane are weighed for each
   pixel (`road_evidence.py`);
5. two paths over the plane, left and right, enclose what is road so far and end where the surface changes
   (`road_boundaries.py`); they and a look learned anew enter the next weighing;
6. in a video, what the frame before weighed is added, the less the more has changed;
7. a video's bonnet is left out (`bonnet.py`).

Limits: a pavement of the road's own colour without a kerb line belongs to the road; of a vehicle of the road's own
colour a part may; pictures without a road get masks too (`plausibility.py` tells them).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.bonnet import bonnet_rows
from lanepaint_assets.segmentation.point_grid import SPEC_GRID, PointGrid, grid_points
from lanepaint_assets.segmentation.road_appearance import (
    Appearance,
    Float,
    log_brightness,
    observe,
    without_markings,
)
from lanepaint_assets.segmentation.road_boundaries import find_boundaries, surface_edges
from lanepaint_assets.segmentation.road_evidence import ABOVE_HORIZON_WEIGHT, Evidence, Weights, gather
from lanepaint_assets.segmentation.road_shape import (
    MOUNTED_SPREAD,
    RoadPlane,
    VanishingVotes,
    choose_vanishing_point,
    vanishing_votes,
)

Mask = NDArray[np.bool_]

# A lane marking is still a pixel wide 15 m ahead; larger frames cost more and tell no more.
WORK_WIDTH_PX = 320
# The picture as a whole must vary by 2 % in brightness, or there is nothing to see in it.
MIN_CONTRAST = 0.02
# Frames that vote for a clip's vanishing point: turns and junctions are outvoted, more cost time.
VOTING_FRAMES = 12
SEED_RADIUS_SHARE, SEED_WEIGHT = 0.02, 0.1
# Log odds, colour and texture together, from which a seed agrees with the strip ahead.
AGREES = 1.0
# What lane markings are wide, in columns: half a metre. Narrower strips unlike the road are road.
MARKING_COLUMNS = 13

# The first look knows no boundaries; two more follow, in a video one, for the frames before have looked already.
FIRST_LOOK = Weights(
    certain=5.39,
    warm=-0.55,
    cool=0.08,
    tinted=-0.15,
    bright=0.38,
    very_bright=3.14,
    dark=-0.17,
    very_dark=0.63,
    rough=-0.72,
    way=-2.12,
    long_way=1.27,
    column=-0.80,
    restless=0.98,
    aside=-1.32,
    far_aside=0.98,
    near=9.89,
    near_aside=-1.79,
    upright=-0.60,
    low=-17.83,
    boxed=-1.00,
    colour=0.46,
    texture=-0.21,
    inside=0.00,
)
LATER_LOOK = Weights(
    certain=1.71,
    warm=-0.02,
    cool=0.18,
    tinted=-0.06,
    bright=2.05,
    very_bright=0.64,
    dark=1.04,
    very_dark=-0.45,
    rough=-0.17,
    way=-1.74,
    long_way=1.44,
    column=-0.56,
    restless=0.51,
    aside=0.49,
    far_aside=-0.31,
    near=6.03,
    near_aside=-0.80,
    upright=-0.48,
    low=-11.81,
    boxed=-1.00,
    colour=0.89,
    texture=-0.07,
    inside=3.01,
)
LATER_LOOKS, LATER_LOOKS_IN_VIDEO = 2, 1

KEEP_VOTES = 0.7
# What a log odd of the frame before adds to this one's, where nothing moved; and the range that it counts in. The look
# is learned anew in each frame: a remembered one takes in a gravel shoulder and keeps it (a rendered city drive: 0.89
# against 0.97).
MEMORY_WEIGHT, MEMORY_LIMIT = 0.3, 3.0
# Mean difference of log brightness at which the last frame counts for a third.
SAME_SCENE = 0.1


@dataclass(frozen=True, eq=False)
class _Memory:
    """What frame k tells frame k+1."""

    luma: Float
    votes: VanishingVotes
    odds: Float

    def likeness(self, luma: Float) -> float:
        """1 for the same picture, towards 0 for another scene: frames far apart in time guide each other little."""
        return float(np.exp(-np.mean(np.abs(luma - self.luma)) / SAME_SCENE))


class ClassicalRoadSegmenter:
    """Weight-free `RoadSegmenter`; see the module's description. It holds no state between calls."""

    name = "classical"
    version = "2"

    def __init__(self, grid: PointGrid = SPEC_GRID) -> None:
        self._grid = grid

    def segment_picture(self, frame: NDArray[np.uint8]) -> Mask:
        """Raw road mask (H, W) of one sRGB frame (H, W, 3); all False where no road can be told from the rest."""
        return np.asarray(self.segment_video(frame[None])[0])

    def segment_video(self, frames: NDArray[np.uint8]) -> Mask:
        """Raw road masks (T, H, W) of sRGB frames (T, H, W, 3), each guided by the one before."""
        masks = np.zeros(frames.shape[:3], dtype=np.bool_)
        memory: _Memory | None = None
        lumas = _clip_lumas(frames)
        mounted = _clip_vanishing_point(lumas)
        for index, frame in enumerate(frames):
            masks[index], memory = self._segment(_reduced(frame), mounted, memory, frame.shape[:2])
        bonnet = bonnet_rows(lumas)
        if bonnet is not None:
            masks &= ~_below(bonnet, lumas[0].shape[0], frames.shape[1:3])
        return masks

    def _segment(
        self,
        picture: NDArray[np.uint8],
        mounted: tuple[float, float] | None,
        memory: _Memory | None,
        size: tuple[int, int],
    ) -> tuple[Mask, _Memory | None]:
        height, width = picture.shape[:2]
        luma = log_brightness(picture)
        if float(luma.std()) < MIN_CONTRAST:
            return np.zeros(size, dtype=np.bool_), memory
        votes = vanishing_votes(luma, None if mounted is None else mounted[1])
        if memory is not None:
            votes = memory.votes.mixed_with(votes, KEEP_VOTES)
        if mounted is None:
            x, y = choose_vanishing_point(votes)
        else:
            x, y = choose_vanishing_point(votes, mounted, MOUNTED_SPREAD)
        plane = RoadPlane.at(x * width, y * height, width, height)
        evidence = gather(observe(without_markings(picture, plane.nearness_by_row)), plane, luma)
        edges = surface_edges(evidence.look, plane)

        odds = evidence.log_odds(FIRST_LOOK, self._first_appearance(evidence), None)
        for _ in range(LATER_LOOKS if memory is None else LATER_LOOKS_IN_VIDEO):
            boundaries = find_boundaries(plane, _rectified(plane, odds), edges)
            odds = evidence.log_odds(LATER_LOOK, _learned(evidence, odds), boundaries.inside(plane))
        if memory is not None:
            odds = odds + MEMORY_WEIGHT * memory.likeness(luma) * np.clip(memory.odds, -MEMORY_LIMIT, MEMORY_LIMIT)
        road = np.where(plane.below, plane.pictured(_rectified(plane, odds)), -MEMORY_LIMIT).astype(np.float32)
        enlarged = cv2.resize(np.clip(road, -1, 1), size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged > 0), _Memory(luma, votes, odds)

    def _first_appearance(self, evidence: Evidence) -> Appearance:
        """The look of the road from the strip ahead and the seeds that agree with it."""
        core = Appearance.learned(evidence.look, evidence.core, evidence.elsewhere)
        colour, texture = core.log_ratios(evidence.look)
        seeds = self._agreeing_seeds(evidence.plane, colour + texture)
        return Appearance.learned(evidence.look, evidence.core + seeds, np.where(seeds > 0, 0.0, evidence.elsewhere))

    def _agreeing_seeds(self, plane: RoadPlane, likeness: Float) -> NDArray[np.float64]:
        """Weights (h, w) of discs around the grid's points that look like the strip ahead.

        A seed can lie on a pavement of a narrow street or on the vehicle in front; those disagree and are left out.
        """
        discs = np.zeros(likeness.shape, dtype=np.float64)
        radius = max(1, round(SEED_RADIUS_SHARE * plane.width))
        for x, y in grid_points(plane.width, plane.height, self._grid):
            disc = np.zeros(likeness.shape, dtype=np.uint8)
            cv2.circle(disc, (int(x), int(y)), radius, 1, cv2.FILLED)
            inside = (disc > 0) & plane.below
            if inside.any() and float(likeness[inside].mean()) > AGREES:
                discs[inside] = SEED_WEIGHT
        return discs


def _reduced(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    work_width = min(WORK_WIDTH_PX, width)
    work_height = max(1, round(height * work_width / width))
    return cv2.resize(frame, (work_width, work_height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _clip_lumas(frames: NDArray[np.uint8]) -> list[Float]:
    """Log brightness of reduced frames spread over a clip."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, VOTING_FRAMES).round().astype(int))
    return [log_brightness(_reduced(frames[index])) for index in chosen]


def _below(rows: NDArray[np.int64], reduced_height: int, size: tuple[int, int]) -> Mask:
    """(H, W) of `size`: True from the given rows (w,) of the reduced frame on."""
    height, width = size
    edge = np.interp(np.arange(width) * rows.size / width, np.arange(rows.size), rows * (height / reduced_height))
    return np.asarray(np.arange(height)[:, None] >= edge[None])


def _clip_vanishing_point(lumas: list[Float]) -> tuple[float, float] | None:
    """Where a clip's vanishing point mostly is, as shares of width and height; None for a single picture."""
    if len(lumas) < 2:
        return None
    ballots = [vanishing_votes(luma) for luma in lumas]
    mean = np.mean([ballot.votes for ballot in ballots], axis=0)
    return choose_vanishing_point(VanishingVotes(mean, ballots[0].xs, ballots[0].ys))


def _rectified(plane: RoadPlane, odds: Float) -> Float:
    """(R, OFFSETS) of log odds (h, w), strips as narrow as markings closed."""
    kernel = np.ones((1, MARKING_COLUMNS), dtype=np.uint8)
    return np.asarray(cv2.morphologyEx(plane.rectified(odds), cv2.MORPH_CLOSE, kernel), dtype=np.float32)


def _learned(evidence: Evidence, odds: Float) -> Appearance:
    """The look of what is road so far, each pixel by its probability."""
    road = 1 / (1 + np.exp(-odds.astype(np.float64)))
    below = evidence.plane.below
    return Appearance.learned(evidence.look, road * below, np.where(below, 1 - road, ABOVE_HORIZON_WEIGHT))
