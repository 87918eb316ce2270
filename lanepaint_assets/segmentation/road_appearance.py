"""What road looks like in this clip: colour, brightness and texture as histograms, learned while looking.

Called by the `classical` engine only. Nothing here knows where in the picture the road is; nothing is learned from
data sets.
"""

from __future__ import annotations

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
# Probability that a colour or texture turns up which was never seen: keeps unseen ones undecided.
UNSEEN_COLOUR = 2e-4
UNSEEN_TEXTURE = 2e-3
# Colour and texture are not independent, so their evidence is not added in full.
COLOUR_WEIGHT, TEXTURE_WEIGHT = 0.8, 0.4
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


def observe(frame: NDArray[np.uint8], width: int, height: int) -> Look:
    """Reduce an sRGB frame (H, W, 3) to `width` x `height` and measure it."""
    reduced = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    reduced = np.asarray(cv2.GaussianBlur(reduced, (3, 3), 0), dtype=np.float32)
    luma = np.log(reduced @ _LUMA_WEIGHTS + np.float32(NOISE_FLOOR))
    logs = np.log(cv2.blur(reduced, (COLOUR_BLUR_PX, COLOUR_BLUR_PX)) + NOISE_FLOOR)
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

    def mixed_with(self, newer: Appearance, keep: float) -> Appearance:
        """Keep a share of this one, take the rest from `newer`."""
        return Appearance(
            keep * self.road_colour + (1 - keep) * newer.road_colour,
            keep * self.other_colour + (1 - keep) * newer.other_colour,
            keep * self.road_texture + (1 - keep) * newer.road_texture,
            keep * self.other_texture + (1 - keep) * newer.other_texture,
        )

    def log_odds(self, look: Look) -> Float:
        """(h, w) float32: above 0 where a pixel looks like road, within +-`ODDS_LIMIT`; 0 for what was never seen."""
        colour = _log_ratio(self.road_colour, self.other_colour, UNSEEN_COLOUR)[look.colour_bin]
        texture = _log_ratio(self.road_texture, self.other_texture, UNSEEN_TEXTURE)[look.texture_bin]
        odds = COLOUR_WEIGHT * colour + TEXTURE_WEIGHT * texture
        return np.clip(odds, -ODDS_LIMIT, ODDS_LIMIT).astype(np.float32)


def _bin(values: Float, low: float, high: float, bins: int) -> NDArray[np.int64]:
    return np.asarray(np.clip((values - low) / (high - low) * bins, 0, bins - 1), dtype=np.int64)


def _histogram(bins: NDArray[np.int64], weight: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    counts = np.bincount(bins.ravel(), weight.ravel(), int(np.prod(shape))).reshape(shape)
    return np.asarray(ndimage.gaussian_filter(counts, SMOOTHING_BINS, mode="nearest", truncate=2.5), dtype=np.float64)


def _log_ratio(road: NDArray[np.float64], other: NDArray[np.float64], unseen: float) -> NDArray[np.float64]:
    share_road = road / max(float(road.sum()), 1e-9)
    share_other = other / max(float(other.sum()), 1e-9)
    return np.asarray(np.log((share_road + unseen) / (share_other + unseen)).ravel())
