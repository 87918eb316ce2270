"""A forest plot as SVG text: a mean and its interval a row, zero and the margin of equivalence behind them.

Called by `leaderboard.py`. Written by hand like the plots of `plots.py`, and for the same reasons.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lanepaint_assets.rendering.plots import MIN_SPAN_M, PLOT_WIDTH_PX, round_ticks, svg_open, tick_text

# A label with its interval beneath; names may be long, and a narrow window has no room beside the plot.
ROW_PX = 46
AXIS_PX = 46
EDGE_PX = 10
# Characters of a label that leave room for the note beside it in a phone's larger letters; the tooltip has them all.
MAX_LABEL = 34


@dataclass(frozen=True)
class ForestRow:
    """One comparison in metres.

    Attributes:
        label: what is compared.
        note: stands at the right end, such as `n = 117`.
        mean_m: None where there is nothing to show.
        low_m, high_m: interval, None where there is none.
        kind: colour: an effect, none beyond the margin, undecided, or a control.
    """

    label: str
    note: str
    mean_m: float | None
    low_m: float | None
    high_m: float | None
    kind: Literal["found", "small", "open", "control"]


def forest_svg(rows: Sequence[ForestRow], title: str, margin_m: float) -> str:
    """The rows under each other, mirrored so that left is left; empty text where no row has a mean.

    Args:
        rows: in the order of display.
        title: for readers who hear the page.
        margin_m: half width of the band in which an effect is called none.
    """
    ends = [end for row in rows for end in (row.mean_m, row.low_m, row.high_m) if end is not None]
    if not ends:
        return ""
    reach = max(margin_m, MIN_SPAN_M, *(abs(end) for end in ends)) * 1.12
    bottom = ROW_PX * len(rows) + 8
    height = bottom + AXIS_PX

    def across(value_m: float) -> float:
        return EDGE_PX + (1 - value_m / reach) / 2 * (PLOT_WIDTH_PX - 2 * EDGE_PX)

    parts = [svg_open(PLOT_WIDTH_PX, height, title, "dots forest")]
    left, right = across(margin_m), across(-margin_m)
    band = f"within ±{margin_m:g} m: no effect that matters"
    parts.append(
        f'<rect class="margin" x="{left:.1f}" y="4" width="{right - left:.1f}" height="{bottom - 4}">'
        f"<title>{band}</title></rect>"
    )
    for tick in round_ticks(-reach, reach, 5):
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{across(tick):.1f} 4V{bottom}"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick_text(tick)}</text>')
    for x, anchor, words in (
        (EDGE_PX, "start", "← to the left"),
        (PLOT_WIDTH_PX / 2, "middle", "m"),
        (PLOT_WIDTH_PX - EDGE_PX, "end", "to the right →"),
    ):
        parts.append(f'<text x="{x:g}" y="{height - 6}" text-anchor="{anchor}">{words}</text>')
    for number, row in enumerate(rows):
        parts += _row(row, 6 + ROW_PX * number, across)
    return "".join([*parts, "</svg>"])


def _row(row: ForestRow, top: int, across: Callable[[float], float]) -> list[str]:
    shown = row.label if len(row.label) <= MAX_LABEL else row.label[: MAX_LABEL - 1] + "…"
    label = f"<title>{html.escape(row.label)}</title>{html.escape(shown)}"
    parts = [
        f'<text class="label" x="{EDGE_PX}" y="{top + 14}">{label}</text>',
        f'<text x="{PLOT_WIDTH_PX - EDGE_PX}" y="{top + 14}" text-anchor="end">{html.escape(row.note)}</text>',
    ]
    if row.mean_m is None:
        return parts
    middle, said = top + 29, f"{row.mean_m:+.3f} m"
    if row.low_m is not None and row.high_m is not None:
        ends = (across(row.low_m), across(row.high_m))
        said += f", 95 % interval {row.low_m:+.3f} to {row.high_m:+.3f} m"
        caps = "".join(f"M{end:.1f} {middle - 5}v10" for end in ends)
        parts.append(f'<path class="whisker {row.kind}" d="M{ends[0]:.1f} {middle}H{ends[1]:.1f}{caps}"/>')
    parts.append(
        f'<rect class="mean {row.kind}" x="{across(row.mean_m) - 5:.1f}" y="{middle - 5}" width="10" height="10">'
        f"<title>{html.escape(said)}</title></rect>"
    )
    return parts
