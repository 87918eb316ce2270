"""The `procedural` painter: lane paint of exactly known geometry, drawn on the road in metres, without model weights.

The analysis of a clip (`scene_analysis.py`) is shared by all prompts; painting a prompt only walks the pixels near
lines (`lane_paint.py`). Called by the editing stage through the roles of `engine.py`. Here: which line gets which
paint, and what people are told about it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, PaintInstruction, UnpaintableSceneError
from lanepaint_assets.editing.frame_threads import in_order
from lanepaint_assets.editing.lane_paint import LinePaint, line_paint, paint_pixels, paint_table
from lanepaint_assets.editing.lane_tracks import LaneTrack
from lanepaint_assets.editing.marking_standards import (
    DOUBLE_GAP_IN_LINE_WIDTHS,
    MarkingStandard,
    marking_standard,
    nonstandard_reason,
)
from lanepaint_assets.editing.road_course import STEP_M
from lanepaint_assets.editing.scene_analysis import LineSource, SceneAnalysis, analyse_scene
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LineRole
from lanepaint_assets.lanes.measured import MeasuredLaneInspector

Float = NDArray[np.float64]

# A lane narrower or wider than this was not measured right.
_LANE_WIDTH_RANGE_M = (2.2, 5.0)


@dataclass(frozen=True)
class PaintedLine:
    """One line as it was painted.

    Attributes:
        role: which boundary.
        style: what was painted.
        measured: False where the line was placed and not seen.
        flags: what a person should know about it.
    """

    role: LineRole
    style: LaneStyle
    measured: bool
    flags: tuple[str, ...]


@dataclass(frozen=True)
class PaintReport:
    """What a clip's edit consists of; `lane_width_m` is the ego lane's mean, NaN where it has one line only."""

    lines: tuple[PaintedLine, ...]
    lane_width_m: float
    flags: tuple[str, ...]


@dataclass(eq=False)
class _Analysis:
    """What was learnt of one scene, or why it cannot be painted; None until somebody asked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    result: SceneAnalysis | UnpaintableSceneError | None = None


class ProceduralPainter:
    """Paints first frames and videos alike; one instance serves all items of a step, from any number of threads."""

    name = "procedural"
    version = "3"

    def __init__(self, lines: LineSource | None = None) -> None:
        """`lines` measures where the clip's lane lines are; by default the CPU inspector, whichever one judges."""
        self._lines: LineSource = lines or MeasuredLaneInspector()
        self._guard = threading.Lock()
        # A scene's analysis lives as long as the scene: whoever holds the clip in memory decides.
        self._analyses: weakref.WeakKeyDictionary[EditScene, dict[str, _Analysis]] = weakref.WeakKeyDictionary()

    def prepare(self, captions: Sequence[str]) -> None:
        """Nothing: this engine reads no words."""

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        analysis = self._analysed(scene, marking_standard(instruction.marking_standard))
        frame: NDArray[np.uint8] = self._paint(scene, instruction, analysis, [0])[0]
        return frame

    def paint_video(
        self,
        scene: EditScene,
        first_frame: NDArray[np.uint8],
        instruction: PaintInstruction,
    ) -> NDArray[np.uint8]:
        """See `VideoPainter`. The same paint is laid on every frame; frame 0 is `first_frame` as it is."""
        if first_frame.shape != scene.frames.shape[1:]:
            raise ValueError(f"the first frame is {first_frame.shape}, the clip's frames are {scene.frames.shape[1:]}")
        analysis = self._analysed(scene, marking_standard(instruction.marking_standard))
        result = self._paint(scene, instruction, analysis, list(range(len(scene.frames))))
        result[0] = first_frame
        return result

    def describe(self, scene: EditScene, instruction: PaintInstruction) -> PaintReport:
        """What `paint_video` paints: lines, styles, lane width and flags.

        Raises:
            UnpaintableSceneError: as `paint_video`.
        """
        standard = marking_standard(instruction.marking_standard)
        analysis = self._analysed(scene, standard)
        painted = []
        for i, track in enumerate(analysis.tracks):
            style, flags = _style_of(track, instruction.style, analysis.tracks)
            if track.measured and not analysis.shows_paint(i):
                flags.append("no old paint was seen along it: it may be the road's edge")
            if not track.measured:
                flags.append(f"not seen in the clip; placed {analysis.lane_width_m:.2f} m from the other boundary")
            if instruction.style is not None and (reason := nonstandard_reason(style, standard)):
                flags.append(reason)
            painted.append(PaintedLine(track.role, style, track.measured, tuple(flags)))
        width = analysis.lane_width_m
        general = []
        if np.isfinite(width) and not _LANE_WIDTH_RANGE_M[0] <= width <= _LANE_WIDTH_RANGE_M[1]:
            general.append(f"the ego lane measures {width:.1f} m; the clip's camera geometry may be off")
        if scene.camera.quality != "calibrated":
            general.append(f"the camera geometry is {scene.camera.quality}: metres are only as good as it")
        if scene.ego.quality != "recorded":
            general.append("ego motion was estimated from the pictures: dash positions may drift")
        return PaintReport(tuple(painted), width, tuple(general))

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:
        """The flags of `describe`, each once, with the lines that it concerns."""
        report = self.describe(scene, instruction)
        concerned: dict[str, list[str]] = {}
        for line in report.lines:
            for flag in line.flags:
                concerned.setdefault(flag, []).append(line.role.replace("_", " "))
        lines = (f"{', '.join(dict.fromkeys(roles))}: {flag}" for flag, roles in concerned.items())
        return (*report.flags, *lines)

    def _paint(
        self, scene: EditScene, instruction: PaintInstruction, analysis: SceneAnalysis, which: list[int]
    ) -> NDArray[np.uint8]:
        standard = marking_standard(instruction.marking_standard)
        paints = tuple(
            _paint_of(track, arc, instruction.style, standard, analysis.tracks)
            for track, arc in zip(analysis.tracks, analysis.arc_m, strict=True)
        )
        table = paint_table(paints, analysis.arc_m, analysis.brightness, instruction.seed)
        result = np.empty((len(which), *scene.frames.shape[1:]), np.uint8)

        def paint(row: int) -> None:
            k = which[row]
            result[row] = paint_pixels(scene.frames[k], analysis.bands[k], table)

        list(in_order(paint, len(which)))
        return result

    def _analysed(self, scene: EditScene, standard: MarkingStandard) -> SceneAnalysis:
        with self._guard:
            entry = self._analyses.setdefault(scene, {}).setdefault(standard.name, _Analysis())
        # Its own lock a scene: two prompts never analyse one clip twice, and two clips never wait for each other.
        with entry.lock:
            if entry.result is None:
                try:
                    entry.result = analyse_scene(scene, self._lines, standard)
                except UnpaintableSceneError as error:
                    entry.result = error
            if isinstance(entry.result, UnpaintableSceneError):
                raise entry.result
            return entry.result


