"""The `constant_velocity` driver: straight on at the present speed, blind to every picture.

The floor that a driver which looks at the road has to beat, and a control that no edit may move. Nothing about lanes
belongs here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.evaluation.driver import FUTURE_STEPS, STEP_S, DriverOutput
from lanepaint_assets.evaluation.ego_state import measure_ego_state, turning_path

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.driver import DriverInput


class ConstantVelocityDriver:
    """Straight on along rig x at the speed of the last 0.5 s.

    Samples spread by the measured uncertainty of speed and of yaw rate, around a yaw rate of zero.
    """

    name = "constant_velocity"
    version = "1"

    def __init__(self, cameras: tuple[str, ...] = ("camera_front_wide_120fov",)) -> None:
        self._cameras = cameras

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that may be edited; it looks at none, so that a control arm runs through the same bridge."""
        return self._cameras

    @property
    def accepts_one_camera(self) -> bool:
        return True

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        state = measure_ego_state(moment.history_xyz_m, moment.history_rotation)
        times_s = STEP_S * np.arange(1, FUTURE_STEPS + 1, dtype=np.float64)
        trajectories, reasoning = [], []
        for seed in seeds:
            draw = np.random.default_rng(seed).standard_normal(2)
            speed = 0.0 if state.is_standing else state.speed_mps + state.speed_std_mps * float(draw[0])
            trajectories.append(turning_path(speed, state.yaw_rate_std_radps * float(draw[1]), times_s))
            reasoning.append(f"straight on at {speed:.1f} m/s; this driver looks at no picture")
        return DriverOutput(
            trajectories_m=np.reshape(np.array(trajectories, dtype=np.float64), (len(seeds), FUTURE_STEPS, 3)),
            reasoning=tuple(reasoning),
        )
