"""What `first_frames` and `edited_videos` do, without Dagster.

Items are clip x prompt, ordered clip by clip, so that a clip is decoded and analysed once for all its prompts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.chunk_reader import SIDECAR_FILE, ChunkReader, Edit
from lanepaint_assets.editing.catalogue import ROUNDTRIP, Prompt
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.seeds import seed
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.editing.engine import EditScene, PaintInstruction

# Raise when the refinement loop, the composite or the encoding changes.
FIRST_FRAMES_VERSION = "1"
EDITED_VIDEOS_VERSION = "1"

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

    def instruction(self, clip_key: str, prompt: Prompt, caption: str = "") -> PaintInstruction:
        """What the painters are told; the seed does not depend on the prompt (common random numbers)."""
        from lanepaint_assets.editing.engine import PaintInstruction

        settings = self.platform.settings
        return PaintInstruction(
            style=prompt.style,
            caption=caption,
            marking_standard=prompt.marking_standard or settings.marking_standard,
            seed=seed(settings.study_seed, "painter", clip_key, 0),
        )


def first_frame_tasks(items: EditItems) -> list[ItemTask]:
    """One task a clip x prompt."""
    platform, settings = items.platform, items.platform.settings
    engines = f"{platform.entry('first_frame_painter').label} + {platform.entry('inspector').label}"
    tasks = []
    for key, edit in items.by_key.items():
        need = needs({"vp_inputs": (items.inputs, edit.clip_key)})
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
                    },
                ),
                selected=edit.selected,
                blocked=need.blocked,
                engine=engines,
            )
        )
    return tasks


def make_first_frames(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Paint and judge the first frame of every clip x prompt."""
    items = EditItems(platform, chunk, "first_frames", selection)

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        edit = items.by_key[task.key]
        return _first_frame(items, edit.clip_key, edit.prompt, folder)

    return run_items(
        platform.store,
        "first_frames",
        chunk,
        items.reader.spread(first_frame_tasks(items)),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("first_frames"),
    )


def _first_frame(items: EditItems, clip_key: str, prompt: Prompt, folder: Path) -> ItemOutput:
    from lanepaint_assets.clips.pictures import write_picture
    from lanepaint_assets.editing.engine import UnpaintableSceneError
    from lanepaint_assets.editing.refinement import refine_first_frame

    started = perf_counter()
    scene = items.scene(clip_key)
    loaded = perf_counter()
    if prompt.key == ROUNDTRIP:
        return _unjudged(folder, prompt, scene.frames[0], "", {"load": loaded - started})
    inspector, painter = items.platform.inspector, items.platform.first_frame_painter
    wanted = prompt.style or inspector.inspect(scene.view(0)).style
    instruction = replace(
        items.instruction(clip_key, prompt),
        caption=inspector.first_caption(prompt.instruction, wanted, scene.frames[0]),
    )
    try:
        if prompt.style is None:
            # The control repaints each line in its own style: there is no one style that a judge could look for.
            picture = painter.paint_first_frame(scene, instruction)
            timings = {"load": loaded - started, "paint": perf_counter() - loaded}
            return _unjudged(folder, prompt, picture, instruction.caption, timings)
        refinement = refine_first_frame(
            scene, instruction, wanted, painter, inspector, items.platform.settings.refine_iterations
        )
    except UnpaintableSceneError as error:
        raise ItemError(str(error)) from error
    names = tuple(f"iteration_{index:02d}.png" for index in range(len(refinement.iterations)))
    for name, iteration in zip(names, refinement.iterations, strict=True):
        write_picture(folder / name, iteration.picture)
    chosen = refinement.iterations[refinement.chosen]
    write_picture(folder / FIRST_FRAME_FILE, chosen.picture)
    (folder / REFINEMENT_FILE).write_text(json.dumps(refinement.to_json(names), indent=1))
    verdict = "PASS" if chosen.verdict.passed else "FAIL"
    facts: dict[str, JsonValue] = {
        "prompt": prompt.key,
        "caption": chosen.caption,
        "verdict": verdict,
        "score": round(chosen.verdict.score, 3),
        "iterations": len(refinement.iterations),
        "stopped_because": refinement.stopped_because,
        "reasons": "; ".join(f"{a.attribute}: {a.reason}" for a in chosen.verdict.attributes),
        "notes": "; ".join(painter.notes(scene, instruction)),
    }
    return ItemOutput(facts=facts, timings_s={"load": loaded - started, "refine": perf_counter() - loaded})


