"""How painted videos look: what old markings leave, how much the edit flickers, how bright new paint is beside old.

Every figure is read from the pixels of edited frames at places that the truth of a sample drive names, and stands
beside the same reading of the unedited clip. Where the paint lies is `painter`'s topic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.paint_measurement import Course, course_of_line
from benchmarks.harness import Outcome
from lanepaint_assets.clips.sample_drive.truth import TrueLine
from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.engine import PaintInstruction, UnpaintableSceneError
from lanepaint_assets.editing.marking_standards import MarkingStandard, marking_standard
from lanepaint_assets.editing.shading import LUMINANCE, linear_frame
from lanepaint_assets.rendering.mask_edges import MaskEdges

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

WHITE, YELLOW = "single_white_dashed", "single_yellow_dashed"
PAINT_SEED = 1

# Every so many frames two neighbours are compared; all clips give some 16 pairs.
_PAIR_EVERY = 6

# Cells of a line: so long, between these distances ahead. Beyond the first range a line is a pixel or two wide: there
# only the residual is read.
_CELL_M = 0.5
_NEAR_M = (5.0, 20.0)
_FAR_M = (20.0, 50.0)

# Columns beside a line's middle: plain asphalt, clear of double lines and of the wheel track.
_ASPHALT_M = (0.55, 0.70, 0.85)

# Cells this near to a dash's end belong neither to it nor to the gap; blur and registration reach there.
_UNSURE_M = 0.9
# A dash's place is sought in stretches of this many periods: a course drifts against the truth over longer ones.
_STRETCH_PERIODS = 4

# Old paint counts where it is at least this much brighter (red, linear) than asphalt; worn spots are no paint.
_PAINT_EXCESS = 0.35

# Asphalt is in shadow under the first share, in the sun above the second share of a clip's bright asphalt (its 80th
# percentile); what lies between is a shadow's edge.
_SHADE_BELOW, _SUN_ABOVE = 0.5, 0.7
# Fewer cells than this of a clip say nothing.
_ENOUGH = 40

_SUN, _SHADE = "sun", "shadow"


@dataclass(frozen=True)
class _Reading:
    """One line in one frame; rows are cells.

    Attributes:
        cell: (N,) number of the cell along the line.
        ahead_m: (N,).
        old: (N, 3) linear colour where the old stroke lies; `plain` beside the line; `asphalt` the mean of several such
            places; all of them of the unedited frame.
        cleaned: (N, 3) edited colour where the old stroke lay, `middle` at the line's middle, where new paint goes.
        yellow: (N, 3) the same middle in the yellow edit.
    """

    cell: NDArray[np.int64]
    ahead_m: Float
    old: Float
    plain: Float
    asphalt: Float
    cleaned: Float
    middle: Float
    yellow: Float


@dataclass
class _Sums:
    """Sums over cells, for ratios of means."""

    top: float = 0.0
    bottom: float = 0.0
    cells: int = 0

    def add(self, top: Float, bottom: Float) -> None:
        self.top += float(top.sum())
        self.bottom += float(bottom.sum())
        self.cells += top.size

    @property
    def ratio(self) -> float:
        return self.top / self.bottom if self.bottom > 0 else float("nan")


@dataclass
class _Light:
    """Old and new paint of one kind in one light, a value a clip: over asphalt, and hue in degrees."""

    contrast: list[float] = field(default_factory=list)
    hue: list[float] = field(default_factory=list)


class PainterLooksPart:
    """Scores the looks of the `procedural` painter's edits."""

    def __init__(self) -> None:
        self._residual = {"near": _Sums(), "far": _Sums()}
        self._grain = {"near": _Sums(), "far": _Sums()}
        self._change: dict[str, list[Float]] = {"cleaned": [], "plain": [], "new": [], "old": []}
        self._white = {_SUN: _Light(), _SHADE: _Light()}
        self._yellow = {_SUN: _Light(), _SHADE: _Light()}

    def see(self, clip: DriveClip) -> None:
        try:
            white, yellow = edited(clip, WHITE), edited(clip, YELLOW)
        except UnpaintableSceneError:
            # Counted by the painter's own part.
            return
        standard = marking_standard(clip.platform.settings.marking_standard)
        for line in clip.truth.lines:
            if line.role != "other":
                self._see_line(clip, line, white, yellow, standard)

    def see_real(self, data: Path) -> None:
        """Real clips have no true courses; people look at them."""

    def conclude(self, outcome: Outcome) -> None:
        for name, (low, high) in (("near", _NEAR_M), ("far", _FAR_M)):
            sums, grain = self._residual[name], self._grain[name]
            label = f"contrast left of old paint, {low:g} to {high:g} m"
            if sums.cells < _ENOUGH:
                outcome.skip(label, "too few old markings in gaps of new ones")
            else:
                outcome.add(label, sums.ratio, "of it", "lower", baseline=grain.ratio)
        for new, old, label in (
            ("cleaned", "plain", "change between frames where old paint was"),
            ("new", "old", "change between frames of new paint"),
        ):
            if not self._change[new] or not self._change[old]:
                outcome.skip(label, "too few cells")
                continue
            here, there = (float(100 * np.concatenate(self._change[k]).mean()) for k in (new, old))
            outcome.add(label, here, "%", "lower", baseline=there)
        for color, lights in (("white", self._white), ("yellow", self._yellow)):
            for name, light in lights.items():
                label = f"{color} paint over asphalt, new against old, in {name}"
                if light.contrast:
                    value = float(np.exp(np.mean(np.abs(np.log(light.contrast)))))
                    outcome.add(label, value, "x off", "lower", baseline=1.0)
                else:
                    outcome.skip(label, f"no {color} paint in {name}")
        for name, light in self._yellow.items():
            label = f"yellow's hue, new against old, in {name}"
            if light.hue:
                outcome.add(label, float(np.mean(np.abs(light.hue))), "degrees", "lower")
            else:
                outcome.skip(label, f"no yellow paint in {name}")

    def _see_line(
        self,
        clip: DriveClip,
        line: TrueLine,
        white: NDArray[np.uint8],
        yellow: NDArray[np.uint8],
        standard: MarkingStandard,
    ) -> None:
        course = course_of_line(line)
        painted = np.interp(_cells(course), course.arc_m, line.painted().astype(np.float64)) > 0.99
        pairs = [
            [_read(clip, line, course, i, white, yellow) for i in (k, k + 1)]
            for k in range(0, len(white) - 1, _PAIR_EVERY)
        ]
        place = _dash_places(len(painted), [r for pair in pairs for r in pair], standard)
        inside: Bool = np.asarray((place > _UNSURE_M) & (place < standard.dash_m - _UNSURE_M))
        gap: Bool = np.asarray((place > standard.dash_m + _UNSURE_M) & (place < standard.period_m - _UNSURE_M))
        readings = [r for pair in pairs for r in pair]
        for name, (low, high) in (("near", _NEAR_M), ("far", _FAR_M)):
            self._add_residual(name, [_within(r, low, high, gap & painted) for r in readings], len(painted))
        for first, second in pairs:
            for key, values, where in (
                ("cleaned", ("cleaned", "cleaned"), gap & painted),
                ("plain", ("plain", "plain"), np.ones_like(gap)),
                ("new", ("middle", "middle"), inside),
                ("old", ("old", "old"), painted),
            ):
                self._change[key].append(_change(first, second, values[0], where, bright=key == "old"))
        near = [_within(r, *_NEAR_M, np.ones_like(gap)) for r in readings]
        self._add_light(near, inside, painted, line.color)

    def _add_residual(self, name: str, readings: list[_Reading], cells: int) -> None:
        """Means over frames first: what stays at its place over the frames is a ghost, what does not is noise."""
        count = np.zeros(cells)
        sums = np.zeros((3, cells))
        for r in readings:
            base = r.asphalt[:, 0]
            excess = r.old[:, 0] / base - 1.0
            np.add.at(count, r.cell, 1.0)
            for row, value in enumerate((excess, r.cleaned[:, 0] / base - 1.0, r.plain[:, 0] / base - 1.0)):
                np.add.at(sums[row], r.cell, value)
        seen = count > 0
        before, after, grain = sums[:, seen] / count[seen]
        marked = before > _PAINT_EXCESS
        self._residual[name].add(np.abs(after[marked]), before[marked])
        self._grain[name].add(np.abs(grain[marked]), before[marked])

    def _add_light(self, readings: list[_Reading], inside: Bool, painted: Bool, color: str) -> None:
        base = np.concatenate([r.asphalt for r in readings])
        if len(base) < _ENOUGH:
            return
        weights = np.asarray(LUMINANCE)
        light = base @ weights
        bright = np.percentile(light, 80)
        cell = np.concatenate([r.cell for r in readings])
        old, white, yellow = (
            np.concatenate([getattr(r, name) for r in readings]) for name in ("old", "middle", "yellow")
        )
        was: Bool = np.asarray(painted[cell] & (old[:, 0] / base[:, 0] - 1.0 > _PAINT_EXCESS))
        for name, lit in ((_SUN, light > _SUN_ABOVE * bright), (_SHADE, light < _SHADE_BELOW * bright)):
            before, after = np.asarray(was & lit), np.asarray(inside[cell] & lit)
            if before.sum() < _ENOUGH or after.sum() < _ENOUGH:
                continue
            new, kept = (white, self._white[name]) if color == "white" else (yellow, self._yellow[name])
            ratios = [np.median((c[w] / base[w])[:, :2].mean(axis=1)) for c, w in ((new, after), (old, before))]
            kept.contrast.append(float(ratios[0] / ratios[1]))
            if color == "yellow":
                kept.hue.append(_hue(new[after]) - _hue(old[before]))


