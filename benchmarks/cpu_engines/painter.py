"""Scores the procedural painter on sample drives: where its paint lies, and that it leaves the rest alone.

Painted lines and dashes are measured in the decoded edited video, the rest in the edited frames before encoding. The
same measurements on the decoded unedited clip say how exact the measuring is, worn paint and mount vibration included.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.paint_measurement import (
    FARTHEST_M,
    NO_EDGE_M,
    DashPhase,
    DashRecord,
    Edges,
    Offsets,
    course_of_line,
    dash_edges,
    dash_phase,
    offsets_of,
    view_of,
)
from benchmarks.harness import Outcome
from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.sample_drive.truth import TrueLine
from lanepaint_assets.editing.engine import UnpaintableSceneError
from lanepaint_assets.editing.marking_standards import marking_standard
from lanepaint_assets.rendering.mask_edges import MaskEdges, soften_mask

Float = NDArray[np.float64]

SOLID, DASHED = "single_white_solid", "single_white_dashed"

# Range bins of lateral errors, metres ahead of the rig.
BINS_M = ((4.0, 10.0), (10.0, 15.0), (15.0, 20.0), (20.0, 25.0))

# A vehicle is enclosed where at least this much of its outline, as far as there is ground behind it, borders on road.
_ENCLOSED_SHARE = 0.9
_OUTLINE_PX = 5
# Specks of a vehicle behind leaves are not judged on their own.
_SMALLEST_VEHICLE_PX = 30


@dataclass
class _Lateral:
    """Offsets from the true course, metres to the left, with where they were measured."""

    left_m: list[Float] = field(default_factory=list)
    ahead_m: list[Float] = field(default_factory=list)
    looked: int = 0
    frames: int = 0

    def add(self, offsets: Offsets) -> None:
        self.left_m.append(offsets.left_m)
        self.ahead_m.append(offsets.ahead_m)
        self.looked += offsets.looked

    @property
    def error_m(self) -> Float:
        return np.asarray(np.abs(np.concatenate([np.zeros(0), *self.left_m])))

    def error_within(self, low_m: float, high_m: float) -> float:
        ahead = np.concatenate([np.zeros(0), *self.ahead_m])
        inside = self.error_m[(ahead >= low_m) & (ahead < high_m)]
        return float(inside.mean()) if inside.size else float("nan")


@dataclass
class _Untouched:
    """Pixels of vehicles, and how many of them the edit left as they were."""

    pixels: int = 0
    same: int = 0

    @property
    def share(self) -> float:
        return self.same / self.pixels if self.pixels else float("nan")


class PainterPart:
    """Scores the `procedural` painter."""

    def __init__(self) -> None:
        self._painted, self._unedited = _Lateral(), _Lateral()
        self._dashes: list[DashPhase] = []
        self._true_dashes: list[DashPhase] = []
        self._enclosed, self._every = _Untouched(), _Untouched()
        self._differing = 0
        self._clips = 0
        self._refused: list[str] = []

    def see(self, clip: DriveClip) -> None:
        self._clips += 1
        try:
            solid, dashed = clip.edited(SOLID), clip.edited(DASHED)
        except UnpaintableSceneError as error:
            self._refused.append(f"{clip.name}: {error}")
            return
        for edited in (solid, dashed):
            self._see_untouched(clip, edited)
        lines = [line for line in clip.truth.lines if line.role != "other"]
        standard = marking_standard(clip.platform.settings.marking_standard)
        self._painted.frames += len(solid)
        decoded = recoded(solid, clip.facts.grid.rate_hz)
        for line in lines:
            for offsets, _ in measured(clip, decoded, line, every_where=True):
                self._painted.add(offsets)
        decoded = recoded(dashed, clip.facts.grid.rate_hz)
        for line in lines:
            found = [edges for _, edges in measured(clip, decoded, line, every_where=True)]
            self._dashes.extend(_phases(found, standard.period_m))
        for line in lines:
            rows = measured(clip, clip.video.frames, line, every_where=False)
            for offsets, _ in rows:
                self._unedited.add(offsets)
            if line.pattern == "dashed":
                # True dashes repeat along the road's centreline, not along the line itself.
                course = course_of_line(line)
                along = [replace(edges, arc_m=np.interp(edges.arc_m, course.arc_m, line.s_m)) for _, edges in rows]
                self._true_dashes.extend(_phases(along, line.period_m))

    def see_real(self, data: Path) -> None:
        """Real pictures have no true courses."""

    def conclude(self, outcome: Outcome) -> None:
        outcome.add("clips painted", self._clips - len(self._refused), "clips", "higher", target=self._clips)
        for reason in self._refused:
            outcome.skip(f"refused {reason.partition(':')[0]}", reason)
        if not self._painted.error_m.size:
            outcome.skip("painted line", "no paint was found in any edited video")
            return
        self._conclude_lateral(outcome)
        self._conclude_dashes(outcome)
        for name, untouched in (("enclosed vehicles", self._enclosed), ("all vehicles", self._every)):
            if untouched.pixels:
                target = 0.99 if untouched is self._enclosed else None
                outcome.add(f"pixels of {name} left untouched", untouched.share, "share", "higher", target=target)
            else:
                outcome.skip(f"pixels of {name} left untouched", "no such vehicle in these drives")
        outcome.add("pixels changed outside of the painted region", self._differing, "pixels", "lower", target=0)

    def _conclude_lateral(self, outcome: Outcome) -> None:
        painted, unedited = self._painted, self._unedited
        outcome.add(
            f"painted line from its true course, mean, within {FARTHEST_M:g} m",
            float(painted.error_m.mean()),
            "m",
            "lower",
            target=0.05,
            baseline=float(unedited.error_m.mean()),
        )
        outcome.add(
            "painted line from its true course, 95th percentile",
            float(np.percentile(painted.error_m, 95)),
            "m",
            "lower",
            baseline=float(np.percentile(unedited.error_m, 95)),
        )
        for low, high in BINS_M:
            outcome.add(
                f"painted line from its true course, {low:g} to {high:g} m ahead",
                painted.error_within(low, high),
                "m",
                "lower",
                baseline=unedited.error_within(low, high),
            )
        outcome.add("edited frames measured", painted.frames, "frames", "higher", target=200)
        outcome.add(
            "stations of the true course that show paint", painted.error_m.size / painted.looked, "share", "higher"
        )

    def _conclude_dashes(self, outcome: Outcome) -> None:
        if not self._dashes:
            outcome.skip("dash phase drift", "no line showed enough dashes")
            return
        painted, true = _Dashes.of(self._dashes), _Dashes.of(self._true_dashes)
        rows = [
            ("dash phase drift over 100 frames, mean", painted.drift_m, true.drift_m),
            ("dash phase drift over 100 frames, worst line", painted.worst_drift_m, true.worst_drift_m),
            ("dash edge from the clip's one phase, mean", painted.edge_m, true.edge_m),
            *(
                (f"dash edge from the clip's one phase, {low:g} to {high:g} m ahead", value, floor)
                for (low, high), value, floor in zip(BINS_M, painted.edge_by_bin_m, true.edge_by_bin_m, strict=True)
            ),
            ("spread of a dash edge while in view, mean", painted.spread_m, true.spread_m),
        ]
        for name, value, floor in rows:
            if value is None:
                outcome.skip(name, "no edge was measured there")
            else:
                target = 0.10 if name == rows[0][0] else None
                outcome.add(name, value, "m", "lower", target=target, baseline=floor)
        if painted.misfits is not None:
            outcome.add("dash edges that fit no dash", painted.misfits, "share", "lower", baseline=true.misfits)
        outcome.add("dashed lines measured", len(self._dashes), "lines", "higher")

    def _see_untouched(self, clip: DriveClip, edited: NDArray[np.uint8]) -> None:
        settings = clip.platform.settings
        edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
        height, width = edited.shape[1:3]
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        _, under = clip.geometry.camera.ground(np.stack([columns.ravel(), rows.ravel()], axis=1))
        ground = under.reshape(height, width)
        for k, source in enumerate(clip.facts.grid.source_index):
            changed = (edited[k] != clip.video.frames[k]).any(axis=2)
            region = soften_mask(clip.masks.paint[k], edges) > 0
            self._differing += int(np.count_nonzero(changed & ~region))
            vehicles = clip.truth.vehicle_mask(int(source))
            enclosed = enclosed_vehicles(vehicles, clip.truth.road_mask(int(source)), ground)
            for tally, mask in ((self._every, vehicles), (self._enclosed, enclosed)):
                tally.pixels += int(np.count_nonzero(mask))
                tally.same += int(np.count_nonzero(mask & ~changed))


@dataclass(frozen=True)
class _Dashes:
    """Dash figures over all lines; None where nothing was measured."""

    drift_m: float | None
    worst_drift_m: float | None
    edge_m: float | None
    edge_by_bin_m: tuple[float | None, ...]
    spread_m: float | None
    misfits: float | None

    @classmethod
    def of(cls, phases: list[DashPhase]) -> _Dashes:
        if not phases:
            return cls(None, None, None, (None,) * len(BINS_M), None, None)
        drifts = np.abs([phase.drift_m for phase in phases])
        residual = np.abs(np.concatenate([phase.residual_m for phase in phases]))
        ahead = np.concatenate([phase.ahead_m for phase in phases])
        fits = residual < NO_EDGE_M

        def mean(low_m: float, high_m: float) -> float | None:
            chosen = fits & (ahead >= low_m) & (ahead < high_m)
            return float(residual[chosen].mean()) if chosen.any() else None

        return cls(
            float(drifts.mean()),
            float(drifts.max()),
            mean(0.0, FARTHEST_M + 1),
            tuple(mean(low, high) for low, high in BINS_M),
            float(np.mean([phase.spread_m for phase in phases])),
            float(1.0 - fits.mean()),
        )


def enclosed_vehicles(
    vehicles: NDArray[np.bool_], road: NDArray[np.bool_], ground: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(H, W) True on vehicles that road surrounds.

    The camera sits no higher than a car's roof, so that hardly any vehicle lies in the road's picture as a whole: what
    counts is the part of its outline under the horizon.

    Args:
        vehicles, road: (H, W) true masks.
        ground: (H, W) True under the horizon.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(vehicles.astype(np.uint8))
    result = np.zeros_like(vehicles)
    for label in range(1, count):
        if statistics[label, cv2.CC_STAT_AREA] < _SMALLEST_VEHICLE_PX:
            continue
        one = labels == label
        grown = cv2.dilate(one.astype(np.uint8), np.ones((_OUTLINE_PX, _OUTLINE_PX), np.uint8)) > 0
        outline = grown & ~vehicles & ground
        if outline.any() and road[outline].mean() >= _ENCLOSED_SHARE:
            result |= one
    return result


def recoded(frames: NDArray[np.uint8], rate_hz: float) -> NDArray[np.uint8]:
    """(T, H, W, 3) encoded as `edited_videos` does, and decoded again."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as folder:
        path = Path(folder) / "edited.mp4"
        write_video(path, frames, rate_hz)
        return read_all_frames(path)


def measured(
    clip: DriveClip, frames: NDArray[np.uint8], line: TrueLine, *, every_where: bool
) -> list[tuple[Offsets, Edges]]:
    """What every frame shows of a line.

    Args:
        clip: the drive.
        frames: (T, H, W, 3) decoded.
        line: where to look.
        every_where: whether paint is expected all along it, or only where the true line has it.
    """
    course = course_of_line(line)
    rows = []
    for k, source in enumerate(clip.facts.grid.source_index):
        view = view_of(frames[k], clip.truth, int(source), clip.geometry.camera)
        offsets = offsets_of(view, course, None if every_where else line.painted())
        rows.append((offsets, dash_edges(view, course, offsets)))
    return rows


def _phases(found: list[Edges], period_m: float) -> list[DashPhase]:
    record = DashRecord(
        np.concatenate([np.full(edges.arc_m.size, k, dtype=np.int64) for k, edges in enumerate(found)]),
        np.concatenate([edges.arc_m for edges in found]),
        np.concatenate([edges.ahead_m for edges in found]),
        np.concatenate([edges.starts for edges in found]).astype(np.bool_),
    )
    phase = dash_phase(record, period_m)
    return [] if phase is None else [phase]
