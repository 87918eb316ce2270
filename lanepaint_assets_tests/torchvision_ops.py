"""Lets the CPU build of torch import torchvision as the package registry has it: that one is linked against CUDA.

Imported by conftest modules, before anything imports transformers. Its Python side, which is all that picture
processors use, asks torch for two operators that only its compiled side would declare.
"""

from __future__ import annotations

import sys

import torch

try:
    import torchvision
except RuntimeError:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    # Held here: operators are gone with the library that declared them.
    DECLARED = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
