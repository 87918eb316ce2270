"""A study on small clips through the real steps, with fast engines and without Dagster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.editing.steps import make_edited_videos, make_first_frames
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import Driver, DriverInput, DriverOutput
from lanepaint_assets.evaluation.trajectory_steps import make_edited_trajectories, make_original_trajectories
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.steps import make_segmentation
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.manifest import Manifest
from lanepaint_assets_tests.fixtures import AgreeingInspector, Journal, StripePainter, TrapezoidSegmenter
from lanepaint_assets_tests.unit.clips.mirror import WIDE

CHUNK = "chunk_0000"
EDIT = "single_white_dashed"


class RecordingDriver(ConstantVelocityDriver):
    """Straight on, and keeps what it was shown."""

    def __init__(self, cameras: tuple[str, ...] = (WIDE,)) -> None:
        super().__init__(cameras)
        self.moments: list[DriverInput] = []

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        self.moments.append(moment)
        return super().predict(moment, seeds)


class Study:
    """One chunk of a source, one edit and the control prompts."""

    def __init__(self, root: Path, source: Path, **chosen: Any) -> None:
        self._settings = {
            "root": str(root),
            "source": str(source),
            "prompts": (EDIT,),
            "samples": 1,
            "min_road_confidence": 0.0,
            **chosen,
        }

    def platform(self, shown: Driver, **changes: Any) -> Platform:
        journal = Journal()
        painter = StripePainter(journal)
        return Platform(
            Settings(**{**self._settings, **changes}),
            segmenter=TrapezoidSegmenter(journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=AgreeingInspector(),
            driver=shown,
        )

    def make_edits(self, platform: Platform) -> None:
        """Register the first chunk of the source, and make all that the driver is asked about."""
        found = platform.source()
        listing = next(iter(found.chunks()))
        platform.store.save_chunk(ChunkMembership(key=CHUNK, source=found.address, clips=listing.clips))
        make_raw_clips(platform, CHUNK, "run")
        make_segmentation(platform, CHUNK, "run", {"road_masks", "vp_inputs"})
        make_first_frames(platform, CHUNK, "run", ())
        make_edited_videos(platform, CHUNK, "run", ())

    def original(self, platform: Platform) -> dict[str, str]:
        """Make the original arms: item key to its status, or to the reason why there is none."""
        return _said(make_original_trajectories(platform, CHUNK, "run").manifest)

    def edited(self, platform: Platform) -> dict[str, str]:
        """Make the edited arms: the same."""
        return _said(make_edited_trajectories(platform, CHUNK, "run", ()).manifest)


def _said(manifest: Manifest) -> dict[str, str]:
    return {key: row.reason or row.status for key, row in manifest.rows.items()}
