"""How fast the vehicle moves and turns at t0, measured from its history, with the uncertainty of both.

The weight-free drivers call it. Pictures play no part here: it is the same in every arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.evaluation.driver import STEP_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]

# Steps of the last 0.5 s: speed changes little in it, and five steps average the noise of single poses.
STATE_STEPS = 5
# How far the mean speed of the next 6.4 s strays from a forecast, however steady the history: about 4 % in a minute of
# recorded driving between 11 and 20 m/s (comma2k19), 3 % in sample drives.
SPEED_STD_SHARE = 0.04
MIN_YAW_RATE_STD_RADPS = 0.003
# An acceleration dies out in about this time: in the same recording the mean error of the way gone falls from 2.8 m
# without it to 2.0 m; longer times gain 0.1 m there and lose on sample drives.
ACCELERATION_TIME_S = 1.5
# Below walking pace the heading of single steps is noise, so a standing vehicle has no curvature.
STANDING_MPS = 0.5


@dataclass(frozen=True)
class EgoState:
    """Motion at t0 in the rig frame at t0.

    Attributes:
        speed_mps: along rig x; negative in reverse.
        speed_std_mps: one standard deviation of the mean speed over the horizon.
        acceleration_mps2: along rig x.
        yaw_rate_radps: left positive.
        yaw_rate_std_radps: one standard deviation of it.
    """

    speed_mps: float
    speed_std_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float
    yaw_rate_std_radps: float

    @property
    def is_standing(self) -> bool:
        return abs(self.speed_mps) < STANDING_MPS

    @property
    def curvature_1pm(self) -> float:
        """Curvature of the present motion, 1/m, left positive; 0 for a vehicle that stands."""
        return 0.0 if self.is_standing else self.yaw_rate_radps / self.speed_mps


def measure_ego_state(history_xyz_m: Float, history_rotation: Float) -> EgoState:
    """Speed and yaw rate over the last 0.5 s of a 10 Hz history; their spread over all of it, 1.5 s.

    The spread of a vehicle that brakes or steers is then wide, as its future is.

    Args:
        history_xyz_m: (16, 3), rig frame at t0, last one at t0.
        history_rotation: (16, 3, 3).
    """
    heading = history_rotation[:, :2, 0]
    steps = np.diff(history_xyz_m[:, :2], axis=0)
    # Along the heading in the middle of each step: on a curve, the chord is as long as the arc to second order.
    middle = heading[:-1] + heading[1:]
    middle = middle / np.linalg.norm(middle, axis=1, keepdims=True)
    speeds = np.einsum("ij,ij->i", steps, middle) / STEP_S
    yaw = np.unwrap(np.arctan2(heading[:, 1], heading[:, 0]))
    yaw_rates = np.diff(yaw) / STEP_S
    middle_s = STEP_S * (np.arange(speeds.size) - speeds.size + 0.5)
    acceleration = float(np.polynomial.polynomial.polyfit(middle_s, speeds, 1)[1])
    speed = float(speeds[-STATE_STEPS:].mean())
    return EgoState(
        speed_mps=speed,
        speed_std_mps=float(np.hypot(speeds.std(ddof=1), SPEED_STD_SHARE * speed)),
        acceleration_mps2=acceleration,
        yaw_rate_radps=float(yaw_rates[-STATE_STEPS:].mean()),
        yaw_rate_std_radps=max(float(yaw_rates.std(ddof=1)), MIN_YAW_RATE_STD_RADPS),
    )


def distance_m(speed_mps: float, acceleration_mps2: float, times_s: Float) -> Float:
    """(T,) way gone after `times_s` when the acceleration dies out exponentially; never backwards again."""
    dying = ACCELERATION_TIME_S * (1.0 - np.exp(-times_s / ACCELERATION_TIME_S))
    way = speed_mps * times_s + acceleration_mps2 * ACCELERATION_TIME_S * (times_s - dying)
    return np.maximum.accumulate(np.maximum(way, 0.0))


def turning_path(speed_mps: float, yaw_rate_radps: float, times_s: Float) -> Float:
    """(T, 3) positions at `times_s` of constant speed and yaw rate from the rig's origin (CTRV), z = 0."""
    angle = yaw_rate_radps * times_s
    # sin(a)/a and (1 - cos a)/a without the division by zero of a straight path.
    forward = np.sinc(angle / np.pi)
    sideways = np.sin(angle / 2) * np.sinc(angle / (2 * np.pi))
    distance = speed_mps * times_s
    return np.stack([distance * forward, distance * sideways, np.zeros_like(times_s)], axis=1)
