"""Pictures that the sample drive sticks onto its panels: trees, cars, facades, rails, posts; and noise.

Called by `materials.py`. All drawn here from numbers, in linear light, premultiplied by alpha. No geometry of the road.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive.world import VehicleKind

Float = NDArray[np.float64]
F32 = NDArray[np.float32]
Rgb = tuple[float, float, float]
I64 = NDArray[np.int64]

NOISE_SIZE = 512
LEVELS = 8
GLASS = (0.018, 0.022, 0.026)
RUBBER = (0.012, 0.012, 0.013)


def tileable_noise(random: np.random.Generator, exponent: float, low_cut: float = 1.0) -> Float:
    """(512, 512) tileable noise with power falling as frequency^-exponent, mean 0.5, standard deviation 0.16."""
    frequency = np.fft.fftfreq(NOISE_SIZE) * NOISE_SIZE
    radius = np.maximum(np.hypot(*np.meshgrid(frequency, frequency)), 0.5)
    spectrum = np.fft.fft2(random.normal(size=(NOISE_SIZE, NOISE_SIZE))) * radius ** (-exponent / 2)
    spectrum[radius < low_cut] = 0.0
    field = np.real(np.fft.ifft2(spectrum))
    return np.asarray(np.clip(0.5 + 0.16 * field / field.std(), 0.0, 1.0), dtype=np.float64)


def noise_pyramid(field: Float) -> tuple[F32, I64]:
    """Flat pyramid of a square tile and its table (L, 2) of offset and size, down to 1 texel."""
    pieces, rows, offset = [], [], 0
    while True:
        rows.append((offset, field.shape[0]))
        pieces.append(field.astype(np.float32).ravel())
        offset += field.size
        if field.shape[0] == 1:
            break
        field = field.reshape(field.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
    return np.concatenate(pieces), np.asarray(rows, dtype=np.int64)


@dataclass(frozen=True)
class Atlas:
    """All textures in one array: (texels, 4) premultiplied linear RGBA, and (T, LEVELS, 3) offset, width, height."""

    texels: F32
    table: I64


def build_atlas(pictures: list[F32]) -> Atlas:
    """Stack pictures (h, w, 4), each with its pyramid."""
    pieces, table, offset = [], np.zeros((len(pictures), LEVELS, 3), dtype=np.int64), 0
    for number, picture in enumerate(pictures):
        level = picture
        for depth in range(LEVELS):
            height, width = level.shape[:2]
            table[number, depth] = offset, width, height
            pieces.append(level.reshape(-1, 4))
            offset += height * width
            if depth + 1 < LEVELS:
                half = (max(width // 2, 1), max(height // 2, 1))
                level = cv2.resize(level, half, interpolation=cv2.INTER_AREA).astype(np.float32)
    return Atlas(np.concatenate(pieces).astype(np.float32), table)


def _times(color: Rgb, factor: float) -> Rgb:
    """A lighter or darker shade."""
    return (min(color[0] * factor, 1.0), min(color[1] * factor, 1.0), min(color[2] * factor, 1.0))


def _blank(height: int, width: int) -> F32:
    return np.zeros((height, width, 4), dtype=np.float32)


def _paint(picture: F32, mask: NDArray[np.uint8], color: Float | Rgb) -> None:
    """Cover `picture` with `color` where `mask` (0..255) says, in place."""
    share = (mask.astype(np.float32) / 255.0)[..., None]
    picture *= 1.0 - share
    picture[..., :3] += share * np.asarray(color, dtype=np.float32)
    picture[..., 3:] += share


def _polygon(picture: F32, points: list[tuple[float, float]], color: Rgb) -> None:
    """Fill a polygon given in 0..1 of the picture, y from the top."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    corners = np.asarray([(x * width * 16, y * height * 16) for x, y in points], dtype=np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
    _paint(picture, mask, color)


