"""Where a chunk's results come from: rows of every asset, engines, checkpoints, deciding settings, licences.

Called by `report_steps.py` and `report_items.py`. It reads manifests and what lies beside them, never an item's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS, list_checkpoint
from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.engines import ENGINES, Role, is_foundation_model, parse_label
from lanepaint_assets.store.manifest import ItemRow, Manifest

if TYPE_CHECKING:
    from lanepaint_assets.clips.records import SourceKind
    from lanepaint_assets.licences import LicenceNote
    from lanepaint_assets.rendering.report_content import CheckpointNote, LineageStep
    from lanepaint_assets.rendering.scene import EngineLabel

CLIP_ASSETS = ("raw_clips", "road_masks", "vp_inputs", "original_trajectories")
ITEM_ASSETS = ("first_frames", "edited_videos", "edited_trajectories", "video_quality", "trajectory_videos")

# What decides results beside the engines' own settings.
SETTINGS = (
    "study_seed",
    "samples",
    "edited_camera_only",
    "positive_control",
    "clip_grid",
    "frame_limit",
    "marking_standard",
    "refine_iterations",
    "min_road_confidence",
    "fill_all_holes",
    "mask_dilation_px",
    "mask_feather_px",
    "keep_masked_pixels",
)
# Between spaces, quotes and punctuation; what holds a digit, a slash, a dot or an underscore is no plain word.
_PLAIN_WORD = re.compile(r"(?<![^\s('\"])[A-Za-z-]+(?=[,;:.!?)'\"]*(?:\s|$))")
ROLES: tuple[Role, ...] = ("segmenter", "first_frame_painter", "video_painter", "inspector", "driver")


class ReportRows:
    """The rows of all assets of one chunk, those that are not made yet left out."""

    def __init__(self, reader: ChunkReader) -> None:
        self.reader = reader
        self.edits = reader.edits(())

    def manifest(self, asset: str) -> Manifest:
        """An asset's manifest; one without rows where it was not made yet."""
        if asset == "edited_trajectories":
            return self.reader.manifest(asset)
        return self._manifests[asset]

    @cached_property
    def _manifests(self) -> dict[str, Manifest]:
        store, chunk = self.reader.platform.store, self.reader.chunk
        return {asset: store.manifest(asset, chunk) for asset in (*CLIP_ASSETS, *ITEM_ASSETS)}

    def row(self, asset: str, key: str) -> ItemRow | None:
        """One row; None where there is none."""
        return self.manifest(asset).rows.get(key)

    @cached_property
    def refused(self) -> dict[str, ItemRow]:
        """Clips of the chunk that could not be used, by item key."""
        return {key: row for key, row in self.manifest("raw_clips").rows.items() if row.status == "failed"}

    def states(self) -> dict[str, str]:
        """All that decides what the report shows: row by row its fingerprint, status and the words of its reason."""
        clip_keys = {edit.clip_key for edit in self.edits.values()} | set(self.refused)
        return {
            f"{asset}/{key}": f"{row.fingerprint}:{row.status}:{wording(row.reason)}"
            for assets, keys in ((CLIP_ASSETS, clip_keys), (ITEM_ASSETS, set(self.edits)))
            for asset in assets
            for key, row in self.manifest(asset).rows.items()
            if key in keys
        }

    def lineage(self, key: str, assets: tuple[str, ...]) -> tuple[LineageStep, ...]:
        """The rows of one clip or item, from the source on."""
        from lanepaint_assets.rendering.report_content import LineageStep

        rows = [(asset, row) for asset in assets if (row := self.row(asset, key)) is not None]
        return tuple(LineageStep(asset, row.fingerprint, row.status, row.engine, row.run_id) for asset, row in rows)

    def engines(self, key: str, edit: Edit, drove: EngineLabel | None) -> tuple[EngineLabel, ...]:
        """All engines that had a part in one item, without the one that only judged the result.

        The control `roundtrip` is not painted, so its painter and inspector had none.
        """
        labels = [_label("segmenter", self._engine("road_masks", edit.clip_key))]
        if edit.prompt.kind != "roundtrip":
            first, _, inspector = (self._engine("first_frames", key) or "").partition(" + ")
            labels += [
                _label("first-frame painter", first or None),
                _label("inspector", inspector or None),
                _label("painter", self._engine("edited_videos", key)),
            ]
        found = [label for label in (*labels, drove) if label is not None]
        painters = {(label.name, label.version) for label in found if label.role == "painter"}
        return tuple(
            label
            for label in found
            if label.role != "first-frame painter" or (label.name, label.version) not in painters
        )

    def verifier(self, key: str) -> EngineLabel | None:
        """The inspector that judged an edit without having refined it; None where there was none."""
        from lanepaint_assets.rendering.report_content import VERIFYING_INSPECTOR

        return _label(VERIFYING_INSPECTOR, self._engine("video_quality", key))

    def _engine(self, asset: str, key: str) -> str | None:
        row = self.row(asset, key)
        return None if row is None else row.engine


def _label(role: str, text: str | None) -> EngineLabel | None:
    from lanepaint_assets.rendering.scene import EngineLabel

    if text is None:
        return None
    return EngineLabel(role, *parse_label(text), is_foundation_model(text))


def deciding_settings(reader: ChunkReader) -> dict[str, str]:
    """Name to value of every setting in force that decides results."""
    platform = reader.platform
    chosen = {name: getattr(platform.settings, name) for name in SETTINGS} | platform.deciding_settings(*ROLES)
    return {name: str(value) for name, value in chosen.items()}


def checkpoints(reader: ChunkReader, engines: tuple[EngineLabel, ...]) -> tuple[CheckpointNote, ...]:
    """Digests of the checkpoints that the engines read, as the checkpoints' own assets state them."""
    from lanepaint_assets.rendering.report_content import CheckpointNote

    platform = reader.platform
    names = {label.name for label in engines}
    files = {file.asset: file for entry in ENGINES if entry.name in names for file in entry.checkpoints}
    root = platform.store.root / "checkpoints"
    return tuple(
        CheckpointNote(
            asset, list_checkpoint(root / CHECKPOINT_FOLDERS[asset], files[asset].file_name(platform.settings)).version
        )
        for asset in sorted(files)
    )


def licences(
    kinds: Iterable[SourceKind], engines: Iterable[EngineLabel], instruments: Iterable[str]
) -> tuple[LicenceNote, ...]:
    """The terms of the clips, of every engine that took part, and of what figures were measured with.

    Args:
        kinds: whose clips they are.
        engines: by their roles; drivers and verifying inspectors put nothing into a video.
        instruments: names as `engine_licences` takes them.
    """
    from lanepaint_assets.licences import engine_licences, source_licence
    from lanepaint_assets.rendering.report_content import VERIFYING_INSPECTOR

    labels = tuple(engines)
    answering = {label.name for label in labels if label.role in ("driver", VERIFYING_INSPECTOR)}
    makers = {label.name for label in labels if label.role not in ("driver", VERIFYING_INSPECTOR)}
    clips = tuple(source_licence(kind) for kind in sorted(set(kinds)))
    return (*clips, *engine_licences(makers, answering | set(instruments)))


def wording(reason: str | None) -> str:
    """The plain words of a reason, for a fingerprint: no paths, numbers or names, which differ between hosts and runs.

    A page that shows a reason is made anew when it says something else, and not when it says the same of another
    temporary folder.
    """
    return " ".join(_PLAIN_WORD.findall(reason or ""))
