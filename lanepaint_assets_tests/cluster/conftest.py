"""The cluster that tests are given: a real one, named by the environment, or the stand-in."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes.client
import kubernetes.config
import pytest
import yaml

from lanepaint_assets_tests.cluster.stand_in import StandIn
from lanepaint_assets_tests.unit.k8s import rendered

# Read here: tests themselves see no LANEPAINT_* of the shell.
KUBECONFIG = os.environ.get("KUBECONFIG")
NAMESPACE = os.environ.get("LANEPAINT_TEST_NAMESPACE")
IMAGE = os.environ.get("LANEPAINT_TEST_IMAGE", "lanepaint/orchestrator:0.1.0")
COMMAND = shlex.split(os.environ.get("LANEPAINT_TEST_COMMAND", ""))
FOLDER = os.environ.get("LANEPAINT_TEST_FOLDER")
CLAIM = os.environ.get("LANEPAINT_TEST_CLAIM")

# The ConfigMap that every pod mounts.
INSTANCE = "lanepaint-test-instance"

NO_CLUSTER = "KUBECONFIG and LANEPAINT_TEST_NAMESPACE name no cluster"


@dataclass(frozen=True)
class Cluster:
    """Where Jobs are started.

    Attributes:
        kubeconfig: how to reach it, from here and from its pods.
        namespace: the tests' own.
        folder: seen by this machine and by pods, empty.
        stand_in: None where the cluster is real.
    """

    kubeconfig: Path
    namespace: str
    folder: Path
    stand_in: StandIn | None

    def instance(self, settings: dict[str, str]) -> dg.DagsterInstance:
        """A new instance whose runs and steps are Jobs here, with these settings in every pod."""
        home = self.folder / "home"
        home.mkdir()
        launcher = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": self._launcher(home, settings)}
        # Where runs are resumed, every pod that opens the instance builds the launcher.
        monitoring = rendered.instance_config(rendered.values())["run_monitoring"]
        config = {"telemetry": {"enabled": False}, "run_launcher": launcher, "run_monitoring": monitoring}
        text = yaml.safe_dump(config)
        (home / "dagster.yaml").write_text(text)
        if self.stand_in is None:
            self._configure(text)
        return dg.DagsterInstance.from_config(str(home))

    def _configure(self, dagster_yaml: str) -> None:
        """Write what pods mount."""
        kubernetes.config.load_kube_config(str(self.kubeconfig))
        api = kubernetes.client.CoreV1Api()
        body = {"metadata": {"name": INSTANCE}, "data": {"dagster.yaml": dagster_yaml}}
        try:
            api.replace_namespaced_config_map(INSTANCE, self.namespace, body)
        except kubernetes.client.ApiException as error:
            if error.status != 404:
                raise
            api.create_namespaced_config_map(self.namespace, body)

    def _launcher(self, home: Path, settings: dict[str, str]) -> dict[str, Any]:
        config = rendered.launcher_config(rendered.values())
        environment = [{"name": name, "value": value} for name, value in settings.items()]
        container = {"env": environment, **({"command": COMMAND} if COMMAND else {})}
        del config["postgres_password_secret"]
        if CLAIM is not None and FOLDER is not None and self.stand_in is None:
            config["volumes"] = [*config["volumes"], {"name": "shared", "persistentVolumeClaim": {"claimName": CLAIM}}]
            config["volume_mounts"] = [*config["volume_mounts"], {"name": "shared", "mountPath": FOLDER}]
        return {
            **config,
            "load_incluster_config": False,
            "kubeconfig_file": str(self.kubeconfig),
            "job_namespace": self.namespace,
            "instance_config_map": INSTANCE,
            "dagster_home": str(home),
            # The settings are those of the test.
            "env_config_maps": [],
            "run_k8s_config": {**config["run_k8s_config"], "container_config": container},
        }


@pytest.fixture
def real_cluster() -> tuple[Path, str]:
    """Kubeconfig and namespace of a real cluster."""
    if KUBECONFIG is None or NAMESPACE is None:
        pytest.skip(NO_CLUSTER)
    return Path(KUBECONFIG), NAMESPACE


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Each test runs on both, where there is a real one.

    Of that one, a copy of the tester's kubeconfig stays in the folder, and whoever may read that may use it.
    """
    if request.param == "real":
        kubeconfig, namespace = request.getfixturevalue("real_cluster")
        if FOLDER is None and not COMMAND:
            pytest.skip("LANEPAINT_TEST_FOLDER names no folder that the pods see too")
        # Pods that run this machine's interpreter see this machine's files.
        folder = tmp_path if FOLDER is None else Path(FOLDER) / tmp_path.name
        folder.mkdir(exist_ok=FOLDER is None)
        # Runs start their steps, and read it too.
        seen_by_pods = Path(shutil.copy(kubeconfig, folder / "kubeconfig"))
        yield Cluster(seen_by_pods, namespace, folder, None)
        return
    stand_in = StandIn(tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                "clusters": [{"name": "here", "cluster": {"server": stand_in.address}}],
                "users": [{"name": "me", "user": {}}],
            }
        )
    )
    yield Cluster(kubeconfig, "lanepaint", tmp_path, stand_in)
    stand_in.close()