def _disc(picture: F32, x: float, y: float, rx: float, ry: float, color: Rgb) -> None:
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    center = (round(x * width * 16), round(y * height * 16))
    cv2.ellipse(mask, center, (round(rx * width * 16), round(ry * height * 16)), 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    _paint(picture, mask, color)


def _frame_off(picture: F32) -> F32:
    """Clear the outermost texels, so that silhouettes end softly inside the panel."""
    picture[0] = picture[-1] = 0.0
    picture[:, 0] = picture[:, -1] = 0.0
    return picture


def tree_picture(random: np.random.Generator, conifer: bool, dryness: float) -> F32:
    """A tree, lit from above, 256 x 256."""
    picture = _blank(256, 256)
    lean = float(random.uniform(-0.03, 0.03))
    bark = (0.045, 0.036, 0.027)
    _polygon(picture, [(0.475, 1.0), (0.525, 1.0), (0.515 + lean, 0.4), (0.485 + lean, 0.4)], bark)
    hue = np.array([0.05 + 0.05 * dryness, 0.085, 0.022]) * float(random.uniform(0.7, 1.25))
    count = 1500
    for i in range(count):
        if conifer:
            up = float(random.random()) ** 0.7
            y = 0.03 + 0.87 * up
            reach = 0.03 + 0.33 * up
            x = 0.5 + lean + reach * float(random.uniform(-1, 1))
        else:
            angle, radius = float(random.uniform(0, 6.28)), float(random.random()) ** 0.5
            bumps = 0.82 + 0.18 * np.sin(3 * angle + 9 * lean * 30) * np.cos(2 * angle + lean * 50)
            x = 0.5 + lean + 0.43 * radius * bumps * np.cos(angle)
            y = 0.40 + 0.36 * radius * bumps * np.sin(angle)
        # Upper and outer leaves catch the light; those drawn first lie inside and are dark.
        shine = (0.35 + 0.65 * i / count) * (1.45 - 1.1 * y) * float(random.uniform(0.7, 1.3))
        size = float(random.uniform(0.008, 0.024))
        _spot(picture, x, y, size, hue * shine)
    return _frame_off(picture)


def _spot(picture: F32, x: float, y: float, size: float, color: Float) -> None:
    """A small leaf cluster: filled in its own window, because hundreds of them make a tree."""
    height, width = picture.shape[:2]
    cx, cy, r = int(x * width), int(y * height), max(int(size * width), 1)
    x0, x1, y0, y1 = max(cx - r, 0), min(cx + r + 1, width), max(cy - r, 0), min(cy + r + 1, height)
    if x0 >= x1 or y0 >= y1:
        return
    yy, xx = np.ogrid[y0:y1, x0:x1]
    mask = ((xx - cx) ** 2 + (yy - cy) ** 2 <= r * r)[..., None].astype(np.float32)
    window = picture[y0:y1, x0:x1]
    window *= 1.0 - mask
    window[..., :3] += mask * color.astype(np.float32)
    window[..., 3:] += mask


def bush_picture(random: np.random.Generator) -> F32:
    """A low bush, 128 x 64."""
    picture = _blank(64, 128)
    for i in range(160):
        angle, radius = float(random.uniform(0, np.pi)), float(random.random()) ** 0.5
        shade = (0.3 + 0.7 * i / 160) * float(random.uniform(0.7, 1.3))
        _spot(
            picture, 0.5 + 0.44 * radius * np.cos(angle), 0.97 - 0.8 * radius * np.sin(angle), 0.03,
            np.array([0.05, 0.075, 0.022]) * shade,
        )  # fmt: skip
    picture[:, 0] = picture[:, -1] = 0.0
    return picture


def facade_picture(random: np.random.Generator, number: int) -> F32:
    """A house front with rows of windows, 256 x 256."""
    walls = ((0.42, 0.36, 0.28), (0.30, 0.13, 0.09), (0.50, 0.49, 0.46), (0.33, 0.31, 0.30))
    picture = _blank(256, 256)
    picture[..., :3] = walls[number % 4]
    picture[..., 3] = 1.0
    picture[..., :3] *= random.normal(1.0, 0.05, (256, 256, 1)).astype(np.float32)
    columns, floors = int(random.integers(4, 7)), int(random.integers(2, 5))
    for row in range(floors):
        for column in range(columns):
            x, y = (column + 0.28) / columns, (row + 0.25) / floors
            w, h = 0.44 / columns, 0.5 / floors
            glass = float(random.uniform(0.02, 0.10))
            _polygon(picture, [(x - 0.01, y - 0.01), (x + w + 0.01, y - 0.01), (x + w + 0.01, y + h + 0.012),
                               (x - 0.01, y + h + 0.012)], (0.55, 0.54, 0.5))  # fmt: skip
            _polygon(picture, [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], (glass, glass * 1.1, glass * 1.3))
    _polygon(picture, [(0, 0), (1, 0), (1, 0.035), (0, 0.035)], (0.12, 0.08, 0.06))
    picture[0] = 0.0
    return picture


def rail_picture() -> F32:
    """Four metres of guard rail: a folded steel beam on posts, 128 x 32."""
    picture = _blank(32, 128)
    for x in (0.1, 0.6):
        _polygon(picture, [(x, 0.15), (x + 0.03, 0.15), (x + 0.03, 1.0), (x, 1.0)], (0.16, 0.16, 0.16))
    for top, gray in ((0.05, 0.42), (0.14, 0.24), (0.23, 0.38), (0.32, 0.40), (0.41, 0.22)):
        _polygon(picture, [(0, top), (1, top), (1, top + 0.1), (0, top + 0.1)], (gray, gray, gray * 1.02))
    return picture


def post_picture() -> F32:
    """A delineator post, 16 x 64."""
    picture = _blank(64, 16)
    _polygon(picture, [(0.2, 0.03), (0.8, 0.03), (0.8, 1.0), (0.2, 1.0)], (0.62, 0.62, 0.6))
    _polygon(picture, [(0.2, 0.18), (0.8, 0.1), (0.8, 0.3), (0.2, 0.38)], (0.02, 0.02, 0.02))
    return picture


def shadow_picture() -> F32:
    """A soft black patch for what lies under things, 64 x 64."""
    mask = np.zeros((64, 64), np.float32)
    mask[9:55, 9:55] = 1.0
    picture = _blank(64, 64)
    picture[..., 3] = cv2.GaussianBlur(mask, (0, 0), 3.5)
    return _frame_off(picture)


def cloth_picture() -> F32:
    """Plain white, for painted sheet metal: panels multiply it by their own colour; 16 x 16."""
    return np.ones((16, 16, 4), dtype=np.float32)


def trapezoid_picture(color: Rgb, inset: float, rim: Rgb) -> F32:
    """A window narrower at the top by `inset` of its width on each side, 128 x 64."""
    picture = _blank(64, 128)
    _polygon(picture, [(0.0, 1.0), (1.0, 1.0), (1 - inset, 0.0), (inset, 0.0)], rim)
    _polygon(picture, [(0.06, 0.95), (0.94, 0.95), (0.95 - inset, 0.08), (0.05 + inset, 0.08)], color)
    _polygon(picture, [(0.1, 0.8), (0.5, 0.8), (0.45, 0.45), (0.12, 0.5)], _times(color, 3.5))
    return picture


def side_picture(kind: VehicleKind, body: Rgb) -> F32:
    """A vehicle from its left side, driving to the left, 256 x 96: silhouette, windows, wheels, sills, lamps."""
    picture = _blank(96, 256)
    dark = _times(body, 0.55)
    light = _times(body, 1.25)
    wheels: tuple[float, ...]
    if kind == "truck":
        _polygon(picture, [(0.22, 0.03), (0.99, 0.03), (0.99, 0.74), (0.22, 0.74)], (0.55, 0.55, 0.53))
        _polygon(picture, [(0.01, 0.72), (0.01, 0.42), (0.05, 0.18), (0.2, 0.18), (0.2, 0.8), (0.01, 0.8)], body)
        _polygon(picture, [(0.05, 0.42), (0.075, 0.24), (0.16, 0.24), (0.16, 0.42)], GLASS)
        _polygon(picture, [(0.2, 0.74), (0.99, 0.74), (0.99, 0.84), (0.2, 0.84)], (0.03, 0.03, 0.03))
        wheels, radius = (0.12, 0.7, 0.84), (0.055, 0.145)
    elif kind == "van":
        hull = [
            (0.01, 0.82),
            (0.01, 0.55),
            (0.12, 0.42),
            (0.24, 0.08),
            (0.3, 0.04),
            (0.97, 0.04),
            (0.99, 0.1),
            (0.99, 0.82),
        ]
        _polygon(picture, hull, body)
        _polygon(picture, [(0.17, 0.42), (0.26, 0.13), (0.4, 0.13), (0.4, 0.42)], GLASS)
        _polygon(picture, [(0.01, 0.74), (0.99, 0.74), (0.99, 0.84), (0.01, 0.84)], dark)
        wheels, radius = (0.19, 0.79), (0.066, 0.165)
    else:
        roof = 0.03
        tail = 0.97 if kind == "suv" else 0.9
        hull = [(0.01, 0.8), (0.015, 0.5), (0.26, 0.40), (0.40, roof + 0.02), (0.46, roof), (tail - 0.17, roof),
                (tail, 0.38), (0.985, 0.42), (0.99, 0.8)]  # fmt: skip
        _polygon(picture, hull, body)
        _polygon(picture, [(0.03, 0.46), (0.97, 0.42), (0.97, 0.5), (0.03, 0.54)], light)
        _polygon(picture, [(0.01, 0.7), (0.99, 0.7), (0.99, 0.83), (0.01, 0.83)], dark)
        _polygon(picture, [(0.30, 0.40), (0.415, 0.09), (0.56, 0.08), (0.56, 0.40)], GLASS)
        _polygon(picture, [(0.58, 0.40), (0.58, 0.08), (tail - 0.19, 0.09), (tail - 0.05, 0.39)], GLASS)
        wheels, radius = (0.19, 0.80), (0.072, 0.215)
    for x in wheels:
        _disc(picture, x, 1.0 - radius[1] * 1.02, radius[0] * 1.12, radius[1] * 1.12, (0.015, 0.015, 0.016))
        _disc(picture, x, 1.0 - radius[1] - 0.005, radius[0], radius[1], RUBBER)
        _disc(picture, x, 1.0 - radius[1], radius[0] * 0.62, radius[1] * 0.62, (0.22, 0.22, 0.23))
        _disc(picture, x, 1.0 - radius[1], radius[0] * 0.2, radius[1] * 0.2, (0.05, 0.05, 0.05))
    _polygon(picture, [(0.01, 0.5), (0.05, 0.5), (0.04, 0.56), (0.01, 0.56)], (0.6, 0.6, 0.58))
    _polygon(picture, [(0.96, 0.48), (0.99, 0.48), (0.99, 0.58), (0.965, 0.58)], (0.30, 0.01, 0.01))
    picture[0] = 0.0
    picture[:, 0] = picture[:, -1] = 0.0
    return picture


def end_picture(kind: VehicleKind, body: Rgb, rear: bool, width_m: float, height_m: float) -> F32:
    """The upright part of a vehicle's rear or front, 128 x 96: lamps, plate, bumper, wheels below."""
    picture = _blank(96, 128)
    dark = _times(body, 0.5)
    _polygon(picture, [(0.04, 0.7), (0.17, 0.7), (0.17, 1.0), (0.04, 1.0)], RUBBER)
    _polygon(picture, [(0.83, 0.7), (0.96, 0.7), (0.96, 1.0), (0.83, 1.0)], RUBBER)
    _polygon(picture, [(0.17, 0.8), (0.83, 0.8), (0.83, 0.88), (0.17, 0.88)], (0.01, 0.01, 0.01))
    paint = (0.5, 0.5, 0.49) if kind == "truck" and rear else body
    _polygon(picture, [(0.0, -0.05), (1.0, -0.05), (1.0, 0.2), (0.99, 0.82), (0.01, 0.82), (0.0, 0.2)], paint)
    if kind in ("van", "truck"):
        window = [(0.1, 0.12), (0.9, 0.12), (0.92, 0.42), (0.08, 0.42)]
        if not (kind == "truck" and rear):
            _polygon(picture, window, GLASS)
        _polygon(picture, [(0.495, 0.06), (0.505, 0.06), (0.505, 0.75), (0.495, 0.75)], dark)
    _polygon(picture, [(0.01, 0.62), (0.99, 0.62), (0.97, 0.83), (0.03, 0.83)], dark)
    lamp = (0.38, 0.012, 0.01) if rear else (0.75, 0.74, 0.7)
    low, high = (0.18, 0.42) if kind in ("car", "suv") else (0.46, 0.6)
    for left, right in ((0.02, 0.2), (0.8, 0.98)):
        _polygon(picture, [(left, low), (right, low + 0.03), (right, high - 0.06), (left, high)], lamp)
    if not rear:
        _polygon(picture, [(0.26, 0.3), (0.74, 0.3), (0.7, 0.55), (0.3, 0.55)], (0.02, 0.02, 0.022))
    # A plate is 0.52 m wide and 0.11 m high.
    top = 0.46 if rear else 0.62
    half, bottom = 0.26 / width_m, top + 0.12 / height_m
    _polygon(
        picture, [(0.5 - half, top), (0.5 + half, top), (0.5 + half, bottom), (0.5 - half, bottom)], (0.6, 0.6, 0.57)
    )
    # No gap at the top, where the rear window or the roof continues.
    picture[-1] = 0.0
    picture[:, 0] = picture[:, -1] = 0.0
    return picture
