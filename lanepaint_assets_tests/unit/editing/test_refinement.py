from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.refinement import Refinement, refine_first_frame
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, LaneStyle
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, RoadView, Verdict
from lanepaint_assets_tests.unit.editing.road_scene import WHITE_DASHED, FlatRoad


@dataclass
class WordPainter:
    """Paints a picture whose value is the caption's length, and remembers what it was asked."""

    name = "words"
    version = "1"
    asked: list[PaintInstruction] = field(default_factory=list)

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        self.asked.append(instruction)
        return np.full(scene.frames.shape[1:], len(instruction.caption) % 256, np.uint8)

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:
        return ()


@dataclass
class ScriptedInspector:
    """Gives one (passed, score, revised caption) after the other."""

    answers: list[tuple[bool, float, str]]
    name = "scripted"
    version = "1"
    judged: list[int] = field(default_factory=list)
    views: list[tuple[RoadView, RoadView]] = field(default_factory=list)

    def inspect(self, view: RoadView) -> LaneInspection:
        return LaneInspection((), UNKNOWN_STYLE, 0.0, FlatRoad().camera, "not asked for")

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        return wanted.caption

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str) -> Verdict:
        self.judged.append(int(edited.frames[0, 0, 0, 0]))
        self.views.append((original, edited))
        passed, score, revised = self.answers[len(self.judged) - 1]
        return Verdict(passed, score, (AttributeVerdict("color", passed, "seen"),), revised)


def refined(*answers: tuple[bool, float, str], most: int = 10) -> tuple[Refinement, WordPainter, ScriptedInspector]:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    road = FlatRoad()
    scene = EditScene("a.b", frames, np.array([0, 125_000]), frames[..., 0] > 0, road.camera, road.ego(1.0))
    painter, inspector = WordPainter(), ScriptedInspector(list(answers))
    instruction = PaintInstruction(WHITE_DASHED, "first words", "us", 5)
    return refine_first_frame(scene, instruction, WHITE_DASHED, painter, inspector, most), painter, inspector


def test_the_loop_ends_at_the_first_pass_and_takes_that_picture():
    result, painter, _ = refined((False, 0.9, "second"), (True, 0.5, "x"))
    assert (result.passed, result.chosen, result.stopped_because) == (True, 1, "passed")
    assert [i.caption for i in painter.asked] == ["first words", "second"]
    assert result.picture[0, 0, 0] == len("second")


def test_the_seed_stays_the_same_while_the_caption_changes():
    _, painter, _ = refined((False, 0.1, "second"), (True, 1.0, ""))
    assert {i.seed for i in painter.asked} == {5}


def test_without_a_pass_the_best_scored_attempt_is_taken_and_it_says_so():
    result, _, _ = refined((False, 0.2, "b"), (False, 0.7, "c"), (False, 0.7, "d"), most=3)
    assert (result.passed, result.chosen, result.stopped_because) == (False, 1, "iterations_used_up")
    assert result.caption == "b"


def test_a_caption_seen_before_ends_the_loop_however_it_is_spaced_and_cased():
    result, painter, _ = refined((False, 0.2, "second"), (False, 0.1, " First  WORDS "))
    assert result.stopped_because == "caption_repeated"
    assert len(painter.asked) == 2
    assert result.chosen == 0


def test_the_judge_sees_the_painted_picture():
    _, _, inspector = refined((True, 1.0, ""))
    assert inspector.judged == [len("first words")]


def test_the_json_form_tells_every_attempt_its_picture_and_the_choice():
    result, _, _ = refined((False, 0.2, "b"), (True, 0.9, ""))
    content = json.loads(json.dumps(result.to_json(("0.png", "1.png"))))
    assert (content["passed"], content["chosen_iteration"]) == (True, 1)
    assert [(i["picture"], i["verdict"]) for i in content["iterations"]] == [("0.png", "FAIL"), ("1.png", "PASS")]
    assert content["iterations"][0]["attributes"] == [{"attribute": "color", "passed": False, "reason": "seen"}]
    with pytest.raises(ValueError, match="picture names"):
        result.to_json(("0.png",))


def test_less_than_one_attempt_is_refused():
    with pytest.raises(ValueError, match="at least one attempt"):
        refined(most=0)


def test_the_judge_sees_the_whole_original_clip_and_one_edited_picture_of_the_same_moment():
    _, _, inspector = refined((False, 0.2, "second"), (True, 1.0, ""))
    for original, edited in inspector.views:
        assert (len(original.frames), original.target_index) == (2, 0)
        assert (len(edited.frames), edited.target_index) == (1, 0)
        assert edited.timestamps_us[0] == original.timestamps_us[0]
        assert edited.camera is original.camera
        assert edited.ego is original.ego
        assert edited.road_masks is not None
    first, second = inspector.views
    assert first[0].frames is second[0].frames
