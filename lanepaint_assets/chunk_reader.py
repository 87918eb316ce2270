"""What stages read of a chunk: its clips' facts, their decoded frames, their geometry.

One reader serves all assets of a run in one process and remembers decoded clips (`Platform.memory`). It writes
nothing; each stage's `steps.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ChunkMembership, ClipFacts, ClipFrames
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.items import ItemError, ItemTask
from lanepaint_assets.store.manifest import ItemRow, Manifest
from lanepaint_assets.store.upstream import upstream_manifest

if TYPE_CHECKING:
    from lanepaint_assets.clips.sources import ClipSource
    from lanepaint_assets.editing.catalogue import Prompt
    from lanepaint_assets.lanes.geometry import ClipGeometry
    from lanepaint_assets.rendering.cameras import RigCamera

FACTS_FILE = "clip.json"
SIDECAR_FILE = "timestamps.json"


@dataclass(frozen=True)
class Edit:
    """What the item key `<clip_id>.<camera>/<prompt_key>` stands for.

    `selected` is False where this run is narrowed to other prompts.
    """

    clip_key: str
    prompt: Prompt
    selected: bool


def selected_prompts(platform: Platform, selection: Sequence[str]) -> dict[Prompt, bool]:
    """Every prompt that the settings call for, and whether a run narrowed to `selection` makes it.

    Args:
        selection: keys or numbers of prompts from the run config; empty means all.

    Raises:
        PromptSelectionError: a name is not in the catalogue, or not called for by the settings.
    """
    from lanepaint_assets.editing.catalogue import PromptSelectionError

    catalogue = platform.catalogue
    prompts = catalogue.called_for(platform.settings.prompts)
    selected = {prompt.key for prompt in (catalogue.select(selection) if selection else prompts)}
    outside = selected - {prompt.key for prompt in prompts}
    if outside:
        raise PromptSelectionError(
            f"prompt {', '.join(sorted(outside))} is not among those that LANEPAINT_PROMPTS calls for "
            f"({', '.join(prompt.key for prompt in prompts)}); add it there, or leave LANEPAINT_PROMPTS empty"
        )
    return {prompt: prompt.key in selected for prompt in prompts}


class ChunkReader:
    """Read access to one chunk.

    Args:
        platform: settings, store and source.
        chunk: a registered chunk key.
        for_asset: the asset being made, for messages about what is missing.
    """

    def __init__(self, platform: Platform, chunk: str, for_asset: str) -> None:
        self.platform = platform
        self.chunk = chunk
        self.for_asset = for_asset
        self._manifests: dict[str, Manifest] = {}

    @cached_property
    def membership(self) -> ChunkMembership:
        """The clips that were registered as this chunk."""
        return self.platform.store.chunk(self.chunk)

    @cached_property
    def source(self) -> ClipSource:
        """The source that the chunk was registered from."""
        return self.platform.source(self.membership.source)

    @property
    def clips(self) -> Manifest:
        """The manifest of `raw_clips`."""
        return self.manifest("raw_clips")

    def manifest(self, asset: str) -> Manifest:
        """The manifest of an upstream asset, read once; a clear error where it has no rows."""
        if asset not in self._manifests:
            self._manifests[asset] = upstream_manifest(self.platform.store, asset, self.chunk, self.for_asset)
        return self._manifests[asset]

    @property
    def clip_keys(self) -> list[str]:
        """Item keys of all clips that are still there, broken ones too, in the chunk's order."""
        rows = self.clips.rows
        return [
            ref.item_key
            for ref in self.membership.clips
            if ref.item_key in rows and rows[ref.item_key].status != "retired"
        ]

    def facts(self, clip_key: str) -> ClipFacts:
        """Facts and frame grid of a valid clip."""
        return ClipFacts.model_validate_json(self.platform.store.read_bytes(self._clip_row(clip_key), FACTS_FILE))

    def frames(self, clip_key: str) -> ClipFrames:
        """Decoded grid frames of a valid clip."""
        row = self._clip_row(clip_key)

        def decode() -> ClipFrames:
            from lanepaint_assets.clips.decoding import read_frames

            facts = self.facts(clip_key)
            with self.source.open_video(facts.ref) as path:
                return read_frames(path, facts)

        return self.platform.memory.get(("frames", clip_key, row.fingerprint), decode)

    def geometry(self, clip_key: str) -> ClipGeometry:
        """Camera and ego motion of a valid clip: the data set's, or estimated from the pictures."""
        row = self._clip_row(clip_key)

        def estimate() -> ClipGeometry:
            from lanepaint_assets.lanes.geometry import clip_geometry

            clip = self.frames(clip_key)
            ref = self.facts(clip_key).ref
            ego = self.source.egomotion(ref)
            return clip_geometry(clip.frames, clip.taken_us, self.camera(clip_key), ego, ref.camera)

        return self.platform.memory.get(("geometry", clip_key, row.fingerprint), estimate)

    def camera(self, clip_key: str) -> RigCamera | None:
        """The calibrated camera of a valid clip in pixels of its frames; None where the data set has none."""
        facts = self.facts(clip_key)
        camera = self.source.camera(facts.ref)
        return None if camera is None else camera.resized(facts.width, facts.height)

    def edits(self, selection: Sequence[str]) -> dict[str, Edit]:
        """Every clip x prompt that the settings call for, by item key, clip by clip.

        Args:
            selection: keys or numbers of prompts from the run config; empty means all.

        Raises:
            PromptSelectionError: a name is not in the catalogue, or not called for by the settings.
        """
        prompts = selected_prompts(self.platform, selection)
        return {
            f"{clip_key}/{prompt.key}": Edit(clip_key, prompt, selected)
            for clip_key in self.clip_keys
            for prompt, selected in prompts.items()
        }

    def spread(self, tasks: Sequence[ItemTask]) -> list[ItemTask]:
        """Tasks of clip x prompt in the order to compute them: as many clips at a time as there are workers.

        Every worker then has a clip of its own to decode and analyse, all of a clip's prompts follow closely, and no
        more clips than that have to be held in memory.
        """
        workers = self.platform.settings.workers
        place = {clip_key: index // workers for index, clip_key in enumerate(self.clip_keys)}
        turn: dict[str, int] = {}
        order = []
        for task in tasks:
            clip_key = task.key.rpartition("/")[0]
            turn[clip_key] = turn.get(clip_key, -1) + 1
            order.append((place[clip_key], turn[clip_key]))
        return [tasks[index] for index in sorted(range(len(tasks)), key=order.__getitem__)]

    def edited_name(self, clip_key: str) -> str:
        """File name of a clip's edited videos (spec 10)."""
        from lanepaint_assets.editing.file_names import EditedVideoName

        ref = self.facts(clip_key).ref
        return str(EditedVideoName(ref.clip_id, ref.camera))

    def edited_frames(
        self, item_key: str, wanted_us: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Frames of an edited video in the source's size, and their times.

        Args:
            item_key: of `edited_videos`.
            wanted_us: times to decode, None for all.

        Raises:
            ItemError: the video lacks a wanted time, has another number of frames than its sidecar, or is damaged.
        """
        from lanepaint_assets.clips.decoding import read_frames_at
        from lanepaint_assets.clips.frame_sidecar import FrameSidecar
        from lanepaint_assets.clips.video_file import InvalidClipError

        store = self.platform.store
        row = self.manifest("edited_videos").rows[item_key]
        clip_key = item_key.rpartition("/")[0]
        times_us = FrameSidecar.from_json(
            store.read_bytes(row, SIDECAR_FILE), f"{SIDECAR_FILE} of {item_key}"
        ).timestamps_us
        chosen_us = times_us if wanted_us is None else wanted_us
        missing = np.setdiff1d(chosen_us, times_us)
        if missing.size:
            raise ItemError(
                f"the edited video {item_key} has no frame at {int(missing[0])} us; it lies on another frame grid: "
                "materialize edited_videos of the chunk again"
            )
        facts = self.facts(clip_key)
        try:
            with store.local_file(row, self.edited_name(clip_key)) as path:
                frames = read_frames_at(path, times_us, chosen_us)
        except InvalidClipError as error:
            raise ItemError(
                f"the edited video {item_key} does not fit its sidecar {SIDECAR_FILE} of {times_us.size} entries "
                f"({error}): materialize edited_videos of the chunk again"
            ) from error
        # Encoding makes odd sides even by repeating the last row or column.
        return frames[:, : facts.height, : facts.width], chosen_us

    def paint_masks(self, clip_key: str) -> NDArray[np.bool_]:
        """(T, H, W), True where paint may go, from the clip's VideoPainter folder."""
        from lanepaint_assets.segmentation.vp_folder import read_vp_masks, video_painter_id

        row = self.manifest("vp_inputs").rows[clip_key]

        def read() -> NDArray[np.bool_]:
            with self.platform.store.local_file(row, f"masks/{video_painter_id(clip_key)}/all_masks.npz") as path:
                return read_vp_masks(path)

        return self.platform.memory.get(("paint_masks", clip_key, row.fingerprint), read)

    def road_mask(self, frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(H, W), the cleaned road of a single (H, W, 3) picture."""
        from lanepaint_assets.segmentation.cleanup import clean_road_mask
        from lanepaint_assets.segmentation.point_grid import reference_point

        height, width = frame.shape[:2]
        return clean_road_mask(self.platform.segmenter.segment_picture(frame), reference_point(width, height))

    def _clip_row(self, clip_key: str) -> ItemRow:
        return self.clips.rows[clip_key]
