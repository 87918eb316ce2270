"""How long the CPU pipeline works on one clip, by stage, and against decoding and encoding the clip once.

Measures the engines' own functions on a clip of the sample drive, one clip alone on all cores, without Dagster and
store: what a person waits for is this plus the writing of masks and pictures. Quality is `cpu_engines`' topic.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.records import ClipFacts, ClipFrames
from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.clips.sources import ClipSource, open_source
from lanepaint_assets.editing.catalogue import Prompt
from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.refinement import FirstFrameRequest, refine_first_frames
from lanepaint_assets.evaluation.bridge import CameraView, driver_moment, find_t0, ground_truth, replace_camera
from lanepaint_assets.evaluation.driver import DriverOutput
from lanepaint_assets.evaluation.vis_data import encoded_frames
from lanepaint_assets.lanes.geometry import ClipGeometry, clip_geometry
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.rendering.overlay import render_overlay
from lanepaint_assets.rendering.scene import EngineLabel, TrajectoryScene
from lanepaint_assets.segmentation.cleanup import clean_video_masks
from lanepaint_assets.settings import load_settings
from lanepaint_assets.store.seeds import seeds

NAME = "pipeline_cpu"

# A road that no one tuned on: the demo and the tests use small seeds.
EVALUATION_SEED = 90_017
FRAMES = 100
# The longest of 100 grid frames at 8 Hz, and the driver's future behind them.
CLIP_S = 14.0
PROMPT = "double_yellow_solid"
TARGET_S = 20.0
# Enough frames for every engine to compile what it compiles, few enough not to wait for.
WARM_UP_FRAMES = 24

PER_CLIP_STAGES = ("decode", "segment", "clean_up", "geometry")
PER_PROMPT_STAGES = ("first_frame", "edit", "encode", "drive", "render")


@dataclass
class Stopwatch:
    """Seconds by stage, a value a round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        started = perf_counter()
        yield
        self.seconds.setdefault(name, []).append(perf_counter() - started)


