"""What an edited picture shows along the ego lane's boundaries, read where the original's lines run.

Called by `judging.py`. The original says where to look: so an edit's line is found however few dashes it shows, and its
distance from the right course is known. Whether a reading is as wanted is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Color, LaneStyle
from lanepaint_assets.lanes.curves import CurveFit, refine_line, row_trust
from lanepaint_assets.lanes.detection import Detection
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole, RoadView
from lanepaint_assets.lanes.line_style import measure_style
from lanepaint_assets.lanes.paint_filter import find_paint
from lanepaint_assets.lanes.readability import unreadable_reason
from lanepaint_assets.lanes.strip import RoadStrip, accumulate_strip

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
StyleAttribute = Literal["count", "color", "pattern"]

BOUNDARIES: tuple[LineRole, ...] = ("ego_left", "ego_right")

# Paint of a boundary is looked for this far beside its course in the original: less than half of a narrow lane.
REACH_M = 1.4
# Half of the narrowest stroke.
OFFSET_STEP_M = 0.05
# Paint this near the course is the boundary's unless a line beside it shows more than twice as much.
ON_COURSE_M = 0.3
ON_COURSE_WORTH = 2.2
# Near paint says more of where a line runs than far paint, which a mask's rim or a vehicle may have spared.
NEARNESS_M = 15.0
# A line may show a little beyond where the original's did: half a gap of the longest dashes.
BEYOND_M = 4.0
# A line needs this much paint: the shortest dash of the tables (UK, 2 m) with its ends blurred.
MIN_PAINT_M = 1.8
# A dashed line of any standard shows a dash within 18 m of road in view; less road may be a gap.
VISIBLE_M = 20.0
# Where courses are compared: beyond, a nod of 0.1 degrees that nobody measured moves the ground by half a metre.
COURSE_X_M = (4.0, 20.0)
# Lanes are 2.5 to 3.75 m wide; measuring adds a little.
MAX_LANE_M = 4.2
# Mean grey levels by which ground that nobody painted differs from itself: resampled alike, it does not at all.
UNTOUCHED_LEVELS = 1.0
# Old paint that must be among untouched ground before it says anything: bare asphalt stays bare under any style.
UNTOUCHED_PAINT_M = 0.5
# Old paint beside a new line is looked for clear of its own strokes, near enough to be told from streaks of asphalt.
LEFTOVER_FROM_M, LEFTOVER_X_M = 0.3, (4.0, 25.0)
# Old paint along the line itself, as far off its course as a double line's strokes. Of the right edits of development
# drives all but one kept under 2.7 m, beside vehicles; where the mask ended too early it was 5 m and more.
ALONG_M, KEPT_M = 0.15, 4.0
# Evidence of paint, 0..1, that counts as old paint in a row.
OLD_PAINT = 0.3
# Grey levels by which a cell of paint that was left differs at most.
SAME_LEVELS = 3.0


def _is_paint(style: LaneStyle) -> bool:
    return style.count != "unknown" or style.color != "unknown"


def _apart_m(line: LaneLine, other: LaneLine) -> float:
    near = np.array([COURSE_X_M[0]])
    return float(np.abs(line.lateral_m(near) - other.lateral_m(near))[0])


@dataclass(frozen=True, eq=False)
class Reference:
    """What the original lends.

    Attributes:
        lines: measured from all of its pictures.
        strip: the ground of its target picture alone, as the edit's is seen; None where no road can be read in it.
    """

    lines: tuple[LaneLine, ...]
    strip: RoadStrip | None

    @cached_property
    def evidence(self) -> Float32 | None:
        """Paint in `strip`, off the road mask too: where a mask ends too early, old paint stays."""
        if self.strip is None:
            return None
        return find_paint(replace(self.strip, on_road=self.strip.seen)).evidence

    def boundary(self, role: LineRole) -> LaneLine | None:
        """The line of that role.

        A seam shows neither strokes nor a colour, and of two lines that lie too far apart for a lane the less certain
        one is a verge: neither is a boundary.
        """
        lines = [line for line in self.lines if line.role != "other" and _is_paint(line.style)]
        if len(lines) > 1 and _apart_m(lines[0], lines[1]) > MAX_LANE_M:
            lines = [max(lines, key=lambda line: line.confidence)]
        return next((line for line in lines if line.role == role), None)


@dataclass(frozen=True)
class Reading:
    """An attribute of one boundary and how certain it is, 0..1; `unknown` has no certainty."""

    value: str
    confidence: float


@dataclass(frozen=True)
class Boundary:
    """One boundary of the ego lane as the edit shows it.

    Attributes:
        count, color, pattern: its style.
        off_course_m: from the original's course; None where there is none, or no paint near enough to compare.
        leftover_m: length of the original's paint that is left beside it.
        kept: the original's colour, where part of its own paint is left along the line. Its count and pattern do not
            follow: new paint of that colour may cover it.
    """

    count: Reading
    color: Reading
    pattern: Reading
    off_course_m: float | None
    leftover_m: float = 0.0
    kept: Color = Color.UNKNOWN

    def of(self, attribute: StyleAttribute) -> list[Reading]:
        """What is known of one attribute: the line's, and that of old paint left in it."""
        readings = [{"count": self.count, "color": self.color, "pattern": self.pattern}[attribute]]
        if attribute == "color":
            readings.append(Reading(str(self.kept), 1.0))
        return [reading for reading in readings if reading.value != "unknown"]


