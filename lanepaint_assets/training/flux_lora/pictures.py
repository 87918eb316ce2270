"""A sample's picture and mask in the size of the training, as the network would see them in inference.

Called when examples are encoded. Which pixels are road was decided when the sample was made.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.rendering.mask_edges import MaskEdges, model_mask
from lanepaint_assets.store.items import StepError


def training_view(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], width: int, height: int, edges: MaskEdges, what: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scale a sample evenly until it covers the wanted size, cut out the part with the road, and grow its mask.

    The mask grows after scaling: `edges` are pixels of the picture that the network is shown, as in inference.

    Args:
        picture: (H, W, 3) sRGB.
        mask: (H, W), True on road.
        width, height: wanted, in pixels.
        edges: growth of the mask.
        what: names the sample in messages.

    Returns:
        (height, width, 3) and (height, width), True where the network is to paint.

    Raises:
        StepError: picture and mask differ in size, or the mask is empty.
    """
    if mask.shape != picture.shape[:2]:
        raise StepError(f"sample {what}: its mask is {mask.shape}, its picture {picture.shape[:2]}; make it again")
    if not mask.any():
        raise StepError(f"sample {what}: its mask is empty; filter such samples out with a least mask share")
    scale = max(width / picture.shape[1], height / picture.shape[0])
    # Rounded up: the scaled picture must cover the wanted size.
    wide, high = (max(size, round(scale * side)) for size, side in ((width, mask.shape[1]), (height, mask.shape[0])))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    scaled = cv2.resize(picture, (wide, high), interpolation=interpolation)
    share = cv2.resize(mask.astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(share >= 0.5) if (share >= 0.5).any() else np.nonzero(share == share.max())
    top, left = _first(rows, height, high), _first(columns, width, wide)
    window = (slice(top, top + height), slice(left, left + width))
    shown = np.zeros((high, wide), dtype=np.bool_)
    shown[rows, columns] = True
    return (
        np.ascontiguousarray(scaled[window], dtype=np.uint8),
        model_mask(np.ascontiguousarray(shown[window]), edges),
    )


def _first(places: NDArray[np.int64], size: int, available: int) -> int:
    """Where a window of `size` begins whose middle is as near as possible to that of the road."""
    return int(np.clip(round(float(places.mean()) - (size - 1) / 2), 0, available - size))
