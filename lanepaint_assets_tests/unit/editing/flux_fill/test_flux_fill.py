"""The `flux_fill` engine: pictures depend on what they should and on nothing else; bad input is told in plain words."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lanepaint_assets import loop_progress
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.editing.engine import PaintInstruction
from lanepaint_assets.editing.flux_fill.engine import CAPTION_TOKENS, FluxFillPainter, on_grain, random_flux
from lanepaint_assets.rendering.mask_edges import model_mask
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models.flux.architecture import FLUX_FILL
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux, tiny_architecture
from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer
from lanepaint_assets_tests.unit.editing.flux_fill.tasks import EDGES, HIDDEN_FROM, instruction, painter, parts, scene


@pytest.fixture
def flux(checkpoint: Path) -> FluxFillPainter:
    return painter(checkpoint)


@contextmanager
def failing(module: Any, times: int) -> Iterator[list[bool]]:
    """Lets the network run out of memory so often; lists whether the autoencoder worked in tiles at each call."""
    calls: list[bool] = []
    decode = module.decode

    def limited(*inputs: Any, **options: Any) -> Any:
        calls.append(module.use_tiling)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return decode(*inputs, **options)

    module.decode = limited
    yield calls
    del module.decode


# What a picture depends on.


def test_the_same_instruction_gives_the_same_picture_whenever_the_checkpoint_is_loaded(checkpoint: Path) -> None:
    picture = painter(checkpoint).paint_first_frame(scene(), instruction())
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    np.testing.assert_array_equal(picture, painter(checkpoint).paint_first_frame(scene(), instruction()))


@pytest.mark.parametrize("other", [instruction(seed=8), instruction("two yellow lines"), instruction(seed=2**64 - 1)])
def test_another_seed_or_caption_gives_another_picture(flux: FluxFillPainter, other: PaintInstruction) -> None:
    picture = flux.paint_first_frame(scene(), instruction())
    assert (flux.paint_first_frame(scene(), other) != picture).mean() > 0.1
    np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), picture)


def test_the_picture_is_the_one_that_diffusers_paints(checkpoint: Path, flux: FluxFillPainter) -> None:
    stock: Any = FluxFillPipeline.from_pretrained(checkpoint)  # type: ignore[no-untyped-call]
    stock.set_progress_bar_config(disable=True)
    shown = scene()
    expected = stock(
        prompt=instruction().caption,
        image=torch.from_numpy(shown.frames[0]).permute(2, 0, 1)[None] / 255.0,
        mask_image=torch.from_numpy(model_mask(shown.paint_masks[0], EDGES))[None, None].float(),
        height=48,
        width=64,
        guidance_scale=30.0,
        num_inference_steps=2,
        max_sequence_length=CAPTION_TOKENS,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).images[0]
    found = flux.paint_first_frame(shown, instruction())
    assert np.abs(expected * 255.0 - found).max() <= 0.51


def test_the_model_does_not_see_what_lies_under_the_grown_mask(flux: FluxFillPainter) -> None:
    picture = flux.paint_first_frame(scene(), instruction())
    hidden, seen = scene(), scene()
    hidden.frames[0, :, HIDDEN_FROM:] = 0
    np.testing.assert_array_equal(flux.paint_first_frame(hidden, instruction()), picture)
    seen.frames[0, :, HIDDEN_FROM - 1] = 0
    assert (flux.paint_first_frame(seen, instruction()) != picture).any()


def test_a_mask_that_covers_all_leaves_everything_to_the_model(flux: FluxFillPainter) -> None:
    everywhere = np.ones((48, 64), dtype=np.bool_)
    one = flux.paint_first_frame(scene(seed=1, mask=everywhere), instruction())
    other = flux.paint_first_frame(scene(seed=2, mask=everywhere), instruction())
    np.testing.assert_array_equal(one, other)


def test_steps_and_guidance_are_honoured(checkpoint: Path, flux: FluxFillPainter) -> None:
    picture = flux.paint_first_frame(scene(), instruction())
    assert (painter(checkpoint, steps=3).paint_first_frame(scene(), instruction()) != picture).any()
    assert (painter(checkpoint, guidance=5.0).paint_first_frame(scene(), instruction()) != picture).any()


def test_no_steps_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="at least one denoising step, not 0"):
        painter(checkpoint, steps=0)


# Sizes.


@pytest.mark.parametrize(("height", "width"), [(50, 82), (16, 96), (7, 33)])
def test_a_picture_keeps_its_size(flux: FluxFillPainter, height: int, width: int) -> None:
    assert flux.paint_first_frame(scene(height, width), instruction()).shape == (height, width, 3)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_pictures_are_continued_in_their_own_content_to_multiples_of_16(height: int, width: int) -> None:
    picture = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    continued = on_grain(picture)
    assert continued.shape[0] % 16 == continued.shape[1] % 16 == 0
    assert continued.shape[0] - height < 16
    assert continued.shape[1] - width < 16
    np.testing.assert_array_equal(continued[:height, :width], picture)
    if continued.shape[0] > height:
        np.testing.assert_array_equal(continued[height, :width], picture[-1])
    if continued.shape[1] > width:
        np.testing.assert_array_equal(continued[:height, width], picture[:, -1])


# What is loaded and computed how often.


def test_every_network_is_read_at_the_first_call_and_once(checkpoint: Path, tmp_path: Path) -> None:
    flux = painter(Path(shutil.copytree(checkpoint, tmp_path / "own")))
    assert [part.loads for part in parts(flux)] == [0, 0, 0, 0]
    for seed in range(10):
        flux.paint_first_frame(scene(), instruction(f"caption {seed}", seed))
    assert [part.loads for part in parts(flux)] == [1, 1, 1, 1]


def test_networks_that_were_forgotten_are_freed_and_read_again(checkpoint: Path, tmp_path: Path) -> None:
    flux = painter(Path(shutil.copytree(checkpoint, tmp_path / "own")))
    picture = flux.paint_first_frame(scene(), instruction())
    gone = [weakref.ref(part.module) for part in parts(flux)]
    flux._residency.release(*parts(flux), forget=True)
    assert [reference() for reference in gone] == [None] * 4
    np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), picture)
    # The caption is remembered.
    assert [part.loads for part in parts(flux)] == [1, 1, 2, 2]


def test_captions_that_were_prepared_are_read_together_and_not_again(flux: FluxFillPainter) -> None:
    captions = [f"a caption that only this test has, number {index}" for index in range(6)]
    passes = []
    t5, clip = flux._parts.words._encoder.module, flux._parts.clip.module
    hooks = [module.register_forward_pre_hook(lambda module, _: passes.append(module)) for module in (t5, clip)]
    flux.prepare(captions)
    assert (passes.count(t5), passes.count(clip)) == (1, 6)
    for caption in captions[:2]:
        flux.paint_first_frame(scene(), instruction(caption))
    assert len(passes) == 7
    for hook in hooks:
        hook.remove()


def test_threads_take_turns(flux: FluxFillPainter, checkpoint: Path, tmp_path: Path) -> None:
    tasks = [(scene(seed=seed), instruction(f"caption {seed % 2}", seed)) for seed in range(6)]
    expected = [flux.paint_first_frame(*task) for task in tasks]
    fresh = painter(Path(shutil.copytree(checkpoint, tmp_path / "own")))
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(lambda task: fresh.paint_first_frame(*task), tasks), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert [part.loads for part in parts(fresh)] == [1, 1, 1, 1]


def test_nothing_is_drawn_where_nobody_looks(flux: FluxFillPainter, capfd: pytest.CaptureFixture[str]) -> None:
    flux.paint_first_frame(scene(), instruction())
    capfd.readouterr()
    flux.paint_first_frame(scene(), instruction())
    assert capfd.readouterr().err == ""


def test_a_long_painting_tells_how_far_it_is(flux: FluxFillPainter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_progress, "TELL_EVERY_S", 0.0)
    heard: list[tuple[str, int, int]] = []
    with loop_progress.loops_told_to(lambda what, done, total, _: heard.append((what, done, total))):
        flux.paint_first_frame(scene(), instruction())
    assert heard == [("the first frame of clip0.front (64x48)", done, flux._steps) for done in range(1, flux._steps)]
    assert heard


# Bad input.


def test_an_empty_mask_is_refused(flux: FluxFillPainter) -> None:
    nowhere = np.zeros((48, 64), dtype=np.bool_)
    with pytest.raises(ItemError, match=r"the paint mask of clip0\.front is empty in the first frame"):
        flux.paint_first_frame(scene(mask=nowhere), instruction())


def test_a_caption_beyond_the_limit_is_cut_and_noted(flux: FluxFillPainter) -> None:
    # A token a character in these tokenizers, the word mark and the end mark.
    longest = "x" * (CAPTION_TOKENS - 2)
    assert flux.notes(scene(), instruction(longest)) == ()
    (note,) = flux.notes(scene(), instruction(longest + "y"))
    assert "longer than the 512 tokens" in note
    one, other = (flux.paint_first_frame(scene(), instruction(longest + end)) for end in ("yy", "yz"))
    np.testing.assert_array_equal(one, other)


def test_out_of_memory_is_tried_again_in_tiles(flux: FluxFillPainter) -> None:
    expected = flux.paint_first_frame(scene(), instruction())
    with failing(flux._parts.autoencoder.module, times=1) as calls:
        found = flux.paint_first_frame(scene(), instruction())
        flux.paint_first_frame(scene(), instruction())
    assert calls == [False, True, False]
    # It is smaller than a tile.
    np.testing.assert_array_equal(found, expected)


def test_captions_that_do_not_fit_are_tried_again_beside_nothing_else(
    flux: FluxFillPainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    flux.paint_first_frame(scene(), instruction())
    clip, resident = flux._parts.clip.module, []
    forward = clip.forward

    def limited(*inputs: Any, **options: Any) -> Any:
        resident.append(flux._residency.resident)
        if len(resident) in (1, 3, 4):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return forward(*inputs, **options)

    monkeypatch.setattr(clip, "forward", limited)
    flux.prepare(["a caption for which memory suffices at the second try"])
    assert flux._parts.transformer.name in resident[0]
    assert resident[1] == (flux._parts.clip.name,)
    with pytest.raises(ItemError, match="the summary of 1 captions does not fit into the memory of cpu"):
        flux.prepare(["a caption for which it never does"])


def test_tiles_are_tried_within_a_budget_that_leaves_little_beside_the_weights(checkpoint: Path) -> None:
    flux = painter(checkpoint, memory_gib=1.0)
    expected = flux.paint_first_frame(scene(), instruction())
    with failing(flux._parts.autoencoder.module, times=1) as calls:
        np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), expected)
    assert calls == [False, True]


def test_a_picture_larger_than_a_tile_is_painted_in_tiles(flux: FluxFillPainter) -> None:
    large = scene(528, 64)
    whole = flux.paint_first_frame(large, instruction())
    with failing(flux._parts.autoencoder.module, times=1):
        tiled = flux.paint_first_frame(large, instruction())
    assert tiled.shape == (528, 64, 3)
    assert 0 < np.abs(tiled.astype(int) - whole).mean() < 20


def test_a_picture_that_never_fits_fails_and_leaves_the_engine_usable(flux: FluxFillPainter) -> None:
    expected = flux.paint_first_frame(scene(), instruction())
    with (
        failing(flux._parts.autoencoder.module, times=2) as calls,
        pytest.raises(ItemError, match=r"first frame of clip0\.front \(64x48\) does not fit into the memory of cpu"),
    ):
        flux.paint_first_frame(scene(), instruction())
    assert calls == [False, True]
    np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), expected)


def test_nan_fails_the_picture_and_leaves_the_engine_usable(flux: FluxFillPainter) -> None:
    expected = flux.paint_first_frame(scene(), instruction())
    bias = flux._parts.transformer.module.proj_out.bias
    before = bias.data.clone()
    bias.data[0] = torch.nan
    with pytest.raises(ItemError, match=r"NaN for the first frame of clip0\.front .* weights may be damaged"):
        flux.paint_first_frame(scene(), instruction())
    bias.data.copy_(before)
    np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), expected)


# Checkpoints.


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="flux_inp: there is no such checkpoint"):
        painter(tmp_path / "flux_inp")


@pytest.mark.parametrize(
    "file",
    [
        "transformer/diffusion_pytorch_model-00002-of-00003.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder_2/model.safetensors",
        "text_encoder/config.json",
    ],
)
def test_a_missing_file_is_named(checkpoint: Path, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file}.*missing"):
        painter(copy)


@pytest.mark.parametrize("folder", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_its_vocabulary_is_refused(checkpoint: Path, tmp_path: Path, folder: str) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=rf"{folder}: its vocabulary is missing"):
        painter(copy)


def test_a_checkpoint_that_lacks_weights_is_refused_with_their_names(tmp_path: Path) -> None:
    copy = save_tiny_flux(tmp_path / "copy")
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["proj_out.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(proj_out\.bias\)"):
        painter(copy).paint_first_frame(scene(), instruction())


def test_a_checkpoint_with_weights_of_another_shape_is_refused(tmp_path: Path) -> None:
    copy = save_tiny_flux(tmp_path / "copy")
    file = copy / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    weights[name] = torch.ones(5)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"text_encoder: .*CLIPTextModel"):
        painter(copy).paint_first_frame(scene(), instruction())


# Faster, and not the same.


def test_a_cache_of_steps_that_never_hits_changes_nothing_and_forgets_the_picture_before(checkpoint: Path) -> None:
    exact = painter(checkpoint, steps=6).paint_first_frame(scene(), instruction())
    never, often = (painter(checkpoint, steps=6, first_block_cache=change) for change in (1e-9, 0.5))
    np.testing.assert_array_equal(never.paint_first_frame(scene(), instruction()), exact)
    picture = often.paint_first_frame(scene(), instruction())
    assert (picture != exact).any()
    often.paint_first_frame(scene(seed=3), instruction(seed=3))
    np.testing.assert_array_equal(often.paint_first_frame(scene(), instruction()), picture)


def test_a_cache_of_steps_forgets_a_picture_that_failed(checkpoint: Path) -> None:
    flux = painter(checkpoint, steps=3, first_block_cache=1e9)
    expected = flux.paint_first_frame(scene(), instruction())
    with failing(flux._parts.autoencoder.module, times=2), pytest.raises(ItemError, match="does not fit"):
        flux.paint_first_frame(scene(seed=3), instruction(seed=3))
    np.testing.assert_array_equal(flux.paint_first_frame(scene(), instruction()), expected)


@pytest.mark.parametrize("change", [0.0, -0.1, float("nan")])
def test_a_cache_of_steps_without_a_threshold_is_refused(checkpoint: Path, change: float) -> None:
    with pytest.raises(ValueError, match="below which a step is skipped must be positive"):
        painter(checkpoint, first_block_cache=change)


def test_weights_of_8_bits_are_close_and_smaller(checkpoint: Path, flux: FluxFillPainter) -> None:
    exact = flux.paint_first_frame(scene(), instruction())
    small = painter(checkpoint, fp8=True)
    picture = small.paint_first_frame(scene(), instruction())
    assert 0 < np.abs(picture.astype(int) - exact).mean() < 5
    assert small._parts.transformer.bytes < 0.5 * flux._parts.transformer.bytes


# Random weights.


def test_random_weights_paint_something_and_need_no_files() -> None:
    flux = random_flux(clip_tokenizer(), t5_tokenizer(), architecture=tiny_architecture(), device="cpu", steps=1)
    picture = flux.paint_first_frame(scene(50, 82), instruction())
    assert picture.shape == (50, 82, 3)
    assert picture.std() > 1
    assert torch.get_default_dtype() == torch.float32


def test_random_engines_share_their_text_encoder_as_released_ones_do() -> None:
    one, other = (
        random_flux(clip_tokenizer(), t5_tokenizer(), architecture=tiny_architecture(), device="cpu", steps=steps)
        for steps in (1, 2)
    )
    assert one._parts.words is other._parts.words


@pytest.mark.parametrize(
    ("part", "millions"), [("build_transformer", 11902.39), ("build_autoencoder", 83.82), ("build_clip", 123.06)]
)
def test_the_full_size_networks_have_the_published_numbers_of_weights(part: str, millions: float) -> None:
    with torch.device("meta"):
        built = getattr(FLUX_FILL, part)()
    assert sum(weight.numel() for weight in built.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
