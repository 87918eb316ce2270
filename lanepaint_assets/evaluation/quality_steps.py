"""What `video_quality` does, without Dagster: how good each edited video is, and what a second inspector says of it.

CPU work, but for an inspector with weights where the settings name one. Frames and masks come from the chunk reader's
memory, so that all prompts of a clip decode its original once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.platform import Platform, Verifier
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, PartitionOutcome, run_items
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.upstream import needs

if TYPE_CHECKING:
    from lanepaint_assets.evaluation.independent_verdict import IndependentVerdict
    from lanepaint_assets.evaluation.video_quality import QualityRecord
    from lanepaint_assets.lanes.inspector import LaneInspector
    from lanepaint_assets.rendering.region_quality import PictureDistance, RawQuality

# Raise when a measure, its frames or the record changes.
VIDEO_QUALITY_VERSION = "1"

QUALITY_SUFFIX = "_quality.json"

# Facts of an item whose means over a partition are shown as figures.
FIGURES = (
    "outside_psnr_db",
    "outside_ssim",
    "outside_lpips",
    "inside_psnr_db",
    "inside_ssim",
    "inside_lpips",
    "temporal_warp_error",
    "temporal_warp_error_original",
)


class QualityItems:
    """Tasks of `video_quality`, and what their items need of one chunk."""

    def __init__(self, platform: Platform, chunk: str, selection: Sequence[str]) -> None:
        self.platform = platform
        self.reader = ChunkReader(platform, chunk, "video_quality")
        self.edited = self.reader.manifest("edited_videos")
        self.firsts = self.reader.manifest("first_frames")
        self.inputs = self.reader.manifest("vp_inputs")
        self.by_key = self.reader.edits(selection)
        self._verifiers: dict[str | None, Verifier | None] = {}
        self._inspectors: dict[str, LaneInspector] = {}
        # An inspector remembers the last clip, or a device: it answers one item at a time.
        self.judging = threading.Lock()

    def verifier(self, key: str, edit: Edit) -> Verifier | None:
        """Who may judge an item; None for control prompts, and where nobody but the one who refined it is at hand."""
        from lanepaint_assets.evaluation.independent_verdict import refined_by

        if edit.prompt.style is None:
            return None
        first = self.firsts.rows.get(key)
        name = refined_by(None if first is None else first.engine)
        if name not in self._verifiers:
            self._verifiers[name] = self.platform.verifier(name)
        return self._verifiers[name]

    def inspector(self, verifier: Verifier) -> LaneInspector:
        """The verifier's inspector, loaded at its first question."""
        if verifier.label not in self._inspectors:
            self._inspectors[verifier.label] = verifier.load()
        return self._inspectors[verifier.label]

    def release(self) -> None:
        """Every question has been asked."""
        for inspector in self._inspectors.values():
            inspector.release()

    @cached_property
    def lpips(self) -> tuple[PictureDistance | None, str | None]:
        """LPIPS, or why it is absent."""
        from lanepaint_assets.torch_models.lpips import load_lpips

        return load_lpips()


def quality_tasks(items: QualityItems) -> list[ItemTask]:
    """One task a clip x prompt."""
    from lanepaint_assets.torch_models.lpips import why_absent

    settings = items.platform.settings
    has_lpips = why_absent() is None
    tasks = []
    for key, edit in items.by_key.items():
        need = needs(
            {
                "edited_videos": (items.edited, key),
                "first_frames": (items.firsts, key),
                "vp_inputs": (items.inputs, edit.clip_key),
                "raw_clips": (items.reader.clips, edit.clip_key),
            }
        )
        verifier = None if need.blocked else items.verifier(key, edit)
        tasks.append(
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset="video_quality",
                    item_key=key,
                    upstream=need.fingerprints,
                    engine=None if verifier is None else verifier.label,
                    params={
                        "algorithm": VIDEO_QUALITY_VERSION,
                        "dilation_px": settings.mask_dilation_px,
                        "feather_px": settings.mask_feather_px,
                        "lpips": has_lpips,
                        "engine_settings": {} if verifier is None else dict(verifier.deciding),
                    },
                    checkpoints={} if verifier is None else dict(verifier.checkpoints),
                ),
                selected=edit.selected,
                blocked=need.blocked,
                engine=None if verifier is None else verifier.label,
            )
        )
    return tasks


