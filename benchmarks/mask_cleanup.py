"""How fast masks are cleaned, against the specification's own code.

The specification's method is OpenCV, one frame after another in one thread. It makes the road mask alone, which is what
`fill_all_holes` gives: the target is set on that. What the step does by default, road and paint mask, stands beside it.
All methods give new masks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Machine, Outcome, alternating_seconds, command_line, report
from benchmarks.network_masks import network_masks
from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.cleanup import clean_video_masks

NAME = "mask_cleanup"

SIZES = ((1920, 1080), (960, 540))
SEED = 90_021
TARGET_RATIO = 15.0
TARGET_SCALING = 1.7
FRAMES = 48
# Results are dropped after so many pixels, so that the next ones find their memory ready: virtual machines take up to
# 4 ms to hand out a frame's worth of fresh memory, which would be all that is measured.
PART_PX = 6 * 1920 * 1080
# Long enough to be timed: some 20 ms.
SPINS = 40_000_000


def literal_clean_up(mask_uint8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The four stages as the specification lists them, on one mask of 0 and 255 (spec 4, mask quality pipeline)."""
    height, width = mask_uint8.shape
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    opened = cv2.morphologyEx(mask_uint8, cv2.MORPH_OPEN, kernel)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(opened)
    at_reference = labels[int(height * 0.85), width // 2]
    if at_reference == 0 and len(statistics) > 1:
        at_reference = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    kept = (labels == at_reference).astype(np.uint8) * 255
    kernel_close = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    closed = cv2.morphologyEx(kept, cv2.MORPH_CLOSE, kernel_close, iterations=2)
    holes = cv2.bitwise_not(closed)
    cv2.floodFill(holes, None, (0, 0), 0)
    return cv2.bitwise_or(closed, holes).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class Seconds:
    """Seconds a frame by method; arithmetic shows whether the machine has a second core to give."""

    literal: float
    road: float
    whole: float
    whole_on_two: float
    arithmetic: float
    arithmetic_on_two: float


def measure_size(width: int, height: int, rounds: int) -> Seconds:
    """All methods on the same masks, alternating."""
    raw = network_masks(FRAMES, width, height, SEED)
    as_bytes = raw.astype(np.uint8) * 255
    size = PART_PX // (width * height)
    parts = [slice(start, start + size) for start in range(0, FRAMES, size)]
    methods: dict[str, Callable[[], object]] = {
        "literal": lambda: _done([literal_clean_up(mask) for mask in as_bytes[part]] for part in parts),
        "road": lambda: _done(clean_video_masks(raw[part], fill_all_holes=True, workers=1) for part in parts),
        "whole": lambda: _done(clean_video_masks(raw[part], workers=1) for part in parts),
        "whole_on_two": lambda: _done(clean_video_masks(raw[part], workers=2) for part in parts),
        "arithmetic": lambda: [_spin(SPINS), _spin(SPINS)],
        "arithmetic_on_two": _spin_on_two,
    }
    for warm_up in methods.values():
        warm_up()
    seconds = alternating_seconds(methods, rounds)
    return Seconds(**{name: value / FRAMES for name, value in seconds.items()})


def _done(results: Iterator[object]) -> None:
    """Make each result and drop it."""
    for _ in results:
        pass


@compiled()
def _spin(count: int) -> int:
    """Arithmetic that touches no memory and cannot be shortened."""
    value = 1
    for _ in range(count):
        value ^= value << 13
        value ^= value >> 7
    return value


def _spin_on_two() -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        _done(pool.map(_spin, (SPINS, SPINS)))


def measure(rounds: int) -> Outcome:
    """Both sizes; scaling needs two cores."""
    outcome = Outcome()
    cv2.setNumThreads(1)
    for width, height in SIZES:
        seconds, at = measure_size(width, height, rounds), f"{width}x{height}"
        target = TARGET_RATIO if height == 1080 else None
        literal_ms = seconds.literal * 1e3
        outcome.add(f"road mask at {at}, one thread", seconds.road * 1e3, "ms a frame", "lower", baseline=literal_ms)
        outcome.add(
            f"road and paint mask at {at}, one thread", seconds.whole * 1e3, "ms a frame", "lower", baseline=literal_ms
        )
        outcome.add(
            f"road mask at {at} against the specification's code",
            seconds.literal / seconds.road,
            "x",
            "higher",
            target=target,
            baseline=1.0,
        )
        outcome.add(
            f"road and paint mask at {at} against the specification's road mask",
            seconds.literal / seconds.whole,
            "x",
            "higher",
            baseline=1.0,
        )
        scaling = f"two threads against one at {at}"
        if Machine.here().cores >= 2:
            outcome.add(
                scaling,
                seconds.whole / seconds.whole_on_two,
                "x",
                "higher",
                target=TARGET_SCALING if height == 1080 else None,
                baseline=1.0,
            )
            outcome.add(
                f"two threads against one of arithmetic alone, same rounds as {at}",
                seconds.arithmetic / seconds.arithmetic_on_two,
                "x",
                "higher",
            )
        else:
            outcome.skip(scaling, "this machine has one core")
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    report(NAME, measure(options.rounds), options.json)


if __name__ == "__main__":
    main(
        command_line(NAME, "Milliseconds a frame of the mask clean-up, against the specification's code.").parse_args()
    )
