"""A training that waits for a line on its standard input before every event, so that a test can kill it at any.

Started as a program: `python -m ... paused_training CHECKPOINT STORE SCRATCH`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import lanepaint_assets_tests.torchvision_ops  # noqa: F401
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.training.flux_lora.run import train_lora
from lanepaint_assets.training.flux_lora.trainer import Trainer
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import job, samples


def pause(event: str) -> None:
    print(event, flush=True)
    sys.stdin.readline()


class PausingStore(ArtifactStore):
    """Pauses when a checkpoint's files are in the store, but its row is not."""

    def publish(self, asset, chunk, item_key, fingerprint, staged):  # type: ignore[no-untyped-def]
        published = super().publish(asset, chunk, item_key, fingerprint, staged)
        pause("files published")
        return published


class PausingTrainer(Trainer):
    def run_step(self) -> None:
        pause(f"step {self.state.step}")
        super().run_step()


if __name__ == "__main__":
    torch.set_num_threads(1)
    import lanepaint_assets.training.flux_lora.run as training

    training.Trainer = PausingTrainer  # type: ignore[misc]
    store = PausingStore(sys.argv[2])
    train_lora(job(Path(sys.argv[1]), store, Path(sys.argv[3])), samples(), store)
    pause("done")
