"""The Helm values come to an instance that Dagster accepts, and to servers that keep to the rules of pods."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import dagster
import pytest
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema

from lanepaint_assets_tests.unit.k8s import rendered
from lanepaint_assets_tests.unit.k8s.pod_rules import problems

CHART = os.environ.get("LANEPAINT_TEST_DAGSTER_CHART")


def test_dagster_accepts_the_instance_that_the_values_describe(tmp_path: Path) -> None:
    config = rendered.instance_config(rendered.values())

    result = validate_config(dagster_instance_config_schema(), config)

    assert result.success, [error.message for error in result.errors or ()]
    assert rendered.launcher(tmp_path, rendered.values()).job_namespace == rendered.NAMESPACE


def test_the_log_manager_accepts_its_configuration() -> None:
    manager = pytest.importorskip("dagster_gcp").gcs.GCSComputeLogManager
    config = rendered.instance_config(rendered.values())["compute_logs"]["config"]

    assert validate_config(manager.config_type(), config).success


@pytest.mark.parametrize("role", ["ui", "daemon", "code"])
def test_servers_keep_to_the_rules_of_pods(role: str) -> None:
    assert problems(rendered.server_pods(rendered.values())[role]) == []


def test_a_retried_run_is_one_whose_process_died_as_on_one_machine() -> None:
    daemon = rendered.values()["dagsterDaemon"]

    assert daemon["runRetries"] == {"enabled": True, "maxRetries": 1, "retryOnAssetOrOpFailure": False}
    assert daemon["runMonitoring"]["freeSlotsAfterRunEndSeconds"] > 0


def test_a_run_may_last_longer_than_any_step_of_it() -> None:
    from lanepaint_assets.k8s_profiles import PROFILES

    longest_s = max(profile.hours for profile in PROFILES.values()) * 3600

    assert rendered.values()["dagsterDaemon"]["runMonitoring"]["maxRuntimeSeconds"] > longest_s


def test_no_service_is_named_so_that_its_variables_look_like_settings() -> None:
    values = rendered.values()
    names = [each["name"] for each in values["dagster-user-deployments"]["deployments"]]
    names += [each["metadata"]["name"] for each in rendered.documents("manifests") if each["kind"] == "Service"]

    assert names
    assert [name for name in [*names, rendered.RELEASE] if name.startswith("lanepaint")] == []
    assert (
        values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]["enableServiceLinks"]
        is False
    )


def test_servers_wait_with_a_nslookup_that_finds_names_of_services() -> None:
    assert rendered.values()["busybox"]["image"]["tag"].startswith("1.28.")


def test_no_secret_is_in_the_values() -> None:
    values = rendered.values()

    assert values["postgresql"]["postgresqlPassword"] == "from-secret"
    assert not values["generatePostgresqlPasswordSecret"]
    assert values["global"]["postgresqlSecretName"]


def test_the_ui_is_behind_the_proxy_that_asks_who_somebody_is() -> None:
    service = rendered.values()["dagsterWebserver"]["service"]
    proxied = rendered.document("BackendConfig", "dagster-ui")

    assert service["type"] == "ClusterIP"
    assert json.loads(service["annotations"]["cloud.google.com/backend-config"]) == {
        "default": proxied["metadata"]["name"]
    }
    assert proxied["spec"]["iap"]["enabled"] is True
    assert rendered.values()["ingress"]["annotations"]["kubernetes.io/ingress.allow-http"] == "false"


@pytest.mark.skipif(CHART is None, reason="LANEPAINT_TEST_DAGSTER_CHART names no folder with Dagster's unpacked chart")
def test_values_fit_the_schema_of_the_chart() -> None:
    assert CHART is not None
    chart = Path(CHART)
    import yaml

    values = rendered.values()
    merged = _merged(yaml.safe_load((chart / "values.yaml").read_text()), values)
    code = chart / "charts" / "dagster-user-deployments"
    of_code = _merged(yaml.safe_load((code / "values.yaml").read_text()), values["dagster-user-deployments"])

    assert _violations(chart, merged) == []
    assert _violations(code, of_code) == []
    unknown = sorted(set(values) - set(yaml.safe_load((chart / "values.yaml").read_text())))
    assert unknown == []
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
    assert version in (dagster.__version__, "0.0.1-dev", "0.0.4-dev"), "the chart is of another version than Dagster"


def _merged(chart: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """As Helm merges: maps deeply, anything else replaced."""
    merged = copy.deepcopy(chart)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _violations(chart: Path, values: dict[str, Any]) -> list[str]:
    """The schema's parts about Kubernetes itself lie on the internet; here they allow anything."""
    from jsonschema import Draft7Validator

    text = (chart / "values.schema.json").read_text()
    schema = json.loads(text, object_hook=lambda part: {} if str(part.get("$ref", "")).startswith("http") else part)
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(values)]
