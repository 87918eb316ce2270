"""The sample drives that the CPU engines are measured on, and what the parts share of each clip.

Two lists of seeds: constants may be set while looking at development drives; the figures that count come from
evaluation drives, which nobody looks at. Rendered drives can be kept in a folder: a clip takes a quarter of a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.records import ClipFacts, ClipFrames
from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.clips.sample_drive.truth import ClipTruth, read_truth
from lanepaint_assets.clips.sources import ClipSource, open_source
from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.refinement import FirstFrameRequest, Refinement, refine_first_frames
from lanepaint_assets.lanes.geometry import ClipGeometry, clip_geometry
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.segmentation.cleanup import CleanedMasks, clean_video_masks
from lanepaint_assets.store.seeds import seeds

DriveList = Literal["evaluation", "development"]

# Each seed's four clips show the four scenarios once. Ten evaluation seeds make 40 clips: 200 judged edits, and more
# than 200 frames, lines and driving moments. The demo and the tests use seeds below 100.
SEEDS: dict[DriveList, tuple[int, ...]] = {
    "evaluation": tuple(range(90_100, 90_110)),
    "development": (1001, 1002, 1003),
}
CLIPS_PER_SEED = 4
# The longest of 100 grid frames at 8 Hz, and some driving behind them.
CLIP_S = 14.0


@dataclass(eq=False)
class DriveClip:
    """One clip of a sample drive, with its truth and what the engines make of it, each computed once at need.

    Attributes:
        platform: the engines, chosen by settings (`engines=cpu`).
        source: where the clip is read from.
        facts: as `raw_clips` has them.
        truth: what the renderer knows; source frame k of it is `facts.grid.source_index[i]` of grid frame i.
    """

    platform: Platform
    source: ClipSource
    facts: ClipFacts
    truth: ClipTruth

    @property
    def name(self) -> str:
        return f"{self.truth.scenario} {self.facts.ref.clip_id}"

    @cached_property
    def video(self) -> ClipFrames:
        """All grid frames."""
        with self.source.open_video(self.facts.ref) as path:
            return read_frames(path, self.facts)

    @cached_property
    def raw_masks(self) -> NDArray[np.bool_]:
        """(T, H, W) as the segmenter gives them."""
        return self.platform.segmenter.segment_video(self.video.frames)

    @cached_property
    def masks(self) -> CleanedMasks:
        """Road and paint masks."""
        return clean_video_masks(self.raw_masks)

    @cached_property
    def geometry(self) -> ClipGeometry:
        """Recorded camera and ego motion."""
        camera = self.source.camera(self.facts.ref)
        if camera is not None:
            camera = camera.resized(self.facts.width, self.facts.height)
        return clip_geometry(self.video.frames, self.video.taken_us, camera, self.source.egomotion(self.facts.ref))

    @cached_property
    def scene(self) -> EditScene:
        """What painters are given."""
        return EditScene(
            self.facts.ref.item_key,
            self.video.frames,
            self.video.taken_us,
            self.masks.paint,
            self.geometry.camera,
            self.geometry.ego,
        )

    def view(self, frames: slice, target: int) -> RoadView:
        """What inspectors are given: grid frames `frames`, the answer about the one at `target` of them."""
        return RoadView(
            self.video.frames[frames],
            self.video.taken_us[frames],
            target,
            self.geometry.camera,
            self.geometry.ego,
            self.masks.paint[frames],
        )

    def first_frame(self, prompt: str) -> Refinement:
        """The first frame of an edit, with what the judge said of it, as `first_frames` makes it.

        Raises:
            UnpaintableSceneError: the painter found nothing to paint.
        """
        chosen = self.platform.catalogue[prompt]
        assert chosen.style is not None, "control prompts have no wanted style"
        [(_, result)] = refine_first_frames(
            [FirstFrameRequest(self.scene, self._instruction(prompt), chosen.style, chosen.instruction)],
            self.platform.first_frame_painter,
            self.platform.inspector,
            self.platform.settings.refine_iterations,
            self._edges,
        )
        if isinstance(result, Exception):
            raise result
        return result

    def edited(self, prompt: str) -> NDArray[np.uint8]:
        """(T, H, W, 3) the edited video before encoding, as `edited_videos` makes it.

        Raises:
            UnpaintableSceneError: the painter found nothing to paint.
        """
        first = self.first_frame(prompt).picture
        painted = self.platform.video_painter.paint_video(self.scene, first, self._instruction(prompt))
        return composite_video(self.video.frames, painted, self.masks.paint, self._edges)

    @property
    def _edges(self) -> MaskEdges:
        settings = self.platform.settings
        return MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)

    def _instruction(self, prompt: str) -> PaintInstruction:
        settings, chosen = self.platform.settings, self.platform.catalogue[prompt]
        (seed,) = seeds(settings.study_seed, "painter", self.facts.ref.item_key, 1)
        caption = self.platform.inspector.first_caption(
            chosen.instruction,
            chosen.style or self.platform.inspector.inspect(self.view(slice(0, 1), 0)).style,
            self.video.frames[0],
        )
        return PaintInstruction(chosen.style, caption, settings.marking_standard, seed)


def drive_clips(
    folder: Path, seed_list: DriveList, platform: Platform, limit: int | None = None
) -> Iterator[DriveClip]:
    """The clips, one after the other, so that memory holds one.

    Args:
        folder: where rendered drives are kept.
        seed_list: which seeds.
        platform: its engines make the clips' results.
        limit: use the first so many seeds only.
    """
    for seed in SEEDS[seed_list][:limit]:
        place = folder / f"seed_{seed}"
        write_sample_drive(
            place, seed=seed, chunks=1, clips_per_chunk=CLIPS_PER_SEED, seconds=CLIP_S, other_cameras=False
        )
        source = open_source(str(place), platform.settings.cameras)
        for ref in next(source.chunks()).clips:
            facts = probe_clip(source, ref, platform.settings.clip_grid, platform.settings.frame_limit)
            yield DriveClip(platform, source, facts, read_truth(place, ref.clip_id))