def _style_of(track: LaneTrack, wanted: LaneStyle | None, tracks: tuple[LaneTrack, ...]) -> tuple[LaneStyle, list[str]]:
    """The style to paint a line in, and what had to be assumed.

    An attribute that was not measured is taken from the ego lane's other boundary, else it is the most common one:
    single, white, solid.
    """
    if wanted is not None:
        return wanted, []
    style, flags = track.style, []
    others = [t.style for t in tracks if t.role != "other" and t is not track]

    def known(value: str) -> bool:
        return value not in ("unknown", "mixed")

    count = next((c for c in [style.count, *(o.count for o in others)] if known(c)), Count.SINGLE)
    color = next((c for c in [style.color, *(o.color for o in others)] if known(c)), Color.WHITE)
    pattern = next((p for p in [style.pattern, *(o.pattern for o in others)] if known(p)), Pattern.SOLID)
    assumed = LaneStyle(count, color, pattern)
    for name, was, now in (
        ("count", style.count, count),
        ("color", style.color, color),
        ("pattern", style.pattern, pattern),
    ):
        if was != now:
            flags.append(f"its {name} could not be measured; painted {now}")
    return assumed, flags


def _paint_of(
    track: LaneTrack,
    arc_m: Float,
    wanted: LaneStyle | None,
    standard: MarkingStandard,
    tracks: tuple[LaneTrack, ...],
) -> LinePaint:
    style, _ = _style_of(track, wanted, tracks)
    paint = line_paint(style, standard)
    if wanted is not None:
        return paint
    # As measured: also where the strokes and dashes were, as far as that is known.
    if np.isfinite(track.width_m) and track.measured:
        paint = replace(paint, width_m=track.width_m, gap_m=track.width_m * DOUBLE_GAP_IN_LINE_WIDTHS)
    if style.pattern is Pattern.DASHED and np.isfinite(track.phase_m) and 0 < track.dash_m < track.period_m:
        # A dash that begins on the course: phases are known up to whole periods.
        begins_s = track.phase_m % track.period_m
        begins = float(np.interp(begins_s / STEP_M, np.arange(arc_m.size), arc_m))
        paint = replace(paint, dash_m=track.dash_m, period_m=track.period_m, phase_m=begins)
    return paint
