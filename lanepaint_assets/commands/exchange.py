"""`lanepaint export` and `lanepaint import`: results as the spec's plain trees, and such trees as items (spec 12).

DIR/preprocessed_data_vp/<run_id>/<video_id>/   the VideoPainter folder; video id as `video_painter_id` writes it
DIR/vp/<run_id>/<prompt>/                       edited videos
DIR/sam2/<run_id>/..., DIR/alpamayo/<run_id>/...        masks; trajectories, videos and the report (export only)
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.chunk_reader import SIDECAR_FILE, ChunkReader
from lanepaint_assets.clips.folder_source import is_chunk_folder
from lanepaint_assets.clips.frame_sidecar import FrameSidecar
from lanepaint_assets.clips.records import CHUNK_KEY, ChunkMembership
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.commands.launch import Session
from lanepaint_assets.editing.file_names import EditedVideoName, parse_edited_video_name
from lanepaint_assets.editing.steps import (
    BEFORE_AFTER_FILE,
    FIRST_FRAME_FILE,
    REFINEMENT_FILE,
    EditItems,
    edited_video_tasks,
    first_frame_tasks,
)
from lanepaint_assets.partitions import register_membership, registered_chunks, unregistered
from lanepaint_assets.segmentation.cleanup import CleanedMasks
from lanepaint_assets.segmentation.outputs import VideoMasks, write_segmentation
from lanepaint_assets.segmentation.steps import road_mask_tasks, vp_input_tasks
from lanepaint_assets.segmentation.vp_folder import (
    VideoPainterItem,
    read_vp_folder,
    read_vp_masks,
    video_painter_id,
    write_vp_folder,
)
from lanepaint_assets.store.items import Compute, ItemError, ItemOutput, ItemTask, run_items
from lanepaint_assets.store.layout import CHUNK_ROW, area

# Which assets leave, in the order that a reader of the tree would look at them.
EXPORTED = (
    "road_masks",
    "vp_inputs",
    "edited_videos",
    "edited_trajectories",
    "video_quality",
    "trajectory_videos",
    "trajectory_reports",
)

IMPORTED = "imported"

# No path, and no name that starts like an option or a hidden folder.
RUN_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

Say = Callable[[str], None]


def export(session: Session, folder: Path, chunks: Sequence[str], run_id: str | None, say: Say) -> None:
    """Copy finished items of chunks into plain trees.

    Args:
        run_id: names the folders; by default each chunk's key.

    Raises:
        CommandError: a target folder exists already, its name is none, a chunk is not registered, or there is nothing
            to export.
    """
    if run_id is not None and len(chunks) > 1:
        raise CommandError(f"--run-id {run_id} would mix {len(chunks)} chunks in one folder; export them one by one")
    if run_id is not None and RUN_FOLDER.fullmatch(run_id) is None:
        raise CommandError(f"--run-id {run_id!r} cannot name a folder; use letters, digits, '.', '_' and '-'")
    missing = unregistered(session.instance, chunks)
    if missing:
        known = ", ".join(registered_chunks(session.instance)[:20]) or "none"
        raise CommandError(f"chunk {', '.join(missing)} is not registered (registered: {known})")
    if not chunks:
        raise CommandError("no chunk is registered, so there is nothing to export; make something with: lanepaint run")
    exported = 0
    for chunk in chunks:
        name = run_id or chunk
        taken = {folder / area(asset) / name for asset in EXPORTED}
        for target in sorted(taken):
            if target.exists():
                raise CommandError(f"{target} exists already; choose another --run-id or folder, or remove it")
        for asset in EXPORTED:
            for key, row in session.platform.store.manifest(asset, chunk).rows.items():
                if row.status != "ok" or row.folder is None:
                    continue
                target = folder / area(asset) / name / _place(asset, key)
                target.mkdir(parents=True, exist_ok=True)
                session.platform.store.copy_files(row, target)
                exported += 1
    if not exported:
        raise CommandError(f"nothing to export from {', '.join(chunks)}; make something with: lanepaint run")
    say(f"{exported} items in {folder}")


def _place(asset: str, key: str) -> str:
    """Folder of an item below <area>/<run_id>: clips by key, edits by prompt, the chunk's own files at the top."""
    if key == CHUNK_ROW:
        return "."
    clip_key, _, prompt = key.partition("/")
    if asset == "vp_inputs":
        return video_painter_id(clip_key)
    if not prompt:
        return clip_key
    # File names hold clip and camera, and no two assets write the same name; only the sidecar needs its own folder.
    return f"{prompt}/{clip_key}" if asset == "edited_videos" else prompt


