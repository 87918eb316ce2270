"""The `qwen2_5_vl` inspector: what it makes of answers, given by a script and by the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.geometry import assumed_camera, clip_geometry
from lanepaint_assets.lanes.inspector import LaneInspector, RoadView
from lanepaint_assets.lanes.qwen.answers import ATTRIBUTES, CAPTION_CHARACTERS
from lanepaint_assets.lanes.qwen.engine import QwenInspector
from lanepaint_assets.store.items import ItemError

WANTED = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)
CAPTION = "road with double yellow solid lane markings"
INSTRUCTION = "repaint the lines as double yellow solid ones"
NOTHING_TOLD = "I cannot say."


class Script:
    """A talker that says what it was given, in order, and keeps what it was asked."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[NDArray[np.uint8]], str, int, float]] = []
        self.loads = 1
        self.released = 0

    def ask(self, pictures: Sequence[NDArray[np.uint8]], text: str, max_new_tokens: int, temperature: float) -> str:
        self.asked.append((list(pictures), text, max_new_tokens, temperature))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self) -> None:
        self.released += 1


def frame(seed: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def view(*frames: NDArray[np.uint8], target: int = 0, known: bool = True) -> RoadView:
    height, width = frames[0].shape[:2]
    times = np.arange(len(frames), dtype=np.int64) * 125_000
    return RoadView(np.stack(frames), times, target, assumed_camera(width, height) if known else None)


def seen(**changes: str) -> str:
    return json.dumps({"seen": "two\nlines", "count": "single", "color": "white", "pattern": "dashed", **changes})


def judged(*failed: str, caption: str | None = None, **changes: Any) -> str:
    marks = {name: {"reason": f"the {name}\nof it", "passed": name not in failed} for name in ATTRIBUTES}
    verdict = "FAIL" if failed else "PASS"
    return json.dumps({**marks, "verdict": verdict, "revised_caption": caption, **changes})


def judge(script: Script, caption: str = CAPTION) -> Any:
    return QwenInspector(script).judge(view(frame(1)), view(frame(2)), WANTED, caption, INSTRUCTION)


def test_it_is_a_lane_inspector() -> None:
    inspector: LaneInspector = QwenInspector(Script())
    assert (inspector.name, inspector.version) == ("qwen2_5_vl", "1")


def test_the_judge_is_shown_original_then_edit_and_told_what_was_wanted() -> None:
    script = Script(judged())
    before, after = [frame(seed) for seed in (1, 2, 3)], [frame(7), frame(8)]
    QwenInspector(script, temperature=0.3).judge(
        view(*before, target=2), view(*after, target=1), WANTED, CAPTION, INSTRUCTION
    )
    ((pictures, text, _, temperature),) = script.asked
    np.testing.assert_array_equal(pictures, [before[2], after[1]])
    assert INSTRUCTION in text
    assert CAPTION in text
    assert "count double, color yellow, pattern solid" in text
    assert temperature == 0.3


def test_a_pass_keeps_the_caption_and_scores_one() -> None:
    verdict = judge(Script(judged(caption="another caption")))
    assert verdict.passed
    assert verdict.score == 1.0
    assert verdict.revised_caption == CAPTION
    assert [mark.attribute for mark in verdict.attributes] == list(ATTRIBUTES)


def test_a_fail_scores_the_share_of_passed_attributes_and_revises_the_caption() -> None:
    revised = "road with double yellow solid lane markings, thick saturated paint on wet asphalt"
    verdict = judge(Script(judged("color", "texture", caption=f' "{revised}"\n')))
    assert not verdict.passed
    assert verdict.score == pytest.approx(3 / 5)
    assert [mark.attribute for mark in verdict.attributes if not mark.passed] == ["color", "texture"]
    assert verdict.attributes[1].reason == "the color of it"
    assert verdict.revised_caption == revised


def test_a_revised_caption_that_forgets_what_was_wanted_is_reminded() -> None:
    verdict = judge(Script(judged("color", caption="Bright yellow paint on asphalt.")))
    assert verdict.revised_caption == f"{CAPTION}, Bright yellow paint on asphalt."


def test_a_malformed_verdict_is_asked_for_once_more_with_the_complaint() -> None:
    script = Script(judged("color", caption=None), judged("color", caption=f"{CAPTION}, yellow paint"))
    verdict = judge(script)
    assert verdict.score == pytest.approx(4 / 5)
    (first_pictures, first, *_), (second_pictures, second, *_) = script.asked
    assert second.startswith(first)
    assert "the verdict is FAIL, but revised_caption is empty" in second
    np.testing.assert_array_equal(first_pictures, second_pictures)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((NOTHING_TOLD, NOTHING_TOLD), "malformed twice: the answer must be one JSON object"),
        ((NOTHING_TOLD, judged("count", verdict="PASS")), "malformed twice: the verdict is PASS, but count did not"),
        ((judged("count"), "{}"), "malformed twice: count: Field required"),
    ],
)
def test_a_verdict_malformed_twice_is_a_fail_that_says_so(answers: tuple[str, str], reason: str) -> None:
    script = Script(*answers)
    verdict = judge(script)
    assert len(script.asked) == 2
    assert not verdict.passed
    assert verdict.score == 0.0
    assert verdict.revised_caption.startswith(CAPTION)
    assert [mark.attribute for mark in verdict.attributes] == list(ATTRIBUTES)
    assert all(not mark.passed and reason in mark.reason for mark in verdict.attributes)


