"""What the procedural painter knows of a clip before any prompt: its lines, and every frame without them.

Called once a clip by `procedural.py`. The steps have a module each (course, tracks, registration, removal); their order
is here. New paint is not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, UnpaintableSceneError
from lanepaint_assets.editing.frame_registration import FrameFit, register_frames
from lanepaint_assets.editing.frame_threads import in_order
from lanepaint_assets.editing.lane_tracks import LaneTrack, join_lines, with_both_boundaries
from lanepaint_assets.editing.line_strips import LineStrip, sample_strip
from lanepaint_assets.editing.marking_map import MarkingMap
from lanepaint_assets.editing.marking_removal import CleanBand, clean_band
from lanepaint_assets.editing.marking_standards import MarkingStandard
from lanepaint_assets.editing.mask_reach import ReachVotes, Seen, beyond_mask, limit_to_reached, look_beyond
from lanepaint_assets.editing.occlusion import Occlusion, RoadLook
from lanepaint_assets.editing.placed_lines import moved_onto_road
from lanepaint_assets.editing.road_band import band_pixels, course_view, pitched, pixel_rays, soft_paint_mask
from lanepaint_assets.editing.road_course import STEP_M, RigPose, RoadCourse, body_pitch, course_of, plan_poses
from lanepaint_assets.editing.road_surface import SURFACE_GRID, Surface, surface_of, without_lasting
from lanepaint_assets.editing.shading import PaintBrightness, linear_frame
from lanepaint_assets.lanes.attributes import Count
from lanepaint_assets.lanes.inspector import LaneInspection, RoadView

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

# Less of a line's way than this with a stroke on it is chance: even worn dashes of 2 m in 9 m show a fifth.
# Where no line was measured, the rim of gravel shows that often, too.
_MARKED_SHARE, _MARKED_SHARE_UNSEEN = 0.06, 0.25


class LineSource(Protocol):
    """The part of the inspector role that the painter needs."""

    def inspect(self, view: RoadView) -> LaneInspection: ...


@dataclass(frozen=True, eq=False)
class SceneAnalysis:
    """What all prompts of a clip share.

    Attributes:
        course: the road.
        tracks: the lines to paint, left to right.
        arc_m: (L, N) length along each line at each step of the course.
        marked_share: for each line the share of its way that shows old paint.
        bands: every frame's pixels near lines, without old markings.
        brightness: of the clip's own paint.
        lane_width_m: of the ego lane, NaN where it has one line only.
    """

    course: RoadCourse
    tracks: tuple[LaneTrack, ...]
    arc_m: Float
    marked_share: tuple[float, ...]
    bands: tuple[CleanBand, ...]
    brightness: PaintBrightness
    lane_width_m: float

    def shows_paint(self, line: int) -> bool:
        """Whether the clip shows old paint along a line."""
        return self.marked_share[line] > _MARKED_SHARE


def analyse_scene(scene: EditScene, lines: LineSource, standard: MarkingStandard) -> SceneAnalysis:
    """Measure, register, survey and clean a clip.

    Raises:
        UnpaintableSceneError: there is no road, no ego motion for its frames, no boundary of the ego lane, or no line
            inside the paint masks; the message says which.
    """
    # 1. Where the vehicle goes, and the lines it passes.
    poses, pitches = _poses(scene)
    targets = inspected_frames(scene.timestamps_us, poses)
    inspections = [lines.inspect(scene.view(k)) for k in targets]
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
        scene.frames, scene.paint_masks, scene.camera, course, poses, tracks, pitches, scene.ego.quality == "recorded"
    )
    tracks = moved_onto_road(tracks, len(fits), lambda k, track: _strip(scene, course, fits[k], k, track))
    # 3. Find the old markings over the whole clip; other lines without any are kerbs, seams or the road's edge.
    survey = _survey(scene, course, fits, tracks)
    share = survey.markings.marked_share()
    kept = [i for i, track in enumerate(tracks) if track.role != "other" or share[i] > _MARKED_SHARE]
    # 4. Take them out of every frame.
    bands = _cleaned(scene, course, fits, tracks, survey, kept)
    if not any(len(band.pixels) for band in bands):
        raise UnpaintableSceneError(f"the lane lines of {scene.item_key} lie outside its paint masks in every frame")
    painted = tuple(tracks[i] for i in kept)
    return SceneAnalysis(
        course=course,
        tracks=painted,
        arc_m=np.stack([track.arc_length_m(course) for track in painted]),
        marked_share=tuple(float(share[i]) for i in kept),
        bands=bands,
        brightness=survey.markings.brightness(),
        lane_width_m=_lane_width(painted),
    )


def _poses(scene: EditScene) -> tuple[tuple[RigPose, ...], Float]:
    """Plan poses and body pitches of all frames."""
    if not scene.paint_masks.any():
        raise UnpaintableSceneError(f"the paint masks of {scene.item_key} are empty: no road was found in the clip")
    try:
        positions, rotations = scene.ego.poses(scene.timestamps_us)
    except ValueError as error:
        raise UnpaintableSceneError(f"the ego motion of {scene.item_key} does not cover its frames: {error}") from error
    if scene.ego.quality != "recorded":
        return plan_poses(positions, rotations), np.zeros(len(positions))
    seconds = (scene.timestamps_us - scene.timestamps_us[0]) / 1e6
    return plan_poses(positions, rotations), body_pitch(seconds, positions, rotations)


def inspected_frames(timestamps_us: NDArray[np.int64], poses: tuple[RigPose, ...]) -> list[int]:
    """Frames to measure lines in: evenly over way and time, the first and the last one always."""
    way = np.concatenate([[0.0], np.cumsum([np.hypot(*(b.origin - a.origin)) for a, b in itertools.pairwise(poses)])])
    progress = way / _INSPECT_EVERY_M + (timestamps_us - timestamps_us[0]) / _INSPECT_EVERY_US
    count = int(np.clip(np.ceil(progress[-1]) + 1, 2, _MOST_INSPECTIONS))
    wanted = np.linspace(0.0, progress[-1], count)
    return sorted({int(np.argmin(np.abs(progress - w))) for w in wanted} | {0, len(poses) - 1})


def _bend_ahead(pose: RigPose, inspection: LaneInspection) -> Float | None:
    """The way of the ego lane ahead of the last frame, in the world: the clip's poses end there, the road does not."""
    ego = [line for line in inspection.lines if line.role != "other"]
    if not ego:
        return None
    x = np.arange(5.0, max(max(line.x_range_m[1] for line in ego), 10.0), 5.0)
    bend = np.mean([line.lateral_m(x) - line.lateral_m(np.zeros(1)) for line in ego], axis=0)
    return pose.to_world(np.stack([x, bend], axis=1))