@dataclass(frozen=True)
class FoundEdit:
    """An edited video in an imported tree."""

    prompt_key: str
    name: EditedVideoName
    path: Path


def import_results(session: Session, folder: Path, chunk: str, prompt: str | None, say: Say) -> None:
    """Enter the results of plain trees as items of a chunk.

    The chunk is registered from the tree's own clips unless it exists. Items that stand already are kept.

    Args:
        prompt: the prompt of edited videos that lie in no prompt folder.

    Raises:
        CommandError: no VideoPainter folder there, or names that cannot be matched.
    """
    inputs = _found_inputs(session, folder)
    edits = _found_edits(session, folder, prompt)
    if CHUNK_KEY.fullmatch(chunk) is None:
        raise CommandError(f"--chunk {chunk!r} cannot be a partition key; it must match {CHUNK_KEY.pattern}")
    if unregistered(session.instance, [chunk]):
        _register(session, chunk, inputs)
    make_raw_clips(session.platform, chunk, IMPORTED)
    reader = ChunkReader(session.platform, chunk, "imported results")
    known = set(reader.clip_keys)
    strangers = sorted(set(inputs) - known)
    if strangers:
        raise CommandError(
            f"{', '.join(strangers)} of {folder} are no clips of chunk {chunk} ({', '.join(sorted(known))}); "
            "import them into a chunk of their own"
        )
    _refuse_unknown_clips(edits, known, chunk)
    masks = _enter(
        session,
        chunk,
        "road_masks",
        road_mask_tasks(session.platform, reader),
        set(inputs),
        _mask_copier(reader, inputs),
    )
    _enter(session, chunk, "vp_inputs", vp_input_tasks(reader), set(inputs), _input_copier(reader, inputs))
    videos = 0
    if edits:
        items = EditItems(session.platform, chunk, "imported edits", ())
        keys = {f"{edit.name.clip_id}.{edit.name.camera}/{edit.prompt_key}": edit for edit in edits}
        _enter(session, chunk, "first_frames", first_frame_tasks(items), set(keys), _first_copier(items, keys))
        videos = _enter(
            session, chunk, "edited_videos", edited_video_tasks(items), set(keys), _edit_copier(items, keys)
        )
    say(f"chunk {chunk}: {masks} clip(s) with masks and {videos} edited video(s) are there now")


def _enter(
    session: Session, chunk: str, asset: str, tasks: Sequence[ItemTask], keys: set[str], compute: Compute
) -> int:
    """Publish imported items under the fingerprints that the catalogue asks for; returns how many stand."""
    narrowed = [replace(task, selected=task.selected and task.key in keys, engine=IMPORTED) for task in tasks]
    outcome = run_items(session.platform.store, asset, chunk, narrowed, compute, run_id=IMPORTED)
    failed = [outcome.manifest.rows[key] for key in outcome.failed if key in keys]
    if failed:
        raise CommandError("; ".join(f"{row.key}: {row.reason}" for row in failed))
    return sum(row.status == "ok" for row in outcome.rows)


def _item_key(session: Session, video_id: str) -> str:
    """The clip and camera that a video id names; ids of other tools get the first camera of the settings."""
    separator = "." if "." in video_id else "__"
    clip_id, found, camera = video_id.rpartition(separator)
    return f"{clip_id}.{camera}" if found else f"{video_id}.{session.settings.cameras[0]}"


