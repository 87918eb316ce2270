"""What `first_frames` and `edited_videos` do, without Dagster.

Items are clip x prompt, ordered clip by clip, so that a clip is decoded and analysed once for all its prompts. First
frames of models are computed in groups, so that painter and judge take turns on a device once an iteration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.chunk_reader import SIDECAR_FILE, ChunkReader, Edit
from lanepaint_assets.editing.catalogue import ROUNDTRIP, Prompt
from lanepaint_assets.editing.loras import ChosenLora, chosen_lora
from lanepaint_assets.engines import Role
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import (
    ItemError,
    ItemOutput,
    ItemTask,
    PartitionOutcome,
    StepError,
    Write,
    no_result,
    run_item_groups,
    run_items,
)
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.seeds import seed
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.editing.engine import EditScene, PaintInstruction
    from lanepaint_assets.editing.refinement import FirstFrameRequest, Refinement
    from lanepaint_assets.rendering.mask_edges import MaskEdges

# Raise when the refinement loop, the composite, the encoding or what is measured of them changes.
FIRST_FRAMES_VERSION = "2"
EDITED_VIDEOS_VERSION = "3"

# First frames that models work on together. A change of model costs seconds (23 GiB over the bus), an iteration of so
# many pictures minutes. Their clips are held in host memory meanwhile: at 1080p each takes 0.8 GiB with its masks.
MODEL_GROUP = 32
MODEL_GROUP_CLIPS = 6

FIRST_FRAME_FILE = "first_frame.png"
REFINEMENT_FILE = "refinement.json"
BEFORE_AFTER_FILE = "before_after.png"


class EditItems:
    """Tasks of one editing asset, and what each item key stands for."""

    def __init__(self, platform: Platform, chunk: str, for_asset: str, selection: Sequence[str]) -> None:
        self.platform = platform
        self.reader = ChunkReader(platform, chunk, for_asset)
        # Read first: where masks and clips are missing, the masks are what a person has to make.
        self.inputs = self.reader.manifest("vp_inputs")
        self.by_key = self.reader.edits(selection)
        self._loras: dict[str, ChosenLora | None] = {}

    def scene(self, clip_key: str) -> EditScene:
        """The clip with its masks and geometry, held in memory for its other prompts."""
        row = self.inputs.rows[clip_key]

        def load() -> EditScene:
            from lanepaint_assets.editing.engine import EditScene

            clip = self.reader.frames(clip_key)
            geometry = self.reader.geometry(clip_key)
            masks = self.reader.paint_masks(clip_key)
            if masks.shape != clip.frames.shape[:3]:
                raise ItemError(
                    f"the masks of {clip_key} are {masks.shape} but its frames are {clip.frames.shape[:3]}; "
                    "materialize road_masks and vp_inputs of the chunk again"
                )
            return EditScene(
                item_key=clip_key,
                frames=clip.frames,
                timestamps_us=clip.taken_us,
                paint_masks=masks,
                camera=geometry.camera,
                ego=geometry.ego,
            )

        return self.platform.memory.get(("scene", clip_key, row.fingerprint), load)

    @cached_property
    def edges(self) -> MaskEdges | None:
        """See `chosen_edges`."""
        from lanepaint_assets.editing.compositing import chosen_edges

        return chosen_edges(self.platform.settings)

    def lora(self, prompt: Prompt) -> ChosenLora | None:
        """The LoRA that a prompt is painted with."""
        if prompt.key not in self._loras:
            self._loras[prompt.key] = chosen_lora(self.platform, prompt)
        return self._loras[prompt.key]

    def instruction(
        self, clip_key: str, prompt: Prompt, caption: str, lora: ChosenLora | None = None
    ) -> PaintInstruction:
        """What the painters are told; the seed does not depend on the prompt (common random numbers)."""
        from lanepaint_assets.editing.engine import PaintInstruction

        settings = self.platform.settings
        return PaintInstruction(
            style=prompt.style,
            caption=caption,
            marking_standard=prompt.marking_standard or settings.marking_standard,
            seed=seed(settings.study_seed, "painter", clip_key, 0),
            lora=None if lora is None else lora.weights(self.platform),
        )


def first_frame_tasks(items: EditItems) -> list[ItemTask]:
    """One task a clip x prompt."""
    platform, settings = items.platform, items.platform.settings
    engines = f"{platform.entry('first_frame_painter').label} + {platform.entry('inspector').label}"
    roles: tuple[Role, ...] = ("first_frame_painter", "inspector")
    checkpoints = platform.checkpoint_digests(*roles)
    tasks = []
    for key, edit in items.by_key.items():
        need = needs({"vp_inputs": (items.inputs, edit.clip_key)})
        lora = items.lora(edit.prompt)
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="first_frames",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=engines,
                    params={
                        "algorithm": FIRST_FRAMES_VERSION,
                        "prompt": dict(edit.prompt.resolved_fields()),
                        "marking_standard": edit.prompt.marking_standard or settings.marking_standard,
                        "refine_iterations": settings.refine_iterations,
                        "study_seed": settings.study_seed,
                        "edges": _edges_fields(settings),
                        "engine_settings": platform.deciding_settings(*roles),
                        "lora_scale": None if lora is None else lora.scale,
                    },
                    checkpoints=checkpoints if lora is None else {**checkpoints, "lora": lora.digest},
                ),
                selected=edit.selected,
                blocked=need.blocked or (None if lora is None else lora.refusal),
                engine=engines,
            )
        )
    return tasks


def _edges_fields(settings: Settings) -> dict[str, JsonValue]:
    """What of the settings decides how painted pictures are put into their source."""
    return {
        "dilation_px": settings.mask_dilation_px,
        "feather_px": settings.mask_feather_px,
        "keep_masked_pixels": settings.keep_masked_pixels,
    }


def make_first_frames(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Paint and judge the first frame of every clip x prompt."""
    items = EditItems(platform, chunk, "first_frames", selection)
    with_models = bool(platform.entry("first_frame_painter").checkpoints or platform.entry("inspector").checkpoints)
    try:
        return run_item_groups(
            platform.store,
            "first_frames",
            chunk,
            items.reader.spread(first_frame_tasks(items)),
            partial(_first_frames, items),
            run_id=run_id,
            grouping=model_groups if with_models else None,
            workers=1 if with_models else platform.settings.workers,
            progress=platform.progress_for("first_frames"),
        )
    finally:
        platform.release_inspector()


