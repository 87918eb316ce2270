"""Colour in linear light: conversion tables and what paint looks like under a road's own light.

Called by marking removal and lane paint. Nothing geometric.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.lanes.attributes import Color

Float32 = NDArray[np.float32]

# Rec. 709 luminance, green first to none: the weights of linear red, green, blue.
LUMINANCE = (0.2126, 0.7152, 0.0722)

# Entries of the table from linear light back to sRGB bytes: enough for every byte to survive the way there and back.
_BACK_ENTRIES = 1 << 14

# Paint against asphalt where the clip shows no marking to learn it from: white paint reflects 50 to 60 %, worn asphalt
# 15 to 20 %.
DEFAULT_CONTRAST = 3.0

# A learnt contrast is kept within what still reads as paint (worn, on concrete) and what a camera can show (fresh, on
# new asphalt in a picture of high contrast).
CONTRAST_RANGE = (1.8, 14.0)

# Paint is read where it is this much brighter than the asphalt beside it; fewer samples than these are chance.
_PAINT_RATIO = 1.6
_ENOUGH_PAINT = 200

# Share of samples that are less bright than the contrast that is learnt: most samples are worn, or a pixel's share of
# asphalt. The brightest are glare.
_CONTRAST_PERCENTILE = 85

# Paint is yellow where its lack of blue, (yellow - blue) / (yellow + blue), exceeds the asphalt's by this; yellow paint
# shows 0.5 to 0.8.
_YELLOW_EXCESS = 0.25

# Asphalt is bluish or brownish where paint is neutral, by as much; more is a coloured glint.
_TINT_RANGE = (0.75, 1.33)

# White paint in the sun as cameras expose it, and what a clip's own paint may teach instead.
DEFAULT_CEILING = 0.75
CEILING_RANGE = (0.35, 0.95)

# Linear reflectance of traffic paint relative to white paint, red, green, blue: yellow as cameras show the yellow lines
# of US roads (linear blue a tenth of red).
_RELATIVE_REFLECTANCE = {Color.WHITE: (1.0, 1.0, 1.0), Color.YELLOW: (1.0, 0.66, 0.07)}


def _to_linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


# (256,) linear value of an sRGB byte.
LINEAR_OF_BYTE: Float32 = _to_linear(np.arange(256) / 255.0).astype(np.float32)

# sRGB (0..255, not rounded) at linear i / (_BACK_ENTRIES - 1).
_SRGB_OF_LINEAR: Float32 = (255.0 * _to_srgb(np.linspace(0.0, 1.0, _BACK_ENTRIES))).astype(np.float32)


def linear_frame(frame: NDArray[np.uint8]) -> Float32:
    """(H, W, 3) sRGB bytes to linear light 0..1."""
    return cv2.LUT(frame, LINEAR_OF_BYTE).astype(np.float32, copy=False)


def byte_table() -> Float32:
    """The table that `byte_of` reads; kernels take it as an argument."""
    return _SRGB_OF_LINEAR


@compiled()
def byte_of(value: float, table: NDArray[np.float32]) -> int:
    """The sRGB byte of a linear value, clipped to 0..1."""
    if value <= 0.0:
        return 0
    if value >= 1.0:
        return 255
    at = value * (table.shape[0] - 1)
    i = int(at)
    low = table[i]
    return int(low + (table[i + 1] - low) * (at - i) + 0.5)


@dataclass(frozen=True)
class PaintBrightness:
    """How bright paint is in a clip.

    Attributes:
        contrast: luminance of white paint over that of asphalt under the same light.
        ceiling: the most linear light that any of its channels has: on concrete, paint is no brighter than on asphalt.
        tint: what each channel of white paint has more of than `contrast` says, for asphalt is seldom quite grey.
    """

    contrast: float
    ceiling: float
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


class PaintSamples:
    """Pixels of a clip's own paint, gathered over its frames, for new paint to look alike."""

    def __init__(self) -> None:
        self._light: list[Float32] = []
        self._over_asphalt: list[Float32] = []

    def add(self, light: Float32, asphalt: Float32) -> None:
        """Pixels (N, 3) from the middle of a line and the asphalt (N, 3) beside each, linear; paint is chosen here."""
        weights = np.asarray(LUMINANCE, np.float32)
        ratio = light @ weights / np.maximum(asphalt @ weights, 1e-4)
        painted = ratio > _PAINT_RATIO
        self._light.append(light[painted])
        self._over_asphalt.append((light[painted] / np.maximum(asphalt[painted], 1e-4)).astype(np.float32))

    def brightness(self) -> PaintBrightness:
        """How bright the paint is; defaults where there is hardly any."""
        light = np.concatenate([np.zeros((0, 3), np.float32), *self._light])
        ratio = np.concatenate([np.zeros((0, 3), np.float32), *self._over_asphalt])
        if len(light) < _ENOUGH_PAINT:
            return PaintBrightness(DEFAULT_CONTRAST, DEFAULT_CEILING)
        weights = np.asarray(LUMINANCE, np.float32)
        yellow = _lack_of_blue(light) - _lack_of_blue(light / np.maximum(ratio, 1e-4)) > _YELLOW_EXCESS
        ceiling = float(np.clip(np.percentile(light @ weights, 95), *CEILING_RANGE))
        if np.count_nonzero(~yellow) >= _ENOUGH_PAINT:
            white = ratio[~yellow]
        else:
            # What white paint would be: blue, of which yellow paint has none to measure, goes on from green as green
            # does from red.
            white = ratio / np.asarray(_RELATIVE_REFLECTANCE[Color.YELLOW], np.float32)
            white[:, 2] = white[:, 1] ** 2 / np.maximum(white[:, 0], 1e-4)
        strength = white @ weights
        contrast = float(np.percentile(strength, _CONTRAST_PERCENTILE))
        full = white[strength >= np.median(strength)]
        tint = np.clip(np.median(full / (full @ weights)[:, None], axis=0), *_TINT_RANGE)
        tint = tint / (tint @ weights)
        return PaintBrightness(
            float(np.clip(contrast, *CONTRAST_RANGE)), ceiling, (float(tint[0]), float(tint[1]), float(tint[2]))
        )


def _lack_of_blue(light: Float32) -> Float32:
    warm = np.minimum(light[:, 0], light[:, 1])
    result: Float32 = ((warm - light[:, 2]) / np.maximum(warm + light[:, 2], 1e-3)).astype(np.float32)
    return result


def paint_gain(color: Color, brightness: PaintBrightness) -> Float32:
    """What asphalt under the same light is multiplied by to look like paint: (3,) red, green, blue.

    Args:
        color: white or yellow.
        brightness: of the clip's paint.
    """
    white = np.asarray(brightness.tint) * brightness.contrast
    gain: Float32 = (np.asarray(_RELATIVE_REFLECTANCE[color]) * white).astype(np.float32)
    return gain
