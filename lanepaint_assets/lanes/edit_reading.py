"""What an edited picture shows along the ego lane's boundaries, read where the original's lines run.

Called by `judging.py`. The original says where to look: so an edit's line is found however few dashes it shows, and its
distance from the right course is known. Whether a reading is as wanted is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle
from lanepaint_assets.lanes.curves import CurveFit, refine_line, row_trust
from lanepaint_assets.lanes.detection import Detection
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole, RoadView
from lanepaint_assets.lanes.line_style import measure_style
from lanepaint_assets.lanes.new_paint import PAINT, NewPaint, beside, changed_cells, read_new_paint
from lanepaint_assets.lanes.paint_filter import find_paint, linear_light
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
# Old paint along the line itself, as far off its course as a double line's strokes.
ALONG_M = 0.15
# Asphalt beside a line's strokes, and the share of its own paint's contrast that all of its paint has.
FLANK_M, OWN_CONTRAST = np.arange(0.5, 0.901, 0.1), 0.4


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
        kept_m: length of the original's paint that is left along it; `kept` is its colour.
    """

    count: Reading
    color: Reading
    pattern: Reading
    off_course_m: float | None
    leftover_m: float = 0.0
    kept_m: float = 0.0
    kept: Color = Color.UNKNOWN

    def of(self, attribute: StyleAttribute) -> Reading:
        """The reading of one attribute."""
        return {"count": self.count, "color": self.color, "pattern": self.pattern}[attribute]


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
    if found is None:
        return EditReading((), (), (), None)
    evidence = find_paint(found.strip).evidence
    added = [
        (line, boundary)
        for line in _added(original, edited)
        if (boundary := _read_added(original, found.strip, evidence, line)) is not None
    ]
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
    boundaries += [boundary for _, boundary in added]
    return EditReading(tuple(boundaries), tuple(lost), tuple(line for line, _ in added), evidence)


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


def _read_added(original: Reference, strip: RoadStrip, evidence: Float32, line: LaneLine) -> Boundary | None:
    """A line where the original had none; None where the edit painted nothing: then it is a verge or a seam."""
    measured = _as_measured(line, None)
    if original.strip is None or original.strip.grid != strip.grid:
        return measured
    fit = refine_line(evidence, strip.grid, row_trust(strip.look_m), line.coefficients, 0.0)
    if fit is None:
        return None
    new = read_new_paint(original.strip, strip, evidence, fit)
    if new.length_m < MIN_PAINT_M:
        return None
    return replace(measured, count=_count_of(new, measured.count), color=_color_of(new, measured.color))


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
        new = _new_paint(original, strip, evidence, fit)
        return Boundary(
            _count_of(new, Reading(str(style.count), measured.count_confidence)),
            _color_of(new, Reading(str(style.color), measured.color_confidence)),
            Reading(str(style.pattern), measured.pattern_confidence),
            _off_course_m(fit, course),
            _leftover_m(original, strip, evidence, course, fit),
            _kept_m(original, strip, course),
            course.style.color,
        )
    return None


def _color_of(new: NewPaint, whole: Reading) -> Reading:
    """That of new paint; where it cannot be told, the whole line's."""
    return whole if new.color is Color.UNKNOWN else Reading(str(new.color), new.color_confidence)


def _count_of(new: NewPaint, whole: Reading) -> Reading:
    """The surer one: of dashes new paint shows few rows, but no others."""
    return whole if new.count_confidence <= whole.confidence else Reading(str(new.count), new.count_confidence)


def _new_paint(original: Reference, strip: RoadStrip, evidence: Float32, fit: CurveFit) -> NewPaint:
    """What the edit painted along a line; nothing where the original's ground is not known."""
    before = original.strip
    if before is None or before.grid != strip.grid:
        return NewPaint(Color.UNKNOWN, 0.0, Count.UNKNOWN, 0.0, 0.0)
    return read_new_paint(before, strip, evidence, fit)


