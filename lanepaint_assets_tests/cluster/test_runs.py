"""Runs and steps as Jobs, from the launcher to the manifest; and a step whose pod is taken away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.definitions import build
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import manifest_path
from lanepaint_assets_tests.cluster.conftest import IMAGE, Cluster

CHUNK = "chunk_0000"
CLIPS = 6


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive") / "drive"
    write_sample_drive(
        folder, seed=3, chunks=1, clips_per_chunk=CLIPS, seconds=9.0, width=192, height=108, fps=10, other_cameras=False
    )
    return folder


@pytest.fixture
def environment(cluster: Cluster, drive: Path) -> dict[str, str]:
    source = cluster.folder / "drive"
    subprocess.run(["cp", "-r", str(drive), str(source)], check=True)
    return {
        "LANEPAINT_ROOT": str(cluster.folder / "root"),
        "LANEPAINT_SOURCE": str(source),
        "LANEPAINT_EXECUTOR": "k8s",
        "LANEPAINT_WORKERS": "1",
        "LANEPAINT_STOP_GRACE_S": "5",
    }


@pytest.fixture
def instance(cluster: Cluster, environment: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with cluster.instance(environment) as made:
        yield made


def settings_of(environment: dict[str, str]) -> Settings:
    return Settings(**{name.removeprefix("LANEPAINT_").lower(): value for name, value in environment.items()})


def launched(instance: dg.DagsterInstance, environment: dict[str, str]) -> str:
    """The id of a run of `sam2_only` that the launcher was given."""
    settings = settings_of(environment)
    register_chunks(Platform(settings), instance)
    job = build(settings).resolve_job_def("sam2_only")
    code = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("lanepaint_assets.definitions", "defs", None),
        container_image=IMAGE,
        entry_point=["dagster"],
        container_context=None,
    )
    run = instance.create_run_for_job(
        job, tags={"dagster/partition": CHUNK}, job_code_origin=JobPythonOrigin("sam2_only", code)
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run.run_id


def wait_until(seconds: float, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    return None


def ended(instance: dg.DagsterInstance, run_id: str) -> str:
    def status() -> str | None:
        run = instance.get_run_by_id(run_id)
        return run.status.value if run is not None and run.is_finished else None

    return wait_until(400, status) or "still running"


def story(cluster: Cluster, instance: dg.DagsterInstance, run_id: str) -> str:
    """What was said, for the message of a failed test."""
    lines = [entry.user_message or entry.message for entry in instance.all_logs(run_id)]
    pods = [job.log.read_text()[-2000:] for job in (cluster.stand_in.jobs if cluster.stand_in else {}).values()]
    return "\n".join([*lines, *pods])


def materialized(instance: dg.DagsterInstance, run_id: str, asset: str) -> dict[str, Any]:
    (event,) = [
        entry.dagster_event
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if entry.dagster_event and entry.dagster_event.asset_key == dg.AssetKey(asset)
    ]
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


@pytest.mark.slow
def test_a_run_and_each_of_its_steps_is_a_job(
    cluster: Cluster, instance: dg.DagsterInstance, environment: dict[str, str]
) -> None:
    run_id = launched(instance, environment)

    assert ended(instance, run_id) == "SUCCESS", story(cluster, instance, run_id)
    assert materialized(instance, run_id, "road_masks")["computed"] == CLIPS
    if cluster.stand_in is not None:
        specs = [job.document["spec"]["template"]["spec"] for job in cluster.stand_in.jobs.values()]
        accounts = [spec["serviceAccountName"] for spec in specs]
        assert accounts[0] == "lanepaint-launcher"
        assert accounts[1:]
        assert set(accounts[1:]) == {"lanepaint-steps"}


@pytest.mark.slow
def test_a_step_whose_pod_is_deleted_goes_on_without_computing_its_items_again(
    cluster: Cluster, instance: dg.DagsterInstance, environment: dict[str, str]
) -> None:
    store = ArtifactStore(environment["LANEPAINT_ROOT"])
    run_id = launched(instance, environment)

    def made() -> int:
        if not (store.root / manifest_path("road_masks", CHUNK)).exists():
            return 0
        return sum(row.status == "ok" for row in store.manifest("road_masks", CHUNK).rows.values())

    begun = wait_until(200, lambda: made() or None)
    assert begun, story(cluster, instance, run_id)
    delete_step_pod(cluster, run_id)

    assert ended(instance, run_id) == "SUCCESS", story(cluster, instance, run_id)
    told = materialized(instance, run_id, "road_masks")
    assert told["reused"] >= begun, story(cluster, instance, run_id)
    assert told["computed"] + told["reused"] == CLIPS


def delete_step_pod(cluster: Cluster, run_id: str) -> None:
    """The pod of the step that works."""
    import kubernetes.client
    import kubernetes.config

    kubernetes.config.load_kube_config(str(cluster.kubeconfig))
    api = kubernetes.client.CoreV1Api()
    (pod,) = [
        pod.metadata.name
        for pod in api.list_namespaced_pod(cluster.namespace).items
        if pod.metadata.labels.get("dagster/run-id") == run_id
        and pod.metadata.labels.get("app.kubernetes.io/component") == "step_worker"
        and pod.status.phase == "Running"
    ]
    api.delete_namespaced_pod(pod, cluster.namespace)
