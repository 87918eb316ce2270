"""What `trajectory_videos` does, without Dagster, and what `edited_trajectories` puts aside for it.

The videos are drawn from an item's `*_vis_data.npz` alone: neither the clip nor the edited video is opened again. CPU
work: no driver is asked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.engines import is_foundation_model, parse_label
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.results import DriverStamp
    from lanepaint_assets.evaluation.vis_data import ShownClip
    from lanepaint_assets.rendering.scene import EngineLabel

# Raise when the drawing changes.
TRAJECTORY_VIDEOS_VERSION = "2"

VIS_DATA_SUFFIX = "_vis_data.npz"


def make_trajectory_videos(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Overlay and comparison video of every clip x prompt."""
    reader = ChunkReader(platform, chunk, "trajectory_videos")
    trajectories = reader.manifest("edited_trajectories")
    edits = reader.edits(selection)
    tasks = []
    for key, edit in edits.items():
        need = needs({"edited_trajectories": (trajectories, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="trajectory_videos",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=None,
                    params={"algorithm": TRAJECTORY_VIDEOS_VERSION},
                ),
                selected=edit.selected,
                blocked=need.blocked,
            )
        )

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.clips.video_file import InvalidClipError
        from lanepaint_assets.evaluation.vis_data import VisData, VisDataError
        from lanepaint_assets.rendering.comparison import render_comparison
        from lanepaint_assets.rendering.overlay import render_overlay

        started = perf_counter()
        edit = edits[task.key]
        stem = Path(reader.edited_name(edit.clip_key)).stem
        name = f"{stem}{VIS_DATA_SUFFIX}"
        try:
            scene = VisData.from_npz(platform.store.read_bytes(trajectories.rows[task.key], name), name).scene()
            loaded = perf_counter()
            render_overlay(scene, folder / f"{stem}_overlay.mp4")
            overlaid = perf_counter()
            render_comparison(scene, folder / f"{stem}_comparison.mp4", folder / f"{stem}_comparison_preview.mp4")
        except (VisDataError, InvalidClipError) as error:
            raise ItemError(str(error)) from error
        return ItemOutput(
            facts={"prompt": edit.prompt.key},
            timings_s={
                "load": loaded - started,
                "overlay": overlaid - loaded,
                "comparison": perf_counter() - overlaid,
            },
        )

    return run_items(
        platform.store,
        "trajectory_videos",
        chunk,
        reader.spread(tasks),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("trajectory_videos"),
    )


def shown_clip(reader: ChunkReader, item_key: str, edit: Edit, driver: DriverStamp) -> ShownClip:
    """What the videos of one item show beside the driver's answers.

    The original's frames are encoded once a clip: all prompts share them. The edited video is encoded as the original
    is, not copied: both arms then look alike, and 100 frames of 960 x 540 take 2.6 MB instead of 7.8. A copy would save
    1.7 s of CPU here and cost 1.4 s when overlay and comparison decode it.

    Raises:
        ItemError: the edited video does not lie on its clip's frame grid.
    """
    from lanepaint_assets.evaluation.bridge import resize_bilinear
    from lanepaint_assets.evaluation.vis_data import ShownClip, encoded_frames

    clip, geometry = reader.frames(edit.clip_key), reader.geometry(edit.clip_key)
    edited_frames, times_us = reader.edited_frames(item_key)
    strange = np.setdiff1d(times_us, clip.timestamps_us)
    if strange.size:
        raise ItemError(
            f"the edited video {item_key} has a frame at {int(strange[0])} us, which is not on its clip's frame grid; "
            "materialize edited_videos of the chunk again"
        )
    # An edited video may show a part of the clip only.
    index = np.searchsorted(clip.timestamps_us, times_us)
    height, width = clip.frames.shape[1:3]
    rate_hz = clip.grid.rate_hz

    def encoded() -> bytes:
        return encoded_frames(clip.frames if len(index) == len(clip.frames) else clip.frames[index], rate_hz)

    key = ("shown_original", edit.clip_key, reader.clips.rows[edit.clip_key].fingerprint, index.tobytes().hex())
    return ShownClip(
        original_mp4=reader.platform.memory.get(key, encoded),
        edited_mp4=encoded_frames(resize_bilinear(edited_frames, width, height), rate_hz),
        timestamps_us=times_us,
        taken_us=clip.taken_us[index],
        rate_hz=rate_hz,
        size=(width, height),
        camera=geometry.camera,
        ego=geometry.ego,
        engines=edit_engines(reader.manifest("edited_videos").rows[item_key], driver, edit),
    )


def edit_engines(edited: ItemRow, driver: DriverStamp, edit: Edit) -> tuple[EngineLabel, ...]:
    """The engines that had a part in one item: its driver, and its painter unless nothing was painted."""
    from lanepaint_assets.rendering.scene import EngineLabel

    if edit.prompt.kind == "roundtrip" or edited.engine is None:
        return (driver.label,)
    painted = EngineLabel("painter", *parse_label(edited.engine), is_foundation_model(edited.engine))
    return (painted, driver.label)
