"""Raw road masks as a segmentation network gives them, for benchmarks that have neither network nor clip.

A network like SAM 2 computes 256 x 256 logits, which are enlarged to the frame and cut at zero. So do these: a road in
perspective that sways, ragged edges, vehicles and markings as holes, islands beside the road, all moving from frame to
frame. Whatever measures quality needs real masks instead.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# SAM 2's mask decoder at 1024 px input.
LOGITS_PX = 256
HORIZON = 0.45
MARKINGS, VEHICLES, ISLANDS = 12, 3, 10
# Logits fall by one over so many of their own pixels; the noise then shifts edges by up to three.
SOFTNESS_PX = 2.0
NOISE = 0.7


def network_masks(frames: int, width: int, height: int, seed: int) -> NDArray[np.bool_]:
    """(T, H, W) raw road masks of a made-up drive."""
    rng = np.random.default_rng(seed)
    # A band of noise that slides through the picture: edges flicker, but not anew in every frame.
    noise = cv2.GaussianBlur(rng.standard_normal((LOGITS_PX + 2 * frames, LOGITS_PX)).astype(np.float32), (0, 0), 2.0)
    noise *= NOISE / noise.std()
    y, x = np.mgrid[:LOGITS_PX, :LOGITS_PX].astype(np.float32) / LOGITS_PX
    depth = (y - HORIZON) / (1 - HORIZON)
    vehicles = rng.uniform((-0.7, 0.15), (0.7, 0.6), (VEHICLES, 2))
    islands = rng.uniform((0.0, 0.0, 0.01), (1.0, 1.0, 0.03), (ISLANDS, 3))
    masks = np.empty((frames, height, width), dtype=np.bool_)
    for index in range(frames):
        centre = 0.5 + 0.06 * np.sin(index / 15) * (1 - depth)
        sideways = (x - centre) / np.maximum(0.02 + 0.55 * depth, 1e-3)
        logits = np.minimum((1 - np.abs(sideways)) * (0.02 + 0.55 * depth), y - HORIZON) * LOGITS_PX / SOFTNESS_PX
        for marking in range(MARKINGS):
            at = (marking / MARKINGS + 0.013 * index) % 1.0
            logits[(np.abs(sideways) < 0.012) & (np.abs(depth - at**2) < 0.05 * at)] = -1.0
        for number, (lane, distance) in enumerate(vehicles):
            at = distance + 0.1 * np.sin(index / 20 + number)
            inside = (np.abs(sideways - lane) < 0.2) & (np.abs(depth - at) < 0.25 * at)
            logits[inside] = -3.0
        for left, top, size in islands:
            logits[(x - left) ** 2 + (y - (top + 0.002 * index) % 1.0) ** 2 < size**2] = 2.0
        logits += noise[2 * index : 2 * index + LOGITS_PX]
        masks[index] = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    return masks
