"""Dilation and erosion of bit masks by OpenCV's ellipses, bit for bit as OpenCV does them.

An ellipse is a stack of horizontal bars, so a mask dilated by it is the union, over the ellipse's rows, of the mask's
rows dilated sideways by that row's bar. What lies outside the frame counts as unset when dilating and as set when
eroding, which is OpenCV's default border.

Called by the clean-up. Only shapes around pixels belong here; what is connected is `bit_components.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.bit_masks import WORD_BITS, Bits, Rows

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO = np.uint64(0)
# Words that the compiler handles in one turn of a loop; what is left over of a row it takes one by one.
_BATCH = 16


class Ellipse(NamedTuple):
    """A structuring element as bars, symmetric both ways.

    Attributes:
        reaches: half lengths of bars, ascending from 0, so that each grows out of the one before by one shift: those of
            its rows, and what lies between them. A bar is 2 reach + 1 pixels long.
        levels: index into `reaches` of the bar at each distance from the middle row, the middle first.
    """

    reaches: NDArray[np.int64]
    levels: NDArray[np.int64]

    @property
    def radius(self) -> int:
        """Rows above and below the middle one."""
        return len(self.levels) - 1


@lru_cache(maxsize=32)
def ellipse(diameter_px: int) -> Ellipse:
    """OpenCV's ellipse of an odd diameter; which pixels it has depends on OpenCV's version, so it is asked.

    Raises:
        ValueError: OpenCV's element is no symmetric stack of bars, which none of an odd diameter was so far.
    """
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)) > 0
    radius = diameter_px // 2
    halves = (element.sum(axis=1) - 1) // 2
    bars = np.abs(np.arange(diameter_px) - radius)[None, :] <= halves[:, None]
    if diameter_px % 2 == 0 or not np.array_equal(element, bars) or not np.array_equal(halves, halves[::-1]):
        raise ValueError(
            f"OpenCV {cv2.__version__} draws no symmetric ellipse of {diameter_px} px; use another diameter"
        )
    reaches = [0]
    for half in sorted(set(halves.tolist())):
        while reaches[-1] < half:
            # A pixel at the frame's edge has grown to reach + 1 pixels: shifted by no more, they leave no gap.
            reaches.append(min(half, 2 * reaches[-1] + 1, reaches[-1] + WORD_BITS - 1))
    return Ellipse(np.array(reaches), np.searchsorted(reaches, halves[radius:]))


def dilate(source: Bits, target: Bits, width: int, rows: Rows, shape: Ellipse) -> None:
    """Write the dilation of `source` (H, words) into `target`, another mask of this shape.

    Args:
        width: W of the frame.
        rows: outside these rows the result is taken to be empty, and `target` is cleared.
        shape: the structuring element.
    """
    _grow(source, target, rows.first, rows.last, shape.reaches, shape.levels, _last_word(width), _ZERO)


def erode(source: Bits, target: Bits, width: int, rows: Rows, shape: Ellipse) -> None:
    """Write the erosion of `source` into `target`; arguments as in `dilate`."""
    # What erosion leaves is what the dilated background does not reach.
    _grow(source, target, rows.first, rows.last, shape.reaches, shape.levels, _last_word(width), _ALL)


def _last_word(width: int) -> np.uint64:
    """The bits of a row's last word that lie in the frame."""
    used = (width - 1) % WORD_BITS + 1
    return np.uint64((1 << used) - 1)


@compiled()
def _grow(
    source: Bits,
    target: Bits,
    first: int,
    last: int,
    reaches: NDArray[np.int64],
    levels: NDArray[np.int64],
    last_word: np.uint64,
    flip: np.uint64,
) -> None:
    """Dilate the rows `first` to `last - 1`; `flip` of all ones inverts what is read and what is written.

    One sweep from top to bottom. Of the last rows, as many as the ellipse is high, a ring keeps the sideways dilations
    by each of its reaches; an output row is the union of one entry of each. Loops run over views of single rows, which
    alone the compiler turns into vector instructions (2.7 times as fast), and over whole batches of words.
    """
    height, words = source.shape
    radius = levels.size - 1
    span = 2 * radius + 1
    padded = -(-words // _BATCH) * _BATCH
    target[:first] = _ZERO
    target[last:] = _ZERO
    # A word of background at either end, so that shifting needs no special case.
    ring = np.zeros((span, reaches.size, padded + 2), dtype=np.uint64)
    union = np.zeros(padded, dtype=np.uint64)
    slot = -1
    for read in range(first - radius, last + radius):
        slot = slot + 1 if slot + 1 < span else 0
        if 0 <= read < height:
            pixels, row = source[read], ring[slot, 0]
            for word in range(words):
                row[word + 1] = pixels[word] ^ flip
            row[words] &= last_word
            for level in range(1, reaches.size):
                narrow, wide = ring[slot, level - 1], ring[slot, level]
                step = reaches[level] - reaches[level - 1]
                up, down = np.uint64(step), np.uint64(64 - step)
                for word in range(padded):
                    here = narrow[word + 1]
                    sides = (here << up) | (here >> up) | (narrow[word] >> down) | (narrow[word + 2] << down)
                    wide[word + 1] = here | sides
        else:
            ring[slot] = _ZERO
        y = read - radius
        if y < first:
            continue
        above = below = slot - radius if slot >= radius else slot + radius + 1
        middle = ring[above, levels[0]]
        for word in range(padded):
            union[word] = middle[word + 1]
        for distance in range(1, radius + 1):
            above = above - 1 if above > 0 else span - 1
            below = below + 1 if below + 1 < span else 0
            upper, lower = ring[above, levels[distance]], ring[below, levels[distance]]
            for word in range(padded):
                union[word] |= upper[word + 1] | lower[word + 1]
        written = target[y]
        for word in range(words):
            written[word] = union[word] ^ flip
        written[words - 1] &= last_word
