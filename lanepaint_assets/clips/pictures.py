"""PNG pictures in RGB order, read and written in one place so that no caller swaps channels.

Videos are `decoding.py` and `encoding.py`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


class PictureError(ValueError):
    """A file that should be a picture is none; the message names it."""


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) sRGB or (H, W) grey uint8 as PNG."""
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    encoded, data = cv2.imencode(".png", ordered)
    if not encoded:
        raise PictureError(f"cannot encode a picture of shape {picture.shape} and type {picture.dtype} as {path.name}")
    path.write_bytes(data.tobytes())


def read_picture(data: bytes, name: str = "picture") -> NDArray[np.uint8]:
    """Read PNG or JPEG bytes to (H, W, 3) sRGB uint8.

    Raises:
        PictureError: the bytes are no picture.
    """
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
    if decoded is None:
        raise PictureError(f"{name} is not a readable picture ({len(data)} bytes); use PNG or JPEG")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)
