"""What the tests give the driver: stand-in checkpoints, an interpreter that has the stand-in package, moments."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from safetensors.torch import save_file

from lanepaint_assets.evaluation.alpamayo.engine import CAMERAS
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets.lanes.geometry import assumed_camera

STAND_IN = Path(__file__).parent / "stand_in"
WEIGHTS = {"r1": "Alpamayo-R1-10B", "1.5": "Alpamayo-1.5-10B"}
FRONT = "camera_front_wide_120fov"


def save_checkpoint(folder: Path, model: str = "r1", config: str = "{}") -> Path:
    """The three repositories as plain downloads; returns `folder`."""
    weights = folder / WEIGHTS[model]
    weights.mkdir(parents=True)
    (weights / "config.json").write_text(config)
    save_file({"speed_mps": torch.tensor(12.0)}, weights / "model.safetensors")
    for name, files in {
        "Qwen3-VL-8B-Instruct": ("config.json", "tokenizer_config.json"),
        "Qwen3-VL-2B-Instruct": ("preprocessor_config.json", "tokenizer_config.json"),
    }.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text('{"stand_in": true}')
    return folder


def interpreter(folder: Path, path: Path = STAND_IN) -> str:
    """An interpreter with `path` among its packages, in `folder`."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nPYTHONPATH='{path}' exec '{sys.executable}' \"$@\"\n")
    script.chmod(0o755)
    return str(script)


def moment(signal: int = 20, cameras: tuple[str, ...] = CAMERAS) -> DriverInput:
    """Its front wide pictures begin with a pixel that tells the stand-in how many words to say, or to fail."""
    camera = assumed_camera(64, 32)
    frames = {name: np.full((4, 32, 64, 3), 90, np.uint8) for name in cameras}
    if FRONT in frames:
        frames[FRONT][:, 0, 0] = (signal, 7, 9)
    history = np.zeros((16, 3))
    history[:, 0] = np.linspace(-18.0, 0.0, 16)
    return DriverInput(
        frames=MappingProxyType(frames),
        frame_timestamps_us=np.arange(4, dtype=np.int64) * 100_000,
        cameras=MappingProxyType(dict.fromkeys(cameras, camera)),
        history_xyz_m=history,
        history_rotation=np.tile(np.eye(3), (16, 1, 1)),
        ego_quality="recorded",
    )


def resized(given: DriverInput, camera: str, width: int, height: int) -> DriverInput:
    """The same moment with one camera of another size, all pixels alike."""
    value = given.frames[camera][0, 0, 0, 0]
    return replace(given, frames={**given.frames, camera: np.full((4, height, width, 3), value, np.uint8)})