class ClipPipeline:
    """The pipeline on the one clip of a sample drive.

    Args:
        folder: where the sample drive and the videos go; a sample drive of an earlier run is used again.
        frames: how many grid frames to use.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        write_sample_drive(
            folder / "sample", seed=EVALUATION_SEED, chunks=1, clips_per_chunk=1, seconds=CLIP_S, other_cameras=False
        )
        settings = load_settings(root=str(folder / "root"), engines="cpu")
        self.results = folder
        self.platform = Platform(settings)
        self.prompt: Prompt = self.platform.catalogue[PROMPT]
        self.source: ClipSource = open_source(str(folder / "sample"), settings.cameras)
        self.facts: ClipFacts = probe_clip(
            self.source, next(self.source.chunks()).clips[0], settings.clip_grid, settings.frame_limit
        )
        self.part = slice(0, frames)

    def run(self, watch: Stopwatch) -> None:
        """All stages once: from the video file to the finished comparison."""
        with watch.stage("decode"):
            clip = self._decoded()
        with watch.stage("segment"):
            raw = self.platform.segmenter.segment_video(clip.frames)
        with watch.stage("clean_up"):
            masks = clean_video_masks(raw)
        with watch.stage("geometry"):
            geometry = self._geometry(clip)
        scene = EditScene(
            self.facts.ref.item_key, clip.frames, clip.taken_us, masks.paint, geometry.camera, geometry.ego
        )
        with watch.stage("first_frame"):
            first, instruction = self._first_frame(scene)
        with watch.stage("edit"):
            painted = self.platform.video_painter.paint_video(scene, first, instruction)
            settings = self.platform.settings
            edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
            edited = composite_video(clip.frames, painted, masks.paint, edges)
        with watch.stage("encode"):
            write_video(self.results / "edited.mp4", edited, clip.grid.rate_hz)
        with watch.stage("drive"):
            shown = self._driven(clip, geometry, edited)
        with watch.stage("render"):
            render_overlay(shown, self.results / "overlay.mp4")
            render_comparison(shown, self.results / "comparison.mp4", self.results / "preview.mp4")

    def copy(self) -> None:
        """The plain method: decode the clip and encode it again."""
        clip = self._decoded()
        write_video(self.results / "copy.mp4", clip.frames, clip.grid.rate_hz)

    def _decoded(self) -> ClipFrames:
        with self.source.open_video(self.facts.ref) as path:
            return read_frames(path, self.facts, self.part)

    def _geometry(self, clip: ClipFrames) -> ClipGeometry:
        camera = self.source.camera(self.facts.ref)
        if camera is not None:
            camera = camera.resized(self.facts.width, self.facts.height)
        return clip_geometry(clip.frames, clip.taken_us, camera, self.source.egomotion(self.facts.ref))

    def _first_frame(self, scene: EditScene) -> tuple[NDArray[np.uint8], PaintInstruction]:
        platform, settings = self.platform, self.platform.settings
        view = RoadView(scene.frames, scene.timestamps_us, 0, scene.camera, scene.ego, scene.paint_masks)
        wanted = self.prompt.style or platform.inspector.inspect(view).style
        instruction = PaintInstruction(self.prompt.style, "", settings.marking_standard, EVALUATION_SEED)
        caption = platform.inspector.first_caption(self.prompt.instruction, wanted, scene.frames[0])
        request = FirstFrameRequest(scene, replace(instruction, caption=caption), wanted, self.prompt.instruction)
        [(_, refined)] = refine_first_frames(
            [request],
            platform.first_frame_painter,
            platform.inspector,
            settings.refine_iterations,
            MaskEdges(settings.mask_dilation_px, settings.mask_feather_px),
        )
        if isinstance(refined, Exception):
            raise refined
        return refined.picture, replace(instruction, caption=refined.caption)

    def _driven(self, clip: ClipFrames, geometry: ClipGeometry, edited: NDArray[np.uint8]) -> TrajectoryScene:
        """Both arms of the driver, as the videos show them."""
        driver, camera = self.platform.driver, self.facts.ref.camera
        moment = find_t0(clip.timestamps_us, geometry.ego.span_us)
        view = CameraView(clip.frames, clip.timestamps_us, geometry.camera)
        before = driver_moment(moment, camera, clip.timestamps_us, {camera: view}, geometry.ego, driver.cameras)
        drawn = seeds(self.platform.settings.study_seed, "driver", self.facts.ref.item_key, 6)
        original: DriverOutput = driver.predict(before, drawn)
        after = driver.predict(replace_camera(before, camera, edited, clip.timestamps_us), drawn)
        return TrajectoryScene(
            original_mp4=encoded_frames(clip.frames, clip.grid.rate_hz),
            edited_mp4=encoded_frames(edited, clip.grid.rate_hz),
            size=(clip.frames.shape[2], clip.frames.shape[1]),
            timestamps_us=clip.timestamps_us,
            taken_us=clip.taken_us,
            rate_hz=clip.grid.rate_hz,
            t0_us=moment.t0_us,
            camera=geometry.camera,
            ego=geometry.ego,
            gt_future_m=ground_truth(geometry.ego, moment),
            history_m=before.history_xyz_m,
            original_trajectories_m=original.trajectories_m,
            edited_trajectories_m=after.trajectories_m,
            clip_id=self.facts.ref.clip_id,
            camera_name=camera,
            prompt_key=self.prompt.key,
            prompt_text=self.prompt.instruction,
            engines=(EngineLabel("driver", driver.name, driver.version, False),),
        )


def measure(folder: Path, rounds: int) -> Outcome:
    """Warm up, then alternate the pipeline and the plain copy.

    Args:
        folder: scratch; a sample drive in it is used again.
        rounds: medians are taken over these.
    """
    pipeline = ClipPipeline(folder, FRAMES)
    pipeline.part = slice(0, WARM_UP_FRAMES)
    pipeline.run(Stopwatch())
    pipeline.part = slice(0, FRAMES)
    watch = Stopwatch()
    whole = alternating_seconds({"pipeline": lambda: pipeline.run(watch), "copy": pipeline.copy}, rounds)
    outcome = Outcome()
    for stage in (*PER_CLIP_STAGES, *PER_PROMPT_STAGES):
        per = "clip" if stage in PER_CLIP_STAGES else "clip and prompt"
        outcome.add(f"{stage}, seconds a {per}", median(watch.seconds[stage]), "s", "lower")
    outcome.add(
        "whole pipeline, seconds a clip and prompt",
        whole["pipeline"],
        "s",
        "lower",
        target=TARGET_S,
        baseline=whole["copy"],
    )
    outcome.add(
        "whole pipeline over decoding and encoding once", whole["pipeline"] / whole["copy"], "x", "lower", baseline=1.0
    )
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        folder: Path = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report(NAME, measure(folder, options.rounds), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, f"Seconds of the CPU pipeline per {FRAMES}-frame 960x540 clip, by stage.")
    parser.add_argument("--folder", type=Path, help="keep the sample drive and the videos here")
    main(parser.parse_args())
