"""Alpamayo on a GPU with random weights of the true size: seconds and memory of an answer, by number of samples.

Runs where NVIDIA's package is installed beside LanePaint. The true size is read from the configuration files of the
three repositories (README, Alpamayo); the weights themselves are not needed. Speed and memory do not depend on them,
but for the reasoning: random weights never end one, so that it always has the greatest length, and figures without it
stand beside. What is said and driven means nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from upath import UPath

from benchmarks.harness import Outcome, command_line, report
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.evaluation.alpamayo.engine import MAX_TOKENS, TEMPERATURE, TOP_P
from lanepaint_assets.evaluation.alpamayo.repositories import LocalCheckpoint, local_checkpoint
from lanepaint_assets.evaluation.alpamayo.worker import (
    RELEASES,
    AlpamayoModel,
    Answer,
    ModelOptions,
    Question,
    offline_hub,
)

NAME = "alpamayo_gpu"

SAMPLES = (1, 6, 16)
# What the data set records; the processor makes it smaller.
PICTURE = (1080, 1920)
CAMERA_INDICES = (0, 1, 2, 6)
SPEED_MPS = 12.0
GIB = 1 << 30

TARGET_NULL_M = 0.0


def missing(release: str, folder: Path) -> str | None:
    """Why nothing can be measured here; None where it can."""
    package = RELEASES[release].package
    if importlib.util.find_spec(package) is None:
        return f"{package} is not importable here; it is NVIDIA's, and on no registry"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no GPU here"
    try:
        local_checkpoint(UPath(folder), release, None, with_weights=False)
    except CheckpointError as error:
        return str(error)
    return None


def random_network(release: str, checkpoint: LocalCheckpoint) -> tuple[Any, Any, Any]:
    """The release's own class as its configuration says, with random weights on the GPU; its processor and helper."""
    import torch

    known = RELEASES[release]
    network_class = getattr(import_module(known.module), known.class_name)
    helper = import_module(f"{known.package}.helper")
    config = network_class.config_class.from_pretrained(checkpoint.weights, **known.load_options)
    default = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda:0"):
            network = network_class(config)
    finally:
        torch.set_default_dtype(default)
    return network.to("cuda:0", torch.bfloat16).eval(), helper.get_processor(network.tokenizer), helper


def question(samples: int) -> Question:
    """Four cameras of noise, straight on."""
    random = np.random.default_rng(0)
    history = np.zeros((16, 3), np.float32)
    history[:, 0] = 0.1 * SPEED_MPS * np.arange(-15, 1)
    return Question(
        frames=random.integers(0, 256, (len(CAMERA_INDICES), 4, 3, *PICTURE), dtype=np.uint8),
        camera_indices=np.array(CAMERA_INDICES, dtype=np.int64),
        history_xyz_m=history,
        history_rotation=np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        seeds=np.arange(samples, dtype=np.uint64),
    )


def measure(outcome: Outcome, release: str, checkpoint: LocalCheckpoint, rounds: int) -> None:
    """Each number of samples in one chunk, with the longest reasoning and with one word."""
    import torch

    network, processor, helper = random_network(release, checkpoint)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    outcome.add("parameters", parameters / 1e9, "10^9", "lower")
    device = torch.device("cuda:0")
    flow_sample = network.diffusion.sample
    for samples in SAMPLES:
        longest = ModelOptions(
            release, str(checkpoint.weights), "cuda:0", TEMPERATURE, TOP_P, max_tokens=MAX_TOKENS, chunk=samples
        )
        for options in (longest, replace(longest, max_tokens=1)):
            # Every model wraps the network's own.
            network.diffusion.sample = flow_sample
            model = AlpamayoModel(network, processor, helper, options, device)
            asked = question(samples)
            first = model.drive(asked)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            seconds, again = _timed(model, asked, rounds)
            what = f"{samples} samples, {options.max_tokens} tokens"
            outcome.add(f"an answer, {what}", seconds, "s", "lower")
            outcome.add(f"peak memory, {what}", torch.cuda.max_memory_reserved() / GIB, "GiB", "lower")
            difference = float(np.abs(first.trajectories_m - again.trajectories_m).max())
            if np.isfinite(difference):
                outcome.add(f"the same seeds again, {what}", difference, "m", "lower", target=TARGET_NULL_M)
            else:
                outcome.skip(f"the same seeds again, {what}", "random weights gave numbers that are not finite")


def _timed(model: AlpamayoModel, asked: Question, rounds: int) -> tuple[float, Answer]:
    """Median seconds of an answer, and the last one; an answer is on the host, so the GPU is done."""
    seconds = []
    for _ in range(rounds):
        started = perf_counter()
        answer = model.drive(asked)
        seconds.append(perf_counter() - started)
    return float(np.median(seconds)), answer


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    outcome = Outcome()
    reason = missing(options.model, options.folder)
    if reason is not None:
        outcome.skip("all figures", reason)
    else:
        checkpoint = local_checkpoint(UPath(options.folder), options.model, None, with_weights=False)
        with tempfile.TemporaryDirectory() as folder:
            hub = Path(folder) / "hub"
            checkpoint.link(hub)
            with offline_hub(hub):
                measure(outcome, options.model, checkpoint, options.rounds)
    report(NAME, outcome, options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Seconds and memory of Alpamayo on a GPU, with random weights.")
    parser.add_argument("--model", choices=sorted(RELEASES), default="r1", help="which release (default %(default)s)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".lanepaint/checkpoints/alpamayo"),
        help="the three repositories, weights not needed (default %(default)s)",
    )
    main(parser.parse_args())
