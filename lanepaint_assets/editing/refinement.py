"""The caption refinement loop of the first frame (spec 6): paint, judge, reword, until PASS.

Called by the first-frame step with any painter and any inspector. It knows the roles only and writes no files:
the stage stores the pictures and `Refinement.to_json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.editing.engine import EditScene, FirstFramePainter, PaintInstruction
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import LaneInspector, RoadView, Verdict

# Spec 6, `caption_refine_iters`.
MAX_ITERATIONS = 10

StoppedBecause = Literal["passed", "caption_repeated", "iterations_used_up"]


@dataclass(frozen=True, eq=False)
class Iteration:
    """One attempt: the caption painted from, the (H, W, 3) picture it gave, the judge's answer."""

    caption: str
    picture: NDArray[np.uint8]
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Refinement:
    """All attempts of one first frame, and the one that was taken.

    Attributes:
        iterations: in the order they were painted, at least one.
        chosen: index of the taken attempt: the one that passed, else the best scored (the earliest of equals).
        passed: whether the judge passed the taken one.
        stopped_because: what ended the loop.
    """

    iterations: tuple[Iteration, ...]
    chosen: int
    passed: bool
    stopped_because: StoppedBecause

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The taken picture."""
        return self.iterations[self.chosen].picture

    @property
    def caption(self) -> str:
        """The caption of the taken picture."""
        return self.iterations[self.chosen].caption

    def to_json(self, picture_names: tuple[str, ...]) -> dict[str, JsonValue]:
        """The content of `refinement.json`.

        Args:
            picture_names: the file that each iteration's picture is stored in, in order.

        Raises:
            ValueError: there is not one name for each iteration.
        """
        if len(picture_names) != len(self.iterations):
            raise ValueError(f"{len(self.iterations)} iterations, but {len(picture_names)} picture names")
        return {
            "passed": self.passed,
            "chosen_iteration": self.chosen,
            "stopped_because": self.stopped_because,
            "iterations": [
                {
                    "caption": iteration.caption,
                    "picture": name,
                    "verdict": "PASS" if iteration.verdict.passed else "FAIL",
                    "score": iteration.verdict.score,
                    "attributes": [
                        {"attribute": a.attribute, "passed": a.passed, "reason": a.reason}
                        for a in iteration.verdict.attributes
                    ],
                    "revised_caption": iteration.verdict.revised_caption,
                }
                for iteration, name in zip(self.iterations, picture_names, strict=True)
            ],
        }


def refine_first_frame(
    scene: EditScene,
    instruction: PaintInstruction,
    wanted: LaneStyle,
    painter: FirstFramePainter,
    inspector: LaneInspector,
    max_iterations: int = MAX_ITERATIONS,
) -> Refinement:
    """Paint and judge the first frame until it passes.

    Args:
        scene: the clip; its first frame is painted.
        instruction: what to paint; its caption is where the loop starts.
        wanted: the style the judge looks for. It is given apart from `instruction.style`, which is None where each line
            keeps its own style.
        painter, inspector: any engines of these roles.
        max_iterations: the most attempts.

    Returns:
        Every attempt and the taken one. A caption that was painted before ends the loop: the same words and the same
        seed would give the same picture.

    Raises:
        ValueError: `max_iterations` is less than 1.
        UnpaintableSceneError: the painter found nothing to paint.

    Source: spec 6; it ends with the best-scored attempt instead of the last one (DESIGN part 7).
    """
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}; at least one attempt is needed")
    original = scene.view(0)
    iterations: list[Iteration] = []
    seen: set[str] = set()
    caption = instruction.caption
    stopped: StoppedBecause = "iterations_used_up"
    for _ in range(max_iterations):
        seen.add(_normalized(caption))
        picture = painter.paint_first_frame(scene, replace(instruction, caption=caption))
        verdict = inspector.judge(original, first_frame_view(scene, picture), wanted, caption)
        iterations.append(Iteration(caption, picture, verdict))
        if verdict.passed:
            stopped = "passed"
            break
        caption = verdict.revised_caption
        if _normalized(caption) in seen:
            stopped = "caption_repeated"
            break
    last = len(iterations) - 1
    chosen = last if stopped == "passed" else max(range(last + 1), key=lambda i: iterations[i].verdict.score)
    return Refinement(tuple(iterations), chosen, stopped == "passed", stopped)


def first_frame_view(scene: EditScene, picture: NDArray[np.uint8]) -> RoadView:
    """What the judge is given of an edit, (H, W, 3) `picture` of the first frame: no more of it exists yet.

    The ego motion tells how the vehicle nods on the road at that moment.
    """
    return RoadView(
        frames=picture[None],
        timestamps_us=scene.timestamps_us[:1],
        target_index=0,
        camera=scene.camera,
        ego=scene.ego,
        road_masks=scene.paint_masks[:1],
    )


def _normalized(caption: str) -> str:
    return " ".join(caption.lower().split())
