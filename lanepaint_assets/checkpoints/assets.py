"""The `checkpoints` group: every model checkpoint, observed. `absent` where there is none: CPU engines need none."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import Observation, observe_checkpoints
from lanepaint_assets.platform import Platform

GROUP = "checkpoints"
OWNERS = ["team:ml-platform"]


def build_assets() -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """One observation of all checkpoints."""

    @dg.multi_observable_source_asset(
        name="observe_checkpoints",
        specs=[
            dg.AssetSpec(
                name,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"checkpoint"},
                description=(
                    f"Files below ROOT/checkpoints/{folder}; the data version is their digest. A new one is published "
                    "when all files are there, nobody touches them any more and the model computes; until then the one "
                    "before stays, and the metadata says why."
                ),
            )
            for name, folder in CHECKPOINT_FOLDERS.items()
        ],
        can_subset=True,
    )
    def observe_all(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.ObserveResult]:
        chosen = [name for name in CHECKPOINT_FOLDERS if dg.AssetKey(name) in context.selected_asset_keys]
        for observation in observe_checkpoints(platform, chosen, datetime.now(UTC)):
            if observation.state.problem is not None:
                context.log.warning(f"{observation.asset}: {observation.state.problem}")
            yield _as_result(observation)

    return [observe_all]


def _as_result(observation: Observation) -> dg.ObserveResult:
    state = observation.state
    metadata: dict[str, dg.RawMetadataValue] = {
        "condition": observation.condition,
        "path": dg.MetadataValue.path(str(observation.path)),
        "files": observation.files,
        "bytes": observation.size,
        "check": observation.check,
        "in_force_since": dg.MetadataValue.timestamp(state.published),
    }
    if state.problem is not None and state.since is not None:
        metadata["problem"] = state.problem
        metadata["kept_back_since"] = dg.MetadataValue.timestamp(state.since)
    return dg.ObserveResult(asset_key=observation.asset, data_version=dg.DataVersion(state.version), metadata=metadata)
