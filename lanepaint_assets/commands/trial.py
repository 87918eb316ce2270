"""`lanepaint segment|inspect|edit PATH --out DIR`: one engine on a video, a picture or a folder of frames.

No Dagster, no store: for looking at what an engine does before anything is registered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lanepaint_assets.clips.decoding import read_frames
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.pictures import read_picture, write_picture
from lanepaint_assets.clips.probing import InvalidClipError, probe_clip
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.editing.catalogue import ROUNDTRIP, Prompt
from lanepaint_assets.editing.compositing import chosen_edges, composite_video
from lanepaint_assets.editing.engine import EditScene, LoraWeights, PaintInstruction
from lanepaint_assets.editing.loras import chosen_lora
from lanepaint_assets.editing.refinement import FirstFrameRequest, paint_first_frames
from lanepaint_assets.lanes.geometry import ClipGeometry, clip_geometry
from lanepaint_assets.lanes.inspector import LaneInspection, RoadView
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.cleanup import CleanedMasks, clean_video_masks
from lanepaint_assets.segmentation.outputs import write_mask_pictures
from lanepaint_assets.segmentation.plausibility import road_plausibility
from lanepaint_assets.store.seeds import seed

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What PATH held: frames in order, the names that results get, and their times.

    Attributes:
        frames: (T, H, W, 3) sRGB uint8.
        stems: T file name stems.
        timestamps_us: (T,) int64, when each was taken.
        rate_hz: frames a second.
        is_video: False for pictures, whose edited form is pictures too.
    """

    frames: NDArray[np.uint8]
    stems: tuple[str, ...]
    timestamps_us: NDArray[np.int64]
    rate_hz: float
    is_video: bool


