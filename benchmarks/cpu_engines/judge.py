"""The measured judge on first frames of the sample drives: whether its PASS or FAIL agrees with what the picture shows.

It is asked as the first-frame step asks it: one picture, its clip, the wanted style. Asked are edits and unedited
frames, which make the figures with targets, and edits that are wrong in one way each. What is true, and by which rule,
is decided here from the renderer's truth; the judge's own measurements never enter.

- An unedited frame shows a style where every true boundary of the ego lane has it.
- An edit shows its style where its paint lies on both true boundaries and the old paint on them is gone, as far as the
  picture shows them (`_painted_right`). Lines of other lanes do not count, and what a vehicle hides does not either.
- An edit judged as another style, with its lines moved 0.8 m aside, on one side only, or with smeared asphalt is wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.cpu_engines.paint_measurement import course_of_line, offsets_of, view_of
from benchmarks.harness import Outcome
from lanepaint_assets.clips.sample_drive.truth import TrueLine
from lanepaint_assets.editing.engine import EditScene, UnpaintableSceneError
from lanepaint_assets.editing.refinement import first_frame_view
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import Verdict

Picture = NDArray[np.uint8]

SOLID, DASHED = "single_white_solid", "single_white_dashed"
PROMPTS = (SOLID, DASHED, "double_yellow_solid", "single_yellow_dashed", "double_white_solid")
ATTRIBUTES = ("count", "color", "pattern", "perspective", "texture")

TARGET_AGREES = 0.95
TARGET_FALSE_PASS = 0.02

# A boundary is judged by the solid edit, which must cover its stations, one a metre, and by the dashed one, which must
# leave bare what lies between its dashes: 3.05 m in 12.19 m are at most 4 stations a period, and blur makes one more.
COVERED = 0.8
STATIONS_PER_DASH, PERIOD_STATIONS, BLURRED_STATIONS = 4, 12.19, 1
# Fewer stations in view say nothing of a boundary.
ENOUGH_STATIONS = 5

# A whole stroke's width off even a double line, and still in the same lane.
MOVED_M = 0.8
# Wider than the grain, narrower than paint against asphalt: grain goes, edges stay.
SMEAR_PX, SMEAR_LEVELS = 15, 30.0


@dataclass
class _Answers:
    """How often truth (first) and judge (second) said PASS."""

    count: Counter[tuple[bool, bool]] = field(default_factory=Counter)

    def add(self, truth: bool, answer: bool) -> None:
        self.count[truth, answer] += 1

    @property
    def total(self) -> int:
        return self.count.total()

    @property
    def agree(self) -> int:
        return self.count[True, True] + self.count[False, False]

    @property
    def constant(self) -> int:
        """Agreements of whoever always gives the better one of the two answers."""
        true = self.count[True, True] + self.count[True, False]
        return max(true, self.total - true)


class JudgePart:
    """Collects verdicts; see the module's first lines."""

    def __init__(self) -> None:
        self._edited = {prompt: _Answers() for prompt in PROMPTS}
        self._unedited = _Answers()
        self._wrong: dict[str, _Answers] = {}
        self._attributes: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
        self._unpainted: list[str] = []

    def see(self, clip: DriveClip) -> None:
        """Judge the clip's unedited first frame and its five edits, right and wrong ones."""
        original = clip.scene.frames[0]
        for prompt in PROMPTS:
            wanted = _style(clip, prompt)
            self._unedited.add(_shows(clip.truth.lines, wanted), _judged(clip, original, wanted).passed)
        try:
            edits = {prompt: clip.first_frame(prompt).iterations[0].picture for prompt in PROMPTS}
        except UnpaintableSceneError as reason:
            self._unpainted.append(str(reason))
            return
        right = _painted_right(clip, edits)
        for prompt, edit in edits.items():
            wanted = _style(clip, prompt)
            verdict = _judged(clip, edit, wanted)
            self._edited[prompt].add(right, verdict.passed)
            if right:
                for attribute in verdict.attributes:
                    self._attributes[attribute.attribute].append(attribute.passed)
            for other in PROMPTS:
                if other != prompt:
                    self._see_wrong("edits to another style", _judged(clip, edit, _style(clip, other)))
            for defect, picture in _defects(clip.scene, edit, _shows_right(clip.truth.lines, wanted)):
                self._see_wrong(defect, _judged(clip, picture, wanted))

    def see_real(self, data: Path) -> None:
        """Real pictures come without edits whose truth is known: the inspector's part measures those."""

    def conclude(self, outcome: Outcome) -> None:
        """Agreement over edits and unedited frames, then each kind by itself."""
        edited = sum((answers.count for answers in self._edited.values()), Counter[tuple[bool, bool]]())
        both = _Answers(edited + self._unedited.count)
        if self._unpainted:
            reasons = "; ".join(sorted(set(self._unpainted)))
            outcome.skip(f"judge: edits of {len(self._unpainted)} clips", f"the painter gave none: {reasons}")
        if not both.total:
            outcome.skip("judge: agrees with truth", "no clip was seen")
            return
        outcome.add(
            f"judge: agrees with truth, edited and unedited (n={both.total})",
            both.agree / both.total,
            "share",
            "higher",
            target=TARGET_AGREES,
            baseline=both.constant / both.total,
        )
        _add_agreement(outcome, "edited", _Answers(edited))
        for prompt, answers in self._edited.items():
            _add_agreement(outcome, f"edited to {prompt}", answers)
        _add_agreement(outcome, "unedited", self._unedited)
        another = self._unedited.count[False, True] + self._unedited.count[False, False]
        # Half of a coin's answers are PASS.
        _add_false_passes(outcome, "unedited clips of another style", self._unedited.count[False, True], another)
        for defect, answers in self._wrong.items():
            _add_false_passes(outcome, defect, answers.count[False, True], answers.total, target=None)
        for name, passed in self._attributes.items():
            if passed:
                outcome.add(
                    f"judge: {name} passed of right edits (n={len(passed)})",
                    sum(passed) / len(passed),
                    "share",
                    "higher",
                )

    def _see_wrong(self, defect: str, verdict: Verdict) -> None:
        self._wrong.setdefault(defect, _Answers()).add(False, verdict.passed)


