"""Checkpoints as Dagster sees them: what an observation reports, and when one is asked for without a person."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from safetensors.torch import load_file, save_file

from lanepaint_assets.checkpoints import smoke_check
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import due_checkpoints
from lanepaint_assets.checkpoints.sensors import (
    CATALOGUE,
    OBSERVE_INPUTS,
    assets_to_observe,
    is_observing,
)
from lanepaint_assets.definitions import build
from lanepaint_assets.editing.catalogue_observation import due_catalogue
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline

QWEN, FLUX = "qwen_vl_checkpoint", "flux_fill_checkpoint"
EVERYTHING = sorted([*CHECKPOINT_FOLDERS, CATALOGUE])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# The real child; torchvision of these tests' machine needs a word first, see `torchvision_ops`.
CHILD = """
import lanepaint_assets_tests.torchvision_ops
from lanepaint_assets.checkpoints.smoke_child import main
main()
"""


class Location:
    """A code location on an instance of its own."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, **settings: Any) -> None:
        self.root, self.instance = root, instance
        self.platform = Platform(Settings(root=str(root), **{"checkpoint_stable_minutes": 0, **settings}))
        self.definitions = build(self.platform.settings, platform=self.platform)

    def folder(self, asset: str) -> Path:
        return self.root / "checkpoints" / CHECKPOINT_FOLDERS[asset]

    def observe(self) -> dict[str, dg.AssetObservation]:
        """What one run of the job reports."""
        job = self.definitions.resolve_job_def(OBSERVE_INPUTS)
        result = job.execute_in_process(instance=self.instance, run_config=QUIET)
        observations = [
            event.asset_observation_data.asset_observation
            for event in result.all_events
            if event.event_type_value == "ASSET_OBSERVATION"
        ]
        return {found.asset_key.to_user_string(): found for found in observations}

    def due(self) -> list[str]:
        """The assets that the schedule would have observed now."""
        return assets_to_observe(self.instance, self.platform, EVERYTHING, [due_checkpoints, due_catalogue])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def location(tmp_path: Path, instance: dg.DagsterInstance) -> Location:
    return Location(tmp_path / "root", instance, checkpoint_check="header")


def latest(instance: dg.DagsterInstance, asset: str) -> str | None:
    from dagster._core.definitions.data_version import extract_data_version_from_entry

    event = instance.get_latest_data_version_record(dg.AssetKey(asset), is_source=True)
    version = None if event is None else extract_data_version_from_entry(event.event_log_entry)
    return None if version is None else version.value


def test_every_observed_asset_has_a_version_after_one_observation(location: Location) -> None:
    observed = location.observe()
    assert set(observed) == {*CHECKPOINT_FOLDERS, CATALOGUE}
    for asset in CHECKPOINT_FOLDERS:
        assert latest(location.instance, asset) == "absent"
        assert observed[asset].metadata["condition"].value == "absent"
        assert "problem" not in observed[asset].metadata


def test_a_half_upload_keeps_the_version_and_its_completion_publishes_another(location: Location) -> None:
    folder = write_pipeline(location.folder(FLUX))
    first = location.observe()[FLUX]
    assert first.metadata["condition"].value == "fine"
    assert "the model was not loaded" in str(first.metadata["check"].value)
    shard = folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    half = location.observe()[FLUX]
    assert half.data_version == first.data_version == latest(location.instance, FLUX)
    assert half.metadata["condition"].value == "incomplete"
    assert shard.name in str(half.metadata["problem"].value)
    assert half.metadata["in_force_since"] == first.metadata["in_force_since"]
    again = location.observe()[FLUX]
    assert again.metadata["kept_back_since"] == half.metadata["kept_back_since"]
    shard.write_bytes(whole)
    completed = location.observe()[FLUX]
    assert completed.data_version not in (None, first.data_version)
    assert "problem" not in completed.metadata


@pytest.mark.parametrize("process", ["this", pytest.param("child", marks=pytest.mark.slow)])
def test_weights_that_are_nan_are_never_published_and_the_sound_ones_come_back_as_they_were(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    process: str,
    torch_on_one_thread: None,
) -> None:
    """With the real engine, in a real child process too."""
    import lanepaint_assets_tests.torchvision_ops  # noqa: F401
    from lanepaint_assets_tests.tiny_models.qwen import save_tiny_qwen

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(smoke_check, "CHILD", (sys.executable, "-c", CHILD))
    if process == "this":
        monkeypatch.setattr(smoke_check, "in_child", smoke_check.in_this_process)
    location = Location(tmp_path / "root", instance, checkpoint_check="load", qwen_device="cpu")
    folder = save_tiny_qwen(location.folder(QWEN))
    shutil.copytree(folder, tmp_path / "sound")
    sound = location.observe()[QWEN]
    assert sound.metadata["condition"].value == "fine", sound.metadata
    assert "the model was loaded and computed" in str(sound.metadata["check"].value)

    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    broken = location.observe()[QWEN]
    assert broken.data_version == sound.data_version
    assert broken.metadata["condition"].value == "refused"
    assert "its weight lm_head.weight is NaN or infinite" in str(broken.metadata["problem"].value)

    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "sound", folder)
    monkeypatch.setattr(smoke_check, "in_child", lambda *_: pytest.fail("what was found out is asked again"))
    back = location.observe()[QWEN]
    assert (back.data_version, back.metadata["condition"].value) == (sound.data_version, "fine")
    assert "problem" not in back.metadata


