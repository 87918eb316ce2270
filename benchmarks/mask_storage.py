"""How fast a clip's masks are written, and how many bytes they take, in every form that a clip's folder holds.

The masks are those of a clean-up, and differ from frame to frame. `numpy.savez_compressed` of (T, H, W) uint8 is the
plain method. It is given the paint mask alone for the one file that holds that (`all_masks.npz`), and road and paint
mask for the platform's own file, which holds both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from benchmarks.network_masks import network_masks
from lanepaint_assets.segmentation.cleanup import clean_video_masks
from lanepaint_assets.segmentation.npz_masks import write_npz_masks
from lanepaint_assets.segmentation.outputs import MASKS_FILE, VideoMasks, write_mask_pictures, write_masks

NAME = "mask_storage"

FRAMES, WIDTH, HEIGHT = 100, 1920, 1080
SEED = 90_022
TARGET_SPEED = 15.0
TARGET_SIZE = 0.5


def measure(folder: Path, rounds: int) -> Outcome:
    """All forms of the same masks, alternating."""
    cleaned = clean_video_masks(network_masks(FRAMES, WIDTH, HEIGHT, SEED))
    road, paint = cleaned.road.view(np.uint8), cleaned.paint.view(np.uint8)
    both, exported, plain_both, plain_paint = (
        folder / name for name in (MASKS_FILE, "all_masks.npz", "plain_both.npz", "plain_paint.npz")
    )
    pictures, plain_pictures = folder / "pictures", folder / "plain_pictures"
    plain_pictures.mkdir()
    methods: dict[str, Callable[[], object]] = {
        # New ones each time: masks keep their bits once they are packed.
        "both": lambda: write_masks(both, VideoMasks(cleaned.road, cleaned.paint)),
        "plain both": lambda: np.savez_compressed(plain_both, road=road, paint=paint),
        "npz": lambda: write_npz_masks(exported, cleaned.paint),
        "plain npz": lambda: np.savez_compressed(plain_paint, paint),
        "pictures": lambda: write_mask_pictures(pictures, cleaned.paint),
        "plain pictures": lambda: [
            cv2.imwrite(str(plain_pictures / f"{index:05d}.png"), mask * np.uint8(255))
            for index, mask in enumerate(paint)
        ],
    }
    methods["both"]()
    seconds = alternating_seconds(methods, rounds)
    outcome = Outcome()
    outcome.add("road and paint mask, packed", seconds["both"], "s a clip", "lower", baseline=seconds["plain both"])
    outcome.add(
        "writing them against savez_compressed",
        seconds["plain both"] / seconds["both"],
        "x",
        "higher",
        target=TARGET_SPEED,
        baseline=1.0,
    )
    outcome.add(
        "writing them against savez_compressed of one mask",
        seconds["plain npz"] / seconds["both"],
        "x",
        "higher",
        baseline=1.0,
    )
    outcome.add("their bytes", _size(both) / 1e3, "kB", "lower", baseline=_size(plain_both) / 1e3)
    outcome.add(
        "their bytes against savez_compressed",
        _size(both) / _size(plain_both),
        "share",
        "lower",
        target=TARGET_SIZE,
        baseline=1.0,
    )
    outcome.add(
        "their bytes against savez_compressed of one mask",
        _size(both) / _size(plain_paint),
        "share",
        "lower",
        baseline=1.0,
    )
    outcome.add("all_masks.npz", seconds["npz"], "s a clip", "lower", baseline=seconds["plain npz"])
    outcome.add("its bytes", _size(exported) / 1e3, "kB", "lower", baseline=_size(plain_paint) / 1e3)
    outcome.add("PNGs", seconds["pictures"], "s a clip", "lower", baseline=seconds["plain pictures"])
    outcome.add("their bytes in all", _total(pictures) / 1e3, "kB", "lower", baseline=_total(plain_pictures) / 1e3)
    return outcome


def _size(path: Path) -> int:
    return path.stat().st_size


def _total(folder: Path) -> int:
    return sum(_size(path) for path in folder.iterdir())


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        report(NAME, measure(Path(scratch), options.rounds), options.json)


if __name__ == "__main__":
    description = f"Seconds and bytes of the masks of a {FRAMES}-frame {WIDTH}x{HEIGHT} clip, against savez_compressed."
    main(command_line(NAME, description).parse_args())
