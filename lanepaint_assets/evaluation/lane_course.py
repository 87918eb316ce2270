"""Where the ego lane goes: the middle of it as far as the driver plans, with the uncertainty of every metre of it.

Called by the `lane_follow` driver. Lines come from an inspector as courses with ranges; here they are joined with what
roads are like (their curvature changes slowly and is small where traffic is fast) into one estimate that also says how
little is known where nothing was seen. No pictures, no speeds of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lanepaint_assets.evaluation.ego_state import EgoState
    from lanepaint_assets.lanes.inspector import LaneLine

    Float = NDArray[np.float64]

# Pieces of constant curvature that the course consists of: a bend changes by less than the lines resolve in one.
PIECE_M = 5.0
# How far the course is estimated: 50 m/s over 6.4 s.
COURSE_M = 330.0
# Lateral acceleration that bends cost those who drive them, one standard deviation; up to this speed. Faster roads are
# built for sight and comfort with bends milder than the square of the speed asks for.
BEND_MPS2 = 1.0
BEND_SPEED_MPS = 20.0
# Roads bend with a radius of 300 m and more but at corners, however slow the traffic.
MAX_CURVATURE_STD_1PM = 0.003
# Bends come and go over this time of driving, and over this length at least. 3 s and 6 s were worse on sample drives.
BEND_TIME_S = 4.0
MIN_BEND_LENGTH_M = 30.0
# Lateral acceleration of steering within the lane: as far is the vehicle's own curvature from the road's.
STEERING_MPS2 = 0.25
# A driving vehicle stands within a lane's half width of the middle of its lane and within a few degrees of it.
OFFSET_STD_M = 1.0
HEADING_STD_RAD = 0.06
# Half of a traffic lane, 3.25 m to 3.75 m in most standards.
HALF_WIDTH_M = 1.75
HALF_WIDTH_STD_M = 0.15
# Without calibration the camera's assumed height scales every metre.
UNCALIBRATED_HALF_WIDTH_STD_M = 0.4
# The camera's pitch against the road ahead, radians by metre of camera height: a tenth of a degree.
PITCH_PER_HEIGHT_STD_1PM = 0.001
# What a line's own covariance does not tell: how far the road is from a plane and the line from a cubic, near and by
# metre ahead. Set on sample drives.
READING_EVERY_M = 4.0
READING_STD_M = 0.01
READING_STD_PER_M = 0.002
# Where the inspector tells no covariance: by metre ahead too.
UNTOLD_STD_M = 0.02
UNTOLD_STD_PER_M = 0.001
MIN_CONFIDENCE = 0.2
# Slower than walking nothing follows from the speed about the road.
MIN_SPEED_MPS = 3.0
# The readings are nearly linear in the course: the third step moves it by less than a millimetre.
STEPS = 3

# Offset, heading, half width and pitch come before the curvatures in the estimate.
_OFFSET, _HEADING, _HALF_WIDTH, _PITCH, _BENDS = range(5)


@dataclass(frozen=True, eq=False)
class LaneCourse:
    """The middle of the lane as pieces of constant curvature, `PIECE_M` long, from abeam of the vehicle on.

    Attributes:
        offset_m: rig y of its beginning at x = 0.
        heading_rad: of its beginning, left positive.
        half_width_m: of the lane.
        curvature_1pm: (N,) of the pieces, left positive.
        factor: (N + 2, N + 2) lower triangular; times standard normal numbers it gives an error of offset, heading and
            curvatures, drawn from what the lines leave open.
    """

    offset_m: float
    heading_rad: float
    half_width_m: float
    curvature_1pm: Float
    factor: Float

    @property
    def ego_offset_m(self) -> float:
        """How far left of the middle the vehicle is."""
        return -self.offset_m * float(np.cos(self.heading_rad))

    @property
    def ego_arc_m(self) -> float:
        """Arc length of the point of the course next to the vehicle; 0 is the point at x = 0."""
        return -self.offset_m * float(np.sin(self.heading_rad))

    def sample(self, draw: Float) -> LaneCourse:
        """A course that the lines allow, from (N + 2,) standard normal numbers."""
        error = self.factor @ draw
        return replace(
            self,
            offset_m=self.offset_m + float(error[0]),
            heading_rad=self.heading_rad + float(error[1]),
            curvature_1pm=self.curvature_1pm + error[2:],
        )

    def at(self, arc_m: Float) -> tuple[Float, Float]:
        """Points (M, 2) in the rig frame and headings (M,) at arc lengths `arc_m` (M,); straight before the course."""
        nodes, headings = _walked(self.offset_m, self.heading_rad, self.curvature_1pm)
        arc = np.minimum(arc_m, PIECE_M * self.curvature_1pm.size)
        piece = np.clip((arc / PIECE_M).astype(np.int64), 0, self.curvature_1pm.size - 1)
        return _along(
            nodes[piece], headings[piece], np.where(arc < 0, 0.0, self.curvature_1pm[piece]), arc - piece * PIECE_M
        )


def estimate_course(
    left: LaneLine | None, right: LaneLine | None, state: EgoState, is_calibrated: bool = True
) -> LaneCourse:
    """The most likely course of the lane between two boundaries, one of which may be missing.

    Args:
        left, right: measured lines; only their measured ranges are read, never their continuation.
        state: the vehicle's motion: which bends to expect at this speed, and the one it is in.
        is_calibrated: False leaves the lane's width open.

    Source: Gaussian regression; curvature along the road as a Matern 3/2 process (Rasmussen and Williams 2006, ch. 4).
    """
    prior = _prior(max(abs(state.speed_mps), MIN_SPEED_MPS), is_calibrated)
    mean = np.zeros(len(prior))
    mean[_HALF_WIDTH] = HALF_WIDTH_M
    points, sides, errors = _readings([(line, side) for line, side in ((left, 1.0), (right, -1.0)) if line is not None])
    # The vehicle's own turning is a reading of the first piece.
    turning = np.zeros((1, len(prior)))
    turning[0, _BENDS] = 1.0
    speed = max(abs(state.speed_mps), MIN_SPEED_MPS)
    turning_std = np.hypot(STEERING_MPS2 / speed**2, state.yaw_rate_std_radps / speed)
    noise = block_diag(errors, np.full((1, 1), turning_std**2))
    course, cov = mean, prior
    for _ in range(STEPS):
        jacobian, residual = _linearized(course, points, sides)
        jacobian = np.concatenate([jacobian, turning])
        residual = np.append(residual, state.curvature_1pm - course[_BENDS])
        gain = np.linalg.solve(jacobian @ prior @ jacobian.T + noise, jacobian @ prior).T
        # What the readings, linear about the present course, say against the prior's mean.
        course = mean + gain @ (residual + jacobian @ (course - mean))
        cov = prior - gain @ jacobian @ prior
    kept = np.r_[_OFFSET, _HEADING, _BENDS : len(prior)]
    # The difference of two covariances is symmetric and positive up to rounding.
    kept_cov = (cov + cov.T)[np.ix_(kept, kept)] / 2 + np.diag(1e-9 * np.diag(prior)[kept])
    return LaneCourse(
        float(course[_OFFSET]),
        float(course[_HEADING]),
        float(course[_HALF_WIDTH]),
        course[_BENDS:],
        np.linalg.cholesky(kept_cov),
    )


def _prior(speed_mps: float, is_calibrated: bool) -> Float:
    """Covariance of the estimate before anything was seen."""
    pieces = round(COURSE_M / PIECE_M)
    milder = min(1.0, BEND_SPEED_MPS / speed_mps)
    bend = min(BEND_MPS2 * milder / speed_mps**2, MAX_CURVATURE_STD_1PM)
    length = max(BEND_TIME_S * speed_mps, MIN_BEND_LENGTH_M)
    away = np.abs(np.subtract.outer(np.arange(pieces), np.arange(pieces))) * np.sqrt(3.0) * PIECE_M / length
    prior = np.zeros((_BENDS + pieces, _BENDS + pieces))
    width = HALF_WIDTH_STD_M if is_calibrated else UNCALIBRATED_HALF_WIDTH_STD_M
    prior[:_BENDS, :_BENDS] = np.diag([OFFSET_STD_M**2, HEADING_STD_RAD**2, width**2, PITCH_PER_HEIGHT_STD_1PM**2])
    # Once differentiable: bends begin with ramps, not with kinks.
    prior[_BENDS:, _BENDS:] = bend**2 * (1.0 + away) * np.exp(-away)
    return prior


def _readings(lines: Sequence[tuple[LaneLine, float]]) -> tuple[Float, Float, Float]:
    """Points on the lines with the slopes there (M, 3), the lines' sides (M,), covariance of the errors (M, M)."""
    points, sides, errors = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros((0, 0))]
    for line, side in lines:
        low, high = line.x_range_m
        x = np.linspace(max(low, 0.0), max(high, low + 1.0), max(2, round((high - low) / READING_EVERY_M)))
        slope = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyder(line.coefficients))
        points.append(np.stack([x, line.lateral_m(x), slope], axis=1))
        sides.append(np.full(x.size, side))
        std = READING_STD_M + READING_STD_PER_M * x
        if line.covariance is None:
            errors.append(np.diag(std**2 + (UNTOLD_STD_M + UNTOLD_STD_PER_M * x) ** 2))
        else:
            powers = np.vander(x, 4, increasing=True)
            errors.append(np.diag(std**2) + powers @ line.covariance @ powers.T)
        errors[-1] /= max(line.confidence, MIN_CONFIDENCE) ** 2
    return np.concatenate(points), np.concatenate(sides), block_diag(*errors)


