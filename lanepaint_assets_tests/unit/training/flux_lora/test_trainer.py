"""What a step does, and what several devices make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE
from lanepaint_assets.torch_models.acceleration import EXACT
from lanepaint_assets.torch_models.flux.parts import checkpoint_parts
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets.training.flux_lora import run as training
from lanepaint_assets.training.flux_lora.examples import Examples, encode_examples
from lanepaint_assets.training.flux_lora.run import train_lora
from lanepaint_assets.training.flux_lora.trainer import Trainer
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets_tests.tiny_models.flux_fill import tiny_architecture
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import RECIPE, job, samples


@pytest.fixture(scope="module")
def examples(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    torch.set_num_threads(1)
    residency = Residency(torch.device("cpu"))
    parts = checkpoint_parts(checkpoint, residency, EXACT)
    return encode_examples(parts, residency, samples(), RECIPE, tmp_path_factory.mktemp("examples"))


@pytest.fixture
def trainer_with(examples: Examples) -> Callable[..., Trainer]:
    def make(dtype: torch.dtype = torch.float32, **changes: object) -> Trainer:
        torch.manual_seed(0)
        architecture = tiny_architecture()
        transformer = architecture.build_transformer().requires_grad_(False).to(dtype)
        recipe = replace(RECIPE, **changes)  # type: ignore[arg-type]
        return Trainer(transformer, examples, architecture.scheduler(), recipe, Accelerator(cpu=True), memory_gib=40.0)

    return make


def trained(trainer: Trainer, steps: int) -> list[torch.Tensor]:
    for _ in range(steps):
        trainer.run_step()
    trainer.read_losses()
    return [weight.detach().clone() for weight in trainer.state.weights]


def difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def test_the_base_models_weights_stay_as_they_are(trainer_with: Callable[..., Trainer]) -> None:
    trainer = trainer_with()
    before = {n: w.clone() for n, w in trainer.transformer.named_parameters() if "lora_" not in n}
    start = [weight.detach().clone() for weight in trainer.state.weights]
    assert difference(start, trained(trainer, 4)) > 0.0
    after = {n: w for n, w in trainer.transformer.named_parameters() if "lora_" not in n}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_batches_and_accumulated_batches_are_the_same_step(trainer_with: Callable[..., Trainer]) -> None:
    together = trained(trainer_with(batch_size=2), 3)
    one_by_one = trained(trainer_with(accumulation=2), 3)
    assert difference(together, one_by_one) < 1e-4
    assert difference(together, trained(trainer_with(), 3)) > 1e-3


def test_another_seed_is_another_training(trainer_with: Callable[..., Trainer]) -> None:
    assert difference(trained(trainer_with(), 2), trained(trainer_with(), 2)) == 0.0
    assert difference(trained(trainer_with(), 2), trained(trainer_with(seed=1), 2)) > 1e-3


def test_steps_too_small_for_the_networks_format_add_up(trainer_with: Callable[..., Trainer]) -> None:
    trainer = trainer_with(torch.bfloat16, learning_rate=1e-6, warmup_steps=0, schedule="constant")
    start = [weight.detach().clone() for weight in trainer.state.weights]
    with pytest.MonkeyPatch.context() as patch:
        whole = Examples.batch

        def halved(self: Examples, indices: list[int]):  # type: ignore[no-untyped-def]
            batch = whole(self, indices)
            names = ("latents", "masked", "mask", "words", "summary")
            return replace(batch, **{name: getattr(batch, name).bfloat16() for name in names})

        patch.setattr(Examples, "batch", halved)
        end = trained(trainer, 3)
    # Weights near 0.25 cannot move by 1e-6 in bfloat16, whose neighbours there are 1e-3 apart.
    moved = torch.cat([(b - a).flatten() for a, b in zip(start, end, strict=True) if a.abs().max() > 0.1])
    assert 0.0 < float(moved.abs().max()) < 1e-5
    assert all(weight.dtype == torch.bfloat16 for name, weight in trainer.transformer.named_parameters())


def test_blocks_that_keep_their_activations_learn_the_same(trainer_with: Callable[..., Trainer]) -> None:
    recomputing, keeping = trainer_with(), trainer_with()
    blocks = [*keeping.transformer.transformer_blocks, *keeping.transformer.single_transformer_blocks]
    calls = dict.fromkeys(("recomputing", "keeping"), 0)
    for name, trainer in (("recomputing", recomputing), ("keeping", keeping)):
        for block in (*trainer.transformer.transformer_blocks, *trainer.transformer.single_transformer_blocks):
            block.register_forward_pre_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    keeping._recomputation._kept.update(blocks)
    assert difference(trained(recomputing, 3), trained(keeping, 3)) == 0.0
    assert calls == {"recomputing": 2 * 3 * len(blocks), "keeping": 3 * len(blocks)}


def test_validation_uses_the_same_noise_every_time_and_changes_nothing(trainer_with: Callable[..., Trainer]) -> None:
    trainer, silent = trainer_with(), trainer_with()
    assert trainer.validate() == trainer.validate()
    weights = trained(trainer, 2)
    trainer.validate()
    assert difference(trained(silent, 4), trained(trainer, 2)) == 0.0
    assert difference(weights, trained(trainer, 0)) > 0.0


def test_another_number_of_devices_than_the_recipe_says_is_refused(trainer_with: Callable[..., Trainer]) -> None:
    with pytest.raises(StepError, match="meant for 2 devices and runs on 1"):
        trainer_with(devices=2)


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_WORKER", "lanepaint_assets_tests.unit.training.flux_lora.worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[4]))
    store = ArtifactStore(str(tmp_path / "store"))
    alone = job(checkpoint, store, tmp_path / "alone", recipe=replace(RECIPE, accumulation=2), training="1" * 64)
    shared = job(checkpoint, store, tmp_path / "shared", recipe=replace(RECIPE, devices=2), training="2" * 64)
    assert train_lora(alone, samples(), store) == train_lora(shared, samples(), store)
    one, other = load_file(alone.out / WEIGHTS_FILE), load_file(shared.out / WEIGHTS_FILE)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-3
    losses = [[row.loss for row in LossLog.read(out).training] for out in (alone.out, shared.out)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
