"""New paint: strokes in world metres, their anti-aliased coverage of pixels, wear, the blend into the road's light.

Called by the procedural painter for every prompt, on the clip's shared analysis. What the paint stands on is prepared
by `marking_removal.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.marking_removal import CleanBand
from lanepaint_assets.editing.marking_standards import MarkingStandard
from lanepaint_assets.editing.road_course import STEP_M
from lanepaint_assets.editing.shading import LINEAR_OF_BYTE, PaintBrightness, byte_of, byte_table, paint_gain
from lanepaint_assets.lanes.attributes import Count, LaneStyle, Pattern

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Samples of a pixel's footprint in each direction.
_SAMPLES = 4

# The footprint of a pixel seen through a lens and a demosaicing filter is wider than the pixel.
_FOOTPRINT_PX = 1.5

# Share of the asphalt's texture that shows through a coat of paint, and the most that wear takes away of its opacity.
_TEXTURE_KEPT = 0.45
_WEAR = 0.22
_OPACITY = 0.96

# Texture beyond this (natural logarithm) is the edge of a shadow, which paint shows as asphalt does.
_GRAIN_LOG = 0.3

# Grain of the wear, metres: along and across the line.
_WEAR_GRAIN_M = (0.30, 0.05)


@dataclass(frozen=True)
class LinePaint:
    """What one line is painted with.

    Attributes:
        style: all attributes known.
        width_m: of one stroke.
        gap_m: clear distance between the strokes of a double line.
        dash_m, period_m: of a dashed line; the period is 0 for a solid one.
        phase_m: where along the line a dash begins.
    """

    style: LaneStyle
    width_m: float
    gap_m: float
    dash_m: float
    period_m: float
    phase_m: float

    @property
    def half_width_m(self) -> float:
        """From the line's centre to the paint's outer edge."""
        return self.width_m / 2 if self.style.count is Count.SINGLE else self.width_m + self.gap_m / 2


def line_paint(style: LaneStyle, standard: MarkingStandard, phase_m: float = 0.0) -> LinePaint:
    """The paint of a style under a regional standard."""
    dashed = style.pattern is Pattern.DASHED
    return LinePaint(
        style=style,
        width_m=standard.width_m,
        gap_m=standard.double_gap_m,
        dash_m=standard.dash_m if dashed else 0.0,
        period_m=standard.period_m if dashed else 0.0,
        phase_m=phase_m,
    )


@dataclass(frozen=True, eq=False)
class PaintTable:
    """The paint of all lines as arrays for the kernel: (L, 6) strokes and dashes, (L, 3) gains, (L, N) arc lengths."""

    strokes: Float
    gains: Float
    ceiling: float
    arc_m: Float
    seed: int


def paint_table(paints: tuple[LinePaint, ...], arc_m: Float, brightness: PaintBrightness, seed: int) -> PaintTable:
    """Tables of `paints`, one a line, for `paint_pixels`."""
    strokes = np.array(
        [
            [
                0.0 if p.style.count is Count.SINGLE else (p.width_m + p.gap_m) / 2,
                p.width_m / 2,
                p.dash_m,
                p.period_m,
                p.phase_m,
                float(i),
            ]
            for i, p in enumerate(paints)
        ]
    )
    gains = np.stack([paint_gain(p.style.color, brightness) for p in paints]).astype(np.float64)
    return PaintTable(strokes, gains, brightness.ceiling, arc_m, seed & 0x7FFFFFFF)


@compiled()
def _share(low: float, high: float, edge_low: float, edge_high: float) -> float:
    """Share of [low, high] inside [edge_low, edge_high]."""
    inside = min(high, edge_high) - max(low, edge_low)
    if inside <= 0.0:
        return 0.0
    return inside / max(high - low, 1e-9)


@compiled()
def _painted_length(a: float, dash: float, period: float) -> float:
    """Painted metres between 0 and a of dashes that begin at 0."""
    whole = np.floor(a / period)
    return float(whole * dash + min(a - whole * period, dash))


@compiled()
def _hash(i: int, j: int, seed: int) -> float:
    n = (i * 374761393 + j * 668265263 + seed * 974634777) & 0x7FFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0x7FFFFFFF
    n = n ^ (n >> 16)
    return float(n & 0xFFFF) / 65535.0


@compiled()
def _wear(a: float, m: float, seed: int) -> float:
    """Value noise 0..1, smooth at the grain's size, fixed to the road."""
    x = a / _WEAR_GRAIN_M[0]
    y = m / _WEAR_GRAIN_M[1]
    i = int(np.floor(x))
    j = int(np.floor(y))
    fx = x - i
    fy = y - j
    fx = fx * fx * (3 - 2 * fx)
    fy = fy * fy * (3 - 2 * fy)
    top = _hash(i, j, seed) * (1 - fx) + _hash(i + 1, j, seed) * fx
    bottom = _hash(i, j + 1, seed) * (1 - fx) + _hash(i + 1, j + 1, seed) * fx
    return float(top * (1 - fy) + bottom * fy)


