"""What a chunk's report shows, as plain records: clips, their arms and items, statistics, lineage, licences.

Filled by the evaluation stage, read by `report.py` (the page) and `report_text.py` (its plain-text form). No files are
read and nothing is worded for HTML here. No statistics are computed beyond the difference of two given figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.licences import LicenceNote
from lanepaint_assets.rendering.scene import EngineLabel

if TYPE_CHECKING:
    from lanepaint_assets.rendering.region_quality import RegionQuality

Float = NDArray[np.float64]
ItemStatus = Literal["ok", "failed", "outdated"]
ItemKind = Literal["edit", "roundtrip", "repaint_as_measured"]
Finding = Literal["effect", "no effect larger than the margin", "cannot tell"]

OFF_GRID_WARNING = (
    "Clip grid spec_8fps: the driver's four frames are 0.125 s apart, its training frames were 0.1 s apart. Both arms "
    "see the same frames, so differences between arms stand, but the absolute figures are off the model's training "
    "distribution. Use model_10hz for results to publish."
)
CPU_WARNING = (
    "These results come from CPU engines: {names}. They are classical methods, not foundation models, and say nothing "
    "about how a foundation model would paint or drive."
)
UNKNOWN_WARNING = "Imported, so what made it is not known here: the work of {roles}."
# The role of an inspector that had no part in making an edit and judged it. What it says names it wherever it stands.
VERIFYING_INSPECTOR = "verifying inspector"
# Where they neither painted nor drove.
CPU_HELP_WARNING = "CPU engines had a part: {names}. They are classical methods, not foundation models."


@dataclass(frozen=True, eq=False)
class ItemTrajectories:
    """The paths of one item, rig frame at t0, metres, at 10 Hz.

    Attributes:
        original_m, edited_m: (K, 64, 3) samples.
        gt_future_m: (64, 3), or None.
        history_m: (16, 3), or None.
    """

    original_m: Float
    edited_m: Float
    gt_future_m: Float | None = None
    history_m: Float | None = None


@dataclass(frozen=True)
class ArmFigures:
    """One arm's figures. None, or a time that is missing, where a figure could not be had.

    Attributes:
        min_ade_m, mean_ade_m, medoid_ade_m, min_fde_m: against the driven path.
        from_original_m: mean distance to the original arm, sample by sample.
        lateral_m: time ahead in seconds to signed sideways shift from the original arm, left positive.
        speed_change_mps: over the last 0.5 s, against the original arm.
        reasoning_changed_share: 0..1, samples that say something else than in the original arm.
        off_lane_share: 0..1, waypoints outside the lane that was measured in the original frames.
    """

    min_ade_m: float | None = None
    mean_ade_m: float | None = None
    medoid_ade_m: float | None = None
    min_fde_m: float | None = None
    from_original_m: float | None = None
    lateral_m: Mapping[float, float] = field(default_factory=dict)
    speed_change_mps: float | None = None
    reasoning_changed_share: float | None = None
    off_lane_share: float | None = None


@dataclass(frozen=True)
class VerdictSummary:
    """What the inspector that refined the edit says of it: whether it shows what was asked for, and why."""

    passed: bool
    text: str


@dataclass(frozen=True)
class Verification:
    """What an inspector says that had no part in making the edit; `agrees` None where nobody could be asked."""

    text: str
    agrees: bool | None = None
    inspector: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class VideoQuality:
    """How like the original the edited video is.

    Attributes:
        regions: a name of each region to its figures, or None where it could not be measured.
        warp_error, original_warp_error: how much neighbouring frames differ along the road's motion; lower is steadier.
        notes: why figures are missing.
    """

    regions: Mapping[str, RegionQuality | None]
    warp_error: float | None = None
    original_warp_error: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttributeNote:
    """One attribute of an attempt, as the judge saw it."""

    attribute: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class RefinementAttempt:
    """One attempt at the first frame; `thumbnail` is a small picture's bytes, None where there was no room for it."""

    caption: str
    passed: bool
    score: float
    attributes: tuple[AttributeNote, ...]
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class RefinementHistory:
    """All attempts at the first frame, in order. `chosen` is an index; None where the attempts were not judged."""

    attempts: tuple[RefinementAttempt, ...]
    chosen: int | None
    passed: bool | None
    stopped_because: str


