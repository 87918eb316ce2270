"""How torch allocates GPU memory is set in time by every engine that uses it, and a user's own choice stands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")

ENGINES = (
    "lanepaint_assets.segmentation.sam2.engine",
    "lanepaint_assets.editing.flux_fill.engine",
    "lanepaint_assets.editing.videopainter.engine",
    "lanepaint_assets.lanes.qwen.engine",
    "lanepaint_assets.training.flux_lora.run",
)

# Torch reads the environment once, when it is first asked.
SAYING = "import torch; print(torch._C._accelerator_getAllocatorSettings(), flush=True)"

# Each engine is the first one of a process of its own; it has the libraries, which take seconds, from its parent.
IMPORTING_EACH = f"""
import importlib, os, sys
from lanepaint_assets_tests import torchvision_ops
from diffusers import CogVideoXTransformer3DModel, FluxFillPipeline
from transformers import Qwen2_5_VLForConditionalGeneration

for module in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(module)
        {SAYING}
        assert not torch.cuda.is_initialized()
        os._exit(0)
    assert os.wait()[1] == 0
"""


def said(program: str, *arguments: str, **environment: str) -> list[str]:
    """Lines that a process prints, whose environment has no settings of the allocator but these."""
    rest = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**rest, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.splitlines()


def test_every_engine_has_segments_of_gpu_memory_grow_before_cuda_starts() -> None:
    assert said(IMPORTING_EACH, *ENGINES) == ["expandable_segments:True"] * len(ENGINES)


@pytest.mark.parametrize("name", NAMES)
def test_a_users_own_settings_of_gpu_memory_stand(name: str) -> None:
    own = "max_split_size_mb:64"
    assert said(f"import lanepaint_assets.torch_models.devices; {SAYING}", **{name: own}) == [own]
