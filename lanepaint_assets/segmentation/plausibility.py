"""Whether what an engine calls road can be road: a confidence, and the reason where it is low.

Called by the segmentation stage and the command line, after any engine and the clean-up. It judges, and changes no
mask. Engines answer where the road is, if there is one; that there is none (sky, a camera upside down, night, noise) is
told here, from what road and sky are like in every forward camera.

Each doubt is a ramp between two figures. Over 100 street, highway, forest and rendered pictures with roads were at the
harmless side of every ramp, and the same pictures turned upside down, their upper thirds, and noise at the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.road_appearance import Float, log_brightness

WIDTH_PX = 320
# A clip is judged by so many of its frames: the doubts concern what all of them show.
JUDGED_FRAMES = 12
# The picture above this share of the height is sky, trees or houses.
UPPER_SHARE = 0.3

# Spread of log brightness over the picture: real ones have 0.2 and more, a lens cap 0.01.
FLAT = (0.06, 0.02)
# Share of the gradients that is left after averaging 3 x 3 pixels: 0.69 and more in pictures, 0.5 in pure noise; and
# their mean, 0.03 to 0.05 in pure noise, since the faint noise of a clean picture is all that its plain areas have.
NOISY, STRONG = (0.62, 0.54), (0.01, 0.02)
# Log ratio of blue to red, and log brightness against the brightest tenth of the picture: blue sky is both bluer and
# brighter than roads, which shade makes blue and overcast skies make bright.
BLUE, BRIGHT = (0.20, 0.30), (-0.35, -0.20)
# Log brightness against the upper part: roads are darker than the sky, but brighter than trees, which are rough.
BRIGHTER, UPPER_ROUGH = (0.02, 0.18), (0.08, 0.04)
# Median gradient of log brightness: asphalt has 0.01 to 0.04, trees 0.12.
ROUGH = (0.06, 0.09)
# Width of the mask's uppermost quarter against its width before the car: a road narrows.
WIDE = (0.80, 0.90)


@dataclass(frozen=True)
class Plausibility:
    """A judgement on a clip's road masks.

    Attributes:
        confidence: 0 to 1, that the masks show a road; the settings say from where on masks are used.
        reason: the largest doubt, a clause; empty where there is none.
    """

    confidence: float
    reason: str

    @property
    def refusal(self) -> str:
        """What people are told where the masks are not used: the reason, the figure and the remedy."""
        return (
            f"{self.reason} (confidence {self.confidence:.2f} that a road was found; a lower "
            "LANEPAINT_MIN_ROAD_CONFIDENCE takes it anyway)"
        )


def road_plausibility(frames: NDArray[np.uint8], road: NDArray[np.bool_]) -> Plausibility:
    """Judge road masks by what they cover.

    Args:
        frames: (T, H, W, 3) sRGB; a single picture has T = 1.
        road: (T, H, W) road masks, cleaned.

    Raises:
        ValueError: frames and masks do not belong together, or there are none.
    """
    if frames.shape[:3] != road.shape or frames.shape[0] == 0:
        raise ValueError(f"frames {frames.shape} and masks {road.shape} do not belong to one clip with frames")
    chosen = np.unique(np.linspace(0, len(frames) - 1, JUDGED_FRAMES).round().astype(int))
    doubts: dict[str, list[float]] = {}
    for index in chosen:
        for reason, doubt in _doubts(frames[index], road[index]):
            doubts.setdefault(reason, []).append(doubt)
    # A frame that raised no such doubt (an empty mask raises few) counts for none.
    median = {
        reason: float(np.median(values + [0.0] * (len(chosen) - len(values)))) for reason, values in doubts.items()
    }
    reason, doubt = max(median.items(), key=lambda entry: entry[1])
    confidence = 1.0 - doubt
    return Plausibility(confidence, reason if doubt > 0.0 else "")


def _doubts(frame: NDArray[np.uint8], road: NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
    """Every doubt about one frame with its size, 0 to 1; the first names of equal ones are the plainest."""
    height, width = (max(1, round(size * min(1.0, WIDTH_PX / frame.shape[1]))) for size in frame.shape[:2])
    picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    inside = cv2.resize(road.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    luma = log_brightness(picture)
    yield "the picture is of one brightness: a covered lens, darkness or fog", _ramp(float(luma.std()), FLAT)
    yield "the picture is noise", _noise(luma)
    yield "no road was found", float(not inside.any())
    upper = ~inside
    upper[int(UPPER_SHARE * height) :] = False
    if not inside.any() or not upper.any():
        return
    gradient = np.hypot(*(cv2.Sobel(luma, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0)))
    logs = np.log(cv2.blur(picture, (3, 3)).astype(np.float32) + 12)
    blue = float((logs[..., 2] - logs[..., 0])[inside].mean())
    bright = float(np.median(luma[inside]) - np.percentile(luma, 90))
    yield "what looked most like a road is as blue and bright as the sky", _ramp(blue, BLUE) * _ramp(bright, BRIGHT)
    brighter = float(luma[inside].mean() - luma[upper].mean())
    yield (
        "the lower part of the picture is brighter than the smooth upper part: upside down, at night, or sky alone",
        _ramp(brighter, BRIGHTER) * _ramp(float(np.median(gradient[upper])), UPPER_ROUGH),
    )
    yield (
        "what looked most like a road is as rough as trees or walls",
        _ramp(float(np.median(gradient[inside])), ROUGH),
    )
    yield "what looked most like a road does not narrow with distance", _ramp(_top_width(inside), WIDE)


def _noise(luma: Float) -> float:
    """0 to 1: how much the horizontal gradients of log brightness are those of noise."""
    if luma.shape[1] < 2:
        return 0.0
    before, after = (float(np.abs(np.diff(field, axis=1)).mean()) for field in (luma, cv2.blur(luma, (3, 3))))
    return _ramp(after / max(before, 1e-6), NOISY) * _ramp(before, STRONG)


def _top_width(inside: NDArray[np.bool_]) -> float:
    """Mean width of a mask's uppermost quarter, as a share of its mean width at 85 to 95 % of the height."""
    height = inside.shape[0]
    widths = inside.sum(axis=1)
    rows = np.flatnonzero(widths)
    before_car = widths[int(0.85 * height) : max(int(0.95 * height), int(0.85 * height) + 1)].mean()
    top = widths[rows[0] : rows[0] + max(1, (rows[-1] - rows[0]) // 4)].mean()
    return float(top / max(before_car, 1.0))


def _ramp(value: float, ends: tuple[float, float]) -> float:
    """0 at and before the first end, 1 at and beyond the second; ends may fall."""
    start, end = ends
    return float(np.clip((value - start) / (end - start), 0.0, 1.0))
