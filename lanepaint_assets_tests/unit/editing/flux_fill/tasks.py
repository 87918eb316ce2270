"""What the suites of FLUX.1 Fill ask the tiny model for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from lanepaint_assets.editing.engine import EditScene, LoraWeights, PaintInstruction
from lanepaint_assets.editing.flux_fill.engine import FluxFillPainter
from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.torch_models.residency import Part

# A mask grown by this hides columns 26 and on of the scenes here, whose road begins at column 30.
EDGES = MaskEdges(dilation_px=4, feather_px=1.0)
ROAD_BEGINS, HIDDEN_FROM = 30, 26


def painter(checkpoint: Path, **options: Any) -> FluxFillPainter:
    return FluxFillPainter.from_checkpoint(
        UPath(checkpoint), **{"device": "cpu", "steps": 2, "dilation_px": EDGES.dilation_px, **options}
    )


def parts(flux: FluxFillPainter) -> list[Part[Any]]:
    """Text encoder, CLIP, transformer and autoencoder."""
    inside = flux._parts
    return [inside.words._encoder, inside.clip, inside.transformer, inside.autoencoder]


def scene(height: int = 48, width: int = 64, seed: int = 0, mask: NDArray[np.bool_] | None = None) -> EditScene:
    frames = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    if mask is None:
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[:, ROAD_BEGINS:] = True
    unused: Any = None
    return EditScene(f"clip{seed}.front", frames, np.zeros(1, np.int64), mask[None], camera=unused, ego=unused)


def instruction(
    caption: str = "a road with one white line", seed: int = 7, lora: LoraWeights | None = None
) -> PaintInstruction:
    return PaintInstruction(style=None, caption=caption, marking_standard="us", seed=seed, lora=lora)
