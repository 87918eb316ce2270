"""How fast the segmentation step runs on a GPU, against the package's own flow in the same run.

The step is the platform's own, store and all its files included: `raw_clips` are probed before, then `road_masks` is
made of a chunk of clips with the full-size network. The plain flow is what SAM 2's examples do: a folder of JPEGs,
`init_state`, eager propagation, the specification's clean-up, `savez_compressed`; its JPEGs are written before and not
counted.

Speed and memory do not depend on weights, so random ones do (`--checkpoint random`); what the masks show means nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from statistics import mean, median
from time import perf_counter, sleep
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Outcome, command_line, report
from benchmarks.mask_cleanup import literal_clean_up
from benchmarks.moving_clips import write_clip
from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.cleanup import clean_video_masks
from lanepaint_assets.segmentation.point_grid import grid_points
from lanepaint_assets.segmentation.steps import make_segmentation
from lanepaint_assets.settings import load_settings
from lanepaint_assets.store.items import PartitionOutcome

NAME = "segmentation_gpu"

CHUNK = "clips"
RANDOM = "random"

# More would only cost time to make.
DISTINCT_CLIPS = 2
# The plain flow takes ten seconds a clip; its first clip warms up and is not counted.
PLAIN_CLIPS = 3
PARTS = ("decode", "segment", "clean_up", "write")

TARGET_SPEEDUP = 3.0
TARGET_BUSY_SHARE = 0.8
TARGET_PEAK_GIB = 8.0
TARGET_COLD_START_S = 60.0

# NVML averages over at least a sixth of a second.
SAMPLE_S = 0.2


@dataclass
class BusyShare:
    """Share of time in which the GPU ran a kernel, as NVML samples it."""

    device: int = 0
    samples: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample while the block runs."""
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(self.device)
        done = threading.Event()

        def sample() -> None:
            while not done.is_set():
                self.samples.append((perf_counter(), pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100))
                sleep(SAMPLE_S)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def between(self, start: float, end: float) -> float:
        """Mean share in a stretch of time."""
        return mean(share for at, share in self.samples if start <= at <= end)


class ClipOnGpu:
    """A chunk of clips, the platform's step on it, and the plain flow.

    Args:
        folder: scratch.
        checkpoint: a file, or None for random weights.
        model: size of the network.
        clips: how many.
        frames: grid frames of each.
        size: width and height, pixels.
        workers: threads of the step.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path | None,
        model: str,
        clips: int,
        frames: int,
        size: tuple[int, int],
        workers: int,
    ) -> None:
        from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES
        from lanepaint_assets.segmentation.sam2.engine import Sam2RoadSegmenter
        from lanepaint_assets.segmentation.sam2.weights import RandomWeights

        self.folder = folder
        source = folder / "source"
        write_clips(source, clips, frames, size)
        self.architecture = ARCHITECTURES[model]  # type: ignore[index]  # the parser's choices
        self.weights = checkpoint or RandomWeights()
        self.engine = Sam2RoadSegmenter(self.weights, self.architecture, device="cuda")
        settings = load_settings(
            root=str(folder / "root"),
            source=str(source),
            segmenter="classical",
            workers=workers,
            frame_limit=frames,
            min_road_confidence=0.0,
        )
        self.finished: list[float] = []
        self.platform = Platform(settings, segmenter=self.engine, progress=self._listen)
        listing = next(iter(self.platform.source().chunks()))
        self.platform.store.save_chunk(
            ChunkMembership(key=CHUNK, source=self.platform.source().address, clips=listing.clips)
        )
        probed = make_raw_clips(self.platform, CHUNK, "benchmark")
        assert not probed.failed, probed.rows

    def step(self) -> PartitionOutcome:
        """`road_masks` of the whole chunk."""
        self.finished.clear()
        return make_segmentation(self.platform, CHUNK, "benchmark", {"road_masks"})["road_masks"]

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Decoded grid frames of a clip."""
        reader = ChunkReader(self.platform, CHUNK, NAME)
        facts = reader.facts(reader.clip_keys[index])
        with self.platform.source().open_video(facts.ref) as path:
            return read_frames(path, facts).frames

    def plain(self, predictor: Any, jpegs: Path, out: Path) -> None:
        """One clip as the package's examples and the specification's listing do it."""
        import torch

        # The package draws progress bars of its own.
        quiet = redirect_stderr(StringIO())
        with quiet, torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            state = predictor.init_state(video_path=str(jpegs))
            height, width = state["video_height"], state["video_width"]
            points = grid_points(width, height).astype(np.float32)
            predictor.add_new_points_or_box(
                state, frame_idx=0, obj_id=1, points=points, labels=np.ones(len(points), np.int32)
            )
            masks = []
            for _, _, logits in predictor.propagate_in_video(state):
                raw = (logits[0, 0] > 0.0).cpu().numpy()
                masks.append(literal_clean_up(raw.astype(np.uint8) * 255))
        np.savez_compressed(out, np.stack(masks) > 0)

    def _listen(self, asset: str, done: int, total: int, label: str) -> None:  # noqa: ARG002 - the listener's signature
        if asset == "road_masks" and done:
            self.finished.append(perf_counter())


def write_clips(folder: Path, clips: int, frames: int, size: tuple[int, int]) -> None:
    """Fill a folder with videos."""
    for clip in range(clips):
        path = folder / f"clip_{clip:03d}.mp4"
        if clip < DISTINCT_CLIPS:
            write_clip(path, frames, size, seed=clip)
        else:
            shutil.copyfile(folder / f"clip_{clip % DISTINCT_CLIPS:03d}.mp4", path)