def model_groups(tasks: Sequence[ItemTask]) -> list[list[ItemTask]]:
    """Cut tasks of clip x prompt, in their order, into groups of so many items and clips at the most."""
    groups: list[list[ItemTask]] = []
    clips: set[str] = set()
    for task in tasks:
        clip_key = task.key.rpartition("/")[0]
        if not groups or len(groups[-1]) == MODEL_GROUP or len(clips | {clip_key}) > MODEL_GROUP_CLIPS:
            groups.append([])
            clips = set()
        groups[-1].append(task)
        clips.add(clip_key)
    return groups


def _first_frames(items: EditItems, group: Sequence[ItemTask]) -> Iterator[tuple[ItemTask, Write]]:
    """Paint and judge the first frames of a group: all captions, all pictures, all verdicts, and so on."""
    from lanepaint_assets.editing.refinement import paint_first_frames, refine_first_frames

    platform = items.platform
    painter, inspector = platform.first_frame_painter, platform.inspector
    edits: list[_Asked] = []
    controls: list[_Asked] = []
    for task in group:
        prompt = items.by_key[task.key].prompt
        started = perf_counter()
        try:
            scene = items.scene(items.by_key[task.key].clip_key)
            if prompt.key == ROUNDTRIP:
                load = {"load": perf_counter() - started}
                yield task, partial(_write_unjudged, items, task, None, scene.frames[0], load)
                continue
            request = _request(items, scene, prompt)
        except StepError:
            raise
        except Exception as error:  # noqa: BLE001  # recorded as the item's own
            yield task, no_result(error)
        else:
            # A control repaints each line in its own style: there is no one style that a judge could look for.
            kind = controls if prompt.style is None else edits
            kind.append(_Asked(task, request, perf_counter() - started))
    pictures = paint_first_frames([asked.request for asked in controls], painter, items.edges)
    for asked, (picture, paint_s) in zip(controls, pictures, strict=True):
        timings = {"load": asked.load_s, "paint": paint_s}
        yield asked.task, partial(_write_unjudged, items, asked.task, asked.request, picture, timings)
    by_request = {asked.request: asked for asked in edits}
    for request, result in refine_first_frames(
        [asked.request for asked in edits], painter, inspector, platform.settings.refine_iterations, items.edges
    ):
        asked = by_request[request]
        yield asked.task, partial(_write_refined, items, asked, result)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A task whose picture is to be painted, and what reading its clip and wording its caption took."""

    task: ItemTask
    request: FirstFrameRequest
    load_s: float


def _request(items: EditItems, scene: EditScene, prompt: Prompt) -> FirstFrameRequest:
    from lanepaint_assets.editing.refinement import FirstFrameRequest

    inspector = items.platform.inspector
    wanted = prompt.style or inspector.inspect(scene.view(0)).style
    caption = inspector.first_caption(prompt.instruction, wanted, scene.frames[0])
    instruction = items.instruction(scene.item_key, prompt, caption, items.lora(prompt))
    return FirstFrameRequest(scene, instruction, wanted, prompt.instruction)


def _write_refined(items: EditItems, asked: _Asked, result: Refinement | Exception, folder: Path) -> ItemOutput:
    from lanepaint_assets.clips.pictures import write_picture

    if isinstance(result, Exception):
        raise result
    names = tuple(f"iteration_{index:02d}.png" for index in range(len(result.iterations)))
    for name, iteration in zip(names, result.iterations, strict=True):
        write_picture(folder / name, iteration.picture)
    chosen = result.iterations[result.chosen]
    write_picture(folder / FIRST_FRAME_FILE, chosen.picture)
    (folder / REFINEMENT_FILE).write_text(json.dumps(result.to_json(names), indent=1))
    facts: dict[str, JsonValue] = {
        "prompt": items.by_key[asked.task.key].prompt.key,
        "caption": chosen.caption,
        "verdict": "PASS" if chosen.verdict.passed else "FAIL",
        "score": round(chosen.verdict.score, 3),
        "iterations": len(result.iterations),
        "stopped_because": result.stopped_because,
        "attributes": {a.attribute: a.passed for a in chosen.verdict.attributes},
        "reasons": "; ".join(f"{a.attribute}: {a.reason}" for a in chosen.verdict.attributes),
        "notes": _notes(items, asked.request, chosen.caption),
    }
    timings = {
        "load": asked.load_s,
        "paint": sum(iteration.paint_s for iteration in result.iterations),
        "judge": sum(iteration.judge_s for iteration in result.iterations),
    }
    return ItemOutput(facts=facts, timings_s=timings)


def _write_unjudged(
    items: EditItems,
    task: ItemTask,
    request: FirstFrameRequest | None,
    picture: NDArray[np.uint8] | Exception,
    timings_s: dict[str, float],
    folder: Path,
) -> ItemOutput:
    """The first frame of a control prompt: it is taken as it is. Without a request nothing was painted."""
    from lanepaint_assets.clips.pictures import write_picture

    if isinstance(picture, Exception):
        raise picture
    write_picture(folder / FIRST_FRAME_FILE, picture)
    (folder / REFINEMENT_FILE).write_text(
        json.dumps({"iterations": [], "chosen_iteration": None, "passed": None, "stopped_because": "control prompt"})
    )
    caption = "" if request is None else request.instruction.caption
    facts: dict[str, JsonValue] = {
        "prompt": items.by_key[task.key].prompt.key,
        "caption": caption,
        "verdict": None,
        "notes": "" if request is None else _notes(items, request, caption),
    }
    return ItemOutput(facts=facts, timings_s=timings_s)


def _notes(items: EditItems, request: FirstFrameRequest, caption: str) -> str:
    instruction = replace(request.instruction, caption=caption)
    return "; ".join(items.platform.first_frame_painter.notes(request.scene, instruction))


def edited_video_tasks(items: EditItems) -> list[ItemTask]:
    """One task a clip x prompt."""
    settings = items.platform.settings
    firsts = items.reader.manifest("first_frames")
    engine = items.platform.entry("video_painter").label
    checkpoints = items.platform.checkpoint_digests("video_painter")
    tasks = []
    for key, edit in items.by_key.items():
        need = needs({"vp_inputs": (items.inputs, edit.clip_key), "first_frames": (firsts, key)})
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="edited_videos",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=engine,
                    params={
                        "algorithm": EDITED_VIDEOS_VERSION,
                        "edges": _edges_fields(settings),
                        "engine_settings": items.platform.deciding_settings("video_painter"),
                    },
                    checkpoints=checkpoints,
                ),
                selected=edit.selected,
                blocked=need.blocked,
                engine=engine,
            )
        )
    return tasks


def make_edited_videos(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Paint every clip x prompt, composite at native resolution, encode."""
    items = EditItems(platform, chunk, "edited_videos", selection)
    firsts = items.reader.manifest("first_frames")
    tasks = items.reader.spread(edited_video_tasks(items))
    captions = [_caption(firsts.rows[task.key]) for task in tasks if task.selected and task.blocked is None]
    # Once a step; two threads that come first together cost nothing, the second finds the captions known.
    prepare = cache(lambda: platform.video_painter.prepare(captions))

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.clips.pictures import read_picture

        # Here, because only an item that is really computed may load a model.
        prepare()
        first = firsts.rows[task.key]
        first_frame = read_picture(platform.store.read_bytes(first, FIRST_FRAME_FILE))
        return _edited_video(items, items.by_key[task.key], first_frame, first, folder)

    try:
        return run_items(
            platform.store,
            "edited_videos",
            chunk,
            tasks,
            compute,
            run_id=run_id,
            workers=platform.settings.workers,
            progress=platform.progress_for("edited_videos"),
        )
    finally:
        # In one process with all steps, the driver is next on the device.
        platform.release_painters()