def load(platform: Platform, path: Path, frame_rate_hz: float) -> Pictures:
    """Read a video (its grid frames), one picture, or a folder of equally sized frames in the order of their names.

    Args:
        frame_rate_hz: of a folder of frames.

    Raises:
        CommandError: nothing there, a video that cannot be used, or frames of several sizes.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        if not files:
            raise CommandError(f"{path} holds no {', '.join(sorted(PICTURE_SUFFIXES))} file; give a folder of frames")
        pictures = [read_picture(file.read_bytes(), file.name) for file in files]
        sizes = {picture.shape for picture in pictures}
        if len(sizes) > 1:
            raise CommandError(
                f"{path} holds pictures of {len(sizes)} sizes, which are no frames of one clip; give them one by one"
            )
        times = np.round(np.arange(len(files)) * 1e6 / frame_rate_hz).astype(np.int64)
        return Pictures(np.stack(pictures), tuple(file.stem for file in files), times, frame_rate_hz, is_video=False)
    if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
        picture = read_picture(path.read_bytes(), path.name)
        return Pictures(picture[None], (path.stem,), np.zeros(1, np.int64), frame_rate_hz, is_video=False)
    if not path.is_file():
        raise CommandError(f"{path} does not exist; give a video, a picture or a folder of frames")
    settings = platform.settings
    source = open_source(str(path.resolve()), settings.cameras)
    ref = next(source.chunks()).clips[0]
    try:
        facts = probe_clip(source, ref, settings.clip_grid, settings.frame_limit)
    except InvalidClipError as error:
        raise CommandError(f"{path} cannot be used: {error}") from error
    with source.open_video(ref) as local:
        clip = read_frames(local, facts)
    stems = tuple(f"{index:05d}" for index in range(len(clip.frames)))
    return Pictures(clip.frames, stems, clip.taken_us, clip.grid.rate_hz, is_video=True)


def _refuse_used(out: Path, suffix: str) -> None:
    """Old results would stand beside the new ones, or a source picture be replaced by its mask."""
    used = next(iter(sorted(out.glob(f"*{suffix}"))), None)
    if used is not None:
        raise CommandError(f"{out} holds {suffix} files already, such as {used.name}; give another --out, or empty it")


def segment(platform: Platform, path: Path, out: Path, frame_rate_hz: float, say: Say) -> None:
    """Write one paint mask PNG a frame, 0 keep and 255 paint.

    Raises:
        CommandError: the pictures show no road, or the folder holds PNGs already.
    """
    _refuse_used(out, ".png")
    pictures = load(platform, path, frame_rate_hz)
    masks = _masks(platform, pictures)
    found = road_plausibility(pictures.frames, masks.road)
    if found.confidence < platform.settings.min_road_confidence:
        raise CommandError(f"no masks written: {found.refusal}")
    write_mask_pictures(out, masks.paint, list(pictures.stems))
    say(
        f"{len(pictures.stems)} mask(s) in {out}, road on {masks.road.mean():.0%} of the picture on average, "
        f"confidence {found.confidence:.2f}"
    )


def inspect(platform: Platform, path: Path, out: Path, frame_rate_hz: float, say: Say) -> None:
    """Write one JSON of measured lane lines a frame.

    Raises:
        CommandError: the folder holds JSONs already.
    """
    _refuse_used(out, ".json")
    pictures = load(platform, path, frame_rate_hz)
    geometry = _geometry(pictures)
    masks = _masks(platform, pictures)
    out.mkdir(parents=True, exist_ok=True)
    for index, stem in enumerate(tqdm(pictures.stems, unit="frame", file=sys.stderr, disable=None, leave=False)):
        inspection = platform.inspector.inspect(_view(pictures, geometry, masks, index))
        (out / f"{stem}.json").write_text(json.dumps(inspection_json(inspection), indent=1))
    say(f"{len(pictures.stems)} file(s) in {out}; last frame: {_found(inspection)}")


def _found(inspection: LaneInspection) -> str:
    if inspection.lines:
        return inspection.caption
    return "no lane markings found" + (f" ({inspection.reason})" if inspection.reason else "")


def inspection_json(inspection: LaneInspection) -> dict[str, object]:
    """An inspection as plain JSON; positions in pixels of the picture and metres of the rig frame."""
    return {
        "caption": inspection.caption,
        "confidence": round(inspection.confidence, 3),
        "reason": inspection.reason,
        "lines": [
            {
                "role": line.role,
                "count": line.style.count,
                "color": line.style.color,
                "pattern": line.style.pattern,
                "confidence": round(line.confidence, 3),
                "style_confidence": round(line.style_confidence, 3),
                "width_m": None if np.isnan(line.width_m) else round(line.width_m, 3),
                "polyline_px": np.round(line.polyline_px, 2).tolist(),
            }
            for line in inspection.lines
        ],
    }


def edit(platform: Platform, path: Path, out: Path, prompt_key: str, frame_rate_hz: float, say: Say) -> None:
    """Write the edited video, or the edited pictures where PATH is no video.

    Raises:
        UnpaintableSceneError: no lane could be found to paint.
        CommandError: the pictures show no road, or the folder holds PNGs already and edited pictures would join them.
    """
    prompt = platform.catalogue[prompt_key]
    pictures = load(platform, path, frame_rate_hz)
    if not pictures.is_video:
        _refuse_used(out, ".png")
    settings = platform.settings
    edited = pictures.frames
    if prompt.key != ROUNDTRIP:
        masks = _masks(platform, pictures)
        found = road_plausibility(pictures.frames, masks.road)
        if found.confidence < settings.min_road_confidence:
            raise CommandError(f"nothing is painted: {found.refusal}")
        geometry = _geometry(pictures)
        scene = EditScene(
            item_key=path.stem,
            frames=pictures.frames,
            timestamps_us=pictures.timestamps_us,
            paint_masks=masks.paint,
            camera=geometry.camera,
            ego=geometry.ego,
        )
        wanted = prompt.style or platform.inspector.inspect(_view(pictures, geometry, masks, 0)).style
        instruction = PaintInstruction(
            style=prompt.style,
            caption=platform.inspector.first_caption(prompt.instruction, wanted, pictures.frames[0]),
            marking_standard=prompt.marking_standard or settings.marking_standard,
            seed=seed(settings.study_seed, "painter", path.stem),
            lora=_lora(platform, prompt),
        )
        edges = chosen_edges(settings)
        request = FirstFrameRequest(scene, instruction, wanted, prompt.instruction)
        [(first, _)] = paint_first_frames([request], platform.first_frame_painter, edges)
        if isinstance(first, Exception):
            raise first
        edited = platform.video_painter.paint_video(scene, first, instruction)
        if edges is not None:
            edited = composite_video(pictures.frames, edited, masks.paint, edges)
    out.mkdir(parents=True, exist_ok=True)
    if pictures.is_video:
        target = out / f"{path.stem}_{prompt.key}.mp4"
        write_video(target, edited, pictures.rate_hz)
        say(f"edited video: {target}")
        return
    for stem, picture in zip(pictures.stems, edited, strict=True):
        write_picture(out / f"{stem}.png", picture)
    say(f"{len(pictures.stems)} edited picture(s) in {out}")


def _lora(platform: Platform, prompt: Prompt) -> LoraWeights | None:
    lora = chosen_lora(platform, prompt)
    if lora is not None and lora.refusal is not None:
        raise CommandError(lora.refusal)
    return None if lora is None else lora.weights(platform)


def _geometry(pictures: Pictures) -> ClipGeometry:
    return clip_geometry(pictures.frames, pictures.timestamps_us, None, None)


def _masks(platform: Platform, pictures: Pictures) -> CleanedMasks:
    segmenter = platform.segmenter
    raw = (
        segmenter.segment_video(pictures.frames)
        if len(pictures.frames) > 1
        else segmenter.segment_picture(pictures.frames[0])[None]
    )
    return clean_video_masks(raw, fill_all_holes=platform.settings.fill_all_holes)


def _view(pictures: Pictures, geometry: ClipGeometry, masks: CleanedMasks, index: int) -> RoadView:
    return RoadView(
        frames=pictures.frames,
        timestamps_us=pictures.timestamps_us,
        target_index=index,
        camera=geometry.camera,
        ego=geometry.ego,
        road_masks=masks.road,
    )
