"""Fitting every frame to the lines and the lines to all frames, so that new paint sits where the old one was.

Ego motion and calibration leave centimetres near the bonnet and, with a pitching body, decimetres at 30 m. The old
markings themselves say how far off a frame is. Called by the procedural painter's analysis, once a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from lanepaint_assets.editing.frame_threads import in_order
from lanepaint_assets.editing.lane_tracks import LaneTrack, smooth_offsets
from lanepaint_assets.editing.line_strips import LineStrip, StripGrid, sample_strip
from lanepaint_assets.editing.road_band import pitched
from lanepaint_assets.editing.road_course import RigPose, RoadCourse
from lanepaint_assets.editing.shading import LUMINANCE
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]

# Lines are read from the bonnet to where a stroke is still about two pixels wide.
REGISTRATION_GRID = StripGrid(count=72, first_m=4.0, last_m=45.0, half_width_m=0.75)

# A marking is this much brighter than asphalt at its peak, and no wider than a double line of wide strokes.
_PEAK = 0.18
_WIDEST_M = 0.75

# Asphalt to compare with, and how far from the peak a marking's own pixels reach.
_ASPHALT_M = 0.35
_REACH_M = 0.35

# What a frame may be off, one standard deviation: left (m), yaw and pitch (rad). Recorded motion is good to centimetres
# and a milliradian or two; estimated motion is worse in everything and knows no pitch.
_RECORDED = (0.03, 0.002, 0.002)
_ESTIMATED = (0.15, 0.010, 0.010)

# Recorded motion knows every bounce; what is left of it drifts over seconds, so single frames' noise is averaged away
# (it would move dashes by 15 cm at 25 m).
_STEADY_FRAMES = 8.0

# The second round reads where the first one put lines and frames; a third changes fits by less than a millimetre.
_ROUNDS = 2

# Standard deviations of a frame and a reading beyond which a reading is another thing than the line.
_LIKELY = 2.0

# What a line joined from a few inspections may be off before frames have been read.
_FIRST_ERROR_M = 0.2

# Error of one reading. Readings along one line share wear and shadow, so this is three times their scatter.
_READING_ERROR_M = 0.04
_READING_ERROR_PX = 0.5


@dataclass(frozen=True)
class FrameFit:
    """A frame's corrected pose and its pitch on top of the camera's, radians towards the ground."""

    pose: RigPose
    pitch_down_rad: float


@dataclass(frozen=True)
class _Reading:
    """Where one frame shows one line: s, rig x and y, slope, offset from the expected place, its error."""

    track: int
    s: Float
    x: Float
    y: Float
    slope: Float
    off: Float
    error: Float

    def only(self, kept: NDArray[np.bool_]) -> _Reading:
        return _Reading(
            self.track, self.s[kept], self.x[kept], self.y[kept], self.slope[kept], self.off[kept], self.error[kept]
        )


def register_frames(
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    camera: RigCamera,
    course: RoadCourse,
    poses: tuple[RigPose, ...],
    tracks: tuple[LaneTrack, ...],
    pitches_rad: Float,
    recorded: bool,
) -> tuple[tuple[FrameFit, ...], tuple[LaneTrack, ...]]:
    """Alternate between fitting frames to lines and lines to frames.

    Args:
        frames, masks: (T, H, W, 3) and (T, H, W).
        camera, course, poses, tracks: what is known so far.
        pitches_rad: (T,) known pitch of every frame, see `body_pitch`.
        recorded: whether ego motion was recorded (then it is trusted more).

    Returns:
        A fit for each frame and the tracks with refined courses.
    """
    limits = _RECORDED if recorded else _ESTIMATED
    fits = tuple(FrameFit(pose, float(pitch)) for pose, pitch in zip(poses, pitches_rad, strict=True))
    first = fits
    measured = [i for i, track in enumerate(tracks) if track.measured]
    if not measured:
        return fits, tracks
    eye_m = float(camera.position_m[2])
    for round_ in range(_ROUNDS):
        readings = _read_all(frames, masks, camera, course, fits, tracks, measured)
        readings = [[_likely(r, eye_m, limits, 0.0 if round_ else _FIRST_ERROR_M) for r in g] for g in readings]
        if round_ == 0:
            # Lines first, so that what all frames agree on is the line's and not every frame's error.
            still = [np.zeros(3)] * len(fits)
            moved = _refitted(course, tracks, readings, still, eye_m)
            readings = [[_against(r, tracks[r.track], moved[r.track]) for r in group] for group in readings]
            readings = [[_likely(r, eye_m, limits, 0.0) for r in group] for group in readings]
            tracks = moved
        steps = [_solve(r, eye_m, limits) for r in readings]
        if recorded:
            steps = list(gaussian_filter1d(np.stack(steps), _STEADY_FRAMES, axis=0, mode="nearest"))
        fits = tuple(_stepped(fits[k], first[k], step, limits) for k, step in enumerate(steps))
        tracks = _refitted(course, tracks, readings, steps, eye_m)
    return fits, tracks


def _against(reading: _Reading, before: LaneTrack, after: LaneTrack) -> _Reading:
    """The same reading measured from a line that was moved."""
    return replace(reading, off=reading.off - (after.at(reading.s) - before.at(reading.s)))


def _likely(reading: _Reading, eye_m: float, limits: tuple[float, float, float], line_error_m: float) -> _Reading:
    """Without what lies farther from the line than the frame, the reading and the line itself may be off.

    Between worn dashes the brightest thing is another one: a seam, the border of a shadow, half a metre away and the
    same in many frames, which then all lean towards it.
    """
    frame = np.sqrt(((_model(reading, eye_m) * np.asarray(limits)) ** 2).sum(axis=1))
    near = np.abs(reading.off) < _LIKELY * (frame + reading.error) + line_error_m
    return reading.only(near)


def _read_all(
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    camera: RigCamera,
    course: RoadCourse,
    fits: tuple[FrameFit, ...],
    tracks: tuple[LaneTrack, ...],
    which: list[int],
) -> list[list[_Reading]]:
    def read(k: int) -> list[_Reading]:
        return _read(frames[k], masks[k], camera, course, fits[k], tracks, which)

    return list(in_order(read, len(fits)))


def _read(
    frame: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    camera: RigCamera,
    course: RoadCourse,
    fit: FrameFit,
    tracks: tuple[LaneTrack, ...],
    which: list[int],
) -> list[_Reading]:
    here = course.along(fit.pose)
    seen_by = pitched(camera, fit.pitch_down_rad)
    result = []
    for i in which:
        s = here + REGISTRATION_GRID.ahead_m
        strip = sample_strip(frame, mask, seen_by, course, fit.pose, here, tracks[i].at(s), REGISTRATION_GRID)
        reading = _centre_of_paint(i, strip)
        if reading.s.size:
            result.append(reading)
    return result


def _centre_of_paint(track: int, strip: LineStrip) -> _Reading:
    columns = strip.grid.columns_m
    sides = np.stack([strip.asphalt(-1.0, -_ASPHALT_M), strip.asphalt(_ASPHALT_M, 1.0)])
    sides = np.where(np.isfinite(sides), sides, sides[::-1])
    # Paint is brighter than both of its sides; the edge of a shadow, or of gravel, only than one.
    light = sides @ np.asarray(LUMINANCE, np.float32)
    base = np.where((light[0] > light[1])[:, None], sides[0], sides[1]).astype(np.float32)
    signal = strip.markedness(base)
    peak = signal.max(axis=1)
    centre = columns[signal.argmax(axis=1)]
    weight = np.where(np.abs(columns[None] - centre[:, None]) <= _REACH_M, np.maximum(signal - 0.5 * _PEAK, 0.0), 0.0)
    total = weight.sum(axis=1)
    off = (weight * columns).sum(axis=1) / np.maximum(total, 1e-6)
    width = (signal > 0.5 * _PEAK).sum(axis=1) * strip.grid.column_m
    inside = np.abs(centre) < columns[-1] - 0.1
    good = (peak > _PEAK) & (width < _WIDEST_M) & inside & strip.valid[:, columns.size // 2]
    middle = columns.size // 2
    rig = strip.rig[:, middle]
    slope = np.gradient(rig[:, 1], rig[:, 0])
    # A pixel's width across the road is the distance between columns in metres over that in pixels.
    pixel_m = strip.grid.column_m / np.maximum(
        np.hypot(*(strip.pixels[:, middle + 1] - strip.pixels[:, middle]).T).astype(np.float64), 1e-3
    )
    error = _READING_ERROR_M + _READING_ERROR_PX * pixel_m
    return _Reading(track, strip.s, rig[:, 0], rig[:, 1], slope, off, error).only(good)


def _model(reading: _Reading, eye_m: float) -> Float:
    """(N, 3): how the readings move with a step to the left, a turn to the left, a pitch towards the ground.

    A pitch makes the road appear farther along the rays than it is: a point at x shows what is at x - x^2 / h * pitch,
    and the line's distance from the axis grows with it.
    """
    return np.stack(
        [
            -np.ones_like(reading.x),
            -reading.x,
            (reading.y * reading.x - reading.slope * reading.x**2) / max(eye_m, 0.3),
        ],
        axis=1,
    )


def _solve(readings: list[_Reading], eye_m: float, limits: tuple[float, float, float]) -> Float:
    """(3,) step left, yaw, pitch that explains the readings best within what is likely."""
    if not readings:
        return np.zeros(3)
    model = np.concatenate([_model(r, eye_m) for r in readings])
    off = np.concatenate([r.off for r in readings])
    error = np.concatenate([r.error for r in readings])
    robust = np.ones_like(off)
    step = np.zeros(3)
    for _ in range(4):
        w = robust / error**2
        normal = model.T @ (model * w[:, None]) + np.diag(1.0 / np.asarray(limits) ** 2)
        step = np.linalg.solve(normal, model.T @ (w * off))
        residual = np.abs(off - model @ step) / error
        robust = np.minimum(1.0, 2.0 / np.maximum(residual, 1e-6)) ** 2
    return step


def _stepped(fit: FrameFit, first: FrameFit, step: Float, limits: tuple[float, float, float]) -> FrameFit:
    pose = fit.pose.moved(float(step[0]), float(step[1]))
    if np.hypot(*(pose.origin - first.pose.origin)) > 6 * limits[0] + 0.3:
        # Further off than any registration error: the frame followed something that is not its line.
        return first
    pitch = fit.pitch_down_rad - first.pitch_down_rad + step[2]
    return FrameFit(pose, first.pitch_down_rad + float(np.clip(pitch, -5 * limits[2], 5 * limits[2])))


def _refitted(
    course: RoadCourse,
    tracks: tuple[LaneTrack, ...],
    readings: list[list[_Reading]],
    steps: list[Float],
    eye_m: float,
) -> tuple[LaneTrack, ...]:
    """Lines through what all frames read, each reading corrected by its frame's step."""
    result = list(tracks)
    for i, track in enumerate(tracks):
        pairs = [(r, step) for group, step in zip(readings, steps, strict=True) for r in group if r.track == i]
        if not pairs:
            continue
        s = np.concatenate([r.s for r, _ in pairs])
        off = np.concatenate([r.off - _model(r, eye_m) @ step for r, step in pairs])
        error = np.concatenate([r.error for r, _ in pairs])
        low, high = s.min(), s.max()
        # Beyond the readings the course stays as the inspector measured it, with little weight.
        steps_s = np.linspace(*track.s_range_m, 40)
        outside = steps_s[(steps_s < low) | (steps_s > high)]
        fitted = smooth_offsets(
            len(course.points),
            np.concatenate([s, outside]),
            np.concatenate([track.at(s) + off, track.at(outside)]),
            np.concatenate([error, np.full(outside.size, 0.2)]),
        )
        result[i] = replace(
            track, offset_m=fitted, s_range_m=(min(low, track.s_range_m[0]), max(high, track.s_range_m[1]))
        )
    for i, track in enumerate(tracks):
        if not track.measured:
            twin = min(
                (j for j, other in enumerate(tracks) if other.measured),
                key=lambda j: float(np.mean(np.abs(tracks[j].offset_m - track.offset_m))),
            )
            moved = result[twin].offset_m - tracks[twin].offset_m
            result[i] = replace(track, offset_m=track.offset_m + moved)
    return tuple(result)
