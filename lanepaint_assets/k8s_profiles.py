"""What a step asks of a cluster: image, GPU, memory, scratch space, checkpoints and time, as named profiles.

Called by `k8s_steps.py`, which gives every asset's step its `dagster-k8s/config` where `LANEPAINT_EXECUTOR=k8s`, and
says how a step is retried. What all pods share (security, settings, scratch space) is in `k8s/values.yaml` and does not
belong here. Nothing here talks to a cluster.

Node labels and machine types are GKE's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from lanepaint_assets.automation import SMALL_GPU, pool_of, unread_checkpoints
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.settings import Settings, SettingsError

Family = Literal["segmentation", "editing", "evaluation"]
"""Images that steps run in: one a family of models, each with the same wheel of this project."""

# Defined in k8s/manifests/service-accounts.yaml: may read and write the bucket, and may ask nothing of Kubernetes.
STEP_SERVICE_ACCOUNT = "lanepaint-steps"

# What network policies and disruption budgets select pods by.
ROLE_LABEL = "lanepaint/role"

CACHE = "/cache"
CHECKPOINTS = "/checkpoints"


@dataclass(frozen=True)
class GpuClass:
    """A kind of GPU that nodes offer.

    Attributes:
        label: value of the node label `cloud.google.com/gke-accelerator`.
        cpu: cores of the host that one GPU's step may count on.
        memory_gib: memory of the host, likewise: what the machine type has, less 10 GiB for the system.
    """

    label: str
    cpu: int
    memory_gib: int


GPU_CLASSES: Mapping[str, GpuClass] = {
    # a2-ultragpu-1g: 12 cores, 158 GiB. What the specification runs every model on.
    "a100_80gb": GpuClass("nvidia-a100-80gb", 11, 148),
    # a3-highgpu-1g: 26 cores, 217 GiB.
    "h100_80gb": GpuClass("nvidia-h100-80gb", 24, 207),
    # g2-standard-12: 12 cores, 44 GiB; 24 GB of GPU memory. SAM 2.1 large reserves 6.7 GiB.
    "l4": GpuClass("nvidia-l4", 11, 34),
}


@dataclass(frozen=True)
class StepProfile:
    """What the steps of some assets ask for; of GPU steps, for each GPU.

    Attributes:
        cpu: cores asked for. There is no limit: a step that finds idle cores may use them.
        memory_gib: asked for and at most, /dev/shm included; a step beyond it is killed, not its neighbours.
        shm_gib: size of /dev/shm; 0 leaves the 64 MiB of the container runtime.
        scratch_gib: local disk for compiled kernels, copies of checkpoints and half-written items.
        hours: after so long a step counts as hung. It is killed and goes on with the items that it lacks.
    """

    cpu: int
    memory_gib: int
    shm_gib: int
    scratch_gib: int
    hours: int


PROFILES: Mapping[str, StepProfile] = {
    # Decoding, masks to folders, reports: four items at a time of up to 2 GB each at 1080p, and as much for encoders.
    "cpu": StepProfile(cpu=4, memory_gib=16, shm_gib=0, scratch_gib=20, hours=6),
    # SAM 2.1: 6.7 GiB of GPU memory; four clips are decoded and written meanwhile. 1406 clips an hour on an H200, so a
    # chunk of 100 takes minutes. An L4 was not measured.
    "sam2": StepProfile(cpu=8, memory_gib=30, shm_gib=2, scratch_gib=20, hours=4),
    # FLUX, T5, Qwen and CogVideoX wait in host memory for their turn on one GPU, of which they reserve 46.8 GiB: 57 GiB
    # of weights in bf16, as much again for clips and pinned copies. 100 clips with 6 prompts are 44 hours of an H200;
    # an A100, with a third of its arithmetic, may need twice that.
    "editing": StepProfile(cpu=10, memory_gib=120, shm_gib=8, scratch_gib=120, hours=96),
    # FLUX under training reserves 32.4 GiB of GPU memory; encoders come before it and leave. At 4.5 steps a second of
    # an H200, a day is 390,000 steps.
    "training": StepProfile(cpu=10, memory_gib=80, shm_gib=8, scratch_gib=60, hours=24),
    # Qwen2.5-VL alone: 15.7 GiB of GPU memory, 16 GB of weights that are read once.
    "qwen": StepProfile(cpu=8, memory_gib=48, shm_gib=4, scratch_gib=40, hours=24),
    # Observations: listings, headers of weights, small files.
    "observation": StepProfile(cpu=1, memory_gib=2, shm_gib=0, scratch_gib=5, hours=1),
    # Alpamayo: 22 GB of weights in bf16. The specification counts 24 GB of GPU memory and a minute a clip.
    "alpamayo": StepProfile(cpu=8, memory_gib=64, shm_gib=4, scratch_gib=60, hours=24),
}

# Image of each asset. Those that are not here compute nothing and run where the code location does.
FAMILIES: Mapping[str, Family] = {
    "raw_clips": "segmentation",
    "road_masks": "segmentation",
    "vp_inputs": "segmentation",
    "training_samples": "segmentation",
    "filtered_samples": "segmentation",
    "first_frames": "editing",
    "edited_videos": "editing",
    "lane_loras": "editing",
    "original_trajectories": "evaluation",
    "edited_trajectories": "evaluation",
    "video_quality": "evaluation",
    "trajectory_videos": "evaluation",
    "trajectory_reports": "evaluation",
    "prompt_leaderboard": "evaluation",
}

# Profile of each asset's step where its engines are models; without a GPU it is `cpu`.
_GPU_PROFILES: Mapping[str, str] = {
    "road_masks": "sam2",
    "vp_inputs": "sam2",
    "training_samples": "qwen",
    "first_frames": "editing",
    "edited_videos": "editing",
    "lane_loras": "training",
    "original_trajectories": "alpamayo",
    "edited_trajectories": "alpamayo",
    "video_quality": "qwen",
}

# A step's Job is kept so long after its end, for a look at its events, which Kubernetes keeps no longer; its log is in
# the bucket. k8s/manifests/quotas.yaml has to admit all that are kept.
KEPT_S = 3600
# After its grace period a step still enters an item and tells the database.
_AFTER_GRACE_S = 20
# Of the 30 s between notice and end, a Spot node gives pods 15, and the system's own pods the rest.
_SPOT_NOTICE_S = 15
_SPOT_GRACE_S = 10

# The container that GKE adds for Cloud Storage FUSE. It may use two cores while weights are read, and is idle
# afterwards; without a request of its own it would be given those two, and the largest profiles would fit on no node.
_SIDECAR_CPU = 0.5
_SIDECAR_MEMORY_GIB = 2

_PINNED = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")

# Pod Security `restricted` asks for it in every container; init containers inherit nothing of the launcher's.
_RESTRICTED = {
    "allow_privilege_escalation": False,
    "read_only_root_filesystem": True,
    "run_as_non_root": True,
    "capabilities": {"drop": ["ALL"]},
    "seccomp_profile": {"type": "RuntimeDefault"},
}

# Where runs are resumed (k8s/values.yaml), Dagster builds its run launcher wherever the instance is opened, and that
# reads the token's file. The account has no role, and network policies keep steps away from Kubernetes.
_WITH_TOKEN = {"automount_service_account_token": True}


def profile_name(settings: Settings, assets: Sequence[str]) -> str:
    """The profile of the step that makes `assets`: by the pool that it waits in, and what it computes there."""
    pool = pool_of(settings, assets)
    if pool is None:
        return "cpu"
    return "sam2" if pool == SMALL_GPU else _GPU_PROFILES[assets[0]]


def step_config(settings: Settings, assets: Sequence[str]) -> dict[str, Any]:
    """The tag `dagster-k8s/config` of a step.

    Args:
        settings: which engines, GPUs, images and queue there are, and how steps get at checkpoints.
        assets: what it makes, of one stage.

    Returns:
        Outer keys in snake_case, as Dagster wants them.

    Raises:
        SettingsError: an image is not pinned, checkpoints are to come from a bucket and the root is none, or a profile
            needs more than a machine with the chosen GPU has.
    """
    name = profile_name(settings, assets)
    profile, gpus = PROFILES[name], _gpus(settings, name)
    times = max(1, gpus)
    container: dict[str, Any] = {
        "resources": _resources(profile, gpus),
        "volume_mounts": [{"name": "cache", "mount_path": CACHE}],
        "env": [{"name": "LANEPAINT_CACHE", "value": CACHE}],
    }
    pod: dict[str, Any] = {
        "service_account_name": STEP_SERVICE_ACCOUNT,
        **_WITH_TOKEN,
        "termination_grace_period_seconds": math.ceil(settings.stop_grace_s) + _AFTER_GRACE_S,
        "volumes": [{"name": "cache", "empty_dir": {"size_limit": f"{profile.scratch_gib * times}Gi"}}],
    }
    annotations: dict[str, str] = {}
    image = _image(settings, assets[0], name)
    if image is not None:
        container["image"] = image
    if gpus:
        _place_on_gpu(container, pod, settings, name, profile)
    if profile.shm_gib:
        container["volume_mounts"].append({"name": "shm", "mount_path": "/dev/shm"})
        shm = {"medium": "Memory", "size_limit": f"{profile.shm_gib * times}Gi"}
        pod["volumes"].append({"name": "shm", "empty_dir": shm})
    needed = sorted({checkpoint for asset in assets for checkpoint in _checkpoints(settings, asset)})
    if needed and settings.k8s_checkpoints == "fuse":
        _mount_checkpoints(container, pod, annotations, _bucket(settings))
    elif needed and settings.k8s_checkpoints == "download":
        _download_checkpoints(container, pod, settings, needed, profile.scratch_gib)
    queue = {"labels": {"kueue.x-k8s.io/queue-name": settings.k8s_queue}} if settings.k8s_queue and gpus else {}
    return {**_config(container, pod, annotations, profile), "job_metadata": queue}


def observation_config() -> dict[str, Any]:
    """The tag `dagster-k8s/config` of a step that observes; it runs in the code location's image."""
    profile = PROFILES["observation"]
    container = {"resources": _resources(profile, gpus=0)}
    return _config(container, {"service_account_name": STEP_SERVICE_ACCOUNT, **_WITH_TOKEN}, {}, profile)


