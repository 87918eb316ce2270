"""The comparison video: original and edited side by side, in step, each with its own predictions and minADE.

Called by the evaluation stage. A small preview for the HTML report is made from the same frames in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.rendering import drawing
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView
from lanepaint_assets.rendering.overlay import VIDEO_PRESET, ScenePainter
from lanepaint_assets.rendering.scene import TrajectoryScene

COMPARISON_CRF = 21
# The report holds one preview an item: about 200 KB for 12 s.
PREVIEW_MAX_WIDTH = 960
PREVIEW_CRF = 30
# A preview is small enough to spend effort on, and it is carried inside the report.
PREVIEW_PRESET = "superfast"
SEAM_COLOR: drawing.Color = (236, 240, 244)


def comparison_frames(scene: TrajectoryScene) -> Iterator[drawing.Picture]:
    """The comparison's frames one by one: (H, 2 W, 3) sRGB uint8; frame k holds frame k of both arms."""
    view = BirdsEyeView.around(scene)
    left, right = ScenePainter(scene, "original", view), ScenePainter(scene, "edited", view)
    width, height = scene.size
    for index in range(len(scene.original_frames)):
        pair = np.empty((height, 2 * width, 3), dtype=np.uint8)
        left.draw_frame(index, pair[:, :width])
        right.draw_frame(index, pair[:, width:])
        pair[:, width - 1 : width + 1] = SEAM_COLOR
        yield pair


def preview_size(width: int, height: int) -> tuple[int, int]:
    """Size of the preview of a (width, height) comparison: at most 960 px wide, both sides even as H.264 wants them."""
    factor = min(1.0, PREVIEW_MAX_WIDTH / width)
    return max(2, round(width * factor / 2) * 2), max(2, round(height * factor / 2) * 2)


def render_comparison(
    scene: TrajectoryScene,
    path: Path,
    preview_path: Path | None = None,
    crf: int = COMPARISON_CRF,
    preset: str = VIDEO_PRESET,
) -> None:
    """Write the side-by-side video to `path`, and its small preview to `preview_path`.

    Args:
        scene: what to show.
        path: the `*_comparison.mp4`.
        preview_path: the `*_comparison_preview.mp4` for the report, or None for none.
        crf: quality of the H.264 encoder for `path`, lower is better.
        preset: its effort.

    Source: spec 11, comparison video layout.
    """
    # Held back until the large video is written: 100 previews of 960 x 270 are 78 MB, a quarter of the scene's frames,
    # and two encoders at once would fight over the cores.
    kept: list[drawing.Picture] = []

    def tee() -> Iterator[drawing.Picture]:
        for frame in comparison_frames(scene):
            if preview_path is not None:
                size = preview_size(frame.shape[1], frame.shape[0])
                kept.append(np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8))
            yield frame

    write_video(path, tee(), scene.rate_hz, crf=crf, preset=preset)
    if preview_path is not None:
        write_video(preview_path, iter(kept), scene.rate_hz, crf=PREVIEW_CRF, preset=PREVIEW_PRESET)
