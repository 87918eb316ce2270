"""The `checkpoints` group: every model checkpoint, observed. `absent` where there is none: CPU engines need none."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from lanepaint_assets.automation import LARGE_GPU, SMALL_GPU, SMALL_GPU_ENGINES, in_pool
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import Observation, observe_checkpoints
from lanepaint_assets.checkpoints.smoke_check import check_mode
from lanepaint_assets.engines import engine_reading
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings

GROUP = "checkpoints"
OWNERS = ["team:ml-platform"]


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """One observation of all checkpoints that wait for the same class of GPU, in its pool.

    Where nothing is loaded, there is one for all of them, and it waits for nothing.
    """
    by_pool: defaultdict[str | None, list[str]] = defaultdict(list)
    for name in CHECKPOINT_FOLDERS:
        by_pool[observation_pool(settings, name)].append(name)
    return [in_pool(_observation(names, pool), pool) for pool, names in by_pool.items()]


def observation_pool(settings: Settings, asset: str) -> str | None:
    """The pool in which a new version of a checkpoint is loaded; None where it is only read as files."""
    entry = engine_reading(asset)
    if check_mode(settings, entry) != "load":
        return None
    return SMALL_GPU if entry.name in SMALL_GPU_ENGINES else LARGE_GPU


def _observation(names: Sequence[str], pool: str | None) -> dg.AssetsDefinition:
    @dg.multi_observable_source_asset(
        name="observe_checkpoints" if pool is None else f"observe_checkpoints_{pool}",
        specs=[
            dg.AssetSpec(
                name,
                group_name=GROUP,
                owners=OWNERS,
                kinds={"checkpoint"},
                description=(
                    f"Files below ROOT/checkpoints/{CHECKPOINT_FOLDERS[name]}; the data version is their digest. A new "
                    "one is published when all files are there, nobody touches them any more and the model computes; "
                    "until then the one before stays, and the metadata says why."
                ),
            )
            for name in names
        ],
        can_subset=True,
    )
    def observe(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[dg.ObserveResult]:
        chosen = [name for name in names if dg.AssetKey(name) in context.selected_asset_keys]
        for observation in observe_checkpoints(platform, chosen, datetime.now(UTC)):
            if observation.state.problem is not None:
                context.log.warning(f"{observation.asset}: {observation.state.problem}")
            yield _as_result(observation)

    made: dg.AssetsDefinition = observe
    return made


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
