"""The `videopainter` engine: clips of any size and length, bad input told in plain words, weights read once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file, save_file
from upath import UPath

from lanepaint_assets import loop_progress
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.editing.engine import PaintInstruction
from lanepaint_assets.editing.videopainter.engine import VideoPainterEngine, random_cogvideox
from lanepaint_assets.editing.videopainter.pipeline import WindowDenoiser, WindowSettings
from lanepaint_assets.rendering.mask_edges import MaskEdges, model_mask
from lanepaint_assets.store.items import ItemError, StepError
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets_tests.tiny_models.cogvideox import save_tiny_branch, save_tiny_cogvideox, tiny_architecture
from lanepaint_assets_tests.tiny_models.tokenizers import t5_tokenizer
from lanepaint_assets_tests.unit.editing.videopainter.clips import (
    HEIGHT,
    WIDTH,
    engine_of,
    painted,
    parts_of,
    scene_of,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `model` and `branch`."""
    folder = tmp_path_factory.mktemp("videopainter")
    save_tiny_cogvideox(folder / "model", shards=True)
    save_tiny_branch(folder / "branch")
    return folder


@pytest.fixture(autouse=True)
def own_residency(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the models of another."""
    monkeypatch.setattr(Residency, "_all", {})


def test_a_clip_comes_back_in_its_own_size_and_the_same_each_time(checkpoint: Path) -> None:
    scene = scene_of(17, 90, 161)
    result = painted(engine_of(checkpoint), scene)
    assert result.shape == scene.frames.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(painted(engine_of(checkpoint), scene), result)


def test_caption_and_seed_change_what_is_painted_and_earlier_clips_do_not(checkpoint: Path) -> None:
    engine, scene = engine_of(checkpoint), scene_of()
    first = painted(engine, scene)
    assert not np.array_equal(painted(engine, scene, caption="two yellow lines"), first)
    assert not np.array_equal(painted(engine, scene, seed=8), first)
    np.testing.assert_array_equal(painted(engine, scene), first)


def test_with_hardly_any_guidance_the_caption_counts_and_the_empty_one_does_not(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {}
    for empty in ("", "something else"):
        engine = engine_of(checkpoint, guidance=1.000001)
        real = engine._parts.words.encode
        monkeypatch.setattr(
            engine._parts.words, "encode", lambda captions, n, read=real, e=empty: read([c or e for c in captions], n)
        )
        for caption in ("a white line", "two yellow lines"):
            results[empty, caption] = painted(engine, scene_of(), caption).astype(int)
    for caption in ("a white line", "two yellow lines"):
        assert np.abs(results["", caption] - results["something else", caption]).max() <= 1
    assert np.abs(results["", "a white line"] - results["", "two yellow lines"]).max() > 1


def test_weights_are_read_at_the_first_clip_and_only_then(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    assert [part.loads for part in parts_of(engine)] == [0, 0, 0, 0]
    for seed in range(3):
        painted(engine, scene_of(seed=seed))
    assert [part.loads for part in parts_of(engine)] == [1, 1, 1, 1]


def test_threads_share_the_models_and_get_their_own_clips(checkpoint: Path) -> None:
    scenes = [scene_of(seed=seed) for seed in range(3)]
    engine = engine_of(checkpoint)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda scene: painted(engine, scene), scenes))
    assert [part.loads for part in parts_of(engine)] == [1, 1, 1, 1]
    for scene, result in zip(scenes, together, strict=True):
        np.testing.assert_array_equal(result, painted(engine, scene))


@pytest.mark.parametrize("frames", [1, 5])
def test_a_short_clip_is_the_beginning_of_one_padded_with_its_last_frame(checkpoint: Path, frames: int) -> None:
    engine, scene = engine_of(checkpoint), scene_of(frames)
    result = painted(engine, scene)
    assert result.shape == scene.frames.shape
    order = np.minimum(np.arange(17), frames - 1)
    padded = replace(
        scene,
        frames=scene.frames[order],
        timestamps_us=np.arange(17) * 125_000,
        paint_masks=scene.paint_masks[order],
    )
    np.testing.assert_array_equal(result, painted(engine, padded)[:frames])


def test_a_long_clip_is_painted_to_its_end_each_window_from_a_frame_of_the_one_before(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, scene = engine_of(checkpoint), scene_of(30)
    windows = []
    real = engine._window

    def watch(frames: np.ndarray, *others: Any) -> Any:
        result = real(frames, *others)
        windows.append((frames, others[3], result))
        return result

    monkeypatch.setattr(engine, "_window", watch)
    result = painted(engine, scene)
    assert len(windows) == 3
    np.testing.assert_array_equal(windows[0][0][0], 255 - scene.frames[0])
    np.testing.assert_array_equal(windows[0][0][1:], scene.frames[1:17])
    # Before a window starts, the frames of the one before are laid: the second at 8, the third at 16.
    laid = windows[0][2][1].copy()
    np.testing.assert_array_equal(windows[1][0][0], laid[8])
    fade = np.arange(1, 10)[:, None, None, None] / 10
    laid[8:17] = np.rint(laid[8:17] + fade * (windows[1][2][1][:9].astype(np.float32) - laid[8:17]))
    np.testing.assert_array_equal(windows[2][0][0], laid[16])
    # Its latents too: latents 3 and 4 of a window are 1 and 2 of the next.
    anchor, before = windows[1][1], windows[0][2][0]
    torch.testing.assert_close(anchor.latents[:, 1:3], before[:, 3:5], rtol=0, atol=0)
    assert anchor.hold.tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0, 0])
    assert windows[0][1] is None
    np.testing.assert_array_equal(result[25:], windows[2][2][1][9:14])


def test_where_nothing_is_to_be_painted_for_a_while_the_source_stays(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(41)
    masks = scene.paint_masks.copy()
    masks[7:35] = False
    engine, anchors = engine_of(checkpoint), []
    real = engine._window
    monkeypatch.setattr(engine, "_window", lambda *given: anchors.append(given[4]) or real(*given))
    result = painted(engine, replace(scene, paint_masks=masks))
    np.testing.assert_array_equal(result[17:24], scene.frames[17:24])
    assert (result[25:] != scene.frames[25:]).any(axis=(1, 2, 3)).all()
    # Windows of 17 frames start at 0, 8, 16 and 24; the last one has no painted one right before it.
    assert anchors == [None, None]


def test_a_mask_that_covers_all_works(checkpoint: Path) -> None:
    scene = scene_of()
    everywhere = replace(scene, paint_masks=np.ones_like(scene.paint_masks))
    assert painted(engine_of(checkpoint), everywhere).shape == scene.frames.shape


def test_empty_masks_are_refused(checkpoint: Path) -> None:
    scene = scene_of()
    with pytest.raises(ItemError, match=r"paint masks of clip\.front are empty: there is nothing to paint"):
        painted(engine_of(checkpoint), replace(scene, paint_masks=np.zeros_like(scene.paint_masks)))


def test_a_first_frame_of_another_size_is_refused(checkpoint: Path) -> None:
    scene = scene_of()
    with pytest.raises(ItemError, match=r"first frame of clip\.front is \(32, 80, 3\).*materialize first_frames again"):
        engine_of(checkpoint).paint_video(scene, scene.frames[0, :32], PaintInstruction(None, "", "us", 0))


def test_a_caption_beyond_the_limit_is_cut_and_the_notes_say_so(checkpoint: Path) -> None:
    engine, scene = engine_of(checkpoint), scene_of()
    limit = "x" * 30
    result = painted(engine, scene, caption=limit)
    np.testing.assert_array_equal(painted(engine, scene, caption=f"{limit}yyy"), result)
    assert engine.notes(scene, PaintInstruction(None, limit, "us", 0)) == ()
    (note,) = engine.notes(scene, PaintInstruction(None, f"{limit}yyy", "us", 0))
    assert note.startswith("the caption is longer than the 32 tokens that the video model reads")


def test_captions_told_beforehand_are_read_together(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    batches = []
    encoder = engine._parts.words._encoder.module
    encoder.register_forward_hook(lambda _module, _given, result: batches.append(len(result[0])))
    engine.prepare(["a white line", "two yellow lines"])
    painted(engine, scene_of())
    assert len(batches) == 1


@pytest.mark.parametrize(("part", "name"), [("branch", "branch_blocks"), ("model/vae", "decoder.conv_out")])
def test_nan_fails_the_clip_with_a_reason(checkpoint: Path, tmp_path: Path, part: str, name: str) -> None:
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    for file in (damaged / part).glob("*.safetensors"):
        weights = load_file(file)
        for key in weights:
            if name in key:
                weights[key] = torch.full_like(weights[key], float("nan"))
        save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ItemError, match=r"gave NaN for window 1 of 1 of clip\.front"):
        painted(engine_of(damaged), scene_of())


def test_memory_that_does_not_suffice_once_is_asked_for_in_halves(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, scene = engine_of(checkpoint), scene_of()
    expected = painted(engine, scene)
    batches = out_of_memory(monkeypatch, engine._parts.denoisers.transformer.module, lambda given: len(given) > 1)
    result = painted(engine, scene)
    assert batches == [2, 1, 1]
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_a_picture_that_does_not_fit_is_coded_in_tiles(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, scene = engine_of(checkpoint), scene_of()
    expected = painted(engine, scene)
    autoencoder = engine._parts.autoencoder.module
    sizes = out_of_memory(monkeypatch, autoencoder.decoder, lambda given: given.shape[-1] == WIDTH // 8)
    assert painted(engine, scene).shape == expected.shape
    assert sizes[0] == 1
    assert len(sizes) > 4
    monkeypatch.undo()
    # The next clip is whole again.
    monkeypatch.setattr(Residency, "_all", {})
    np.testing.assert_array_equal(painted(engine, scene), expected)


def test_memory_that_never_suffices_fails_the_clip_and_not_the_next(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, scene = engine_of(checkpoint), scene_of()
    out_of_memory(monkeypatch, engine._parts.denoisers.branch.module, lambda _: True)
    with pytest.raises(ItemError, match=r"denoising window 1 of 1 of clip\.front does not fit into the memory of cpu"):
        painted(engine, scene)
    monkeypatch.undo()
    assert painted(engine, scene).shape == scene.frames.shape


def out_of_memory(monkeypatch: pytest.MonkeyPatch, module: Any, refused: Callable[[torch.Tensor], bool]) -> list[int]:
    """Have a module run out of memory for some inputs; returns the batch of every call."""
    batches: list[int] = []
    real = module.forward

    def forward(*given: Any, **named: Any) -> Any:
        hidden = given[0] if given else named["hidden_states"]
        batches.append(len(hidden))
        if refused(hidden):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*given, **named)

    monkeypatch.setattr(module, "forward", forward)
    return batches


def test_a_second_device_shares_the_weights_and_the_work(checkpoint: Path) -> None:
    expected = painted(engine_of(checkpoint), scene_of())
    engine = of_two_devices(checkpoint)
    result = painted(engine, scene_of())
    assert np.abs(result.astype(int) - expected).max() <= 1
    one, other = engine._parts.denoisers, engine._twins
    assert [part.loads for part in parts_of(engine)] == [1, 1, 1, 1]
    for mine, twin in ((one.transformer.module, other.transformer.module), (one.branch.module, other.branch.module)):
        assert twin is not mine
        pointers = {name: tensor.data_ptr() for name, tensor in mine.state_dict().items()}
        assert {name: tensor.data_ptr() for name, tensor in twin.state_dict().items()} == pointers


def of_two_devices(checkpoint: Path, **settings: Any) -> VideoPainterEngine:
    """Its second device is another account of the host's memory."""
    first = engine_of(checkpoint, **settings)
    return VideoPainterEngine(
        first._parts,
        first._residency,
        settings=first._settings,
        edges=first._edges,
        second=Residency(torch.device("cpu")),
        acceleration=first._acceleration,
    )


def test_where_either_of_two_devices_is_full_one_works_alone(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, scene = of_two_devices(checkpoint), scene_of()
    expected = painted(engine, scene)
    batches = out_of_memory(monkeypatch, engine._twins.transformer.module, lambda _: True)
    alone = []
    engine._parts.denoisers.transformer.module.register_forward_hook(
        lambda *_: alone.append(engine._second.resident == ())
    )
    assert np.abs(painted(engine, scene).astype(int) - expected).max() <= 1
    assert batches == [1]
    assert alone == [False, True, True]


@pytest.mark.parametrize("build", [engine_of, of_two_devices])
def test_a_cache_of_steps_forgets_a_window_that_failed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., VideoPainterEngine]
) -> None:
    engine = build(checkpoint, steps=3, first_block_cache=1e9)
    expected, settle = painted(engine, scene_of()), WindowDenoiser._settle

    def breaking(self: Any, pipe: Any, step: int, *given: Any) -> Any:
        if step == 1:
            raise RuntimeError("broken")
        return settle(self, pipe, step, *given)

    monkeypatch.setattr(WindowDenoiser, "_settle", breaking)
    with pytest.raises(RuntimeError, match="broken"):
        painted(engine, scene_of(seed=3))
    monkeypatch.undo()
    np.testing.assert_array_equal(painted(engine, scene_of()), expected)


