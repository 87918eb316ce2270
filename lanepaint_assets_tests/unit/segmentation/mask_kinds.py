"""Masks that a clean-up may meet, and some that are only meant to trip it."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def noise(rng: np.random.Generator, height: int, width: int) -> Mask:
    return rng.random((height, width)) < rng.choice((0.02, 0.5, 0.9, 0.99))


def blobs(rng: np.random.Generator, height: int, width: int) -> Mask:
    coarse = int(rng.choice((3, 6, 12)))
    grid = rng.random((height // coarse + 2, width // coarse + 2))
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) > rng.choice((0.35, 0.5, 0.6)))


def street(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A road with holes of all sizes, ragged edges and islands."""
    mask = np.zeros((height, width), dtype=np.uint8)
    left, right = rng.uniform(-0.2, 0.4), rng.uniform(0.6, 1.2)
    corners = [
        (0.45 * width, 0.4 * height),
        (0.55 * width, 0.4 * height),
        (right * width, height),
        (left * width, height),
    ]
    cv2.fillPoly(mask, [np.array(corners).astype(np.int32)], 1)
    for _ in range(12):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        axes = (int(rng.integers(1, 3 + width // 12)), int(rng.integers(1, 3 + height // 12)))
        cv2.ellipse(mask, (x, y), axes, 0, 0, 360, int(rng.integers(2)), -1)
    edge = cv2.dilate(mask, np.ones((5, 5), np.uint8)) != cv2.erode(mask, np.ones((5, 5), np.uint8))
    return (mask > 0) ^ (edge & (rng.random(mask.shape) < 0.3))


def framed(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Bars along some edges of the frame, and through it, that enclose what the frame's edge opens or not."""
    mask = np.zeros((height, width), dtype=np.bool_)
    thick = int(rng.integers(1, 12))
    half, third = height // 2, width // 3
    bars = (
        np.s_[:thick],
        np.s_[-thick:],
        np.s_[half : half + thick],
        np.s_[:, :thick],
        np.s_[:, -thick:],
        np.s_[:, third : third + thick],
    )
    for bar in rng.permutation(6)[: int(rng.integers(1, 6))]:
        mask[bars[bar]] = True
    return mask


def pierced(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A whole frame less rectangles, some of them cut by its edges."""
    mask = np.ones((height, width), dtype=np.bool_)
    for _ in range(int(rng.integers(1, 8))):
        x, y = rng.integers(-8, width), rng.integers(-8, height)
        mask[max(0, y) : y + rng.integers(1, 30), max(0, x) : x + rng.integers(1, 40)] = False
    return mask


def twins(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Equal squares: which one is kept is a matter of order."""
    mask = np.zeros((height, width), dtype=np.bool_)
    side = int(rng.integers(1, 16))
    for _ in range(4):
        x, y = rng.integers(0, max(1, width - side)), rng.integers(0, max(1, height - side))
        mask[y : y + side, x : x + side] = True
    return mask


def stripes(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Parallel, diagonal or crossing lines, as many runs as fit."""
    y, x = np.mgrid[:height, :width]
    period = int(rng.integers(2, 24))
    across = y * int(rng.integers(0, 3)) + x * int(rng.integers(0, 3))
    return np.asarray((across % period) < max(1, period // 2))


def pixel(rng: np.random.Generator, height: int, width: int) -> Mask:
    mask = np.full((height, width), bool(rng.integers(2)))
    mask[rng.integers(height), rng.integers(width)] ^= True
    return mask


def whole(rng: np.random.Generator, height: int, width: int) -> Mask:
    return np.full((height, width), bool(rng.integers(2)))


KINDS = (noise, blobs, street, framed, pierced, twins, stripes, pixel, whole)
# Around one, two and three words a row, and less than a kernel.
WIDTHS = (1, 2, 5, 17, 63, 64, 65, 96, 127, 128, 129, 191, 200)


@st.composite
def masks(draw: st.DrawFn, max_height: int = 130) -> Mask:
    kind = draw(st.sampled_from(KINDS))
    height, width = draw(st.integers(1, max_height)), draw(st.sampled_from(WIDTHS))
    return kind(np.random.default_rng(draw(st.integers(0, 2**32))), height, width)
