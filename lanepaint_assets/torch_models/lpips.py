"""LPIPS where everything it needs is on this machine, and otherwise the reason why it is absent.

Called by `quality_steps.py`. Nothing is ever downloaded here, and no network without its published weights is asked: a
distance from random weights would look like a measurement.
"""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.rendering.region_quality import PictureDistance

if TYPE_CHECKING:
    from torch import nn

# What torchvision publishes for AlexNet and its own download would be called; the digits begin its SHA-256. The small
# layers on top come with torchmetrics.
BACKBONE_FILE = "alexnet-owt-7be5be79.pth"
BACKBONE_DIGEST = "7be5be79"
LIBRARIES = ("torch", "torchvision", "torchmetrics")


def backbone_file() -> Path:
    """Where torch keeps downloaded weights: below TORCH_HOME, or the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    return home.expanduser() / "hub" / "checkpoints" / BACKBONE_FILE


def why_absent() -> str | None:
    """Why LPIPS cannot be computed on this machine, or None where everything seems to be there. Imports nothing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed; install with: pip install 'lanepaint[quality]'"
    if not backbone_file().is_file():
        return f"torchvision's weights {BACKBONE_FILE} are not in torch's cache on this machine; nothing is downloaded"
    return None


def load_lpips() -> tuple[PictureDistance | None, str | None]:
    """The distance, or None and why it is absent."""
    reason = why_absent()
    if reason is not None:
        return None, reason
    file = backbone_file()
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(BACKBONE_DIGEST):
        return None, f"{file.name} is not the file that torchvision publishes: its SHA-256 begins with {digest[:8]}"
    try:
        return LpipsDistance(_network(file)), None
    except Exception as error:  # noqa: BLE001  # libraries that do not fit each other; all else is still measured
        return None, f"torchmetrics cannot be used: {type(error).__name__}: {error}"


def _network(file: Path) -> nn.Module:
    import torch
    from torchmetrics.functional.image.lpips import _LPIPS

    # Made without weights, so that no code path of torchvision asks for a download; then given the file's.
    network = _LPIPS(pretrained=True, net="alex", spatial=True, pnet_rand=True)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    for slice_ in network.net.children():
        for layer, part in slice_.named_children():
            part.load_state_dict({name: weights[f"features.{layer}.{name}"] for name in part.state_dict()})
    return network.eval()


class LpipsDistance:
    """LPIPS with AlexNet as a `PictureDistance`: a value for every pixel, upsampled from each layer."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, original: NDArray[np.uint8], edited: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Distances (H, W) of two (H, W, 3) sRGB pictures."""
        import torch

        with torch.inference_mode():
            pair = [
                torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255.0
                for picture in (original, edited)
            ]
            distance: NDArray[np.float32] = self._network(*pair, normalize=True)[0, 0].numpy()
        return distance
