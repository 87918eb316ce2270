"""The manifests are valid, complete, and fit the values, the profiles and each other."""

from __future__ import annotations

import os
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from lanepaint_assets.definitions import build
from lanepaint_assets.k8s_profiles import GPU_CLASSES, KEPT_S, ROLE_LABEL, STEP_SERVICE_ACCOUNT
from lanepaint_assets.settings import load_settings
from lanepaint_assets_tests.unit.k8s import rendered
from lanepaint_assets_tests.unit.k8s.pod_rules import problems

ALL = [each for folder in ("manifests", "kueue") for each in rendered.documents(folder)]

# Kinds that GKE and Kueue add; Kubernetes itself has no schema of them.
ADDED = {"BackendConfig", "ManagedCertificate", "PodMonitoring", "Kustomization"}
ADDED |= {"ResourceFlavor", "ClusterQueue", "LocalQueue"}

ROLES = {"ui", "daemon", "code", "run", "step", "metrics"}


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']}/{document.get('metadata', {}).get('name')}"


@pytest.mark.parametrize("document", [each for each in ALL if each["kind"] not in ADDED], ids=name_of)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.36", strict=True)


def test_every_file_is_applied() -> None:
    folder = rendered.K8S / "manifests"
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]

    assert sorted(applied) == sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")


def test_every_manifest_of_a_namespace_is_in_the_same_one() -> None:
    outside = {"Namespace", "Kustomization", "ResourceFlavor", "ClusterQueue"}

    assert {each["metadata"]["namespace"] for each in ALL if each["kind"] not in outside} == {rendered.NAMESPACE}