def _found_inputs(session: Session, folder: Path) -> dict[str, VideoPainterItem]:
    found = {}
    for meta in sorted((folder / "preprocessed_data_vp").glob("*/*/meta.csv")):
        for item in read_vp_folder(meta.parent):
            found[_item_key(session, item.video_id)] = item
    if not found:
        raise CommandError(
            f"{folder} holds no preprocessed_data_vp/<run_id>/<video_id>/meta.csv; give the folder above "
            "preprocessed_data_vp"
        )
    return found


def _found_edits(session: Session, folder: Path, prompt: str | None) -> list[FoundEdit]:
    found = []
    known = {entry.key for entry in session.platform.catalogue.prompts}
    for path in sorted((folder / "vp").rglob("*.mp4")):
        try:
            name = parse_edited_video_name(path.name)
        except ValueError as error:
            raise CommandError(f"{path}: {error}; rename it, or move it out of {folder / 'vp'}") from error
        # The nearest folder that is a prompt key says which edit it is.
        key = next((parent.name for parent in path.relative_to(folder).parents if parent.name in known), prompt)
        if key is None:
            raise CommandError(
                f"{path} lies in no folder named after a prompt ({', '.join(sorted(known))}); "
                "say which it is: --prompt KEY"
            )
        found.append(FoundEdit(session.platform.catalogue[key].key, name, path))
    return found


def _refuse_unknown_clips(edits: Sequence[FoundEdit], known: set[str], chunk: str) -> None:
    strangers = [edit for edit in edits if f"{edit.name.clip_id}.{edit.name.camera}" not in known]
    if strangers:
        named = strangers[0].name
        more = f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        raise CommandError(
            f"{strangers[0].path}{more} is an edit of clip {named.clip_id!r}, camera {named.camera!r}, which chunk "
            f"{chunk} does not hold ({', '.join(sorted(known))}); rename it after its clip, or move it out of the tree"
        )


def _register(session: Session, chunk: str, inputs: dict[str, VideoPainterItem]) -> None:
    """Copy the tree's clips below ROOT/input/data and register them as a chunk.

    Raises:
        CommandError: its name is none that the folders below ROOT/input/data can have; nothing is copied.
    """
    if not is_chunk_folder(chunk):
        raise CommandError(
            f"--chunk {chunk!r} is not registered, and the folder of a new chunk below ROOT/input/data has to be named "
            "like chunk_0001; give such a name"
        )
    root = session.settings.local_root / "input" / "data"
    cameras = set()
    for key, item in inputs.items():
        clip_id, _, camera = key.rpartition(".")
        cameras.add(camera)
        target = root / camera / chunk / f"{clip_id}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.video, target)
    source = open_source(str(root), sorted(cameras))
    listing = next(listing for listing in source.chunks() if listing.key == chunk)
    register_membership(
        session.platform, session.instance, ChunkMembership(key=chunk, source=source.address, clips=listing.clips)
    )


def _checked_masks(reader: ChunkReader, key: str, item: VideoPainterItem) -> CleanedMasks:
    masks = read_vp_masks(item.masks, item.mask_id)
    facts = reader.facts(key)
    expected = (len(facts.grid), facts.height, facts.width)
    if masks.shape != expected:
        raise ItemError(
            f"masks {item.masks.name} of {key} are {masks.shape}, its clip on the {facts.grid_name} grid is "
            f"{expected}; set LANEPAINT_CLIP_GRID and LANEPAINT_FRAME_LIMIT to what the masks were made with"
        )
    return CleanedMasks(road=masks, paint=masks)


def _mask_copier(reader: ChunkReader, inputs: dict[str, VideoPainterItem]) -> Compute:
    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        masks = _checked_masks(reader, task.key, inputs[task.key])
        clip = reader.frames(task.key)
        statistics = write_segmentation(folder, clip.frames, VideoMasks(masks.road, masks.paint), clip.grid.rate_hz)
        return ItemOutput(facts={"origin": IMPORTED, **asdict(statistics)})

    return compute