def test_after_verdicts_malformed_twice_the_next_caption_is_another_one() -> None:
    captions = ["wet asphalt at dusk"]
    for _ in range(3):
        captions.append(judge(Script(NOTHING_TOLD, NOTHING_TOLD), captions[-1]).revised_caption)
    assert captions[1:3] == [f"{CAPTION}, wet asphalt at dusk", CAPTION]
    assert captions[3].startswith(f"{CAPTION}, ")
    assert len(set(captions)) == 4


@pytest.mark.parametrize("caption", [f" {CAPTION.upper()}  on wet asphalt", f"{CAPTION}. " + "x" * 600, "y " * 300])
def test_that_caption_is_another_one_whatever_was_painted_from(caption: str) -> None:
    revised = judge(Script(NOTHING_TOLD, NOTHING_TOLD), caption).revised_caption
    assert " ".join(revised.lower().split()) != " ".join(caption.lower().split())
    assert revised.startswith(CAPTION)
    assert len(revised) <= CAPTION_CHARACTERS


def test_attributes_are_read_off_the_target_frame() -> None:
    script = Script(seen())
    shown = view(frame(1), frame(2), target=1)
    inspection = QwenInspector(script).inspect(shown)
    np.testing.assert_array_equal(script.asked[0][0], [frame(2)])
    assert inspection.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)
    assert inspection.caption == "road with single white dashed lane markings"
    assert inspection.lines == ()
    assert inspection.confidence == 1.0
    assert inspection.reason is None
    assert inspection.camera is shown.camera


def test_what_the_model_cannot_tell_lowers_the_confidence_and_is_said() -> None:
    inspection = QwenInspector(Script(seen(count="unknown", color="unknown"))).inspect(view(frame(1)))
    assert inspection.confidence == pytest.approx(1 / 3)
    assert inspection.reason == "the model cannot tell the count and colour: two lines"
    assert not inspection.style.is_known


def test_malformed_attributes_are_asked_for_once_more() -> None:
    script = Script("```json", seen())
    assert QwenInspector(script).inspect(view(frame(1))).style.is_known
    assert len(script.asked) == 2


def test_attributes_malformed_twice_are_unknown() -> None:
    inspection = QwenInspector(Script(NOTHING_TOLD, seen(width="wide"))).inspect(view(frame(1)))
    assert inspection.style == UNKNOWN_STYLE
    assert inspection.confidence == 0.0
    assert inspection.reason == "the model's answer was malformed twice: width: Extra inputs are not permitted"


@pytest.mark.parametrize("count", [1, 4])
def test_an_unknown_camera_is_estimated_as_elsewhere(count: int) -> None:
    unknown = view(*(frame(seed) for seed in range(count)), known=False)
    camera = QwenInspector(Script(seen())).inspect(unknown).camera
    expected = clip_geometry(unknown.frames, unknown.timestamps_us, None, None).camera
    assert camera.quality == expected.quality
    np.testing.assert_allclose(camera.rotation, expected.rotation)


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        (f"{CAPTION} on wet asphalt", f"{CAPTION} on wet asphalt"),
        (f'"{CAPTION}."\n', f"{CAPTION}."),
        (f"Caption: {CAPTION}", CAPTION),
        (f"**Caption:** “{CAPTION}”", CAPTION),
        (f"```\n{CAPTION}\nat dusk\x07\n```", f"{CAPTION} at dusk"),
        ("The road's double, yellow, solid line.", "The road's double, yellow, solid line."),
        ("Two yellow stripes at dusk", f"{CAPTION}, Two yellow stripes at dusk"),
        ("a double-yellow solid line", "a double-yellow solid line"),
        ("", CAPTION),
        ('""', CAPTION),
    ],
)
def test_a_first_caption_is_one_line_that_says_what_is_wanted(said: str, caption: str) -> None:
    script = Script(said)
    assert QwenInspector(script).first_caption(INSTRUCTION, WANTED, frame(1)) == caption
    ((pictures, text, *_),) = script.asked
    np.testing.assert_array_equal(pictures, [frame(1)])
    assert INSTRUCTION in text


