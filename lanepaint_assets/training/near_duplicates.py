"""Frames that look alike, found by perceptual hash: a training learns nothing from the second one.

Called by `sample_steps.py`, within a clip and across a chunk. Which frames are looked at is `frame_choice.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Side of the picture that is hashed: the hash reads its 8 lowest of 32 frequencies each way, and reducing by area first
# takes a millisecond instead of four.
HASHED_PX = 128


def perceptual_hash(frame: NDArray[np.uint8]) -> str:
    """16 hex digits of (H, W, 3) sRGB `frame`: signs of its low frequencies (ImageHash's `phash`, 64 bits)."""
    small = cv2.resize(frame, (HASHED_PX, HASHED_PX), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return str(imagehash.phash(Image.fromarray(small)))


def distinct(hashes: Sequence[str], bits: int) -> list[bool]:
    """Which pictures to keep: each that differs from all kept ones before it in more than `bits` of its hash's 64."""
    values = np.array([int(digits, 16) for digits in hashes], dtype=np.uint64)
    keep = np.zeros(len(values), dtype=np.bool_)
    for at, value in enumerate(values):
        apart = np.bitwise_count(values[keep] ^ value)
        keep[at] = bool((apart > bits).all())
    return [bool(kept) for kept in keep]