@dataclass(frozen=True, eq=False)
class _Survey:
    """What the clip shows of its lines: asphalt beside them and what hides them in every frame, old markings."""

    surfaces: tuple[Surface, ...]
    markings: MarkingMap
    occlusions: tuple[Occlusion, ...]
    # Of every frame (L, J, M): cells of its strips that show road, on the paint mask or beyond it.
    reached: tuple[NDArray[np.bool_], ...]


def _strip(
    scene: EditScene,
    course: RoadCourse,
    fit: FrameFit,
    k: int,
    track: LaneTrack,
    beyond: NDArray[np.bool_] | None = None,
) -> LineStrip:
    """A line in frame k."""
    here = course.along(fit.pose)
    return sample_strip(
        scene.frames[k],
        scene.paint_masks[k],
        pitched(scene.camera, fit.pitch_down_rad),
        course,
        fit.pose,
        here,
        track.at(here + SURFACE_GRID.ahead_m),
        SURFACE_GRID,
        beyond,
    )


def _survey(scene: EditScene, course: RoadCourse, fits: tuple[FrameFit, ...], tracks: tuple[LaneTrack, ...]) -> _Survey:
    inner = tuple(0 if float(np.median(track.offset_m)) > 0 else 1 for track in tracks)

    def sample(k: int) -> tuple[list[LineStrip], list[Seen], Surface]:
        here = course.along(fits[k].pose)
        beyond = beyond_mask(scene.paint_masks[k])
        strips = [_strip(scene, course, fits[k], k, track, beyond) for track in tracks]
        seen = [
            look_beyond(strip, side, _old_half_width_m(t), t.s_range_m if t.measured else (0.0, 0.0))
            for strip, side, t in zip(strips, inner, tracks, strict=True)
        ]
        surface = surface_of(strips, here, inner)
        widened = [replace(strip, valid=strip.valid | one.road) for strip, one in zip(strips, seen, strict=True)]
        return widened, seen, surface

    markings = MarkingMap(len(tracks), course.length_m)
    look = RoadLook(SURFACE_GRID, course.length_m)
    ego = [i for i, track in enumerate(tracks) if track.role != "other"]
    inner_of_ego = [inner[i] for i in ego]
    votes = ReachVotes(len(tracks), course.length_m)
    surfaces = []
    for strips, seen, surface in in_order(sample, len(fits)):
        look.add(strips, np.stack([one.asked for one in seen]), surface.sides[ego, :, inner_of_ego])
        for i, strip in enumerate(strips):
            markings.add(i, strip, surface.sides[i].mean(axis=1))
        surfaces.append(surface)
        votes.add(seen, np.stack([strip.valid for strip in strips]), strips[0].s)
    occlusions = look.occlusions()
    reached = votes.reached([one.strange for one in occlusions])
    return _Survey(without_lasting(surfaces), markings, occlusions, reached)


def _cleaned(
    scene: EditScene,
    course: RoadCourse,
    fits: tuple[FrameFit, ...],
    tracks: tuple[LaneTrack, ...],
    survey: _Survey,
    kept: list[int],
) -> tuple[CleanBand, ...]:
    removal = survey.markings.removal([_old_half_width_m(track) for track in tracks])
    # Nothing to take away along a boundary without old paint.
    enough = np.where([track.measured for track in tracks], _MARKED_SHARE, _MARKED_SHARE_UNSEEN)
    removal[survey.markings.marked_share() <= enough] = 0.0
    removal = removal[kept]
    rays = pixel_rays(scene.camera)
    kept_lines = np.asarray(kept, dtype=np.int16)

    def clean(k: int) -> CleanBand:
        fit = fits[k]
        mask = soft_paint_mask(scene.paint_masks[k])
        view = course_view(course, fit.pose)
        at = view.first_s + np.arange(len(view.points), dtype=np.float64) * STEP_M
        offsets = np.stack([tracks[i].at(at) for i in kept])
        grown = soft_paint_mask(scene.paint_masks[k] | beyond_mask(scene.paint_masks[k]))
        pixels = band_pixels(rays, scene.camera, fit.pitch_down_rad, grown, view, offsets, _BAND_M)
        here = course.along(fit.pose)
        limit_to_reached(pixels, mask, survey.reached[k][kept], here)
        survey.occlusions[k].dim(here, kept_lines[pixels.line], pixels.s, pixels.m, pixels.alpha)
        surface = survey.surfaces[k].of_lines(kept)
        return clean_band(linear_frame(scene.frames[k]), mask, pixels, surface, removal)

    return tuple(in_order(clean, len(fits)))


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
    at = np.linspace(low, max(high, low), 50, dtype=np.float64)
    return float(np.mean(left[0].at(at) - right[0].at(at)))
