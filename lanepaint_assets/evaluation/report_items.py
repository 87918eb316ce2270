"""The report's sections, item by item, from the rows and files that earlier assets left.

Called by `report_steps.py`. A file that is missing or cannot be read costs its item a figure, never the report.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lanepaint_assets.chunk_reader import ChunkReader, Edit
from lanepaint_assets.clips.records import SourceKind
from lanepaint_assets.evaluation.independent_verdict import NOT_VERIFIED
from lanepaint_assets.evaluation.quality_steps import QUALITY_SUFFIX
from lanepaint_assets.evaluation.report_lineage import CLIP_ASSETS, ITEM_ASSETS, ReportRows
from lanepaint_assets.evaluation.results import InferenceResult
from lanepaint_assets.evaluation.video_quality import QualityRecord
from lanepaint_assets.rendering.report_content import (
    ArmFigures,
    AttributeNote,
    ClipSection,
    ItemSection,
    ItemTrajectories,
    RefinementAttempt,
    RefinementHistory,
    VerdictSummary,
    Verification,
    VideoQuality,
)
from lanepaint_assets.rendering.report_pictures import road_before_above_after, thumbnail
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets.store.errors import StoreError

PREVIEW_SUFFIX = "_comparison_preview.mp4"
REFINEMENT_FILE = "refinement.json"
BEFORE_AFTER_FILE = "before_after.png"
ATTEMPT_WIDTH_PX = 320
# As wide as a card of the page.
EXAMPLE_WIDTH_PX = 480


@dataclass(frozen=True)
class Pictures:
    """Item keys that have room in the page: for a video, for thumbnails of attempts, for a picture before and after."""

    videos: Collection[str]
    attempts: Collection[str]
    examples: Collection[str]


@dataclass(frozen=True, eq=False)
class ReadItem:
    """A section with what was read for it.

    Attributes:
        result: None for a failed item.
        engines: those that made the item and that drove.
        verifiers: those that only judged it: one or none.
        source_kind: whose clip it is.
    """

    section: ItemSection
    edit: Edit
    result: InferenceResult | None
    engines: tuple[EngineLabel, ...]
    verifiers: tuple[EngineLabel, ...]
    source_kind: SourceKind

    @property
    def has_lpips(self) -> bool:
        """Whether a figure of it was measured with LPIPS."""
        quality = self.section.quality
        return quality is not None and any(
            region is not None and region.lpips is not None for region in quality.regions.values()
        )


def read_items(rows: ReportRows, pictures: Pictures) -> dict[str, ReadItem]:
    """All items of usable clips, by key, in the catalogue's order."""
    return {
        key: _ItemReader(rows, key, edit).read(pictures)
        for key, edit in rows.edits.items()
        if edit.clip_key not in rows.refused
    }


def clip_sections(rows: ReportRows, items: Mapping[str, ReadItem]) -> tuple[ClipSection, ...]:
    """The items by clip, with the arms that they share."""
    by_clip: dict[str, list[ReadItem]] = {}
    for item in items.values():
        by_clip.setdefault(item.edit.clip_key, []).append(item)
    return tuple(_clip_section(rows, key, of_clip) for key, of_clip in by_clip.items())


def _clip_section(rows: ReportRows, clip_key: str, items: list[ReadItem]) -> ClipSection:
    facts = rows.reader.facts(clip_key)
    caption = next((item.section.edited_caption for item in items if item.section.kind == "repaint_as_measured"), None)
    section = ClipSection(
        clip_id=facts.ref.clip_id,
        camera=facts.ref.camera,
        # The control is painted from the caption of what was measured in the original.
        items=tuple(replace(item.section, original_caption=caption) for item in items),
        frame_rate_hz=facts.grid_rate_hz,
        lineage=rows.lineage(clip_key, CLIP_ASSETS),
    )
    # Outdated items may have been compared with another original.
    results = [item.result for item in items if item.result is not None and item.section.status == "ok"]
    results += [item.result for item in items if item.result is not None]
    if not results:
        return section
    result = results[0]
    before, null = result.original_accuracy, ArmFigures(from_original_m=result.null_same_seeds_ade_m)
    blank = result.positive_control
    known = [f"camera geometry {result.projection_quality}", f"ego motion {result.ego_quality}"]
    if result.edited_camera_only:
        known.append("the driver saw the edited camera alone, in every arm")
    return replace(
        section,
        original=ArmFigures(
            min_ade_m=before.min_ade_m,
            mean_ade_m=before.mean_ade_m,
            medoid_ade_m=before.medoid_ade_m,
            min_fde_m=before.min_fde_m,
            off_lane_share=None if result.off_lane is None else result.off_lane.original_share,
        ),
        null_same_seeds=null,
        null_other_seeds=ArmFigures(
            from_original_m=result.noise_floor_ade_m, lateral_m={3.0: result.noise_floor_lateral_3s_m}
        ),
        positive_control=None
        if blank is None
        else ArmFigures(
            from_original_m=blank.ade_m,
            lateral_m={shift.time_s: shift.shift_m for shift in blank.lateral},
            speed_change_mps=blank.final_speed_change_mps,
        ),
        t0_frame=int(np.searchsorted(facts.grid.timestamps_us, result.temporal.t0_us)),
        facts=tuple(known),
    )