def make_video_quality(platform: Platform, chunk: str, run_id: str, selection: Sequence[str]) -> PartitionOutcome:
    """Measure every edited video and have it judged where an independent inspector is at hand."""
    items = QualityItems(platform, chunk, selection)

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        record, timings_s = _record(items, task.key, items.by_key[task.key])
        stem = Path(items.reader.edited_name(items.by_key[task.key].clip_key)).stem
        (folder / f"{stem}{QUALITY_SUFFIX}").write_text(record.to_json())
        return ItemOutput(facts=_facts(items.by_key[task.key], record), timings_s=timings_s)

    try:
        return run_items(
            platform.store,
            "video_quality",
            chunk,
            items.reader.spread(quality_tasks(items)),
            compute,
            run_id=run_id,
            workers=platform.settings.workers,
            progress=platform.progress_for("video_quality"),
        )
    finally:
        items.release()


def mean_figures(outcome: PartitionOutcome) -> dict[str, float]:
    """Means over the edits of a partition, control prompts left out, by name; nothing where nothing was measured."""
    rows = [row for row in outcome.rows if row.status == "ok" and row.facts.get("is_control") is False]
    figures = {}
    for name in FIGURES:
        values = [value for row in rows if isinstance(value := row.facts.get(name), int | float)]
        if values:
            figures[f"mean_{name}"] = round(float(np.mean(values)), 6)
    return figures


def _record(items: QualityItems, key: str, edit: Edit) -> tuple[QualityRecord, dict[str, float]]:
    from lanepaint_assets.evaluation.video_quality import QualityRecord
    from lanepaint_assets.evaluation.warp_error import warp_errors
    from lanepaint_assets.rendering.mask_edges import MaskEdges
    from lanepaint_assets.rendering.region_quality import region_quality

    settings = items.platform.settings
    started = perf_counter()
    videos = _videos(items, key, edit)
    geometry = items.reader.geometry(edit.clip_key)
    loaded = perf_counter()
    distance, lpips_reason = items.lpips
    edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
    pair = region_quality(videos.original, videos.edited, videos.masks, edges, distance)
    compared = perf_counter()
    warp = warp_errors(videos.original, videos.edited, videos.masks, videos.taken_us, geometry.camera, geometry.ego)
    warped = perf_counter()
    verdict = _verdict(items, key, edit, videos)
    raw = _raw(items.edited.rows[key])
    record = QualityRecord(
        inside=pair.inside,
        outside=pair.outside,
        region_reason=pair.reason,
        inside_raw=raw.inside,
        outside_raw=raw.outside,
        raw_reason=raw.reason,
        temporal_warp_error=warp.edited,
        temporal_warp_error_original=warp.original,
        warp_reason=warp.reason,
        lpips_reason=lpips_reason,
        frames=len(videos.edited),
        ssim_frames=pair.picture_frames,
        lpips_frames=0 if distance is None else pair.picture_frames,
        warp_pairs=warp.pairs,
        verdict=verdict,
    )
    timings_s = {
        "load": loaded - started,
        "compare": compared - loaded,
        "warp": warped - compared,
        "verify": perf_counter() - warped,
    }
    return record, timings_s


@dataclass(frozen=True)
class _Videos:
    """The frames that the edit and the clip have in common: (T, H, W, 3) each, their masks, when they were taken."""

    original: NDArray[np.uint8]
    edited: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    taken_us: NDArray[np.int64]


