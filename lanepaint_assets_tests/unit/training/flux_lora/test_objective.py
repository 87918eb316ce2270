"""What the network is shown and what it is asked for, against diffusers' own pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import FluxFillPipeline

from lanepaint_assets.rendering.mask_edges import MaskEdges
from lanepaint_assets.torch_models.acceleration import EXACT
from lanepaint_assets.torch_models.flux.parts import FluxParts, checkpoint_parts
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets.training.flux_lora.examples import Batch, Examples, encode_examples
from lanepaint_assets.training.flux_lora.objective import fill_losses, noise_level, noise_shift, predicted_velocity
from lanepaint_assets.training.flux_lora.pictures import training_view
from lanepaint_assets.training.flux_lora.previews import STEPS, denoised
from lanepaint_assets.training.flux_lora.trainer import Trainer
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import CAPTION, RECIPE, samples


@pytest.fixture(scope="module")
def parts(checkpoint: Path) -> FluxParts:
    return checkpoint_parts(checkpoint, Residency(torch.device("cpu")), EXACT)


@pytest.fixture(scope="module")
def examples(parts: FluxParts, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return encode_examples(
        parts, Residency(torch.device("cpu")), samples(), RECIPE, tmp_path_factory.mktemp("examples")
    )


@pytest.fixture
def pipeline(checkpoint: Path) -> Any:
    kind: Any = FluxFillPipeline
    loaded = kind.from_pretrained(checkpoint)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_examples_are_what_the_pipeline_makes_of_picture_mask_and_caption(examples: Examples, pipeline: Any) -> None:
    assert (examples.training, examples.held_out, examples.rows, examples.columns) == (5, 2, 4, 4)
    learnt = samples().training[1]
    picture, mask = training_view(*learnt.read(), 64, 64, MaskEdges(dilation_px=4), "s")
    pixels = pipeline.image_processor.preprocess(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    painted = torch.from_numpy(mask)[None, None].float()
    batch = examples.batch([1])

    with torch.no_grad():
        encode = pipeline.vae.encode
        clean = (encode(pixels).latent_dist.mode() - 0.1159) * 0.3611
        masked = encode(pixels * (1 - painted)).latent_dist.mode()
        packed_mask, packed_masked = pipeline.prepare_mask_latents(
            painted, masked, 1, 16, 1, 64, 64, torch.float32, "cpu", None
        )
        words, summary, _ = pipeline.encode_prompt(CAPTION, CAPTION, max_sequence_length=RECIPE.caption_tokens)
    torch.testing.assert_close(batch.latents, pipeline._pack_latents(clean, 1, 16, 8, 8), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch.masked, packed_masked, rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.mask, packed_mask)
    torch.testing.assert_close(batch.words, words, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch.summary, summary, rtol=1e-4, atol=1e-5)
    share = mask.reshape(4, 16, 4, 16).mean(axis=(1, 3)).reshape(1, 16)
    np.testing.assert_allclose(batch.painted_share, share, atol=1e-6)


def test_the_network_is_called_as_the_pipeline_calls_it(examples: Examples, pipeline: Any) -> None:
    batch = examples.batch([0])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    calls: list[dict[str, Any]] = []

    def note(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        calls.append(named)

    hook = pipeline.transformer.register_forward_pre_hook(note, with_kwargs=True)
    learnt = samples().training[0]
    picture, mask = training_view(*learnt.read(), 64, 64, MaskEdges(dilation_px=4), "s")
    with torch.no_grad():
        pipeline(
            image=torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255,
            mask_image=torch.from_numpy(mask)[None, None].float(),
            height=64,
            width=64,
            prompt_embeds=batch.words,
            pooled_prompt_embeds=batch.summary,
            num_inference_steps=1,
            guidance_scale=30.0,
            latents=noise,
            output_type="latent",
        )
        predicted_velocity(pipeline.transformer, batch, noise, torch.ones(1), 30.0)
    hook.remove()
    theirs, ours = calls
    assert theirs.pop("joint_attention_kwargs") is None
    assert theirs.keys() == ours.keys()
    # The pipeline draws the masked picture's latents around the mode that training takes.
    theirs["hidden_states"][..., 64:128] = ours["hidden_states"][..., 64:128]
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[name]), name
        else:
            assert value == theirs[name]


def test_pictures_on_the_way_are_denoised_as_the_pipeline_does_it(
    examples: Examples, parts: FluxParts, pipeline: Any
) -> None:
    trainer = Trainer(pipeline.transformer, examples, parts.scheduler, RECIPE, Accelerator(cpu=True), memory_gib=1.0)
    batch = examples.batch([0])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    hook = pipeline.transformer.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        expected = pipeline(
            image=torch.zeros(1, 3, 64, 64),
            mask_image=torch.ones(1, 1, 64, 64),
            height=64,
            width=64,
            prompt_embeds=batch.words,
            pooled_prompt_embeds=batch.summary,
            num_inference_steps=STEPS,
            guidance_scale=30.0,
            latents=noise,
            output_type="latent",
        ).images
        hook.remove()
        batch = replace(batch, masked=seen[0][..., 64:128], mask=seen[0][..., 128:])
        torch.testing.assert_close(denoised(trainer, batch, parts.scheduler, noise), expected, rtol=1e-4, atol=1e-4)


class Answers(torch.nn.Module):
    """Says the same velocity everywhere, whatever it is asked."""

    def __init__(self, velocity: torch.Tensor) -> None:
        super().__init__()
        self._velocity = velocity

    def forward(self, **asked: Any) -> tuple[torch.Tensor]:
        self.asked = asked
        return (self._velocity,)


def plain_batch(mask: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        latents=torch.randn(1, 4, 64, generator=generator),
        masked=torch.zeros(1, 4, 64),
        mask=mask,
        words=torch.zeros(1, 3, 8),
        summary=torch.zeros(1, 8),
        rows=2,
        columns=2,
    )


def test_the_target_is_noise_less_picture_and_the_input_lies_between_them() -> None:
    batch = plain_batch(torch.ones(1, 4, 256))
    noise = torch.randn(1, 4, 64)
    network = Answers(noise - batch.latents)
    losses = fill_losses(network, batch, torch.tensor([0.25]), noise, None)
    assert losses.painted == 0.0
    torch.testing.assert_close(network.asked["hidden_states"][..., :64], 0.75 * batch.latents + 0.25 * noise)
    assert network.asked["timestep"] == 0.25
    assert network.asked["guidance"] is None


def test_inside_and_outside_of_the_mask_are_means_of_their_own() -> None:
    mask = torch.zeros(1, 4, 256)
    mask[:, 0] = 1.0
    batch = plain_batch(mask)
    noise = torch.randn(1, 4, 64)
    wrong = torch.zeros(1, 4, 64)
    wrong[:, 0], wrong[:, 1:] = 2.0, 1.0
    losses = fill_losses(Answers(noise - batch.latents + wrong), batch, torch.tensor([0.5]), noise, None)
    assert losses.painted == pytest.approx(4.0, rel=1e-5)
    assert losses.background == pytest.approx(1.0, rel=1e-5)
    # However small the mask is, it counts as a whole.
    assert losses.total(0.1) == pytest.approx(4.1, rel=1e-5)


def test_noise_levels_follow_the_released_schedule_for_the_size_of_the_picture(parts: FluxParts) -> None:
    small, large = noise_shift(parts.scheduler, 256), noise_shift(parts.scheduler, 4096)
    assert (small, large) == (pytest.approx(0.5), pytest.approx(1.15))

    def levels(shift: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.cat([noise_level(shift, generator) for _ in range(2000)])

    for shift in (small, large):
        drawn = levels(shift)
        assert float(drawn.min()) > 0.0
        assert float(drawn.max()) < 1.0
        # The median of a logit-normal is where the shift moves one half.
        assert float(drawn.median()) == pytest.approx(np.exp(shift) / (1 + np.exp(shift)), abs=0.02)
