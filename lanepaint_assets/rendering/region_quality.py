"""How like its original a video is, inside and outside the region that an edit may change.

Called where an edited video is composited and where it is evaluated: both must measure in the same way. Which masks
and edges count is the callers' knowledge; motion between frames is `evaluation.warp_error`'s work, LPIPS
`torch_models.lpips`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lanepaint_assets.compiled import compiled
from lanepaint_assets.rendering.mask_edges import MaskEdges, soften_mask

# A frame's structural similarity takes 0.25 s at 960x540, all else 0.02 s; neighbours say much the same.
PICTURE_FRAMES = 10
# The Gaussian window of Wang et al. 2004: sigma 1.5, cut at 3.5 sigmas. A value near the region's border would be made
# of pixels on both of its sides.
SSIM_SIGMA, SSIM_RADIUS_PX = 1.5, 5
PEAK = 255.0

PictureDistance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
"""Given two (H, W, 3) pictures, a distance (H, W) of every pixel."""


class RegionQuality(BaseModel):
    """Likeness over one region of a video.

    Attributes:
        psnr_db: from the mean squared error of all region pixels of all frames; None where the region is identical.
        identical: no pixel of the region differs in any frame.
        ssim: mean over the region of the frames used, 1 where they are equal; None where no window lies wholly in it.
        lpips: mean over the region of the frames used, lower is more alike; None where it was not measured.
    """

    model_config = ConfigDict(frozen=True)

    psnr_db: float | None
    identical: bool
    ssim: float | None
    lpips: float | None = None


@dataclass(frozen=True)
class RegionPair:
    """Both sides of a video's edit region; None for a side that is empty in every frame.

    `picture_frames` frames were used for SSIM and LPIPS.
    """

    inside: RegionQuality | None
    outside: RegionQuality | None
    picture_frames: int

    @property
    def reason(self) -> str | None:
        """Why a side is None."""
        if self.inside is None:
            return "the paint mask is empty in every frame, so there is nothing inside the edit region"
        return None if self.outside is not None else "the edit region covers every frame, so there is nothing outside"


class RawQuality(BaseModel):
    """A painter's own output against the original, before it was composited and encoded: a fact of an edited video.

    Pasting back exact background makes any background perfect; this is what the painter left of it. `reason` says why
    nothing was measured.
    """

    model_config = ConfigDict(frozen=True)

    inside: RegionQuality | None
    outside: RegionQuality | None
    reason: str | None


def spread_frames(count: int, most: int) -> list[int]:
    """At most `most` of `count` frames, evenly spread, the first and the last among them."""
    return [int(k) for k in np.unique(np.linspace(0, count - 1, min(most, count)).round())] if count else []


def region_quality(
    original: NDArray[np.uint8],
    edited: NDArray[np.uint8],
    paint_masks: NDArray[np.bool_],
    edges: MaskEdges,
    picture_distance: PictureDistance | None = None,
) -> RegionPair:
    """Compare two videos inside and outside the region that is composited: the masks, grown and feathered.

    Args:
        original, edited: (T, H, W, 3) sRGB uint8.
        paint_masks: (T, H, W) bool.
        edges: inside is where `soften_mask` is above 0.
        picture_distance: LPIPS, where it is at hand; asked on the frames that SSIM uses.

    Returns:
        PSNR over all frames, SSIM and LPIPS over `PICTURE_FRAMES` of them.

    Raises:
        ValueError: the shapes differ.

    Source: VideoPainter reports PSNR, SSIM and LPIPS of the background from pictures with the edit region blacked out,
    whose blackness counts as likeness; here only pixels of the region count.
    """
    if original.shape != edited.shape or original.shape[:3] != paint_masks.shape:
        raise ValueError(f"the original is {original.shape}, the edit {edited.shape}, the masks {paint_masks.shape}")
    sides = (_Side(), _Side())
    chosen = spread_frames(len(original), PICTURE_FRAMES)
    for k in range(len(original)):
        region = soften_mask(paint_masks[k], edges) > 0.0
        sums = _squared_errors(original[k], edited[k], region)
        sides[0].add(sums[0], sums[1])
        sides[1].add(sums[2], sums[3])
        if k in chosen:
            likeness = _ssim_map(original[k], edited[k])
            distance = None if picture_distance is None else picture_distance(original[k], edited[k])
            for side, where in zip(sides, (region, ~region), strict=True):
                side.add_maps(where, likeness, distance)
    return RegionPair(sides[0].quality(), sides[1].quality(), len(chosen))


def raw_quality(
    original: NDArray[np.uint8], painted: NDArray[np.uint8], paint_masks: NDArray[np.bool_], edges: MaskEdges
) -> RawQuality:
    """Measure a painter's own output, if it changed anything outside its region in `PICTURE_FRAMES` of the frames.

    The arguments are those of `region_quality`. A painter that never does has a raw output like the composited one, and
    measuring it would take longer than it paints.
    """
    for k in spread_frames(len(original), PICTURE_FRAMES):
        outside = soften_mask(paint_masks[k], edges) == 0.0
        if not np.array_equal(original[k][outside], painted[k][outside]):
            pair = region_quality(original, painted, paint_masks, edges)
            return RawQuality(inside=pair.inside, outside=pair.outside, reason=pair.reason)
    return RawQuality(inside=None, outside=None, reason="the painter changed nothing outside its region")


@dataclass
class _Side:
    """Sums over one side of the region."""

    squared: int = 0
    values: int = 0
    ssim: list[tuple[float, int]] = field(default_factory=list)
    lpips: list[tuple[float, int]] = field(default_factory=list)

    def add(self, squared: int, values: int) -> None:
        self.squared += squared
        self.values += values

    def add_maps(
        self, where: NDArray[np.bool_], likeness: NDArray[np.float64], distance: NDArray[np.float32] | None
    ) -> None:
        kernel = np.ones((2 * SSIM_RADIUS_PX + 1,) * 2, np.uint8)
        whole = cv2.erode(where.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
        if whole.any():
            self.ssim.append((float(likeness[whole].sum()), int(whole.sum())))
        if distance is not None and where.any():
            self.lpips.append((float(distance[where].sum()), int(where.sum())))

    def quality(self) -> RegionQuality | None:
        if not self.values:
            return None
        mean_squared = self.squared / self.values
        return RegionQuality(
            psnr_db=None if not self.squared else float(10.0 * np.log10(PEAK**2 / mean_squared)),
            identical=not self.squared,
            ssim=_weighted_mean(self.ssim),
            lpips=_weighted_mean(self.lpips),
        )


def _weighted_mean(sums: list[tuple[float, int]]) -> float | None:
    count = sum(pixels for _, pixels in sums)
    return sum(total for total, _ in sums) / count if count else None


@compiled()
def _squared_errors(
    original: NDArray[np.uint8], edited: NDArray[np.uint8], region: NDArray[np.bool_]
) -> tuple[int, int, int, int]:
    """Summed squared differences and numbers of values inside the region, then outside it."""
    inside, inside_values, outside, outside_values = 0, 0, 0, 0
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            squared = 0
            for c in range(3):
                step = int(original[y, x, c]) - int(edited[y, x, c])
                squared += step * step
            if region[y, x]:
                inside += squared
                inside_values += 3
            else:
                outside += squared
                outside_values += 3
    return inside, inside_values, outside, outside_values


def _ssim_map(original: NDArray[np.uint8], edited: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W) structural similarity of every pixel's window, mean of the three colours."""
    from skimage import metrics

    # The library ships its annotations in part.
    similarity = cast("Callable[..., tuple[float, NDArray[np.float64]]]", metrics.structural_similarity)
    _, values = similarity(
        original,
        edited,
        data_range=PEAK,
        channel_axis=2,
        full=True,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
    )
    mean: NDArray[np.float64] = values.mean(axis=-1)
    return mean