def _input_copier(reader: ChunkReader, inputs: dict[str, VideoPainterItem]) -> Compute:
    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        item = inputs[task.key]
        clip = reader.frames(task.key)
        masks = _checked_masks(reader, task.key, item)
        write_vp_folder(
            folder, video_painter_id(task.key), clip.frames, masks.paint, clip.grid.rate_hz, caption=item.caption
        )
        return ItemOutput(facts={"origin": IMPORTED, "frames": len(clip.grid)})

    return compute


def _first_copier(items: EditItems, edits: dict[str, FoundEdit]) -> Compute:
    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.clips.pictures import write_picture

        frames = _edited_frames(items, task.key, edits[task.key])
        write_picture(folder / FIRST_FRAME_FILE, frames[0])
        (folder / REFINEMENT_FILE).write_text(
            json.dumps({"iterations": [], "chosen_iteration": None, "passed": None, "stopped_because": IMPORTED})
        )
        return ItemOutput(facts={"origin": IMPORTED, "verdict": None})

    return compute


def _edit_copier(items: EditItems, edits: dict[str, FoundEdit]) -> Compute:
    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        from lanepaint_assets.editing.written_video import frame_facts
        from lanepaint_assets.rendering.previews import before_after

        edit = edits[task.key]
        clip_key = items.by_key[task.key].clip_key
        clip = items.reader.frames(clip_key)
        frames = _edited_frames(items, task.key, edit)
        video, sidecar = folder / items.reader.edited_name(clip_key), folder / SIDECAR_FILE
        shutil.copyfile(edit.path, video)
        sidecar.write_text(FrameSidecar.of_grid(clip.grid, len(frames)).to_json())
        (folder / BEFORE_AFTER_FILE).write_bytes(before_after(clip.frames[0], frames[0]))
        return ItemOutput(
            facts={"origin": IMPORTED, "prompt": edit.prompt_key, **frame_facts(video, sidecar, clip.grid)}
        )

    return compute


def _edited_frames(items: EditItems, key: str, edit: FoundEdit) -> NDArray[np.uint8]:
    """All frames of an imported edited video, checked against its clip and against the sidecar beside it, if any."""
    from lanepaint_assets.clips.decoding import read_all_frames
    from lanepaint_assets.clips.video_file import InvalidClipError

    sidecar = _sidecar(edit)
    shown = items.reader.frames(items.by_key[key].clip_key)
    clip, grid = shown.frames, shown.grid
    try:
        frames = read_all_frames(edit.path)
    except InvalidClipError as error:
        raise ItemError(f"{edit.path}: {error}") from error
    height, width = clip.shape[1:3]
    if len(frames) > len(clip) or frames.shape[1] < height or frames.shape[2] < width:
        raise ItemError(
            f"{edit.path.name} has {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, its clip "
            f"{len(clip)} of {width}x{height}; import the edited video alone, at the clip's size"
        )
    if sidecar is not None and len(sidecar) != len(frames):
        raise ItemError(
            f"{edit.path.name} has {len(frames)} frames, but {SIDECAR_FILE} beside it {len(sidecar)} entries: which "
            "moments they show cannot be told; export both again, or remove a sidecar that belongs to another video"
        )
    # The clip of an imported tree has a clock of its own, so times count from the first frame.
    times_us = grid.timestamps_us[: len(frames)] - grid.timestamps_us[0]
    if sidecar is not None and not np.array_equal(sidecar.timestamps_us - sidecar.timestamps_us[0], times_us):
        raise ItemError(
            f"{SIDECAR_FILE} beside {edit.path.name} is of another frame grid than its clip's first {len(frames)} "
            "frames; set LANEPAINT_CLIP_GRID to the one that the edit was made with, or import its clip too"
        )
    return frames[:, :height, :width]


def _sidecar(edit: FoundEdit) -> FrameSidecar | None:
    """The sidecar that lies beside an edited video; other tools write none."""
    path = edit.path.with_name(SIDECAR_FILE)
    if not path.is_file():
        return None
    try:
        return FrameSidecar.from_json(path.read_bytes(), str(path))
    except ValueError as error:
        raise ItemError(str(error)) from error