def edited(clip: DriveClip, prompt: str) -> NDArray[np.uint8]:
    """The painter's video of a clip before encoding, without the judge's rounds.

    Raises:
        UnpaintableSceneError: the painter found nothing to paint.
    """
    settings = clip.platform.settings
    instruction = PaintInstruction(clip.platform.catalogue[prompt].style, "", settings.marking_standard, PAINT_SEED)
    first = clip.platform.first_frame_painter.paint_first_frame(clip.scene, instruction)
    painted = clip.platform.video_painter.paint_video(clip.scene, first, instruction)
    edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
    return composite_video(clip.video.frames, painted, clip.masks.paint, edges)


def _cells(course: Course) -> Float:
    """(N,) arc lengths of a line's cells."""
    return np.arange(int(course.arc_m[-1] / _CELL_M), dtype=np.float64) * _CELL_M


def _read(
    clip: DriveClip, line: TrueLine, course: Course, frame: int, white: NDArray[np.uint8], yellow: NDArray[np.uint8]
) -> _Reading:
    source_frame = int(clip.facts.grid.source_index[frame])
    time = clip.truth.timestamps_us[source_frame : source_frame + 1]
    positions, rotations = clip.truth.ego.poses(time)
    arc = _cells(course)
    points, normals = course.at(arc)
    rotation = rotations.as_matrix()[0]
    ahead = (np.column_stack([points, np.zeros(len(points))]) - positions[0]) @ rotation
    near = np.flatnonzero((ahead[:, 0] > _NEAR_M[0]) & (ahead[:, 0] < _FAR_M[1]) & (np.abs(ahead[:, 1]) < 15))
    stroke = 0.0 if line.count == "single" else (line.stroke_m + line.spacing_m) / 2
    offsets = np.array([stroke, 0.0, *(side * a for side in (-1, 1) for a in _ASPHALT_M)])
    where = points[near, None] + offsets[None, :, None] * normals[near, None]
    shape = where.shape[:2]
    world = np.column_stack([where.reshape(-1, 2), np.zeros(shape[0] * shape[1])])
    pixels, seen = clip.geometry.camera.project((world - positions[0]) @ rotation)
    at = np.clip(pixels, -1e4, 1e4).astype(np.float32).reshape(*shape, 2)
    road = cv2.remap(
        clip.truth.road_mask(source_frame).astype(np.uint8), at[..., 0], at[..., 1], cv2.INTER_NEAREST, borderValue=0
    )
    clear: Bool = np.asarray((seen.reshape(shape) & (road > 0))[:, :2].all(axis=1))
    source, edit, tinted = (_sampled(video[frame], at) for video in (clip.video.frames, white, yellow))
    # The brighter side is asphalt: on the other one there may be grass or a vehicle's shadow.
    sides = [source[:, 2 + i * len(_ASPHALT_M) : 2 + (i + 1) * len(_ASPHALT_M)] for i in (0, 1)]
    on_road: list[Bool] = [
        np.asarray((road[:, 2 + i * len(_ASPHALT_M) : 2 + (i + 1) * len(_ASPHALT_M)] > 0).all(axis=1)) for i in (0, 1)
    ]
    both = on_road[0] & on_road[1]
    mean = [side.mean(axis=1) for side in sides]
    asphalt = np.where(both[:, None], (mean[0] + mean[1]) / 2, np.where(on_road[0][:, None], mean[0], mean[1]))
    plain = np.where(on_road[0][:, None], sides[0][:, 0], sides[1][:, 0])
    good = clear & (on_road[0] | on_road[1])
    return _Reading(
        near[good],
        ahead[near[good], 0],
        source[good, 0],
        plain[good],
        np.maximum(asphalt[good], 1e-4),
        edit[good, 0],
        edit[good, 1],
        tinted[good, 1],
    )