def _videos(items: QualityItems, key: str, edit: Edit) -> _Videos:
    """Both videos on the edit's frames: an imported edit may be shorter than its clip.

    Raises:
        ItemError: the edited video or the masks do not fit the clip.
    """
    clip, masks = items.reader.frames(edit.clip_key), items.reader.paint_masks(edit.clip_key)
    if masks.shape != clip.frames.shape[:3]:
        raise ItemError(
            f"the masks of {edit.clip_key} are {masks.shape} but its frames are {clip.frames.shape[:3]}; "
            "materialize road_masks and vp_inputs of the chunk again"
        )
    edited, times_us = items.reader.edited_frames(key)
    if not np.isin(times_us, clip.timestamps_us).all():
        raise ItemError(
            f"the edited video {key} shows {times_us.size} frames of which some are not on its clip's frame grid of "
            f"{len(clip.frames)}: materialize edited_videos of the chunk again"
        )
    if edited.shape[1:] != clip.frames.shape[1:]:
        raise ItemError(
            f"the edited video {key} has {edited.shape[2]}x{edited.shape[1]} pixels, its clip {clip.frames.shape[2]}x"
            f"{clip.frames.shape[1]}: materialize edited_videos of the chunk again"
        )
    if len(edited) == len(clip.frames):
        return _Videos(clip.frames, edited, masks, clip.taken_us)
    at = np.searchsorted(clip.timestamps_us, times_us)
    return _Videos(clip.frames[at], edited, masks[at], clip.taken_us[at])


def _raw(row: ItemRow) -> RawQuality:
    """What was measured when the edit was composited."""
    from lanepaint_assets.rendering.region_quality import RawQuality

    measured = row.facts.get("raw_quality")
    if measured is None:
        return RawQuality(inside=None, outside=None, reason="the video was imported: the painter's output is not known")
    return RawQuality.model_validate(measured)


def _verdict(items: QualityItems, key: str, edit: Edit, videos: _Videos) -> IndependentVerdict:
    from lanepaint_assets.evaluation.independent_verdict import (
        CONTROL_PROMPT,
        NOT_VERIFIED,
        judge_video,
        refined_by,
        unjudged,
    )
    from lanepaint_assets.lanes.inspector import RoadView

    if edit.prompt.style is None:
        return unjudged(CONTROL_PROMPT)
    verifier = items.verifier(key, edit)
    if verifier is None:
        return unjudged(NOT_VERIFIED)
    geometry = items.reader.geometry(edit.clip_key)
    original, edited = (
        RoadView(frames, videos.taken_us, 0, geometry.camera, geometry.ego, videos.masks)
        for frames in (videos.original, videos.edited)
    )
    with items.judging:
        verdict = judge_video(
            items.inspector(verifier), verifier.label, original, edited, edit.prompt.style, edit.prompt.instruction
        )
    if refined_by(items.firsts.rows[key].engine) is None:
        return verdict.model_copy(update={"text": f"{verdict.text} (imported: who refined it is not known)"})
    return verdict


def _facts(edit: Edit, record: QualityRecord) -> dict[str, JsonValue]:
    """What the asset's table shows."""
    return {
        "prompt": edit.prompt.key,
        "is_control": edit.prompt.is_control,
        "outside_psnr_db": None if record.outside is None else record.outside.psnr_db,
        "outside_ssim": None if record.outside is None else record.outside.ssim,
        "outside_lpips": None if record.outside is None else record.outside.lpips,
        "inside_psnr_db": None if record.inside is None else record.inside.psnr_db,
        "inside_ssim": None if record.inside is None else record.inside.ssim,
        "inside_lpips": None if record.inside is None else record.inside.lpips,
        "temporal_warp_error": record.temporal_warp_error,
        "temporal_warp_error_original": record.temporal_warp_error_original,
        "verified": record.verdict.agrees,
        "verification": record.verdict.text,
        "notes": "; ".join(
            f"{measure}: {reason}"
            for measure, reason in (
                ("regions", record.region_reason),
                ("painter's own output", record.raw_reason),
                ("warp error", record.warp_reason),
                ("LPIPS", record.lpips_reason),
            )
            if reason is not None
        ),
    }
