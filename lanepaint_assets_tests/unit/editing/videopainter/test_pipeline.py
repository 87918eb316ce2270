"""One window: equal to the original's numbers, known pixels stay, thin lines survive, guidance counts its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lanepaint_assets.editing.videopainter.branch import BranchedTransformer, with_branch_blocks
from lanepaint_assets.editing.videopainter.pipeline import (
    Anchor,
    WindowDenoiser,
    WindowLatents,
    WindowSettings,
    decode_window,
    dynamic_guidance,
    encode_window,
    mask_to_latents,
)
from lanepaint_assets_tests.tiny_models.cogvideox import tiny_architecture
from lanepaint_assets_tests.tiny_models.videopainter_reference import Reference, window_difference

TOLERANCE = 1e-5

window_masks = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda fhw: arrays.arrays(bool, (1 + 4 * fhw[0], 8 * fhw[1], 8 * fhw[2]), fill=st.just(False))
)


@dataclass(frozen=True)
class Tiny:
    """Networks with random weights, and a window of noise with a rectangle to paint."""

    vae: Any
    model: BranchedTransformer
    scheduler: Any
    frames: np.ndarray
    masks: np.ndarray

    def encoded(self, settings: WindowSettings, seed: int = 0) -> WindowLatents:
        return encode_window(self.vae, self.frames, self.masks, settings, torch.Generator().manual_seed(seed))

    def denoiser(self) -> WindowDenoiser:
        denoiser = WindowDenoiser.of(self.vae, self.model, self.scheduler)
        # Every number that the loop reads, step by step.
        denoiser.latents_after, denoiser.guidance_read = [], []
        settle = denoiser._settle

        def watch(pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> Any:
            denoiser.guidance_read.append(denoiser.guidance_scale)
            result = settle(pipe, step, timestep, tensors)
            denoiser.latents_after.append(result["latents"])
            return result

        denoiser._settle = watch
        return denoiser

    def painted(
        self, window: WindowLatents, settings: WindowSettings, seed: int = 0, anchor: Anchor | None = None
    ) -> torch.Tensor:
        return self.run(self.denoiser(), window, settings, seed, anchor)

    def run(
        self,
        denoiser: WindowDenoiser,
        window: WindowLatents,
        settings: WindowSettings,
        seed: int = 0,
        anchor: Anchor | None = None,
    ) -> torch.Tensor:
        torch.manual_seed(5)
        text, empty = torch.randn(1, 32, 32), torch.zeros(1, 32, 32)
        return denoiser.denoise(window, settings, text, empty, torch.Generator().manual_seed(seed), anchor)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    torch.manual_seed(0)
    architecture = tiny_architecture()
    model = BranchedTransformer(
        with_branch_blocks(architecture.build_transformer().eval(), 2), architecture.build_branch().eval()
    )
    frames = np.random.default_rng(0).integers(0, 256, (17, 96, 80, 3), dtype=np.uint8)
    masks = np.zeros((17, 96, 80), dtype=bool)
    masks[:, 30:50, 20:60] = True
    return Tiny(architecture.build_autoencoder().eval(), model, architecture.scheduler(), frames, masks)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.read("pipeline_level")


@pytest.mark.parametrize(("replace_known", "expected"), [(True, "out.one"), (False, "out.one_noreplace")])
def test_a_window_equals_the_original_s(reference: Reference, replace_known: bool, expected: str) -> None:
    assert window_difference(reference, expected, replace_known=replace_known) <= TOLERANCE


@given(masks=window_masks)
def test_a_latent_is_painted_where_any_of_its_pixels_is(masks: np.ndarray) -> None:
    latents = mask_to_latents(masks)
    count, height, width = masks.shape
    assert latents.shape == (1, 1 + (count - 1) // 4, 1, height // 8, width // 8)
    groups = [masks[:1], *(masks[first : first + 4] for first in range(1, count, 4))]
    for latent, group in zip(latents[0, :, 0], groups, strict=True):
        cells = group.reshape(len(group), height // 8, 8, width // 8, 8).any(axis=(0, 2, 4))
        np.testing.assert_array_equal(latent.numpy(), cells)


def test_a_thin_line_that_the_published_sampling_loses_is_painted() -> None:
    masks = np.zeros((13, 64, 96), dtype=bool)
    masks[2:, 13:16, :] = True
    assert not mask_to_latents(masks, "nearest").any()
    painted = mask_to_latents(masks, "max")
    assert painted[0, 1:, 0, 1].all()
    assert painted.sum() == 3 * 12


def test_what_is_not_painted_ends_as_the_source(tiny: Tiny) -> None:
    settings = WindowSettings(steps=3)
    window = tiny.encoded(settings)
    result = tiny.painted(window, settings)
    known = (window.mask == 0).expand_as(result)
    assert known[:, 0].all()
    assert 0.3 < known.float().mean() < 0.95
    torch.testing.assert_close(result[known], window.known[known], rtol=0, atol=0)
    assert (result[~known] != window.known[~known]).all()
    free = replace(settings, replace_known=False)
    assert not torch.equal(tiny.painted(window, free)[known], window.known[known])


def test_before_the_end_the_source_carries_the_noise_of_the_next_step(tiny: Tiny) -> None:
    settings = WindowSettings(steps=3)
    window, denoiser = tiny.encoded(settings), tiny.denoiser()
    tiny.run(denoiser, window, settings)
    noise = torch.randn(window.known.shape, generator=torch.Generator().manual_seed(0))
    known = (window.mask == 0).expand_as(noise)
    for step in range(2):
        level = denoiser.scheduler.timesteps[step + 1 : step + 2]
        expected = denoiser.scheduler.add_noise(window.known, noise, level)
        torch.testing.assert_close(denoiser.latents_after[step][known], expected[known], rtol=0, atol=0)


def test_latents_of_the_window_before_are_held_for_their_share_of_the_steps(tiny: Tiny) -> None:
    settings = WindowSettings(steps=4)
    window, denoiser = tiny.encoded(settings), tiny.denoiser()
    anchor = Anchor(torch.randn(window.known.shape), torch.tensor([0.0, 0.75, 0.25, 0.0, 0.0]))
    result = tiny.run(denoiser, window, settings, anchor=anchor)
    noise = torch.randn(window.known.shape, generator=torch.Generator().manual_seed(0))
    painted = (window.mask > 0).expand_as(noise)
    for latent, steps_held in ((1, 3), (2, 1), (3, 0)):
        here = painted[:, latent]
        for step in range(4):
            found = denoiser.latents_after[step][:, latent][here]
            expected = anchor.latents
            if step < 3:
                level = denoiser.scheduler.timesteps[step + 1 : step + 2]
                expected = denoiser.scheduler.add_noise(expected, noise, level)
            assert torch.equal(found, expected[:, latent][here]) == (step < steps_held)
    # The surroundings are the source's all the same.
    torch.testing.assert_close(result[~painted], window.known[~painted], rtol=0, atol=0)


def test_a_seed_gives_the_same_window_whatever_came_before(tiny: Tiny) -> None:
    settings = WindowSettings(steps=2)
    window = tiny.encoded(settings)
    first = tiny.painted(window, settings, seed=1)
    other = tiny.painted(window, settings, seed=2)
    assert not torch.equal(first, other)
    torch.testing.assert_close(tiny.painted(window, settings, seed=1), first, rtol=0, atol=0)


def test_guidance_that_grows_counts_steps_and_not_noise_levels(tiny: Tiny) -> None:
    settings = WindowSettings(steps=4, guidance=6.0, dynamic_guidance="correct")
    denoiser = tiny.denoiser()
    tiny.run(denoiser, tiny.encoded(settings), settings)
    assert denoiser.guidance_read == [dynamic_guidance(6.0, step, 4) for step in range(4)]
    assert denoiser.guidance_read[0] == 1.0
    assert denoiser.guidance_read == sorted(denoiser.guidance_read)
    constant = tiny.denoiser()
    tiny.run(constant, tiny.encoded(settings), replace(settings, dynamic_guidance="off"))
    assert constant.guidance_read == [6.0] * 4
    stock = tiny.denoiser()
    tiny.run(stock, tiny.encoded(settings), replace(settings, dynamic_guidance="stock"))
    assert stock.guidance_read != sorted(stock.guidance_read)


@given(guidance=st.floats(1.01, 30.0), steps=st.integers(1, 100))
def test_growing_guidance_stays_between_one_and_one_more_than_its_end(guidance: float, steps: int) -> None:
    weights = [dynamic_guidance(guidance, step, steps) for step in range(steps + 1)]
    assert weights[0] == 1.0
    assert weights == sorted(weights)
    assert weights[-1] == pytest.approx(1.0 + guidance)


def test_masked_pixels_do_not_reach_the_branch_but_are_known_to_the_backbone(tiny: Tiny) -> None:
    settings = WindowSettings()
    window = tiny.encoded(settings)
    inside = tiny.masks.copy()
    inside[0] = False
    other_frames = tiny.frames.copy()
    other_frames[inside] = 255 - other_frames[inside]
    other = replace(tiny, frames=other_frames).encoded(settings)
    torch.testing.assert_close(other.masked, window.masked, rtol=0, atol=0)
    assert not torch.equal(other.known, window.known)
    black = tiny.encoded(replace(settings, masked_pixels="black"))
    assert not torch.equal(black.masked, window.masked)
    torch.testing.assert_close(black.known, window.known, rtol=0, atol=0)


def test_the_first_frame_is_painted_already_whatever_its_mask_says(tiny: Tiny) -> None:
    window = tiny.encoded(WindowSettings())
    assert not window.mask[:, 0].any()
    for first_mask in (True, False):
        masks = tiny.masks.copy()
        masks[0] = first_mask
        other = replace(tiny, masks=masks).encoded(WindowSettings())
        for name in ("first_frame", "masked", "known", "mask"):
            torch.testing.assert_close(getattr(other, name), getattr(window, name), rtol=0, atol=0)


def test_the_first_frame_alone_is_scaled_as_the_model_was_trained(tiny: Tiny) -> None:
    pixels = torch.from_numpy(tiny.frames[:1]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        latent = tiny.vae.encode(pixels).latent_dist.mode().transpose(1, 2)
    torch.testing.assert_close(tiny.encoded(WindowSettings()).first_frame, latent / 0.7, rtol=1e-5, atol=1e-6)


def test_only_sampled_latents_depend_on_the_seed(tiny: Tiny) -> None:
    assert torch.equal(tiny.encoded(WindowSettings(), 1).known, tiny.encoded(WindowSettings(), 2).known)
    sampled = WindowSettings(latents="sample")
    assert torch.equal(tiny.encoded(sampled, 1).known, tiny.encoded(sampled, 1).known)
    assert not torch.equal(tiny.encoded(sampled, 1).known, tiny.encoded(sampled, 2).known)


def test_a_decoded_window_has_the_encoded_one_s_frames(tiny: Tiny) -> None:
    frames = decode_window(tiny.vae, tiny.encoded(WindowSettings()).known)
    assert frames.shape == tiny.frames.shape
    assert frames.min() >= 0
    assert frames.max() <= 1


@pytest.mark.parametrize("shape", [(13, 64, 96), (17, 60, 96), (17, 64, 90)])
def test_windows_without_whole_latents_are_refused(tiny: Tiny, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not make whole latents"):
        encode_window(
            tiny.vae, np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool), WindowSettings(), torch.Generator()
        )


@pytest.mark.parametrize("settings", [{"steps": 0}, {"guidance": 1.0}, {"guidance": float("nan")}])
def test_settings_that_paint_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="steps with guidance"):
        WindowSettings(**settings)
