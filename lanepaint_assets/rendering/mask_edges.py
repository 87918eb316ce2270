"""From a hard paint mask to the grown one that inpainting networks are shown, and to the soft alpha of composites.

Called by the first-frame and video steps, by the inpainting engines and their training. No blending here: see
`compositing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Spec 5, `dilate_size` and `mask_feather`: pixels of the picture in use, whatever its size.
DILATION_PX = 24
FEATHER_PX = 8.0

# A Gaussian is cut at three sigmas, so that alpha is exactly 0 or 1 outside a known band.
_FEATHER_REACH = 3.0


@dataclass(frozen=True)
class MaskEdges:
    """How far the mask grows, and the standard deviation of the Gaussian that softens its border, in pixels."""

    dilation_px: int = DILATION_PX
    feather_px: float = FEATHER_PX

    def __post_init__(self) -> None:
        if self.dilation_px < 0 or not np.isfinite(self.feather_px) or self.feather_px < 0:
            raise ValueError(
                f"mask dilation ({self.dilation_px} px) and feather ({self.feather_px} px) must be 0 or more"
            )

    @property
    def reach_px(self) -> int:
        """Beyond this distance from the mask alpha is exactly 0."""
        return self.dilation_px + int(np.ceil(_FEATHER_REACH * self.feather_px))

    @property
    def keeps_mask_whole(self) -> bool:
        """Whether alpha is exactly 1 everywhere on the mask: it then grows at least as far as the feather reaches."""
        return self.dilation_px >= _FEATHER_REACH * self.feather_px


SPEC_EDGES = MaskEdges()


def model_mask(mask: NDArray[np.bool_], edges: MaskEdges = SPEC_EDGES) -> NDArray[np.bool_]:
    """Grow a mask evenly in all directions: what an inpainting network is told to paint, in training and inference.

    Not feathered: such networks take a mask as a yes or no of each pixel, and learn from masks of the same growth.
    Their result is softened where it is composited, see `soften_mask`.

    Args:
        mask: (H, W), True where paint may go.
        edges: its growth counts.

    Returns:
        (H, W), True up to `edges.dilation_px` from `mask`; all False where `mask` is.

    Raises:
        ValueError: the mask is not two-dimensional.
    """
    if mask.ndim != 2:
        raise ValueError(f"a paint mask has two dimensions, this one has shape {mask.shape}")
    if not edges.dilation_px or not mask.any():
        return mask.copy()
    # A distance transform costs the same for every radius; a 49 px round kernel would take 30 times as long.
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= edges.dilation_px)


def soften_mask(
    mask: NDArray[np.bool_], edges: MaskEdges = SPEC_EDGES, keep_out: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Grow a mask evenly in all directions and feather its border.

    Args:
        mask: (H, W), True where paint may go.
        edges: growth and softness.
        keep_out: (H, W), True on objects that growth must not reach (enclosed vehicles), or None.

    Returns:
        (H, W) alpha 0..1: exactly 1 on `mask` where the growth is at least three feathers, exactly 0 beyond
        `edges.reach_px` and on `keep_out`.

    Raises:
        ValueError: a mask is not two-dimensional, or the shapes differ.

    Source: spec 5, mask processing pipeline. Its 24 px is read as the distance that the mask grows.
    """
    if keep_out is not None and keep_out.shape != mask.shape:
        raise ValueError(f"keep_out has shape {keep_out.shape}, the paint mask {mask.shape}")
    alpha = model_mask(mask, edges).astype(np.float32)
    if edges.feather_px > 0:
        side = 2 * int(np.ceil(_FEATHER_REACH * edges.feather_px)) + 1
        alpha = cv2.GaussianBlur(alpha, (side, side), edges.feather_px, borderType=cv2.BORDER_REPLICATE).astype(
            np.float32
        )
        # The kernel's weights sum to 1 only within float32 rounding.
        alpha[alpha > 1.0 - 1e-5] = 1.0
        alpha[alpha < 1e-5] = 0.0
        if edges.keeps_mask_whole:
            # At convex corners a growing circle covers a little less than the square kernel asks for.
            alpha[mask] = 1.0
    if keep_out is not None:
        alpha[keep_out] = 0.0
    return alpha
