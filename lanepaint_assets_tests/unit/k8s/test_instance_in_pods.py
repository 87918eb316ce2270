"""Every kind of pod opens the instance of the values, with what its specification gives it of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes.client
import pytest
import yaml
from dagster_k8s import K8sRunLauncher
from kubernetes.config import ConfigException, incluster_config

from lanepaint_assets_tests.unit.k8s import rendered
from lanepaint_assets_tests.unit.k8s.choices import CHOICES, ORCHESTRATOR, ops, settings


def server(role: str) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: rendered.server_pods(rendered.values())[role]


def run(folder: Path) -> dict[str, Any]:
    return rendered.run_job(rendered.launcher(folder, rendered.values()), ORCHESTRATOR)["spec"]["template"]["spec"]


def step(asset: str, choice: str) -> Callable[[Path], dict[str, Any]]:
    def pod(folder: Path) -> dict[str, Any]:
        launches = rendered.launcher(folder, rendered.values())
        op = ops(settings(**CHOICES[choice]))[asset]
        return rendered.step_job(launches, ORCHESTRATOR, op)["spec"]["template"]["spec"]

    return pod


def metrics(folder: Path) -> dict[str, Any]:
    return rendered.document("Deployment", "metrics")["spec"]["template"]["spec"]


PODS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ui": server("ui"),
    "daemon": server("daemon"),
    "code": server("code"),
    "run": run,
    "step on a GPU": step("edited_videos", "models"),
    "step without one": step("trajectory_reports", "cpu engines"),
    "observation": step("sam2_checkpoint", "models"),
    "metrics": metrics,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The instance of the values, with the storage and the logs of this machine."""
    config = rendered.instance_config(rendered.values())
    for elsewhere in ("storage", "compute_logs", "local_artifact_storage"):
        del config[elsewhere]
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    return folder


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path, pod: dict[str, Any]) -> None:
    """What a process in the pod sees of Kubernetes."""
    # Of this service alone every pod is told, whatever `enableServiceLinks` says.
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    # What a client is told lasts for the process.
    monkeypatch.setattr(kubernetes.client.Configuration, "_default", None)
    mounted = folder / "serviceaccount"
    mounted.mkdir()
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(mounted / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(mounted / "ca.crt"))
    accounts = {each["metadata"]["name"]: each for each in rendered.documents("manifests") if _is_account(each)}
    by_account = accounts[pod["serviceAccountName"]]["automountServiceAccountToken"]
    if pod.get("automountServiceAccountToken", by_account):
        import certifi

        (mounted / "token").write_text("of this pod")
        (mounted / "ca.crt").write_text(Path(certifi.where()).read_text(encoding="utf-8"))


def _is_account(document: dict[str, Any]) -> bool:
    return bool(document["kind"] == "ServiceAccount")


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_opens_the_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path, kind: str) -> None:
    enter(monkeypatch, tmp_path, PODS[kind](tmp_path))

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.run_monitoring_max_resume_run_attempts > 0
        assert isinstance(instance.run_launcher, K8sRunLauncher)


def test_a_pod_without_a_token_cannot_open_the_instance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    enter(monkeypatch, tmp_path, {**metrics(tmp_path), "automountServiceAccountToken": False})

    with pytest.raises(ConfigException, match="token"):
        dg.DagsterInstance.from_config(str(home))
