"""The `procedural` painter: lane paint of exactly known geometry, drawn on the road in metres, without model weights.

The analysis of a clip (lines, registration, removal) is shared by all prompts; painting a prompt only walks the pixels near
lines. Called by the editing stage through the roles of `engine.py`. Measuring, geometry, removal and paint each have a
module of their own; only their order is here.

Source: DESIGN part 3; the method follows facts on road markings (world-anchored curve and dash phase, linear light).
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, PaintInstruction, UnpaintableSceneError
from lanepaint_assets.editing.frame_registration import FrameFit, register_frames
from lanepaint_assets.editing.lane_paint import LinePaint, line_paint, paint_pixels, paint_table
from lanepaint_assets.editing.lane_tracks import LaneTrack, join_lines, with_both_boundaries
from lanepaint_assets.editing.line_strips import sample_strip
from lanepaint_assets.editing.marking_removal import (
    SURFACE_GRID,
    CleanBand,
    MarkingMap,
    Surface,
    clean_band,
    surface_of,
)
from lanepaint_assets.editing.marking_standards import MarkingStandard, marking_standard, nonstandard_reason
from lanepaint_assets.editing.road_band import band_pixels, course_view, pitched, pixel_rays, soft_paint_mask
from lanepaint_assets.editing.road_course import STEP_M, RigPose, RoadCourse, course_of, plan_poses
from lanepaint_assets.editing.shading import PaintBrightness, linear_frame
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneInspection, LineRole, RoadView

Float = NDArray[np.float64]

# Lines are measured again after this much way or time: each measurement sees 30 to 40 m, so neighbours overlap well.
_INSPECT_EVERY_M = 12.0
_INSPECT_EVERY_US = 2_000_000
_MOST_INSPECTIONS = 14

# Half width of the band around a line: a double line of wide strokes, its removal margin, and the paint's soft edge.
_BAND_M = 0.42

# Old paint is looked for this far beyond its measured strokes; a line of unmeasured width is taken for a wide one.
_OLD_MARGIN_M = 0.05
_UNMEASURED_WIDTH_M = 0.20

# A lane narrower or wider than this was not measured right.
_LANE_WIDTH_RANGE_M = (2.2, 5.0)


class LineSource(Protocol):
    """The part of the inspector role that the painter needs."""

    def inspect(self, view: RoadView) -> LaneInspection: ...


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


@dataclass(frozen=True, eq=False)
class _Analysis:
    """What all prompts of a clip share."""

    course: RoadCourse
    tracks: tuple[LaneTrack, ...]
    arc_m: Float
    bands: tuple[CleanBand, ...]
    brightness: PaintBrightness
    lane_width_m: float


class ProceduralPainter:
    """Paints first frames and videos alike; one instance serves all items of a step, from any number of threads."""

    name = "procedural"
    version = "1"

    def __init__(self, lines: LineSource) -> None:
        """`lines` measures where the clip's lane lines are."""
        self._lines = lines
        self._lock = threading.Lock()
        self._scene: weakref.ref[EditScene] | None = None
        self._analysis: _Analysis | UnpaintableSceneError | None = None

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        analysis = self._analysed(scene, marking_standard(instruction.marking_standard))
        return self._paint(scene, instruction, analysis, [0])[0]

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
        for track in analysis.tracks:
            style, flags = _style_of(track, instruction.style, analysis.tracks)
            if not track.measured:
                flags.append(f"not seen in the clip; placed {standard.lane_width_m:g} m from the other boundary")
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

    def _paint(
        self, scene: EditScene, instruction: PaintInstruction, analysis: _Analysis, which: list[int]
    ) -> NDArray[np.uint8]:
        standard = marking_standard(instruction.marking_standard)
        paints = tuple(_paint_of(track, instruction.style, standard, analysis.tracks) for track in analysis.tracks)
        table = paint_table(paints, analysis.arc_m, analysis.brightness, instruction.seed)
        result = np.empty((len(which), *scene.frames.shape[1:]), np.uint8)
        for row, k in enumerate(which):
            result[row] = paint_pixels(scene.frames[k], analysis.bands[k], table)
        return result

    def _analysed(self, scene: EditScene, standard: MarkingStandard) -> _Analysis:
        # One entry: items come clip by clip. The lock also keeps two prompts from analysing the same clip twice.
        with self._lock:
            if self._scene is None or self._scene() is not scene or self._analysis is None:
                try:
                    self._analysis = _analyse(scene, self._lines, standard)
                except UnpaintableSceneError as error:
                    self._analysis = error
                self._scene = weakref.ref(scene)
            if isinstance(self._analysis, UnpaintableSceneError):
                raise self._analysis
            return self._analysis


