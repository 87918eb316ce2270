"""The pods that the files of k8s/ come to, made with Dagster's own code where that makes them on a cluster.

What the chart does with its values is said here in this project's words, as far as the project uses it; whoever has
the chart can have the values validated against its own schema (`test_values.py`).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes.client
import yaml
from dagster._core.storage.dagster_run import DagsterRun
from dagster._serdes.config_class import ConfigurableClassData
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job, get_user_defined_k8s_config

K8S = Path(__file__).resolve().parents[3] / "k8s"

RELEASE = "dagster"
NAMESPACE = "lanepaint"


@cache
def _values_text() -> str:
    return (K8S / "values.yaml").read_text(encoding="utf-8")


def values() -> dict[str, Any]:
    """The Helm values, a fresh copy."""
    return yaml.safe_load(_values_text())


def documents(folder: str) -> list[dict[str, Any]]:
    """Every document of the manifests in a folder of k8s/."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((K8S / folder).glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def document(kind: str, name: str) -> dict[str, Any]:
    """One manifest."""
    (found,) = [each for each in documents("manifests") if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def image_of(image: dict[str, str]) -> str:
    return f"{image['repository']}:{image['tag']}"


def launcher_config(given: dict[str, Any]) -> dict[str, Any]:
    """What the chart writes into `dagster.yaml` for the run launcher."""
    launcher = given["runLauncher"]["config"]["k8sRunLauncher"]
    written = {
        "load_incluster_config": launcher["loadInclusterConfig"],
        "job_namespace": NAMESPACE,
        "image_pull_policy": launcher["imagePullPolicy"],
        "service_account_name": given["serviceAccount"]["name"],
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": f"{RELEASE}-instance",
        "postgres_password_secret": given["global"]["postgresqlSecretName"],
        "env_config_maps": [each["name"] for each in launcher["envConfigMaps"]],
        "volume_mounts": launcher["volumeMounts"],
        "volumes": launcher["volumes"],
        "labels": launcher["labels"],
        "resources": launcher["resources"],
        "security_context": launcher["securityContext"],
        "run_k8s_config": {_snake(name): value for name, value in launcher["runK8sConfig"].items()},
    }
    assert set(launcher) <= {*map(_camel, written), "envSecrets", "envVars", "loadInclusterConfig", "runK8sConfig"}
    return written


def instance_config(given: dict[str, Any]) -> dict[str, Any]:
    """What the chart writes into `dagster.yaml`."""
    daemon, limits = given["dagsterDaemon"], given["concurrency"]
    database, logs = given["postgresql"], given["computeLogManager"]["config"]["gcsComputeLogManager"]
    login = {
        "username": database["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": database["postgresqlHost"],
        "db_name": database["postgresqlDatabase"],
        "port": 5432,
        "params": database["postgresqlParams"],
        "scheme": database["postgresqlScheme"],
    }
    return {
        "storage": {"postgres": {"postgres_db": login}},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher_config(given)},
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "compute_logs": {
            "module": "dagster_gcp.gcs.compute_log_manager",
            "class": given["computeLogManager"]["type"],
            "config": {_snake(name): value for name, value in logs.items()},
        },
        "run_monitoring": {_snake(name): value for name, value in daemon["runMonitoring"].items()},
        "run_retries": {_snake(name): value for name, value in daemon["runRetries"].items()},
        "concurrency": {
            "pools": {_snake(name): value for name, value in limits["pools"].items()},
            "runs": {_snake(name): value for name, value in limits["runs"].items()},
        },
        "retention": {"sensor": {"purge_after_days": given["retention"]["sensor"]["purgeAfterDays"]}},
        "telemetry": given["telemetry"],
        **given["additionalInstanceConfig"],
    }


def launcher(folder: Path, given: dict[str, Any]) -> K8sRunLauncher:
    """The run launcher of an instance with these values; it is given a cluster that is never asked.

    Args:
        folder: an empty one, for its kubeconfig.
        given: Helm values.
    """
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "none",
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
                "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "none", "user": {}}],
            }
        )
    )
    config = {**launcher_config(given), "load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    made = ConfigurableClassData("dagster_k8s", "K8sRunLauncher", json.dumps(config)).rehydrate(as_type=K8sRunLauncher)
    assert made is not None
    return made


def run_job(launches: K8sRunLauncher, image: str) -> dict[str, Any]:
    """The Job of a run, in the API's spelling."""
    context = K8sContainerContext.create_for_run(_run(), launches, include_run_tags=True)
    return _rendered(context, launches, image, "run_worker", ["dagster", "api", "execute_run", "{}"])


def step_job(launches: K8sRunLauncher, image: str, op: dg.OpDefinition) -> dict[str, Any]:
    """The Job of a step, in the API's spelling.

    Args:
        launches: see `launcher`.
        image: the code location's, for steps that name none.
        op: the step's.
    """
    context = K8sContainerContext.create_for_run(_run(), launches, include_run_tags=False)
    context = context.merge(K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(op.tags)))
    return _rendered(context, launches, image, "step_worker", ["dagster", "api", "execute_step", "{}"])


def _run() -> DagsterRun:
    return DagsterRun(job_name="master_pipeline", run_id="8a4f5b51-0000-4000-8000-000000000000")


def _rendered(
    context: K8sContainerContext, launches: K8sRunLauncher, image: str, component: str, args: list[str]
) -> dict[str, Any]:
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(image, launches),
        args=args,
        job_name="dagster-step-0123456789abcdef",
        component=component,
        user_defined_k8s_config=context.run_k8s_config,
    )
    return kubernetes.client.ApiClient().sanitize_for_serialization(job)


def server_pods(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Pods of the servers that the chart makes, by their role, as far as values decide them."""
    (code,) = given["dagster-user-deployments"]["deployments"]
    waiting = {"check-db-ready": given["postgresql"]["image"], "init-user-deployment": given["busybox"]["image"]}
    pods = {}
    for role, server in (("ui", given["dagsterWebserver"]), ("daemon", given["dagsterDaemon"]), ("code", code)):
        assert server["labels"] == {"lanepaint/role": role}
        pods[role] = {
            "serviceAccountName": (given["dagster-user-deployments"] if role == "code" else given)["serviceAccount"][
                "name"
            ],
            # The chart's own choice for all its servers; no value changes it.
            "automountServiceAccountToken": True,
            "securityContext": server["podSecurityContext"],
            "volumes": server["volumes"],
            "initContainers": [
                {
                    "name": name,
                    "image": image_of(image),
                    "securityContext": server["securityContext"],
                    "resources": server["initContainerResources"],
                }
                for name, image in waiting.items()
                if role != "code"
            ],
            "containers": [
                {
                    "name": role,
                    "image": image_of(server["image"]),
                    "securityContext": server["securityContext"],
                    "resources": server["resources"],
                    "volumeMounts": server["volumeMounts"],
                }
            ],
        }
    return pods


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
