"""Where paint lies on the road, measured from the pixels of a video: sub-pixel across a line, and the dashes' edges.

Called by the painter's part of this benchmark, for edited and unedited videos alike, so that the figures of the second
are the measure's own noise. It knows the truth of a sample drive (camera, recorded poses, lines), which says where to
look; it knows nothing of what a painter was told, and opens no painter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive.truth import ClipTruth, TrueLine
from lanepaint_assets.editing.shading import LUMINANCE, linear_frame
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Where lines are measured, metres ahead of the rig: from the picture's lower border on, as far as the targets go.
NEAREST_M, FARTHEST_M = 4.0, 25.0
STATION_M = 1.0

# Across the line: half a metre to each side, a fifth of the finest pixel.
_HALF_M, _ACROSS_M = 0.5, 0.01
# Strokes of a double line end 0.18 m from its middle; beyond 0.34 m is asphalt of any line.
_ASPHALT_FROM_M = 0.34
# Paint is at least this much brighter than asphalt; what counts for the middle is above half of the peak.
_PAINT_EXCESS = 0.25

# Along a dashed line, and how long paint and gap must last for the edge between them to be one.
_ALONG_M = 0.05
_STEADY_M = 0.9
# Profiles are averaged over so much to each side of the line's measured middle.
_CORE_M = 0.04


@dataclass(frozen=True)
class View:
    """One frame with what the truth knows of it: `light` (H, W) linear luminance, `road` (H, W) true road."""

    light: NDArray[np.float32]
    road: Bool
    camera: RigCamera
    position: Float
    rotation: Float

    def at(self, points: Float) -> tuple[Float, Bool]:
        """Light (N,) at world ground points (N, 2), and whether the picture shows road there."""
        world = np.column_stack([points, np.zeros(len(points))])
        pixels, seen = self.camera.project((world - self.position) @ self.rotation)
        x, y = (np.clip(pixels[:, i], -1e4, 1e4).astype(np.float32)[None] for i in (0, 1))
        light = cv2.remap(self.light, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        road = cv2.remap(self.road.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderValue=0)[0]
        return light.astype(np.float64), seen & (road > 0)


def view_of(picture: NDArray[np.uint8], truth: ClipTruth, source_frame: int, camera: RigCamera) -> View:
    """A decoded picture, as taken at source frame `source_frame` of a clip."""
    positions, rotations = truth.ego.poses(truth.timestamps_us[source_frame : source_frame + 1])
    light = (linear_frame(picture) @ np.asarray(LUMINANCE, np.float32)).astype(np.float32)
    return View(light, truth.road_mask(source_frame), camera, positions[0], rotations.as_matrix()[0])


@dataclass(frozen=True)
class Course:
    """A true line by its own length: `arc_m` (N,) at `points` (N, 2), and the ego lane's side of it (1 left)."""

    points: Float
    arc_m: Float
    inner: float

    def at(self, arc_m: Float) -> tuple[Float, Float]:
        """World points (M, 2) and unit normals to the left (M, 2)."""
        points = np.stack([np.interp(arc_m, self.arc_m, self.points[:, i]) for i in (0, 1)], axis=1)
        tangents = np.stack(
            [np.interp(arc_m, self.arc_m, np.gradient(self.points[:, i], self.arc_m)) for i in (0, 1)], axis=1
        )
        tangents /= np.hypot(tangents[:, 0], tangents[:, 1])[:, None]
        return points, np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)

    def stretch(self, view: View, step_m: float, margin_m: float = 0.0) -> tuple[Float, Float]:
        """Arc lengths every `step_m` of the part that lies within reach ahead, and how far ahead of the rig each is."""
        rig = (np.column_stack([self.points, np.zeros(len(self.points))]) - view.position) @ view.rotation
        near = np.flatnonzero((rig[:, 0] > 0) & (np.hypot(rig[:, 0], rig[:, 1]) < 3 * FARTHEST_M))
        ahead = rig[near, 0]
        if ahead.size < 2 or np.any(np.diff(ahead) <= 0):
            return np.zeros(0), np.zeros(0)
        wanted = np.array([NEAREST_M, FARTHEST_M + margin_m])
        first, last = np.interp(wanted, ahead, self.arc_m[near])
        arc = np.arange(np.ceil(first / step_m), np.floor(last / step_m) + 1) * step_m
        return arc, np.interp(arc, self.arc_m[near], ahead)