@dataclass(frozen=True, eq=False)
class EditReading:
    """All that is read in an edit.

    Attributes:
        boundaries: those that show a line.
        lost: those that the original shows and the edit does not, though the road is in view.
        added: boundaries on sides where the original shows none; they are among `boundaries`, too.
        evidence: paint in the edit's strip; None where no road can be read.
    """

    boundaries: tuple[Boundary, ...]
    lost: tuple[LineRole, ...]
    added: tuple[LaneLine, ...]
    evidence: Float32 | None


def ground_alike(before: RoadView, after: RoadView) -> RoadStrip | None:
    """The original's ground from the same moments as the edit's, so that both are equally sharp."""
    camera = before.camera
    assert camera is not None
    if unreadable_reason(before.frames[before.target_index], camera) is not None:
        return None
    same = np.isin(before.timestamps_us, after.timestamps_us)
    same[before.target_index] = True
    view = replace(
        before,
        frames=before.frames[same],
        timestamps_us=before.timestamps_us[same],
        target_index=int(same[: before.target_index].sum()),
        road_masks=None if before.road_masks is None else before.road_masks[same],
    )
    return accumulate_strip(view, camera, before.ego)


def read_edit(original: Reference, edited: LaneInspection, found: Detection | None) -> EditReading:
    """Read an edit along the original's boundaries, and take what was found on sides where it has none.

    Args:
        original: its lines and ground, in the same rig frame as the edit's.
        edited, found: what was measured in the edit; `found` is None where no road can be read.
    """
    added = tuple(_added(original, edited))
    if found is None:
        return EditReading((), (), added, None)
    evidence = find_paint(found.strip).evidence
    boundaries: list[Boundary] = []
    lost: list[LineRole] = []
    for role in BOUNDARIES:
        course = original.boundary(role)
        if course is None:
            continue
        boundary = _untouched(original, found.strip, course) or _read_along(original, found.strip, evidence, course)
        if boundary is not None:
            boundaries.append(boundary)
        elif _visible_m(found.strip, course) >= VISIBLE_M:
            lost.append(role)
    boundaries += [_as_measured(line, None) for line in added]
    return EditReading(tuple(boundaries), tuple(lost), added, evidence)


def _added(original: Reference, edited: LaneInspection) -> list[LaneLine]:
    """Boundaries on sides where the original has none; a verge or kerb beyond the lane's width is none either."""
    known = [line for role in BOUNDARIES if (line := original.boundary(role)) is not None]
    return [
        line
        for line in edited.lines
        if line.role != "other"
        and original.boundary(line.role) is None
        and all(_apart_m(line, other) <= MAX_LANE_M for other in known)
    ]


def _as_measured(line: LaneLine, off_course_m: float | None) -> Boundary:
    style = line.style
    count, color, pattern = (
        Reading(str(value), 0.0 if value == "unknown" else line.style_confidence)
        for value in (style.count, style.color, style.pattern)
    )
    return Boundary(count, color, pattern, off_course_m)


def _untouched(original: Reference, after: RoadStrip, course: LaneLine) -> Boundary | None:
    """The original's boundary where the edit shows the same paint along it: what motion told of it still holds."""
    before, paint = original.strip, original.evidence
    if before is None or paint is None or before.grid != after.grid:
        return None
    distance = np.abs(after.grid.y_m[None, :] - course.lateral_m(after.grid.x_m)[:, None])
    ahead = (after.grid.x_m >= course.x_range_m[0]) & (after.grid.x_m <= course.x_range_m[1])
    beside = (distance < ON_COURSE_M) & ahead[:, None] & before.seen & after.seen & after.on_road
    painted_m = float(np.where(beside, paint, 0.0).max(axis=1).sum()) * after.grid.row_m
    if painted_m < UNTOUCHED_PAINT_M:
        return None
    if float(np.abs(after.rgb[beside] - before.rgb[beside]).mean()) > UNTOUCHED_LEVELS:
        return None
    return _as_measured(course, 0.0)


def _read_along(original: Reference, strip: RoadStrip, evidence: Float32, course: LaneLine) -> Boundary | None:
    """The line that the edit shows along a course or beside it; None where there is none that can be read."""
    for offset in _offsets(strip, evidence, course):
        fit = refine_line(evidence, strip.grid, row_trust(strip.look_m), course.coefficients, offset)
        if fit is None or fit.paint_m < MIN_PAINT_M:
            continue
        measured = measure_style(strip, fit)
        style = measured.style
        if not _is_paint(style):
            continue
        return Boundary(
            Reading(str(style.count), measured.count_confidence),
            Reading(str(style.color), measured.color_confidence),
            Reading(str(style.pattern), measured.pattern_confidence),
            _off_course_m(fit, course),
            _leftover_m(original, strip, evidence, fit),
            course.style.color if _kept_m(original, strip, course) > KEPT_M else Color.UNKNOWN,
        )
    return None


