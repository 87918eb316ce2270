"""The road's cross-section and its lane markings, by the layouts of two countries. Called by `world.py`.

Line widths and dash lengths are those of the manuals (MUTCD and RMS). Where the road goes is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lanepaint_assets.clips.sample_drive.profile import Conditions

MarkingKind = Literal["edge", "lane", "centre"]
# The words of the platform's lane attributes; as plain words, because clips come before lanes.
Count = Literal["single", "double"]
Color = Literal["white", "yellow"]
Pattern = Literal["solid", "dashed"]


@dataclass(frozen=True)
class Marking:
    """One lane line along the whole road.

    Attributes:
        d_m: lateral place of its middle.
        stroke_m: painted width of one stroke; `spacing_m` between the inner edges of a double line's strokes.
        dash_m, period_m, phase_m: painted length, repeat, and the arc length where a dash starts; 0 for solid lines.
        wear: share of the paint that is lost, on average.
    """

    d_m: float
    kind: MarkingKind
    count: Count
    color: Color
    pattern: Pattern
    stroke_m: float
    spacing_m: float
    dash_m: float
    period_m: float
    phase_m: float
    wear: float


@dataclass(frozen=True)
class Section:
    """The road's cross-section: paved from `right_m` to `left_m`, gravel beside it, the ego lane's middle and width."""

    right_m: float
    left_m: float
    gravel_m: float
    ego_lane_m: float
    lane_width_m: float
    lanes: tuple[tuple[float, int], ...]
    markings: tuple[Marking, ...]


def draw_section(conditions: Conditions, random: np.random.Generator) -> Section:
    """The cross-section and its lines, by layout. Dash lengths are those of the two countries' manuals."""
    layout = conditions.layout
    american = layout.startswith("us")
    narrow = 0.10 if american else 0.12
    dash, period = (3.05, 12.19) if american else ((6.0, 18.0) if layout == "de_autobahn" else (4.0, 12.0))
    if layout == "de_four_lane":
        dash, period = 3.0, 9.0
    lines: list[Marking] = []

    def line(d: float, kind: MarkingKind, color: Color, pattern: Pattern, count: Count, stroke: float) -> None:
        dashed = pattern == "dashed"
        lines.append(
            Marking(
                d_m=d,
                kind=kind,
                count=count,
                color=color,
                pattern=pattern,
                stroke_m=stroke,
                spacing_m=0.12 if count == "double" else 0.0,
                dash_m=dash if dashed else 0.0,
                period_m=period if dashed else 0.0,
                phase_m=float(random.uniform(0, period)) if dashed else 0.0,
                wear=float(np.clip(conditions.wear * random.uniform(0.7, 1.3), 0.02, 0.6)),
            )
        )

    def white_edge(d: float, stroke: float) -> None:
        line(d, "edge", "white", "solid", "single", stroke)

    if layout in ("us_highway", "de_autobahn"):
        count = int(random.integers(2, 4))
        width = 3.66 if american else 3.6
        edges = [-i * width for i in range(count + 1)]
        stroke = 0.15
        line(0.0, "edge", "yellow" if american else "white", "solid", "single", stroke)
        for d in edges[1:-1]:
            line(d, "lane", "white", "dashed", "single", stroke)
        white_edge(edges[-1], stroke)
        lanes = tuple((d - width / 2, 1) for d in edges[:-1])
        ego_lane = lanes[int(random.integers(len(lanes)))][0]
        return Section(
            right_m=edges[-1] - float(random.uniform(1.2, 3.0)),
            left_m=float(random.uniform(0.6, 1.4)),
            gravel_m=float(random.uniform(0.3, 1.0)),
            ego_lane_m=ego_lane,
            lane_width_m=width,
            lanes=lanes,
            markings=tuple(lines),
        )
    if layout in ("us_four_lane", "de_four_lane"):
        width = float(random.uniform(3.1, 3.4))
        center: Color = "yellow" if american else "white"
        line(0.0, "centre", center, "solid", "double", narrow)
        for side in (-1, 1):
            line(side * width, "lane", "white", "dashed", "single", narrow)
            if conditions.edge_lines:
                white_edge(side * (2 * width - 0.1), narrow)
        lanes = ((-width / 2, 1), (-1.5 * width, 1), (width / 2, -1), (1.5 * width, -1))
        edge = 2 * width + float(random.uniform(0.3, 1.5))
        return Section(
            right_m=-edge,
            left_m=edge,
            gravel_m=float(random.uniform(1.0, 3.0)),
            ego_lane_m=lanes[int(random.integers(2))][0],
            lane_width_m=width,
            lanes=lanes,
            markings=tuple(lines),
        )
    width = float(random.uniform(3.0, 3.6))
    if layout == "us_double_yellow":
        line(0.0, "centre", "yellow", "solid", "double", narrow)
    elif layout == "us_dashed_yellow":
        line(0.0, "centre", "yellow", "dashed", "single", narrow)
    elif layout == "double_white":
        line(0.0, "centre", "white", "solid", "double", narrow)
    else:
        line(0.0, "centre", "white", "dashed", "single", narrow)
    if conditions.edge_lines:
        white_edge(-width, narrow)
        white_edge(width, narrow)
    edge = width + float(random.uniform(0.15, 0.9))
    return Section(
        right_m=-edge,
        left_m=edge,
        gravel_m=float(random.uniform(0.4, 1.5)),
        ego_lane_m=-width / 2,
        lane_width_m=width,
        lanes=((-width / 2, 1), (width / 2, -1)),
        markings=tuple(lines),
    )