def _config(
    container: dict[str, Any], pod: dict[str, Any], annotations: dict[str, str], profile: StepProfile
) -> dict[str, Any]:
    return {
        "container_config": container,
        "pod_spec_config": pod,
        # The autoscaler does not empty a node under a step.
        "pod_template_spec_metadata": {
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", **annotations},
            "labels": {ROLE_LABEL: "step"},
        },
        # No second pod of the same Job: Dagster starts a new Job, which knows that the first one is lost.
        "job_spec_config": {
            "ttl_seconds_after_finished": KEPT_S,
            "active_deadline_seconds": profile.hours * 3600,
            "backoff_limit": 0,
        },
    }


def _checkpoints(settings: Settings, asset: str) -> set[str]:
    """Assets of the checkpoints that a step reads."""
    if asset == "lane_loras":
        return {"flux_fill_checkpoint"}
    return set(CHECKPOINT_FOLDERS) - unread_checkpoints(settings, asset)


def _gpus(settings: Settings, profile: str) -> int:
    """GPUs of a step: those of a training, or up to the highest that a setting of its engines names."""
    if profile == "training":
        return settings.lora_gpus
    if profile != "editing":
        return 0 if profile == "cpu" else 1
    named = (settings.flux_device, settings.cog_device, settings.cog_second_device, settings.qwen_device)
    return 1 + max(int(device.partition(":")[2] or 0) for device in named if device is not None)