@dataclass(frozen=True)
class LineageStep:
    """The row that one asset holds of an item: what it was made from (its fingerprint), by what, in which run."""

    asset: str
    fingerprint: str
    status: str
    engine: str | None
    run_id: str


@dataclass(frozen=True, eq=False)
class ItemSection:
    """One clip and prompt. Figures that could not be had are None, and `reasons` say why.

    Attributes:
        prompt_key, prompt_text, kind: which item.
        status: `failed` items have only reasons.
        reasons: why it failed, why figures or files are missing, what limited the prediction.
        figures: of the edited arm.
        verdict: None where the inspector was not asked.
        verification: None where nobody looked yet.
        original_caption, edited_caption: the road's markings in words, as measured and as painted.
        original_reasoning, edited_reasoning: the driver's own words, one text a sample; sample i shares its seed.
        trajectories: None where there are none.
        preview_mp4: the small comparison video, original on its left half and edited on its right; None where the page
            has no room for it or there is none.
        comparison_file, overlay_file: names of the full videos in the store, for people who want them.
        example: small picture of the first frame before and after; None where it is not shown.
    """

    prompt_key: str
    prompt_text: str
    kind: ItemKind
    status: ItemStatus
    reasons: tuple[str, ...] = ()
    figures: ArmFigures = ArmFigures()
    verdict: VerdictSummary | None = None
    verification: Verification | None = None
    quality: VideoQuality | None = None
    refinement: RefinementHistory | None = None
    original_caption: str | None = None
    edited_caption: str | None = None
    original_reasoning: tuple[str, ...] = ()
    edited_reasoning: tuple[str, ...] = ()
    trajectories: ItemTrajectories | None = None
    preview_mp4: bytes | None = None
    comparison_file: str | None = None
    overlay_file: str | None = None
    example: bytes | None = None
    lineage: tuple[LineageStep, ...] = ()

    @property
    def is_control(self) -> bool:
        """True for the prompts that are not edits."""
        return self.kind != "edit"

    @property
    def shift_3s_m(self) -> float | None:
        """Sideways shift of the plan 3 s ahead against the original arm."""
        return self.figures.lateral_m.get(3.0)


@dataclass(frozen=True, eq=False)
class ClipSection:
    """One clip's video of one camera: the arms that all prompts share, and its items in the catalogue's order.

    Attributes:
        original: the unedited arm; its distance to itself is left out.
        null_same_seeds: the same frames and seeds again: anything but 0 is the driver's own noise.
        null_other_seeds: the same frames with other seeds: the noise floor; its shift is a size, without a side.
        positive_control: the camera blanked, where it was asked for.
        t0_frame: frame of the previews at the prediction's moment, which players show at rest.
        frame_rate_hz: of the previews.
        facts: how geometry and motion are known, and other things to know of the clip, as short phrases.
    """

    clip_id: str
    camera: str
    items: tuple[ItemSection, ...]
    original: ArmFigures | None = None
    null_same_seeds: ArmFigures | None = None
    null_other_seeds: ArmFigures | None = None
    positive_control: ArmFigures | None = None
    t0_frame: int = 0
    frame_rate_hz: float = 8.0
    facts: tuple[str, ...] = ()
    lineage: tuple[LineageStep, ...] = ()

    @property
    def key(self) -> str:
        """`<clip_id>.<camera>`."""
        return f"{self.clip_id}.{self.camera}"

    def primary_shift_m(self, item: ItemSection) -> float | None:
        """The edit's shift at 3 s less that of the painter's own repainting: what the markings did, not the painter."""
        # Outdated ones were made from something else: they take no part in the statistics either.
        control = next((o for o in self.items if o.kind == "repaint_as_measured" and o.status == "ok"), None)
        if item.is_control or item.status != "ok" or control is None:
            return None
        if item.shift_3s_m is None or control.shift_3s_m is None:
            return None
        return item.shift_3s_m - control.shift_3s_m