def course_of_line(line: TrueLine) -> Course:
    """The course of a true line."""
    points = line.points_m[:, :2]
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    return Course(points, arc, -1.0 if line.role == "ego_left" else 1.0)


@dataclass(frozen=True)
class Offsets:
    """Where paint was found along a line in one frame: arc length, metres ahead, metres to the left of the truth.

    `looked` counts the stations where the picture shows road.
    """

    arc_m: Float
    ahead_m: Float
    left_m: Float
    looked: int


def offsets_of(view: View, course: Course, paint_expected: Bool | None = None) -> Offsets:
    """The middle of the paint, at every station of a line.

    Args:
        view: the frame.
        course: the line.
        paint_expected: by point of the course; None where paint is expected everywhere.
    """
    arc, ahead = course.stretch(view, STATION_M)
    if paint_expected is not None and arc.size:
        wanted = np.interp(arc, course.arc_m, paint_expected.astype(np.float64)) > 0.99
        arc, ahead = arc[wanted], ahead[wanted]
    if not arc.size:
        return Offsets(arc, ahead, arc, 0)
    points, normals = course.at(arc)
    across = np.arange(-_HALF_M, _HALF_M + 1e-9, _ACROSS_M)
    light, road = view.at((points[:, None] + across[None, :, None] * normals[:, None]).reshape(-1, 2))
    light, road = light.reshape(arc.size, -1), road.reshape(arc.size, -1)
    clear = road[:, np.abs(across) < _ASPHALT_FROM_M].all(axis=1)
    # The brighter side's asphalt: beyond an edge line there may be gravel.
    sides = [np.median(light[:, side], axis=1) for side in (across < -_ASPHALT_FROM_M, across > _ASPHALT_FROM_M)]
    base = np.maximum(*sides)
    excess = np.where(np.abs(across) < _ASPHALT_FROM_M, light - base[:, None], 0.0)
    peak = excess.max(axis=1)
    weight = np.maximum(excess - 0.5 * peak[:, None], 0.0)
    left = (weight * across).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    found = clear & (peak > _PAINT_EXCESS * base)
    return Offsets(arc[found], ahead[found], left[found], int(clear.sum()))


@dataclass(frozen=True)
class Edges:
    """Dash edges found in one frame: arc length along the true line, metres ahead; `starts` tells starts from ends."""

    arc_m: Float
    ahead_m: Float
    starts: Bool


