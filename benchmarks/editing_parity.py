"""How far the video model is from the original VideoPainter, on tiny random weights and in float32.

The original's numbers are test data of the project: `lanepaint_assets_tests/data/reference_videopainter/README.md`.
They were made once with its own classes; its code is not part of this project.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.harness import Outcome, command_line, report
from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.videopainter_reference import (
    Reference,
    branch_differences,
    window_difference,
)

NAME = "editing_parity"

TARGET = 1e-5


def measure() -> Outcome:
    """The branch, the branched transformer, and whole windows."""
    outcome = Outcome()
    # Sums in another order would be another difference.
    torch.set_num_threads(1)
    for name, difference in branch_differences(Reference.read("branch_level")).items():
        outcome.add(name, difference, "largest difference", "lower", target=TARGET)
    window = Reference.read("pipeline_level")
    for name, expected, replace_known in (
        ("a window, known latents put back", "out.one", True),
        ("a window, known latents left to the model", "out.one_noreplace", False),
    ):
        difference = window_difference(window, expected, replace_known=replace_known)
        outcome.add(name, difference, "of picture values 0..1", "lower", target=TARGET)
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    report(NAME, measure(), options.json)


if __name__ == "__main__":
    main(command_line(NAME, "Differences to the original VideoPainter's numbers, on tiny random weights.").parse_args())
