"""The `lane_follow` driver: keeps to the middle of the lane that it measures in the frames it is given.

The weight-free driver that answers to lane markings. The four frames are its only source of lanes; its speed and, where
it sees no lane, its curvature come from the ego history. How lanes are measured is `lanepaint_assets.lanes`' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.bridge import history_times_us
from lanepaint_assets.evaluation.driver import FUTURE_STEPS, STEP_S, DriverOutput
from lanepaint_assets.evaluation.ego_state import EgoState, distance_m, measure_ego_state, turning_path
from lanepaint_assets.lanes.inspector import RoadView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lanepaint_assets.evaluation.driver import DriverInput
    from lanepaint_assets.lanes.inspector import LaneInspection, LaneInspector, LaneLine

    Float = NDArray[np.float64]

# On sample drives boundaries measure 0.6 and more; what the grain of bare asphalt gives rise to stays below 0.5.
MIN_LINE_CONFIDENCE = 0.5
# Traffic lanes from narrow urban to wide motorway; outside it, one of the two lines is not this lane's boundary.
LANE_WIDTH_RANGE_M = (2.2, 4.5)
# Without calibration the camera's assumed height scales every metre; lanes of 3.7 m then measured up to 4.8 m.
UNCALIBRATED_SCALE = 1.3
# Assumed where only one boundary is seen: between the 3.25 m and 3.75 m that most standards ask for.
DEFAULT_LANE_WIDTH_M = 3.5
# Where the two boundaries are compared: 10 m is near enough to be sharp and far enough to be in every camera's view; at
# 25 m a pixel is still below 0.1 m. A lane widens by less than this between them, a wrong line leaves it.
WIDTH_AT_X_M = np.array([10.0, 25.0])
MAX_WIDENING_M = 0.8
# A cubic is trusted over what was seen of it, but never further: at 60 m one pixel is already half a metre of road.
MAX_SEEN_X_M = 60.0
MIN_SEEN_X_M = 15.0
PATH_STEP_M = 0.5
# How far the path goes on beyond what was seen: 50 m/s over 6.4 s.
CONTINUED_M = 330.0
# Rate of the critically damped return to the lane's centre: 87 % of an offset is gone after 3 s, a calm correction.
RETURN_RATE_1PS = 1.2
# Slower where the vehicle is slow: it cannot move sideways without going forward.
RETURN_LENGTH_M = 4.0
# Lateral acceleration that passengers accept, and how fast speed is given up for it.
MAX_LATERAL_MPS2 = 3.0
BRAKING_MPS2 = 1.5
# One standard deviation of a lane measured with full confidence; divided by the confidence, at least by the minimum.
OFFSET_STD_M = 0.1
CURVATURE_STD_1PM = 3e-4
MIN_CONFIDENCE = 0.2


@dataclass(frozen=True, eq=False)
class LaneCentre:
    """The middle of the ego lane in the rig frame, from x = 0 to where it was seen, and a guess of how it goes on.

    Attributes:
        points_m: (N, 2), from x = 0 on; the first `seen` of them were measured.
        seen: number of measured points.
        curvature_1pm: mean over the measured points, left positive.
        width_m: distance between the boundaries; None where one of them was not seen.
        confidence: 0..1, of the less certain boundary used.
        note: what limited it, or None.
    """

    points_m: Float
    seen: int
    curvature_1pm: float
    width_m: float | None
    confidence: float
    note: str | None

    @property
    def heading_rad(self) -> float:
        """Of the lane at x = 0, left positive."""
        step = self.points_m[1] - self.points_m[0]
        return float(np.arctan2(step[1], step[0]))

    @property
    def ego_offset_m(self) -> float:
        """How far left of the centre the vehicle is."""
        return -float(self.points_m[0, 1]) * float(np.cos(self.heading_rad))

    @property
    def ego_arc_m(self) -> float:
        """Arc length of the point of the centre next to the vehicle; 0 is the point at x = 0."""
        return -float(self.points_m[0, 1]) * float(np.sin(self.heading_rad))

    def at(self, arc_m: Float) -> tuple[Float, Float]:
        """Points (N, 2) and headings (N,) at arc lengths `arc_m` (N,); straight before x = 0."""
        steps = np.diff(self.points_m, axis=0)
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
        headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        heading = np.interp(arc_m, (arc[:-1] + arc[1:]) / 2, headings)
        points = np.stack([np.interp(arc_m, arc, self.points_m[:, i]) for i in range(2)], axis=1)
        points += np.minimum(arc_m, 0.0)[:, None] * np.array([np.cos(headings[0]), np.sin(headings[0])])
        return points, heading


def lane_centre(lines: tuple[LaneLine, ...], is_calibrated: bool = True) -> LaneCentre | None:
    """The middle of the ego lane from its measured boundaries; None where neither was measured well enough.

    With one boundary, half a usual lane's width beside it. Where one boundary was seen further than the other, the
    centre goes on beside the one seen.

    Args:
        lines: of one frame; only the ego lane's boundaries are read.
        is_calibrated: False allows widths that a wrong camera height explains.
    """
    left, right, note = _of_one_lane(_boundary(lines, "ego_left"), _boundary(lines, "ego_right"), is_calibrated)
    seen = [line for line in (left, right) if line is not None]
    if not seen:
        return None
    end = min(max(max(line.x_range_m[1] for line in seen), MIN_SEEN_X_M), MAX_SEEN_X_M)
    x = np.arange(0.0, end + PATH_STEP_M, PATH_STEP_M)
    if left is not None and right is not None:
        lane_width: float | None = float(np.ptp([line.lateral_m(WIDTH_AT_X_M)[0] for line in seen]))
        shared_end = min(max(min(left.x_range_m[1], right.x_range_m[1]), MIN_SEEN_X_M), end)
        shared = np.minimum(x, shared_end)
        half = (left.lateral_m(shared) - right.lateral_m(shared)) / 2
        further = left if left.x_range_m[1] >= right.x_range_m[1] else right
        y = further.lateral_m(x) + (-half if further is left else half)
    else:
        lane_width = None
        side = "left" if left is not None else "right"
        note = note or f"only the {side} boundary seen, a lane of {DEFAULT_LANE_WIDTH_M} m assumed"
        # Across the lane, not along y: on a slanted or curved lane these differ.
        slope = np.gradient(seen[0].lateral_m(x), x)
        y = seen[0].lateral_m(x) + (-0.5 if side == "left" else 0.5) * DEFAULT_LANE_WIDTH_M * np.hypot(1.0, slope)
    measured = np.stack([x, y], axis=1)
    heading = np.arctan(np.gradient(y, x))
    length = float(np.hypot(np.diff(x), np.diff(y)).sum())
    curvature = float(heading[-1] - heading[0]) / length
    return LaneCentre(
        points_m=np.concatenate([measured, _continued(measured[-1], float(heading[-1]), curvature)]),
        seen=len(measured),
        curvature_1pm=curvature,
        width_m=lane_width,
        confidence=min(line.confidence for line in seen),
        note=note,
    )


def _continued(start_m: Float, heading_rad: float, curvature_1pm: float) -> Float:
    """Points (N, 2) after `start_m`, an arc.

    An arc whose curvature fades over 40 to 300 m was tried on sample drives: no difference in minADE above 0.1 m.
    """
    arc_m = PATH_STEP_M * np.arange(1, round(CONTINUED_M / PATH_STEP_M) + 1, dtype=np.float64)
    bend = turning_path(1.0, curvature_1pm, arc_m)[:, :2]
    cosine, sine = np.cos(heading_rad), np.sin(heading_rad)
    points: Float = start_m + bend @ np.array([[cosine, sine], [-sine, cosine]])
    return points


def follow(
    centre: LaneCentre,
    speed_mps: float,
    acceleration_mps2: float = 0.0,
    offset_error_m: float = 0.0,
    curvature_error_1pm: float = 0.0,
) -> Float:
    """(64, 3): from the rig's origin and heading back to the middle of the lane and along it.

    The offset from the centre dies out critically damped, starting with the vehicle's own lateral speed, so that the
    path begins where the vehicle is and points where it points.

    Args:
        centre: the lane.
        speed_mps: along the lane; given up where the lane's mean curvature would exceed the lateral acceleration.
        acceleration_mps2: at t0, dying out.
        offset_error_m: how far left of the measured centre this sample believes the centre is.
        curvature_error_1pm: added to the lane's curvature.
    """
    times_s = STEP_S * np.arange(1, FUTURE_STEPS + 1, dtype=np.float64)
    curvature = abs(centre.curvature_1pm + curvature_error_1pm)
    slowest = float(np.sqrt(MAX_LATERAL_MPS2 / curvature)) if curvature > 0 else np.inf
    # Distance under constant braking until the lower speed is reached, then at that speed.
    brake_s = max(speed_mps - slowest, 0.0) / BRAKING_MPS2
    braking = np.minimum(times_s, brake_s)
    distance = distance_m(speed_mps, acceleration_mps2, times_s)
    # Braking for the bend on top of braking already: the vehicle stops, it does not go back.
    distance = np.maximum.accumulate(distance - BRAKING_MPS2 * (braking * times_s - braking**2 / 2))
    points, heading = centre.at(centre.ego_arc_m + distance)
    offset = centre.ego_offset_m - offset_error_m
    offset_rate = -speed_mps * np.sin(centre.heading_rad)
    rate = min(RETURN_RATE_1PS, speed_mps / RETURN_LENGTH_M)
    decaying = (offset + (offset_rate + rate * offset) * times_s) * np.exp(-rate * times_s)
    sideways = decaying + offset_error_m + curvature_error_1pm * distance**2 / 2
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    return np.column_stack([points + sideways[:, None] * normal, np.zeros(FUTURE_STEPS)])


class LaneFollowDriver:
    """Follows the measured lane at its speed, its acceleration dying out; without a lane, the history's curvature.

    Samples spread by the measured uncertainty of the speed and by the lane's confidence.
    """

    name = "lane_follow"
    version = "1"

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

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        state = measure_ego_state(moment.history_xyz_m, moment.history_rotation)
        inspection = self._look(moment)
        centre = (
            None
            if inspection is None
            else lane_centre(inspection.lines, is_calibrated=inspection.camera.quality == "calibrated")
        )
        samples = [self._sample(state, centre, np.random.default_rng(seed).standard_normal(4)) for seed in seeds]
        trajectories = np.array([trajectory for trajectory, _ in samples], dtype=np.float64)
        return DriverOutput(
            trajectories_m=trajectories.reshape(len(seeds), FUTURE_STEPS, 3),
            reasoning=tuple(text for _, text in samples),
            note=_note(inspection, centre),
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
    def _sample(state: EgoState, centre: LaneCentre | None, draw: Float) -> tuple[Float, str]:
        """One trajectory and its reasoning from four standard normal numbers."""
        speed = 0.0 if state.is_standing else state.speed_mps + state.speed_std_mps * float(draw[0])
        if centre is None or speed < 0:
            yaw_rate = 0.0 if state.is_standing else state.yaw_rate_radps + state.yaw_rate_std_radps * float(draw[1])
            times_s = STEP_S * np.arange(1, FUTURE_STEPS + 1, dtype=np.float64)
            text = f"no lane followed, going on at {speed:.1f} m/s and {np.degrees(yaw_rate):+.1f} degrees a second"
            return turning_path(speed, yaw_rate, times_s), text
        if state.is_standing:
            return np.zeros((FUTURE_STEPS, 3)), f"{_describe(centre)}, standing"
        spread = 1.0 / max(centre.confidence, MIN_CONFIDENCE)
        trajectory = follow(
            centre,
            speed,
            state.acceleration_mps2,
            offset_error_m=OFFSET_STD_M * spread * float(draw[2]),
            curvature_error_1pm=CURVATURE_STD_1PM * spread * float(draw[3]),
        )
        return trajectory, f"{_describe(centre)}, following at {speed:.1f} m/s"


def _of_one_lane(
    left: LaneLine | None, right: LaneLine | None, is_calibrated: bool
) -> tuple[LaneLine | None, LaneLine | None, str | None]:
    """Both boundaries where they can be one lane's; otherwise one of them, and a note that says why."""
    if left is None or right is None:
        return left, right, None
    near, far = left.lateral_m(WIDTH_AT_X_M) - right.lateral_m(WIDTH_AT_X_M)
    scale = 1.0 if is_calibrated else UNCALIBRATED_SCALE
    if not LANE_WIDTH_RANGE_M[0] / scale <= near <= LANE_WIDTH_RANGE_M[1] * scale:
        note = f"boundaries {near:.1f} m apart are not one lane's, only the clearer one is used"
        keep_left = left.confidence >= right.confidence
    elif abs(far - near) > MAX_WIDENING_M * scale:
        # The vehicle drives along its lane: the boundary that leaves its heading the least is the true one.
        note = f"boundaries {near:.1f} m and then {far:.1f} m apart are not one lane's, only one is used"
        keep_left = abs(left.coefficients[1]) <= abs(right.coefficients[1])
    else:
        return left, right, None
    return (left, None, note) if keep_left else (None, right, note)


def _boundary(lines: tuple[LaneLine, ...], role: str) -> LaneLine | None:
    """The most certain line of a role, None where none is certain enough."""
    candidates = [line for line in lines if line.role == role and line.confidence >= MIN_LINE_CONFIDENCE]
    return max(candidates, key=lambda line: line.confidence, default=None)


def _describe(centre: LaneCentre) -> str:
    """`lane 3.6 m wide, 0.2 m right of centre`."""
    width = "one lane boundary seen" if centre.width_m is None else f"lane {centre.width_m:.1f} m wide"
    offset = centre.ego_offset_m
    # 5 cm is what the text can show; below it, left or right would be noise.
    place = (
        "in its centre" if abs(offset) < 0.05 else f"{abs(offset):.1f} m {'left' if offset > 0 else 'right'} of centre"
    )
    return f"{width}, {place}"


def _note(inspection: LaneInspection | None, centre: LaneCentre | None) -> str | None:
    if inspection is None:
        return "no frame of a camera that this driver looks at; it follows the curvature of the ego history"
    if centre is None:
        reason = inspection.reason or "no boundary of the ego lane was measured"
        return f"no lane seen ({reason}); it follows the curvature of the ego history"
    return centre.note
