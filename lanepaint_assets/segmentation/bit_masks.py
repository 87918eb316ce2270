"""Masks as bits, 64 pixels a word: the form in which masks are cleaned, counted and stored.

A bit mask is (H, words) uint64, a video (T, H, words), `words = words_across(W)`: pixel x is bit x % 64 of word
x // 64, and bits beyond the frame's last column are zero. One bit a pixel makes an operation on 64 pixels one
instruction, and a 1080p frame small enough for a core's own cache.

Called by the clean-up, the statistics and the masks file. Shapes are `bit_morphology.py`, regions `bit_components.py`;
no file format belongs here. A compiled function here and in those two calls only compiled functions of its own file:
numba notices changes in that file alone, and would run an old copy of another file's function from its cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled

Bits = NDArray[np.uint64]

WORD_BITS = 64
# Spec 4 caps its pool at eight workers.
MAX_WORKERS = 8

# Eight pixels of a byte each, in one word: the value 1 in each; the number that carries any other value to the top bit.
_ONE_EACH = np.uint64(0x0101010101010101)
_SEVEN_BITS_EACH = np.uint64(0x7F7F7F7F7F7F7F7F)
# Packing, a product moves byte k's lowest bit to bit 56 + k. Unpacking, byte k keeps bit k of the byte given to all.
_GATHER = np.uint64(0x0102040810204080)
_ONE_BIT_EACH = np.uint64(0x8040201008040201)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_BYTE = np.uint64(0xFF)
_ZERO, _SEVEN, _EIGHT, _TOP = np.uint64(0), np.uint64(7), np.uint64(8), np.uint64(56)


class Rows(NamedTuple):
    """The rows `first` to `last - 1` of a frame; empty where the two are equal."""

    first: int
    last: int


def words_across(width: int) -> int:
    """Words that hold a row of so many pixels."""
    return -(-width // WORD_BITS)


def pack_mask(mask: NDArray[np.bool_], bits: Bits) -> Rows:
    """Write a mask (H, W) into `bits` (H, words); returns the rows outside which nothing is set."""
    return Rows(*_pack(np.ascontiguousarray(mask).view(np.uint8), bits))


def unpack_mask(bits: Bits, mask: NDArray[np.bool_]) -> None:
    """Write `bits` (H, words) into `mask` (H, W), contiguous and all False: empty rows are not written."""
    _unpack(bits, mask.view(np.uint8))


def pack_video(masks: NDArray[np.bool_], workers: int | None = None) -> Bits:
    """Masks (T, H, W) as bits (T, H, words)."""
    frames, height, width = masks.shape
    bits = np.empty((frames, height, words_across(width)), dtype=np.uint64)
    for_each_frame(frames, lambda index: pack_mask(masks[index], bits[index]), workers)
    return bits


def unpack_video(bits: Bits, width: int, workers: int | None = None) -> NDArray[np.bool_]:
    """Bits (T, H, words) as masks (T, H, width)."""
    masks = np.zeros((*bits.shape[:2], width), dtype=np.bool_)
    for_each_frame(len(bits), lambda index: unpack_mask(bits[index], masks[index]), workers)
    return masks


def for_each_frame(frames: int, work: Callable[[int], object], workers: int | None = None) -> None:
    """Call `work` with every frame's index, from several threads: by default one a core, at most eight."""
    with ThreadPoolExecutor(max_workers=workers or default_workers()) as pool:
        for _ in pool.map(work, range(frames)):
            pass


def default_workers() -> int:
    """Threads for work on frames that frees the GIL."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


@compiled()
def _pack(mask: NDArray[np.uint8], bits: Bits) -> tuple[int, int]:
    """Pack (H, W) bytes, zero or not, into (H, words); first row with anything set, and one past the last."""
    height, width = mask.shape
    words = bits.shape[1]
    row = np.zeros(words * 64, dtype=np.uint8)
    eights = row.view(np.uint64)
    packed_eights = np.zeros(words * 8, dtype=np.uint8)
    packed_words = packed_eights.view(np.uint64)
    first, last = height, 0
    for y in range(height):
        pixels = mask[y]
        for x in range(width):
            row[x] = pixels[x] != 0
        for part in range(words * 8):
            packed_eights[part] = (eights[part] * _GATHER) >> _TOP
        any_in_row = _ZERO
        for word in range(words):
            bits[y, word] = packed_words[word]
            any_in_row |= packed_words[word]
        if any_in_row != _ZERO:
            first = min(first, y)
            last = y + 1
    return min(first, last), last


@compiled()
def _unpack(bits: Bits, mask: NDArray[np.uint8]) -> None:
    """Write rows that hold any bit; the others are left alone, and with them memory that nobody touched yet."""
    height, width = mask.shape
    words = bits.shape[1]
    row = np.zeros(words * 64, dtype=np.uint8)
    eights = row.view(np.uint64)
    for y in range(height):
        any_in_row = _ZERO
        for word in range(words):
            packed = bits[y, word]
            any_in_row |= packed
            if packed in (_ZERO, _ALL):
                same = packed & _ONE_EACH
                for part in range(8):
                    eights[word * 8 + part] = same
            else:
                for part in range(8):
                    spread = ((packed & _BYTE) * _ONE_EACH) & _ONE_BIT_EACH
                    eights[word * 8 + part] = ((spread + _SEVEN_BITS_EACH) >> _SEVEN) & _ONE_EACH
                    packed >>= _EIGHT
        if any_in_row != _ZERO:
            for x in range(width):
                mask[y, x] = row[x]
