"""The `measured` lane inspector: bird's-eye lane measurement without weights, as inspector, caption writer and judge.

Engine for `lanes.inspector.LaneInspector`; stages create it through their settings. How lines are found is
`detection.py`'s work, how an edit is judged `judging.py`'s: here are the engine's name, its memory and its first words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.detection import Detection, detect_lines
from lanepaint_assets.lanes.edit_reading import Reference, ground_alike
from lanepaint_assets.lanes.geometry import ClipGeometry, clip_geometry, estimate_camera
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, RoadView, Verdict
from lanepaint_assets.lanes.judging import judge_edit
from lanepaint_assets.lanes.readability import unreadable_reason
from lanepaint_assets.rendering.cameras import RigCamera


class MeasuredLaneInspector:
    """Measures lane lines on the ground plane; deterministic, no weights, nothing to load."""

    name = "measured"
    version = "3"

    def __init__(self) -> None:
        # Estimating a clip's geometry costs a second; every frame and every prompt of the clip asks for it.
        self._estimated: tuple[NDArray[np.uint8], ClipGeometry] | None = None
        self._reference: tuple[RoadView, bytes, Reference] | None = None

    def inspect(self, view: RoadView) -> LaneInspection:
        """Measure the lines of the target frame; a road that cannot be read gives no lines and the reason.

        The road's style is summed up over the ego lane's boundaries: see `summary_style`.
        """
        known = self._with_geometry(view)
        inspection, _ = _inspect(known)
        return inspection

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:  # noqa: ARG002
        """The normalized caption of the wanted style.

        Measuring finds no words in a picture that the style does not say already, so the instruction's wording and the
        frame are left to engines that read and write. A style with unknown parts is worded by the instruction.
        """
        return wanted.caption if wanted.is_known else (instruction.strip() or wanted.caption)

    def judge(
        self,
        original: RoadView,
        edited: RoadView,
        wanted: LaneStyle,
        caption: str,
        instruction: str = "",  # noqa: ARG002
    ) -> Verdict:
        """Judge from what is measured in `edited`; `original` lends its camera, its road's course and its texture.

        `original` may hold more pictures than `edited`: motion shows its lines better.
        """
        before = self._with_geometry(original)
        # The edit shows the same drive: its geometry is the original's, even where the edit is a single picture.
        after = replace(edited, camera=edited.camera or before.camera, ego=edited.ego or before.ego)
        inspection, found = _inspect(after)
        return judge_edit(self._reference_of(before, after), inspection, found, wanted, caption)

    def release(self) -> None:
        """Nothing is held that is worth giving back."""

    def _reference_of(self, before: RoadView, after: RoadView) -> Reference:
        """What the original lends to judging; the last one is kept, for every prompt of a clip asks for it."""
        moments = after.timestamps_us.tobytes()
        # Read once: another thread may put its own clip's there at any moment.
        held = self._reference
        if held is None or held[1] != moments or not _same(held[0], before):
            inspection, _ = _inspect(before)
            held = (before, moments, Reference(inspection.lines, ground_alike(before, after)))
            self._reference = held
        return held[2]

    def _with_geometry(self, view: RoadView) -> RoadView:
        """Fill in camera and ego motion; the last clip's estimates are kept."""
        if view.camera is not None and (view.ego is not None or len(view.frames) == 1):
            return view
        if len(view.frames) == 1:
            return replace(view, camera=estimate_camera(view.frames))
        held = self._estimated
        if held is None or held[0] is not view.frames:
            held = (view.frames, clip_geometry(view.frames, view.timestamps_us, view.camera, view.ego))
            self._estimated = held
        geometry = held[1]
        return replace(view, camera=view.camera or geometry.camera, ego=view.ego or geometry.ego)


def _same(known: RoadView, asked: RoadView) -> bool:
    """Whether two views are of the same pictures with the same geometry, by identity."""
    return (
        known.frames is asked.frames
        and known.target_index == asked.target_index
        and known.camera is asked.camera
        and known.ego is asked.ego
        and known.road_masks is asked.road_masks
    )


def _inspect(view: RoadView) -> tuple[LaneInspection, Detection | None]:
    camera = view.camera
    assert camera is not None
    reason = unreadable_reason(view.frames[view.target_index], camera)
    if reason is not None:
        return LaneInspection((), UNKNOWN_STYLE, 0.0, camera, reason), None
    detection = detect_lines(view, camera, view.ego)
    return _summed_up(detection, camera), detection


def _summed_up(detection: Detection, camera: RigCamera) -> LaneInspection:
    boundaries = [line for line in detection.lines if line.role != "other"]
    if not detection.lines:
        return LaneInspection((), UNKNOWN_STYLE, 0.0, camera, "no lane line stands out from the road")
    if not boundaries:
        return LaneInspection(
            detection.lines, UNKNOWN_STYLE, 0.0, camera, "lines were found, but none beside the vehicle's own lane"
        )
    confidence = float(np.mean([line.confidence * _known_share(line.style) for line in boundaries]))
    reason = None
    if len(boundaries) == 1:
        # Half of the lane is a guess.
        confidence *= 0.7
        reason = f"only the {boundaries[0].role.replace('_', ' ')} boundary was found"
    return LaneInspection(detection.lines, summary_style(boundaries), confidence, camera, reason)


def _known_share(style: LaneStyle) -> float:
    """Trust in a line by its attributes: something on which nothing can be read is seldom a line at all."""
    known = sum(word != "unknown" for word in (style.count, style.color, style.pattern))
    return (0.3, 0.6, 0.85, 1.0)[known]


def summary_style(boundaries: list[LaneLine]) -> LaneStyle:
    """One style for the ego lane's boundaries.

    Equal values stand; a value known of one boundary only stands for both; colours or patterns that differ are `mixed`;
    of counts that differ, which the vocabulary has no word for, the more certain line's stands.
    """
    sure_first = sorted(boundaries, key=lambda line: -line.style_confidence)
    counts = [line.style.count for line in sure_first if line.style.count is not Count.UNKNOWN]
    colors = {line.style.color for line in boundaries} - {Color.UNKNOWN}
    patterns = {line.style.pattern for line in boundaries} - {Pattern.UNKNOWN}
    return LaneStyle(
        counts[0] if counts else Count.UNKNOWN,
        Color.UNKNOWN if not colors else colors.pop() if len(colors) == 1 else Color.MIXED,
        Pattern.UNKNOWN if not patterns else patterns.pop() if len(patterns) == 1 else Pattern.MIXED,
    )
