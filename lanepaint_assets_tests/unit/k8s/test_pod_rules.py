"""The rules of pods find what they are for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from lanepaint_assets_tests.unit.k8s.pod_rules import problems

SOUND: dict[str, Any] = {
    "serviceAccountName": "steps",
    "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
    "containers": [
        {
            "name": "step",
            "image": "registry/image:1.2",
            "env": [{"name": "PG_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
            "resources": {
                "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
                "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"},
            },
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
    ],
}


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["containers"][0]


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "hostNetwork is set": lambda pod: pod.update(hostNetwork=True),
    "not allowed": lambda pod: pod["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}),
    "fill the node's disk": lambda pod: pod["volumes"].append({"name": "disk", "emptyDir": {}}),
    "there twice": lambda pod: pod["volumes"].append(pod["volumes"][0]),
    "default account": lambda pod: pod.pop("serviceAccountName"),
    "not pinned": lambda pod: _container(pod).update(image="registry:5000/image"),
    "latest is not pinned": lambda pod: _container(pod).update(image="registry/image:latest"),
    "gain privileges": lambda pod: _container(pod)["securityContext"].pop("allowPrivilegeEscalation"),
    "has capabilities": lambda pod: _container(pod)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "root file system": lambda pod: _container(pod)["securityContext"].pop("readOnlyRootFilesystem"),
    "as root": lambda pod: _container(pod)["securityContext"].update(runAsUser=0),
    "no seccomp": lambda pod: _container(pod)["securityContext"].pop("seccompProfile"),
    "no limit of memory": lambda pod: _container(pod)["resources"]["limits"].pop("memory"),
    "asks for no cpu": lambda pod: _container(pod)["resources"]["requests"].pop("cpu"),
    "no quantity": lambda pod: _container(pod)["resources"]["limits"].update(memory="1GB"),
    "other GPUs": lambda pod: _container(pod)["resources"]["requests"].pop("nvidia.com/gpu"),
    "no volume": lambda pod: pod["volumes"].clear(),
    "two things at": lambda pod: _container(pod)["volumeMounts"].append({"name": "cache", "mountPath": "/cache"}),
    "set twice": lambda pod: _container(pod)["env"].append({"name": "PG_PASSWORD"}),
    "plain text": lambda pod: _container(pod)["env"].append({"name": "HF_TOKEN", "value": "hf_x"}),
}


def test_a_sound_pod_has_no_problems() -> None:
    assert problems(SOUND) == []


@pytest.mark.parametrize("message", BREAKS)
def test_what_breaks_a_rule_is_named(message: str) -> None:
    pod = copy.deepcopy(SOUND)

    BREAKS[message](pod)

    assert [problem for problem in problems(pod) if message in problem]
