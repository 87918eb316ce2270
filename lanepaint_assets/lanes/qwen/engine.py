"""The `qwen2_5_vl` lane inspector: writes first captions, reads attributes off a frame, judges edits (spec 6 and 7).

Called through the `LaneInspector` role, from several threads. It knows what to ask and what an answer means for the
role; words are in `prompts.py`, forms in `answers.py`, the network behind `Talker`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from lanepaint_assets.checkpoints.model_folder import local_model_folder
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, LaneStyle
from lanepaint_assets.lanes.ego_estimation import standing_still
from lanepaint_assets.lanes.geometry import clip_geometry
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, RoadView, Verdict
from lanepaint_assets.lanes.qwen.answers import (
    ATTRIBUTES,
    CAPTION_CHARACTERS,
    Answer,
    AttributesAnswer,
    JudgeAnswer,
    MalformedAnswerError,
    parse_answer,
)
from lanepaint_assets.lanes.qwen.model import QwenModel
from lanepaint_assets.lanes.qwen.placement import RESERVE_GIB
from lanepaint_assets.lanes.qwen.prompts import PROMPTS_VERSION, again, attributes_prompt, caption_prompt, judge_prompt
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets.torch_models.damaged_weights import damaged_weights_named
from lanepaint_assets.torch_models.devices import pick_second_device

log = logging.getLogger(__name__)

A = TypeVar("A", bound=Answer)

# Spec 6, `caption_refine_temperature`.
TEMPERATURE = 0.1

# Where answers are cut: twice what well-formed ones of the stated lengths take.
CAPTION_TOKENS = 256
ATTRIBUTES_TOKENS = 256
JUDGE_TOKENS = 1024


# Side of a smoke check's picture: four of the network's tokens.
SMOKE_SIDE_PX = 112


class Talker(Protocol):
    """Answers questions about pictures; `QwenModel` does."""

    @property
    def loads(self) -> int: ...

    def ask(self, pictures: Sequence[NDArray[np.uint8]], text: str, max_new_tokens: int, temperature: float) -> str: ...

    def release(self) -> None: ...


class QwenInspector:
    """Qwen2.5-VL as a `LaneInspector`.

    The same question gets the same answer. Weights are read at the first question.

    Args:
        talker: the model.
        temperature: of its sampling.
        unload_after_use: whether `release` gives the weights' memory back.
    """

    name = "qwen2_5_vl"
    version = PROMPTS_VERSION

    def __init__(self, talker: Talker, *, temperature: float = TEMPERATURE, unload_after_use: bool = False) -> None:
        self._talker = talker
        self._temperature = temperature
        self._unload_after_use = unload_after_use

    @classmethod
    def from_checkpoint(
        cls,
        folder: UPath,
        *,
        cache: Path | None = None,
        device: str = "auto",
        memory_gib: float | None = None,
        reserve_gib: float = RESERVE_GIB,
        temperature: float = TEMPERATURE,
        unload_after_use: bool = False,
    ) -> QwenInspector:
        """The engine on a released checkpoint.

        Args:
            folder: in transformers' layout; on an object store it is copied to `cache` first.
            cache: folder for copies of remote checkpoints.
            device: `cpu`, `cuda:1`, ..., or `auto`: the second GPU where there are two.
            memory_gib: the budget of all models on the device; see `Residency.of`.
            reserve_gib: what stays free on the device; see `GpuMemory`.
            temperature, unload_after_use: see the class.

        Raises:
            CheckpointError: the folder is not there, not complete, or of another model.
        """
        model = QwenModel.from_folder(
            local_model_folder(folder, cache),
            pick_second_device(device),
            memory_gib=memory_gib,
            reserve_gib=reserve_gib,
        )
        return cls(model, temperature=temperature, unload_after_use=unload_after_use)

    @property
    def loads(self) -> int:
        """How often the weights were read from disk."""
        return self._talker.loads

    def release(self) -> None:
        """Called when no question is near: with `unload_after_use` the weights leave device and host memory."""
        if self._unload_after_use:
            self._talker.release()

    def smoke_check(self) -> None:
        """Read the weights and have one word said of a small picture; see `Checkable`."""
        picture = np.random.default_rng(0).integers(0, 256, (SMOKE_SIDE_PX, SMOKE_SIDE_PX, 3), dtype=np.uint8)
        with damaged_weights_named():
            self._talker.ask([picture], "What is this?", 1, 0.0)

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        """The model's caption for the repainted (H, W, 3) frame, on one line without quotation marks.

        Where it does not say the wanted attributes, the normalized caption is put before it.
        """
        said = self._talker.ask([frame], caption_prompt(instruction, wanted), CAPTION_TOKENS, self._temperature)
        return _caption(said, wanted)

    def inspect(self, view: RoadView) -> LaneInspection:
        """Count, colour and pattern of the target frame's lines, without the lines: the model measures no positions.

        The confidence is the share of the three attributes that it could tell; it is no probability. The camera is the
        view's, else the same estimate that the measured inspector makes.
        """
        camera = view.camera or _estimated_camera(view)
        try:
            answer = self._answered([view.frames[view.target_index]], attributes_prompt(), AttributesAnswer)
        except MalformedAnswerError as error:
            return LaneInspection((), UNKNOWN_STYLE, 0.0, camera, _twice_malformed(error))
        style = answer.style
        words = {"count": style.count, "colour": style.color, "pattern": style.pattern}
        untold = [name for name, word in words.items() if word == "unknown"]
        reason = f"the model cannot tell the {' and '.join(untold)}: {_one_line(answer.seen)}" if untold else None
        return LaneInspection((), style, 1.0 - len(untold) / len(words), camera, reason)

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        """The model's verdict over the two target frames.

        The score is the share of attributes that passed. An answer that is malformed twice is a FAIL of score 0 that
        words the same wish another way, so that a refinement goes on: another picture gets another answer.
        """
        pictures = [original.frames[original.target_index], edited.frames[edited.target_index]]
        try:
            answer = self._answered(pictures, judge_prompt(instruction, wanted, caption), JudgeAnswer)
        except MalformedAnswerError as error:
            reason = _twice_malformed(error)
            marks = tuple(AttributeVerdict(name, False, reason) for name in ATTRIBUTES)
            return Verdict(False, 0.0, marks, _reworded(caption, wanted))
        passed = answer.verdict == "PASS"
        score = sum(mark.passed for mark in answer.attributes) / len(answer.attributes)
        revised = caption if passed else _caption(answer.revised_caption or "", wanted)
        return Verdict(passed, score, answer.attributes, revised)

    def _answered(self, pictures: Sequence[NDArray[np.uint8]], prompt: str, form: type[A]) -> A:
        """Ask for a form, and once more with the complaint where the answer is not of it.

        Raises:
            MalformedAnswerError: the second answer is not either.
        """
        limit = JUDGE_TOKENS if form is JudgeAnswer else ATTRIBUTES_TOKENS
        said = self._talker.ask(pictures, prompt, limit, self._temperature)
        try:
            return parse_answer(said, form)
        except MalformedAnswerError as error:
            log.warning("the model's answer is malformed (%s); asking once more. It said: %.500r", error, said)
            prompt = again(prompt, str(error))
        return parse_answer(self._talker.ask(pictures, prompt, limit, self._temperature), form)


def _caption(said: str, wanted: LaneStyle) -> str:
    """What a painter can be given of what the model said: one line, no quotes, the wanted words, bounded length."""
    text = _one_line(said.translate(_QUOTES))
    for heading in ("caption:", "revised caption:"):
        if text.lower().startswith(heading):
            text = text[len(heading) :].lstrip()
    words = re.findall(r"\w+", text.lower())
    missing = [word for word in (wanted.count, wanted.color, wanted.pattern) if word != "unknown" and word not in words]
    if missing or not text:
        text = f"{wanted.caption}, {text}" if text else wanted.caption
    if len(text) > CAPTION_CHARACTERS:
        text = text[: CAPTION_CHARACTERS + 1].rsplit(" ", 1)[0].rstrip(" ,;:")[:CAPTION_CHARACTERS]
    return text


def _reworded(caption: str, wanted: LaneStyle) -> str:
    """Another caption of the same meaning: the normalized one first, then that alone, then that with an emphasis."""
    said, normalized = _one_line(caption).lower(), wanted.caption
    if not said.startswith(normalized):
        return _caption(f"{normalized}, {caption}", wanted)
    return normalized if said != normalized else f"{normalized}, {_EMPHASIS}"


# What goes without saying of a good picture; for a caption that says nothing but the attributes.
_EMPHASIS = "fresh, evenly painted lines"

# Straight and typographic double quotes, and marks of code and emphasis. Apostrophes stay: they are parts of words.
_QUOTES = str.maketrans(dict.fromkeys('"“”„«»`*', " "))


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _twice_malformed(error: MalformedAnswerError) -> str:
    return f"the model's answer was malformed twice: {error}"


def _estimated_camera(view: RoadView) -> RigCamera:
    # Ego motion is not asked for, and a known one spares its estimate.
    ego = view.ego or standing_still(view.timestamps_us)
    return clip_geometry(view.frames, view.timestamps_us, None, ego).camera
