"""Count, colour, pattern and width of one line, read along it in the road strip.

Called by lane detection with a fitted course. Every answer comes with a confidence, and `unknown` is an answer: a wrong
attribute misleads a study, a missing one only costs a sample. Colour is read here; how paint and gaps follow each other
is `line_pattern.py`'s work, how many strokes lie side by side `line_count.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, LaneStyle
from lanepaint_assets.lanes.curves import CurveFit
from lanepaint_assets.lanes.line_count import cross_section
from lanepaint_assets.lanes.line_pattern import PAINTED_ABOVE, line_rhythm, paint_presence
from lanepaint_assets.lanes.ribbon import Ribbon, straighten
from lanepaint_assets.lanes.strip import RoadStrip

# Beyond this look distance a pixel holds more asphalt than paint, and video's halved colour resolution does the rest.
COLOR_LOOK_M = 22.0
# Share of yellow paint's gain over asphalt that is left in blue, against red and green: white keeps about all of it,
# fresh yellow almost none. Between the two limits nothing is said.
YELLOW_BELOW = 0.58
WHITE_ABOVE = 0.72


@dataclass(frozen=True)
class StyleMeasurement:
    """Measured attributes of one line, each with a confidence 0..1 (0 where the attribute is unknown)."""

    style: LaneStyle
    count_confidence: float
    color_confidence: float
    pattern_confidence: float
    width_m: float
    dash_m: float
    period_m: float
    phase_m: float

    @property
    def confidence(self) -> float:
        """Of the least certain known attribute; 0 where none is known."""
        known = [c for c in (self.count_confidence, self.color_confidence, self.pattern_confidence) if c > 0]
        return min(known) if known else 0.0


def measure_style(strip: RoadStrip, fit: CurveFit) -> StyleMeasurement:
    """Measure one line. Never raises; what cannot be told is `unknown` with confidence 0, or NaN."""
    ribbon = straighten(strip, fit)
    if ribbon.whole.sum() < 5:
        return StyleMeasurement(UNKNOWN_STYLE, 0.0, 0.0, 0.0, *(float("nan"),) * 4)
    presence = paint_presence(ribbon)
    painted = presence.readable & (presence.share > PAINTED_ABOVE)
    rhythm = line_rhythm(ribbon, presence)
    section = cross_section(ribbon, painted)
    color, color_confidence = _color(ribbon, painted)
    return StyleMeasurement(
        LaneStyle(section.count, color, rhythm.pattern),
        section.confidence,
        color_confidence,
        rhythm.confidence,
        section.width_m,
        rhythm.dash_m,
        rhythm.period_m,
        rhythm.phase_m,
    )


def _color(ribbon: Ribbon, painted: NDArray[np.bool_]) -> tuple[Color, float]:
    """White or yellow from what the paint adds to the ground under it, channel by channel.

    With paint P, ground G and asphalt A under one light, (P - G) / A per channel is free of the light's colour, and the
    ratio between channels is free of how far blur mixed paint with ground. Beside soil or grass the blur (and the
    halved colour resolution of video) mixes in that side too, by an unknown share: an answer must hold for all shares.
    """
    near = painted & (ribbon.look_m < COLOR_LOOK_M)
    if near.sum() < 5:
        return Color.UNKNOWN, 0.0
    d = ribbon.distance_m
    rgb = ribbon.rgb[near].astype(np.float64)
    middle = np.abs(d) <= 0.3
    brightness = rgb[:, middle].sum(axis=2)
    order = np.argsort(brightness, axis=1)[:, -4:]
    paint = np.take_along_axis(rgb[:, middle], order[..., None], axis=1).mean(axis=1)
    flanks = [rgb[:, ribbon.between(0.17, 0.40)].mean(axis=1), rgb[:, ribbon.between(-0.40, -0.17)].mean(axis=1)]
    sides = [rgb[:, ribbon.between(0.40, 0.9)].mean(axis=1), rgb[:, ribbon.between(-0.9, -0.40)].mean(axis=1)]
    # The greyer side is asphalt; the other may be soil or grass.
    saturation = [np.median((s.max(axis=1) - s.min(axis=1)) / (s.mean(axis=1) + 0.004)) for s in sides]
    inner = int(np.argmin(saturation))
    asphalt = sides[inner] + 0.002
    ratios, errors = [], []
    for share in (0.25, 0.5, 0.75):
        ground = share * flanks[inner] + (1.0 - share) * flanks[1 - inner]
        gain = (paint - ground) / asphalt
        warm = 0.5 * (gain[:, 0] + gain[:, 1])
        clear = warm > 0.12
        if clear.sum() < 5:
            return Color.UNKNOWN, 0.0
        low, ratio, high = (float(q) for q in np.percentile(gain[clear, 2] / warm[clear], [25, 50, 75]))
        ratios.append(ratio)
        errors.append((high - low) / np.sqrt(min(float(clear.sum()), 40.0) / 4.0))
    error = max(errors) + 0.5 * (max(ratios) - min(ratios))
    if max(ratios) < YELLOW_BELOW:
        return Color.YELLOW, float(np.clip((YELLOW_BELOW - max(ratios)) / (0.15 + error), 0.2, 1.0))
    if min(ratios) > YELLOW_BELOW and ratios[1] > WHITE_ABOVE:
        return Color.WHITE, float(np.clip((ratios[1] - YELLOW_BELOW) / (0.15 + error), 0.2, 1.0))
    return Color.UNKNOWN, 0.0
