"""Whether an edited road shows the wanted lane style: five attributes, each with a reason, from measurements alone.

Called by the measured inspector's `judge`. What the painter was told never enters but as the wanted style; the original
picture only says where the lines were and how rough its asphalt is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.detection import Detection
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, LaneLine, Verdict
from lanepaint_assets.lanes.paint_filter import find_paint, linear_light

Float = NDArray[np.float64]

# Where courses are compared: well measured at both ends, far enough apart to show a wrong direction.
COURSE_X_M = (8.0, 24.0)
# A repainted line follows an old one within this; a lane is 3 m and more.
COURSE_TOLERANCE_M = 0.5
# Lines of one lane keep their distance within this share.
PARALLEL_TOLERANCE = 0.2
# Asphalt of the edit is as rough as the original's within this factor; a painter that smears loses more than half.
TEXTURE_RANGE = (0.5, 2.0)
# What an attribute that could not be measured is worth to the score: less than seen right, more than seen wrong.
UNKNOWN_WORTH = 0.4

_WORDS = {
    "double": "two parallel stripes side by side with a narrow gap of bare asphalt between them",
    "single": "one stripe only, with no second stripe beside it",
    "yellow": "saturated traffic yellow paint, clearly yellow and not white",
    "white": "bright clean white paint without any yellow tint",
    "solid": "continuous unbroken lines without any gaps from the foreground to the horizon",
    "dashed": "short painted dashes with long gaps of bare asphalt between them, evenly repeated",
    "perspective": "the lines follow the road and converge at the same vanishing point as the original lane lines",
    "texture": "the asphalt keeps its fine grain, cracks and shadows",
}


def judge_edit(
    original: LaneInspection,
    original_found: Detection | None,
    edited: LaneInspection,
    edited_found: Detection | None,
    wanted: LaneStyle,
    caption: str,
) -> Verdict:
    """Verdict over the five attributes; PASS only if all passed.

    A revised caption repeats the wanted style and adds plain visual words for each attribute that failed; a caption
    that passed is returned as it was.
    """
    boundaries = [line for line in edited.lines if line.role != "other"]
    marks = [
        _style_mark("count", wanted.count, [line.style.count for line in boundaries], edited.reason),
        _style_mark("color", wanted.color, [line.style.color for line in boundaries], edited.reason),
        _style_mark("pattern", wanted.pattern, [line.style.pattern for line in boundaries], edited.reason),
        _perspective_mark(original, boundaries),
        _texture_mark(original_found, edited_found),
    ]
    verdicts = tuple(verdict for verdict, _ in marks)
    passed = all(v.passed for v in verdicts)
    score = float(np.mean([worth for _, worth in marks]))
    return Verdict(passed, score, verdicts, caption if passed else _revised(wanted, verdicts))


def _style_mark(
    attribute: Literal["count", "color", "pattern"],
    wanted: str,
    seen: list[Count] | list[Color] | list[Pattern],
    trouble: str | None,
) -> tuple[AttributeVerdict, float]:
    """Every boundary that can be told must show the wanted value, and one must be told."""
    known = [str(value) for value in seen if value != "unknown"]
    if wanted == "unknown":
        return AttributeVerdict(attribute, True, f"no {attribute} was asked for"), 1.0
    if not known:
        why = trouble or f"the {attribute} of the ego lane's lines cannot be told"
        return AttributeVerdict(attribute, False, f"wanted {wanted}, but {why}"), UNKNOWN_WORTH
    if wanted == "mixed":
        differ = len(set(known)) > 1 or "mixed" in known
        text = f"the ego lane's lines are {' and '.join(known)}"
        return AttributeVerdict(attribute, differ, text if differ else f"wanted mixed, but {text}"), float(differ)
    right = known.count(wanted)
    if right == len(known):
        return AttributeVerdict(attribute, True, f"the ego lane's lines are {wanted}"), 1.0
    wrong = sorted(set(known) - {wanted})
    reason = f"wanted {wanted}, but {len(known) - right} of {len(known)} ego lane lines are {' and '.join(wrong)}"
    return AttributeVerdict(attribute, False, reason), 0.5 * right / len(known)


def _perspective_mark(original: LaneInspection, boundaries: list[LaneLine]) -> tuple[AttributeVerdict, float]:
    """Edited lines lie where the original's lay, or, where it had none, keep their distance from each other."""
    if not boundaries:
        return AttributeVerdict("perspective", False, "the edit shows no line beside the vehicle's lane"), 0.0
    x = np.linspace(*COURSE_X_M, 5)
    if original.lines:
        misses = [min(_course_miss(line, other, x) for other in original.lines) for line in boundaries]
        worst = max(misses)
        passed = worst <= COURSE_TOLERANCE_M
        text = f"the lines run within {worst:.2f} m of the original's course"
        if not passed:
            text = f"a line leaves the original's course by {worst:.2f} m (at most {COURSE_TOLERANCE_M} m)"
        return AttributeVerdict("perspective", passed, text), float(np.clip(1.5 - worst / COURSE_TOLERANCE_M, 0.0, 1.0))
    if len(boundaries) < 2:
        return AttributeVerdict("perspective", True, "one line, and no original line to compare it with"), 0.7
    gap = boundaries[0].lateral_m(x) - boundaries[1].lateral_m(x)
    spread = float((gap.max() - gap.min()) / max(abs(float(gap.mean())), 0.1))
    passed = spread <= PARALLEL_TOLERANCE
    text = f"the distance of the ego lane's lines varies by {spread:.0%} along the road"
    return AttributeVerdict("perspective", passed, text), float(np.clip(1.5 - spread / PARALLEL_TOLERANCE, 0.0, 1.0))


