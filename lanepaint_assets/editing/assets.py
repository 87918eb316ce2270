"""The `editing` group: the prompt catalogue, judged first frames, edited videos."""

from datetime import UTC, datetime

import dagster as dg

from lanepaint_assets.editing.catalogue_observation import observe_catalogue
from lanepaint_assets.editing.checks import edited_video_checks, first_frame_checks
from lanepaint_assets.editing.steps import (
    BEFORE_AFTER_FILE,
    EDITED_VIDEOS_VERSION,
    FIRST_FRAME_FILE,
    FIRST_FRAMES_VERSION,
    make_edited_videos,
    make_first_frames,
)
from lanepaint_assets.engines import chosen_engine
from lanepaint_assets.item_checks import check_specs
from lanepaint_assets.materialization import PromptSelection, as_result, clear_failures, run_name
from lanepaint_assets.partitions import CLIP_CHUNK
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.markdown import plain
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import PartitionOutcome
from lanepaint_assets.store.manifest import ItemRow

GROUP = "editing"
OWNERS = ["team:generative"]

# Pictures of one preview: enough to judge a chunk at a glance, small enough for the event log.
PREVIEW_PICTURES = 6
# Of a clip's key: beside the longest prompt key they fit a cell of the sheet.
CAPTION_CLIP_CHARACTERS = 8


def build_assets(settings: Settings) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The assets of this stage; the engines chosen in the settings enter the code versions."""
    first_painter = chosen_engine(settings, "first_frame_painter")
    inspector = chosen_engine(settings, "inspector")
    video_painter = chosen_engine(settings, "video_painter")
    first_checks, video_checks = first_frame_checks(settings), edited_video_checks(settings)

    @dg.multi_observable_source_asset(
        name="observe_prompt_catalogue",
        specs=[
            dg.AssetSpec(
                "prompt_catalogue",
                deps=["lane_loras"],
                group_name=GROUP,
                owners=OWNERS,
                kinds={"yaml"},
                description=(
                    "The edit prompts in force: the built-in five, those of LANEPAINT_PROMPT_FILE, and the two control "
                    "prompts, with the LoRA promoted for each lane style. The data version is a digest of both; while "
                    "a file cannot be used the one before stays, and the metadata says why."
                ),
            )
        ],
    )
    def observe_prompt_catalogue(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.ObserveResult:
        observation = observe_catalogue(platform, datetime.now(UTC))
        state = observation.state
        adapted = observation.with_lora
        listing = "\n".join(
            f"- `{prompt.key}`: {plain(prompt.instruction)}" + (" (LoRA)" if prompt.lora_style in adapted else "")
            for prompt in observation.prompts
        )
        metadata: dict[str, dg.RawMetadataValue] = {
            "prompts": dg.MetadataValue.md(listing),
            "count": len(observation.prompts),
            "loras": len(observation.with_lora),
            "in_force_since": dg.MetadataValue.timestamp(state.published),
        }
        if state.problem is not None and state.since is not None:
            context.log.warning(state.problem)
            metadata["problem"] = state.problem
            metadata["kept_back_since"] = dg.MetadataValue.timestamp(state.since)
        return dg.ObserveResult(
            asset_key="prompt_catalogue", data_version=dg.DataVersion(state.version), metadata=metadata
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"image", first_painter.name, inspector.name},
        deps=["vp_inputs", "prompt_catalogue", "flux_fill_checkpoint", "qwen_vl_checkpoint"],
        code_version=f"{first_painter.label} + {inspector.label}/{FIRST_FRAMES_VERSION}",
        check_specs=check_specs("first_frames", first_checks),
        description=(
            "The first frame of every clip x prompt, painted and judged until it passes, with every "
            "attempt's caption, picture, verdict and reasons."
        ),
    )
    def first_frames(
        context: dg.AssetExecutionContext, config: PromptSelection, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_first_frames(platform, context.partition_key, run, config.prompts)
        return as_result(
            platform,
            "first_frames",
            outcome,
            run=run,
            checks=first_checks,
            engines=[first_painter.label, inspector.label],
            preview_png=_first_frames(platform, outcome),
        )

    @dg.asset(
        partitions_def=CLIP_CHUNK,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"video", video_painter.name},
        deps=["first_frames", "vp_inputs", "cogvideox_checkpoint", "videopainter_branch_checkpoint"],
        code_version=f"{video_painter.label}/{EDITED_VIDEOS_VERSION}",
        check_specs=check_specs("edited_videos", video_checks),
        description=(
            "The edited video of every clip x prompt, composited at native resolution so that everything outside the "
            "feathered mask is the source, with the times of its frames."
        ),
    )
    def edited_videos(
        context: dg.AssetExecutionContext, config: PromptSelection, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        run = run_name(context)
        with clear_failures():
            outcome = make_edited_videos(platform, context.partition_key, run, config.prompts)
        return as_result(
            platform,
            "edited_videos",
            outcome,
            run=run,
            checks=video_checks,
            engines=[video_painter.label],
            preview_png=_before_and_after(platform, outcome),
        )

    return [observe_prompt_catalogue, first_frames, edited_videos]


def _shown(outcome: PartitionOutcome) -> list[ItemRow]:
    return [row for row in outcome.rows if row.status == "ok"][:PREVIEW_PICTURES]


def _caption(prompt_key: str, clip_key: str) -> str:
    """What differs first, and of the clip as much as tells it from the others."""
    return f"{prompt_key} · {clip_key[:CAPTION_CLIP_CHARACTERS]}"


def _first_frames(platform: Platform, outcome: PartitionOutcome) -> bytes | None:
    from lanepaint_assets.clips.pictures import read_picture
    from lanepaint_assets.rendering.previews import CaptionedPicture, contact_sheet

    pictures = []
    for row in _shown(outcome):
        clip_key, _, prompt_key = row.key.partition("/")
        picture = read_picture(platform.store.read_bytes(row, FIRST_FRAME_FILE))
        pictures.append(CaptionedPicture(picture, _caption(prompt_key, clip_key)))
    return contact_sheet(pictures) if pictures else None


def _before_and_after(platform: Platform, outcome: PartitionOutcome) -> bytes | None:
    """Each clip once as it was, then its edits: a pair reduced to a cell would leave its own captions illegible."""
    from lanepaint_assets.clips.pictures import read_picture
    from lanepaint_assets.rendering.previews import CaptionedPicture, before_after_cells, contact_sheet

    pictures = []
    clip_before = None
    for row in _shown(outcome):
        clip_key, _, prompt_key = row.key.partition("/")
        before, after = before_after_cells(read_picture(platform.store.read_bytes(row, BEFORE_AFTER_FILE)))
        if clip_key != clip_before:
            pictures.append(CaptionedPicture(before, _caption("original", clip_key)))
            clip_before = clip_key
        pictures.append(CaptionedPicture(after, _caption(prompt_key, clip_key)))
    return contact_sheet(pictures) if pictures else None
