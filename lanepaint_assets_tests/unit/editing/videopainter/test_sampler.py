"""The sampler: the stock scheduler's numbers, from noise levels that stay on the host."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDPMScheduler

from lanepaint_assets.editing.videopainter.sampler import HostNoiseSampler
from lanepaint_assets_tests.tiny_models.cogvideox import tiny_architecture

SHAPE = (1, 3, 4, 5, 6)


def samples(
    scheduler: CogVideoXDPMScheduler, steps: int, velocity_of: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Every sample on the way from noise, with the velocity of a model that knows a little."""
    generator = torch.Generator().manual_seed(1)
    sample, old = torch.randn(SHAPE, generator=generator), None
    target = torch.linspace(-2, 2, sample.numel()).reshape(SHAPE)
    scheduler.set_timesteps(steps)
    found = []
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = (torch.sin(sample) - target).to(velocity_of).float()
        back = scheduler.timesteps[index - 1] if index else None
        sample, old = scheduler.step(velocity, old, timestep, back, sample, generator=generator, return_dict=False)
        found += [sample, old]
    return found


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 50, 70])
def test_steps_are_the_stock_scheduler_s_where_those_end_without_noise(steps: int) -> None:
    stock = tiny_architecture().scheduler()
    expected, found = (samples(one, steps) for one in (stock, HostNoiseSampler.from_config(stock.config)))
    assert len(found) == 2 * steps
    for own, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5)


def test_any_number_of_steps_ends_without_noise() -> None:
    """A model that knows the clean sample is asked for the velocity towards it."""
    sampler, clean = HostNoiseSampler.from_config(tiny_architecture().scheduler().config), torch.ones(SHAPE)
    for steps in range(1, 201):
        sampler.set_timesteps(steps)
        assert len(sampler.timesteps) == steps
        assert sampler.timesteps[-1] >= 0
        sample, old, back = torch.randn(SHAPE, generator=torch.Generator().manual_seed(steps)), None, None
        for timestep in sampler.timesteps:
            alpha = sampler.alphas_cumprod[timestep]
            velocity = (alpha.sqrt() * sample - clean) / (1 - alpha).sqrt()
            sample, old = sampler.step(velocity, old, timestep, back, sample)
            back = timestep
        torch.testing.assert_close(sample, clean, rtol=0, atol=1e-3, msg=f"{steps} steps")


def test_noise_is_added_as_the_stock_scheduler_does() -> None:
    stock = tiny_architecture().scheduler()
    own = HostNoiseSampler.from_config(stock.config)
    torch.manual_seed(0)
    clean, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    for timestep in (0, 1, 499, 998, 999):
        level = torch.tensor([timestep])
        torch.testing.assert_close(own.add_noise(clean, noise, level), stock.add_noise(clean, noise, level))


def test_noise_levels_stay_on_the_host_and_results_are_in_float32() -> None:
    own = HostNoiseSampler.from_config(tiny_architecture().scheduler().config)
    own.set_timesteps(4, device="meta")
    assert own.timesteps.device.type == "cpu"
    sample = torch.randn(SHAPE).bfloat16()
    result, clean = own.step(torch.randn(SHAPE), None, own.timesteps[0], None, sample)
    assert result.dtype == clean.dtype == torch.float32
