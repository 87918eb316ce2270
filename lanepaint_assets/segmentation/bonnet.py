"""Where a clip shows the vehicle's own bonnet: the one edge across the picture's lower end that never moves.

Called by the `classical` engine only, once a video. A single picture cannot tell a bonnet from road, so none is looked
for there. What the road looks like is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.road_appearance import Float

# Bonnets reach up to a quarter of the picture; on the lowest 2 % of the rows an edge is the picture's own.
FROM_SHARE, TO_SHARE = 0.75, 0.98
# Fewer frames leave the edges of the passing road in their mean.
MIN_FRAMES = 6
# Mean gradient of log brightness a pixel: a hard edge of a bonnet has 0.05 and more, what is left of a road 0.01. It
# has to stand in this share of the columns, which lane lines, running away from the camera, never do.
EDGE, COLUMNS_SHARE = 0.03, 0.8
# Rows that the edge may rise or fall from column to column.
STEEPEST = 1


def bonnet_rows(lumas: Sequence[Float]) -> NDArray[np.int64] | None:
    """The bonnet's upper edge.

    Args:
        lumas: log brightness (h, w) of frames spread over a clip in which the vehicle moves.

    Returns:
        (w,) the first row of the bonnet in each column, or None where none is seen.
    """
    if len(lumas) < MIN_FRAMES:
        return None
    height = lumas[0].shape[0]
    first, last = round(FROM_SHARE * height), round(TO_SHARE * height)
    # The median over time: a shadow or a car passes, the edge stays.
    steps = np.median([cv2.Sobel(luma, cv2.CV_32F, 0, 1) / 8 for luma in lumas], axis=0)[first:last]
    paths = [_strongest_path(sign * cv2.blur(steps.astype(np.float32), (3, 1))) for sign in (1.0, -1.0)]
    rows, strengths = max(paths, key=lambda path: float(np.median(path[1])))
    if float(np.mean(strengths > EDGE)) < COLUMNS_SHARE:
        return None
    return np.asarray(rows + first, dtype=np.int64)


def _strongest_path(strength: Float) -> tuple[NDArray[np.int64], Float]:
    """The path from left to right over (r, w) that gathers the most: its rows (w,), and its strength in each column."""
    count, width = strength.shape
    best = np.array(strength, dtype=np.float64)
    came = np.zeros((count, width), dtype=np.int64)
    rows = np.arange(count)
    for column in range(1, width):
        options = np.stack(
            [_shifted(best[:, column - 1], step) for step in range(-STEEPEST, STEEPEST + 1)]
        )  # what the neighbour at each step would bring
        choice = np.argmax(options, axis=0)
        came[:, column] = np.clip(rows + choice - STEEPEST, 0, count - 1)
        best[:, column] += options[choice, rows]
    path = np.empty(width, dtype=np.int64)
    path[-1] = int(np.argmax(best[:, -1]))
    for column in range(width - 1, 0, -1):
        path[column - 1] = came[path[column], column]
    return path, strength[path, np.arange(width)]


def _shifted(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """values[k + step] at k, minus infinity beyond the ends."""
    result = np.full_like(values, -np.inf)
    if step >= 0:
        result[: values.size - step] = values[step:]
    else:
        result[-step:] = values[:step]
    return result
