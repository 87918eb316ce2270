"""Marks on RGB pictures: text in any script that the font knows, translucent panels, lines of changing width.

Called by the overlay, the bird's-eye inset, the comparison and the previews. Nothing here knows what a trajectory or
a scene is; colours with a meaning live in `scene.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
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
OUTLINE: Color = (10, 12, 16)
# Dark enough for white text over snow, light enough to see the road through.
PANEL_OPACITY = 0.66
# The picture for which sizes are chosen; others scale with it.
REFERENCE_WIDTH, REFERENCE_HEIGHT = 960, 540
# DejaVu is not legible below this size.
MIN_FONT_PX = 9
# cv2 takes fixed-point coordinates: 4 fractional bits keep slow lines from stepping by whole pixels.
SUBPIXEL_BITS = 4
# Beyond this, fixed-point coordinates of a point near the lens plane would overflow cv2's 32 bits after clipping.
MAX_COORDINATE_PX = 30_000.0


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


@dataclass(frozen=True, eq=False)
class Layer:
    """A translucent picture prepared once and laid over many frames.

    Attributes:
        x, y: where its top left corner goes.
        ink: (h, w, 3), colours already multiplied by their opacity.
        keep: (h, w, 3), how much of the frame shines through, 0..255.
    """

    x: int
    y: int
    ink: Picture
    keep: Picture

    def stamp(self, canvas: Picture) -> None:
        """Lay it over `canvas`, in place. The layer must lie inside the picture."""
        height, width = self.ink.shape[:2]
        region = canvas[self.y : self.y + height, self.x : self.x + width]
        region[:] = cv2.add(cv2.multiply(region, self.keep, scale=1 / 255), self.ink)


class LayerBuilder:
    """Paints a panel with text and swatches, once a video; `layer()` freezes it."""

    def __init__(self, width: int, height: int, opacity: float = PANEL_OPACITY, color: Color = PANEL) -> None:
        self.picture: Picture = np.empty((height, width, 3), dtype=np.uint8)
        self.picture[:] = color
        self._panel = self.picture.copy()
        self._opacity = round(255 * opacity)

    def layer(self, x: int, y: int) -> Layer:
        """The panel at (x, y). What was drawn on it is opaque, the rest translucent."""
        drawn = cv2.absdiff(self.picture, self._panel).max(axis=2)
        # Anti-aliased edges get an opacity between the panel's and full.
        alpha = np.maximum(self._opacity, np.minimum(255, drawn.astype(np.uint16) * 3)).astype(np.uint16)[..., None]
        ink = ((self.picture * alpha + 127) // 255).astype(np.uint8)
        keep = np.repeat(255 - alpha, 3, axis=2).astype(np.uint8)
        return Layer(x, y, ink, keep)


def draw_polyline(
    canvas: Picture, points_px: NDArray[np.float64], widths_px: NDArray[np.float64], color: Color, outline_px: float
) -> None:
    """Draw an anti-aliased line of changing width with a dark outline, in place.

    Args:
        canvas: (H, W, 3).
        points_px: (N, 2); points that are not finite are left out, fewer than two draw nothing.
        widths_px: (N,) line width at each point.
        color: of the core.
        outline_px: width of the dark border on either side; 0 for none.
    """
    finite = np.isfinite(points_px).all(axis=1)
    points, widths = _thinned(np.clip(points_px[finite], -MAX_COORDINATE_PX, MAX_COORDINATE_PX), widths_px[finite])
    if len(points) < 2:
        return
    if outline_px > 0:
        _strokes(canvas, points, widths + 2 * outline_px, OUTLINE)
    _strokes(canvas, points, widths, color)


def draw_dot(canvas: Picture, point_px: NDArray[np.float64], radius_px: float, color: Color) -> None:
    """A filled disc with a dark border, in place."""
    scale = 1 << SUBPIXEL_BITS
    x, y = np.round(np.clip(point_px, -MAX_COORDINATE_PX, MAX_COORDINATE_PX) * scale).astype(int)
    for radius, ink in ((radius_px + 1.0, OUTLINE), (radius_px, color)):
        cv2.circle(canvas, (int(x), int(y)), round(radius * scale), ink, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _thinned(
    points: NDArray[np.float64], widths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Without points closer than two pixels to their predecessor: far waypoints crowd, and each costs a stroke."""
    if len(points) < 3:
        return points, widths
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    bins = (along / 2.0).astype(np.int64)
    keep = np.concatenate([[True], np.diff(bins) > 0])
    keep[-1] = True
    return points[keep], widths[keep]


def _strokes(canvas: Picture, points: NDArray[np.float64], widths: NDArray[np.float64], color: Color) -> None:
    """One cv2 stroke for each stretch of equal whole-pixel width."""
    fixed = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    whole = np.maximum(1, np.round(widths)).astype(np.int64)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(whole)) + 1, [len(whole)]])
    for start, end in pairwise(bounds):
        # One point further, so that neighbouring stretches touch.
        stretch = fixed[start : min(end + 1, len(fixed))]
        if len(stretch) >= 2:
            cv2.polylines(canvas, [stretch], False, color, int(whole[start]), cv2.LINE_AA, SUBPIXEL_BITS)


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
