"""Order, learning rate and split of a training: all follow from names and numbers, never from what happened before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.settings import Settings
from lanepaint_assets.training.lora_recipe import LoraRecipe, LoraSample, split

SPEC_9 = {
    "rank": 16,
    "alpha": 16,
    "learning_rate": 1e-5,
    "schedule": "cosine",
    "warmup_steps": 50,
    "epochs": 5,
    "batch_size": 1,
    "accumulation": 1,
}


def test_defaults_are_those_of_the_spec_and_settings_agree_with_the_recipe() -> None:
    recipe = LoraRecipe.of(Settings(root="memory://x"))
    assert recipe == LoraRecipe()
    assert SPEC_9.items() <= recipe.params().items()
    assert Settings(root="memory://x").lora_checkpoint_steps == 100


@given(
    samples=st.integers(1, 40),
    batch=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    devices=st.integers(1, 3),
    epochs=st.integers(1, 3),
)
def test_every_epoch_sees_every_sample_and_none_more_than_a_step_needs(
    samples: int, batch: int, accumulation: int, devices: int, epochs: int
) -> None:
    recipe = LoraRecipe(epochs=epochs, batch_size=batch, accumulation=accumulation, devices=devices)
    plan = recipe.plan(samples)
    assert plan.steps == epochs * plan.steps_an_epoch
    for epoch in range(epochs):
        steps = range(epoch * plan.steps_an_epoch, (epoch + 1) * plan.steps_an_epoch)
        seen = Counter(index for step in steps for index in plan.samples_of(step))
        assert set(seen) == set(range(samples))
        surplus = plan.steps_an_epoch * plan.samples_a_step - samples
        assert sum(seen.values()) - samples == surplus < max(plan.samples_a_step, samples)


def test_epochs_differ_in_order_and_another_seed_is_another_order() -> None:
    plan, other = LoraRecipe().plan(30), LoraRecipe(seed=1).plan(30)
    orders = [[plan.samples_of(step)[0] for step in range(30 * epoch, 30 * epoch + 30)] for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != [other.samples_of(step)[0] for step in range(30)]
    assert plan == replace(plan)
    assert orders[1] == [LoraRecipe().plan(30).samples_of(step)[0] for step in range(30, 60)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_over_the_warm_up_and_then_never_again(schedule: str) -> None:
    recipe = LoraRecipe(schedule=schedule, learning_rate=1e-4)  # type: ignore[arg-type]
    plan = recipe.plan(100)
    rates = np.array([plan.learning_rate(step) for step in range(plan.steps)])
    assert np.all(np.diff(rates[:50]) > 0)
    assert rates[49] == pytest.approx(1e-4)
    assert rates.max() == pytest.approx(1e-4)
    assert np.all(np.diff(rates[50:]) <= 0)
    assert rates[-1] == pytest.approx(1e-4) if schedule == "constant" else 0.0 < rates[-1] < 1e-6
    if schedule != "constant":
        assert rates[50 + 225] == pytest.approx(0.5e-4)


def sample(index: int, clip: str) -> LoraSample:
    return LoraSample(
        f"{clip}/{index}", clip, "f" * 64, "a", "a", lambda: (np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), bool))
    )


@given(clips=st.lists(st.integers(1, 6), min_size=1, max_size=12), share=st.floats(0.0, 0.5))
def test_held_out_clips_are_never_learnt_from_and_something_is_left_to_learn(clips: list[int], share: float) -> None:
    samples = [sample(index, f"clip{clip}") for clip, count in enumerate(clips) for index in range(count)]
    parts = split(samples, share)
    assert sorted(s.key for s in (*parts.training, *parts.held_out)) == sorted(s.key for s in samples)
    assert parts.training
    assert parts.is_apart or len(clips) < 4
    if len(samples) >= 10 and len(clips) < 4:
        assert len(parts.held_out) == (round(share * len(samples)) or (share > 0.0))
    assert bool(parts.held_out) == (share > 0.0 and len(samples) > 1)


def test_samples_of_other_clips_change_nothing_about_which_clip_is_held_out() -> None:
    few = [sample(index, f"clip{clip}") for clip in range(10) for index in range(4)]
    more = [*few, *(sample(9, f"clip{clip}") for clip in range(10))]
    assert {s.clip for s in split(few, 0.1).held_out} == {s.clip for s in split(more, 0.1).held_out}
