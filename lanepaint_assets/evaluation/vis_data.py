"""`*_vis_data.npz`: all that the trajectory videos of one clip and prompt are drawn from, in one file.

Written by `edited_trajectories`; `trajectory_videos` and `lanepaint render` draw from it and from nothing else, so that
a video drawn again is the one that was drawn first. No metric is computed and nothing is drawn here. With K samples, C
cameras and T frames of the edited video it holds:

| key | shape, type | what |
|---|---|---|
| `format_version` | () int64 | 2 |
| `original_trajectories_m`, `edited_trajectories_m` | (K, 64, 3) float64 | samples of each arm, rig frame at t0 |
| `ground_truth_m` | (64, 3) or (0, 3) float64 | driven path; empty where there is none |
| `history_m` | (16, 3) float64 | driven path up to and including t0 |
| `t0_us`, `frame_timestamps_us` | (), (4,) int64 | the moment and the driver's frames |
| `camera_names`, `camera_indices` | (C,) str, (C,) int64 | the driver's cameras, their PhysicalAI-AV index or -1 |
| `edited_camera` | () str | the camera that was replaced |
| `original_frames_<i>` | (4, h, w, 3) uint8 | what camera i of `camera_names` gave the driver, shrunk to 576 px |
| `edited_frames` | (4, h, w, 3) uint8 | the same of the edited camera in the edited arm |
| `original_video_mp4`, `edited_video_mp4` | (bytes,) uint8 | the T frames of each arm, H.264, full size |
| `timestamps_us`, `taken_us` | (T,) int64 | when each frame is shown, and when it was taken |
| `rate_hz`, `frame_size` | () float64, (2,) int64 | frames a second; width and height |
| `lens_model`, `lens_numbers` | () str, (n,) float64 | `f_theta`: cx, cy, aspect, polynomial; `pinhole`: fx, fy, ... |
| `lens_size` | (2,) int64 | the picture's width and height that the numbers are for |
| `camera_rotation`, `camera_position_m`, `camera_quality` | (3, 3), (3,) float64, () str | mounting on the rig |
| `ego_timestamps_us`, `ego_positions_m`, `ego_quaternions_xyzw`, `ego_quality` | (N,), (N, 3), (N, 4), () str | poses |
| `clip_id`, `prompt_key`, `prompt_text`, `min_ade_reason` | () str | as shown; an empty reason is none |
| `original_min_ade_m`, `edited_min_ade_m` | () float64 | NaN where there is none |
| `original_reasoning`, `edited_reasoning` | (K,) str | a text a sample |
| `engine_roles`, `engine_names`, `engine_versions` | (E,) str | who made it |
| `engine_is_foundation_model` | (E,) int8 | 1, 0, or -1 where nobody knows |
"""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.planes import frame_count
from lanepaint_assets.clips.video_file import InvalidClipError
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets.evaluation.results import InferenceResult
from lanepaint_assets.rendering.cameras import CameraQuality, FThetaLens, PinholeLens, RigCamera
from lanepaint_assets.rendering.scene import EngineLabel, TrajectoryScene

Float = NDArray[np.float64]

FORMAT_VERSION = 2
# What an .npz, a zip archive, begins with.
ZIP_SIGNATURE = b"PK\x03\x04"

# PhysicalAI-AV's camera numbering, which drivers trained on it use.
CAMERA_INDICES = {
    "camera_cross_left_120fov": 0,
    "camera_front_wide_120fov": 1,
    "camera_cross_right_120fov": 2,
    "camera_rear_left_70fov": 3,
    "camera_rear_tele_30fov": 4,
    "camera_rear_right_70fov": 5,
    "camera_front_tele_30fov": 6,
}
# 576 x 320 is the picture that the foundation driver sees of a 1080p frame; more would show what it did not see.
DRIVER_FRAME_WIDTH_PX = 576
# Both arms alike: 100 noisy frames of 960 x 540 take 2.7 MB and 0.5 s of CPU at 41.5 dB; `superfast` at the same
# quality takes 3 MB and 1.2 s.
SHOWN_PRESET = "ultrafast"
SHOWN_CRF = 23


class VisDataError(ValueError):
    """The file is no `*_vis_data.npz` of this version, or is damaged; the message names the remedy."""