def _edited_video(
    items: EditItems,
    edit: Edit,
    first_frame: NDArray[np.uint8],
    first: ItemRow,
    folder: Path,
) -> ItemOutput:
    from lanepaint_assets.clips.encoding import write_video
    from lanepaint_assets.clips.frame_sidecar import FrameSidecar
    from lanepaint_assets.editing.compositing import composite_video
    from lanepaint_assets.editing.written_video import background_changed_px, frame_facts
    from lanepaint_assets.rendering.mask_edges import MaskEdges
    from lanepaint_assets.rendering.previews import before_after
    from lanepaint_assets.rendering.region_quality import RawQuality, raw_quality

    clip_key, prompt, settings = edit.clip_key, edit.prompt, items.platform.settings
    started = perf_counter()
    scene = items.scene(clip_key)
    grid = items.reader.facts(clip_key).grid
    loaded = perf_counter()
    notes: tuple[str, ...] = ()
    raw = RawQuality(inside=None, outside=None, reason="nothing was painted")
    if prompt.key != ROUNDTRIP:
        instruction = items.instruction(clip_key, prompt, _caption(first))
        painted = items.platform.video_painter.paint_video(scene, first_frame, instruction)
        notes = items.platform.video_painter.notes(scene, instruction)
        raw = RawQuality(
            inside=None, outside=None, reason="nothing was composited: the video is as the painter gave it"
        )
        if items.edges is not None:
            raw = raw_quality(scene.frames, painted, scene.paint_masks, items.edges)
            painted = composite_video(scene.frames, painted, scene.paint_masks, items.edges)
    else:
        painted = scene.frames
    done = perf_counter()
    edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
    background_px = background_changed_px(scene.frames, painted, scene.paint_masks, edges)
    measured = perf_counter()
    video, sidecar = folder / items.reader.edited_name(clip_key), folder / SIDECAR_FILE
    write_video(video, painted, grid.rate_hz)
    sidecar.write_text(FrameSidecar.of_grid(grid).to_json())
    (folder / BEFORE_AFTER_FILE).write_bytes(before_after(scene.frames[0], painted[0]))
    return ItemOutput(
        facts={
            "prompt": prompt.key,
            **frame_facts(video, sidecar, grid),
            "background_changed_px": background_px,
            "verdict": first.facts.get("verdict"),
            "notes": "; ".join(notes),
            "changed_share": round(_changed_share(scene.frames, painted), 5),
            "raw_quality": raw.model_dump(),
        },
        timings_s={
            "load": loaded - started,
            "paint": done - loaded,
            "measure": measured - done,
            "encode": perf_counter() - measured,
        },
    )


def _caption(first: ItemRow) -> str:
    return str(first.facts.get("caption") or "")


def _changed_share(source: NDArray[np.uint8], edited: NDArray[np.uint8]) -> float:
    """Share of pixels that the edit changed, over every tenth frame."""
    return float(np.mean((source[::10] != edited[::10]).any(axis=-1)))
