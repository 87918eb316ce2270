"""The `segmentation` group: road masks, and the VideoPainter folder made of them, in one step."""

from collections.abc import Iterator

import dagster as dg

from lanepaint_assets.engines import chosen_engine
from lanepaint_assets.item_checks import check_specs
from lanepaint_assets.materialization import as_result, clear_failures, run_name
from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.checks import ROAD_MASK_CHECKS
from lanepaint_assets.segmentation.steps import ROAD_MASKS_VERSION, VP_INPUTS_VERSION, make_segmentation
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import PartitionOutcome

GROUP = "segmentation"
OWNERS = ["team:perception"]
PREVIEW_FILE = "preview.png"


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of this stage; the engine chosen in the settings enters the code version."""
    segmenter = chosen_engine(settings, "segmenter")

    @dg.multi_asset(
        name="segmentation",
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        can_subset=True,
        specs=[
            dg.AssetSpec(
                "road_masks",
                deps=["raw_clips", "sam2_checkpoint"],
                owners=OWNERS,
                kinds={"video", segmenter.name},
                code_version=f"{segmenter.label}/{ROAD_MASKS_VERSION}",
                skippable=True,
                description=(
                    "The road of every frame, cleaned to one region: packed masks, PNGs, all_masks.npz, a "
                    "green overlay video and metadata.csv. The paint mask leaves enclosed vehicles out."
                ),
            ),
            dg.AssetSpec(
                "vp_inputs",
                deps=["road_masks", "raw_clips"],
                owners=OWNERS,
                kinds={"video", "csv"},
                code_version=VP_INPUTS_VERSION,
                skippable=True,
                description="The folder that VideoPainter reads: meta.csv, all_masks.npz and the clip.",
            ),
        ],
        check_specs=[*check_specs("road_masks", ROAD_MASK_CHECKS), *check_specs("vp_inputs")],
    )
    def segmentation(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult]:
        run = run_name(context)
        wanted = {key.to_user_string() for key in context.selected_asset_keys}
        with clear_failures():
            outcomes = make_segmentation(platform, context.partition_key, run, wanted)
        for asset, outcome in outcomes.items():
            yield as_result(
                platform,
                asset,
                outcome,
                run=run,
                checks=ROAD_MASK_CHECKS if asset == "road_masks" else (),
                engines=[segmenter.label] if asset == "road_masks" else [],
                preview_png=_preview(platform, outcome) if asset == "road_masks" else None,
            )

    return [segmentation]


def _preview(platform: Platform, outcome: PartitionOutcome) -> bytes | None:
    for row in outcome.rows:
        if row.status == "ok":
            return platform.store.read_bytes(row, PREVIEW_FILE)
    return None
