"""The program of each of several processes, beside a torchvision without its operators."""

import sys
from pathlib import Path

import torch

import lanepaint_assets_tests.torchvision_ops  # noqa: F401
from lanepaint_assets.training.flux_lora.run import run_worker

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_worker(Path(sys.argv[1]))
