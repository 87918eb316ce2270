"""A made-up clip that a painter is asked to paint when its checkpoint is checked.

Called by engines' smoke checks. What comes out is never looked at but for being numbers, so it need not show a road.
"""

from __future__ import annotations

import numpy as np

from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.ego_estimation import standing_still
from lanepaint_assets.lanes.geometry import assumed_camera

# Two frames: the second is one that a video model has to paint. 64 pixels are four of FLUX's tokens a side.
FRAMES, SIDE_PX = 2, 64

SMOKE_INSTRUCTION = PaintInstruction(
    style=LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID),
    caption="road with single white solid lane markings",
    marking_standard="us",
    seed=0,
)


def smoke_scene() -> EditScene:
    """Noise, in whose middle may be painted."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    masks = np.zeros(frames.shape[:3], dtype=np.bool_)
    masks[:, SIDE_PX // 4 : -SIDE_PX // 4, SIDE_PX // 4 : -SIDE_PX // 4] = True
    times = np.arange(FRAMES, dtype=np.int64) * 125_000
    return EditScene("smoke check", frames, times, masks, assumed_camera(SIDE_PX, SIDE_PX), standing_still(times))