def _course_miss(line: LaneLine, other: LaneLine, x: Float) -> float:
    """Largest distance between two lines over the compared stretch, where both were seen."""
    low = max(line.x_range_m[0], other.x_range_m[0])
    high = min(line.x_range_m[1], other.x_range_m[1])
    both = x[(x >= low) & (x <= high)]
    if both.size < 2:
        both = x
    return float(np.abs(line.lateral_m(both) - other.lateral_m(both)).max())


def _texture_mark(original: Detection | None, edited: Detection | None) -> tuple[AttributeVerdict, float]:
    if original is None or edited is None:
        return AttributeVerdict("texture", False, "the road cannot be read, so its texture cannot be compared"), 0.0
    before, after = _roughness(original), _roughness(edited)
    ratio = after / max(before, 1e-4)
    passed = TEXTURE_RANGE[0] <= ratio <= TEXTURE_RANGE[1]
    text = f"the asphalt's fine contrast is {ratio:.2f} of the original's"
    return AttributeVerdict("texture", passed, text), float(np.clip(1.5 - abs(np.log2(max(ratio, 1e-3))), 0.0, 1.0))


def _roughness(found: Detection) -> float:
    """Typical contrast between neighbouring cells of the bare road ahead."""
    strip = found.strip
    rows = (strip.grid.x_m > 4.0) & (strip.grid.x_m < 20.0)
    columns = np.abs(strip.grid.y_m) < 3.0
    region = np.ix_(rows, columns)
    bare = strip.seen[region] & (find_paint(strip).evidence[region] == 0.0)
    light = np.log(linear_light(strip.rgb[region]).mean(axis=-1) + 0.004)
    step = np.abs(np.diff(light, axis=1))
    usable = bare[:, 1:] & bare[:, :-1]
    return float(np.median(step[usable])) if usable.any() else 0.0


def _revised(wanted: LaneStyle, verdicts: tuple[AttributeVerdict, ...]) -> str:
    values = {"count": wanted.count, "color": wanted.color, "pattern": wanted.pattern}
    extra = []
    for verdict in verdicts:
        if verdict.passed:
            continue
        word = str(values.get(verdict.attribute, verdict.attribute))
        if word in _WORDS:
            extra.append(_WORDS[word])
    return ", ".join([wanted.caption, *extra])