def test_a_long_window_tells_how_far_it_is(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_progress, "TELL_EVERY_S", 0.0)
    heard: list[tuple[str, int, int]] = []
    with loop_progress.loops_told_to(lambda what, done, total, _: heard.append((what, done, total))):
        painted(engine_of(checkpoint, steps=3), scene_of())
    assert [(done, total) for _, done, total in heard] == [(1, 3), (2, 3)]
    assert heard[0][0].startswith("window 1 of 1 of ")


def test_a_second_device_that_is_the_first_is_refused(checkpoint: Path) -> None:
    with pytest.raises(
        StepError, match=r"second device of CogVideoX, cpu, is cpu, where it runs already; name another"
    ):
        engine_of(checkpoint, second_device="cpu")


@pytest.mark.parametrize("inexact", [{"first_block_cache": 1e9}, {"fp8": True}])
def test_inexact_settings_change_the_result_and_are_off_by_default(checkpoint: Path, inexact: dict[str, Any]) -> None:
    exact = painted(engine_of(checkpoint, steps=2), scene_of())
    result = painted(engine_of(checkpoint, steps=2, **inexact), scene_of())
    assert result.shape == exact.shape
    assert not np.array_equal(result, exact)
    np.testing.assert_array_equal(painted(engine_of(checkpoint, steps=2, compiled=True), scene_of()), exact)


