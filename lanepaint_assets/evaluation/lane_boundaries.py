"""Which of the measured lines bound the vehicle's own lane.

The `lane_follow` driver keeps between them, `off_lane.py` counts waypoints against them. Finding lines in pictures is
`lanepaint_assets.lanes`' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.evaluation.lane_course import HALF_WIDTH_M

if TYPE_CHECKING:
    from lanepaint_assets.lanes.inspector import LaneLine

# On sample drives boundaries measure 0.6 and more; what the grain of bare asphalt gives rise to stays below 0.5.
MIN_LINE_CONFIDENCE = 0.5
# Traffic lanes from narrow urban to wide motorway; outside it, one of the two lines is not this lane's boundary.
LANE_WIDTH_RANGE_M = (2.2, 4.5)
# Without calibration the camera's assumed height scales every metre; lanes of 3.7 m then measured up to 4.8 m.
UNCALIBRATED_SCALE = 1.3
# Where the two boundaries are compared: 10 m is near enough to be sharp and far enough to be in every camera's view; at
# 25 m a pixel is still below 0.1 m. A lane widens by less than this between them, a wrong line leaves it.
WIDTH_AT_X_M = np.array([10.0, 25.0])
MAX_WIDENING_M = 0.8


@dataclass(frozen=True)
class LaneBoundaries:
    """The lines beside the vehicle; one may be None. `note` says what was left out and why."""

    left: LaneLine | None
    right: LaneLine | None
    note: str | None


def lane_boundaries(lines: tuple[LaneLine, ...], is_calibrated: bool = True) -> LaneBoundaries | None:
    """The ego lane's boundaries that were measured well enough; None where neither was.

    Args:
        lines: of one frame; only the ego lane's boundaries are read.
        is_calibrated: False allows widths that a wrong camera height explains.
    """
    left, right, note = _of_one_lane(_boundary(lines, "ego_left"), _boundary(lines, "ego_right"), is_calibrated)
    if left is None and right is None:
        return None
    if left is None or right is None:
        side = "left" if right is None else "right"
        note = note or f"only the {side} boundary seen, a lane of {2 * HALF_WIDTH_M} m assumed"
    return LaneBoundaries(left, right, note)


def _of_one_lane(
    left: LaneLine | None, right: LaneLine | None, is_calibrated: bool
) -> tuple[LaneLine | None, LaneLine | None, str | None]:
    """Both boundaries where they can be one lane's; otherwise one of them, and a note that says why."""
    if left is None or right is None:
        return left, right, None
    near, far = left.lateral_m(WIDTH_AT_X_M) - right.lateral_m(WIDTH_AT_X_M)
    scale = 1.0 if is_calibrated else UNCALIBRATED_SCALE
    if not LANE_WIDTH_RANGE_M[0] / scale <= near <= LANE_WIDTH_RANGE_M[1] * scale:
        note = f"boundaries {near:.1f} m apart are not one lane's, only the clearer one is used"
        keep_left = left.confidence >= right.confidence
    elif abs(far - near) > MAX_WIDENING_M * scale:
        # The vehicle drives along its lane: the boundary that leaves its heading the least is the true one.
        note = f"boundaries {near:.1f} m and then {far:.1f} m apart are not one lane's, only one is used"
        keep_left = abs(left.coefficients[1]) <= abs(right.coefficients[1])
    else:
        return left, right, None
    return (left, None, note) if keep_left else (None, right, note)


def _boundary(lines: tuple[LaneLine, ...], role: str) -> LaneLine | None:
    """The most certain line of a role, None where none is certain enough."""
    candidates = [line for line in lines if line.role == role and line.confidence >= MIN_LINE_CONFIDENCE]
    return max(candidates, key=lambda line: line.confidence, default=None)
