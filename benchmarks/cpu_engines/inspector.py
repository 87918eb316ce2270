"""Part inspector: count, colour and pattern of lane lines, on drives whose truth is known and on labelled pictures.

A line of a drive counts where the pictures of the window show it: at least `VISIBLE_M` of its course, `VISIBLE_PAINT_M`
of it paint, within `REACH_M` ahead, unhidden in one of them by vehicles or the picture's edge (projected truth on true
masks decides, never the engine). A line that is not found counts as wrong. The judge is another part's topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.parts import missing
from benchmarks.harness import Outcome
from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.sample_drive.truth import ClipTruth, TrueLine
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import LaneLine, RoadView
from lanepaint_assets.lanes.measured import MeasuredLaneInspector
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets.segmentation.cleanup import clean_frame, clean_video_masks

Float = NDArray[np.float64]
Mode = Literal["recorded motion", "estimated motion", "single picture"]
MODES: tuple[Mode, ...] = ("recorded motion", "estimated motion", "single picture")

REACH_M = 40.0
# A dash and its gap, of most standards; and enough paint that a person would speak of a line.
VISIBLE_M = 10.0
VISIBLE_PAINT_M = 2.0
# Frames asked about, evenly from the clip's first, which has no past, to its last, which has no future.
TARGETS = 5
# Whether a line is hidden throughout changes slowly: half a second at 8 Hz.
VISIBILITY_STEP = 4
# A found line is the true one whose course it follows; lines stand 3 m apart.
MATCH_M = 0.6
MATCH_X_M = np.arange(6.0, 26.0, 1.0)

TARGET_RIGHT = 0.98
TARGET_STATED_RIGHT = 0.90
# The plain answer: what lane lines of the world mostly are.
PLAIN = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)

_WHITE_SOLID = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)
_YELLOW_SOLID = LaneStyle(Count.SINGLE, Color.YELLOW, Pattern.SOLID)
# The README beside the pictures and `CLIP_LABELS.csv` say this of the ego lane's left and right boundary.
_WHITE_RIGHT = (PLAIN, _WHITE_SOLID)
_YELLOW_LEFT = (_YELLOW_SOLID, PLAIN)
PICTURES = {
    "p1/solidWhiteCurve.jpg": _WHITE_RIGHT,
    "p1/solidWhiteRight.jpg": _WHITE_RIGHT,
    "p1/solidYellowCurve.jpg": _YELLOW_LEFT,
    "p1/solidYellowCurve2.jpg": _YELLOW_LEFT,
    "p1/solidYellowLeft.jpg": _YELLOW_LEFT,
    "p1/whiteCarLaneSwitch.jpg": _YELLOW_LEFT,
    "advanced/straight_lines1.jpg": _YELLOW_LEFT,
    "advanced/straight_lines2.jpg": _WHITE_RIGHT,
    **{f"advanced/test{number}.jpg": _YELLOW_LEFT for number in range(1, 7)},
}
CLIPS = {
    "01_highway_solid_white_right_dashed_left": _WHITE_RIGHT,
    "02_highway_yellow_left_1s5": _YELLOW_LEFT,
    "05_forest_road_shadows_white_edges": (_WHITE_SOLID, _WHITE_SOLID),
}
CLIP_TARGETS = 10
SHADOW_CLIP = "05_forest_road_shadows_white_edges"


@dataclass(frozen=True)
class LineScore:
    """One true line in one mode, and what was said of it: None where it was not found."""

    truth: LaneStyle
    is_ego: bool
    found: LaneStyle | None
    lateral_error_m: float

    @property
    def right(self) -> bool:
        return self.found == self.truth

    @property
    def wrong(self) -> bool:
        """Something was stated that is not so."""
        return self.found is not None and any(
            said not in ("unknown", is_so) for said, is_so in zip(_words(self.found), _words(self.truth), strict=True)
        )


@dataclass
class ModeScores:
    """All lines of one mode."""

    lines: list[LineScore] = field(default_factory=list)
    false_lines: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class LabelScores:
    """Stated attributes of labelled ego boundaries: how many were asked, stated, right; and wrong colours."""

    asked: int = 0
    stated: int = 0
    right: int = 0
    wrong_colors: int = 0
    plain_right: int = 0

    def add(self, lines: tuple[LaneLine, ...], truth: tuple[LaneStyle, LaneStyle]) -> None:
        for role, style in zip(("ego_left", "ego_right"), truth, strict=True):
            said = next((_words(line.style) for line in lines if line.role == role), ("unknown",) * 3)
            self.asked += 3
            self.stated += sum(word != "unknown" for word in said)
            self.right += sum(word == true for word, true in zip(said, _words(style), strict=True))
            self.plain_right += sum(word == true for word, true in zip(_words(PLAIN), _words(style), strict=True))
            self.wrong_colors += said[1] not in ("unknown", style.color)


def _words(style: LaneStyle) -> tuple[str, str, str]:
    return style.count, style.color, style.pattern


@dataclass(frozen=True)
class SeenLine:
    """A true line at one moment: lateral place at `MATCH_X_M` in the rig frame, NaN where it has none."""

    line: TrueLine
    lateral_m: Float

    @property
    def style(self) -> LaneStyle:
        return LaneStyle(Count(self.line.count), Color(self.line.color), Pattern(self.line.pattern))


def true_lines(
    truth: ClipTruth, camera: RigCamera, target_us: int, shown: dict[int, int], reach_m: float = REACH_M
) -> tuple[list[SeenLine], list[SeenLine]]:
    """The lines that count at one moment, and all the others.

    Args:
        truth: of the clip.
        camera: of the target picture.
        target_us: the moment.
        shown: source frame numbers of the window's pictures, with their times.
        reach_m: as far ahead as lines count.
    """
    counted: list[SeenLine] = []
    others: list[SeenLine] = []
    for line in truth.lines:
        at_target = _in_rig(truth, line.points_m, target_us)
        near = (at_target[:, 0] > 0) & (np.hypot(at_target[:, 0], at_target[:, 1]) < reach_m)
        near &= camera.project(at_target)[1]
        visible = np.zeros(near.size, dtype=np.bool_)
        for frame, time_us in shown.items():
            visible |= _visible(truth, camera, frame, _in_rig(truth, line.points_m, time_us))
        visible &= near
        forward = at_target[:, 0] > 0
        order = np.argsort(at_target[forward, 0])
        along, across = at_target[forward, 0][order], at_target[forward, 1][order]
        seen = SeenLine(line, np.interp(MATCH_X_M, along, across, left=np.nan, right=np.nan))
        enough = visible.sum() >= VISIBLE_M and (visible & line.painted()).sum() >= VISIBLE_PAINT_M
        (counted if enough else others).append(seen)
    return counted, others


def _in_rig(truth: ClipTruth, points_m: Float, time_us: int) -> Float:
    positions, rotations = truth.ego.poses(np.array([time_us], dtype=np.int64))
    return np.asarray(rotations[0].inv().apply(points_m - positions[0]), dtype=np.float64)


def _visible(truth: ClipTruth, camera: RigCamera, frame: int, points_m: Float) -> NDArray[np.bool_]:
    """Which points of the ground a picture shows within `REACH_M`: paved road there, and no vehicle before it."""
    pixels, seen = camera.project(points_m)
    seen &= (points_m[:, 0] > 0) & (np.hypot(points_m[:, 0], points_m[:, 1]) < REACH_M)
    mask = truth.road_mask(frame)
    scale = truth.width / camera.width
    column = np.clip(np.where(seen, pixels[:, 0] * scale, 0).round().astype(int), 0, truth.width - 1)
    row = np.clip(np.where(seen, pixels[:, 1] * scale, 0).round().astype(int), 0, truth.height - 1)
    return np.asarray(seen & mask[row, column])


def matched(found: tuple[LaneLine, ...], true: list[SeenLine]) -> tuple[dict[int, tuple[LaneLine, float]], int]:
    """The found line and its lateral error of each true line's index, and how many found lines are none."""
    distances = np.full((len(found), len(true)), np.inf)
    for i, line in enumerate(found):
        inside = (line.x_range_m[0] <= MATCH_X_M) & (line.x_range_m[1] >= MATCH_X_M)
        lateral = line.lateral_m(MATCH_X_M)
        for j, seen in enumerate(true):
            use = np.isfinite(seen.lateral_m) & (inside if inside.any() else True)
            if use.any():
                distances[i, j] = float(np.abs(lateral - seen.lateral_m)[use].mean())
    pairs: dict[int, tuple[LaneLine, float]] = {}
    while distances.size and distances.min() < MATCH_M:
        i, j = (int(k) for k in np.unravel_index(int(np.argmin(distances)), distances.shape))
        pairs[j] = (found[i], float(distances[i, j]))
        distances[i, :] = np.inf
        distances[:, j] = np.inf
    return pairs, len(found) - len(pairs)


