"""What a trajectory video shows: the frames of both arms, their trajectories, the camera, and the words beside them.

Built by the evaluation stage, read by the overlay and the comparison. The colours that mean something are here too, so
that pictures, legend and report agree. No drawing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.planes import Planes, decoded_planes
from lanepaint_assets.clips.video_file import InvalidClipError
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Color = tuple[int, int, int]
ArmName = Literal["original", "edited"]

GT_COLOR: Color = (255, 51, 51)
HISTORY_COLOR: Color = (168, 172, 178)
# Spec 11: five colours in turn for the samples; the first is the cyan that the bird's-eye inset uses for all of them.
# None is near the red of the ground truth or the grey of the history.
SAMPLE_COLORS: tuple[Color, ...] = (
    (0, 229, 255),
    (255, 196, 0),
    (124, 240, 60),
    (255, 92, 214),
    (138, 148, 255),
)
PREDICTION_COLOR: Color = SAMPLE_COLORS[0]


@dataclass(frozen=True)
class EngineLabel:
    """An engine as people see it.

    Attributes:
        role: `driver`, `painter`, `inspector`, `segmenter`, ...
        name, version: as the engine names itself; `imported` and "" of what was made elsewhere.
        is_foundation_model: False for the CPU engines; every picture and report then says so. None where nobody knows.
    """

    role: str
    name: str
    version: str
    is_foundation_model: bool | None

    @property
    def named(self) -> str:
        """`lane_follow 1.2`."""
        return f"{self.name} {self.version}".rstrip()

    @property
    def text(self) -> str:
        """`driver lane_follow 1.2 (CPU)`, `painter imported (made elsewhere)`."""
        suffixes = {True: "", False: " (CPU)", None: " (made elsewhere)"}
        return f"{self.role} {self.named}{suffixes[self.is_foundation_model]}"


@dataclass(frozen=True, eq=False)
class TrajectoryScene:
    """One clip and one prompt, ready to be drawn.

    Attributes:
        original_mp4, edited_mp4: T frames of each arm as H.264 files, of the same size.
        size: width and height of a frame; where they are odd, the files' pictures are a pixel larger.
        timestamps_us: (T,) int64, when each frame is shown.
        taken_us: (T,) int64, when it was taken, up to a source frame earlier: a metre of road at speed.
        rate_hz: frames a second of the videos to write.
        t0_us: the moment of the prediction; all trajectories are in the rig frame then.
        camera: geometry of the shown camera; resized to the frames where it is given for another size.
        ego: rig poses, or None where nothing is known: the trajectories are then fixed to the vehicle.
        gt_future_m: (64, 3) driven path at t0 + 0.1 s ..., or None.
        history_m: (16, 3) driven path up to and including t0, or None.
        original_trajectories_m, edited_trajectories_m: (K, 64, 3) samples of each arm; K may be 0.
        original_min_ade_m, edited_min_ade_m: metres, or None.
        min_ade_reason: why a minADE is None.
        clip_id, camera_name, prompt_key, prompt_text: as shown.
        engines: those that made what is shown; the one with role `driver` made the trajectories of both arms.
    """

    original_mp4: bytes
    edited_mp4: bytes
    size: tuple[int, int]
    timestamps_us: NDArray[np.int64]
    taken_us: NDArray[np.int64]
    rate_hz: float
    t0_us: int
    camera: RigCamera
    ego: Egomotion | None
    gt_future_m: Float | None
    history_m: Float | None
    original_trajectories_m: Float
    edited_trajectories_m: Float
    clip_id: str
    camera_name: str
    prompt_key: str
    prompt_text: str
    engines: tuple[EngineLabel, ...]
    original_min_ade_m: float | None = None
    edited_min_ade_m: float | None = None
    min_ade_reason: str | None = None

    def __post_init__(self) -> None:
        if len(self.timestamps_us) == 0 or len(self.timestamps_us) != len(self.taken_us):
            raise ValueError(
                f"{self.clip_id} has {len(self.timestamps_us)} times of frames and {len(self.taken_us)} of when they "
                "were taken; at least one of each is needed"
            )
        for name in ("original_trajectories_m", "edited_trajectories_m"):
            shape = getattr(self, name).shape
            if len(shape) != 3 or shape[2] != 3:
                raise ValueError(f"{name} of {self.clip_id} must be (K, steps, 3), not {shape}")

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Width and height of the pictures to draw on: those of a frame, made even."""
        return self.size[0] + self.size[0] % 2, self.size[1] + self.size[1] % 2

    def frames(self, arm: ArmName) -> Iterator[Planes]:
        """The frames of one arm in order, as decoded: copy them, do not draw into them.

        Raises:
            InvalidClipError: the file is damaged, or has another size or number of frames than the scene.
        """
        count = 0
        for picture in decoded_planes(self.original_mp4 if arm == "original" else self.edited_mp4):
            count += 1
            if picture.size != self.canvas_size:
                raise InvalidClipError(f"frames of {self.clip_id} are {picture.size}, not {self.canvas_size}")
            yield picture
        if count != len(self.timestamps_us):
            raise InvalidClipError(f"{self.clip_id} has {count} frames but {len(self.timestamps_us)} timestamps")

    def trajectories_m(self, arm: ArmName) -> Float:
        """(K, steps, 3) of one arm."""
        return self.original_trajectories_m if arm == "original" else self.edited_trajectories_m

    def min_ade_text(self, arm: ArmName) -> str:
        """`minADE 1.23 m`, or why there is none."""
        value = self.original_min_ade_m if arm == "original" else self.edited_min_ade_m
        if value is not None and np.isfinite(value):
            return f"minADE {value:.2f} m"
        return f"minADE n/a: {self.min_ade_reason}" if self.min_ade_reason else "minADE n/a"

    def engines_of(self, arm: ArmName) -> tuple[EngineLabel, ...]:
        """The engines that had a part in one arm: nothing but the driver touched the original."""
        return self.engines if arm == "edited" else tuple(e for e in self.engines if e.role == "driver")


def sample_color(index: int) -> Color:
    """Colour of sample `index`: five in turn."""
    return SAMPLE_COLORS[index % len(SAMPLE_COLORS)]
