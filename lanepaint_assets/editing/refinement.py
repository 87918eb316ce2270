"""The caption refinement loop of first frames (spec 6): paint, judge, reword, until PASS.

Called by the first-frame step with any painter and any inspector. It goes breadth first: all pictures, all verdicts,
then the next iteration for those that failed, so that models take turns on a device once an iteration and not once a
picture. It knows the roles only and writes no files: the stage stores the pictures and `Refinement.to_json`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.engine import EditScene, FirstFramePainter, PaintInstruction
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import LaneInspector, RoadView, Verdict
from lanepaint_assets.loop_progress import LoopProgress
from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.store.items import ItemError, StepError

log = logging.getLogger(__name__)

# Spec 6, `caption_refine_iters`.
MAX_ITERATIONS = 10

StoppedBecause = Literal["passed", "caption_repeated", "iterations_used_up"]


@dataclass(frozen=True, eq=False)
class Iteration:
    """One attempt: the caption painted from, the (H, W, 3) picture it gave, the judge's answer, seconds of both."""

    caption: str
    picture: NDArray[np.uint8]
    verdict: Verdict
    paint_s: float = 0.0
    judge_s: float = 0.0


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


@dataclass(frozen=True, eq=False)
class FirstFrameRequest:
    """One first frame to be painted.

    Attributes:
        scene: the clip; its first frame is painted.
        instruction: what to paint; its caption is where the loop starts.
        wanted: the style the judge looks for. It is given apart from `instruction.style`, which is None where each line
            keeps its own style.
        editing_instruction: the edit in the catalogue's words.
    """

    scene: EditScene
    instruction: PaintInstruction
    wanted: LaneStyle
    editing_instruction: str


def paint_first_frames(
    requests: Sequence[FirstFrameRequest], painter: FirstFramePainter, edges: MaskEdges | None
) -> Iterator[tuple[NDArray[np.uint8] | Exception, float]]:
    """Paint one picture a request.

    Args:
        requests: in the order to paint.
        painter: any engine of this role.
        edges: composite each picture under its mask with these edges (spec 5, `keep_masked_pixels`); None takes it as
            painted.

    Yields:
        For each request, in their order, the (H, W, 3) picture or what was raised for it alone, and its seconds.

    Raises:
        StepError: no picture can be painted.
    """
    try:
        painter.prepare([request.instruction.caption for request in requests])
    except StepError:
        raise
    except Exception:
        # Then each picture asks for its own caption, and the one that cannot be read fails alone.
        log.exception("captions could not be read together")
    progress = LoopProgress(f"painting {len(requests)} first frames", len(requests))
    for number, request in enumerate(requests, 1):
        scene, started = request.scene, perf_counter()
        try:
            picture = painter.paint_first_frame(scene, request.instruction)
            if edges is not None:
                picture = composite_video(scene.frames[:1], picture[None], scene.paint_masks[:1], edges)[0]
        except StepError:
            raise
        except Exception as error:  # noqa: BLE001  # the others go on; whoever asked records it
            yield _alone(error), perf_counter() - started
        else:
            yield picture, perf_counter() - started
        progress.done(number)


def refine_first_frames(
    requests: Sequence[FirstFrameRequest],
    painter: FirstFramePainter,
    inspector: LaneInspector,
    max_iterations: int = MAX_ITERATIONS,
    edges: MaskEdges | None = None,
) -> Iterator[tuple[FirstFrameRequest, Refinement | Exception]]:
    """Paint and judge first frames until they pass.

    Args:
        requests: all of them go through each iteration together.
        painter, inspector: any engines of these roles.
        max_iterations: the most attempts at each.
        edges: see `paint_first_frames`; the judge sees the composited picture.

    Yields:
        Each request as soon as it is finished, with every attempt and the taken one, or with what was raised for it
        alone. A caption that was painted before ends a loop: the same words and the same seed would give the same
        picture.

    Raises:
        ValueError: `max_iterations` is less than 1.
        StepError: nothing can be painted or judged.

    Source: spec 6; it ends with the best-scored attempt instead of the last one.
    """
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}; at least one attempt is needed")
    loops = [_Loop(request, request.instruction.caption) for request in requests]
    while loops:
        pictures = list(paint_first_frames([loop.next_request() for loop in loops], painter, edges))
        going_on = []
        progress = LoopProgress(f"judging {len(loops)} first frames", len(loops))
        for number, (loop, (picture, paint_s)) in enumerate(zip(loops, pictures, strict=True), 1):
            result = (
                picture if isinstance(picture, Exception) else loop.judged(picture, paint_s, inspector, max_iterations)
            )
            progress.done(number)
            if result is None:
                going_on.append(loop)
            else:
                yield loop.request, result
        loops = going_on


@dataclass
class _Loop:
    """How far one request has come."""

    request: FirstFrameRequest
    caption: str
    iterations: list[Iteration] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def next_request(self) -> FirstFrameRequest:
        self.seen.add(_normalized(self.caption))
        return replace(self.request, instruction=replace(self.request.instruction, caption=self.caption))

    def judged(
        self, picture: NDArray[np.uint8], paint_s: float, inspector: LaneInspector, max_iterations: int
    ) -> Refinement | Exception | None:
        """The verdict on a picture enters; the result where that ends the loop."""
        request, started = self.request, perf_counter()
        original, edited = request.scene.view(0), first_frame_view(request.scene, picture)
        try:
            verdict = inspector.judge(original, edited, request.wanted, self.caption, request.editing_instruction)
        except StepError:
            raise
        except Exception as error:  # noqa: BLE001  # the others go on; whoever asked records it
            return _alone(error)
        self.iterations.append(Iteration(self.caption, picture, verdict, paint_s, perf_counter() - started))
        last = len(self.iterations) - 1
        if verdict.passed:
            return Refinement(tuple(self.iterations), last, True, "passed")
        self.caption = verdict.revised_caption
        repeated = _normalized(self.caption) in self.seen
        if not repeated and len(self.iterations) < max_iterations:
            return None
        best = max(range(last + 1), key=lambda index: self.iterations[index].verdict.score)
        return Refinement(tuple(self.iterations), best, False, "caption_repeated" if repeated else "iterations_used_up")


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


def _alone(error: Exception) -> Exception:
    """An error without its traceback, whose frames would hold pictures and tensors until the group ends."""
    if not isinstance(error, ItemError):
        log.error("a first frame failed", exc_info=error)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _normalized(caption: str) -> str:
    return " ".join(caption.lower().split())
