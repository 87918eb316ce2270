"""Settings of a cluster that differ in what they ask of it, and the steps of each."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lanepaint_assets.definitions import build
from lanepaint_assets.settings import Settings

CLUSTER = {"executor": "k8s", "root": "gs://bucket/study", "k8s_image": "registry/lanepaint/{family}:1.0"}
ORCHESTRATOR = "registry/lanepaint/orchestrator:1.0"

CHOICES: dict[str, dict[str, Any]] = {
    "models": {"engines": "models"},
    "cpu engines": {"engines": "cpu"},
    "mounted checkpoints": {"engines": "models", "k8s_checkpoints": "fuse"},
    "downloaded checkpoints": {"engines": "models", "k8s_checkpoints": "download"},
    "spot, queue and small GPUs": {"engines": "models", "k8s_spot": True, "k8s_queue": "gpus", "k8s_small_gpu": "l4"},
    "H100": {"engines": "models", "k8s_large_gpu": "h100_80gb", "k8s_small_gpu": "h100_80gb"},
    "two GPUs a step": {"engines": "models", "cog_second_device": "cuda:1", "lora_gpus": 2},
    "Qwen as verifier": {"engines": "models", "inspector": "measured", "verifying_inspector": "qwen2_5_vl"},
    "the code location's image": {"engines": "models", "k8s_image": None},
}


def settings(**chosen: Any) -> Settings:
    return Settings(**{**CLUSTER, **chosen})


def ops(chosen: Settings) -> dict[str, dg.OpDefinition]:
    """The op of every asset that can be made or observed."""
    assets = [
        each for each in build(chosen).assets or () if isinstance(each, dg.AssetsDefinition) and each.is_executable
    ]
    return {
        key.to_user_string(): asset.node_def
        for asset in assets
        for key in asset.keys
        if isinstance(asset.node_def, dg.OpDefinition)
    }