class _ItemReader:
    """Reads one item."""

    def __init__(self, rows: ReportRows, key: str, edit: Edit) -> None:
        self.rows, self.key, self.edit = rows, key, edit
        self.reader: ChunkReader = rows.reader
        self.store = rows.reader.platform.store
        self.stem = Path(self.reader.edited_name(edit.clip_key)).stem

    def read(self, pictures: Pictures) -> ReadItem:
        row, prompt = self.rows.row("edited_trajectories", self.key), self.edit.prompt
        head = ItemSection(
            prompt_key=prompt.key,
            prompt_text=prompt.instruction,
            kind=prompt.kind,
            status="failed",
            lineage=self.rows.lineage(self.key, ITEM_ASSETS),
        )
        if row is None or not row.has_result:
            return self._failed(head, "not made yet" if row is None else row.reason or row.status)
        try:
            result = InferenceResult.from_json(self.store.read_bytes(row, f"{self.stem}_inference.json"))
        except (StoreError, ValueError) as error:
            return self._failed(head, f"{_first_line(error)}; materialize edited_trajectories of the chunk again")
        section = self._shown(replace(head, status="ok" if row.status == "ok" else "outdated"), result, pictures)
        return self._item(section, result)

    def _failed(self, head: ItemSection, reason: str) -> ReadItem:
        return self._item(replace(head, reasons=(reason,)), None)

    def _item(self, section: ItemSection, result: InferenceResult | None) -> ReadItem:
        judged = section.verification is not None and section.verification.inspector is not None
        verifier = self.rows.verifier(self.key) if judged else None
        return ReadItem(
            section=section,
            edit=self.edit,
            result=result,
            engines=self.rows.engines(self.key, self.edit, None if result is None else result.driver.label),
            verifiers=() if verifier is None else (verifier,),
            source_kind=self.reader.facts(self.edit.clip_key).source_kind,
        )

    def _shown(self, head: ItemSection, result: InferenceResult, pictures: Pictures) -> ItemSection:
        after, between = result.edited_accuracy, result.divergence
        quality, verification, quality_reason = self._quality()
        section = replace(
            head,
            figures=ArmFigures(
                min_ade_m=after.min_ade_m,
                mean_ade_m=after.mean_ade_m,
                medoid_ade_m=after.medoid_ade_m,
                min_fde_m=after.min_fde_m,
                from_original_m=between.ade_m,
                lateral_m={shift.time_s: shift.shift_m for shift in between.lateral},
                speed_change_mps=between.final_speed_change_mps,
                reasoning_changed_share=result.reasoning.changed_share,
                off_lane_share=None if result.off_lane is None else result.off_lane.edited_share,
            ),
            verdict=self._verdict(),
            verification=verification,
            quality=quality,
            refinement=self._refinement(self.key in pictures.attempts),
            edited_caption=self._caption(),
            original_reasoning=result.original.reasoning,
            edited_reasoning=result.edited.reasoning,
            trajectories=ItemTrajectories(
                result.original.trajectories_m, result.edited.trajectories_m, result.ground_truth_m, result.history_m
            ),
            example=self._example() if self.key in pictures.examples else None,
        )
        section, video_reason = self._with_video(section, self.key in pictures.videos)
        lane_reason = None if result.off_lane_reason is None else f"no off-lane share: {result.off_lane_reason}"
        reasons = (result.edited.note, result.ground_truth_reason, lane_reason, quality_reason, video_reason)
        return replace(section, reasons=tuple(reason for reason in reasons if reason))

    def _with_video(self, section: ItemSection, has_room: bool) -> tuple[ItemSection, str | None]:
        row = self.rows.row("trajectory_videos", self.key)
        if row is None:
            return section, "its videos are not made yet"
        if not row.has_result:
            return section, f"its videos failed: {row.reason}"
        preview = None
        if has_room:
            try:
                preview = self.store.read_bytes(row, f"{self.stem}{PREVIEW_SUFFIX}")
            except StoreError as error:
                return section, f"its videos cannot be read: {_first_line(error)}"
        outdated = "its videos are outdated" if row.status != "ok" else None
        base = f"{row.folder}/{self.stem}"
        shown = replace(
            section,
            preview_mp4=preview,
            comparison_file=f"{base}_comparison.mp4",
            overlay_file=f"{base}_overlay.mp4",
        )
        return shown, outdated

    def _quality(self) -> tuple[VideoQuality | None, Verification, str | None]:
        row = self.rows.row("video_quality", self.key)
        if row is None or not row.has_result:
            reason = "is not made yet" if row is None else f"failed: {row.reason}"
            return None, Verification(NOT_VERIFIED), f"its video quality {reason}"
        try:
            record = QualityRecord.from_json(self.store.read_bytes(row, f"{self.stem}{QUALITY_SUFFIX}"))
        except (StoreError, ValueError) as error:
            return None, Verification(NOT_VERIFIED), f"its video quality cannot be read: {_first_line(error)}"
        reasons = {
            "no region": record.region_reason,
            "as painted": record.raw_reason,
            "no warp error": record.warp_reason,
            "no LPIPS": record.lpips_reason,
        }
        quality = VideoQuality(
            regions={
                "outside the edit, as delivered": record.outside,
                "inside, as delivered": record.inside,
                "outside, as painted": record.outside_raw,
                "inside, as painted": record.inside_raw,
            },
            warp_error=record.temporal_warp_error,
            original_warp_error=record.temporal_warp_error_original,
            notes=tuple(f"{what}: {reason}" for what, reason in reasons.items() if reason),
        )
        verdict = record.verdict
        if row.status != "ok":
            return quality, Verification(NOT_VERIFIED), "its video quality is outdated"
        return quality, Verification(verdict.text, verdict.agrees, verdict.inspector, verdict.found), None

    def _fact(self, name: str) -> str | None:
        row = self.rows.row("first_frames", self.key)
        value = None if row is None else row.facts.get(name)
        return value if isinstance(value, str) and value else None

    def _verdict(self) -> VerdictSummary | None:
        verdict = self._fact("verdict")
        return None if verdict is None else VerdictSummary(verdict == "PASS", self._fact("reasons") or "")

    def _caption(self) -> str | None:
        return self._fact("caption")

    def _refinement(self, has_room: bool) -> RefinementHistory | None:
        row = self.rows.row("first_frames", self.key)
        if row is None or not row.has_result:
            return None
        try:
            record = json.loads(self.store.read_bytes(row, REFINEMENT_FILE))
            attempts = tuple(
                RefinementAttempt(
                    caption=attempt["caption"],
                    passed=attempt["verdict"] == "PASS",
                    score=float(attempt["score"]),
                    attributes=tuple(
                        AttributeNote(note["attribute"], note["passed"], note["reason"])
                        for note in attempt["attributes"]
                    ),
                    thumbnail=thumbnail(self.store.read_bytes(row, attempt["picture"]), ATTEMPT_WIDTH_PX)
                    if has_room
                    else None,
                )
                for attempt in record["iterations"]
            )
            return RefinementHistory(attempts, record["chosen_iteration"], record["passed"], record["stopped_because"])
        except (StoreError, ValueError, KeyError, TypeError):
            # A first frame that somebody imported has whatever file they wrote.
            return None

    def _example(self) -> bytes | None:
        row = self.rows.row("edited_videos", self.key)
        names = () if row is None else tuple(file.name for file in row.files)
        if row is None or BEFORE_AFTER_FILE not in names:
            return None
        try:
            return road_before_above_after(self.store.read_bytes(row, BEFORE_AFTER_FILE), EXAMPLE_WIDTH_PX)
        except (StoreError, ValueError):
            return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
