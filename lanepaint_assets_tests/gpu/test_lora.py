"""LoRA training on a GPU: bfloat16, fused AdamW, compiled blocks, and as many activations kept as memory allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE
from lanepaint_assets.torch_models.acceleration import EXACT
from lanepaint_assets.torch_models.flux.parts import checkpoint_parts
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets.training.flux_lora import run as training
from lanepaint_assets.training.flux_lora.examples import encode_examples
from lanepaint_assets.training.flux_lora.run import train_lora
from lanepaint_assets.training.flux_lora.trainer import Trainer
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import RECIPE, job, samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

# Sums of bfloat16 products in another order, over ten steps of a rate of 1e-2.
ROUNDING = 0.05


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-Fill-dev")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_learns_and_goes_on_after_a_kill_as_if_undisturbed(
    checkpoint: Path, tmp_path: Path, compiled: bool
) -> None:
    gpu = torch.device("cuda:0")
    store = ArtifactStore(str(tmp_path / "store"))
    whole = job(checkpoint, store, tmp_path / "whole", training="1" * 64, device=gpu, compiled=compiled)
    assert train_lora(whole, samples(), store).steps == 10
    log = LossLog.read(whole.out)
    assert log.validation[-1].loss < log.validation[0].loss

    class Killed(BaseException):
        pass

    class Dying(Trainer):
        def run_step(self) -> None:
            if self.state.step == 5:
                raise Killed
            super().run_step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Trainer", Dying)
        with pytest.raises(Killed):
            train_lora(job(checkpoint, store, tmp_path / "first", device=gpu, compiled=compiled), samples(), store)
    again = job(checkpoint, store, tmp_path / "second", device=gpu, compiled=compiled)
    train_lora(again, samples(), store)
    one, other = load_file(whole.out / WEIGHTS_FILE), load_file(again.out / WEIGHTS_FILE)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < ROUNDING


def test_activations_are_kept_as_far_as_memory_allows(checkpoint: Path, tmp_path: Path) -> None:
    residency = Residency(torch.device("cuda:0"))
    parts = checkpoint_parts(checkpoint, residency, EXACT)
    examples = encode_examples(parts, residency, samples(), RECIPE, tmp_path)
    losses = []
    for memory_gib, kept in ((0.0, 0), (40.0, 3)):
        residency.release(parts.transformer, forget=True)
        with residency.holding(parts.transformer):
            recipe = replace(RECIPE, learning_rate=1e-6)
            trainer = Trainer(
                parts.transformer.module, examples, parts.scheduler, recipe, Accelerator(), memory_gib=memory_gib
            )
            for _ in range(3):
                trainer.run_step()
            trainer.read_losses()
            assert trainer.kept_blocks == kept
            losses.append([row.loss for row in trainer.state.log.training])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
