"""The `alpamayo` driver: which cameras the model is shown, and how its answer reads as a driver's.

Called through the `Driver` role, from several threads. How the package is called is `worker.py`'s business, where it
runs `transport.py`'s, which files it reads `repositories.py`'s.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from upath import UPath

from lanepaint_assets.checkpoints.damaged_files import damaged_weight
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.evaluation.alpamayo.repositories import local_checkpoint
from lanepaint_assets.evaluation.alpamayo.transport import Host, InProcess, WorkerProcess
from lanepaint_assets.evaluation.alpamayo.worker import RELEASES, ModelOptions, Question
from lanepaint_assets.evaluation.bridge import resize_bilinear
from lanepaint_assets.evaluation.driver import (
    FRAMES_PER_CAMERA,
    FUTURE_STEPS,
    HISTORY_STEPS,
    STEP_S,
    DriverError,
    DriverInput,
    DriverOutput,
    ask,
)
from lanepaint_assets.evaluation.vis_data import CAMERA_INDICES
from lanepaint_assets.lanes.geometry import assumed_camera
from lanepaint_assets.store.items import DeviceMemoryError, ItemError, StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ReleaseName = Literal["r1", "1.5"]

# What both releases were trained on, in the order of their numbers, which is the order of the pictures.
CAMERAS = (
    "camera_cross_left_120fov",
    "camera_front_wide_120fov",
    "camera_cross_right_120fov",
    "camera_front_tele_30fov",
)

# The releases' own values (spec 10: one sample; six are the package's default).
TEMPERATURE = 0.6
TOP_P = 0.98
MAX_TOKENS = 256
CHUNK = 6
# A sample takes about two seconds; a GPU that others use too may take a hundred times as long.
TIMEOUT_S = 600.0

# A fifth of the recorded pictures: the processor cuts it into few patches, and the network is all there.
SMOKE_WIDTH_PX, SMOKE_HEIGHT_PX = 384, 216
SMOKE_SPEED_MPS = 10.0


class AlpamayoDriver:
    """Alpamayo R1 or 1.5 as a `Driver`.

    Args:
        host: where the model runs.
        release: which one it is.
        weights: folder of its weights; None where a damaged one need not be named.
    """

    name = "alpamayo"
    version = "1"

    def __init__(self, host: Host, release: ReleaseName, weights: Path | None = None) -> None:
        self._host = host
        self._weights = weights
        self._release = RELEASES[release]
        # The device is one.
        self._busy = threading.Lock()

    @classmethod
    def from_checkpoint(
        cls,
        folder: UPath,
        *,
        cache: Path | None = None,
        model: ReleaseName = "r1",
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        max_tokens: int = MAX_TOKENS,
        chunk: int = CHUNK,
        device: str = "auto",
        python: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> AlpamayoDriver:
        """The engine on released checkpoints.

        Args:
            folder: holds three repositories; see `local_checkpoint`.
            cache: folder for copies of remote checkpoints.
            model: the release.
            temperature, top_p, max_tokens: of the reasoning.
            chunk: samples computed at once.
            device: `cpu`, `cuda`, `cuda:1`, ..., or `auto`: a GPU where there is one.
            python: the interpreter of the model's own environment; None to run it in this process.
            timeout_s: longest wait for one answer of another process.

        Raises:
            CheckpointError: a repository is not there, or not complete.
        """
        checkpoint = local_checkpoint(folder, model, cache)
        options = ModelOptions(model, str(checkpoint.weights), device, temperature, top_p, max_tokens, chunk)
        if python is None:
            return cls(InProcess(checkpoint, options), model, checkpoint.weights)
        host = WorkerProcess(python, checkpoint, options, timeout_s=timeout_s)
        return cls(host, model, checkpoint.weights)

    @property
    def cameras(self) -> tuple[str, ...]:
        return CAMERAS

    @property
    def accepts_one_camera(self) -> bool:
        """Only a release whose prompt names the cameras knows which one it is shown."""
        return self._release.names_cameras

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        """One trajectory a seed, with the model's reasoning.

        Raises:
            ItemError: a camera that it needs was not recorded, or the model gave no answer.
            StepError: the model cannot run here; the message names the remedy.
        """
        shown = [name for name in CAMERAS if name in moment.frames]
        self._refuse_too_few(shown)
        if not seeds:
            return DriverOutput(np.zeros((0, FUTURE_STEPS, 3)), ())
        question = Question(
            frames=_pictures(moment.frames, shown),
            camera_indices=np.array([CAMERA_INDICES[name] for name in shown], dtype=np.int64),
            history_xyz_m=moment.history_xyz_m.astype(np.float32),
            history_rotation=moment.history_rotation.astype(np.float32),
            seeds=np.array(seeds, dtype=np.uint64),
        )
        with self._busy:
            answer = self._host.ask(question)
        return DriverOutput(
            trajectories_m=answer.trajectories_m.astype(np.float64),
            reasoning=answer.reasoning,
            note=None if len(shown) == len(CAMERAS) else f"shown {', '.join(shown)} alone",
            decisions=_decisions(answer.reasoning, answer.meta_actions),
        )

    def release(self) -> None:
        """Called when a step has asked its last question: the model's memory and process are given back."""
        with self._busy:
            self._host.close()

    def smoke_check(self) -> None:
        """Load the model where the settings say and sample one path for small pictures; see `Checkable`."""
        try:
            ask(self, smoke_moment(), (0,))
        except DeviceMemoryError:
            raise
        except (ItemError, DriverError) as error:
            damaged = None if self._weights is None else damaged_weight(self._weights)
            if damaged is not None:
                raise CheckpointError(f"{damaged} is NaN or infinite; copy the checkpoint again") from error
            if isinstance(error, DriverError):
                raise ItemError(str(error)) from error
            # A crash, a hang or a full device: nothing that the files are to blame for.
            raise StepError(str(error)) from error
        finally:
            self.release()

    def _refuse_too_few(self, shown: list[str]) -> None:
        missing = [name for name in CAMERAS if name not in shown]
        if missing and not self.accepts_one_camera:
            raise ItemError(
                f"Alpamayo R1 needs all of its {len(CAMERAS)} cameras; of this clip {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not there. Choose clips with all of them, or "
                "LANEPAINT_ALPAMAYO_MODEL=1.5"
            )
        if not shown:
            raise ItemError(f"this clip has none of Alpamayo's cameras, which are {', '.join(CAMERAS)}")


