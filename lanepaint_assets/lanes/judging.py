"""Whether an edited road shows the wanted lane style: five attributes, each with a reason, from measurements alone.

Called by the measured inspector's `judge`. What the painter was told never enters but as the wanted style. How an edit
is read beside its original is `edit_reading.py`'s work; here is what the readings mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.detection import Detection
from lanepaint_assets.lanes.edit_reading import COURSE_X_M, Boundary, EditReading, Reference, StyleAttribute, read_edit
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, Verdict
from lanepaint_assets.lanes.paint_filter import linear_light
from lanepaint_assets.lanes.strip import RoadStrip

Float32 = NDArray[np.float32]

# A repainted line follows an old one within this; a lane is 3 m and more.
COURSE_TOLERANCE_M = 0.5
# Lines of one lane keep their distance within this share.
PARALLEL_TOLERANCE = 0.2
# A wrong value less certain than this does not outweigh the other boundary's right one.
SURE = 0.35
# Old paint left beside a new line: asphalt's own streaks came to 0.4 m at one offset on development drives; a dash is
# 2 m and longer.
LEFTOVER_M = 1.0
# Old paint left along the line. Of the right edits of development drives all but one kept under 2.7 m, beside vehicles,
# and that one 4.2 m; where the mask ended too early it was 5 m and more.
KEPT_M = 4.6
# New dashes of the same colour may lie on old paint and look like it: the longest (6 m in 18 m) cover so much of 21 m.
KEPT_ALIKE_M = 9.0
# Asphalt of the edit is as rough as the original's within this factor; a painter that smears loses more than half.
TEXTURE_RANGE = (0.5, 2.0)
# Asphalt is compared where its grain is seen.
TEXTURE_X_M = (4.0, 14.0)
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
    original: Reference, edited: LaneInspection, found: Detection | None, wanted: LaneStyle, caption: str
) -> Verdict:
    """Verdict over the five attributes; PASS only if all passed.

    Args:
        original: its lines and ground, in the same rig frame as the edit's.
        edited, found: what was measured in the edit; `found` is None where no road can be read.
        wanted: the style to look for.
        caption: what the edit was painted from.

    Returns:
        A revised caption that repeats the wanted style and adds plain visual words for each attribute that failed; a
        caption that passed is returned as it was.
    """
    reading = read_edit(original, edited, found)
    marks = [
        _count_mark(wanted, reading, edited.reason),
        _style_mark("color", wanted.color, reading.boundaries, edited.reason),
        _style_mark("pattern", wanted.pattern, reading.boundaries, edited.reason),
        _perspective_mark(reading),
        _texture_mark(original, reading, found),
    ]
    verdicts = tuple(verdict for verdict, _ in marks)
    passed = all(v.passed for v in verdicts)
    score = float(np.mean([worth for _, worth in marks]))
    return Verdict(passed, score, verdicts, caption if passed else _revised(wanted, verdicts))


def _style_mark(
    attribute: StyleAttribute, wanted: str, boundaries: tuple[Boundary, ...], trouble: str | None
) -> tuple[AttributeVerdict, float]:
    """Every boundary that can be told must show the wanted value, and one must be told."""
    if wanted == "unknown":
        return AttributeVerdict(attribute, True, f"no {attribute} was asked for"), 1.0
    known = [value for boundary in boundaries if (value := boundary.of(attribute)).value != "unknown"]
    if not known:
        why = trouble or f"the {attribute} of the ego lane's lines cannot be told"
        return AttributeVerdict(attribute, False, f"wanted {wanted}, but {why}"), UNKNOWN_WORTH
    values = [value.value for value in known]
    if wanted == "mixed":
        differ = len(set(values)) > 1 or "mixed" in values
        text = f"the ego lane's lines are {' and '.join(values)}"
        return AttributeVerdict(attribute, differ, text if differ else f"wanted mixed, but {text}"), float(differ)
    right = [value.confidence for value in known if value.value == wanted]
    wrong = [value for value in known if value.value != wanted]
    if not wrong:
        return AttributeVerdict(attribute, True, f"the ego lane's lines are {wanted}"), 1.0
    names = " and ".join(sorted({value.value for value in wrong}))
    if right and max(value.confidence for value in wrong) < SURE:
        text = f"an ego lane line is {wanted}; the other looks {names}, but too faintly to say so"
        return AttributeVerdict(attribute, True, text), 0.5 + 0.5 * len(right) / len(known)
    reason = f"wanted {wanted}, but {len(wrong)} of {len(known)} ego lane lines are {names}"
    return AttributeVerdict(attribute, False, reason), 0.5 * len(right) / len(known)


def _count_mark(wanted: LaneStyle, reading: EditReading, trouble: str | None) -> tuple[AttributeVerdict, float]:
    """Strokes as wanted, and no old paint beside or between them."""
    leftover = max((boundary.leftover_m for boundary in reading.boundaries), default=0.0)
    if leftover > LEFTOVER_M:
        return AttributeVerdict("count", False, f"{leftover:.1f} m of old paint is left beside an ego lane line"), 0.3
    for boundary in reading.boundaries:
        if boundary.kept_m > (KEPT_ALIKE_M if boundary.kept == wanted.color else KEPT_M):
            text = f"{boundary.kept_m:.1f} m of old paint is left along an ego lane line"
            return AttributeVerdict("count", False, text), 0.3
    return _style_mark("count", wanted.count, reading.boundaries, trouble)


def _perspective_mark(reading: EditReading) -> tuple[AttributeVerdict, float]:
    """Edited lines lie where the original's lay, or, where it had none, keep their distance from each other."""
    if not reading.boundaries:
        return AttributeVerdict("perspective", False, "the edit shows no line beside the vehicle's lane"), 0.0
    if reading.lost:
        where = " and ".join(role.removeprefix("ego_") for role in reading.lost)
        return AttributeVerdict("perspective", False, f"no line is seen along the lane's {where} boundary"), 0.2
    misses = [b.off_course_m for b in reading.boundaries if b.off_course_m is not None]
    if misses:
        worst = max(misses)
        passed = worst <= COURSE_TOLERANCE_M
        text = f"the lines run within {worst:.2f} m of the original's course"
        if not passed:
            text = f"a line leaves the original's course by {worst:.2f} m (at most {COURSE_TOLERANCE_M} m)"
        return AttributeVerdict("perspective", passed, text), float(np.clip(1.5 - worst / COURSE_TOLERANCE_M, 0.0, 1.0))
    if len(reading.added) < 2:
        return AttributeVerdict("perspective", True, "one line, and no original line to compare it with"), 0.7
    x = np.linspace(*COURSE_X_M, 5)
    one, other = reading.added[:2]
    gap = one.lateral_m(x) - other.lateral_m(x)
    spread = float((gap.max() - gap.min()) / max(abs(float(gap.mean())), 0.1))
    passed = spread <= PARALLEL_TOLERANCE
    text = f"the distance of the ego lane's lines varies by {spread:.0%} along the road"
    return AttributeVerdict("perspective", passed, text), float(np.clip(1.5 - spread / PARALLEL_TOLERANCE, 0.0, 1.0))


