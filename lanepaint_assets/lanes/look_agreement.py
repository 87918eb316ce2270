"""Which looks at the ground show the ground: what most of them show is road or verge, the rest is a vehicle before it.

Called by the strip's accumulation. Masks let the flanks and the queues of vehicles through; the ground stays where it
is while vehicles move over it. What is blended, and how, is the strip's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# With two looks that differ nobody can tell which one is right.
MIN_LOOKS = 3
# Looks are compared in blocks of this many cells along and across, 0.6 m by 0.5 m: paint, displaced by the vehicle's
# nods, hardly changes their mean, a vehicle does.
BLOCK_CELLS = (3, 10)
# A look counts less with its distance, by this scale: far ones are blurred, but a vehicle beside the own one hides the
# ground from all near looks.
VOTE_SCALE_M = 15.0
# What a look counts where the mask says that it shows no road: masks err at hard shadows.
OFF_ROAD_VOTE = 0.3
# Logarithms of sRGB: a nod moves a shadow's edge by less, most paintwork differs from asphalt by more.
UNALIKE = 0.25
# sRGB steps added before the logarithm, so that noise in deep shadow is no difference.
DARK_SRGB = 8.0


@dataclass(frozen=True, eq=False)
class Looks:
    """The ground as each of T pictures shows it, on the cells of one grid.

    Attributes:
        rgb: (T, rows, columns, 3) sRGB.
        valid: (T, rows, columns) the cell is in the picture.
        road: (T, rows, columns) and road there.
        ahead_m: (T, rows, columns) float32, distance ahead of the lens.
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    road: NDArray[np.bool_]
    ahead_m: Float32


def doubtful_blocks(looks: Looks) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a look shows something else than the other ones.

    Returns:
        (T, block rows, block columns) bool, True where it does; and the same with a block more on all sides, for a
        vehicle's rim changes a block's mean too little. Nothing is doubtful in fewer than `MIN_LOOKS` looks.
    """
    count, rows, columns = looks.valid.shape
    size = (columns // BLOCK_CELLS[1], rows // BLOCK_CELLS[0])
    if count < MIN_LOOKS:
        none = np.zeros((count, size[1], size[0]), dtype=np.bool_)
        return none, none

    def blocks(layers: Sequence[NDArray[np.uint8] | Float32]) -> Float32:
        means = [cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in layers]
        return np.stack(means).astype(np.float32)

    tone = np.log(blocks(list(looks.rgb)) + np.float32(DARK_SRGB))
    valid = blocks([255 * layer.astype(np.uint8) for layer in looks.valid]) > 0.9 * 255
    road = blocks([255 * layer.astype(np.uint8) for layer in looks.road]) / 255
    fade = np.exp(-blocks(list(looks.ahead_m)) / VOTE_SCALE_M)
    vote = np.where(valid, fade * (OFF_ROAD_VOTE + (1.0 - OFF_ROAD_VOTE) * road), 0.0).astype(np.float32)
    usual = np.stack([_weighted_median(tone[..., channel], vote) for channel in range(3)], axis=-1)
    enough = valid.sum(axis=0) >= MIN_LOOKS
    unlike = (np.abs(tone - usual).max(axis=-1) > UNALIKE) & enough
    wide = np.stack([cv2.dilate(layer.astype(np.uint8), np.ones((3, 3), np.uint8)) for layer in unlike]) > 0
    return unlike, wide


def _weighted_median(values: Float32, weight: Float32) -> Float32:
    """Along the first axis."""
    order = np.argsort(values, axis=0)
    ranked = np.take_along_axis(values, order, axis=0)
    heap = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
    middle = (heap < 0.5 * heap[-1]).sum(axis=0)[None]
    chosen = np.take_along_axis(ranked, np.minimum(middle, values.shape[0] - 1), axis=0)[0]
    return np.asarray(chosen, dtype=np.float32)