def _resources(profile: StepProfile, gpus: int) -> dict[str, dict[str, str]]:
    times = max(1, gpus)
    memory = f"{profile.memory_gib * times}Gi"
    # The volume of the cache counts as the pod's ephemeral storage, and so do logs and what lies in /tmp.
    disk = f"{(profile.scratch_gib + 10) * times}Gi"
    gpu = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "requests": {"cpu": str(profile.cpu * times), "memory": memory, "ephemeral-storage": disk, **gpu},
        "limits": {"memory": memory, "ephemeral-storage": disk, **gpu},
    }


def _image(settings: Settings, asset: str, profile: str) -> str | None:
    # Where finished edits are judged by Qwen2.5-VL, that is in the image of editing.
    family = "editing" if asset == "video_quality" and profile == "qwen" else FAMILIES.get(asset)
    if settings.k8s_image is None or family is None:
        return None
    image = settings.k8s_image.replace("{family}", family)
    if not _PINNED.fullmatch(image):
        raise SettingsError(
            f"LANEPAINT_K8S_IMAGE={settings.k8s_image!r} does not name one build: it needs a tag other than latest, or "
            "a digest"
        )
    return image


def _place_on_gpu(
    container: dict[str, Any], pod: dict[str, Any], settings: Settings, name: str, profile: StepProfile
) -> None:
    gpu = GPU_CLASSES[settings.k8s_small_gpu if name == "sam2" else settings.k8s_large_gpu]
    if profile.memory_gib + _SIDECAR_MEMORY_GIB > gpu.memory_gib or profile.cpu + _SIDECAR_CPU > gpu.cpu:
        raise SettingsError(
            f"the profile {name} asks for {profile.cpu} cores and {profile.memory_gib} GiB, and a machine with "
            f"{gpu.label} has {gpu.cpu} and {gpu.memory_gib} to give"
        )
    pod["node_selector"] = {"cloud.google.com/gke-accelerator": gpu.label}
    pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if settings.k8s_spot:
        pod["node_selector"]["cloud.google.com/gke-spot"] = "true"
        pod["tolerations"].append(
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        )
        pod["termination_grace_period_seconds"] = _SPOT_NOTICE_S
        grace_s = min(settings.stop_grace_s, _SPOT_GRACE_S)
        container["env"].append({"name": "LANEPAINT_STOP_GRACE_S", "value": f"{grace_s:g}"})


