"""What it costs to get a clip's frames to SAM 2, against the package's way: a folder of JPEGs and its own loader.

Measured is the processor's time, not the clock's: on a GPU machine the network runs meanwhile, and cores are what the
next clip's frames compete for. Both ways start from the same mp4 and take the same grid frames. The plain way decodes
them, writes them as JPEGs and lets the package read, resize and normalize them. Ours keeps them in memory and hands
them to the device, which resizes and normalizes; without a GPU the processor does that too, and it is stated apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from time import process_time

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Outcome, command_line, report
from benchmarks.moving_clips import write_clip
from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.records import ClipFacts
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.segmentation.sam2.package import enter_package
from lanepaint_assets.segmentation.sam2.predictor import network_pictures, on_device

NAME = "frame_ingest"

FRAMES = 100
SIZE = (1920, 1080)
NETWORK_PX = 1024
TARGET_RATIO = 3.0
# ffmpeg's `-q:v 2`, as the package's examples have it, is about this quality.
JPEG_QUALITY = 95


class Clip:
    """One mp4, and both ways of reading it.

    Args:
        folder: scratch.
        frames: grid frames to take.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        self.path = folder / "source" / "clip.mp4"
        write_clip(self.path, frames, SIZE, seed=0)
        source = open_source(str(self.path.parent), ("camera_front_wide_120fov",))
        self.facts: ClipFacts = probe_clip(source, next(iter(source.chunks())).clips[0], "spec_8fps", frames)
        self.jpegs = folder / "jpegs"
        self.jpegs.mkdir()

    def decoded(self) -> NDArray[np.uint8]:
        """Ours: grid frames in memory."""
        return read_frames(self.path, self.facts).frames

    def to_jpegs(self) -> None:
        """What ffmpeg's command line does: decode all, keep the wanted ones, write JPEGs."""
        wanted = {int(number): index for index, number in enumerate(self.facts.grid.source_index)}
        with av.open(str(self.path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    pixels = frame.to_ndarray(format="bgr24")
                    name = self.jpegs / f"{wanted[number]:05d}.jpg"
                    cv2.imwrite(str(name), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def loaded(self) -> torch.Tensor:
        """The package's loader."""
        enter_package()
        from sam2.utils.misc import load_video_frames

        images: torch.Tensor
        # The package draws progress bars of its own.
        with redirect_stderr(StringIO()):
            images, _, _ = load_video_frames(
                str(self.jpegs), NETWORK_PX, offload_video_to_cpu=False, compute_device=torch.device("cpu")
            )
        return images


def prepared(frames: NDArray[np.uint8], device: torch.device) -> None:
    """Upload, resize and normalize frame by frame, as the predictor does by batch."""
    for frame in frames:
        network_pictures(on_device(frame[None], device), NETWORK_PX)


def measure(folder: Path, frames: int, rounds: int) -> Outcome:
    """Both ways, alternating, on one thread each."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = Clip(folder, frames)
    pictures = clip.decoded()
    clip.to_jpegs()
    prepared(pictures[:2], device)
    seconds: dict[str, list[float]] = {"decode": [], "prepare": [], "jpegs": [], "load": []}
    for _ in range(rounds):
        seconds["decode"].append(_cpu_seconds(clip.decoded))
        seconds["prepare"].append(_cpu_seconds(lambda: prepared(pictures, device)))
        seconds["jpegs"].append(_cpu_seconds(clip.to_jpegs))
        seconds["load"].append(_cpu_seconds(clip.loaded))
    decode, prepare, jpegs, load = (median(values) for values in seconds.values())
    plain, on_gpu = jpegs + load, device.type == "cuda"
    outcome = Outcome()
    outcome.add(f"decode {frames} grid frames of 1080p, CPU seconds", decode, "s", "lower", baseline=jpegs)
    whole = decode + prepare if on_gpu else decode
    outcome.add(
        f"frames of a clip ready for the {'network on the GPU' if on_gpu else 'device'}, CPU seconds",
        whole,
        "s",
        "lower",
        baseline=plain,
    )
    outcome.add(
        "decode to network-ready frames against JPEGs and SAM 2's loader",
        plain / whole,
        "x",
        "higher",
        target=TARGET_RATIO,
        baseline=1.0,
    )
    if not on_gpu:
        outcome.add("the same with resizing and normalizing on the CPU", plain / (decode + prepare), "x", "higher")
    return outcome


def _cpu_seconds(method: Callable[[], object]) -> float:
    started = process_time()
    method()
    return process_time() - started


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        report(NAME, measure(Path(scratch), FRAMES, options.rounds), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "CPU seconds from an mp4 to the frames that SAM 2 sees.")
    main(parser.parse_args())