def test_the_namespace_enforces_the_strictest_profile() -> None:
    labels = rendered.document("Namespace", rendered.NAMESPACE)["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_metrics_pod_keeps_to_the_rules_and_is_selected() -> None:
    spec = rendered.document("Deployment", "metrics")["spec"]

    assert problems(spec["template"]["spec"]) == []
    selected = spec["selector"]["matchLabels"]
    assert selected.items() <= spec["template"]["metadata"]["labels"].items()
    (port,) = spec["template"]["spec"]["containers"][0]["ports"]
    policy = rendered.document("NetworkPolicy", "metrics-from-prometheus")["spec"]
    assert policy["ingress"][0]["ports"][0]["port"] == port["containerPort"]


def test_the_metrics_pod_runs_a_command_that_there_is() -> None:
    from click.testing import CliRunner

    from lanepaint_assets.cli import cli

    (container,) = rendered.document("Deployment", "metrics")["spec"]["template"]["spec"]["containers"]

    result = CliRunner().invoke(cli, [*container["command"][1:], "--help"])

    assert result.exit_code == 0, result.output


def test_the_settings_are_settings_and_make_a_code_location(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rendered.document("ConfigMap", "lanepaint-settings")["data"].items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    runs = rendered.values()["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert settings.executor == "k8s"
    assert build(settings).assets
    assert settings.stop_grace_s < runs["podSpecConfig"]["terminationGracePeriodSeconds"]
    assert "PASSWORD" not in " ".join(os.environ[name] for name in os.environ if name.startswith("LANEPAINT_"))


def test_all_images_are_of_one_build() -> None:
    values = rendered.values()
    settings = rendered.document("ConfigMap", "lanepaint-settings")["data"]
    (container,) = rendered.document("Deployment", "metrics")["spec"]["template"]["spec"]["containers"]
    of_steps = settings["LANEPAINT_K8S_IMAGE"].replace("{family}", "orchestrator")
    servers = [values["dagsterWebserver"], values["dagsterDaemon"], *values["dagster-user-deployments"]["deployments"]]

    assert {rendered.image_of(server["image"]) for server in servers} == {of_steps} == {container["image"]}


def test_accounts_that_pods_use_exist_and_get_a_token_only_by_asking() -> None:
    accounts = {each["metadata"]["name"]: each for each in ALL if each["kind"] == "ServiceAccount"}
    values = rendered.values()
    used = {
        STEP_SERVICE_ACCOUNT,
        values["serviceAccount"]["name"],
        values["dagster-user-deployments"]["serviceAccount"]["name"],
        rendered.document("Deployment", "metrics")["spec"]["template"]["spec"]["serviceAccountName"],
    }

    assert used == set(accounts)
    for account in accounts.values():
        assert account["automountServiceAccountToken"] is False
        assert "iam.gke.io/gcp-service-account" in account["metadata"]["annotations"]


def test_only_the_launcher_may_ask_kubernetes_and_only_for_jobs_and_why_they_failed() -> None:
    binding, role = (
        rendered.document("RoleBinding", "lanepaint-launcher"),
        rendered.document("Role", "lanepaint-launcher"),
    )
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}

    assert [each["name"] for each in binding["subjects"]] == [rendered.values()["serviceAccount"]["name"]]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [each["kind"] for each in ALL if each["kind"].startswith("Cluster") and "Role" in each["kind"]] == []
    assert allowed == {
        *(("jobs", verb) for verb in ("create", "get", "list", "delete")),
        ("jobs/status", "get"),
        ("pods", "get"),
        ("pods", "list"),
        ("pods", "delete"),
        ("pods/log", "get"),
        ("events", "list"),
    }
    assert rendered.values()["rbacEnabled"] is False
    assert rendered.values()["dagster-user-deployments"]["rbacEnabled"] is False


def _roles_of(selector: dict[str, Any]) -> set[str]:
    """Roles whose pods a selector takes."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    if not selector:
        return ROLES
    if "matchLabels" in selector:
        return {selector["matchLabels"][ROLE_LABEL]}
    (expression,) = selector["matchExpressions"]
    assert (expression["key"], expression["operator"]) == (ROLE_LABEL, "In")
    return set(expression["values"])


def test_selectors_of_policies_and_budgets_name_roles_that_there_are() -> None:
    for each in ALL:
        if each["kind"] == "NetworkPolicy":
            assert _roles_of(each["spec"]["podSelector"]) <= ROLES
        elif each["kind"] == "PodDisruptionBudget":
            assert _roles_of(each["spec"]["selector"]) <= ROLES


def _policies(direction: str) -> list[dict[str, Any]]:
    return [each["spec"] for each in ALL if each["kind"] == "NetworkPolicy" and direction in each["spec"]]


def test_nothing_is_let_in_or_out_that_no_policy_names() -> None:
    nothing = rendered.document("NetworkPolicy", "nothing")["spec"]

    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    everywhere = ("0.0.0.0/0", "::/0")
    blocks = [
        peer["ipBlock"]["cidr"]
        for policy in _policies("egress") + _policies("ingress")
        for rule in policy.get("egress", []) + policy.get("ingress", [])
        for peer in rule.get("to", []) + rule.get("from", [])
        if "ipBlock" in peer
    ]
    assert blocks
    assert [block for block in blocks if block in everywhere] == []


def test_the_ui_is_reached_by_the_load_balancer_alone() -> None:
    (policy,) = [each for each in _policies("ingress") if "ui" in _roles_of(each["podSelector"])]
    (rule,) = policy["ingress"]

    assert all(set(peer) == {"ipBlock"} for peer in rule["from"])
    assert rule["ports"] == [{"protocol": "TCP", "port": rendered.values()["dagsterWebserver"]["service"]["port"]}]


def test_those_that_ask_for_code_may_reach_it_and_it_lets_them_in() -> None:
    (code,) = rendered.values()["dagster-user-deployments"]["deployments"]
    out, into = (rendered.document("NetworkPolicy", name)["spec"] for name in ("servers-to-code", "code-from-servers"))

    assert (
        _roles_of(out["podSelector"])
        == _roles_of(into["ingress"][0]["from"][0]["podSelector"])
        == {"ui", "daemon", "run"}
    )
    assert out["egress"][0]["ports"] == into["ingress"][0]["ports"] == [{"protocol": "TCP", "port": code["port"]}]


def test_steps_code_and_metrics_cannot_reach_kubernetes() -> None:
    assert _roles_of(rendered.document("NetworkPolicy", "launchers-to-kubernetes")["spec"]["podSelector"]) == {
        "ui",
        "daemon",
        "run",
    }


def test_every_role_has_one_budget() -> None:
    selected = [_roles_of(each["spec"]["selector"]) for each in ALL if each["kind"] == "PodDisruptionBudget"]

    assert sorted(role for roles in selected for role in roles) == sorted(ROLES)


def test_a_server_with_one_pod_does_not_hold_up_a_drain() -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in ALL if each["kind"] == "PodDisruptionBudget"}

    assert rendered.values()["dagsterWebserver"]["replicaCount"] > budgets["ui"]["minAvailable"]
    assert budgets["servers"]["maxUnavailable"] == 1


def test_every_pod_may_ask_for_names_whoever_answers_in_the_cluster() -> None:
    rules = rendered.document("NetworkPolicy", "names-and-google")["spec"]["egress"]
    (names,) = [rule for rule in rules if {"protocol": "UDP", "port": 53} in rule["ports"]]

    assert {"protocol": "TCP", "port": 53} in names["ports"]
    (pods,) = [peer["podSelector"]["matchExpressions"][0] for peer in names["to"] if "podSelector" in peer]
    assert (pods["key"], set(pods["values"])) == ("k8s-app", {"kube-dns", "node-local-dns"})
    # The cache of a node, and Cloud DNS.
    blocks = {peer["ipBlock"]["cidr"] for peer in names["to"] if "ipBlock" in peer}
    assert blocks == {"169.254.20.10/32", "169.254.169.254/32"}


def test_the_quota_admits_all_jobs_that_may_be_there_at_once() -> None:
    quota = rendered.document("ResourceQuota", "gpus-and-jobs")["spec"]["hard"]
    runs = rendered.values()["concurrency"]["runs"]["maxConcurrentRuns"]
    kept_s = rendered.values()["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["jobSpecConfig"]

    assert kept_s["ttlSecondsAfterFinished"] == KEPT_S
    # A run and four steps of it at once, each of a minute at least, and what is kept of those that ended.
    assert int(quota["count/jobs.batch"]) >= runs * 5 * (1 + KEPT_S / 60)


def test_figures_that_may_fall_are_not_taken_for_counters() -> None:
    asked = (rendered.K8S / "alerts.yaml").read_text() + (rendered.K8S / "dashboard.json").read_text()
    counted = re.findall(r"\b(?:increase|rate)\((\w+)", asked)

    assert counted
    assert [name for name in counted if not name.endswith("_total")] == []


def test_the_queue_names_the_gpus_of_the_profiles() -> None:
    (flavor,) = [each for each in ALL if each["kind"] == "ResourceFlavor"]
    (shared,) = [each for each in ALL if each["kind"] == "ClusterQueue"]
    (local,) = [each for each in ALL if each["kind"] == "LocalQueue"]
    quota = rendered.document("ResourceQuota", "gpus-and-jobs")["spec"]["hard"]
    resources = {
        each["name"]: each["nominalQuota"] for each in shared["spec"]["resourceGroups"][0]["flavors"][0]["resources"]
    }

    assert flavor["spec"]["nodeLabels"]["cloud.google.com/gke-accelerator"] == GPU_CLASSES["a100_80gb"].label
    assert local["spec"]["clusterQueue"] == shared["metadata"]["name"]
    assert str(resources["nvidia.com/gpu"]) == quota["requests.nvidia.com/gpu"]
    assert shared["spec"]["resourceGroups"][0]["coveredResources"] == list(resources)
