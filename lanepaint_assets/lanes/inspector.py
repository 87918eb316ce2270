"""The `LaneInspector` role: what it is given, what it answers. Engines implement it; stages only know this page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
LineRole = Literal["ego_left", "ego_right", "other"]


@dataclass(frozen=True)
class RoadView:
    """Pictures of a road and what is known of the camera.

    Attributes:
        frames: (T, H, W, 3) sRGB uint8; T = 1 is a single picture.
        timestamps_us: (T,) int64, when each frame was taken.
        target_index: the frame that the answer is about.
        camera: None where nothing is known: the engine estimates one.
        ego: None where nothing is known: the engine estimates it, or does without for single pictures.
        road_masks: (T, H, W) bool, True on road, or None where no segmentation was run.
    """

    frames: NDArray[np.uint8]
    timestamps_us: NDArray[np.int64]
    target_index: int
    camera: RigCamera | None = None
    ego: Egomotion | None = None
    road_masks: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class LaneLine:
    """One measured line.

    Attributes:
        role: which boundary of the ego lane, or another line.
        coefficients: (4,) of y = c0 + c1 x + c2 x^2 + c3 x^3 in the rig frame at the target frame, metres.
        x_range_m: where the line was seen, rig x.
        polyline_px: (N, 2) its course in the target frame.
        style: measured attributes, `unknown` where it cannot tell.
        confidence: 0..1, that a line is there.
        style_confidence: 0..1, of the least certain known attribute.
        width_m: painted width of one stroke; NaN where it could not be measured.
        dash_m, period_m, phase_m: painted length, repeat and start of a dash along rig x at the target frame; NaN where
            the line is not dashed or could not be measured.
        covariance: (4, 4) of the coefficients, where the engine measures it: how far the course may be off.
    """

    role: LineRole
    coefficients: Float
    x_range_m: tuple[float, float]
    polyline_px: Float
    style: LaneStyle
    confidence: float
    style_confidence: float
    width_m: float
    dash_m: float
    period_m: float
    phase_m: float
    covariance: Float | None = None

    def lateral_m(self, x_m: Float) -> Float:
        """Rig y of the line at rig x, metres, left positive."""
        return np.polynomial.polynomial.polyval(x_m, self.coefficients).astype(np.float64)


@dataclass(frozen=True)
class LaneInspection:
    """All lines of one frame, and the road's style summed up over the ego lane's boundaries.

    `reason` says why `lines` is empty or why the confidence is low; None where all is well.
    """

    lines: tuple[LaneLine, ...]
    style: LaneStyle
    confidence: float
    camera: RigCamera
    reason: str | None = None

    @property
    def caption(self) -> str:
        return self.style.caption


@dataclass(frozen=True)
class AttributeVerdict:
    """Whether one attribute of the edit is as wanted, and why."""

    attribute: Literal["count", "color", "pattern", "perspective", "texture"]
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The judge's answer: PASS only if every attribute passed; `score` 0..1 ranks failed attempts."""

    passed: bool
    score: float
    attributes: tuple[AttributeVerdict, ...]
    revised_caption: str


class LaneInspector(Protocol):
    """Measures lane markings, words captions, judges edits. One instance serves all items of a step."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def inspect(self, view: RoadView) -> LaneInspection:
        """Measure the lines of `view.frames[view.target_index]`. Never raises for a road it cannot read."""
        ...

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        """Word the caption that a painter starts from, given the instruction and the (H, W, 3) frame."""
        ...

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        """Decide from the pixels of `edited` alone whether it shows `wanted`.

        Args:
            original: for texture and place.
            edited: what is judged, at its target frame.
            wanted: the style that the edit asks for.
            caption: the words that the painter was given; what a FAIL revises.
            instruction: the edit in words, for engines that read.
        """
        ...

    def release(self) -> None:
        """The step has asked its last question: give a large model's memory back. The next call reads it again."""
        ...
