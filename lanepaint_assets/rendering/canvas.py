"""Marks on the planes of a video's frames: translucent layers, ribbons, dots and the clock's text.

Called by the overlay, the bird's-eye inset and the comparison, once a frame, which is why they draw on what the decoder
gave and the encoder takes (`clips.planes`). What does not move is built as an RGB picture and becomes a `Layer` once.
Nothing here knows what a trajectory or a scene is; text and pictures that are no video's are `drawing`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.planes import BLACK_YUV, RGB_TO_YUV, Plane, Planes, yuv_of
from lanepaint_assets.compiled import compiled
from lanepaint_assets.rendering.drawing import PANEL, PANEL_OPACITY, Color, Picture, text_mask

Float = NDArray[np.float64]

OUTLINE: Color = (10, 12, 16)
# cv2 takes fixed-point coordinates: 4 fractional bits keep slow lines from stepping by whole pixels.
SUBPIXEL_BITS = 4
# `yuv_of` as OpenCV applies it to a picture.
_TO_YUV = np.column_stack([RGB_TO_YUV, BLACK_YUV])
# Chroma lies on the left luma column of its pair and between the two rows.
CHROMA_OFFSET_PX = (0.0, 0.25)
# Points closer than this to their predecessor are left out of a ribbon: far waypoints crowd.
MIN_STEP_PX = 1.5


@lru_cache(maxsize=64)
def plane_values(color: Color) -> tuple[int, int, int]:
    """What a colour is in luma and both chroma planes."""
    y, u, v = np.clip(np.round(yuv_of(color)), 0, 255).astype(int)
    return int(y), int(u), int(v)


def even(value: float) -> int:
    """The nearest even whole number: layers and panels start and end between chroma samples."""
    return 2 * round(value / 2)


@dataclass(frozen=True, eq=False)
class Layer:
    """A translucent picture prepared once and laid over many frames.

    Attributes:
        x, y: where its top left corner goes, both even.
        ink: its planes, already multiplied by their opacity.
        keep: how much of the frame shines through, 0..255, for each plane.
    """

    x: int
    y: int
    ink: Planes
    keep: Planes

    @classmethod
    def of(cls, x: int, y: int, whole: Plane) -> Layer:
        """The layer of a `LineLayer`'s whole picture."""
        half: Plane = np.asarray(
            cv2.resize(whole, (whole.shape[1] // 2, whole.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
        luma, keep = (np.ascontiguousarray(whole[..., channel]) for channel in (0, 3))
        u, v, half_keep = (np.ascontiguousarray(half[..., channel]) for channel in (1, 2, 3))
        return cls(x, y, Planes(luma, u, v), Planes(keep, half_keep, half_keep))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.ink.size

    def stamp(self, canvas: Planes) -> None:
        """Lay it over `canvas`, in place. The layer must lie inside the picture."""
        region = canvas.part(self.x, self.y, *self.size)
        for under, keep, ink in zip(region.all, self.keep.all, self.ink.all, strict=True):
            _blend(under, keep, ink)


class LineLayer:
    """Opaque lines that are added bit by bit, on nothing or on a panel.

    They are kept unreduced: a line of two pixels drawn on a half plane would lose its colour to what lies beneath.

    Args:
        x, y: where the top left corner goes, both even.
        whole: (H, W, 4) uint8: luma and chroma, already multiplied by their opacity, and how much of the frame shines
            through.
    """

    def __init__(self, x: int, y: int, whole: Plane) -> None:
        self._x, self._y = x, y
        self._whole = whole
        self._layer: Layer | None = None

    @classmethod
    def empty(cls, x: int, y: int, width: int, height: int) -> LineLayer:
        """Nothing yet, and all of the frame shines through."""
        return cls(x, y, np.full((height, width, 4), (0, 0, 0, 255), np.uint8))

    def line(self, points_px: Float, width_px: float, color: Color) -> None:
        """Draw an anti-aliased line, (N, 2) points relative to the layer's corner, in place."""
        if len(points_px) < 2:
            return
        ink, thickness = (*plane_values(color), 0), max(1, round(width_px))
        cv2.polylines(self._whole, [_fixed(points_px, 1)], False, ink, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        self._layer = None

    def stamp(self, canvas: Planes) -> None:
        """Lay it over `canvas`, in place."""
        if self._layer is None:
            self._layer = Layer.of(self._x, self._y, self._whole)
        self._layer.stamp(canvas)


class LayerBuilder:
    """Paints a panel with text and swatches, once a video; `layer()` freezes it.

    Args:
        width, height: even.
        opacity: of the panel, 0 to 1.
        color: of the panel.
    """

    def __init__(self, width: int, height: int, opacity: float = PANEL_OPACITY, color: Color = PANEL) -> None:
        self.picture: Picture = np.empty((height, width, 3), dtype=np.uint8)
        self.picture[:] = color
        self._panel = self.picture.copy()
        self._opacity = opacity

    def layer(self, x: int, y: int) -> Layer:
        """The panel at (x, y), both even. What was drawn on it is opaque, the rest translucent."""
        return Layer.of(x, y, self._whole())

    def line_layer(self, x: int, y: int) -> LineLayer:
        """The same, for lines to be added on it."""
        return LineLayer(x, y, self._whole())

    def _whole(self) -> Plane:
        red, green, blue = cv2.split(cv2.absdiff(self.picture, self._panel))
        drawn = cv2.max(cv2.max(red, green), blue).astype(np.float32)
        # Anti-aliased edges get an opacity between the panel's and full.
        alpha = np.clip(drawn * (3.0 / 255), self._opacity, 1.0)
        planes = cv2.split(cv2.transform(self.picture.astype(np.float32), _TO_YUV))
        layers = [*(plane * alpha for plane in planes), 255 * (1 - alpha)]
        return np.asarray(cv2.merge([np.rint(layer).astype(np.uint8) for layer in layers]), dtype=np.uint8)


def draw_text(canvas: Planes, text: str, x: int, y: int, size_px: int, color: Color) -> None:
    """Write `text` with its top left corner at (x, y), in place. It must lie inside the picture."""
    mask = text_mask(text, size_px)
    height, width = mask.shape
    # Begun at an even place, so that chroma and luma lie on each other.
    left, top = x % 2, y % 2
    alpha = np.zeros((height + top + (height + top) % 2, width + left + (width + left) % 2))
    alpha[top : top + height, left : left + width] = mask / 255
    region = canvas.part(x - left, y - top, alpha.shape[1], alpha.shape[0])
    half = cv2.resize(alpha, (alpha.shape[1] // 2, alpha.shape[0] // 2), interpolation=cv2.INTER_AREA)
    for under, value, share in zip(region.all, plane_values(color), (alpha, half, half), strict=True):
        under[:] = np.round(under + (value - under.astype(np.float64)) * share)


def draw_ribbon(canvas: Planes, points_px: Float, widths_px: Float, color: Color, outline_px: float) -> None:
    """Draw an anti-aliased line of changing width with a dark outline, in place.

    Args:
        canvas: the picture.
        points_px: (N, 2), not much outside the picture; fewer than two draw nothing.
        widths_px: (N,) line width at each point.
        color: of the core.
        outline_px: width of the border on either side, which is dark but keeps the colour beneath; 0 for none.
    """
    points, widths = _thinned(points_px, widths_px)
    if len(points) < 2:
        return
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    length = np.hypot(across[:, 0], across[:, 1])
    across /= np.maximum(length, 1e-9)[:, None]
    # cv2's anti-aliased edge lies half a pixel outside the polygon.
    if outline_px > 0:
        _fill(canvas.all[:1], _band(points, across, widths / 2 + outline_px - 0.5), OUTLINE)
    _fill(canvas.all, _band(points, across, widths / 2 - 0.5), color)


def draw_dot(canvas: Planes, point_px: Float, radius_px: float, color: Color) -> None:
    """A filled disc with a dark border, in place; the point lies not much outside the picture."""
    places = [tuple(int(number) for number in _fixed(point_px, reduction)) for reduction in (1, 2)]
    y, u, v = plane_values(color)
    border = plane_values(OUTLINE)[0]
    discs = ((canvas.y, 1, radius_px + 1, border), (canvas.y, 1, radius_px, y), (canvas.u, 2, radius_px, u))
    for plane, reduction, radius, value in (*discs, (canvas.v, 2, radius_px, v)):
        fixed_radius = round(radius / reduction * (1 << SUBPIXEL_BITS))
        cv2.circle(plane, places[reduction - 1], fixed_radius, value, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def fill_polygon(canvas: Planes, points_px: Float, color: Color) -> None:
    """Fill a polygon of (N, 2) points, anti-aliased, in place."""
    _fill(canvas.all, points_px, color)


def _band(points: Float, across: Float, half_widths: Float) -> Float:
    """The outline of a line: along its one side and back along the other."""
    half = across * np.maximum(half_widths, 0.25)[:, None]
    return np.concatenate([points + half, (points - half)[::-1]])


def _fill(planes: Sequence[Plane], points_px: Float, color: Color) -> None:
    """Fill a polygon in luma alone or in all planes."""
    whole, half = [_fixed(points_px, 1)], [_fixed(points_px, 2)] if len(planes) > 1 else []
    for number, plane in enumerate(planes):
        polygon = whole if number == 0 else half
        cv2.fillPoly(plane, polygon, plane_values(color)[number], cv2.LINE_AA, SUBPIXEL_BITS)


@compiled()
def _blend(under: Plane, keep: Plane, ink: Plane) -> None:
    """`under` times `keep` over 255, rounded, plus `ink`, in place; cv2 takes three times as long."""
    for row in range(under.shape[0]):
        for column in range(under.shape[1]):
            product = np.uint32(under[row, column]) * np.uint32(keep[row, column]) + np.uint32(128)
            kept = (product + (product >> np.uint32(8))) >> np.uint32(8)
            under[row, column] = np.uint8(kept + np.uint32(ink[row, column]))


def _fixed(points_px: Float, reduction: int) -> NDArray[np.int32]:
    """Fixed-point places of luma pixels in a plane reduced by 1 or 2."""
    places = points_px if reduction == 1 else points_px / 2 - CHROMA_OFFSET_PX
    return np.rint(places * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _thinned(points: Float, widths: Float) -> tuple[Float, Float]:
    """Without points that crowd behind their predecessor; the first and the last stay."""
    if len(points) < 3:
        return points, widths
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    bins = (along / MIN_STEP_PX).astype(np.int64)
    keep = np.concatenate([[True], np.diff(bins) > 0])
    keep[-1] = True
    return points[keep], widths[keep]