@compiled()
def _coverage(
    s: float,
    m: float,
    step: NDArray[np.float32],
    stroke: NDArray[np.float64],
    arc: NDArray[np.float64],
) -> float:
    """Share of a pixel's footprint under paint."""
    at = min(max(s / STEP_M, 0.0), arc.shape[0] - 1.001)
    i = int(at)
    stretch = (arc[i + 1] - arc[i]) / STEP_M
    a0 = arc[i] + (arc[i + 1] - arc[i]) * (at - i) - stroke[4]
    # Each sample stands for a cell of the footprint: boxes in m and in a, so that far pixels do not alias.
    cell = _FOOTPRINT_PX / _SAMPLES
    box_m = max((abs(step[1]) + abs(step[3])) * cell, 1e-4)
    box_a = max((abs(step[0]) + abs(step[2])) * stretch * cell, 1e-4)
    reach = 0.5 * _FOOTPRINT_PX * (abs(step[1]) + abs(step[3])) + box_m
    if abs(m) > stroke[0] + stroke[1] + reach:
        return 0.0
    total = 0.0
    for p in range(_SAMPLES):
        x = ((p + 0.5) / _SAMPLES - 0.5) * _FOOTPRINT_PX
        for q in range(_SAMPLES):
            y = ((q + 0.5) / _SAMPLES - 0.5) * _FOOTPRINT_PX
            mm = m + x * step[1] + y * step[3]
            low = mm - 0.5 * box_m
            high = mm + 0.5 * box_m
            across = _share(low, high, stroke[0] - stroke[1], stroke[0] + stroke[1])
            if stroke[0] > 0.0:
                across += _share(low, high, -stroke[0] - stroke[1], -stroke[0] + stroke[1])
            if across > 0.0 and stroke[3] > 0.0:
                a = a0 + (x * step[0] + y * step[2]) * stretch
                along = _painted_length(a + 0.5 * box_a, stroke[2], stroke[3]) - _painted_length(
                    a - 0.5 * box_a, stroke[2], stroke[3]
                )
                across *= along / box_a
            total += across
    return total / (_SAMPLES * _SAMPLES)


@compiled()
def _paint(
    frame: NDArray[np.uint8],
    index: NDArray[np.int32],
    line: NDArray[np.int16],
    s: NDArray[np.float32],
    m: NDArray[np.float32],
    step: NDArray[np.float32],
    alpha: NDArray[np.float32],
    removed: NDArray[np.float32],
    base: NDArray[np.float32],
    shade: NDArray[np.float32],
    texture: NDArray[np.float32],
    strokes: NDArray[np.float64],
    gains: NDArray[np.float64],
    ceiling: float,
    arc: NDArray[np.float64],
    seed: int,
    to_linear: NDArray[np.float32],
    to_byte: NDArray[np.float32],
) -> None:
    width = frame.shape[1]
    for n in range(index.size):
        k = line[n]
        covered = _coverage(s[n], m[n], step[n], strokes[k], arc[k])
        if covered <= 0.0 and removed[n] <= 0.0:
            continue
        opacity = 0.0
        if covered > 0.0:
            # Grain finer than the pixel averages out.
            shown = min(1.0, _WEAR_GRAIN_M[1] / max(abs(step[n, 1]) + abs(step[n, 3]), 1e-4))
            wear = 0.5 + (_wear(s[n], m[n] + 37.0 * k, seed) - 0.5) * shown
            opacity = covered * (_OPACITY - _WEAR * wear * wear)
        rough = np.log(max(texture[n], 1e-3))
        fine = min(max(rough, -_GRAIN_LOG), _GRAIN_LOG)
        grain = np.exp(_TEXTURE_KEPT * fine + (rough - fine))
        strongest = max(gains[k, 0] * shade[n, 0], gains[k, 1] * shade[n, 1], gains[k, 2] * shade[n, 2])
        # All channels alike, or bright yellow would turn white.
        grain *= min(1.0, ceiling / max(strongest, 1e-6))
        v = index[n] // width
        u = index[n] % width
        for c in range(3):
            painted = min(gains[k, c] * shade[n, c] * grain, 1.0)
            under = base[n, c]
            new = under + opacity * (painted - under)
            old = to_linear[frame[v, u, c]]
            frame[v, u, c] = byte_of(old + alpha[n] * (new - old), to_byte)


def paint_pixels(frame: NDArray[np.uint8], band: CleanBand, table: PaintTable) -> NDArray[np.uint8]:
    """Take the old markings out of a frame and paint the new ones.

    Args:
        frame: (H, W, 3) sRGB.
        band: the frame's pixels near lines, cleaned.
        table: the paint of every line.

    Returns:
        A new (H, W, 3); every pixel outside the band, and every one that no marking touches, is exactly the frame's.
    """
    result = np.ascontiguousarray(frame).copy()
    pixels = band.pixels
    _paint(
        result,
        pixels.index,
        pixels.line,
        pixels.s,
        pixels.m,
        pixels.step,
        pixels.alpha,
        band.removed,
        band.base,
        band.shade,
        band.texture,
        table.strokes,
        table.gains,
        table.ceiling,
        table.arc_m,
        table.seed,
        LINEAR_OF_BYTE,
        byte_table(),
    )
    return result