def smoke_moment() -> DriverInput:
    """Noise on all cameras, and a straight drive behind."""
    shape = (FRAMES_PER_CAMERA, SMOKE_HEIGHT_PX, SMOKE_WIDTH_PX, 3)
    noise = np.random.default_rng(0)
    history = np.zeros((HISTORY_STEPS, 3))
    history[:, 0] = SMOKE_SPEED_MPS * STEP_S * np.arange(1 - HISTORY_STEPS, 1)
    return DriverInput(
        frames={name: noise.integers(0, 256, shape, dtype=np.uint8) for name in CAMERAS},
        frame_timestamps_us=np.arange(FRAMES_PER_CAMERA, dtype=np.int64) * round(1e6 * STEP_S),
        cameras=dict.fromkeys(CAMERAS, assumed_camera(SMOKE_WIDTH_PX, SMOKE_HEIGHT_PX)),
        history_xyz_m=history,
        history_rotation=np.tile(np.eye(3), (HISTORY_STEPS, 1, 1)),
        ego_quality="recorded",
    )


def _pictures(frames: Mapping[str, NDArray[np.uint8]], shown: list[str]) -> NDArray[np.uint8]:
    """(N, 4, 3, H, W): all cameras at the size of the largest, which is that of the data that it was trained on."""
    height, width = max((frames[name].shape[1:3] for name in shown), key=lambda size: size[0] * size[1])
    return np.stack([resize_bilinear(frames[name], width, height).transpose(0, 3, 1, 2) for name in shown])


def _decisions(reasoning: tuple[str, ...], meta_actions: tuple[str, ...]) -> tuple[str, ...] | None:
    """The named actions, or else the first sentences of the reasoning, which begins with what is done."""
    if all(meta_actions):
        return meta_actions
    first = tuple(re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in reasoning)
    return first if all(first) else None
