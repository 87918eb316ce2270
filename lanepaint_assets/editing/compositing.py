"""Pasting a painter's result into the source so that nothing outside the mask changes (spec 5, keep masked pixels).

Called after every painter, at the clip's native resolution. No masks are made here: see `mask_edges.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.rendering.mask_edges import SPEC_EDGES, MaskEdges, soften_mask
from lanepaint_assets.settings import Settings


def chosen_edges(settings: Settings) -> MaskEdges | None:
    """How painted pictures are put into their source; None keeps all that was painted (spec 5)."""
    edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
    return edges if settings.keep_masked_pixels else None


@compiled()
def _blend(
    source: NDArray[np.uint8], painted: NDArray[np.uint8], alpha: NDArray[np.float32], result: NDArray[np.uint8]
) -> None:
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            a = alpha[y, x]
            for c in range(3):
                old = source[y, x, c]
                if a <= 0.0:
                    result[y, x, c] = old
                elif a >= 1.0:
                    result[y, x, c] = painted[y, x, c]
                else:
                    # From the old value, so that equal inputs give exactly that value.
                    result[y, x, c] = np.uint8(old + a * (np.float32(painted[y, x, c]) - np.float32(old)) + 0.5)


@compiled()
def _changes_outside(source: NDArray[np.uint8], painted: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bool:
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            if not mask[y, x]:
                for c in range(3):
                    if source[y, x, c] != painted[y, x, c]:
                        return True
    return False


def composite(source: NDArray[np.uint8], painted: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`painted` over `source`.

    Args:
        source, painted: (H, W, 3) sRGB uint8.
        alpha: (H, W) 0..1.

    Returns:
        (H, W, 3): exactly `source` where alpha is 0, exactly `painted` where it is 1, rounded to nearest between.

    Raises:
        ValueError: the shapes differ.

    Source: spec 5, `keep_masked_pixels`.
    """
    if source.shape != painted.shape or source.shape[:2] != alpha.shape:
        raise ValueError(
            f"the source is {source.shape}, the painted picture {painted.shape} and the mask {alpha.shape}; "
            "a painter's result is composited at the clip's own resolution, so resize it first"
        )
    result = np.empty_like(source)
    _blend(np.ascontiguousarray(source), np.ascontiguousarray(painted), np.ascontiguousarray(alpha), result)
    return result


def composite_video(
    frames: NDArray[np.uint8],
    painted: NDArray[np.uint8],
    paint_masks: NDArray[np.bool_],
    edges: MaskEdges = SPEC_EDGES,
    keep_out: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Composite each frame under its own softened mask; memory for one alpha at a time.

    Args:
        frames, painted: (T, H, W, 3) sRGB uint8.
        paint_masks: (T, H, W) bool.
        edges: see `soften_mask`.
        keep_out: (T, H, W) bool, or None; see `soften_mask`.

    Raises:
        ValueError: the shapes differ.
    """
    if frames.shape != painted.shape or frames.shape[:3] != paint_masks.shape:
        raise ValueError(f"frames {frames.shape}, painted {painted.shape} and masks {paint_masks.shape} do not match")
    result = np.empty_like(frames)
    for k in range(len(frames)):
        if edges.keeps_mask_whole and keep_out is None and not _changes_outside(frames[k], painted[k], paint_masks[k]):
            # Alpha is 1 wherever the painter changed anything: nothing to blend. True of painters that know the mask.
            result[k] = painted[k]
            continue
        alpha = soften_mask(paint_masks[k], edges, None if keep_out is None else keep_out[k])
        result[k] = composite(frames[k], painted[k], alpha)
    return result