def _add_agreement(outcome: Outcome, what: str, answers: _Answers) -> None:
    if answers.total:
        outcome.add(
            f"judge: agrees with truth, {what} (n={answers.total})",
            answers.agree / answers.total,
            "share",
            "higher",
            baseline=answers.constant / answers.total,
        )


def _add_false_passes(
    outcome: Outcome, what: str, passed: int, total: int, target: float | None = TARGET_FALSE_PASS
) -> None:
    if total:
        outcome.add(f"judge: PASS on {what} (n={total})", passed / total, "share", "lower", target=target, baseline=0.5)


def _judged(clip: DriveClip, picture: Picture, wanted: LaneStyle) -> Verdict:
    scene = clip.scene
    edited = first_frame_view(scene, picture)
    return clip.platform.inspector.judge(scene.view(0), edited, wanted, wanted.caption, wanted.caption)


def _style(clip: DriveClip, prompt: str) -> LaneStyle:
    style = clip.platform.catalogue[prompt].style
    assert style is not None, f"{prompt} is a control"
    return style


def _shows(lines: tuple[TrueLine, ...], wanted: LaneStyle) -> bool:
    """Whether every true boundary of the ego lane has the wanted style."""
    return all(_is(line, wanted) for line in lines if line.role != "other")


def _shows_right(lines: tuple[TrueLine, ...], wanted: LaneStyle) -> bool:
    """Whether the right boundary has it, or there is none."""
    return all(_is(line, wanted) for line in lines if line.role == "ego_right")


def _is(line: TrueLine, wanted: LaneStyle) -> bool:
    return (line.count, line.color, line.pattern) == (str(wanted.count), str(wanted.color), str(wanted.pattern))


def _painted_right(clip: DriveClip, edits: dict[str, Picture]) -> bool:
    """Whether the clip's first-frame edits have their paint on the true boundaries and no old paint beside it.

    All prompts of a clip are painted on the same course after the same removal. The single solid edit shows the course:
    paint within a third of a metre of nearly every true station. The single dashed one shows the removal: its gaps.
    """
    source_frame = int(clip.facts.grid.source_index[0])
    for line in clip.truth.lines:
        if line.role == "other":
            continue
        course = course_of_line(line)
        view = {
            prompt: view_of(edits[prompt], clip.truth, source_frame, clip.scene.camera) for prompt in (SOLID, DASHED)
        }
        solid, dashed = offsets_of(view[SOLID], course), offsets_of(view[DASHED], course)
        if solid.looked < ENOUGH_STATIONS:
            continue
        dashes = math.ceil(dashed.looked / PERIOD_STATIONS)
        if solid.arc_m.size < COVERED * solid.looked:
            return False
        if dashed.arc_m.size > STATIONS_PER_DASH * dashes + BLURRED_STATIONS:
            return False
    return True


def _defects(scene: EditScene, edit: Picture, right_is_wanted: bool) -> Iterator[tuple[str, Picture]]:
    """Wrong versions of an edit, each with its name."""
    original, mask = scene.frames[0], scene.paint_masks[0]
    yield f"edits moved {MOVED_M} m aside", _moved(scene, edit)
    if not right_is_wanted:
        one_side = edit.copy()
        rows, columns = np.indices(mask.shape)
        pixels = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
        ground, hits = scene.camera.ground(pixels)
        right = (hits & (ground[:, 1] < 0.0)).reshape(mask.shape)
        one_side[right] = original[right]
        yield "edits of the left side only", one_side
    smeared = cv2.bilateralFilter(edit, SMEAR_PX, SMEAR_LEVELS, SMEAR_PX / 2)
    yield "edits with smeared asphalt", np.where(mask[..., None], smeared, edit).astype(np.uint8)


def _moved(scene: EditScene, edit: Picture) -> Picture:
    """The edit's road with everything on it `MOVED_M` farther right."""
    height, width = edit.shape[:2]
    rows, columns = np.indices((height, width)).astype(np.float64)
    ground, hits = scene.camera.ground(np.column_stack([columns.ravel(), rows.ravel()]))
    from_left = np.column_stack([ground[:, 0], ground[:, 1] + MOVED_M, np.zeros(len(ground))])
    pixels, seen = scene.camera.project(np.where(hits[:, None], from_left, 0.0))
    x, y = (pixels[:, i].reshape(height, width).astype(np.float32) for i in (0, 1))
    looked = cv2.remap(edit, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    on_road = scene.paint_masks[0] & (hits & seen).reshape(height, width)
    return np.where(on_road[..., None], looked, edit).astype(np.uint8)