def _walked(offset_m: float, heading_rad: float, curvature_1pm: Float) -> tuple[Float, Float]:
    """Ends of the pieces (N + 1, 2) and headings there (N + 1,)."""
    headings = heading_rad + np.concatenate([[0.0], np.cumsum(curvature_1pm) * PIECE_M])
    steps, _ = _along(
        np.zeros((curvature_1pm.size, 2)), headings[:-1], curvature_1pm, np.full(curvature_1pm.size, PIECE_M)
    )
    start = np.array([[0.0, offset_m]])
    return np.concatenate([start, start + np.cumsum(steps, axis=0)]), headings


def _along(start: Float, heading: Float, curvature: Float, arc_m: Float) -> tuple[Float, Float]:
    """Points (M, 2) and headings (M,) after `arc_m` on circles that begin at `start` (M, 2) with `heading`."""
    half = curvature * arc_m / 2
    chord = arc_m * np.sinc(half / np.pi)
    points = start + chord[:, None] * np.stack([np.cos(heading + half), np.sin(heading + half)], axis=1)
    return points, heading + 2 * half


def _linearized(course: Float, points: Float, sides: Float) -> tuple[Float, Float]:
    """Jacobian (M, N + 4) of the readings, and by how much they exceed the course (M,)."""
    bends = course[_BENDS:]
    jacobian = np.zeros((len(points), course.size))
    if not len(points):
        return jacobian, np.zeros(0)
    nodes, headings = _walked(float(course[_OFFSET]), float(course[_HEADING]), bends)
    position = points[:, :2]
    # The foot of each reading on the course, from the nearest node.
    nearest = np.argmin(((position[:, None] - nodes) ** 2).sum(axis=2), axis=1)
    ahead = ((position - nodes[nearest]) * np.stack([np.cos(headings), np.sin(headings)], axis=1)[nearest]).sum(axis=1)
    bend = bends[np.clip(nearest - (ahead < 0), 0, bends.size - 1)]
    foot, turned = _along(nodes[nearest], headings[nearest], bend, ahead)
    along = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    # A pitch moves what is seen along its ray, and so across a line that does not point at the camera.
    tilted = (points[:, 0] * points[:, 1] - points[:, 0] ** 2 * points[:, 2]) * along[:, 0]
    jacobian[:, _OFFSET] = along[:, 0]
    jacobian[:, _HEADING] = ((foot - nodes[0]) * along).sum(axis=1)
    jacobian[:, _HALF_WIDTH] = sides
    jacobian[:, _PITCH] = tilted
    # A piece turns all that lies beyond it, by its lever along the course; the piece of the foot itself, in part.
    covered = np.clip((nearest * PIECE_M + ahead)[:, None] - PIECE_M * np.arange(bends.size), 0.0, PIECE_M)
    lever = ((foot[:, None] - (nodes[:-1] + nodes[1:]) / 2) * along[:, None]).sum(axis=2)
    jacobian[:, _BENDS:] = covered * np.where(covered < PIECE_M, covered / 2, lever)
    residual = ((position - foot) * across).sum(axis=1) - sides * course[_HALF_WIDTH] - tilted * course[_PITCH]
    return jacobian, residual
