"""The Job of every step, as Dagster renders it from the values and the profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from dagster_k8s import K8sRunLauncher

from lanepaint_assets.automation import LARGE_GPU, SMALL_GPU
from lanepaint_assets.k8s_profiles import FAMILIES, GPU_CLASSES, PROFILES, profile_name, step_config
from lanepaint_assets.settings import SettingsError
from lanepaint_assets_tests.unit.k8s import rendered
from lanepaint_assets_tests.unit.k8s.choices import CHOICES, ORCHESTRATOR, ops, settings
from lanepaint_assets_tests.unit.k8s.pod_rules import problems


@pytest.fixture
def launches(tmp_path: Path) -> K8sRunLauncher:
    return rendered.launcher(tmp_path, rendered.values())


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_job_of_every_step_is_valid_and_keeps_to_the_rules(launches: K8sRunLauncher, choice: str) -> None:
    found = ops(settings(**CHOICES[choice]))
    assert set(FAMILIES) <= set(found)

    for asset, op in found.items():
        job = rendered.step_job(launches, ORCHESTRATOR, op)

        kubernetes_validate.validate(job, "1.36", strict=True)
        assert problems(pod_of(job)) == [], asset


def test_the_job_of_a_run_is_valid_and_keeps_to_the_rules(launches: K8sRunLauncher) -> None:
    job = rendered.run_job(launches, ORCHESTRATOR)

    kubernetes_validate.validate(job, "1.36", strict=True)
    assert problems(pod_of(job)) == []
    assert pod_of(job)["serviceAccountName"] == "lanepaint-launcher"
    assert pod_of(job)["automountServiceAccountToken"] is True
    assert job["spec"]["template"]["metadata"]["labels"]["lanepaint/role"] == "run"


def test_a_step_has_the_account_that_may_ask_nothing_of_kubernetes(launches: K8sRunLauncher) -> None:
    found = ops(settings(engines="models"))
    for asset in FAMILIES:
        job = rendered.step_job(launches, ORCHESTRATOR, found[asset])

        assert pod_of(job)["serviceAccountName"] == "lanepaint-steps"
        assert job["spec"]["template"]["metadata"]["labels"]["lanepaint/role"] == "step"


def test_steps_run_in_the_image_of_their_models(launches: K8sRunLauncher) -> None:
    found = ops(settings(engines="models"))

    images = {
        asset: pod_of(rendered.step_job(launches, ORCHESTRATOR, op))["containers"][0]["image"]
        for asset, op in found.items()
    }

    assert images["road_masks"] == "registry/lanepaint/segmentation:1.0"
    assert images["lane_loras"] == "registry/lanepaint/editing:1.0"
    assert images["edited_trajectories"] == "registry/lanepaint/evaluation:1.0"
    assert images["sam2_checkpoint"] == ORCHESTRATOR


def test_the_verdicts_of_qwen_run_where_qwen_is(launches: K8sRunLauncher) -> None:
    op = ops(settings(**CHOICES["Qwen as verifier"]))["video_quality"]

    assert pod_of(rendered.step_job(launches, ORCHESTRATOR, op))["containers"][0]["image"].endswith("/editing:1.0")


def test_steps_keep_their_pool_and_are_tried_again_when_their_pod_is_lost() -> None:
    on_machine, on_cluster = ops(settings(engines="models", executor="in_process")), ops(settings(engines="models"))

    assert {name: op.pool for name, op in on_cluster.items()} == {name: op.pool for name, op in on_machine.items()}
    assert on_cluster["road_masks"].pool == SMALL_GPU
    assert on_cluster["edited_videos"].pool == LARGE_GPU
    for asset in FAMILIES:
        policy = on_cluster[asset].retry_policy
        assert policy is not None
        assert policy.max_retries > 0
        assert on_machine[asset].retry_policy is None
        assert "dagster-k8s/config" not in on_machine[asset].tags


def test_a_pod_is_left_alone_for_longer_than_its_step_may_take_to_finish_an_item() -> None:
    config = step_config(settings(stop_grace_s=60.5), ["road_masks"])
    assert config["pod_spec_config"]["termination_grace_period_seconds"] > 61


def test_cpu_engines_ask_for_no_gpu() -> None:
    for asset in sorted(set(FAMILIES) - {"lane_loras"}):
        config = step_config(settings(engines="cpu"), [asset])

        assert "nvidia.com/gpu" not in config["container_config"]["resources"]["limits"]
        assert "node_selector" not in config["pod_spec_config"]


@pytest.mark.parametrize(("small", "label"), [("a100_80gb", "nvidia-a100-80gb"), ("l4", "nvidia-l4")])
def test_sam_2_runs_on_the_small_gpu_and_editing_on_the_large_one(small: str, label: str) -> None:
    chosen = settings(engines="models", k8s_small_gpu=small, k8s_large_gpu="h100_80gb")

    accelerator = "cloud.google.com/gke-accelerator"
    assert step_config(chosen, ["road_masks"])["pod_spec_config"]["node_selector"][accelerator] == label
    assert step_config(chosen, ["edited_videos"])["pod_spec_config"]["node_selector"][accelerator] == "nvidia-h100-80gb"


def test_every_profile_fits_the_machines_that_it_may_be_put_on() -> None:
    for gpu in ("a100_80gb", "h100_80gb"):
        for asset in sorted(FAMILIES):
            step_config(settings(engines="models", k8s_large_gpu=gpu, k8s_small_gpu=gpu), [asset])
    assert PROFILES["editing"].memory_gib > GPU_CLASSES["l4"].memory_gib


def test_a_profile_that_no_machine_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from lanepaint_assets import k8s_profiles

    larger = {**PROFILES, "sam2": replace(PROFILES["sam2"], memory_gib=64)}
    monkeypatch.setattr(k8s_profiles, "PROFILES", larger)

    with pytest.raises(SettingsError, match="64 GiB, and a machine with nvidia-l4"):
        step_config(settings(engines="models", k8s_small_gpu="l4"), ["road_masks"])


def test_a_step_on_two_gpus_asks_for_two_machines_worth_of_everything() -> None:
    one = step_config(settings(engines="models"), ["edited_videos"])["container_config"]["resources"]
    two = step_config(settings(**CHOICES["two GPUs a step"]), ["edited_videos"])["container_config"]["resources"]

    assert two["limits"]["nvidia.com/gpu"] == "2"
    assert int(two["limits"]["memory"].removesuffix("Gi")) == 2 * int(one["limits"]["memory"].removesuffix("Gi"))


def test_spot_steps_tolerate_spot_nodes_and_ask_for_them() -> None:
    pod = step_config(settings(engines="models", k8s_spot=True), ["road_masks"])["pod_spec_config"]

    assert pod["node_selector"]["cloud.google.com/gke-spot"] == "true"
    assert {each["key"] for each in pod["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}


def test_a_step_on_a_spot_node_ends_within_the_notice() -> None:
    for chosen, expected in ((90.0, "10"), (4.5, "4.5")):
        config = step_config(settings(engines="models", k8s_spot=True, stop_grace_s=chosen), ["road_masks"])

        assert {"name": "LANEPAINT_STOP_GRACE_S", "value": expected} in config["container_config"]["env"]
        assert config["pod_spec_config"]["termination_grace_period_seconds"] == 15
    of_cpu = step_config(settings(engines="models", k8s_spot=True), ["trajectory_reports"])
    assert "LANEPAINT_STOP_GRACE_S" not in {each["name"] for each in of_cpu["container_config"]["env"]}


@pytest.mark.parametrize("asset", ["sam2_checkpoint", "alpamayo_checkpoint", "prompt_catalogue"])
def test_observations_have_the_rights_of_steps_and_not_those_of_the_launcher(
    launches: K8sRunLauncher, asset: str
) -> None:
    job = rendered.step_job(launches, ORCHESTRATOR, ops(settings(engines="models"))[asset])

    assert pod_of(job)["serviceAccountName"] == "lanepaint-steps"
    assert job["spec"]["template"]["metadata"]["labels"]["lanepaint/role"] == "step"


def test_only_gpu_steps_wait_in_the_queue() -> None:
    chosen = settings(engines="models", k8s_queue="gpus")

    assert step_config(chosen, ["road_masks"])["job_metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus"}
    assert step_config(chosen, ["trajectory_reports"])["job_metadata"] == {}


def test_mounted_checkpoints_are_read_only_and_listed_once() -> None:
    config = step_config(settings(engines="models", k8s_checkpoints="fuse"), ["first_frames"])
    (volume,) = [each for each in config["pod_spec_config"]["volumes"] if each["name"] == "checkpoints"]

    assert volume["csi"]["read_only"] is True
    assert volume["csi"]["volume_attributes"]["bucketName"] == "bucket"
    assert "only-dir=study/checkpoints" in volume["csi"]["volume_attributes"]["mountOptions"]
    assert volume["csi"]["volume_attributes"]["gcsfuseMetadataPrefetchOnMount"] == "true"
    assert config["pod_template_spec_metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"
    assert {"name": "LANEPAINT_CHECKPOINTS_MOUNT", "value": "/checkpoints"} in config["container_config"]["env"]


@pytest.mark.parametrize("gpu", ["a100_80gb", "h100_80gb"])
def test_a_step_and_the_container_that_mounts_its_checkpoints_fit_one_machine(gpu: str) -> None:
    chosen = settings(engines="models", k8s_checkpoints="fuse", k8s_large_gpu=gpu, k8s_small_gpu=gpu)
    for asset in sorted(FAMILIES):
        config = step_config(chosen, [asset])
        sidecar = config["pod_template_spec_metadata"]["annotations"]
        if "gke-gcsfuse/volumes" not in sidecar:
            continue
        asked = config["container_config"]["resources"]["requests"]

        # Without a request, GKE takes the limit for it.
        assert float(asked["cpu"]) + float(sidecar["gke-gcsfuse/cpu-request"]) <= GPU_CLASSES[gpu].cpu
        memory = int(asked["memory"].removesuffix("Gi")) + int(sidecar["gke-gcsfuse/memory-limit"].removesuffix("Gi"))
        assert memory <= GPU_CLASSES[gpu].memory_gib


def test_downloaded_checkpoints_are_those_that_the_step_reads() -> None:
    chosen = settings(engines="models", k8s_checkpoints="download")

    (loader,) = step_config(chosen, ["first_frames"])["pod_spec_config"]["init_containers"]

    assert loader["command"][:5] == ["lanepaint", "checkpoints", "download", "--from", "gs://bucket/study/checkpoints"]
    assert loader["command"][5:] == ["flux_fill_checkpoint", "qwen_vl_checkpoint"]
    assert step_config(chosen, ["lane_loras"])["pod_spec_config"]["init_containers"][0]["command"][5:] == [
        "flux_fill_checkpoint"
    ]
    assert "init_containers" not in step_config(chosen, ["trajectory_reports"])["pod_spec_config"]


def test_the_command_of_the_download_is_one_that_there_is() -> None:
    from click.testing import CliRunner

    from lanepaint_assets.cli import cli

    (loader,) = step_config(settings(engines="models", k8s_checkpoints="download"), ["road_masks"])["pod_spec_config"][
        "init_containers"
    ]

    result = CliRunner().invoke(cli, [*loader["command"][1:], "--help"])

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("how", ["fuse", "download"])
def test_checkpoints_of_a_local_folder_can_be_neither_mounted_nor_downloaded(how: str) -> None:
    with pytest.raises(SettingsError, match="is none"):
        step_config(settings(engines="models", root="/data", k8s_checkpoints=how), ["road_masks"])


@pytest.mark.parametrize("image", ["registry/{family}", "registry/{family}:latest", "registry:5000/{family}"])
def test_an_image_that_may_change_is_refused(image: str) -> None:
    with pytest.raises(SettingsError, match="does not name one build"):
        step_config(settings(k8s_image=image), ["raw_clips"])


@pytest.mark.parametrize("asset", sorted(FAMILIES))
def test_every_asset_has_a_profile_with_models_and_without(asset: str) -> None:
    assert profile_name(settings(engines="models"), [asset]) in PROFILES
    assert profile_name(settings(engines="cpu"), [asset]) in PROFILES
