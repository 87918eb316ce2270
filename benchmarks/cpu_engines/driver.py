"""Part driver: how near `lane_follow` comes to the path really driven, and how it answers to a lane that is moved.

Every half second of each clip is a moment; `constant_velocity` answers the same moments with the same seeds and is the
baseline. Whether a moment is on a curve is decided from the path really driven, never from an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.shifted_lane import repainted
from benchmarks.harness import Outcome
from lanepaint_assets.editing.engine import UnpaintableSceneError
from lanepaint_assets.evaluation.bridge import (
    FUTURE_SPAN_US,
    HISTORY_SPAN_US,
    CameraView,
    Moment,
    driver_moment,
    ground_truth,
)
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import FRAMES_PER_CAMERA, DriverInput
from lanepaint_assets.evaluation.lane_follow import LaneFollowDriver
from lanepaint_assets.evaluation.metrics import accuracy, divergence
from lanepaint_assets.store.seeds import seeds

Float = NDArray[np.float64]

# Half a second apart, less half a grid step, so that rounding to the grid skips none.
MOMENT_EVERY_US = 440_000
SAMPLES = 6
# A moment is on a curve where going straight on would take the vehicle this far out of its path within 6.4 s: out of
# its lane, whatever the lane's width.
CURVE_M = 3.0
# The lane is moved to both sides by this, and the answer is read at this time.
SHIFT_M = 0.5
SHIFT_AT_S = 3.0
SHIFT_RANGE_M = (0.3, 0.6)


@dataclass(frozen=True)
class _Answer:
    """minADE of both drivers at one moment."""

    scenario: str
    on_curve: bool
    following_m: float
    straight_on_m: float


@dataclass
class DriverPart:
    """Collects answers; see the module."""

    driver: LaneFollowDriver = field(default_factory=LaneFollowDriver)
    floor: ConstantVelocityDriver = field(default_factory=ConstantVelocityDriver)
    answers: list[_Answer] = field(default_factory=list)
    left_m: list[float] = field(default_factory=list)
    right_m: list[float] = field(default_factory=list)
    unmoved_m: list[float] = field(default_factory=list)
    unpainted: list[str] = field(default_factory=list)

    def see(self, clip: DriveClip) -> None:
        moments = moments_of(clip)
        for moment in moments:
            self._compare(clip, moment)
        self._shift(clip, moments[len(moments) // 2])

    def see_real(self, data: Path) -> None:
        """Nothing: no labelled data set here has camera, lanes and the path driven."""

    def conclude(self, outcome: Outcome) -> None:
        groups = {"on curves": [a for a in self.answers if a.on_curve]}
        groups["on straights"] = [a for a in self.answers if not a.on_curve]
        for scenario in sorted({a.scenario for a in self.answers}):
            groups[f"on curves of {scenario}"] = [a for a in self.answers if a.on_curve and a.scenario == scenario]
        for name, answers in groups.items():
            title = f"driver: minADE {name}, 6.4 s, K={SAMPLES}, n={len(answers)}"
            if not answers:
                outcome.skip(title, "no such moment in these clips")
                continue
            floor = float(np.mean([a.straight_on_m for a in answers]))
            # The target of straights is to be no worse than going straight on, which is right there.
            share = {"on curves": 0.5, "on straights": 1.0}.get(name)
            target = None if share is None else share * floor
            value = float(np.mean([a.following_m for a in answers]))
            outcome.add(title, value, "m", "lower", target=target, baseline=floor)
        self._conclude_shift(outcome)

    def _compare(self, clip: DriveClip, moment: Moment) -> None:
        given, truth = given_at(clip, moment), ground_truth(clip.geometry.ego, moment)
        assert truth is not None
        drawn = _seeds_of(clip, moment)
        scores = [
            accuracy(driver.predict(given, drawn).trajectories_m, truth).min_ade_m
            for driver in (self.driver, self.floor)
        ]
        assert scores[0] is not None
        assert scores[1] is not None
        on_curve = bool(np.abs(truth[:, 1]).max() > CURVE_M)
        self.answers.append(_Answer(clip.truth.scenario, on_curve, scores[0], scores[1]))

    def _shift(self, clip: DriveClip, moment: Moment) -> None:
        try:
            arms = repainted(clip, moment.grid_index, (0.0, SHIFT_M, -SHIFT_M), FRAMES_PER_CAMERA)
        except UnpaintableSceneError as error:
            self.unpainted.append(str(error))
            return
        given, truth = given_at(clip, moment), ground_truth(clip.geometry.ego, moment)
        drawn = _seeds_of(clip, moment)
        unedited = self.driver.predict(given, drawn).trajectories_m
        again = self.driver.predict(_with_frames(given, next(iter(given.frames.values())).copy()), drawn)
        self.unmoved_m.append(abs(divergence(unedited, again.trajectories_m, truth).lateral_at(SHIFT_AT_S)))
        in_place, left, right = (self.driver.predict(_with_frames(given, arm), drawn).trajectories_m for arm in arms)
        self.left_m.append(divergence(in_place, left, truth).lateral_at(SHIFT_AT_S))
        self.right_m.append(-divergence(in_place, right, truth).lateral_at(SHIFT_AT_S))

    def _conclude_shift(self, outcome: Outcome) -> None:
        name = f"driver: shift at {SHIFT_AT_S:g} s after the lane moved {SHIFT_M:g} m"
        if not self.left_m:
            outcome.skip(name, self.unpainted[0] if self.unpainted else "no clip")
            return
        low, high = SHIFT_RANGE_M
        for side, shifts in (("left", self.left_m), ("right", self.right_m)):
            mean = float(np.mean(shifts))
            outcome.add(f"{name} {side}, no less, n={len(shifts)}", mean, "m", "higher", target=low)
            outcome.add(f"{name} {side}, no more, n={len(shifts)}", mean, "m", "lower", target=high)
        same = float(np.mean([shift > 0 for shift in self.left_m + self.right_m]))
        outcome.add("driver: share that moved to the side that the lane moved to", same, "1", "higher")
        unmoved = float(np.max(self.unmoved_m))
        name = f"driver: largest shift of the unedited control, n={len(self.unmoved_m)}"
        outcome.add(name, unmoved, "m", "lower", target=0.0)
        outcome.add("driver: clips that could not be repainted", float(len(self.unpainted)), "1", "lower")


def moments_of(clip: DriveClip) -> list[Moment]:
    """A grid moment every half second that has four frames, the whole history and the whole future."""
    first, last = clip.geometry.ego.span_us
    moments: list[Moment] = []
    for index, time_us in enumerate(clip.video.timestamps_us.tolist()):
        complete = time_us >= first + HISTORY_SPAN_US and time_us + FUTURE_SPAN_US <= last
        due = not moments or time_us >= moments[-1].t0_us + MOMENT_EVERY_US
        if index >= FRAMES_PER_CAMERA - 1 and complete and due:
            moments.append(Moment(time_us, index, has_future=True, extended_history_steps=0, reason=None))
    return moments


def given_at(clip: DriveClip, moment: Moment) -> DriverInput:
    """What a driver is given, as the evaluation stage gives it."""
    camera = clip.facts.ref.camera
    view = CameraView(clip.video.frames, clip.video.timestamps_us, clip.geometry.camera)
    return driver_moment(moment, camera, clip.video.timestamps_us, {camera: view}, clip.geometry.ego, (camera,))


def _with_frames(given: DriverInput, frames: NDArray[np.uint8]) -> DriverInput:
    """The same moment of the one camera's other frames."""
    return replace(given, frames=MappingProxyType(dict.fromkeys(given.frames, frames)))


def _seeds_of(clip: DriveClip, moment: Moment) -> tuple[int, ...]:
    """Other seeds at every moment: the luck of one draw must not decide a whole benchmark."""
    key = f"{clip.facts.ref.item_key}@{moment.t0_us}"
    return seeds(clip.platform.settings.study_seed, "driver", key, SAMPLES)
