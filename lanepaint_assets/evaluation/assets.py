"""The `evaluation` group: trajectories of both arms, their videos, a report a chunk, a leaderboard over all chunks."""

import io

import dagster as dg
import pandas as pd

from lanepaint_assets.engines import chosen_engine
from lanepaint_assets.evaluation.checks import (
    EDITED_TRAJECTORY_CHECKS,
    ORIGINAL_TRAJECTORY_CHECKS,
    video_quality_checks,
)
from lanepaint_assets.evaluation.leaderboard_steps import (
    LEADERBOARD_PAGE,
    LEADERBOARD_TABLE,
    PROMPT_LEADERBOARD_VERSION,
    make_prompt_leaderboard,
)
from lanepaint_assets.evaluation.quality_steps import VIDEO_QUALITY_VERSION, make_video_quality, mean_figures
from lanepaint_assets.evaluation.report_steps import (
    METRICS_FILE,
    REPORT_FILE,
    TRAJECTORY_REPORTS_VERSION,
    make_trajectory_reports,
)
from lanepaint_assets.evaluation.trajectory_steps import (
    EDITED_TRAJECTORIES_VERSION,
    ORIGINAL_TRAJECTORIES_VERSION,
    make_edited_trajectories,
    make_original_trajectories,
)
from lanepaint_assets.evaluation.video_steps import TRAJECTORY_VIDEOS_VERSION, make_trajectory_videos
from lanepaint_assets.item_checks import check_specs
from lanepaint_assets.materialization import (
    PromptSelection,
    as_result,
    clear_failures,
    run_name,
    table_value,
)
from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import PartitionOutcome

GROUP = "evaluation"
OWNERS = ["team:evaluation"]


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of this stage; the driver chosen in the settings enters the code versions."""
    driver = chosen_engine(settings, "driver")
    quality_checks = video_quality_checks(settings)

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"json", driver.name},
        deps=["raw_clips", "alpamayo_checkpoint"],
        code_version=f"{driver.label}/{ORIGINAL_TRAJECTORIES_VERSION}",
        check_specs=check_specs("original_trajectories", ORIGINAL_TRAJECTORY_CHECKS),
        description="What the driver plans on the unedited clip, and the null arms: once a clip, for all prompts.",
    )
    def original_trajectories(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_original_trajectories(platform, context.partition_key, run)
        return as_result(
            platform,
            "original_trajectories",
            outcome,
            run=run,
            checks=ORIGINAL_TRAJECTORY_CHECKS,
            engines=[driver.label],
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"json", driver.name},
        deps=["edited_videos", "original_trajectories", "alpamayo_checkpoint"],
        code_version=f"{driver.label}/{EDITED_TRAJECTORIES_VERSION}",
        check_specs=check_specs("edited_trajectories", EDITED_TRAJECTORY_CHECKS),
        description=(
            "What the driver plans on each edited clip: minADE of both arms, distance between them, signed lateral "
            "shift."
        ),
    )
    def edited_trajectories(
        context: dg.AssetExecutionContext, config: PromptSelection, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_edited_trajectories(platform, context.partition_key, run, config.prompts)
        return as_result(
            platform, "edited_trajectories", outcome, run=run, checks=EDITED_TRAJECTORY_CHECKS, engines=[driver.label]
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"json"},
        deps=["edited_videos", "first_frames", "vp_inputs", "raw_clips", "qwen_vl_checkpoint"],
        code_version=VIDEO_QUALITY_VERSION,
        check_specs=check_specs("video_quality", quality_checks),
        description=(
            "How good each edited video is inside and outside the painted region, whether its paint moves as the road "
            "does, and what an inspector says that did not refine it. A CPU step."
        ),
    )
    def video_quality(
        context: dg.AssetExecutionContext, config: PromptSelection, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_video_quality(platform, context.partition_key, run, config.prompts)
        engines = sorted({row.engine for row in outcome.rows if row.engine is not None})
        figures = {name: dg.MetadataValue.float(value) for name, value in mean_figures(outcome).items()}
        return as_result(
            platform, "video_quality", outcome, run=run, checks=quality_checks, engines=engines, extra=figures
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"video"},
        deps=["edited_trajectories", "edited_videos"],
        code_version=TRAJECTORY_VIDEOS_VERSION,
        check_specs=check_specs("trajectory_videos"),
        description="Overlay and side-by-side comparison of each edited clip with both plans. A CPU step.",
    )
    def trajectory_videos(
        context: dg.AssetExecutionContext, config: PromptSelection, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_trajectory_videos(platform, context.partition_key, run, config.prompts)
        return as_result(platform, "trajectory_videos", outcome, run=run)

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"html", "parquet"},
        deps=["edited_trajectories", "trajectory_videos", "video_quality"],
        code_version=TRAJECTORY_REPORTS_VERSION,
        check_specs=check_specs("trajectory_reports"),
        description="One self-contained HTML page, one text and one Parquet table over all items of the chunk.",
    )
    def trajectory_reports(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_trajectory_reports(platform, context.partition_key, run)
        return as_result(
            platform,
            "trajectory_reports",
            outcome,
            run=run,
            engines=[driver.label],
            extra={
                **_table(platform, outcome, METRICS_FILE, "metrics"),
                **_page_link(platform, outcome, REPORT_FILE, "report"),
            },
        )

    @dg.asset(
        group_name=GROUP,
        owners=OWNERS,
        kinds={"html", "parquet"},
        deps=[dg.AssetDep("trajectory_reports", partition_mapping=dg.AllPartitionMapping())],
        code_version=PROMPT_LEADERBOARD_VERSION,
        check_specs=check_specs("prompt_leaderboard", partitions=None),
        description="Every prompt against the original and against the control prompt, paired, over all chunks.",
    )
    def prompt_leaderboard(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_prompt_leaderboard(platform, run)
        return as_result(
            platform,
            "prompt_leaderboard",
            outcome,
            run=run,
            extra={
                **_table(platform, outcome, LEADERBOARD_TABLE, "leaderboard"),
                **_page_link(platform, outcome, LEADERBOARD_PAGE, "page"),
            },
        )

    return [
        original_trajectories,
        edited_trajectories,
        video_quality,
        trajectory_videos,
        trajectory_reports,
        prompt_leaderboard,
    ]


def _page_link(
    platform: Platform, outcome: PartitionOutcome, file_name: str, name: str
) -> dict[str, dg.PathMetadataValue]:
    """Where an HTML page of the outcome's one row lies."""
    row = outcome.rows[0]
    if row.status != "ok":
        return {}
    return {name: dg.MetadataValue.path(str(platform.store.file_path(row, file_name)))}


def _table(
    platform: Platform, outcome: PartitionOutcome, file_name: str, name: str
) -> dict[str, dg.TableMetadataValue]:
    """A Parquet file of the outcome's one row as table metadata."""
    for row in outcome.rows:
        if row.status == "ok":
            table = pd.read_parquet(io.BytesIO(platform.store.read_bytes(row, file_name)))
            return {name: table_value(table)}
    return {}
