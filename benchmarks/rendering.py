"""Overlay and comparison videos against the plain way to make them, from two videos on disk to one.

The plain way is what a script of a hundred lines does with OpenCV: `VideoCapture`, then for every frame project each
waypoint, `cv2.line`, `putText`, `addWeighted` for panels, an inset drawn anew, `hconcat`, `VideoWriter`. It draws the
same things from the same projection: outlined lines whose width falls with distance, five colours, legend, strip with
minADE, bird's-eye inset. OpenCV's wheels hold no H.264 encoder, so it writes MPEG-4 part 2, which no browser plays and
which is cheaper to encode.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.evaluation.vis_data import encoded_frames
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView
from lanepaint_assets.rendering.cameras import MIN_DEPTH_M, FThetaLens, RigCamera, mounting_rotation
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.overlay import render_overlay
from lanepaint_assets.rendering.projection import revealed_count, rig_motion
from lanepaint_assets.rendering.scene import (
    GT_COLOR,
    HISTORY_COLOR,
    PREDICTION_COLOR,
    ArmName,
    EngineLabel,
    TrajectoryScene,
    sample_color,
)

NAME = "rendering"

Picture = NDArray[np.uint8]
Float = NDArray[np.float64]
Color = tuple[int, int, int]

FRAMES = 100
SIZE = (1920, 1080)
RATE_HZ = 8.0
SAMPLES = 6
SPEED_MPS = 15.0
TARGET_RATIO = 2.0

FOURCC = "mp4v"
BLACK: Color = (12, 16, 22)
WHITE: Color = (255, 255, 255)


def made_up_scene(frames: int, size: tuple[int, int]) -> TrajectoryScene:
    """A drive along a gentle bend: a road in perspective under a textured sky, with lane lines in the edited arm."""
    width, height = size
    lens = FThetaLens(1920, 1080, 958.0, 543.0, (0.0, 927.5, 23.14, -58.5, 16.51)).resized(width, height)
    camera = RigCamera(lens, mounting_rotation(0.0, 0.03), np.array([1.75, 0.0, 1.45]), "calibrated")
    times = np.round(np.arange(frames) * 1e6 / RATE_HZ).astype(np.int64)
    ego_times = np.arange(0, int(times[-1]) + 100_000, 10_000, dtype=np.int64)
    yaw = 0.004 * SPEED_MPS * ego_times / 1e6
    positions = np.cumsum(np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=1) * SPEED_MPS * 0.01, axis=0)
    ego = Egomotion(ego_times, positions, Rotation.from_euler("z", yaw[:, None]).as_quat(), "recorded")
    t0_us = int(times[frames // 2])
    ahead = np.arange(1, 65) * 0.1 * SPEED_MPS
    bends = 0.002 + 0.0006 * np.arange(-2, SAMPLES - 1)
    paths = np.stack([np.stack([ahead, bend * ahead**2, 0 * ahead], axis=1) for bend in bends])
    back = np.arange(-15, 1) * 0.1 * SPEED_MPS
    arms = [encoded_frames(pictures, RATE_HZ) for pictures in _road_pictures(frames, size)]
    return TrajectoryScene(
        original_mp4=arms[0],
        edited_mp4=arms[1],
        size=size,
        timestamps_us=times,
        taken_us=times,
        rate_hz=RATE_HZ,
        t0_us=t0_us,
        camera=camera,
        ego=ego,
        gt_future_m=paths[0],
        history_m=np.stack([back, 0.002 * back**2, 0 * back], axis=1),
        original_trajectories_m=paths[1:],
        edited_trajectories_m=paths[1:] + np.array([0.0, 0.3, 0.0]),
        clip_id="a_made_up_clip",
        camera_name="camera_front_wide_120fov",
        prompt_key="double_yellow_solid",
        prompt_text="two parallel continuous yellow lines",
        engines=(EngineLabel("driver", "lane_follow", "1", False),),
        original_min_ade_m=1.0,
        edited_min_ade_m=1.3,
    )


def _road_pictures(frames: int, size: tuple[int, int]) -> tuple[Picture, Picture]:
    """Two (T, H, W, 3) arms: a texture that grows as when driving, a little noise of a sensor, and painted lines."""
    width, height = size
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (height // 2, width // 2, 3)).astype(np.float32)
    texture = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.0, 4.0, 16.0))
    whole = np.clip(128 + 24 * np.asarray(texture), 0, 255).astype(np.uint8)
    whole = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    grain = rng.integers(-2, 3, (height, width, 1), dtype=np.int8)
    original = np.empty((frames, height, width, 3), dtype=np.uint8)
    edited = np.empty_like(original)
    for index in range(frames):
        scale = 1 + 0.3 * index / frames
        matrix = np.array([[scale, 0, width / 2 * (1 - scale)], [0, scale, height / 2 * (1 - scale)]])
        shown = cv2.warpAffine(whole, matrix, size, borderMode=cv2.BORDER_REFLECT)
        moved = np.roll(grain, (37 * index, 91 * index), axis=(0, 1))
        original[index] = np.clip(shown.astype(np.int16) + moved, 0, 255)
        edited[index] = original[index]
        for bottom in (0.2, 0.23, 0.77, 0.8):
            foot, top = (round(bottom * width), height), (width // 2, round(0.55 * height))
            cv2.line(edited[index], foot, top, (200, 160, 40), max(2, width // 160), cv2.LINE_AA)
    return original, edited


class PlainRenderer:
    """The same pictures frame by frame with OpenCV, in BGR as it reads and writes them.

    Args:
        scene: what to show.
        folder: where the arms' videos and the result lie.
    """

    def __init__(self, scene: TrajectoryScene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.view = BirdsEyeView.around(scene)
        self.scale = scene.size[1] / 540
        self.motion = rig_motion(scene.ego, scene.taken_us, scene.t0_us)
        for arm, video in (("original", scene.original_mp4), ("edited", scene.edited_mp4)):
            (folder / f"{arm}.mp4").write_bytes(video)

    def overlay(self) -> None:
        """The edited arm."""
        self._write(("edited",), "plain_overlay.mp4")

    def comparison(self) -> None:
        """Both arms side by side."""
        self._write(("original", "edited"), "plain_comparison.mp4")

    def _write(self, arms: tuple[ArmName, ...], name: str) -> None:
        width, height = self.scene.size
        captures = [cv2.VideoCapture(str(self.folder / f"{arm}.mp4")) for arm in arms]
        size = (len(arms) * width, height)
        writer = cv2.VideoWriter(str(self.folder / name), cv2.VideoWriter.fourcc(*FOURCC), RATE_HZ, size)
        if not writer.isOpened():
            raise RuntimeError(f"this OpenCV cannot write {FOURCC}")
        for index in range(len(self.scene.timestamps_us)):
            panels = []
            for arm, capture in zip(arms, captures, strict=True):
                read, frame = capture.read()
                if not read:
                    raise RuntimeError(f"OpenCV cannot read frame {index} of {arm}.mp4")
                self.draw(np.asarray(frame, dtype=np.uint8), arm, index)
                panels.append(frame)
            writer.write(cv2.hconcat(panels) if len(panels) > 1 else panels[0])
        writer.release()

    def draw(self, frame: Picture, arm: ArmName, index: int) -> None:
        """Everything on one frame, in place."""
        scene = self.scene
        steps = revealed_count(index, len(scene.timestamps_us), 64)
        rotation, offset = self.motion[0][index], self.motion[1][index]
        origin = np.zeros((1, 3))
        lines: list[tuple[Float, float, Color]] = []
        if scene.gt_future_m is not None:
            lines.append((np.vstack([origin, scene.gt_future_m[:steps]]), 0.36, GT_COLOR))
        for number, sample in enumerate(scene.trajectories_m(arm)):
            lines.append((np.vstack([origin, sample[:steps]]), 0.13, sample_color(number)))
        for points, width_m, color in lines:
            self._line(frame, points, width_m, color, rotation, offset)
        self._inset(frame, arm, steps)
        self._legend(frame)
        self._strip(frame, arm, index)

    def _line(
        self, frame: Picture, points_m: Float, width_m: float, color: Color, rotation: Float, offset: Float
    ) -> None:
        camera = self.scene.camera
        points = points_m @ rotation.T + offset
        points[:, 2] = 0.0
        pixels, seen = camera.project(points)
        depth = (points - camera.position_m) @ camera.rotation[:, 2]
        for border, ink in ((round(2 * self.scale), BLACK), (0, color)):
            for k in range(len(points) - 1):
                if seen[k] and seen[k + 1] and depth[k] > MIN_DEPTH_M:
                    wide = np.clip(width_m * 927 * self.scale / 2 / depth[k], 2 * self.scale, 7 * self.scale)
                    a, b = (tuple(int(v) for v in np.round(pixels[j])) for j in (k, k + 1))
                    cv2.line(frame, a, b, ink[::-1], max(1, round(wide)) + border, cv2.LINE_AA)

    def _inset(self, frame: Picture, arm: ArmName, steps: int) -> None:
        side, scene, view = 250, self.scene, self.view
        top, left = frame.shape[0] - side - 16, 16
        patch = frame[top : top + side, left : left + side]
        patch[:] = cv2.addWeighted(np.full_like(patch, BLACK[::-1]), 0.78, patch, 0.22, 0)

        def spots(points: Float) -> NDArray[np.int32]:
            across = (0.5 - points[:, 1] / (2 * view.half_width_m)) * side
            up = (view.ahead_m - points[:, 0]) / (view.ahead_m + view.behind_m) * side
            return np.stack([across, up], axis=1).astype(np.int32)

        for metres in range(0, int(view.ahead_m), 20):
            y = int(spots(np.array([[metres, 0.0, 0.0]]))[0, 1])
            cv2.line(patch, (0, y), (side, y), (92, 80, 70), 1)
            cv2.putText(patch, f"{metres} m", (4, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.35, WHITE, 1, cv2.LINE_AA)
        if scene.history_m is not None:
            cv2.polylines(patch, [spots(scene.history_m)], False, HISTORY_COLOR[::-1], 3, cv2.LINE_AA)
        if scene.gt_future_m is not None:
            cv2.polylines(patch, [spots(scene.gt_future_m[:steps])], False, GT_COLOR[::-1], 3, cv2.LINE_AA)
        for sample in scene.trajectories_m(arm):
            cv2.polylines(patch, [spots(sample[:steps])], False, PREDICTION_COLOR[::-1], 2, cv2.LINE_AA)

    def _legend(self, frame: Picture) -> None:
        height, width = frame.shape[:2]
        box = frame[height - 170 : height - 16, width - 400 : width - 16]
        box[:] = cv2.addWeighted(np.full_like(box, BLACK[::-1]), 0.66, box, 0.34, 0)
        words = (("driven (ground truth)", GT_COLOR), ("predicted", PREDICTION_COLOR), ("ego history", HISTORY_COLOR))
        for row, (text, color) in enumerate(words):
            y = 40 + 44 * row
            cv2.line(box, (16, y - 8), (76, y - 8), color[::-1], 8, cv2.LINE_AA)
            cv2.putText(box, text, (90, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, WHITE, 1, cv2.LINE_AA)

    def _strip(self, frame: Picture, arm: ArmName, index: int) -> None:
        scene = self.scene
        strip = frame[: round(64 * self.scale)]
        strip[:] = cv2.addWeighted(np.full_like(strip, BLACK[::-1]), 0.66, strip, 0.34, 0)
        seconds = (int(scene.timestamps_us[index]) - scene.t0_us) / 1e6
        rows = (
            f"{arm}: {scene.prompt_text}   {scene.min_ade_text(arm)}",
            f"{scene.clip_id} {scene.camera_name}   t0 {seconds:+.2f} s",
            "  ".join(engine.text for engine in scene.engines),
        )
        for row, text in enumerate(rows):
            place = (16, round((20 + 19 * row) * self.scale))
            cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * self.scale, WHITE, 2, cv2.LINE_AA)


def measure(folder: Path, frames: int, rounds: int) -> Outcome:
    """Both ways, alternating; a short run of each first."""
    scene = made_up_scene(frames, SIZE)
    short = replace(made_up_scene(4, (320, 180)), clip_id="warm_up")
    render_comparison(short, folder / "warm_up.mp4")
    plain = PlainRenderer(scene, folder)
    seconds = alternating_seconds(
        {
            "overlay": lambda: render_overlay(scene, folder / "overlay.mp4"),
            "plain overlay": plain.overlay,
            "comparison": lambda: render_comparison(scene, folder / "comparison.mp4"),
            "plain comparison": plain.comparison,
        },
        rounds,
    )
    outcome = Outcome()
    for name, what in (("overlay", "overlay, 1080p"), ("comparison", "comparison, 1080p a panel")):
        ours, theirs = frames / seconds[name], frames / seconds[f"plain {name}"]
        outcome.add(f"{what}, {frames} frames", ours, "frames/s", "higher", baseline=theirs)
        target = TARGET_RATIO if name == "comparison" else None
        outcome.add(f"{what}, against plain OpenCV ({FOURCC})", ours / theirs, "x", "higher", target=target, baseline=1)
    for name in ("comparison", "plain_comparison"):
        size_mb = (folder / f"{name}.mp4").stat().st_size / 1e6
        outcome.add(f"size of {name}.mp4", size_mb, "MB", "lower")
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        report(NAME, measure(options.keep, options.frames, options.rounds), options.json)
        return
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        report(NAME, measure(Path(scratch), options.frames, options.rounds), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Frames a second of trajectory videos, against plain OpenCV.")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the made-up clip (default %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the videos there, to look at them")
    main(parser.parse_args())