def _unjudged(
    folder: Path, prompt: Prompt, picture: NDArray[np.uint8], caption: str, timings_s: dict[str, float]
) -> ItemOutput:
    """The first frame of a control prompt: it is taken as it is."""
    from lanepaint_assets.clips.pictures import write_picture

    write_picture(folder / FIRST_FRAME_FILE, picture)
    (folder / REFINEMENT_FILE).write_text(
        json.dumps({"iterations": [], "chosen_iteration": None, "passed": None, "stopped_because": "control prompt"})
    )
    return ItemOutput(facts={"prompt": prompt.key, "caption": caption, "verdict": None}, timings_s=timings_s)


def edited_video_tasks(items: EditItems) -> list[ItemTask]:
    """One task a clip x prompt."""
    settings = items.platform.settings
    firsts = items.reader.manifest("first_frames")
    engine = items.platform.entry("video_painter").label
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
                        "mask_dilation_px": settings.mask_dilation_px,
                        "mask_feather_px": settings.mask_feather_px,
                        "keep_masked_pixels": settings.keep_masked_pixels,
                    },
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

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.clips.pictures import read_picture

        first = firsts.rows[task.key]
        first_frame = read_picture(platform.store.read_bytes(first, FIRST_FRAME_FILE))
        return _edited_video(items, items.by_key[task.key], first_frame, first.facts, folder)

    return run_items(
        platform.store,
        "edited_videos",
        chunk,
        items.reader.spread(edited_video_tasks(items)),
        compute,
        run_id=run_id,
        workers=platform.settings.workers,
        progress=platform.progress_for("edited_videos"),
    )


def _edited_video(
    items: EditItems,
    edit: Edit,
    first_frame: NDArray[np.uint8],
    first_facts: dict[str, JsonValue],
    folder: Path,
) -> ItemOutput:
    from lanepaint_assets.clips.encoding import write_video
    from lanepaint_assets.clips.frame_sidecar import FrameSidecar
    from lanepaint_assets.editing.compositing import composite_video
    from lanepaint_assets.editing.engine import UnpaintableSceneError
    from lanepaint_assets.editing.mask_edges import MaskEdges
    from lanepaint_assets.rendering.previews import before_after

    clip_key, prompt = edit.clip_key, edit.prompt
    settings = items.platform.settings
    started = perf_counter()
    scene = items.scene(clip_key)
    grid = items.reader.frames(clip_key).grid
    loaded = perf_counter()
    if prompt.key != ROUNDTRIP:
        try:
            painted = items.platform.video_painter.paint_video(
                scene, first_frame, items.instruction(clip_key, prompt, str(first_facts.get("caption") or ""))
            )
        except UnpaintableSceneError as error:
            raise ItemError(str(error)) from error
        if settings.keep_masked_pixels:
            painted = composite_video(
                scene.frames,
                painted,
                scene.paint_masks,
                MaskEdges(settings.mask_dilation_px, settings.mask_feather_px),
            )
    else:
        painted = scene.frames
    done = perf_counter()
    write_video(folder / items.reader.edited_name(clip_key), painted, grid.rate_hz)
    (folder / SIDECAR_FILE).write_text(FrameSidecar.of_grid(grid).to_json())
    (folder / BEFORE_AFTER_FILE).write_bytes(before_after(scene.frames[0], painted[0]))
    return ItemOutput(
        facts={
            "prompt": prompt.key,
            "frames": len(grid),
            "verdict": first_facts.get("verdict"),
            "changed_share": round(_changed_share(scene.frames, painted), 5),
        },
        timings_s={"load": loaded - started, "paint": done - loaded, "encode": perf_counter() - done},
    )


def _changed_share(source: NDArray[np.uint8], edited: NDArray[np.uint8]) -> float:
    """Share of pixels that the edit changed, over every tenth frame."""
    return float(np.mean((source[::10] != edited[::10]).any(axis=-1)))