def test_what_was_not_asked_for_need_not_be_said() -> None:
    wanted = LaneStyle(Count.UNKNOWN, Color.WHITE, Pattern.UNKNOWN)
    assert QwenInspector(Script("white paint")).first_caption(INSTRUCTION, wanted, frame(1)) == "white paint"


def test_a_long_caption_ends_at_a_word() -> None:
    caption = QwenInspector(Script("asphalt, " * 200)).first_caption(INSTRUCTION, WANTED, frame(1))
    assert caption.startswith(f"{CAPTION}, asphalt, ")
    assert CAPTION_CHARACTERS - 12 <= len(caption) <= CAPTION_CHARACTERS
    assert caption.endswith("asphalt")
    endless = QwenInspector(Script("x" * 2000)).first_caption(INSTRUCTION, UNKNOWN_STYLE, frame(1))
    assert len(endless) == CAPTION_CHARACTERS


def test_an_item_that_does_not_fit_fails_for_its_own_reason() -> None:
    with pytest.raises(ItemError, match="does not fit"):
        judge(Script(ItemError("a question does not fit")))


def test_weights_are_given_back_only_where_that_was_asked_for() -> None:
    for unload, released in ((True, 1), (False, 0)):
        script = Script()
        QwenInspector(script, unload_after_use=unload).release()
        assert script.released == released


# From here on the real classes answer, with random weights: nonsense, which no parser may take for an answer.


def test_nonsense_of_the_real_model_is_a_fail_after_one_more_question(tiny_checkpoint: Path) -> None:
    inspector = QwenInspector.from_checkpoint(UPath(tiny_checkpoint), device="cpu")
    asked, ask = [], inspector._talker.ask
    inspector._talker.ask = lambda *question: (asked.append(question), ask(*question))[1]  # type: ignore[method-assign]
    verdict = inspector.judge(view(frame(1)), view(frame(2)), WANTED, CAPTION, INSTRUCTION)
    assert len(asked) == 2
    assert (verdict.passed, verdict.score) == (False, 0.0)
    assert verdict.revised_caption != CAPTION
    assert all("malformed twice" in mark.reason for mark in verdict.attributes)


def test_a_reloaded_model_writes_the_same_caption_and_other_pictures_another(tiny_checkpoint: Path) -> None:
    def caption(seed: int) -> str:
        inspector = QwenInspector.from_checkpoint(UPath(tiny_checkpoint), device="cpu", unload_after_use=True)
        said = inspector.first_caption(INSTRUCTION, WANTED, frame(seed))
        inspector.release()
        return said

    assert caption(1) == caption(1) != caption(2)
    assert caption(1).startswith(f"{CAPTION}, ")


def test_weights_are_read_once_for_many_questions_and_again_after_release(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = UPath(shutil.copytree(tiny_checkpoint, tmp_path / "qwen"))
    inspector = QwenInspector.from_checkpoint(folder, device="cpu", unload_after_use=True)
    assert inspector.loads == 0
    for seed in range(3):
        inspector.first_caption(INSTRUCTION, WANTED, frame(seed))
    assert inspector.loads == 1
    inspector.release()
    inspector.first_caption(INSTRUCTION, WANTED, frame(1))
    assert inspector.loads == 2


def test_engines_of_one_checkpoint_share_its_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = UPath(shutil.copytree(tiny_checkpoint, tmp_path / "qwen"))
    engines = [QwenInspector.from_checkpoint(folder, device="cpu") for _ in range(2)]
    assert engines[0].inspect(view(frame(1))).reason == engines[1].inspect(view(frame(1))).reason
    assert [engine.loads for engine in engines] == [1, 1]


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: there is no such checkpoint"):
        QwenInspector.from_checkpoint(UPath(tmp_path / "nowhere"), device="cpu")


def test_a_checkpoint_that_was_copied_in_part_is_refused_before_any_work(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "qwen"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* cut short"):
        QwenInspector.from_checkpoint(UPath(folder), device="cpu")
