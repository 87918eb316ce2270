"""The comparison video: original and edited side by side, in step, each with its own predictions and minADE.

Called by the evaluation stage. A small preview for the HTML report is made from the same frames in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2

from lanepaint_assets.clips.encoding import write_pictures
from lanepaint_assets.clips.planes import Planes, new_frame
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView
from lanepaint_assets.rendering.canvas import even, plane_values
from lanepaint_assets.rendering.overlay import VIDEO_PRESET, ScenePainter
from lanepaint_assets.rendering.scene import Color, TrajectoryScene

COMPARISON_QP = 22
# The report holds one preview an item: about 200 KB for 12 s.
PREVIEW_MAX_WIDTH = 960
PREVIEW_QP = 30
# A preview is small enough to spend effort on, and it is carried inside the report.
PREVIEW_PRESET = "superfast"
SEAM_COLOR: Color = (236, 240, 244)


def comparison_frames(scene: TrajectoryScene) -> Iterator[av.VideoFrame]:
    """The comparison's frames one by one, twice as wide as the scene's; frame k holds frame k of both arms.

    Raises:
        InvalidClipError: a video is damaged.
    """
    view = BirdsEyeView.around(scene)
    left, right = ScenePainter(scene, "original", view), ScenePainter(scene, "edited", view)
    width, height = scene.canvas_size
    arms = zip(scene.frames("original"), scene.frames("edited"), strict=True)
    for index, (original, edited) in enumerate(arms):
        frame = new_frame(2 * width, height)
        planes = Planes.of(frame)
        for painter, picture, x in ((left, original, 0), (right, edited, width)):
            panel = planes.part(x, 0, width, height)
            panel.take(picture)
            painter.draw_frame(index, panel)
        _draw_seam(planes, width)
        yield frame


def preview_size(width: int, height: int) -> tuple[int, int]:
    """Size of the preview of a (width, height) comparison: at most 960 px wide, both sides even as H.264 wants them."""
    factor = min(1.0, PREVIEW_MAX_WIDTH / width)
    return max(2, even(width * factor)), max(2, even(height * factor))


def render_comparison(
    scene: TrajectoryScene,
    path: Path,
    preview_path: Path | None = None,
    qp: int = COMPARISON_QP,
    preset: str = VIDEO_PRESET,
) -> None:
    """Write the side-by-side video to `path`, and its small preview to `preview_path`.

    Args:
        scene: what to show.
        path: the `*_comparison.mp4`.
        preview_path: the `*_comparison_preview.mp4` for the report, or None for none.
        qp: quantizer of the H.264 encoder for `path`, lower is better.
        preset: its effort.

    Source: spec 11, comparison video layout.
    """
    # Held back until the large video is written: 100 previews of 960 x 270 are 39 MB, and two encoders at once would
    # fight over the cores.
    kept: list[av.VideoFrame] = []

    def tee() -> Iterator[av.VideoFrame]:
        for frame in comparison_frames(scene):
            if preview_path is not None:
                kept.append(_reduced(frame))
            yield frame

    write_pictures(path, tee(), scene.rate_hz, qp=qp, preset=preset)
    if preview_path is not None:
        write_pictures(preview_path, kept, scene.rate_hz, qp=PREVIEW_QP, preset=PREVIEW_PRESET)


def _draw_seam(planes: Planes, x: int) -> None:
    """A line of two pixels where the panels meet."""
    for plane, value, reduction in zip(planes.all, plane_values(SEAM_COLOR), (1, 2, 2), strict=True):
        plane[:, x // reduction - 1 : x // reduction + 1] = value


def _reduced(frame: av.VideoFrame) -> av.VideoFrame:
    small = new_frame(*preview_size(frame.width, frame.height))
    for source, target in zip(Planes.of(frame).all, Planes.of(small).all, strict=True):
        cv2.resize(source, target.shape[::-1], dst=target, interpolation=cv2.INTER_AREA)
    return small
