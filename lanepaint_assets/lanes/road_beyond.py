"""Pavement that a road mask left out: ground of the road's own colour that continues it, in the sun or in shadow.

Called by lane detection. Masks end at hard shadows, at edge lines and behind vehicles; lane lines do not. Whether a
line lies there is decided elsewhere.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.paint_filter import DARK_FLOOR, linear_light
from lanepaint_assets.lanes.strip import RoadStrip

# Ground is judged in blocks of this many cells along and across, 0.6 m by 0.5 m: asphalt's grain and thin lines
# average out.
BLOCK_CELLS = (3, 10)
# Fewer blocks of road than this, 12 square metres, tell nothing about its colour.
MIN_BLOCKS = 40
# Logarithms of red and of blue over green may differ from the road's by so much: pavement that masks left out lies
# within 0.2 of it, sun against shadow included, soil and grass beyond 0.4 in blue (sixteen development clips).
MAX_RED_OFF = 0.20
MAX_BLUE_OFF = 0.22
# So much darker or brighter may it be, logarithm of light: from a sunny road into deep shadow, and out of it.
LIGHT_OFF = (-1.7, 1.4)


def pavement_beyond(strip: RoadStrip) -> NDArray[np.bool_]:
    """(rows, columns) bool, True on ground off the mask that continues the road."""
    rows, columns = strip.seen.shape
    size = (columns // BLOCK_CELLS[1], rows // BLOCK_CELLS[0])

    def blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)

    road = blocks(strip.on_road.astype(np.float32)) > 0.9
    if road.sum() < MIN_BLOCKS:
        return np.zeros((rows, columns), dtype=np.bool_)
    tone = np.log(linear_light(blocks(strip.rgb)) + np.float32(DARK_FLOOR))
    alike = blocks(strip.seen.astype(np.float32)) > 0.9
    for channel, most in ((0, MAX_RED_OFF), (2, MAX_BLUE_OFF)):
        color = tone[..., channel] - tone[..., 1]
        alike &= np.abs(color - np.median(color[road])) < most
    light = tone.mean(axis=2)
    off = light - np.median(light[road])
    alike &= (off > LIGHT_OFF[0]) & (off < LIGHT_OFF[1])
    # Wide paint, cracks and wheel tracks of dirt part no road: gaps of one block are closed.
    paved = cv2.morphologyEx((alike | road).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(paved, connectivity=4)
    joined = np.isin(labels, labels[road]) & (paved > 0)
    cells = cv2.resize(joined.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    return np.asarray(cells & strip.seen & ~strip.on_road)
