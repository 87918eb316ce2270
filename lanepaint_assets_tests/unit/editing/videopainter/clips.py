"""Clips of noise, the engine on saved tiny networks, and one call of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from upath import UPath

from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.videopainter.engine import VideoPainterEngine

# What the tiny networks take; other sizes are resized.
HEIGHT, WIDTH = 96, 80


def engine_of(checkpoint: Path, **settings: Any) -> VideoPainterEngine:
    chosen = {"steps": 1, "device": "cpu", "dilation_px": 2, **settings}
    return VideoPainterEngine.from_checkpoint(
        UPath(checkpoint / "model"), branch_folder=UPath(checkpoint / "branch"), **chosen
    )


def scene_of(frames: int = 17, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> EditScene:
    """A clip of noise with a rectangle to paint in every frame."""
    masks = np.zeros((frames, height, width), dtype=bool)
    masks[:, height // 2 : height * 3 // 4, width // 4 : width // 2] = True
    clip: Any = {
        "item_key": "clip.front",
        "frames": np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
        "timestamps_us": np.arange(frames) * 125_000,
        "paint_masks": masks,
        "camera": None,
        "ego": None,
    }
    return EditScene(**clip)


def painted(engine: VideoPainterEngine, scene: EditScene, caption: str = "a white line", seed: int = 7) -> np.ndarray:
    return engine.paint_video(scene, 255 - scene.frames[0], PaintInstruction(None, caption, "us", seed))


def parts_of(engine: VideoPainterEngine) -> list[Any]:
    parts = engine._parts
    return [parts.denoisers.transformer, parts.denoisers.branch, parts.autoencoder, parts.words._encoder]
