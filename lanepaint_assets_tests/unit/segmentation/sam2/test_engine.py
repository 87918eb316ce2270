"""The `sam2` engine: checkpoints found or refused in plain words, bad clips told, one device for all threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.segmentation.sam2 import engine as engine_module
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES, build_predictor
from lanepaint_assets.segmentation.sam2.engine import Sam2RoadSegmenter
from lanepaint_assets.store.items import ItemError
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY, moving_texture, tiny_segmenter


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of the tiny network, in the released files' form."""
    torch.manual_seed(7)
    weights = build_predictor(TINY, torch.device("cpu")).state_dict()
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(5.0)
    path = tmp_path / f"{TINY.name}.pt"
    torch.save({"model": weights}, path)
    return path


def with_checkpoint(path: Path) -> Sam2RoadSegmenter:
    return Sam2RoadSegmenter(path, TINY, device="cpu")


def test_a_checkpoint_gives_the_same_masks_whenever_it_is_loaded(checkpoint: Path) -> None:
    frames = moving_texture(5, 160, 90)
    masks = with_checkpoint(checkpoint).segment_video(frames)
    assert masks.shape == (5, 90, 160)
    assert 0.02 < masks.mean() < 0.98
    np.testing.assert_array_equal(masks, with_checkpoint(checkpoint).segment_video(frames))
    assert not np.array_equal(masks, tiny_segmenter().segment_video(frames))


def test_a_single_picture_is_a_clip_of_one_frame(checkpoint: Path) -> None:
    engine, frames = with_checkpoint(checkpoint), moving_texture(3, 160, 90)
    np.testing.assert_array_equal(engine.segment_picture(frames[0]), engine.segment_video(frames)[0])


def test_the_checkpoint_of_the_chosen_size_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"sam2\.1_hiera_base_plus\.pt: there is no such checkpoint; copy it there"
    ):
        Sam2RoadSegmenter.from_checkpoint(UPath(tmp_path), sam2_model="base_plus", device="cpu")


def test_a_checkpoint_of_another_size_is_refused_with_what_differs(checkpoint: Path) -> None:
    engine = Sam2RoadSegmenter(checkpoint, ARCHITECTURES["tiny"], device="cpu")
    with pytest.raises(CheckpointError, match=r"it holds another model than .*: .* weights are missing \(.*\.\.\.\)"):
        engine.segment_picture(moving_texture(1, 160, 90)[0])


def test_a_checkpoint_with_weights_of_another_shape_names_one(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["no_mem_embed"] = torch.zeros(1, 1, 5)
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r"no_mem_embed: \[1, 1, 5\] instead of \[1, 1, 32\]"):
        with_checkpoint(checkpoint).segment_picture(moving_texture(1, 160, 90)[0])


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sam2.1_hiera_test.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"sam2\.1_hiera_test\.pt: not a readable checkpoint .*download it again"):
        with_checkpoint(path).segment_picture(moving_texture(1, 160, 90)[0])


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam2.1_hiera_test.pt"
    torch.save([torch.zeros(2)], path)
    with pytest.raises(CheckpointError, match="no weights under the key 'model'"):
        with_checkpoint(path).segment_picture(moving_texture(1, 160, 90)[0])


def test_nan_fails_the_clip_and_leaves_the_engine_usable(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, frames = with_checkpoint(checkpoint), moving_texture(3, 160, 90)
    good = engine.segment_video(frames)
    inside = engine._predictor
    encode = inside.forward_image
    monkeypatch.setattr(inside, "forward_image", lambda pictures: encode(pictures * torch.nan))
    with pytest.raises(ItemError, match=r"NaN or infinite from frame 0 on .* the checkpoint may be damaged"):
        engine.segment_video(frames)
    monkeypatch.undo()
    np.testing.assert_array_equal(engine.segment_video(frames), good)


def test_a_clip_that_does_not_fit_fails_with_a_remedy(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = with_checkpoint(checkpoint)

    def too_large(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(engine._predictor, "segment", too_large)
    with pytest.raises(ItemError, match=r"160x90\) does not fit .* choose a smaller LANEPAINT_SAM2_MODEL"):
        engine.segment_video(moving_texture(2, 160, 90))


def test_a_4k_clip_keeps_its_size() -> None:
    frames = np.zeros((2, 2160, 3840, 3), dtype=np.uint8)
    frames[:, 1200:] = moving_texture(1, 3840, 960)[0]
    assert tiny_segmenter().segment_video(frames).shape == (2, 2160, 3840)


def test_no_frames_give_no_masks() -> None:
    assert tiny_segmenter().segment_video(np.zeros((0, 90, 160, 3), dtype=np.uint8)).shape == (0, 90, 160)


def test_threads_take_turns_and_do_not_disturb_each_other() -> None:
    engine = tiny_segmenter()
    clips = [moving_texture(4, 160, 90, seed=seed) for seed in range(4)]
    expected = [tiny_segmenter().segment_video(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(engine.segment_video, clips), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_weights_are_read_at_the_first_clip_and_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr(engine_module, "load_checkpoint", lambda _, path: loads.append(path))
    engine = with_checkpoint(checkpoint)
    assert loads == []
    for _ in range(2):
        engine.segment_picture(moving_texture(1, 160, 90)[0])
    assert loads == [checkpoint]