def _sampled(frame: NDArray[np.uint8], at: NDArray[np.float32]) -> Float:
    light = cv2.remap(linear_frame(frame), at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return light.astype(np.float64)


def _within(reading: _Reading, low_m: float, high_m: float, cells: Bool) -> _Reading:
    """The cells in a range of distances that are wanted."""
    keep = (reading.ahead_m >= low_m) & (reading.ahead_m < high_m) & cells[reading.cell]
    return _Reading(**{name: value[keep] for name, value in vars(reading).items()})


def _dash_places(cells: int, readings: list[_Reading], standard: MarkingStandard) -> Float:
    """(cells,) metres behind the start of the dash that a cell belongs to; NaN where nothing was seen."""
    total, count = np.zeros(cells), np.zeros(cells)
    for reading in readings:
        r = _within(reading, *_NEAR_M, np.ones(cells, dtype=np.bool_))
        np.add.at(total, r.cell, r.middle[:, 0] / r.asphalt[:, 0])
        np.add.at(count, r.cell, 1.0)
    result = np.full(cells, np.nan)
    seen = count > 0
    arc = np.arange(cells) * _CELL_M
    length = _STRETCH_PERIODS * standard.period_m
    for first in np.arange(0.0, cells * _CELL_M, length):
        here = (arc >= first) & (arc < first + length)
        known = here & seen
        if known.sum() * _CELL_M < standard.period_m:
            continue
        bright = total[known] / count[known]
        phases = np.arange(0.0, standard.period_m, 0.1)
        inside = np.mod(arc[known][None] - phases[:, None], standard.period_m) < standard.dash_m
        score = (inside * bright).sum(axis=1) / np.maximum(inside.sum(axis=1), 1) - (~inside * bright).sum(
            axis=1
        ) / np.maximum((~inside).sum(axis=1), 1)
        result[here] = np.mod(arc[here] - phases[int(np.argmax(score))], standard.period_m)
    return result


def _change(first: _Reading, second: _Reading, name: str, where: Bool, bright: bool) -> Float:
    """(N,) relative change of luminance of the cells that both frames show near by, the road's own light taken out."""
    weights = np.asarray(LUMINANCE)
    values = []
    for r in (first, second):
        keep = (r.ahead_m >= _NEAR_M[0]) & (r.ahead_m < _NEAR_M[1]) & where[r.cell]
        colour = getattr(r, name)
        if bright:
            keep &= colour[:, 0] / r.asphalt[:, 0] - 1.0 > _PAINT_EXCESS
        light = np.log(np.maximum(colour @ weights, 1e-4)) - np.log(r.asphalt @ weights)
        values.append(dict(zip(r.cell[keep].tolist(), light[keep].tolist(), strict=True)))
    common = sorted(values[0].keys() & values[1].keys())
    return np.array([abs(values[0][c] - values[1][c]) for c in common])


def _hue(colours: Float) -> float:
    """Hue of the mean colour, degrees, as screens show it."""
    mean = np.clip(colours.mean(axis=0), 0, 1) ** (1 / 2.2)
    pixel = (255 * mean).astype(np.float32)[None, None] / 255
    return float(cv2.cvtColor(pixel, cv2.COLOR_RGB2HSV)[0, 0, 0])