@dataclass(frozen=True)
class StudyLine:
    """One comparison over the chunk's clips, as the statistics state it.

    Attributes:
        prompt_key, contrast, metric, population: what is compared, where.
        is_primary: stated beforehand; all other lines are exploratory.
        clips: n.
        mean, low, high: with the 95 % interval; None where there is none.
        p_value: of the sign-flip test; q_value: after correction for the whole family of tests.
        equivalent, equivalence_p: whether any effect is smaller than the margin, and that test's p-value; None where
            nothing can be said.
        clips_needed: stated effect in metres to the number of clips that would show it; None for over 900,000.
        finding, reason: in words; `reason` says what limits the line, None where nothing does.
    """

    prompt_key: str
    contrast: str
    metric: str
    population: str
    is_primary: bool
    clips: int
    mean: float | None
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    equivalent: bool | None
    equivalence_p: float | None
    clips_needed: Mapping[float, int | None]
    finding: Finding
    reason: str | None


@dataclass(frozen=True)
class RefusedClip:
    """A clip of the chunk that never got as far as an item, and why."""

    clip_id: str
    camera: str
    reason: str


@dataclass(frozen=True)
class CheckpointNote:
    """A model checkpoint as it lies there when the page is written; digest `absent` where there is none."""

    asset: str
    digest: str


@dataclass(frozen=True, eq=False)
class ChunkReport:
    """Everything in one report.

    Attributes:
        chunk: partition key.
        clip_grid: the frame grid in use.
        engines: all that took part, those that judged or drove included.
        instruments: what else figures were measured with, in words.
        clips: with items, in the chunk's order.
        refused_clips: clips without items.
        study: statistics over the chunk's clips.
        margin_m: effects that are shown to be smaller count as none; None where nothing was compared.
        licences: of every input that was used.
        settings: name to value of those that decide results.
        checkpoints: those that the engines read.
        run_name: as stamped by the person who ran it.
        notes: sentences on the method, shown at the end.
    """

    chunk: str
    clip_grid: ClipGridName
    engines: tuple[EngineLabel, ...]
    clips: tuple[ClipSection, ...]
    refused_clips: tuple[RefusedClip, ...] = ()
    study: tuple[StudyLine, ...] = ()
    margin_m: float | None = None
    licences: tuple[LicenceNote, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[CheckpointNote, ...] = ()
    run_name: str | None = None
    notes: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[ItemSection, ...]:
        """Of all clips."""
        return tuple(item for clip in self.clips for item in clip.items)

    @property
    def failed(self) -> tuple[tuple[ClipSection, ItemSection], ...]:
        """Items that failed, with their clips."""
        return tuple((clip, item) for clip in self.clips for item in clip.items if item.status == "failed")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of all figures: the grid, CPU engines, items and clips that are missing."""
        found = []
        count = len(self.items)
        if self.failed:
            found.append(f"Incomplete: {len(self.failed)} of {count} items failed; their reasons are below.")
        outdated = sum(item.status == "outdated" for item in self.items)
        if outdated:
            found.append(f"Outdated: the inputs of {outdated} of {count} items changed since they were made.")
        if self.refused_clips:
            found.append(
                f"Clips of the chunk that could not be used: {len(self.refused_clips)}; their reasons are below."
            )
        weight_free = [
            engine
            for engine in self.engines
            if engine.is_foundation_model is False and engine.role != VERIFYING_INSPECTOR
        ]
        if weight_free:
            paint_or_drive = any(engine.role == "driver" or "painter" in engine.role for engine in weight_free)
            warning = CPU_WARNING if paint_or_drive else CPU_HELP_WARNING
            found.append(warning.format(names=", ".join(engine.text for engine in weight_free)))
        unknown = [engine for engine in self.engines if engine.is_foundation_model is None]
        if unknown:
            found.append(UNKNOWN_WARNING.format(roles=", ".join(engine.role for engine in unknown)))
        if self.clip_grid == "spec_8fps":
            found.append(OFF_GRID_WARNING)
        return tuple(found)