def test_settings_reach_the_model(checkpoint: Path) -> None:
    scene = scene_of()
    default = painted(engine_of(checkpoint, steps=2), scene)
    for changed in ({"steps": 3}, {"guidance": 9.0}, {"dynamic_guidance": True}, {"mask_pooling": "nearest"}):
        assert not np.array_equal(painted(engine_of(checkpoint, **{"steps": 2, **changed}), scene), default)


def test_random_weights_make_a_clip_too() -> None:
    engine = random_cogvideox(
        t5_tokenizer(), architecture=tiny_architecture(), device="cpu", settings=WindowSettings(steps=1)
    )
    assert painted(engine, scene_of()).shape == (17, HEIGHT, WIDTH, 3)


@given(
    masks=arrays.arrays(
        bool, st.tuples(st.integers(1, 3), st.integers(20, 150), st.integers(20, 150)), fill=st.just(False)
    ),
    dilation=st.integers(0, 3),
)
def test_every_pixel_to_paint_is_shown_to_the_model(masks: np.ndarray, dilation: int) -> None:
    engine = random_cogvideox(t5_tokenizer(), architecture=tiny_architecture(), device="cpu")
    engine._edges = MaskEdges(dilation, 0.0)
    shown = engine._shown_masks(masks)
    assert shown.shape == (len(masks), HEIGHT, WIDTH)
    assert shown.dtype == bool
    frames, rows, columns = np.nonzero(np.stack([model_mask(mask, engine._edges) for mask in masks]))
    height, width = masks.shape[1:]
    # The model's pixel that a pixel's centre lies in.
    assert shown[frames, (2 * rows + 1) * HEIGHT // (2 * height), (2 * columns + 1) * WIDTH // (2 * width)].all()
    assert shown.any(axis=(1, 2)).tolist() == masks.any(axis=(1, 2)).tolist()


@pytest.mark.parametrize(
    "file",
    [
        "model/transformer/diffusion_pytorch_model-00002-of-*.safetensors",
        "model/vae/config.json",
        "model/text_encoder/model*.safetensors",
        "branch/diffusion_pytorch_model.safetensors",
        "branch/config.json",
    ],
)
def test_a_missing_file_is_named_before_anything_is_computed(checkpoint: Path, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "broken")
    missing = next(copy.glob(file))
    missing.unlink()
    with pytest.raises(CheckpointError, match=missing.name.replace(".", r"\.")):
        engine_of(copy)


def test_a_folder_that_is_not_there_is_named(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such checkpoint; copy it there"):
        VideoPainterEngine.from_checkpoint(UPath(checkpoint / "model"), branch_folder=UPath(checkpoint / "nowhere"))


def test_a_branch_of_another_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((copy / "branch" / "config.json").read_text())
    (copy / "branch" / "config.json").write_text(json.dumps({**config, "attention_head_dim": 64}))
    with pytest.raises(CheckpointError, match=r"branch is not of .*: attention_head_dim is 64 and 16"):
        engine_of(copy)


def test_a_configuration_without_sizes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((copy / "model" / "transformer" / "config.json").read_text())
    del config["sample_frames"]
    (copy / "model" / "transformer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: it says no sample_frames"):
        engine_of(copy)
