"""The report's plots as SVG text: dots by prompt, and the trajectories of one item from above.

Called by `report.py`; the inset shares its ticks. Written by hand instead of with matplotlib: a chunk has hundreds of
these, they must follow the page's light and dark scheme through its CSS classes, and equal input must give equal text.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

ROW_PX, PLOT_WIDTH_PX = 48, 520
# Characters of a prompt key that fit over a plot on a phone.
MAX_LABEL = 52
BIRDS_EYE_WIDTH_PX, BIRDS_EYE_HEIGHT_PX = 260, 300
MARGIN_PX = 34
# Waypoints 0.2 s apart lie a few pixels apart, and a page of 600 items is half as large.
WAYPOINT_STEP = 2
# More lines cannot be told apart at this size, and with 64 samples they would be a third of the page.
MAX_DRAWN_SAMPLES = 16
# Half a lane to either side at least, so that centimetres of noise do not look like a lane change.
MIN_HALF_WIDTH_M = 2.5
MIN_SPAN_M = 0.1


@dataclass(frozen=True)
class Dot:
    """One clip's figure in metres, and what its tooltip says."""

    value_m: float
    label: str


@dataclass(frozen=True)
class Estimate:
    """A mean over clips in metres, and its interval where there is one."""

    mean_m: float
    low_m: float | None = None
    high_m: float | None = None


@dataclass(frozen=True)
class DotRow:
    """All clips of one prompt, and what they say together; without an estimate a bar stands at their median."""

    label: str
    dots: tuple[Dot, ...]
    is_control: bool
    estimate: Estimate | None = None


def paired_deltas_svg(rows: Sequence[DotRow]) -> str:
    """Change of minADE by prompt, a dot a clip and a bar at the median; empty text where there is no figure."""
    return _dot_plot(rows, "Change of minADE by prompt", "edited − original, m (right of 0: worse)")


def lateral_effect_svg(rows: Sequence[DotRow]) -> str:
    """Sideways effect by edit, mirrored so that left is left; empty text where there is no figure."""
    return _dot_plot(rows, "Sideways effect at 3 s by edit", "← to the left · metres · to the right →", mirrored=True)


def trajectories_svg(
    original_m: Float, edited_m: Float, gt_future_m: Float | None, history_m: Float | None, name: str
) -> str:
    """The paths of one item from above, travel upwards, left to the left; lateral distances are stretched to fit.

    Args:
        original_m, edited_m: (K, 64, 3) rig frame at t0; the first `MAX_DRAWN_SAMPLES` are drawn.
        gt_future_m: (64, 3) or None.
        history_m: (16, 3) or None.
        name: of the item, for readers who hear the page.
    """
    origin = np.zeros((1, 3))
    drawn = slice(WAYPOINT_STEP - 1, None, WAYPOINT_STEP)
    groups: list[tuple[str, list[Float]]] = [
        ("history", [] if history_m is None else [history_m]),
        ("gt", [] if gt_future_m is None else [np.vstack([origin, gt_future_m[drawn]])]),
        ("original", [np.vstack([origin, sample[drawn]]) for sample in original_m[:MAX_DRAWN_SAMPLES]]),
        ("edited", [np.vstack([origin, sample[drawn]]) for sample in edited_m[:MAX_DRAWN_SAMPLES]]),
    ]
    points = np.vstack([origin, *(line for _, lines in groups for line in lines)])
    points = points[np.isfinite(points).all(axis=1)]
    ahead, behind = max(10.0, float(points[:, 0].max())) * 1.04, max(2.0, -float(points[:, 0].min())) * 1.04
    half = max(MIN_HALF_WIDTH_M, float(np.abs(points[:, 1]).max())) * 1.1
    width, height = BIRDS_EYE_WIDTH_PX - MARGIN_PX - 8, BIRDS_EYE_HEIGHT_PX - MARGIN_PX - 8

    def place(line: Float) -> Float:
        across = MARGIN_PX + (0.5 - line[:, 1] / (2 * half)) * width
        return np.stack([across, 8 + (ahead - line[:, 0]) / (ahead + behind) * height], axis=1)

    parts = [svg_open(BIRDS_EYE_WIDTH_PX, BIRDS_EYE_HEIGHT_PX, f"Trajectories from above: {name}", "birds-eye")]
    for x_m in round_ticks(-behind, ahead, 5):
        y = float(place(np.array([[x_m, 0.0, 0.0]]))[0, 1])
        parts.append(f'<path class="grid" d="M{MARGIN_PX} {y:.1f}h{width}"/>')
        parts.append(f'<text x="{MARGIN_PX - 4}" y="{y + 3.5:.1f}" text-anchor="end">{tick_text(x_m)}</text>')
    for y_m in round_ticks(-half, half, 4):
        x = float(place(np.array([[0.0, y_m, 0.0]]))[0, 0])
        parts.append(f'<path class="{"zero" if y_m == 0 else "grid"}" d="M{x:.1f} 8v{height}"/>')
        parts.append(f'<text x="{x:.1f}" y="{8 + height + 13}" text-anchor="middle">{tick_text(y_m)}</text>')
    parts.append(f'<text x="{MARGIN_PX + width}" y="{BIRDS_EYE_HEIGHT_PX - 3}" text-anchor="end">lateral, m</text>')
    parts.append('<text x="4" y="9">ahead, m</text>')
    for kind, lines in groups:
        parts += [f'<path class="line {kind}" d="{_path(place(line))}"/>' for line in lines]
    return "".join([*parts, "</svg>"])


