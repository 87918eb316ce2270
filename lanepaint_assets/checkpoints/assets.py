"""The `checkpoints` group: every model checkpoint, observed. `absent` where there is none: CPU engines need none."""

from collections.abc import Iterator

import dagster as dg

from lanepaint_assets.checkpoints.digest import ABSENT, CHECKPOINT_FOLDERS, checkpoint_state
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
                description=f"Files below ROOT/checkpoints/{folder}; the data version is their digest.",
            )
            for name, folder in CHECKPOINT_FOLDERS.items()
        ],
        can_subset=True,
    )
    def observe_checkpoints(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.ObserveResult]:
        for name, folder in CHECKPOINT_FOLDERS.items():
            if dg.AssetKey(name) not in context.selected_asset_keys:
                continue
            path = platform.store.root / "checkpoints" / folder
            state = checkpoint_state(path)
            yield dg.ObserveResult(
                asset_key=name,
                data_version=dg.DataVersion(state.digest),
                metadata={
                    "path": dg.MetadataValue.path(str(path)),
                    "files": state.files,
                    "bytes": state.size,
                    "present": state.digest != ABSENT,
                },
            )

    return [observe_checkpoints]