def _analyse(scene: EditScene, lines: LineSource, standard: MarkingStandard) -> _Analysis:
    # 1. Where the vehicle goes, and the lines it passes.
    poses = _poses(scene)
    targets = inspected_frames(scene.timestamps_us, poses)
    inspections = [lines.inspect(_view(scene, k)) for k in targets]
    course = course_of(poses, _bend_ahead(poses[targets[-1]], inspections[-1]))
    tracks = join_lines(course, [poses[k] for k in targets], inspections)
    tracks = with_both_boundaries(tracks, standard.lane_width_m)
    if not any(track.role != "other" for track in tracks):
        reasons = sorted({i.reason for i in inspections if i.reason})
        why = f": {'; '.join(reasons)}" if reasons else ""
        raise UnpaintableSceneError(
            f"no boundary of the ego lane was found in {len(targets)} inspected frames of {scene.item_key}{why}"
        )
    # 2. Fit frames and lines to each other.
    fits, tracks = register_frames(
        scene.frames, scene.paint_masks, scene.camera, course, poses, tracks, scene.ego.quality == "recorded"
    )
    # 3. Find the old markings over the whole clip, then take them out of every frame.
    bands, brightness = _cleaned(scene, course, fits, tracks)
    if not any(len(band.pixels) for band in bands):
        raise UnpaintableSceneError(f"the lane lines of {scene.item_key} lie outside its paint masks in every frame")
    arc = np.stack([track.arc_length_m(course) for track in tracks])
    return _Analysis(course, tracks, arc, bands, brightness, _lane_width(tracks))


def _poses(scene: EditScene) -> tuple[RigPose, ...]:
    if not scene.paint_masks.any():
        raise UnpaintableSceneError(f"the paint masks of {scene.item_key} are empty: no road was found in the clip")
    try:
        return plan_poses(*scene.ego.poses(scene.timestamps_us))
    except ValueError as error:
        raise UnpaintableSceneError(f"the ego motion of {scene.item_key} does not cover its frames: {error}") from error


def inspected_frames(timestamps_us: NDArray[np.int64], poses: tuple[RigPose, ...]) -> list[int]:
    """Frames to measure lines in: evenly over way and time, the first and the last one always."""
    way = np.concatenate(
        [[0.0], np.cumsum([np.hypot(*(b.origin - a.origin)) for a, b in zip(poses, poses[1:], strict=False)])]
    )
    progress = way / _INSPECT_EVERY_M + (timestamps_us - timestamps_us[0]) / _INSPECT_EVERY_US
    count = int(np.clip(np.ceil(progress[-1]) + 1, 2, _MOST_INSPECTIONS))
    wanted = np.linspace(0.0, progress[-1], count)
    return sorted({int(np.argmin(np.abs(progress - w))) for w in wanted} | {0, len(poses) - 1})


def _view(scene: EditScene, target: int) -> RoadView:
    return RoadView(
        frames=scene.frames,
        timestamps_us=scene.timestamps_us,
        target_index=target,
        camera=scene.camera,
        ego=scene.ego,
        road_masks=scene.paint_masks,
    )


