"""The table of contents: settings to resources, assets, jobs, sensors and executor. Nothing happens at import
except `defs`, which Dagster asks for by name.

Tests call `build` with their own settings and platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from lanepaint_assets.automation import automated
from lanepaint_assets.automation import build_sensors as automation_sensors
from lanepaint_assets.checkpoints.assets import build_assets as checkpoint_assets
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import due_checkpoints
from lanepaint_assets.checkpoints.sensors import CATALOGUE, build_observation
from lanepaint_assets.clips.assets import build_assets as clip_assets
from lanepaint_assets.clips.sensors import build_sensors
from lanepaint_assets.editing.assets import build_assets as editing_assets
from lanepaint_assets.editing.catalogue_observation import due_catalogue
from lanepaint_assets.evaluation.assets import build_assets as evaluation_assets
from lanepaint_assets.jobs import build_jobs
from lanepaint_assets.k8s_steps import placed
from lanepaint_assets.platform import Platform
from lanepaint_assets.run_progress import platform_resource
from lanepaint_assets.segmentation.assets import build_assets as segmentation_assets
from lanepaint_assets.settings import Settings, SettingsError, load_settings
from lanepaint_assets.training.assets import build_assets as training_assets

if TYPE_CHECKING:
    from collections.abc import Mapping


def build(settings: Settings, *, platform: Platform | None = None) -> dg.Definitions:
    """Assemble the code location.

    Args:
        settings: as read by `load_settings`.
        platform: given by tests and the command line; by default one at `settings.root`.

    Raises:
        SettingsError: an engine or the executor is not available.
    """
    resources: Mapping[str, object] = {"platform": platform_resource(platform or Platform(settings))}
    observe_at_start, observe_inputs = build_observation(
        [*CHECKPOINT_FOLDERS, CATALOGUE], [due_checkpoints, due_catalogue], settings.observation_minutes
    )
    return dg.Definitions(
        assets=placed(
            settings,
            automated(
                settings,
                [
                    *clip_assets(),
                    *checkpoint_assets(settings),
                    *segmentation_assets(settings),
                    *training_assets(settings),
                    *editing_assets(settings),
                    *evaluation_assets(settings),
                ],
            ),
        ),
        jobs=build_jobs(),
        sensors=[*build_sensors(), *automation_sensors(), observe_at_start],
        schedules=[observe_inputs],
        resources=resources,
        executor=_executor(settings),
    )


def _executor(settings: Settings) -> dg.ExecutorDefinition:
    if settings.executor == "in_process":
        return dg.in_process_executor
    if settings.executor == "multiprocess":
        return dg.multiprocess_executor
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise SettingsError(
            "LANEPAINT_EXECUTOR='k8s' needs dagster-k8s; install it with: pip install 'lanepaint[k8s]'"
        ) from error
    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster` and `dg` load."""
    return build(load_settings())