def _bucket(settings: Settings) -> tuple[str, str]:
    """Bucket of the root, and the folder of checkpoints in it."""
    address = urlsplit(f"{settings.root.rstrip('/')}/checkpoints")
    if address.scheme != "gs":
        raise SettingsError(
            f"LANEPAINT_K8S_CHECKPOINTS={settings.k8s_checkpoints!r} needs checkpoints in a bucket, and "
            f"{address.geturl()} is none"
        )
    return address.netloc, address.path.strip("/")


def _mount_checkpoints(
    container: dict[str, Any], pod: dict[str, Any], annotations: dict[str, str], place: tuple[str, str]
) -> None:
    """Read-only, through GKE's driver for Cloud Storage FUSE."""
    bucket, folder = place
    pod["volumes"].append(
        {
            "name": "checkpoints",
            "csi": {
                "driver": "gcsfuse.csi.storage.gke.io",
                "read_only": True,
                "volume_attributes": {
                    "bucketName": bucket,
                    # Weights never change in place, so what is listed once stays true for a step.
                    "mountOptions": f"implicit-dirs,only-dir={folder},metadata-cache:ttl-secs:-1",
                    # One listing at the start, not a request for every file that a model opens.
                    "gcsfuseMetadataPrefetchOnMount": "true",
                },
            },
        }
    )
    annotations |= {
        "gke-gcsfuse/volumes": "true",
        "gke-gcsfuse/cpu-request": f"{_SIDECAR_CPU}",
        "gke-gcsfuse/cpu-limit": "2",
        "gke-gcsfuse/memory-limit": f"{_SIDECAR_MEMORY_GIB}Gi",
        "gke-gcsfuse/ephemeral-storage-limit": "5Gi",
    }
    _read_checkpoints(container)


def _download_checkpoints(
    container: dict[str, Any], pod: dict[str, Any], settings: Settings, checkpoints: list[str], scratch_gib: int
) -> None:
    """Copied to the node's disk, and found whole there, before the step begins."""
    bucket, folder = _bucket(settings)
    pod["volumes"].append({"name": "checkpoints", "empty_dir": {"size_limit": f"{scratch_gib}Gi"}})
    loader: dict[str, Any] = {
        "name": "checkpoints",
        "command": ["lanepaint", "checkpoints", "download", "--from", f"gs://{bucket}/{folder}", *checkpoints],
        # It has none of the step's environment.
        "env": [
            # Of the copy: checkpoints belong into the folder `checkpoints` of a root.
            {"name": "LANEPAINT_ROOT", "value": str(PurePosixPath(CHECKPOINTS).parent)},
            {"name": "LANEPAINT_CACHE", "value": CACHE},
            {"name": "LANEPAINT_SAM2_MODEL", "value": settings.sam2_model},
            {"name": "LANEPAINT_ALPAMAYO_MODEL", "value": settings.alpamayo_model},
            {"name": "HOME", "value": CACHE},
            {"name": "TMPDIR", "value": CACHE},
        ],
        "volume_mounts": [
            {"name": "checkpoints", "mount_path": CHECKPOINTS},
            {"name": "cache", "mount_path": CACHE},
        ],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "security_context": _RESTRICTED,
    }
    if "image" not in container:
        raise SettingsError(
            "LANEPAINT_K8S_CHECKPOINTS='download' needs LANEPAINT_K8S_IMAGE: its container names an image"
        )
    pod["init_containers"] = [{**loader, "image": container["image"]}]
    _read_checkpoints(container)


def _read_checkpoints(container: dict[str, Any]) -> None:
    container["volume_mounts"].append({"name": "checkpoints", "mount_path": CHECKPOINTS, "read_only": True})
    container["env"].append({"name": "LANEPAINT_CHECKPOINTS_MOUNT", "value": CHECKPOINTS})