def _leftover_m(original: Reference, strip: RoadStrip, evidence: Float32, course: LaneLine, fit: CurveFit) -> float:
    """Length of paint beside a line that the original showed and the edit still shows, at the one offset with most."""
    x = strip.grid.x_m
    rows = np.flatnonzero((x > LEFTOVER_X_M[0]) & (x < LEFTOVER_X_M[1]))
    offsets = _offsets_m(REACH_M)
    left = _left(original, strip, course, rows, offsets)
    shown = np.where(strip.on_road, evidence, np.float32(0.0)).astype(np.float32)
    left = np.minimum(left, beside(strip, shown, rows, course.lateral_m(x[rows]), offsets))
    off_m = np.polynomial.polynomial.polyval(x[rows], fit.coefficients) - course.lateral_m(x[rows])
    left[np.abs(offsets[None, :] - off_m[:, None]) < LEFTOVER_FROM_M] = 0.0
    lengths = np.convolve(left.sum(axis=0), np.ones(3) / 3, mode="same") * strip.grid.row_m
    return float(lengths.max())


def _kept_m(original: Reference, strip: RoadStrip, course: LaneLine) -> float:
    """Length of the original's own paint that the edit still shows along the course."""
    x = strip.grid.x_m
    near, far = max(LEFTOVER_X_M[0], course.x_range_m[0]), min(LEFTOVER_X_M[1], course.x_range_m[1])
    rows = np.flatnonzero((x > near) & (x < far))
    left = _left(original, strip, course, rows, _offsets_m(ALONG_M))
    return float((left.max(axis=1) > PAINT).sum()) * strip.grid.row_m if rows.size else 0.0


def _left(
    original: Reference, after: RoadStrip, course: LaneLine, rows: NDArray[np.int64], offsets_m: Float
) -> Float32:
    """(rows, offsets) evidence of the original's paint beside its course in cells that the edit did not change.

    Paint is nearly as bright as the line's own is over the asphalt of its row: streaks between dark seams are not.
    """
    before, old_evidence = original.strip, original.evidence
    if before is None or old_evidence is None or before.grid != after.grid or not rows.size:
        return np.zeros((rows.size, offsets_m.size), np.float32)
    lateral = course.lateral_m(after.grid.x_m[rows])
    red = linear_light(before.rgb[..., 0])
    flanks = np.concatenate([-FLANK_M, FLANK_M])
    asphalt = np.median(beside(before, red, rows, lateral, flanks), axis=1)[:, None] + np.float32(0.002)
    along = _offsets_m(ALONG_M)
    own = beside(before, old_evidence, rows, lateral, along) > PAINT
    if not own.any():
        return np.zeros((rows.size, offsets_m.size), np.float32)
    contrast = float(np.median((beside(before, red, rows, lateral, along) / asphalt)[own])) - 1.0
    bright = beside(before, red, rows, lateral, offsets_m) / asphalt - 1.0 > OWN_CONTRAST * contrast
    kept = np.where(changed_cells(before, after), np.float32(0.0), old_evidence).astype(np.float32)
    return np.where(bright, beside(before, kept, rows, lateral, offsets_m), np.float32(0.0)).astype(np.float32)


def _offsets_m(reach_m: float) -> Float:
    return np.arange(-reach_m, reach_m + OFFSET_STEP_M / 2, OFFSET_STEP_M)


def _offsets(strip: RoadStrip, evidence: Float32, course: LaneLine) -> list[float]:
    """Where paint runs along the course, metres to its left, the likeliest first."""
    x = strip.grid.x_m
    rows = np.flatnonzero((x > course.x_range_m[0] - BEYOND_M) & (x < course.x_range_m[1] + BEYOND_M))
    offsets = _offsets_m(REACH_M)
    paint = beside(strip, evidence, rows, course.lateral_m(x[rows]), offsets)
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