@dataclass(frozen=True, eq=False)
class ShownClip:
    """What the videos show of a clip beside the driver's answers.

    Attributes:
        original_mp4, edited_mp4: T frames of each arm as H.264 files.
        timestamps_us: (T,) int64, grid times, those of the edited video's sidecar.
        taken_us: (T,) int64, when each original frame was taken; ego poses are looked up there.
        rate_hz: frames a second.
        size: width and height of a frame.
        camera: geometry of the edited camera in pixels of any size.
        ego: the vehicle's motion.
        engines: who made what is shown.
    """

    original_mp4: bytes
    edited_mp4: bytes
    timestamps_us: NDArray[np.int64]
    taken_us: NDArray[np.int64]
    rate_hz: float
    size: tuple[int, int]
    camera: RigCamera
    ego: Egomotion
    engines: tuple[EngineLabel, ...]


@dataclass(frozen=True, eq=False)
class VisData:
    """`*_vis_data.npz` in memory; see the module's table for shapes."""

    original_trajectories_m: Float
    edited_trajectories_m: Float
    ground_truth_m: Float | None
    history_m: Float
    t0_us: int
    frame_timestamps_us: NDArray[np.int64]
    camera_names: tuple[str, ...]
    edited_camera: str
    original_frames: tuple[NDArray[np.uint8], ...]
    edited_frames: NDArray[np.uint8]
    shown: ShownClip
    clip_id: str
    prompt_key: str
    prompt_text: str
    original_min_ade_m: float | None
    edited_min_ade_m: float | None
    min_ade_reason: str | None
    original_reasoning: tuple[str, ...]
    edited_reasoning: tuple[str, ...]

    @classmethod
    def of(
        cls, result: InferenceResult, original_input: DriverInput, edited_input: DriverInput, shown: ShownClip
    ) -> VisData:
        """Gather what pictures of `result` need; the driver's frames are shrunk.

        Args:
            result: of the same clip and prompt.
            original_input, edited_input: what the driver was given in both arms.
            shown: the clip around it.
        """
        return cls(
            original_trajectories_m=result.original.trajectories_m,
            edited_trajectories_m=result.edited.trajectories_m,
            ground_truth_m=result.ground_truth_m,
            history_m=result.history_m,
            t0_us=result.temporal.t0_us,
            frame_timestamps_us=original_input.frame_timestamps_us,
            camera_names=tuple(original_input.frames),
            edited_camera=result.camera_name,
            original_frames=tuple(shrunk(frames, DRIVER_FRAME_WIDTH_PX) for frames in original_input.frames.values()),
            edited_frames=shrunk(edited_input.frames[result.camera_name], DRIVER_FRAME_WIDTH_PX),
            shown=shown,
            clip_id=result.clip_id,
            prompt_key=result.prompt_key,
            prompt_text=result.prompt_text,
            original_min_ade_m=result.original_min_ade,
            edited_min_ade_m=result.min_ade_meters,
            min_ade_reason=result.ground_truth_reason,
            original_reasoning=result.original.reasoning,
            edited_reasoning=result.edited.reasoning,
        )

    def scene(self) -> TrajectoryScene:
        """The scene that overlay and comparison are drawn from.

        Raises:
            VisDataError: a video is none, or has another number of frames than there are timestamps.
        """
        shown = self.shown
        _check_video(shown.original_mp4, "original_video_mp4", len(shown.timestamps_us))
        _check_video(shown.edited_mp4, "edited_video_mp4", len(shown.timestamps_us))
        return TrajectoryScene(
            original_mp4=shown.original_mp4,
            edited_mp4=shown.edited_mp4,
            size=shown.size,
            timestamps_us=shown.timestamps_us,
            taken_us=shown.taken_us,
            rate_hz=shown.rate_hz,
            t0_us=self.t0_us,
            camera=shown.camera,
            ego=shown.ego,
            gt_future_m=self.ground_truth_m,
            history_m=self.history_m,
            original_trajectories_m=self.original_trajectories_m,
            edited_trajectories_m=self.edited_trajectories_m,
            clip_id=self.clip_id,
            camera_name=self.edited_camera,
            prompt_key=self.prompt_key,
            prompt_text=self.prompt_text,
            engines=shown.engines,
            original_min_ade_m=self.original_min_ade_m,
            edited_min_ade_m=self.edited_min_ade_m,
            min_ade_reason=self.min_ade_reason,
        )

    def to_npz(self) -> bytes:
        """The file's bytes, the same for the same content."""
        shown = self.shown
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            format_version=np.int64(FORMAT_VERSION),
            original_trajectories_m=self.original_trajectories_m,
            edited_trajectories_m=self.edited_trajectories_m,
            ground_truth_m=np.zeros((0, 3)) if self.ground_truth_m is None else self.ground_truth_m,
            history_m=self.history_m,
            t0_us=np.int64(self.t0_us),
            frame_timestamps_us=self.frame_timestamps_us,
            camera_names=_texts(self.camera_names),
            camera_indices=np.array([CAMERA_INDICES.get(name, -1) for name in self.camera_names], dtype=np.int64),
            edited_camera=np.str_(self.edited_camera),
            edited_frames=self.edited_frames,
            original_video_mp4=np.frombuffer(shown.original_mp4, dtype=np.uint8),
            edited_video_mp4=np.frombuffer(shown.edited_mp4, dtype=np.uint8),
            timestamps_us=shown.timestamps_us,
            taken_us=shown.taken_us,
            rate_hz=np.float64(shown.rate_hz),
            frame_size=np.array(shown.size, dtype=np.int64),
            **_camera_arrays(shown.camera),
            ego_timestamps_us=shown.ego.timestamps_us,
            ego_positions_m=shown.ego.positions_m,
            ego_quaternions_xyzw=shown.ego.quaternions_xyzw,
            ego_quality=np.str_(shown.ego.quality),
            clip_id=np.str_(self.clip_id),
            prompt_key=np.str_(self.prompt_key),
            prompt_text=np.str_(self.prompt_text),
            min_ade_reason=np.str_(self.min_ade_reason or ""),
            original_min_ade_m=_number(self.original_min_ade_m),
            edited_min_ade_m=_number(self.edited_min_ade_m),
            original_reasoning=_texts(self.original_reasoning),
            edited_reasoning=_texts(self.edited_reasoning),
            engine_roles=_texts([engine.role for engine in shown.engines]),
            engine_names=_texts([engine.name for engine in shown.engines]),
            engine_versions=_texts([engine.version for engine in shown.engines]),
            engine_is_foundation_model=np.array(
                [-1 if e.is_foundation_model is None else e.is_foundation_model for e in shown.engines], dtype=np.int8
            ),
            **{f"original_frames_{i}": frames for i, frames in enumerate(self.original_frames)},
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes, name: str = "the file") -> VisData:
        """Read the file back.

        Args:
            data: its bytes.
            name: how to call it in an error.

        Raises:
            VisDataError: the bytes are not such a file; the message names the remedy.
        """
        try:
            if not data.startswith(ZIP_SIGNATURE):
                # numpy would take it for a pickle and advise to load that, which nobody should.
                raise ValueError("no archive of arrays")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls._of_arrays(arrays)
        except (KeyError, EOFError, OSError, ValueError, TypeError, zlib.error, zipfile.BadZipFile) as error:
            raise VisDataError(
                f"{name} is not a whole vis_data.npz of format {FORMAT_VERSION} ({error}); "
                "materialize `edited_trajectories` of this clip again"
            ) from error

    @classmethod
    def _of_arrays(cls, arrays: np.lib.npyio.NpzFile) -> VisData:
        if "format_version" not in arrays or int(arrays["format_version"]) != FORMAT_VERSION:
            found = int(arrays["format_version"]) if "format_version" in arrays else "none"
            raise ValueError(f"its format version is {found}")
        names = _tuple(arrays["camera_names"])
        truth = arrays["ground_truth_m"]
        shown = ShownClip(
            original_mp4=arrays["original_video_mp4"].tobytes(),
            edited_mp4=arrays["edited_video_mp4"].tobytes(),
            timestamps_us=arrays["timestamps_us"],
            taken_us=arrays["taken_us"],
            rate_hz=float(arrays["rate_hz"]),
            size=(int(arrays["frame_size"][0]), int(arrays["frame_size"][1])),
            camera=_camera(arrays),
            ego=Egomotion(
                timestamps_us=arrays["ego_timestamps_us"],
                positions_m=arrays["ego_positions_m"],
                quaternions_xyzw=arrays["ego_quaternions_xyzw"],
                quality="recorded" if str(arrays["ego_quality"]) == "recorded" else "estimated",
            ),
            engines=tuple(
                EngineLabel(str(role), str(name), str(version), None if foundation < 0 else bool(foundation))
                for role, name, version, foundation in zip(
                    arrays["engine_roles"],
                    arrays["engine_names"],
                    arrays["engine_versions"],
                    # Booleans in files written before engines could be unknown.
                    arrays["engine_is_foundation_model"].astype(np.int8),
                    strict=True,
                )
            ),
        )
        return cls(
            original_trajectories_m=_paths(arrays, "original_trajectories_m"),
            edited_trajectories_m=_paths(arrays, "edited_trajectories_m"),
            ground_truth_m=truth if len(truth) else None,
            history_m=arrays["history_m"],
            t0_us=int(arrays["t0_us"]),
            frame_timestamps_us=arrays["frame_timestamps_us"],
            camera_names=names,
            edited_camera=str(arrays["edited_camera"]),
            original_frames=tuple(arrays[f"original_frames_{i}"] for i in range(len(names))),
            edited_frames=arrays["edited_frames"],
            shown=shown,
            clip_id=str(arrays["clip_id"]),
            prompt_key=str(arrays["prompt_key"]),
            prompt_text=str(arrays["prompt_text"]),
            original_min_ade_m=_number_or_none(arrays["original_min_ade_m"]),
            edited_min_ade_m=_number_or_none(arrays["edited_min_ade_m"]),
            min_ade_reason=str(arrays["min_ade_reason"]) or None,
            original_reasoning=_tuple(arrays["original_reasoning"]),
            edited_reasoning=_tuple(arrays["edited_reasoning"]),
        )


