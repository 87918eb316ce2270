from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.refinement import FirstFrameRequest, Refinement, refine_first_frames
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, LaneStyle
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, RoadView, Verdict
from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.store.items import ItemError, StepError
from lanepaint_assets_tests.unit.editing.road_scene import WHITE_DASHED, FlatRoad


@dataclass
class WordPainter:
    """Paints a picture whose value is the caption's length, and remembers what it was asked."""

    name = "words"
    version = "1"
    asked: list[PaintInstruction] = field(default_factory=list)
    prepared: list[tuple[str, ...]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)

    def prepare(self, captions: Sequence[str]) -> None:
        self.prepared.append(tuple(captions))
        if "prepare" in self.broken:
            raise self.broken["prepare"]

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        self.asked.append(instruction)
        self.order.append(f"paint {scene.item_key}")
        if scene.item_key in self.broken:
            raise self.broken[scene.item_key]
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
    order: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)

    def inspect(self, view: RoadView) -> LaneInspection:
        return LaneInspection((), UNKNOWN_STYLE, 0.0, FlatRoad().camera, "not asked for")

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        return wanted.caption

    def release(self) -> None: ...

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        self.order.append(f"judge {instruction}")
        if instruction in self.broken:
            raise self.broken[instruction]
        self.judged.append(int(edited.frames[0, 0, 0, 0]))
        self.views.append((original, edited))
        passed, score, revised = self.answers[len(self.judged) - 1]
        return Verdict(passed, score, (AttributeVerdict("color", passed, "seen"),), revised)


def request(item_key: str = "a.b") -> FirstFrameRequest:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    masks = np.zeros((2, 8, 8), np.bool_)
    masks[:, 4:, 4:] = True
    road = FlatRoad()
    scene = EditScene(item_key, frames, np.array([0, 125_000]), masks, road.camera, road.ego(1.0))
    return FirstFrameRequest(scene, PaintInstruction(WHITE_DASHED, "first words", "us", 5), WHITE_DASHED, item_key)


def refined(*answers: tuple[bool, float, str], most: int = 10) -> tuple[Refinement, WordPainter, ScriptedInspector]:
    painter, inspector = WordPainter(), ScriptedInspector(list(answers))
    [(_, result)] = refine_first_frames([request()], painter, inspector, most)
    assert isinstance(result, Refinement)
    return result, painter, inspector


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


def of_three(
    answers: list[tuple[bool, float, str]],
    painting: dict[str, Exception] | None = None,
    judging: dict[str, Exception] | None = None,
) -> tuple[dict[str, Refinement | Exception], list[str], WordPainter]:
    order: list[str] = []
    painter = WordPainter(order=order, broken=painting or {})
    inspector = ScriptedInspector(answers, order=order, broken=judging or {})
    requests = [request(key) for key in ("a", "b", "c")]
    results = {one.scene.item_key: result for one, result in refine_first_frames(requests, painter, inspector)}
    return results, order, painter


def test_painter_and_judge_take_turns_once_an_iteration_for_all_that_still_fail():
    passing, failing = (True, 1.0, ""), (False, 0.3, "other words")
    results, order, painter = of_three([passing, failing, passing, passing])
    assert order == ["paint a", "paint b", "paint c", "judge a", "judge b", "judge c", "paint b", "judge b"]
    assert painter.prepared == [("first words",) * 3, ("other words",)]
    assert all(isinstance(result, Refinement) and result.passed for result in results.values())


def test_a_finished_picture_is_told_before_the_next_iteration_begins():
    painter = WordPainter()
    inspector = ScriptedInspector([(True, 1.0, ""), (False, 0.3, "more"), (True, 1.0, "")])
    told = refine_first_frames([request("a"), request("b")], painter, inspector)
    first, _ = next(told)
    assert first.scene.item_key == "a"
    assert len(painter.asked) == 2


@pytest.mark.parametrize("where", ["painting", "judging"])
def test_what_is_raised_for_one_picture_is_its_own(where: str):
    trouble = ItemError("no lane to paint")
    results, _, _ = of_three([(True, 1.0, "")] * 3, **{where: {"b": trouble}})
    assert results["b"] is trouble
    assert isinstance(results["a"], Refinement)
    assert isinstance(results["c"], Refinement)


def test_what_stops_the_step_is_not_taken_for_one_picture_s_trouble():
    with pytest.raises(StepError, match="no checkpoint"):
        of_three([(True, 1.0, "")] * 3, painting={"b": StepError("no checkpoint")})


def test_the_judge_sees_the_picture_as_it_is_composited_and_that_is_what_is_kept():
    inspector = ScriptedInspector([(True, 1.0, "")])
    [(_, result)] = refine_first_frames([request()], WordPainter(), inspector, edges=MaskEdges(0, 0))
    assert isinstance(result, Refinement)
    picture = result.picture[..., 0]
    assert (picture[4:, 4:] == len("first words")).all()
    assert (picture[:4] == 0).all()
    assert np.array_equal(inspector.views[0][1].frames[0], result.picture)


def test_captions_that_cannot_be_read_together_do_not_fail_the_pictures():
    results, order, _ = of_three([(True, 1.0, "")] * 3, painting={"prepare": ItemError("no memory for the text")})
    assert all(isinstance(result, Refinement) for result in results.values())
    assert order[:3] == ["paint a", "paint b", "paint c"]


def test_a_kept_error_holds_no_pictures():
    trouble = ItemError("no lane to paint")
    trouble.__cause__ = ValueError("inner")
    results, _, _ = of_three([(True, 1.0, "")] * 3, painting={"b": trouble})
    kept = results["b"]
    assert isinstance(kept, ItemError)
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
