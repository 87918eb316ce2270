"""Who may judge an edit a second time, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.evaluation.independent_verdict import judge_video, refined_by
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.geometry import assumed_camera
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, RoadView, Verdict
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings

YELLOW = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)
WHITE = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)


class BrightnessInspector:
    """Reads yellow in dark frames and white in bright ones, and notes what it was asked about."""

    name, version = "brightness", "7"

    def __init__(self) -> None:
        self.judged: list[tuple[int, int]] = []

    def inspect(self, view: RoadView) -> LaneInspection:
        dark = view.frames[view.target_index].mean() < 128
        return LaneInspection((), YELLOW if dark else WHITE, 0.9, assumed_camera(32, 16))

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        raise AssertionError("a verdict needs no new caption")

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        assert original.target_index == edited.target_index
        self.judged.append((edited.target_index, len(edited.frames)))
        passed = self.inspect(edited).style == wanted
        reason = "as wanted" if passed else "the lines are white"
        return Verdict(passed, float(passed), (AttributeVerdict("color", passed, reason),), caption)

    def release(self) -> None: ...


def view(levels: Sequence[int]) -> RoadView:
    frames = np.broadcast_to(np.array(levels, dtype=np.uint8)[:, None, None, None], (len(levels), 16, 32, 3))
    return RoadView(frames, np.arange(len(levels), dtype=np.int64) * 125_000, 0)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("procedural 3 + measured 3", "measured"),
        ("flux_fill 1 + qwen2_5_vl 1", "qwen2_5_vl"),
        ("imported", None),
        (None, None),
    ],
)
def test_a_first_frames_engines_say_who_refined_it(label: str | None, name: str | None) -> None:
    assert refined_by(label) == name


def test_the_whole_video_is_judged_at_moments_beyond_the_first_frame() -> None:
    inspector = BrightnessInspector()
    verdict = judge_video(inspector, "brightness 7", view([200] * 21), view([50] * 21), YELLOW, "paint it yellow")
    assert inspector.judged == [(4, 21), (10, 21), (16, 21)]
    assert verdict.agrees is True
    assert verdict.inspector == "brightness 7"
    assert verdict.found == "road with double yellow solid lane markings"
    assert verdict.text == "brightness 7 finds the wanted style at 3 of 3 moments of the video"


def test_an_edit_that_is_lost_after_its_first_frame_is_not_agreed_with_and_the_reason_is_told() -> None:
    levels = [50] * 6 + [220] * 15
    verdict = judge_video(BrightnessInspector(), "brightness 7", view([200] * 21), view(levels), YELLOW, "yellow")
    assert verdict.agrees is False
    assert verdict.found == "road with single white dashed lane markings"
    assert verdict.text == ("brightness 7 finds the wanted style at 1 of 3 moments of the video: the lines are white")


def test_a_video_of_one_frame_is_judged_once() -> None:
    inspector = BrightnessInspector()
    assert judge_video(inspector, "brightness 7", view([200]), view([50]), YELLOW, "yellow").agrees is True
    assert inspector.judged == [(0, 1)]


def platform(tmp_path: Path, verifying_inspector: Literal["measured", "qwen2_5_vl"] = "measured") -> Platform:
    return Platform(Settings(root=str(tmp_path), verifying_inspector=verifying_inspector))


def test_measured_does_not_verify_what_it_refined(tmp_path: Path) -> None:
    assert platform(tmp_path).verifier("measured") is None


def test_measured_verifies_what_another_inspector_refined_and_what_nobody_did(tmp_path: Path) -> None:
    for refiner in ("qwen2_5_vl", None):
        verifier = platform(tmp_path).verifier(refiner)
        assert verifier is not None
        assert verifier.label.startswith("measured ")
        assert verifier.checkpoints == {}
        assert verifier.load().name == "measured"


def test_an_inspector_with_weights_is_only_asked_where_its_checkpoint_lies(tmp_path: Path) -> None:
    chosen = platform(tmp_path, verifying_inspector="qwen2_5_vl")
    assert chosen.verifier("measured") is None
    fallback = chosen.verifier(None)
    assert fallback is not None
    assert fallback.label.startswith("measured ")
    folder = tmp_path / "checkpoints" / CHECKPOINT_FOLDERS["qwen_vl_checkpoint"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    found = chosen.verifier("measured")
    assert found is not None
    assert found.label.startswith("qwen2_5_vl ")
    assert set(found.checkpoints) == {"qwen_vl_checkpoint"}
    assert found.deciding == {"judge_temperature": 0.1}
    assert platform(tmp_path).verifier("measured") is None, "no setting asks for it"