def _dot_plot(rows: Sequence[DotRow], title: str, axis: str, *, mirrored: bool = False) -> str:
    values = [dot.value_m for row in rows for dot in row.dots]
    if not values:
        return ""
    values += [
        end for row in rows if row.estimate for end in (row.estimate.low_m, row.estimate.high_m) if end is not None
    ]
    low, high = min(0.0, *values), max(0.0, *values)
    pad = max(MIN_SPAN_M, high - low) * 0.08
    low, high = low - pad, high + pad
    bottom = ROW_PX * len(rows) + 6
    height = bottom + 42

    def across(value: float) -> float:
        share = (value - low) / (high - low)
        return 6 + (1 - share if mirrored else share) * (PLOT_WIDTH_PX - 12)

    parts = [svg_open(PLOT_WIDTH_PX, height, title, "dots")]
    for tick in round_ticks(low, high, 5):
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{across(tick):.1f} 4V{bottom}"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick_text(tick)}</text>')
    parts.append(f'<text x="{PLOT_WIDTH_PX / 2:.1f}" y="{height - 6}" text-anchor="middle">{axis}</text>')
    for number, row in enumerate(rows):
        parts += _dot_row(row, 6 + ROW_PX * number, across)
    return "".join([*parts, "</svg>"])


def _dot_row(row: DotRow, top: int, across: Callable[[float], float]) -> list[str]:
    """The row's name with its dots beneath: a name may be long, and a narrow window has no room beside the plot."""
    kind = "control" if row.is_control else "edit"
    shown = row.label if len(row.label) <= MAX_LABEL else row.label[: MAX_LABEL - 1] + "…"
    suffix = "" if row.dots else ": no figure"
    label = f"<title>{html.escape(row.label)}</title>{html.escape(shown)}{suffix}"
    parts = [f'<text class="label" x="6" y="{top + 14}">{label}</text>']
    middle = top + 31
    if row.estimate is not None and row.dots:
        parts += _estimate(row.estimate, kind, middle, across)
    elif row.dots:
        median = across(float(np.median([dot.value_m for dot in row.dots])))
        parts.append(f'<path class="median {kind}" d="M{median:.1f} {middle - 10}v20"/>')
    for order, dot in enumerate(row.dots):
        # Spread by order, not at random: the same report is the same file.
        y = middle + (order % 5 - (min(5, len(row.dots)) - 1) / 2) * 3.2
        parts.append(
            f'<circle class="dot {kind}" cx="{across(dot.value_m):.1f}" cy="{y:.1f}" r="4">'
            f"<title>{html.escape(dot.label)}: {dot.value_m:+.2f} m</title></circle>"
        )
    return parts


def _estimate(estimate: Estimate, kind: str, middle: float, across: Callable[[float], float]) -> list[str]:
    """A bar at the mean, and a line along the interval that the dots stand on."""
    mean = across(estimate.mean_m)
    parts = [f'<path class="median {kind}" d="M{mean:.1f} {middle - 12}v24"/>']
    if estimate.low_m is not None and estimate.high_m is not None:
        start, end = sorted((across(estimate.low_m), across(estimate.high_m)))
        parts.append(f'<path class="interval {kind}" d="M{start:.1f} {middle}H{end:.1f}"/>')
    return parts


def svg_open(width: int, height: int, title: str, kind: str) -> str:
    """The opening tag of a picture of a CSS class, with its title for readers who hear the page."""
    escaped = html.escape(title)
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escaped}"><title>{escaped}</title>'
    )


def _path(points: Float) -> str:
    finite = points[np.isfinite(points).all(axis=1)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in finite) if len(finite) else ""


def tick_text(value: float) -> str:
    """A round number with a true minus sign."""
    return f"{value:g}".replace("-", "−")


def round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most about `wanted` of them."""
    raw = (high - low) / wanted
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(float(m * power) for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [round(n * step, 10) for n in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