def measure(subject: ClipOnGpu, clips: int, frames: int) -> Outcome:
    """Cold start, the plain flow, then the step; pixel loops are compiled before, as an installation does."""
    import torch

    from lanepaint_assets.segmentation.sam2.architecture import build_predictor

    outcome = Outcome()
    clean_video_masks(np.ones((1, 64, 64), dtype=np.bool_))
    _add_cold_start(outcome, subject)

    plain_s = _plain_seconds(subject, build_predictor(subject.architecture, torch.device("cuda")))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

    busy = BusyShare()
    watched = True
    started = perf_counter()
    try:
        with busy.watching():
            made = subject.step()
    except ImportError:
        watched = False
        made = subject.step()
    seconds = perf_counter() - started
    assert len(made.computed) == clips, [row.reason for row in made.rows if row.status != "ok"]
    peak_gib = torch.cuda.max_memory_reserved() / 2**30

    whole = f"whole step, {clips} clips of {frames} frames, clips an hour"
    outcome.add(whole, clips / seconds * 3600, "clips/h", "higher", baseline=3600 / plain_s)
    outcome.add(
        "whole step against the package's flow",
        plain_s * clips / seconds,
        "x",
        "higher",
        target=TARGET_SPEEDUP,
        baseline=1.0,
    )
    first, last = subject.finished[0], subject.finished[-1]
    if clips > 1:
        outcome.add("seconds a clip after the first", (last - first) / (clips - 1), "s", "lower", baseline=plain_s)
        if watched:
            outcome.add(
                "GPU busy after the first clip", busy.between(first, last), "share", "higher", target=TARGET_BUSY_SHARE
            )
        else:
            outcome.skip("GPU busy after the first clip", "nvidia-ml-py is not installed")
    outcome.add("first clip, seconds", first - started, "s", "lower")
    outcome.add("peak memory reserved by torch", peak_gib, "GiB", "lower", target=TARGET_PEAK_GIB)
    for part in PARTS:
        took = median(row.timings_s[part] for row in made.rows)
        outcome.add(f"{part}, frames a second of one thread{WAITS.get(part, '')}", frames / took, "1/s", "higher")
    pictures = subject.frames(0)
    alone = [_seconds(lambda: subject.engine.segment_video(pictures)) for _ in range(3)]
    outcome.add("network alone, frames a second", frames / median(alone), "1/s", "higher")
    return outcome


# What a part's clock includes beside its work.
WAITS = {"segment": ", waiting for the GPU included"}


def _plain_seconds(subject: ClipOnGpu, predictor: Any) -> float:
    """Median seconds of the plain flow on a clip, after one for warming up."""
    seconds = []
    for clip in range(PLAIN_CLIPS):
        jpegs = subject.folder / f"jpegs_{clip}"
        jpegs.mkdir()
        for index, frame in enumerate(subject.frames(clip % DISTINCT_CLIPS)):
            cv2.imwrite(str(jpegs / f"{index:05d}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        seconds.append(_seconds(lambda jpegs=jpegs: subject.plain(predictor, jpegs, subject.folder / "plain.npz")))
        shutil.rmtree(jpegs)
    return median(seconds[1:])


def _add_cold_start(outcome: Outcome, subject: ClipOnGpu) -> None:
    """From starting Python to the first clip's masks: imports, weights from disk, kernels."""
    import torch

    from lanepaint_assets.segmentation.sam2.architecture import build_predictor

    checkpoint = subject.folder / f"{subject.architecture.name}.pt"
    torch.save({"model": build_predictor(subject.architecture, torch.device("cuda")).state_dict()}, checkpoint)
    started = perf_counter()
    subprocess.run([sys.executable, "-m", f"benchmarks.{NAME}", "--cold-start", str(checkpoint)], check=True)
    outcome.add(
        "cold start: new process to the first frame's mask",
        perf_counter() - started,
        "s",
        "lower",
        target=TARGET_COLD_START_S,
    )


def cold_start(checkpoint: Path) -> None:
    """What a new step does before it has its first mask."""
    from upath import UPath

    from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES
    from lanepaint_assets.segmentation.sam2.engine import Sam2RoadSegmenter

    size = next(size for size, a in ARCHITECTURES.items() if a.name == checkpoint.stem)
    engine = Sam2RoadSegmenter.from_checkpoint(UPath(checkpoint.parent), sam2_model=size, device="cuda")
    engine.segment_video(np.zeros((1, 1080, 1920, 3), dtype=np.uint8))


def _seconds(method: Any) -> float:
    started = perf_counter()
    method()
    return perf_counter() - started


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    if options.cold_start:
        cold_start(options.cold_start)
        return
    import torch

    if not torch.cuda.is_available():
        outcome = Outcome()
        outcome.skip("all figures", "torch sees no GPU here")
        report(NAME, outcome, options.json)
        return
    checkpoint = None if options.checkpoint == RANDOM else Path(options.checkpoint)
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        subject = ClipOnGpu(
            Path(scratch), checkpoint, options.model, options.clips, options.frames, (width, height), options.workers
        )
        report(NAME, measure(subject, options.clips, options.frames), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Clips an hour of the segmentation step on a GPU, by part, and its memory.")
    parser.add_argument("--checkpoint", default=RANDOM, help="a sam2.1_hiera_*.pt file, or random (default)")
    parser.add_argument("--model", default="large", choices=("tiny", "small", "base_plus", "large"))
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--workers", type=int, default=6, help="threads of the step (default %(default)s)")
    parser.add_argument("--cold-start", type=Path, help=argparse.SUPPRESS)
    main(parser.parse_args())
