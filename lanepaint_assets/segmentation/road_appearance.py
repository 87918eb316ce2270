"""What road looks like in this clip: colour, brightness and texture as histograms, learned while looking.

Called by the `classical` engine only. Nothing here knows where in the picture the road is; nothing is learned from
data sets.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float32]

# Added to every channel before taking logarithms: below about 12 of 255 a camera's noise is larger than its signal,
# and the colour of the dark is meaningless.
NOISE_FLOOR = 12.0
# Colour is compared after averaging 5 x 5 pixels of the reduced frame: compression leaves less colour detail than that.
COLOUR_BLUR_PX = 5
# Log ratios of channels. Asphalt and paving stones differ by 0.05, foliage and sky by 0.5: the scale is linear up to
# the first figure and logarithmic beyond it.
COLOUR_SOFTNESS = 0.03
COLOUR_LIMIT = 0.6
TEXTURE_WINDOW_PX = 5
# Logarithm of the local contrast: 1 % is a smooth surface, 100 % a tree against the sky.
TEXTURE_RANGE = (-5.0, 0.0)
LUMA_BINS, COLOUR_BINS, TEXTURE_BINS = 26, 24, 10
LUMA_RANGE = (float(np.log(NOISE_FLOOR)), float(np.log(255.0 + NOISE_FLOOR)))
SMOOTHING_BINS = 0.8
# A marking 0.15 m wide measures some 13 pixels of the reduced frame at the bottom row, less in proportion to nearness;
# one across the road shrinks with its square. Kernels are half as large again; zones save one kernel a row.
MARKING_ZONES = (0.0, 0.12, 0.3, 0.6, 1.0)
MARKING_KERNELS_PX = ((3, 3), (7, 3), (13, 5), (21, 11))
# Fainter than this over its surroundings in red, of 255, a line is no paint.
MARKING_LEVELS = 20
# Probability that a colour or texture turns up which was never seen: keeps unseen ones undecided.
UNSEEN_COLOUR = 2e-4
UNSEEN_TEXTURE = 2e-3
ODDS_LIMIT = 3.0

_RED, _GREEN, _BLUE = 0, 1, 2
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Look:
    """A reduced frame as the engine sees it.

    Attributes:
        luma: (h, w) float32, logarithm of brightness.
        cues: (h, w, 3) float32, log brightness and the log ratios red/green and blue/green. A shadow changes the first
            much and the others little.
        colour_bin: (h, w) int64, place in the colour histogram.
        texture_bin: (h, w) int64, place in the texture histogram.
    """

    luma: Float
    cues: Float
    colour_bin: NDArray[np.int64]
    texture_bin: NDArray[np.int64]


def log_brightness(picture: NDArray[np.uint8]) -> Float:
    """(h, w) float32 of an sRGB picture (h, w, 3), slightly smoothed."""
    smoothed = cv2.GaussianBlur(picture.astype(np.float32), (3, 3), 0)
    return np.asarray(np.log(smoothed @ _LUMA_WEIGHTS + np.float32(NOISE_FLOOR)), dtype=np.float32)


def without_markings(picture: NDArray[np.uint8], nearness: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Replace what is brighter than its surroundings and narrow, as markings are, by what surrounds it.

    Args:
        picture: (h, w, 3) sRGB.
        nearness: (h,) 0 at and above the horizon, 1 at the bottom row.
    """
    cleared = picture.copy()
    for (start, end), (across_px, along_px) in zip(itertools.pairwise(MARKING_ZONES), MARKING_KERNELS_PX, strict=True):
        rows = np.flatnonzero((nearness > start) & (nearness <= end))
        if rows.size:
            first, last = max(0, rows[0] - across_px), rows[-1] + 1 + across_px
            zone = picture[first:last]
            across, along = (
                cv2.morphologyEx(zone, cv2.MORPH_OPEN, np.ones(shape, dtype=np.uint8))
                for shape in ((1, across_px), (along_px, 1))
            )
            opened = np.minimum(across, along).astype(np.uint8)
            # Yellow paint is bright in red and green, but darker than asphalt in blue.
            paint = zone[..., _RED].astype(np.int16) - opened[..., _RED] > MARKING_LEVELS
            filled = cv2.morphologyEx(opened[..., _BLUE], cv2.MORPH_CLOSE, np.ones((1, across_px), dtype=np.uint8))
            opened[..., _BLUE] = np.where(paint, filled, opened[..., _BLUE])
            cleared[rows] = opened[rows - first]
    return cleared