def test_a_copied_checkpoint_changes_the_observed_version_and_no_fingerprint(location: Location) -> None:
    platform = Platform(location.platform.settings.model_copy(update={"first_frame_painter": "flux_fill"}))
    folder = write_pipeline(location.folder(FLUX))
    before, digests = location.observe()[FLUX], platform.checkpoint_digests("first_frame_painter")
    for path in folder.rglob("*.safetensors"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert location.observe()[FLUX].data_version != before.data_version
    assert platform.checkpoint_digests("first_frame_painter") == digests


def test_the_schedule_asks_for_an_observation_only_where_one_has_something_to_tell(location: Location) -> None:
    assert location.due() == EVERYTHING
    location.observe()
    assert location.due() == []
    folder = write_pipeline(location.folder(FLUX))
    assert location.due() == [FLUX]
    location.observe()
    assert location.due() == []
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    assert location.due() == [FLUX]
    location.observe()
    # What is wrong was told; nothing new until somebody touches the files.
    assert location.due() == []
    (folder / "README.md").write_text("about")
    assert location.due() == [FLUX]


def test_an_instance_that_knows_nothing_is_told_though_the_store_was_observed(location: Location) -> None:
    location.observe()
    with dg.DagsterInstance.ephemeral() as other:
        elsewhere = Location(location.root, other, checkpoint_check="header")
        assert elsewhere.due() == EVERYTHING


def pools(location: Location) -> dict[str, str | None]:
    """Of the step that observes each asset."""
    found = [each for each in location.definitions.assets or [] if isinstance(each, dg.AssetsDefinition)]
    return {
        key.to_user_string(): each.op.pool
        for each in found
        for key in each.keys
        if key.to_user_string() in CHECKPOINT_FOLDERS
    }


def test_observations_that_load_models_wait_in_the_pool_of_their_class_of_gpu(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    loading = Location(tmp_path / "root", instance, checkpoint_check="load")
    assert pools(loading) == dict.fromkeys(CHECKPOINT_FOLDERS, "gpu_80gb") | {"sam2_checkpoint": "gpu_24gb"}
    assert set(loading.observe()) == {*CHECKPOINT_FOLDERS, CATALOGUE}


def test_observations_that_read_files_only_wait_for_nothing(location: Location) -> None:
    assert pools(location) == dict.fromkeys(CHECKPOINT_FOLDERS)


def test_a_refusal_is_asked_again_after_a_start_with_other_settings(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = smoke_check.Outcome(reason="no kernel image for this device", is_final=True, seconds=1.0)
    passed = smoke_check.Outcome(reason=None, is_final=True, seconds=1.0)
    monkeypatch.setattr(
        smoke_check, "in_child", lambda settings, _: refused if settings.flux_device == "cuda:1" else passed
    )
    before = Location(tmp_path / "root", instance, checkpoint_check="load", flux_device="cuda:1")
    write_pipeline(before.folder(FLUX))
    assert before.observe()[FLUX].metadata["condition"].value == "refused"
    after = Location(tmp_path / "root", instance, checkpoint_check="load", flux_device="cuda:0")
    assert after.observe()[FLUX].metadata["condition"].value == "fine"
    assert "loaded and computed" in str(before.observe()[FLUX].metadata["check"].value)


def test_two_observations_never_run_at_once(location: Location) -> None:
    assert not is_observing(location.instance)
    job = location.definitions.resolve_job_def(OBSERVE_INPUTS)
    location.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert is_observing(location.instance)
    assert start(location, cursor=None) == []


def test_a_tick_of_the_schedule_asks_for_a_run_that_says_what_for(location: Location) -> None:
    (schedule,) = location.definitions.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    # A schedule is only given an instance that other processes could open too.
    with (
        dg.instance_for_test() as stored,
        dg.build_schedule_context(stored, resources={"platform": location.platform}) as context,
    ):
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.tags["lanepaint/observed_for"] == ", ".join(EVERYTHING)


def start(location: Location, cursor: str | None) -> list[tuple[str | None, str | None]]:
    """Keys of the runs that a tick of the sensor asks for, and its cursor afterwards."""
    (sensor,) = (each for each in location.definitions.sensors or [] if each.name == "observe_at_start")
    with dg.build_sensor_context(
        location.instance, cursor=cursor, repository_def=location.definitions.get_repository_def()
    ) as context:
        data = sensor.evaluate_tick(context)
    return [(request.run_key, data.cursor) for request in data.run_requests or []]


def test_every_start_of_the_code_location_observes_once(location: Location) -> None:
    ((first, cursor),) = start(location, cursor=None)
    assert start(location, cursor=cursor) == []
    restarted = Location(location.root, location.instance)
    ((second, _),) = start(restarted, cursor=cursor)
    assert second != first


def test_observing_is_on_by_default_and_everything_that_asks_for_computing_is_off(location: Location) -> None:
    on = {each.name for each in location.definitions.sensors or [] if each.default_status.value == "RUNNING"}
    assert on == {"observe_at_start"}
    (schedule,) = location.definitions.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.default_status) == (OBSERVE_INPUTS, dg.DefaultScheduleStatus.RUNNING)
    assert schedule.cron_schedule == "*/5 * * * *"
    job = location.definitions.resolve_job_def(OBSERVE_INPUTS)
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {*CHECKPOINT_FOLDERS, CATALOGUE}
