"""The vehicle's path through the world over time, recorded or estimated, and its poses at any time between.

Called by painters, inspectors, drivers and metrics. Reading it from a data set is `physical_ai.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Egomotion:
    """Rig poses in a local world frame, z up.

    Attributes:
        timestamps_us: (N,) int64, strictly increasing, on the clip's clock.
        positions_m: (N, 3).
        quaternions_xyzw: (N, 4), world from rig.
        quality: `recorded` by the vehicle or `estimated` from the pictures (then the scale is only as good as the
            assumed camera height).
    """

    timestamps_us: NDArray[np.int64]
    positions_m: Float
    quaternions_xyzw: Float
    quality: Literal["recorded", "estimated"]

    @property
    def span_us(self) -> tuple[int, int]:
        """First and last time with a pose."""
        return int(self.timestamps_us[0]), int(self.timestamps_us[-1])

    def poses(self, times_us: NDArray[np.int64]) -> tuple[Float, Rotation]:
        """World positions (M, 3) and rotations at `times_us`, linearly and spherically interpolated.

        Raises:
            ValueError: a time lies outside the recorded span; nothing is extrapolated.
        """
        # Sources are listed in code locations without it.
        from scipy.spatial.transform import Rotation, Slerp

        times = np.asarray(times_us, dtype=np.int64)
        first, last = self.span_us
        if times.size and (int(times.min()) < first or int(times.max()) > last):
            raise ValueError(
                f"ego motion covers {first} to {last} us, but {int(times.min())} to {int(times.max())} us was asked for"
            )
        if len(self.timestamps_us) == 1:
            # A single picture: there is one pose, and nothing to interpolate between.
            return np.repeat(self.positions_m, times.size, axis=0), Rotation.from_quat(
                np.repeat(self.quaternions_xyzw, times.size, axis=0)
            )
        # Differences first: absolute microseconds of a data set clock lose precision in float64 products.
        knots = (self.timestamps_us - first) / 1e6
        wanted = (times - first) / 1e6
        positions = np.stack([np.interp(wanted, knots, self.positions_m[:, i]) for i in range(3)], axis=1)
        return positions, Slerp(knots, Rotation.from_quat(self.quaternions_xyzw))(wanted)

    def relative(self, times_us: NDArray[np.int64], t0_us: int) -> tuple[Float, Float]:
        """Poses at `times_us` in the rig frame at `t0_us`: positions (M, 3) and rotation matrices (M, 3, 3)."""
        positions, rotations = self.poses(times_us)
        origin, orientation = self.poses(np.asarray([t0_us], dtype=np.int64))
        back = orientation[0].inv()
        return back.apply(positions - origin[0]), (back * rotations).as_matrix()
