"""Small chunk reports for the tests of the page, of its plain-text form and of the browser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lanepaint_assets.licences import engine_licences, source_licence
from lanepaint_assets.rendering.region_quality import RegionQuality
from lanepaint_assets.rendering.report_content import (
    ArmFigures,
    AttributeNote,
    CheckpointNote,
    ChunkReport,
    ClipSection,
    ItemSection,
    ItemTrajectories,
    LineageStep,
    RefinementAttempt,
    RefinementHistory,
    RefusedClip,
    StudyLine,
    VerdictSummary,
    Verification,
    VideoQuality,
)
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.rendering.scenes import history, straight_future

CAMERA = "camera_front_wide_120fov"
PATHS = ItemTrajectories(
    np.stack([straight_future(0.1)]), np.stack([straight_future(0.6)]), straight_future(), history()
)
LINEAGE = (
    LineageStep("first_frames", "a" * 64, "ok", "procedural 3 + measured 3", "nightly"),
    LineageStep("edited_videos", "b" * 64, "ok", "procedural 3", "nightly"),
)
REFINEMENT = RefinementHistory(
    attempts=(
        RefinementAttempt(
            "road with yellow lines", False, 0.4, (AttributeNote("color", False, "the lines are orange"),), b"one"
        ),
        RefinementAttempt(
            "road with double yellow lines", False, 0.6, (AttributeNote("count", False, "a single line"),), b"two"
        ),
    ),
    chosen=1,
    passed=False,
    stopped_because="caption_repeated",
)
EDIT = ItemSection(
    prompt_key="double_yellow_solid",
    prompt_text="paint all lines double, yellow and solid",
    kind="edit",
    status="ok",
    figures=ArmFigures(1.5, 1.7, 1.6, 2.5, 0.4, {1.0: -0.05, 3.0: -0.25, 5.0: -0.4, 6.4: -0.5}, 0.1, 0.5, 0.12),
    verdict=VerdictSummary(False, "count: a single line"),
    verification=Verification("not independently verified"),
    quality=VideoQuality(
        {
            "outside the edit, as delivered": RegionQuality(psnr_db=None, identical=True, ssim=1.0),
            "inside, as delivered": RegionQuality(psnr_db=31.25, identical=False, ssim=0.95),
            "inside, as painted": None,
        },
        0.00037,
        0.00038,
        ("no LPIPS: its weights are not here",),
    ),
    refinement=REFINEMENT,
    original_caption="road with single white lane markings",
    edited_caption="road with double yellow lane markings",
    original_reasoning=("keep the lane", "keep the lane"),
    edited_reasoning=("keep the lane", "slow down in the lane"),
    trajectories=PATHS,
    preview_mp4=b"\x00\x01mp4 bytes",
    comparison_file="outputs/clip_a_comparison.mp4",
    overlay_file="outputs/clip_a_overlay.mp4",
    example=b"webp",
    lineage=LINEAGE,
)
REPAINT = replace(
    EDIT,
    prompt_key="repaint_as_measured",
    prompt_text="repaint what is there",
    kind="repaint_as_measured",
    figures=ArmFigures(min_ade_m=1.01, from_original_m=0.1, lateral_m={3.0: -0.05}),
    verdict=None,
    verification=None,
    refinement=None,
    example=None,
)
FAILED = ItemSection("single_white_dashed", "single white dashed", "edit", "failed", reasons=("no lane found",))
CLIP = ClipSection(
    clip_id="clip_a",
    camera=CAMERA,
    items=(EDIT, REPAINT, FAILED),
    original=ArmFigures(1.0, 1.2, 1.1, 2.0, off_lane_share=0.11),
    null_same_seeds=ArmFigures(from_original_m=0.0),
    null_other_seeds=ArmFigures(from_original_m=3.27, lateral_m={3.0: 0.17}),
    positive_control=ArmFigures(from_original_m=2.39, lateral_m={3.0: 0.43}),
    t0_frame=7,
    facts=("camera geometry calibrated",),
    lineage=(LineageStep("raw_clips", "c" * 64, "ok", None, "nightly"),),
)
PRIMARY = StudyLine(
    prompt_key="double_yellow_solid",
    contrast="edit - repaint_as_measured",
    metric="lateral shift at 3 s, m",
    population="produced",
    is_primary=True,
    clips=12,
    mean=-0.2,
    low=-0.35,
    high=-0.05,
    p_value=0.012,
    q_value=0.024,
    equivalent=False,
    equivalence_p=0.8,
    clips_needed={0.1: 117, 0.2: None},
    finding="effect",
    reason=None,
)
REPORT = ChunkReport(
    chunk="chunk_0001",
    clip_grid="spec_8fps",
    engines=(EngineLabel("painter", "procedural", "3", False), EngineLabel("driver", "alpamayo", "1", True)),
    clips=(CLIP,),
    refused_clips=(RefusedClip("clip_c", CAMERA, "the file is empty"),),
    study=(PRIMARY, replace(PRIMARY, is_primary=False, metric="change of minADE, m", finding="cannot tell")),
    licences=(source_licence("physical_ai_av"), *engine_licences({"procedural"}, {"alpamayo"})),
    settings={"study_seed": "17"},
    checkpoints=(CheckpointNote("alpamayo_checkpoint", "d" * 64),),
    run_name="nightly",
    notes=("K = 2 samples.",),
)


def with_items(*items: ItemSection) -> ChunkReport:
    """`REPORT` with other items in its clip."""
    return replace(REPORT, clips=(replace(CLIP, items=items),))
