"""The `lane_follow` driver: keeps to the middle of the lane that it measures in the frames it is given.

The weight-free driver that answers to lane markings. The four frames are its only source of lanes; its speed and, where
it sees no lane, its curvature come from the ego history. How lanes are measured is `lanepaint_assets.lanes`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.bridge import history_times_us
from lanepaint_assets.evaluation.driver import FUTURE_STEPS, STEP_S, DriverOutput
from lanepaint_assets.evaluation.ego_state import EgoState, distance_m, measure_ego_state, turning_path
from lanepaint_assets.evaluation.lane_boundaries import lane_boundaries
from lanepaint_assets.evaluation.lane_course import PIECE_M, LaneCourse, estimate_course
from lanepaint_assets.lanes.inspector import RoadView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lanepaint_assets.evaluation.driver import DriverInput
    from lanepaint_assets.evaluation.lane_boundaries import LaneBoundaries
    from lanepaint_assets.lanes.inspector import LaneInspection, LaneInspector

    Float = NDArray[np.float64]

# Rate of the critically damped return to the lane's centre: 87 % of an offset is gone after 3 s, a calm correction.
RETURN_RATE_1PS = 1.2
# Slower where the vehicle is slow: it cannot move sideways without going forward.
RETURN_LENGTH_M = 4.0
# Lateral acceleration that drivers accept in bends, and how fast they give up speed for it.
MAX_LATERAL_MPS2 = 3.0
BRAKING_MPS2 = 1.5


def follow(course: LaneCourse, speed_mps: float, acceleration_mps2: float = 0.0) -> Float:
    """(64, 3): from the rig's origin and heading back to the middle of the lane and along it.

    The offset from the middle dies out critically damped, starting with the vehicle's own lateral speed, so that the
    path begins where the vehicle is and points where it points.

    Args:
        course: of the lane's middle.
        speed_mps: along the lane; given up ahead of bends that would exceed the lateral acceleration.
        acceleration_mps2: at t0, dying out.
    """
    times_s = STEP_S * np.arange(1, FUTURE_STEPS + 1, dtype=np.float64)
    distance = _slowed_for_bends(course, distance_m(speed_mps, acceleration_mps2, times_s))
    points, heading = course.at(course.ego_arc_m + distance)
    offset_rate = -speed_mps * np.sin(course.heading_rad)
    rate = min(RETURN_RATE_1PS, speed_mps / RETURN_LENGTH_M)
    offset = course.ego_offset_m
    decaying = (offset + (offset_rate + rate * offset) * times_s) * np.exp(-rate * times_s)
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    return np.column_stack([points + decaying[:, None] * normal, np.zeros(FUTURE_STEPS)])


def _slowed_for_bends(course: LaneCourse, wanted_m: Float) -> Float:
    """(64,) way gone: `wanted_m`, less what is braked so that no bend ahead is taken too fast."""
    curvature = np.maximum(np.abs(course.curvature_1pm), 1e-6)
    # Speeds are braked down in time: v^2 falls by twice the braking a metre, from far to near.
    square = MAX_LATERAL_MPS2 / curvature
    ahead = 2 * BRAKING_MPS2 * PIECE_M * np.arange(square.size)
    square = np.minimum.accumulate((square + ahead)[::-1])[::-1] - ahead
    limits = np.sqrt(square)
    wanted_speeds = np.diff(wanted_m, prepend=0.0) / STEP_S
    if (wanted_speeds <= limits.min()).all():
        return wanted_m
    gone, speed = np.zeros(FUTURE_STEPS), float(wanted_speeds[0])
    place = 0.0
    for step in range(FUTURE_STEPS):
        limit = float(limits[min(int(place / PIECE_M), limits.size - 1)])
        speed = max(
            min(float(wanted_speeds[step]), limit), min(speed, float(wanted_speeds[step])) - BRAKING_MPS2 * STEP_S, 0.0
        )
        place += speed * STEP_S
        gone[step] = place
    return gone


class LaneFollowDriver:
    """Follows the measured lane at its speed, its acceleration dying out; without a lane, the history's curvature.

    Samples are drawn from the measured uncertainty of the speed and of the lane's course.
    """

    name = "lane_follow"
    version = "3"

    def __init__(
        self, cameras: tuple[str, ...] = ("camera_front_wide_120fov",), inspector: LaneInspector | None = None
    ) -> None:
        """Use `inspector` to find lanes, the measuring one where None, in the first of `cameras` that was recorded."""
        self._cameras = cameras
        if inspector is None:
            # At need: it loads compiled vision code that a driver with another inspector does without.
            from lanepaint_assets.lanes.measured import MeasuredLaneInspector

            inspector = MeasuredLaneInspector()
        self._inspector = inspector

    @property
    def cameras(self) -> tuple[str, ...]:
        return self._cameras

    @property
    def accepts_one_camera(self) -> bool:
        """It looks at one camera in any case."""
        return True

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        state = measure_ego_state(moment.history_xyz_m, moment.history_rotation)
        inspection = self._look(moment)
        seen, course = None, None
        if inspection is not None:
            is_calibrated = inspection.camera.quality == "calibrated"
            seen = lane_boundaries(inspection.lines, is_calibrated)
            if seen is not None:
                course = estimate_course(seen.left, seen.right, state, is_calibrated)
        about = "" if seen is None or course is None else _describe(seen, course)
        samples = [self._sample(state, course, about, np.random.default_rng(seed)) for seed in seeds]
        trajectories = np.array([trajectory for trajectory, _, _ in samples], dtype=np.float64)
        return DriverOutput(
            trajectories_m=trajectories.reshape(len(seeds), FUTURE_STEPS, 3),
            reasoning=tuple(text for _, text, _ in samples),
            decisions=tuple(decision for _, _, decision in samples),
            note=_note(inspection, seen),
        )

    def _look(self, moment: DriverInput) -> LaneInspection | None:
        """Inspect the frame at t0; None where no camera of this driver was recorded."""
        seen = [name for name in self._cameras if name in moment.frames]
        if not seen:
            return None
        t0_us = int(moment.frame_timestamps_us[-1])
        history = Egomotion(
            timestamps_us=history_times_us(t0_us),
            positions_m=moment.history_xyz_m,
            quaternions_xyzw=Rotation.from_matrix(moment.history_rotation).as_quat(),
            quality=moment.ego_quality,
        )
        frames = moment.frames[seen[0]]
        return self._inspector.inspect(
            RoadView(
                frames=frames,
                timestamps_us=moment.frame_timestamps_us,
                target_index=len(frames) - 1,
                camera=moment.cameras[seen[0]],
                ego=history,
            )
        )

    @staticmethod
    def _sample(
        state: EgoState, course: LaneCourse | None, about: str, random: np.random.Generator
    ) -> tuple[Float, str, str]:
        """One trajectory, its reasoning and its decision."""
        draw = random.standard_normal(2)
        speed = 0.0 if state.is_standing else state.speed_mps + state.speed_std_mps * float(draw[0])
        if course is None or speed < 0:
            yaw_rate = 0.0 if state.is_standing else state.yaw_rate_radps + state.yaw_rate_std_radps * float(draw[1])
            times_s = STEP_S * np.arange(1, FUTURE_STEPS + 1, dtype=np.float64)
            text = f"no lane followed, going on at {speed:.1f} m/s and {np.degrees(yaw_rate):+.1f} degrees a second"
            return turning_path(speed, yaw_rate, times_s), text, "go on as before"
        if state.is_standing:
            return np.zeros((FUTURE_STEPS, 3)), f"{about}, standing", "stand"
        sampled = course.sample(random.standard_normal(len(course.factor)))
        return (
            follow(sampled, speed, state.acceleration_mps2),
            f"{about}, following at {speed:.1f} m/s",
            "follow the lane",
        )


def _describe(seen: LaneBoundaries, course: LaneCourse) -> str:
    """`lane 3.6 m wide, 0.2 m right of centre`."""
    is_whole = seen.left is not None and seen.right is not None
    width = f"lane {2 * course.half_width_m:.1f} m wide" if is_whole else "one lane boundary seen"
    offset = course.ego_offset_m
    # 5 cm is what the text can show; below it, left or right would be noise.
    place = (
        "in its centre" if abs(offset) < 0.05 else f"{abs(offset):.1f} m {'left' if offset > 0 else 'right'} of centre"
    )
    return f"{width}, {place}"


def _note(inspection: LaneInspection | None, seen: LaneBoundaries | None) -> str | None:
    if inspection is None:
        return "no frame of a camera that this driver looks at; it follows the curvature of the ego history"
    if seen is None:
        reason = inspection.reason or "no boundary of the ego lane was measured"
        return f"no lane seen ({reason}); it follows the curvature of the ego history"
    return seen.note
