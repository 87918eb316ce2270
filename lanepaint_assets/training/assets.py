"""The `training` group: samples, subsets by lane style, and LoRAs."""

import dagster as dg
import pandas as pd

from lanepaint_assets.engines import chosen_engine
from lanepaint_assets.item_checks import check_specs
from lanepaint_assets.materialization import as_result, clear_failures, run_name
from lanepaint_assets.partitions import CLIP_CHUNK, LANE_STYLE, LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.training.filter_steps import FILTERED_SAMPLES_VERSION, make_filtered_samples, removal_table
from lanepaint_assets.training.lora_card import CARD_FILE
from lanepaint_assets.training.lora_steps import CURVE_FILE, ENGINE, PICTURES_FOLDER, LoraOutcome, make_lane_lora
from lanepaint_assets.training.sample_steps import TRAINING_SAMPLES_VERSION, make_training_samples
from lanepaint_assets.training.sample_summary import sample_counts, sample_sheet

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
        check_specs=check_specs("training_samples"),
        description="Frames, road masks and normalized captions of every clip, and the chunk's train.csv.",
    )
    def training_samples(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_training_samples(platform, context.partition_key, run)
        return as_result(
            platform,
            "training_samples",
            outcome,
            run=run,
            engines=[segmenter.label, inspector.label],
            preview_png=sample_sheet(platform, context.partition_key, outcome),
            extra={name: dg.MetadataValue.int(count) for name, count in sample_counts(outcome).items()},
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"csv"},
        deps=["training_samples"],
        code_version=FILTERED_SAMPLES_VERSION,
        check_specs=check_specs("filtered_samples"),
        description="One train.csv a lane style, and how many samples each rule removed.",
    )
    def filtered_samples(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_filtered_samples(platform, context.partition_key, run, LANE_STYLES)
        return as_result(platform, "filtered_samples", outcome, run=run, table=pd.DataFrame(removal_table(outcome)))

    @dg.asset(
        partitions_def=LANE_STYLE,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pytorch"},
        deps=[
            dg.AssetDep("filtered_samples", partition_mapping=dg.AllPartitionMapping()),
            "flux_fill_checkpoint",
        ],
        code_version=ENGINE,
        description=(
            "The LoRA of one lane style, trained on that style's filtered samples of all chunks that are "
            "complete at the start; with its loss curve, pictures on the way and model card. Nothing starts it by "
            "itself. A killed training goes on from its last checkpoint. A finished one becomes the style's LoRA, "
            "unless LANEPAINT_LORA_PROMOTION=manual."
        ),
    )
    def lane_loras(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        style = next(style for style in LANE_STYLES if style.key == context.partition_key)
        with clear_failures():
            outcome = make_lane_lora(platform, style, run_name(context))
        return _lora_result(platform, outcome, run_name(context))

    return [training_samples, filtered_samples, lane_loras]


def _lora_result(platform: Platform, outcome: LoraOutcome, run: str) -> dg.MaterializeResult:
    """Report a LoRA: its numbers, its loss curve and the last pictures that it painted on the way."""
    from lanepaint_assets.rendering.previews import as_markdown_image

    row, store = outcome.row, platform.store
    in_use = outcome.in_use
    metadata: dict[str, dg.MetadataValue] = {
        "version": dg.MetadataValue.text(row.key),
        "trained_now": dg.MetadataValue.bool(row.key in outcome.partition.computed),
        "in_use": dg.MetadataValue.text(
            "the base model" if in_use is None else f"{in_use.version}, {in_use.promoted_by}"
        ),
        "run_name": dg.MetadataValue.text(run),
        "duration_s": dg.MetadataValue.float(round(outcome.partition.seconds, 2)),
        "folder": dg.MetadataValue.path(str(store.root / (row.folder or ""))),
        "loss_curve": dg.MetadataValue.md(as_markdown_image(store.read_bytes(row, CURVE_FILE), "loss curve")),
        "model_card": dg.MetadataValue.md(store.read_bytes(row, CARD_FILE).decode().split("---\n", 2)[2]),
    }
    for name, value in row.facts.items():
        if isinstance(value, bool):
            metadata[name] = dg.MetadataValue.bool(value)
        elif isinstance(value, int | float):
            metadata[name] = dg.MetadataValue.float(float(value))
    pictures = sorted(record.name for record in row.files if record.name.startswith(f"{PICTURES_FOLDER}/"))
    if pictures:
        picture = store.read_bytes(row, pictures[-1])
        metadata["painted"] = dg.MetadataValue.md(
            as_markdown_image(picture, "a held-out sample, its mask, the painting")
        )
    return dg.MaterializeResult(
        asset_key="lane_loras", metadata=metadata, data_version=dg.DataVersion(outcome.partition.data_version)
    )
