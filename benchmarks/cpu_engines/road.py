"""Part road: how well the road segmenter finds the road, on sample drives and on labelled street pictures.

Masks are compared as painters get them: `CleanedMasks.paint` with the truth, which leaves vehicles out as well. The
clean-up's `road` mask includes enclosed vehicles by its definition, so it is no answer to the same question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.parts import missing
from benchmarks.harness import Outcome
from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.segmentation.classical import ClassicalRoadSegmenter
from lanepaint_assets.segmentation.cleanup import clean_frame, clean_video_masks

Mask = NDArray[np.bool_]

# Neighbouring grid frames are nearly the same picture; every tenth of 40 clips still makes over 200.
FRAME_STEP = 10
DRIVE_TARGET = 0.97

# Class indices of the CamVid labels (its 12-class form).
ROAD, VEHICLE, IGNORED = 3, 8, 11

# The plain method: one trapezoid for every picture, (x, y) as shares of its size. Its horizon and width are what suits
# a forward camera on a two-lane road.
TRAPEZOID = ((0.45, 0.55), (0.55, 0.55), (1.20, 1.0), (-0.20, 1.0))


@dataclass(frozen=True)
class StreetSet:
    """One folder of labelled pictures of `../shared/data`, consecutive labelled frames of a video."""

    name: str
    folder: str
    rate_hz: float
    target: float


STREETS = (
    StreetSet("street by day", "road_gt_camvid_day1hz", 1.0, 0.85),
    StreetSet("street at dusk", "road_gt_camvid_test_dusk1hz", 0.5, 0.75),
)


@dataclass
class Overlaps:
    """Scores of one group of frames, collected."""

    engine: list[float] = field(default_factory=list)
    trapezoid: list[float] = field(default_factory=list)
    vehicle_px: int = 0
    painted_vehicle_px: int = 0

    def add(self, paint: Mask, road: Mask, vehicle: Mask, known: Mask) -> None:
        """Score one frame; pixels that are not `known` count for nothing. All (H, W)."""
        self.engine.append(iou(paint & known, road & known))
        self.trapezoid.append(iou(trapezoid(*road.shape) & known, road & known))
        self.vehicle_px += int(np.count_nonzero(vehicle))
        self.painted_vehicle_px += int(np.count_nonzero(vehicle & paint))

    @property
    def worst_decile(self) -> float:
        """Mean overlap of the worst tenth of the frames."""
        return worst_decile(self.engine)


class RoadPart:
    """Road overlap on sample drives, in all and by scenario, and on street pictures, as a video and one by one."""

    def __init__(self) -> None:
        self._scenarios: defaultdict[str, Overlaps] = defaultdict(Overlaps)
        self._all = Overlaps()
        self._streets: dict[tuple[str, str], Overlaps] = {}
        self._missing: dict[str, str] = {}

    def see(self, clip: DriveClip) -> None:
        """Every tenth grid frame; all of them are segmented, as a video."""
        known = np.ones((clip.truth.height, clip.truth.width), dtype=np.bool_)
        for index in range(0, len(clip.masks.paint), FRAME_STEP):
            source_index = int(clip.facts.grid.source_index[index])
            road, vehicle = clip.truth.road_mask(source_index), clip.truth.vehicle_mask(source_index)
            for overlaps in (self._all, self._scenarios[clip.truth.scenario]):
                overlaps.add(clip.masks.paint[index], road, vehicle, known)

    def see_real(self, data: Path) -> None:
        """The labelled street pictures."""
        segmenter = ClassicalRoadSegmenter()
        for street in STREETS:
            folder = data / street.folder
            if not folder.is_dir():
                self._missing[street.name] = missing(folder)
                continue
            pictures, labels = zip(*_labelled(folder), strict=True)
            video = clean_video_masks(segmenter.segment_video(np.stack(pictures))).paint
            single = [clean_frame(segmenter.segment_picture(picture)).paint for picture in pictures]
            for mode, masks in (("video", video), ("pictures", single)):
                overlaps = self._streets[street.name, mode] = Overlaps()
                for paint, label in zip(masks, labels, strict=True):
                    overlaps.add(paint, label == ROAD, label == VEHICLE, label != IGNORED)

    def conclude(self, outcome: Outcome) -> None:
        """Mean overlaps against the trapezoid's, the worst decile, and painted vehicle pixels."""
        if self._all.engine:
            n = len(self._all.engine)
            _report(outcome, f"road IoU, sample drives (n={n})", self._all, DRIVE_TARGET)
            for scenario, overlaps in sorted(self._scenarios.items()):
                _report(outcome, f"road IoU, {scenario} (n={len(overlaps.engine)})", overlaps, None)
        else:
            outcome.skip("road IoU, sample drives", "no clips were given")
        for street in STREETS:
            if street.name in self._missing:
                outcome.skip(f"road IoU, {street.name}", self._missing[street.name])
                continue
            for mode in ("video", "pictures"):
                overlaps = self._streets[street.name, mode]
                how = f"as a {street.rate_hz:g} Hz video" if mode == "video" else "picture by picture"
                name = f"road IoU, {street.name}, {how} (n={len(overlaps.engine)})"
                _report(outcome, name, overlaps, street.target if mode == "video" else None)


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two (H, W) masks; 1 where both are empty."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def worst_decile(scores: list[float]) -> float:
    """Mean of the lowest tenth of the scores, of at least one."""
    return float(np.mean(sorted(scores)[: max(1, len(scores) // 10)]))


def trapezoid(height: int, width: int) -> Mask:
    """The baseline's (H, W) mask."""
    drawn = np.zeros((height, width), dtype=np.uint8)
    corners = np.round(np.array(TRAPEZOID) * (width, height)).astype(np.int32)
    cv2.fillPoly(drawn, [corners], 1)
    return np.asarray(drawn > 0)


def _labelled(folder: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for path in sorted((folder / "images").glob("*.png")):
        label = cv2.imread(str(folder / "labels" / path.name), cv2.IMREAD_GRAYSCALE)
        if label is None:
            raise FileNotFoundError(f"{path} has no label picture of its name in {folder / 'labels'}")
        yield read_picture(path.read_bytes(), path.name), label.astype(np.uint8)


def _report(outcome: Outcome, name: str, overlaps: Overlaps, target: float | None) -> None:
    baseline = overlaps.trapezoid
    outcome.add(name, float(np.mean(overlaps.engine)), "", "higher", target=target, baseline=float(np.mean(baseline)))
    outcome.add(f"{name}: worst tenth", overlaps.worst_decile, "", "higher", baseline=worst_decile(baseline))
    if overlaps.vehicle_px:
        share = overlaps.painted_vehicle_px / overlaps.vehicle_px
        outcome.add(f"{name}: vehicle pixels in the paint mask", 100 * share, "%", "lower")