class InspectorPart:
    """Scores the `measured` inspector with recorded ego motion, with estimated ego motion, and on single pictures."""

    def __init__(self) -> None:
        self.modes = {mode: ModeScores() for mode in MODES}
        self.labels = {"pictures": LabelScores(), "clips": LabelScores(), "shadow clip": LabelScores()}
        self._skipped: list[tuple[str, str]] = []
        self._platform: Platform | None = None

    def see(self, clip: DriveClip) -> None:
        self._platform = clip.platform
        count = len(clip.video.frames)
        inspector = MeasuredLaneInspector()
        whole = clip.view(slice(0, count), 0)
        for target in np.linspace(0, count - 1, TARGETS).round().astype(int).tolist():
            for mode in MODES:
                view = whole
                if mode == "estimated motion":
                    view = replace(whole, ego=None, target_index=target)
                elif mode == "recorded motion":
                    view = replace(whole, target_index=target)
                else:
                    view = replace(clip.view(slice(target, target + 1), 0), ego=None)
                self._score(clip, inspector, mode, view, target)

    def _score(
        self, clip: DriveClip, inspector: MeasuredLaneInspector, mode: Mode, view: RoadView, target: int
    ) -> None:
        scores = self.modes[mode]
        started = perf_counter()
        inspection = inspector.inspect(view)
        scores.seconds.append(perf_counter() - started)
        source, times = clip.facts.grid.source_index, clip.video.taken_us
        near = range(target % VISIBILITY_STEP, len(times), VISIBILITY_STEP)
        grid_frames = [target] if mode == "single picture" else [k for k in near if abs(k - target) < 60]
        shown = {int(source[k]): int(times[k]) for k in grid_frames}
        counted, others = true_lines(clip.truth, clip.geometry.camera, int(times[target]), shown)
        pairs, false_lines = matched(inspection.lines, counted + others)
        scores.false_lines.append(false_lines)
        for j, seen in enumerate(counted):
            line, error = pairs.get(j, (None, float("nan")))
            scores.lines.append(LineScore(seen.style, seen.line.role != "other", line.style if line else None, error))

    def see_real(self, data: Path) -> None:
        assert self._platform is not None, "the drives come first"
        pictures, clips = data / "lane_images_udacity", data / "clips"
        if pictures.is_dir():
            for name, truth in PICTURES.items():
                self.labels["pictures"].add(_picture_lines(pictures / name, self._platform), truth)
        else:
            self._skipped.append(("pictures", missing(pictures)))
        if clips.is_dir():
            for clip_id, truth in CLIPS.items():
                for lines in _clip_lines(clips, clip_id, self._platform):
                    self.labels["clips"].add(lines, truth)
                    if clip_id == SHADOW_CLIP:
                        self.labels["shadow clip"].add(lines, truth)
        else:
            self._skipped += [(name, missing(clips)) for name in ("clips", "shadow clip")]

    def conclude(self, outcome: Outcome) -> None:
        for mode, scores in self.modes.items():
            self._conclude_mode(outcome, mode, scores)
        for name, labels in self.labels.items():
            if not labels.stated:
                reason = dict(self._skipped).get(name, "nothing was stated")
                outcome.skip(f"inspector, {name}: stated attributes right", reason)
                continue
            if name == "shadow clip":
                outcome.add(f"inspector, {name}: wrong colours stated", labels.wrong_colors, "lines", "lower", target=0)
                continue
            outcome.add(
                f"inspector, {name}: stated attributes right",
                labels.right / labels.stated,
                "share",
                "higher",
                target=TARGET_STATED_RIGHT,
                baseline=labels.plain_right / labels.asked,
            )
            outcome.add(f"inspector, {name}: attributes stated", labels.stated / labels.asked, "share", "higher")
            outcome.add(f"inspector, {name}: wrong colours stated", labels.wrong_colors, "lines", "lower")

    @staticmethod
    def _conclude_mode(outcome: Outcome, mode: Mode, scores: ModeScores) -> None:
        name = f"inspector, {mode}"
        lines = scores.lines
        if not lines:
            outcome.skip(f"{name}: lines right", "no line counted")
            return

        def share(chosen: list[bool]) -> float:
            return sum(chosen) / max(len(chosen), 1)

        outcome.add(f"{name}: lines", len(lines), "lines", "higher", target=200)
        for whose, some in (("lines", lines), ("ego boundaries", [line for line in lines if line.is_ego])):
            outcome.add(
                f"{name}: {whose} right",
                share([line.right for line in some]),
                "share",
                "higher",
                target=TARGET_RIGHT if mode == "recorded motion" else None,
                baseline=share([line.truth == PLAIN for line in some]),
            )
        outcome.add(f"{name}: lines not found", share([line.found is None for line in lines]), "share", "lower")
        outcome.add(f"{name}: lines stated wrongly", share([line.wrong for line in lines]), "share", "lower")
        found = [line for line in lines if line.found is not None]
        unknown = [not line.right and not line.wrong for line in found]
        outcome.add(f"{name}: lines partly unknown", sum(unknown) / len(lines), "share", "lower")
        for at, attribute in enumerate(("count", "colour", "pattern")):
            right = [line.found is not None and _words(line.found)[at] == _words(line.truth)[at] for line in lines]
            outcome.add(f"{name}: {attribute} right", share(right), "share", "higher")
        outcome.add(f"{name}: false lines", mean(scores.false_lines), "a frame", "lower")
        if found:
            outcome.add(f"{name}: lateral error", mean(line.lateral_error_m for line in found), "m", "lower")
        outcome.add(f"{name}: time", 1e3 * median(scores.seconds), "ms", "lower")


def _picture_lines(path: Path, platform: Platform) -> tuple[LaneLine, ...]:
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise FileNotFoundError(f"no picture {path}")
    frame = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    mask = clean_frame(platform.segmenter.segment_picture(frame)).paint
    view = RoadView(frame[None], np.zeros(1, np.int64), 0, road_masks=mask[None])
    return MeasuredLaneInspector().inspect(view).lines


def _clip_lines(folder: Path, clip_id: str, platform: Platform) -> Iterator[tuple[LaneLine, ...]]:
    source = open_source(str(folder / f"{clip_id}.mp4"), platform.settings.cameras)
    ref = next(source.chunks()).clips[0]
    facts = probe_clip(source, ref, platform.settings.clip_grid, platform.settings.frame_limit)
    with source.open_video(ref) as path:
        video = read_frames(path, facts)
    masks = clean_video_masks(platform.segmenter.segment_video(video.frames)).paint
    view = RoadView(video.frames, video.taken_us, 0, road_masks=masks)
    inspector = MeasuredLaneInspector()
    for target in np.linspace(0, len(video.frames) - 1, CLIP_TARGETS).round().astype(int).tolist():
        yield inspector.inspect(replace(view, target_index=target)).lines