def dash_edges(view: View, course: Course, offsets: Offsets) -> Edges:
    """Where light along the line passes the middle between asphalt's and paint's.

    Args:
        view: the frame.
        course: the line.
        offsets: of the same frame and line: the profile is taken where its paint was found.
    """
    none = Edges(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))
    arc, ahead = course.stretch(view, _ALONG_M, margin_m=4.0)
    if offsets.arc_m.size < 3 or arc.size < 40:
        return none
    middle = np.interp(arc, offsets.arc_m, offsets.left_m)
    points, normals = course.at(arc)

    def profile(low: float, high: float) -> tuple[Float, Bool]:
        across = np.arange(low, high + 1e-9, 0.02)
        light, road = view.at(
            (points[:, None] + (middle[:, None] + across)[..., None] * normals[:, None]).reshape(-1, 2)
        )
        return light.reshape(arc.size, -1).mean(axis=1), np.asarray(road.reshape(arc.size, -1).all(axis=1))

    paint, on_road = profile(-_CORE_M, _CORE_M)
    beside = sorted((course.inner * _ASPHALT_FROM_M, course.inner * _HALF_M))
    asphalt, _ = profile(beside[0], beside[1])
    # A metre of asphalt: its own grain must not move edges.
    window = np.ones(round(1.0 / _ALONG_M))
    asphalt = np.convolve(np.pad(asphalt, window.size // 2, mode="edge"), window / window.size, "same")
    asphalt = asphalt[window.size // 2 : window.size // 2 + arc.size]
    ratio = paint / np.maximum(asphalt, 1e-5)
    bright = ratio[on_road & (ratio > 1.0 + 2 * _PAINT_EXCESS)]
    if bright.size < _STEADY_M / _ALONG_M:
        return none
    level = 0.5 * (1.0 + float(np.median(bright)))
    above = ratio > level
    steady = round(_STEADY_M / _ALONG_M)
    found = []
    for i in np.flatnonzero(above[1:] != above[:-1]):
        before, after = slice(i + 1 - steady, i + 1), slice(i + 1, i + 1 + steady)
        if i + 1 < steady or i + 1 + steady > arc.size or not (on_road[before].all() and on_road[after].all()):
            continue
        if (above[before] != above[i]).any() or (above[after] != above[i + 1]).any():
            continue
        share = (level - ratio[i]) / (ratio[i + 1] - ratio[i])
        at = float(np.interp(i + share, np.arange(arc.size), ahead))
        if at <= FARTHEST_M:
            found.append((arc[i] + share * _ALONG_M, at, bool(above[i + 1])))
    if not found:
        return none
    return Edges(np.array([f[0] for f in found]), np.array([f[1] for f in found]), np.array([f[2] for f in found]))


@dataclass(frozen=True)
class DashRecord:
    """All dash edges of one line of one clip: (N,) frame, arc length, metres ahead, and whether a dash starts there."""

    frame: NDArray[np.int64]
    arc_m: Float
    ahead_m: Float
    starts: Bool


@dataclass(frozen=True)
class DashPhase:
    """How firmly dashes stand on the road.

    Attributes:
        residual_m: (N,) every edge's distance from one phase for the whole clip, for starts and for ends.
        ahead_m: (N,) where the edges were measured, metres ahead of the rig.
        spread_m: mean over dash edges of the standard deviation of their places over the frames that show them, without
            readings beyond `NO_EDGE_M`.
        drift_m: how far the phase wanders in 100 frames: the trend of the frames' median residuals.
        length_m: painted length of a dash.
    """

    residual_m: Float
    ahead_m: Float
    spread_m: float
    drift_m: float
    length_m: float


# An edge farther than this from its line's phase belongs to no dash: a shadow, a vehicle, a crack.
NO_EDGE_M = 1.0

# Fewer edges, or a shorter part of the clip, say nothing about a trend.
_ENOUGH_EDGES = 24
_ENOUGH_FRAMES = 50
DRIFT_FRAMES = 100


def dash_phase(record: DashRecord, period_m: float) -> DashPhase | None:
    """The phase that all edges of a line share, and how they scatter about it; None where too little was seen.

    Args:
        record: the line's edges.
        period_m: of one dash and one gap.
    """
    if record.frame.size < _ENOUGH_EDGES or np.ptp(record.frame) < _ENOUGH_FRAMES:
        return None
    residual = np.empty(record.frame.size)
    number = np.empty(record.frame.size, dtype=np.int64)
    phases = []
    for kind in (True, False):
        of_kind = record.starts == kind
        arc = record.arc_m[of_kind]
        if not arc.size:
            return None
        phase = float(np.angle(np.exp(2j * np.pi * arc / period_m).mean())) * period_m / (2 * np.pi)
        # The median of the wrapped distances, twice: the circular mean feels outliers.
        for _ in range(2):
            wrapped = np.mod(arc - phase + period_m / 2, period_m) - period_m / 2
            phase += float(np.median(wrapped))
        residual[of_kind] = np.mod(arc - phase + period_m / 2, period_m) - period_m / 2
        number[of_kind] = 2 * np.round((arc - phase) / period_m).astype(np.int64) + int(kind)
        phases.append(phase)
    fits = np.abs(residual) < NO_EDGE_M
    of_edges = [residual[fits & (number == edge)] for edge in np.unique(number)]
    spreads = [float(places.std()) for places in of_edges if places.size >= 3]
    frames = np.unique(record.frame)
    means = np.array([np.median(residual[record.frame == k]) for k in frames])
    drift = _robust_slope(frames.astype(np.float64), means) * DRIFT_FRAMES
    length = float(np.mod(phases[1] - phases[0], period_m))
    return DashPhase(residual, record.ahead_m, float(np.mean(spreads)) if spreads else 0.0, drift, length)


def _robust_slope(x: Float, y: Float) -> float:
    """The median of the slopes between all pairs (Theil-Sen)."""
    i, j = np.triu_indices(x.size, 1)
    far = x[j] - x[i] >= 5
    return float(np.median((y[j] - y[i])[far] / (x[j] - x[i])[far]))