def _bend_ahead(pose: RigPose, inspection: LaneInspection) -> Float | None:
    """The way of the ego lane ahead of the last frame, in the world: the clip's poses end there, the road does not."""
    ego = [line for line in inspection.lines if line.role != "other"]
    if not ego:
        return None
    x = np.arange(5.0, max(max(line.x_range_m[1] for line in ego), 10.0), 5.0)
    bend = np.mean([line.lateral_m(x) - line.lateral_m(np.zeros(1)) for line in ego], axis=0)
    return pose.to_world(np.stack([x, bend], axis=1))


def _cleaned(
    scene: EditScene, course: RoadCourse, fits: tuple[FrameFit, ...], tracks: tuple[LaneTrack, ...]
) -> tuple[tuple[CleanBand, ...], PaintBrightness]:
    inner = [0 if float(np.median(track.offset_m)) > 0 else 1 for track in tracks]
    markings = MarkingMap(len(tracks), course.length_m)
    surfaces: list[Surface] = []
    for k, fit in enumerate(fits):
        linear = linear_frame(scene.frames[k])
        here = course.along(fit.pose)
        camera = pitched(scene.camera, fit.pitch_down_rad)
        stations = here + SURFACE_GRID.ahead_m
        strips = [
            sample_strip(linear, scene.paint_masks[k], camera, course, fit.pose, here, t.at(stations), SURFACE_GRID)
            for t in tracks
        ]
        surface = surface_of(strips, here, inner)
        for i, strip in enumerate(strips):
            markings.add(i, strip, surface.sides[i].mean(axis=1))
        surfaces.append(surface)
    removal = markings.removal([_old_half_width_m(track) for track in tracks])
    rays = pixel_rays(scene.camera)
    bands = []
    for k, fit in enumerate(fits):
        mask = soft_paint_mask(scene.paint_masks[k])
        view = course_view(course, fit.pose)
        at = view.first_s + np.arange(len(view.points)) * STEP_M
        offsets = np.stack([track.at(at) for track in tracks])
        pixels = band_pixels(rays, scene.camera, fit.pitch_down_rad, mask, view, offsets, _BAND_M)
        bands.append(clean_band(linear_frame(scene.frames[k]), mask, pixels, surfaces[k], inner, removal))
    return tuple(bands), markings.brightness()


def _old_half_width_m(track: LaneTrack) -> float:
    """How far from its centre a line's old paint may lie: its strokes as measured, and what measuring may be off."""
    width = track.width_m if np.isfinite(track.width_m) else _UNMEASURED_WIDTH_M
    strokes = 0.5 if track.style.count is Count.SINGLE else 1.5
    return min(strokes * width + _OLD_MARGIN_M, _BAND_M)


def _lane_width(tracks: tuple[LaneTrack, ...]) -> float:
    left = [t for t in tracks if t.role == "ego_left"]
    right = [t for t in tracks if t.role == "ego_right"]
    if not left or not right:
        return float("nan")
    low = max(left[0].s_range_m[0], right[0].s_range_m[0])
    high = min(left[0].s_range_m[1], right[0].s_range_m[1])
    at = np.linspace(low, max(high, low), 50)
    return float(np.mean(left[0].at(at) - right[0].at(at)))


def _style_of(track: LaneTrack, wanted: LaneStyle | None, tracks: tuple[LaneTrack, ...]) -> tuple[LaneStyle, list[str]]:
    """The style to paint a line in, and what had to be assumed.

    An attribute that was not measured is taken from the ego lane's other boundary, else it is the most common one: single,
    white, solid.
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
    for field, was, now in (
        ("count", style.count, count),
        ("color", style.color, color),
        ("pattern", style.pattern, pattern),
    ):
        if was != now:
            flags.append(f"its {field} could not be measured; painted {now}")
    return assumed, flags


def _paint_of(
    track: LaneTrack, wanted: LaneStyle | None, standard: MarkingStandard, tracks: tuple[LaneTrack, ...]
) -> LinePaint:
    style, _ = _style_of(track, wanted, tracks)
    return line_paint(style, standard)
