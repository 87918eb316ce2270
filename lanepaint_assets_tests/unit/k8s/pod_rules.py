"""What every pod of this project keeps to, whoever makes it, beyond what a schema can say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

# Pod Security `restricted` allows these kinds of volumes.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

PINNED = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")
SECRET_WORDS = re.compile("PASSWORD|TOKEN|SECRET|CREDENTIAL|_KEY$")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def problems(pod: dict[str, Any]) -> list[str]:
    """What is wrong with a pod's specification, in the API's own spelling; nothing where all is well."""
    return [
        *_pod_problems(pod),
        *(f"{c['name']}: {found}" for c in _containers(pod) for found in _of_container(pod, c)),
    ]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _pod_problems(pod: dict[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is set"
    for volume in pod.get("volumes", []):
        kind = set(volume) - {"name"}
        if len(kind) != 1 or not kind <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed: {sorted(kind)}"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} may fill the node's disk"
    names = Counter(volume["name"] for volume in pod.get("volumes", []))
    yield from (f"volume {name} is there twice" for name, times in names.items() if times > 1)
    if "serviceAccountName" not in pod:
        yield "runs as the namespace's default account"


def _of_container(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    security = container.get("securityContext") or {}
    of_pod = pod.get("securityContext") or {}
    if not PINNED.fullmatch(container.get("image") or ""):
        yield f"image {container.get('image')} is not pinned"
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security.get("capabilities", {}).get("add"):
        yield "has capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if {**of_pod, **security}.get("runAsNonRoot") is not True or {**of_pod, **security}.get("runAsUser") == 0:
        yield "may run as root"
    if (security.get("seccompProfile") or of_pod.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    yield from _of_resources(container.get("resources") or {})
    yield from _of_mounts(pod, container)
    yield from _of_environment(container)


def _of_resources(resources: dict[str, Any]) -> Iterator[str]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    if "memory" not in limits:
        yield "has no limit of memory"
    yield from (f"asks for no {name}" for name in ("cpu", "memory") if name not in requests)
    for name, amount in [*limits.items(), *requests.items()]:
        if not QUANTITY.fullmatch(str(amount)):
            yield f"{name}: {amount} is no quantity"
    gpus = [resource.get("nvidia.com/gpu") for resource in (limits, requests)]
    if gpus[0] != gpus[1]:
        yield "has other GPUs as its limit than it asks for"


def _of_mounts(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    mounts = container.get("volumeMounts", [])
    yield from (f"mounts {m['name']}, which is no volume" for m in mounts if m["name"] not in volumes)
    paths = Counter(mount["mountPath"] for mount in mounts)
    yield from (f"mounts two things at {path}" for path, times in paths.items() if times > 1)


def _of_environment(container: dict[str, Any]) -> Iterator[str]:
    environment = container.get("env") or []
    times = Counter(variable["name"] for variable in environment)
    yield from (f"{name} is set twice" for name, count in times.items() if count > 1)
    for variable in environment:
        if SECRET_WORDS.search(variable["name"]) and variable.get("value"):
            yield f"{variable['name']} is a secret in plain text"
