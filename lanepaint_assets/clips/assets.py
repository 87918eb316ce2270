"""The `clips` group: `raw_clips`, one row of facts for every clip of a chunk."""

import dagster as dg

from lanepaint_assets.clips.steps import RAW_CLIPS_VERSION, clip_table, make_raw_clips
from lanepaint_assets.item_checks import check_specs
from lanepaint_assets.materialization import as_result, clear_failures, run_name
from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.platform import Platform

GROUP = "clips"
OWNERS = ["team:data-engineering"]


def build_assets() -> list[dg.AssetsDefinition]:
    """The assets of this stage."""

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"video", "table"},
        code_version=RAW_CLIPS_VERSION,
        check_specs=check_specs("raw_clips"),
        description=(
            "Facts of every clip of the chunk: resolution, rate, codec, colour, calibration, ego motion, and the frame "
            "grid that all later assets use. Broken files are rows that say why."
        ),
    )
    def raw_clips(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_raw_clips(platform, context.partition_key, run)
        return as_result(platform, "raw_clips", outcome, run=run, table=clip_table(outcome))

    return [raw_clips]