def observe(picture: NDArray[np.uint8]) -> Look:
    """Measure a reduced sRGB picture (h, w, 3)."""
    reduced = np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (3, 3), 0), dtype=np.float32)
    luma = np.log(reduced @ _LUMA_WEIGHTS + np.float32(NOISE_FLOOR))
    logs = np.log(cv2.blur(reduced, (COLOUR_BLUR_PX, COLOUR_BLUR_PX)) + np.float32(NOISE_FLOOR))
    warm, cold = logs[..., _RED] - logs[..., _GREEN], logs[..., _BLUE] - logs[..., _GREEN]

    window = (TEXTURE_WINDOW_PX, TEXTURE_WINDOW_PX)
    mean = cv2.boxFilter(luma, -1, window)
    variance = np.maximum(cv2.boxFilter(luma * luma, -1, window) - mean * mean, 0.0)
    texture = 0.5 * np.log(variance + np.exp(2 * TEXTURE_RANGE[0]))

    luma_bin = _bin(luma, *LUMA_RANGE, LUMA_BINS)
    limit = float(np.arcsinh(COLOUR_LIMIT / COLOUR_SOFTNESS))
    warm_bin, cold_bin = (
        _bin(np.arcsinh(ratio / COLOUR_SOFTNESS), -limit, limit, COLOUR_BINS) for ratio in (warm, cold)
    )
    return Look(
        luma=luma,
        cues=np.dstack([luma, warm, cold]),
        colour_bin=(luma_bin * COLOUR_BINS + warm_bin) * COLOUR_BINS + cold_bin,
        texture_bin=luma_bin * TEXTURE_BINS + _bin(texture, *TEXTURE_RANGE, TEXTURE_BINS),
    )


@dataclass(frozen=True, eq=False)
class Appearance:
    """Histograms of road and of everything else: colour (luma, warm, cold) and texture (luma, texture).

    Shadowed and sunlit road are simply different places in the histogram, so both can be road at once.
    """

    road_colour: NDArray[np.float64]
    other_colour: NDArray[np.float64]
    road_texture: NDArray[np.float64]
    other_texture: NDArray[np.float64]

    @staticmethod
    def learned(look: Look, road: NDArray[np.float64], other: NDArray[np.float64]) -> Appearance:
        """From one frame; `road` and `other` weigh its pixels, (h, w), 0 and above."""
        colour, texture = (LUMA_BINS, COLOUR_BINS, COLOUR_BINS), (LUMA_BINS, TEXTURE_BINS)
        return Appearance(
            _histogram(look.colour_bin, road, colour),
            _histogram(look.colour_bin, other, colour),
            _histogram(look.texture_bin, road, texture),
            _histogram(look.texture_bin, other, texture),
        )

    def log_ratios(self, look: Look) -> tuple[Float, Float]:
        """(h, w) float32 each, of colour and of texture: above 0 where a pixel looks like road.

        They lie within +-`ODDS_LIMIT`, and are 0 for what was never seen.
        """
        colour = _log_ratio(self.road_colour, self.other_colour, UNSEEN_COLOUR)[look.colour_bin]
        texture = _log_ratio(self.road_texture, self.other_texture, UNSEEN_TEXTURE)[look.texture_bin]
        return colour, texture


def _bin(values: Float, low: float, high: float, bins: int) -> NDArray[np.int64]:
    return np.asarray(np.clip((values - low) / (high - low) * bins, 0, bins - 1), dtype=np.int64)


def _histogram(bins: NDArray[np.int64], weight: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    counts = np.bincount(bins.ravel(), weight.ravel(), int(np.prod(shape))).reshape(shape)
    return np.asarray(ndimage.gaussian_filter(counts, SMOOTHING_BINS, mode="nearest", truncate=2.5), dtype=np.float64)


def _log_ratio(road: NDArray[np.float64], other: NDArray[np.float64], unseen: float) -> Float:
    share_road = road / max(float(road.sum()), 1e-9)
    share_other = other / max(float(other.sum()), 1e-9)
    ratio = np.log((share_road + unseen) / (share_other + unseen)).ravel()
    return np.clip(ratio, -ODDS_LIMIT, ODDS_LIMIT).astype(np.float32)
