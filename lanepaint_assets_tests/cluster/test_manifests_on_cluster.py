"""What only a real cluster can tell: whether it takes the manifests, and what the accounts may do there."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lanepaint_assets_tests.unit.k8s import rendered
from lanepaint_assets_tests.unit.k8s.choices import CHOICES, ORCHESTRATOR, ops, settings

pytestmark = pytest.mark.cluster

# Applied by the owner of the cluster, to all of it.
OF_ALL = {"Namespace", "Kustomization"}


def kubectl(cluster: tuple[Path, str], *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on this machine")
    kubeconfig, namespace = cluster
    command = ["kubectl", "--kubeconfig", str(kubeconfig), "--namespace", namespace, *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def in_namespace(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The manifest as it would be in the tests' namespace."""
    moved = copy.deepcopy(document)
    moved["metadata"]["namespace"] = namespace
    for subject in moved.get("subjects", []):
        subject["namespace"] = namespace
    return moved


@pytest.mark.parametrize(
    "document",
    [each for each in rendered.documents("manifests") if each["kind"] not in OF_ALL],
    ids=lambda each: f"{each['kind']}/{each['metadata']['name']}",
)
def test_the_cluster_takes_the_manifest(real_cluster: tuple[Path, str], document: dict[str, Any]) -> None:
    moved = json.dumps(in_namespace(document, real_cluster[1]))

    # Whoever applied the manifests before may have done it another way, which owns their fields.
    answer = kubectl(
        real_cluster, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", given=moved
    )

    if "no matches for kind" in answer.stderr:
        pytest.skip(f"this cluster has no {document['kind']}, which GKE adds")
    assert answer.returncode == 0, answer.stderr


@pytest.fixture
def role_applied(real_cluster: tuple[Path, str]) -> None:
    """Accounts and role as the manifests have them; left there, as the namespace is the tests' own."""
    for kind, name in (
        ("ServiceAccount", "lanepaint-launcher"),
        ("ServiceAccount", "lanepaint-steps"),
        ("ServiceAccount", "lanepaint-code"),
        ("Role", "lanepaint-launcher"),
        ("RoleBinding", "lanepaint-launcher"),
    ):
        moved = json.dumps(in_namespace(rendered.document(kind, name), real_cluster[1]))
        answer = kubectl(real_cluster, "apply", "--server-side", "-f", "-", given=moved)
        if answer.returncode:
            pytest.skip(f"the tests may not apply {kind} {name}: {answer.stderr.strip()}")


@pytest.mark.usefixtures("role_applied")
@pytest.mark.parametrize("choice", CHOICES)
def test_the_cluster_takes_the_job_of_every_step_and_its_pod(
    real_cluster: tuple[Path, str], tmp_path: Path, choice: str
) -> None:
    launches, namespace = rendered.launcher(tmp_path, rendered.values()), real_cluster[1]
    asked: list[dict[str, Any]] = []
    for number, op in enumerate(ops(settings(**CHOICES[choice])).values()):
        job = rendered.step_job(launches, ORCHESTRATOR, op)
        job["metadata"] |= {"name": f"step-{number}", "namespace": namespace}
        template = job["spec"]["template"]
        # Of a Job, Pod Security and quotas only warn.
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
        pod["metadata"] = {**template["metadata"], "name": f"step-{number}", "namespace": namespace}
        asked += [job, pod]

    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": asked})
    answer = kubectl(real_cluster, "create", "--dry-run=server", "-f", "-", given=given)

    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr


LAUNCHER_MAY = ["create jobs", "get jobs", "list jobs", "delete jobs", "get jobs/status", "get pods", "list pods"]
LAUNCHER_MAY += ["delete pods", "get pods/log", "list events"]
NOBODY_MAY = ["get secrets", "list secrets", "create pods", "create pods/exec", "create deployments", "update roles"]
NOBODY_MAY += ["create rolebindings", "create serviceaccounts/token", "delete configmaps", "patch jobs"]


@pytest.mark.usefixtures("role_applied")
@pytest.mark.parametrize(
    ("account", "action", "expected"),
    [
        *(("launcher", action, "yes") for action in LAUNCHER_MAY),
        *((account, action, "no") for account in ("launcher", "steps", "code") for action in NOBODY_MAY),
        *((account, action, "no") for account in ("steps", "code") for action in LAUNCHER_MAY),
    ],
)
def test_an_account_may_do_what_its_pods_do_and_nothing_else(
    real_cluster: tuple[Path, str], account: str, action: str, expected: str
) -> None:
    who = f"system:serviceaccount:{real_cluster[1]}:lanepaint-{account}"

    answer = kubectl(real_cluster, "auth", "can-i", *action.split(), "--as", who)

    if "cannot impersonate" in answer.stderr:
        pytest.skip("the tests may not ask for other accounts")
    assert answer.stdout.strip() == expected, answer.stderr
