"""Temporal warp error: whether what is painted on the road moves as the road does.

Called by `quality_steps.py`. A frame is compared with its successor carried back along the road's motion, which
`road_motion.py` takes from the vehicle's path and the original's pictures, never from the edited ones: an edit whose
paint swims must not bring along a motion of its own that excuses it. Both videos are carried by the same motion and
measured on the same pixels, so that their difference is the edit's. Dense optical flow of the original is no better
source, smoothed or not: it follows shadows and the noise of bare asphalt, on which new lines lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.road_motion import RoadStep, registered
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets.rendering.region_quality import spread_frames

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

# Pairs of neighbouring frames, evenly spread: each takes some 0.1 s at 960x540.
WARP_PAIRS = 24
# Pictures whose light, averaged over this share of the width, still differs by so many grey levels show something that
# does not move with the road: a vehicle, its shadow, a wiper. A misplaced line averages out over so wide a square.
STRANGE_SHARE, STRANGE_LEVELS = 0.025, 20.0
# Fewer common pixels of road say nothing of a pair.
MIN_PIXELS = 200
PEAK = 255.0


@dataclass(frozen=True)
class WarpErrors:
    """Mean squared difference of pixel values 0..1, of both videos; None, with the reason, where nothing compares."""

    edited: float | None
    original: float | None
    pairs: int
    reason: str | None = None


def warp_errors(
    original: NDArray[np.uint8],
    edited: NDArray[np.uint8],
    paint_masks: Bool,
    taken_us: NDArray[np.int64],
    camera: RigCamera,
    ego: Egomotion,
) -> WarpErrors:
    """Compare neighbouring frames along the motion of the road.

    Args:
        original, edited: (T, H, W, 3) sRGB uint8.
        paint_masks: (T, H, W) bool, road without vehicles; a pixel counts where both frames of a pair show road.
        taken_us: (T,) when each frame was taken.
        camera: of the frames' size.
        ego: the vehicle's path.

    Returns:
        Means over all pixels of `WARP_PAIRS` pairs. Frames shown twice are no pair.

    Raises:
        ValueError: the shapes differ.

    Source: the warp error of Lai et al. 2018 (Learning blind video temporal consistency), with the road's motion in
    place of optical flow of the pictures that are judged.
    """
    if original.shape != edited.shape or original.shape[:3] != paint_masks.shape:
        raise ValueError(f"the original is {original.shape}, the edit {edited.shape}, the masks {paint_masks.shape}")
    if not paint_masks.any():
        return WarpErrors(None, None, 0, "the paint mask is empty in every frame")
    first, last = ego.span_us
    known = (taken_us[:-1] >= first) & (taken_us[1:] <= last) & (np.diff(taken_us) > 0)
    candidates = np.flatnonzero(known)
    if not candidates.size:
        return WarpErrors(None, None, 0, "the vehicle's motion is not known for two neighbouring frames")
    sums, pixels, pairs = np.zeros(2), 0, 0
    for k in candidates[spread_frames(candidates.size, WARP_PAIRS)]:
        pair = slice(int(k), int(k) + 2)
        step = registered(RoadStep.of(camera, ego, taken_us[pair]), original[pair], paint_masks[pair])
        squared, count = _pair_errors(original[pair], edited[pair], paint_masks[pair], step.field())
        if count >= MIN_PIXELS:
            sums, pixels, pairs = sums + squared, pixels + count, pairs + 1
    if not pairs:
        return WarpErrors(None, None, 0, "no two neighbouring frames show the same road")
    original_error, edited_error = sums / pixels
    return WarpErrors(float(edited_error), float(original_error), pairs)


def _pair_errors(
    original: NDArray[np.uint8], edited: NDArray[np.uint8], masks: Bool, motion: Float32
) -> tuple[Float, int]:
    """Summed squared differences of the original and the edit, and on how many pixels."""
    x, y = motion[..., 0], motion[..., 1]
    in_picture = (x >= 0) & (x <= masks.shape[2] - 1) & (y >= 0) & (y <= masks.shape[1] - 1)
    on_road = cv2.remap(masks[1].astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    carried = [
        cv2.remap(video[1], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) for video in (original, edited)
    ]
    strange = _strange(original[0], np.where(in_picture[..., None], carried[0], original[0]))
    usable = masks[0] & in_picture & (on_road > 0) & ~strange
    differences = [
        (video[0][usable].astype(np.float64) - there[usable]) / PEAK
        for video, there in zip((original, edited), carried, strict=True)
    ]
    squared = np.array([float((step**2).mean(axis=-1).sum()) for step in differences])
    return squared, int(usable.sum())


def _strange(here: NDArray[np.uint8], carried: NDArray[np.uint8]) -> Bool:
    """(H, W), True where two originals show different things."""
    side = max(3, round(STRANGE_SHARE * here.shape[1]))
    step = cv2.absdiff(
        cv2.blur(cv2.cvtColor(here, cv2.COLOR_RGB2GRAY), (side, side)),
        cv2.blur(cv2.cvtColor(carried, cv2.COLOR_RGB2GRAY), (side, side)),
    )
    return np.asarray(step > STRANGE_LEVELS)