def _texture_mark(original: Reference, reading: EditReading, found: Detection | None) -> tuple[AttributeVerdict, float]:
    """The same cells of bare road, before and after."""
    before, old_evidence, evidence = original.strip, original.evidence, reading.evidence
    if before is None or old_evidence is None or found is None or evidence is None or before.grid != found.strip.grid:
        return AttributeVerdict("texture", False, "the road cannot be read, so its texture cannot be compared"), 0.0
    bare = (evidence == 0.0) & (old_evidence == 0.0)
    x = before.grid.x_m
    rows = (x > TEXTURE_X_M[0]) & (x < TEXTURE_X_M[1])
    bare[~rows] = False
    (grain, old_usable), (new_grain, new_usable) = _grain(before, bare), _grain(found.strip, bare)
    usable = old_usable & new_usable
    if not usable.any():
        return AttributeVerdict("texture", False, "no bare road is seen, so its texture cannot be compared"), 0.0
    ratio = float(np.median(new_grain[usable])) / max(float(np.median(grain[usable])), 1e-5)
    passed = TEXTURE_RANGE[0] <= ratio <= TEXTURE_RANGE[1]
    text = f"the asphalt's fine contrast is {ratio:.2f} of the original's"
    return AttributeVerdict("texture", passed, text), float(np.clip(1.5 - abs(np.log2(max(ratio, 1e-3))), 0.0, 1.0))


def _grain(strip: RoadStrip, bare: NDArray[np.bool_]) -> tuple[Float32, NDArray[np.bool_]]:
    """How far each cell's light differs from its two neighbours' mean, and where all three are bare road.

    A slope of light, as at a shadow's soft edge, is no grain and cancels.
    """
    light = np.log(linear_light(strip.rgb).mean(axis=-1) + np.float32(0.004))
    grain = np.abs(light[:, 1:-1] - 0.5 * (light[:, 2:] + light[:, :-2]))
    good = bare & strip.seen & strip.on_road
    return grain, good[:, 1:-1] & good[:, 2:] & good[:, :-2]


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
