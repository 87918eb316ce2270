"""Whether a picture shows a road that can be read at all, and if not, why.

Called by the measured inspector before it looks for lines, so that a sky or a black picture gets a reason instead of
lines by chance. Thresholds are about light and colour of ground anywhere, not about one data set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.birds_eye import GroundGrid, sample_ground
from lanepaint_assets.lanes.paint_filter import linear_light
from lanepaint_assets.rendering.cameras import RigCamera

# The road just ahead, inside any ego lane.
CORRIDOR_HALF_WIDTH_M = 1.2
CORRIDOR_M = (6.0, 22.0)
# Linear light of the corridor: a lit night road is at 0.01, moonless ground under 0.003.
DARK_LIGHT = 0.004
# Grey levels: a picture that varies less has one colour, codec noise aside.
FLAT_GREY_LEVELS = 2.0
# Chroma over brightness: asphalt and concrete stay under 0.35 even at sunset; blue sky and grass reach 0.5.
ROAD_SATURATION = 0.45
# Change from cell to cell over light: asphalt with its lines and dappled shade reaches 0.15, most foliage passes 0.3.
FOLIAGE_ROUGHNESS = 0.3
# Sky and what is upside down is no darker than the top of the picture. So is a road under trees or in headlights,
# which is why one of these must hold as well (of 62 road pictures, real and rendered, none does):
LIGHT_OVER_ABOVE = 0.75
# - blue over red, linear: asphalt in open shade reaches 1.4, a clear sky starts at 1.5 (dusk turns both blue, and the
#   road then lies far under the sky's light);
SKY_BLUE = 1.45
# - linear light: concrete in full sun reaches 0.37, a clouded sky starts at 0.5.
SKY_LIGHT = 0.48


def unreadable_reason(frame: NDArray[np.uint8], camera: RigCamera) -> str | None:
    """Why no road can be read in (H, W, 3) `frame`, or None where one may be there."""
    # One pixel in sixteen tells as much about the whole picture.
    if float(frame[::4, ::4].reshape(-1, 3).std(axis=0).max()) < FLAT_GREY_LEVELS:
        return "the picture is all one colour"
    near = max(CORRIDOR_M[0], float(camera.position_m[0]) + 3.0)
    grid = GroundGrid(
        near, near + CORRIDOR_M[1] - CORRIDOR_M[0], -CORRIDOR_HALF_WIDTH_M, CORRIDOR_HALF_WIDTH_M, 0.1, 0.4
    )
    ground, seen = sample_ground(frame, camera, grid)
    if seen.mean() < 0.25:
        return "the camera does not see the road ahead"
    colors = linear_light(ground[seen].astype(np.float32))
    light = colors.mean(axis=1)
    median = float(np.median(light))
    if median < DARK_LIGHT:
        return "the road ahead is too dark to be read"
    saturation = (ground[seen].max(axis=1) - ground[seen].min(axis=1)) / np.maximum(ground[seen].max(axis=1), 1.0)
    if float(np.median(saturation)) > ROAD_SATURATION:
        return "what lies ahead has not the colour of a road"
    rough = float(np.median(np.abs(np.diff(light)))) / max(median, 1e-3)
    if rough > FOLIAGE_ROUGHNESS:
        return "what lies ahead is as rough as foliage; is there a road in the picture?"
    above = float(linear_light(frame[: frame.shape[0] // 4].astype(np.float32)).mean())
    if median < LIGHT_OVER_ABOVE * above:
        return None
    blue = float(np.median(colors[:, 2] / np.maximum(colors[:, 0], 1e-3)))
    if blue > SKY_BLUE:
        return "what lies ahead is as blue as sky and no darker than what is above it; is the picture upside down?"
    if median > SKY_LIGHT:
        return "what lies ahead is as bright as sky and no darker than what is above it; is the picture upside down?"
    return None