def encoded_frames(frames: NDArray[np.uint8], rate_hz: float) -> bytes:
    """(T, H, W, 3) as the H.264 file that a `ShownClip` holds, the same bytes for the same frames."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-shown-") as folder:
        path = Path(folder) / "frames.mp4"
        write_video(path, frames, rate_hz, crf=SHOWN_CRF, preset=SHOWN_PRESET)
        return path.read_bytes()


def shrunk(frames: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) at most `width_px` wide, averaged over areas; smaller frames as they are."""
    count, height, width = frames.shape[:3]
    if width <= width_px or count == 0:
        return frames
    size = (width_px, max(1, round(height * width_px / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames])


def _check_video(video: bytes, key: str, count: int) -> None:
    try:
        found = frame_count(video)
    except InvalidClipError as error:
        raise VisDataError(f"`{key}`: {error}; materialize `edited_trajectories` of this clip again") from error
    if found != count:
        raise VisDataError(
            f"`{key}` has {found} frames but there are {count} timestamps; "
            "materialize `edited_trajectories` of this clip again"
        )


def _camera_arrays(camera: RigCamera) -> dict[str, NDArray[Any]]:
    lens = camera.lens
    if isinstance(lens, FThetaLens):
        model, numbers = "f_theta", [lens.cx, lens.cy, lens.aspect, *lens.fw_poly]
    else:
        model, numbers = "pinhole", [lens.fx, lens.fy, lens.cx, lens.cy]
    return {
        "lens_model": np.array(model),
        "lens_numbers": np.array(numbers, dtype=np.float64),
        "lens_size": np.array([lens.width, lens.height], dtype=np.int64),
        "camera_rotation": camera.rotation,
        "camera_position_m": camera.position_m,
        "camera_quality": np.array(camera.quality),
    }


def _camera(arrays: np.lib.npyio.NpzFile) -> RigCamera:
    width, height = (int(side) for side in arrays["lens_size"])
    first, second, third, *rest = (float(number) for number in arrays["lens_numbers"])
    lens: FThetaLens | PinholeLens
    model = str(arrays["lens_model"])
    if model == "f_theta":
        lens = FThetaLens(width, height, first, second, tuple(rest), third)
    elif model == "pinhole":
        lens = PinholeLens(width, height, first, second, third, *rest)
    else:
        raise ValueError(f"its lens model is {model!r}")
    quality = str(arrays["camera_quality"])
    known = next((name for name in get_args(CameraQuality) if name == quality), None)
    if known is None:
        raise ValueError(f"its camera's quality is {quality!r}")
    return RigCamera(lens, arrays["camera_rotation"], arrays["camera_position_m"], known)


def _paths(arrays: np.lib.npyio.NpzFile, key: str) -> Float:
    paths = arrays[key]
    if paths.ndim != 3 or paths.shape[2] != 3 or paths.dtype != np.float64:
        raise ValueError(f"`{key}` is {paths.dtype} {paths.shape}, not float64 (K, steps, 3)")
    return np.asarray(paths, dtype=np.float64)


def _texts(texts: tuple[str, ...] | list[str]) -> NDArray[np.str_]:
    return np.array(texts, dtype=np.str_)


def _tuple(texts: NDArray[Any]) -> tuple[str, ...]:
    return tuple(str(text) for text in texts)


def _number(value: float | None) -> np.float64:
    return np.float64(np.nan if value is None else value)


def _number_or_none(value: NDArray[Any]) -> float | None:
    return None if np.isnan(value) else float(value)
