"""RGB pictures and text in any script that the font knows; the sizes and colours of panels.

Called by `canvas`, by what builds layers for it, and by the previews. Nothing here knows what a trajectory or a scene
is; colours with a meaning live in `scene.py`, marks on a video's frames in `canvas.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
SOFT_WHITE: Color = (214, 220, 226)
AMBER: Color = (255, 193, 70)
PANEL: Color = (12, 16, 22)
# Dark enough for white text over snow, light enough to see the road through.
PANEL_OPACITY = 0.66
# The picture for which sizes are chosen; others scale with it.
REFERENCE_WIDTH, REFERENCE_HEIGHT = 960, 540
# DejaVu is not legible below this size.
MIN_FONT_PX = 9


def picture_scale(width: int, height: int) -> float:
    """How much larger the picture is than the reference of 960 x 540, by its tighter side."""
    return min(width / REFERENCE_WIDTH, height / REFERENCE_HEIGHT)


def font_px(base_px: float, scale: float) -> int:
    """Font height in pixels for a size chosen at the reference picture, never illegibly small."""
    return max(MIN_FONT_PX, round(base_px * scale))


@lru_cache(maxsize=64)
def _font(size_px: int, bold: bool) -> ImageFont.FreeTypeFont:
    # matplotlib ships DejaVu Sans: the same glyphs on every machine, without a system font.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / name
    # The basic layout engine does not depend on whether Pillow was built with raqm.
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    """`text` on one line: control characters become spaces, lone surrogates question marks."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())


def text_width(text: str, size_px: int, bold: bool = False) -> int:
    """Advance width of `text` in pixels."""
    return int(np.ceil(_font(size_px, bold).getlength(printable(text))))


@lru_cache(maxsize=4096)
def fit_text(text: str, width_px: int, size_px: int, bold: bool = False) -> str:
    """`text` on one line, cut with an ellipsis to at most `width_px`; empty where not even that fits."""
    whole = printable(text)
    if text_width(whole, size_px, bold) <= width_px:
        return whole
    low, high = 0, len(whole)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(whole[:middle].rstrip() + "…", size_px, bold) <= width_px:
            low = middle
        else:
            high = middle - 1
    cut = whole[:low].rstrip() + "…"
    return cut if text_width(cut, size_px, bold) <= width_px else ""


@lru_cache(maxsize=4096)
def text_mask(text: str, size_px: int, bold: bool = False) -> Picture:
    """Coverage (h, w) of one line of `text`, 0..255; every string of one size has the same height."""
    font = _font(size_px, bold)
    ascent, descent = font.getmetrics()
    mask = Image.new("L", (max(1, text_width(text, size_px, bold)), ascent + descent), 0)
    ImageDraw.Draw(mask).text((0, 0), printable(text), fill=255, font=font)
    coverage = np.array(mask, dtype=np.uint8)
    coverage.setflags(write=False)
    return coverage


def line_height(size_px: int) -> int:
    """Height of one line of text, pixels."""
    ascent, descent = _font(size_px, False).getmetrics()
    return ascent + descent


def draw_text(canvas: Picture, text: str, x: int, y: int, size_px: int, color: Color, bold: bool = False) -> None:
    """Write `text` with its top left corner at (x, y), in place, clipped at the picture."""
    if not text:
        return
    mask = text_mask(text, size_px, bold)
    height, width = canvas.shape[:2]
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + mask.shape[1]), min(height, y + mask.shape[0])
    if left >= right or top >= bottom:
        return
    alpha = mask[top - y : bottom - y, left - x : right - x, None].astype(np.uint16)
    under = canvas[top:bottom, left:right]
    ink = np.asarray(color, dtype=np.uint16)
    under[:] = ((under * (255 - alpha) + ink * alpha + 127) // 255).astype(np.uint8)


def fit_inside(picture: Picture, max_width: int, max_height: int) -> Picture:
    """`picture` reduced to fit into (max_width, max_height) with its proportions kept; never enlarged."""
    height, width = picture.shape[:2]
    factor = min(max_width / width, max_height / height, 1.0)
    if factor == 1.0:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def encode_png(picture: Picture) -> bytes:
    """PNG file bytes of an (H, W, 3) RGB picture."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise ValueError(f"the picture of shape {picture.shape} could not be written as PNG")
    return data.tobytes()


def widest(texts: Sequence[str], size_px: int, bold: bool = False) -> int:
    """Width in pixels of the longest of `texts`; 0 for none."""
    return max((text_width(text, size_px, bold) for text in texts), default=0)
