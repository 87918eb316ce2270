"""What an edited video is as written: the frames and times of its files, and what became of its background.

Called where an edited video is written or imported; `checks.py` judges these facts. Nothing is painted, composited or
encoded here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.clips.frame_sidecar import FrameSidecar
from lanepaint_assets.clips.records import FrameGrid
from lanepaint_assets.clips.video_file import open_video_file, read_timeline
from lanepaint_assets.compiled import compiled
from lanepaint_assets.rendering.mask_edges import MaskEdges, soften_mask


def frame_facts(video: Path, sidecar: Path, grid: FrameGrid) -> dict[str, JsonValue]:
    """Frames and times of a written video against its clip's grid; the packets are counted, nothing is decoded.

    Args:
        video, sidecar: the files.
        grid: the clip's, as `raw_clips` fixed it.

    Returns:
        `frames`: in the file; `source_frames`: of the grid; `time_error_us`: how far the sidecar's times are from those
        of the grid's first frames at the most, None where it has another number of entries than the file has frames.

    Raises:
        InvalidClipError: the video is damaged.
        ValueError: the sidecar is none.
    """
    with open_video_file(video) as (container, stream):
        frames = len(read_timeline(container, stream))
    times_us = FrameSidecar.from_json(sidecar.read_bytes(), sidecar.name).timestamps_us
    wanted_us = grid.timestamps_us[: times_us.size]
    fits = times_us.size == frames == wanted_us.size and frames > 0
    return {
        "frames": frames,
        "source_frames": len(grid),
        "time_error_us": int(np.abs(times_us - wanted_us).max()) if fits else None,
    }


def background_changed_px(
    source: NDArray[np.uint8], edited: NDArray[np.uint8], paint_masks: NDArray[np.bool_], edges: MaskEdges
) -> int:
    """Number of pixels, over all frames, that differ although nothing may be painted there.

    Args:
        source, edited: (T, H, W, 3) sRGB uint8, before encoding.
        paint_masks: (T, H, W) bool.
        edges: nothing may be painted where `soften_mask` is 0.

    Raises:
        ValueError: the shapes differ.
    """
    if source.shape != edited.shape or source.shape[:3] != paint_masks.shape:
        raise ValueError(f"the source is {source.shape}, the edit {edited.shape}, the masks {paint_masks.shape}")
    changed = 0
    for original, painted, mask in zip(source, edited, paint_masks, strict=True):
        # Painters that know the mask stay within it: then there is nothing to grow, which takes most of the time.
        if _differing_px(original, painted, mask):
            changed += _differing_px(original, painted, soften_mask(mask, edges) > 0.0)
    return changed


@compiled()
def _differing_px(source: NDArray[np.uint8], edited: NDArray[np.uint8], allowed: NDArray[np.bool_]) -> int:
    """Pixels outside `allowed` of which any colour differs."""
    differing = 0
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            if not allowed[y, x] and (
                source[y, x, 0] != edited[y, x, 0]
                or source[y, x, 1] != edited[y, x, 1]
                or source[y, x, 2] != edited[y, x, 2]
            ):
                differing += 1
    return differing
