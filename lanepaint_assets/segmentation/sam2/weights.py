"""Where a SAM 2 predictor's weights come from: a released checkpoint, or random numbers for speed and tests.

Called by the engine. Checkpoints are the published `sam2.1_hiera_*.pt` files, unchanged.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lanepaint_assets.checkpoints.files import CheckpointError

if TYPE_CHECKING:
    from lanepaint_assets.segmentation.sam2.predictor import RoadPredictor

# Untrained heads say "no object" of most pictures, and every mask would be empty.
PRESENT_LOGIT = 5.0

# Names of weights that a message lists.
_NAMED = 3


@dataclass(frozen=True)
class RandomWeights:
    """Weights as the classes draw them, from a seed: right for speed, memory and code paths, wrong for any picture."""

    seed: int = 0


def load_checkpoint(predictor: RoadPredictor, path: Path) -> None:
    """Fill a predictor with a released checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or holds another architecture; the message says which weights differ.
    """
    try:
        # Nothing but tensors is unpickled; pages are read as weights are copied.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_first_line(error)}); download it again") from error
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: it has no weights under the key 'model', so it is no SAM 2 checkpoint")
    expected = {name: tuple(value.shape) for name, value in predictor.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, torch.Tensor)}
    if found != expected:
        raise CheckpointError(f"{path}: it holds another model than {path.stem}: {_difference(found, expected)}")
    predictor.load_state_dict(weights)


def show_object(predictor: RoadPredictor) -> None:
    """Let an untrained predictor say that there is an object in every frame."""
    decoder: Any = predictor.sam_mask_decoder
    with torch.no_grad():
        decoder.pred_obj_score_head.layers[-1].bias.fill_(PRESENT_LOGIT)


def _difference(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> str:
    parts = []
    for what, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            listed = ", ".join(sorted(names)[:_NAMED])
            parts.append(f"{len(names)} weights are {what} ({listed}{', ...' if len(names) > _NAMED else ''})")
    shapes = [name for name in sorted(expected.keys() & found.keys()) if found[name] != expected[name]]
    if shapes:
        name = shapes[0]
        parts.append(
            f"{len(shapes)} weights have another shape ({name}: {list(found[name])} instead of {list(expected[name])})"
        )
    return "; ".join(parts)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