def _leftover_m(original: Reference, strip: RoadStrip, evidence: Float32, fit: CurveFit) -> float:
    """Length of paint beside a line that the original showed and the edit still shows, at the one offset with most."""
    before, old_evidence = original.strip, original.evidence
    if before is None or old_evidence is None or before.grid != strip.grid:
        return 0.0
    left = np.where(strip.on_road, np.minimum(evidence, _left_of(old_evidence, before, strip)), np.float32(0.0))
    x = strip.grid.x_m
    rows = np.flatnonzero((x > LEFTOVER_X_M[0]) & (x < LEFTOVER_X_M[1]))
    offsets, paint = _paint_beside(
        strip, left, rows, np.polynomial.polynomial.polyval(x[rows], fit.coefficients).astype(np.float64)
    )
    lengths = np.convolve(paint.sum(axis=0), np.ones(3) / 3, mode="same") * strip.grid.row_m
    return float(lengths[np.abs(offsets) >= LEFTOVER_FROM_M].max())


def _kept_m(original: Reference, strip: RoadStrip, course: LaneLine) -> float:
    """Length of the original's own paint that the edit still shows along the course."""
    before, old_evidence = original.strip, original.evidence
    if before is None or old_evidence is None or before.grid != strip.grid:
        return 0.0
    x = strip.grid.x_m
    near, far = max(LEFTOVER_X_M[0], course.x_range_m[0]), min(LEFTOVER_X_M[1], course.x_range_m[1])
    rows = np.flatnonzero((x > near) & (x < far))
    offsets, paint = _paint_beside(strip, _left_of(old_evidence, before, strip), rows, course.lateral_m(x[rows]))
    along = paint[:, np.abs(offsets) <= ALONG_M + OFFSET_STEP_M / 2]
    return float((along.max(axis=1) > OLD_PAINT).sum()) * strip.grid.row_m


def _left_of(old_evidence: Float32, before: RoadStrip, after: RoadStrip) -> Float32:
    """Evidence of the original's paint in cells that the edit did not change."""
    same = np.abs(after.rgb - before.rgb).max(axis=-1) < SAME_LEVELS
    return np.where(same, old_evidence, np.float32(0.0)).astype(np.float32)


def _paint_beside(
    strip: RoadStrip, evidence: Float32, rows: NDArray[np.int64], lateral_m: Float
) -> tuple[Float, Float32]:
    """Evidence (rows, offsets) beside a course that has `lateral_m` in `rows`, and the offsets to its left, metres."""
    offsets = np.arange(-REACH_M, REACH_M + OFFSET_STEP_M / 2, OFFSET_STEP_M)
    columns = strip.grid.columns_of(lateral_m[:, None] + offsets[None, :]).astype(np.float32)
    along = np.repeat(rows.astype(np.float32)[:, None], offsets.size, axis=1)
    paint = cv2.remap(evidence, columns, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return offsets, np.asarray(paint, dtype=np.float32)


def _offsets(strip: RoadStrip, evidence: Float32, course: LaneLine) -> list[float]:
    """Where paint runs along the course, metres to its left, the likeliest first."""
    x = strip.grid.x_m
    rows = np.flatnonzero((x > course.x_range_m[0] - BEYOND_M) & (x < course.x_range_m[1] + BEYOND_M))
    offsets, paint = _paint_beside(strip, evidence, rows, course.lateral_m(x[rows]))
    votes = (paint * np.exp(-np.maximum(x[rows], 0.0) / NEARNESS_M)[:, None]).sum(axis=0)
    votes = np.convolve(votes, np.ones(3) / 3, mode="same")
    votes[np.abs(offsets) <= ON_COURSE_M] *= ON_COURSE_WORTH
    peaks = [i for i in range(1, votes.size - 1) if votes[i] > 0 and votes[i - 1] <= votes[i] > votes[i + 1]]
    return [float(offsets[i]) for i in sorted(peaks, key=lambda i: -votes[i])]


def _off_course_m(fit: CurveFit, course: LaneLine) -> float | None:
    """Largest distance from the course over the compared stretch, where paint was seen; None where none was."""
    if fit.x_range_m[0] > COURSE_X_M[1] or fit.x_range_m[1] < COURSE_X_M[0]:
        return None
    low, high = (float(np.clip(end, *COURSE_X_M)) for end in fit.x_range_m)
    x = np.linspace(low, high, 9)
    lateral = np.polynomial.polynomial.polyval(x, fit.coefficients)
    return float(np.abs(lateral - course.lateral_m(x)).max())


def _visible_m(strip: RoadStrip, course: LaneLine) -> float:
    """How much road the picture shows where the course runs."""
    x = strip.grid.x_m
    rows = np.flatnonzero((x > max(course.x_range_m[0], COURSE_X_M[0])) & (x < course.x_range_m[1]))
    columns = np.round(strip.grid.columns_of(course.lateral_m(x[rows]))).astype(np.int64)
    inside = (columns >= 0) & (columns < strip.grid.shape[1])
    return float(strip.on_road[rows[inside], columns[inside]].sum()) * strip.grid.row_m
