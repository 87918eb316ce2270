"""The `training` group: samples, subsets by lane style, and LoRAs."""

import dagster as dg

from lanepaint_assets.engines import chosen_engine
from lanepaint_assets.materialization import as_result, clear_failures, item_checks, run_name
from lanepaint_assets.partitions import CLIP_CHUNK, LANE_STYLE, LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.training.steps import (
    FILTERED_SAMPLES_VERSION,
    TRAINING_SAMPLES_VERSION,
    make_filtered_samples,
    make_training_samples,
)

GROUP = "training"
OWNERS = ["team:generative"]


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of this stage."""
    segmenter, inspector = chosen_engine(settings, "segmenter"), chosen_engine(settings, "inspector")

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"image", "csv"},
        deps=["raw_clips", "sam2_checkpoint", "qwen_vl_checkpoint"],
        code_version=f"{segmenter.label} + {inspector.label}/{TRAINING_SAMPLES_VERSION}",
        check_specs=item_checks("training_samples"),
        description="Frames, road masks and normalized captions of every clip (spec 7), and the chunk's train.csv.",
    )
    def training_samples(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_training_samples(platform, context.partition_key, run)
        return as_result(platform, "training_samples", outcome, run=run, engines=[segmenter.label, inspector.label])

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"csv"},
        deps=["training_samples"],
        code_version=FILTERED_SAMPLES_VERSION,
        check_specs=item_checks("filtered_samples"),
        description="One train.csv a lane style (spec 8), with how many samples each rule removed.",
    )
    def filtered_samples(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_filtered_samples(platform, context.partition_key, run, LANE_STYLES)
        return as_result(platform, "filtered_samples", outcome, run=run)

    @dg.asset(
        partitions_def=LANE_STYLE,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pytorch"},
        deps=[
            dg.AssetDep("filtered_samples", partition_mapping=dg.AllPartitionMapping()),
            "flux_fill_checkpoint",
        ],
        description=(
            "The LoRA of one lane style (spec 9). This version has no trainer: a materialization fails and says so; no "
            "other asset needs a LoRA while the procedural painter serves."
        ),
    )
    def lane_loras(context: dg.AssetExecutionContext) -> None:
        raise dg.Failure(
            f"no trainer for the LoRA of {context.partition_key}: FLUX.1 Fill fine-tuning is not part of this version. "
            "The subsets it would train on are in filtered_samples; the procedural painter needs no LoRA.",
            allow_retries=False,
        )

    return [training_samples, filtered_samples, lane_loras]
