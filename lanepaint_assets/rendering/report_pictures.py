"""Small pictures that a report carries inside itself.

Called where a report is put together. Which of them there is room for is `report_budget.py`'s question.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.pictures import PictureError, read_picture
from lanepaint_assets.rendering.previews import before_after_cells

# A third of a JPEG's bytes at the same look; every browser since 2020 reads it.
QUALITY = 60
# Above it is sky in the pictures of a front camera.
SKY_SHARE = 0.45
SEAM_PX = 4


def thumbnail(data: bytes, width_px: int) -> bytes:
    """WebP of a PNG or JPEG picture, at most `width_px` wide.

    Raises:
        PictureError: the bytes are no picture.
    """
    return _webp(read_picture(data, "a picture of the report"), width_px)


def road_before_above_after(data: bytes, width_px: int) -> bytes:
    """WebP of the road in a `before_after` picture: the original above the edit, without the sky, at most so wide.

    Beside each other both would be too small for lane markings to be seen.

    Raises:
        PictureError: the bytes are no picture.
    """
    before, after = before_after_cells(read_picture(data, "a picture before and after"))
    sky = int(SKY_SHARE * before.shape[0])
    seam = np.full((SEAM_PX, before.shape[1], 3), 255, dtype=np.uint8)
    return _webp(np.concatenate([before[sky:], seam, after[sky:]]), width_px)


def _webp(picture: NDArray[np.uint8], width_px: int) -> bytes:
    height, width = picture.shape[:2]
    if width > width_px:
        size = (width_px, max(1, round(height * width_px / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    encoded, webp = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not encoded:
        raise PictureError(f"cannot encode a picture of shape {picture.shape} as WebP")
    return webp.tobytes()
