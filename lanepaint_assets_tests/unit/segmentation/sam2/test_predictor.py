"""The predictor on frames in memory: what the package's own flow on a folder of pictures gives."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lanepaint_assets.segmentation.point_grid import grid_points
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES, build_predictor
from lanepaint_assets.segmentation.sam2.predictor import EagerRoadPredictor, NotFiniteError, network_pictures
from lanepaint_assets.segmentation.sam2.weights import show_object
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY, moving_texture

# More than the memory bank reaches back, so that a frame forgotten too early would show.
LONG = 24


@pytest.fixture(scope="module")
def predictor() -> EagerRoadPredictor:
    torch.manual_seed(0)
    built = build_predictor(TINY, torch.device("cpu"))
    show_object(built)
    assert isinstance(built, EagerRoadPredictor)
    return built


def by_the_packages_flow(predictor: EagerRoadPredictor, frames: NDArray[np.uint8], folder: Path) -> NDArray[np.bool_]:
    """A folder of pictures, `init_state`, `propagate_in_video`; nothing pruned, one frame encoded at a time."""
    for index, frame in enumerate(frames):
        # The loader wants this ending; the content is lossless.
        Image.fromarray(frame).save(folder / f"{index:05d}.jpg", format="PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = predictor.init_state(video_path=str(folder))
    points = grid_points(frames.shape[2], frames.shape[1]).astype(np.float32)
    predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=points, labels=np.ones(len(points), np.int32))
    masks = np.zeros(frames.shape[:3], dtype=np.bool_)
    for index, _, logits in predictor.propagate_in_video(state):
        masks[index] = (logits[0, 0] > 0.0).numpy()
    assert len(state["output_dict_per_obj"][0]["non_cond_frame_outputs"]) == len(frames) - 1
    return masks


def in_memory(predictor: EagerRoadPredictor, frames: NDArray[np.uint8], batch: int = 1) -> NDArray[np.bool_]:
    return predictor.segment(frames, grid_points(frames.shape[2], frames.shape[1]), batch)


def test_frames_of_the_networks_size_give_exactly_what_the_package_gives(
    predictor: EagerRoadPredictor, tmp_path: Path
) -> None:
    frames = moving_texture(LONG, TINY.image_size, TINY.image_size)
    expected = by_the_packages_flow(predictor, frames, tmp_path)
    assert 0.05 < expected.mean() < 0.95
    assert not np.array_equal(expected[1], expected[-1])
    np.testing.assert_array_equal(in_memory(predictor, frames), expected)


@pytest.mark.parametrize(("width", "height"), [(240, 135), (96, 54), (321, 201)])
def test_frames_of_other_sizes_give_what_the_package_gives_but_for_rounding(
    predictor: EagerRoadPredictor, tmp_path: Path, width: int, height: int
) -> None:
    frames = moving_texture(LONG, width, height)
    expected = by_the_packages_flow(predictor, frames, tmp_path)
    found = in_memory(predictor, frames)
    assert (found & expected).sum() / (found | expected).sum() >= 0.999


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_the_encoder_may_take_several_frames_at_once(predictor: EagerRoadPredictor, batch: int) -> None:
    frames = moving_texture(12, 160, 90)
    single, several = in_memory(predictor, frames), in_memory(predictor, frames, batch)
    assert (single == several).mean() >= 0.9999


def test_a_clip_of_one_frame_is_the_package_prompted_picture(predictor: EagerRoadPredictor, tmp_path: Path) -> None:
    frames = moving_texture(1, TINY.image_size, TINY.image_size)
    np.testing.assert_array_equal(in_memory(predictor, frames), by_the_packages_flow(predictor, frames, tmp_path))


def test_nothing_is_remembered_of_the_clip_before(predictor: EagerRoadPredictor) -> None:
    frames = moving_texture(4, 160, 90)
    alone = in_memory(predictor, frames)
    in_memory(predictor, moving_texture(6, 200, 120, seed=5))
    np.testing.assert_array_equal(in_memory(predictor, frames), alone)


def test_no_more_frames_are_kept_than_later_ones_read(predictor: EagerRoadPredictor) -> None:
    frames = moving_texture(LONG, 96, 54)
    state = predictor._state(*frames.shape[:3])
    for _ in predictor._tracked(state, frames, 0, grid_points(96, 54)):
        kept = len(state["output_dict_per_obj"][0]["non_cond_frame_outputs"])
        assert kept <= predictor.max_obj_ptrs_in_encoder - 1
    assert len(state["cached_features"]) == 1


def test_a_logit_that_is_no_number_is_told_with_its_frame() -> None:
    torch.manual_seed(0)
    broken = build_predictor(TINY, torch.device("cpu"))
    with torch.no_grad():
        broken.get_parameter("maskmem_tpos_enc").fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="NaN or infinite from frame 1 on"):
        in_memory(broken, moving_texture(4, 96, 54))  # type: ignore[arg-type]


def test_pictures_are_resized_as_the_package_resizes_its_own() -> None:
    frame = moving_texture(1, 300, 170)[0]
    pillow = np.asarray(Image.fromarray(frame).resize((128, 128)), dtype=np.float32)
    tensor = torch.from_numpy(frame)[None].permute(0, 3, 1, 2)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    found = network_pictures(tensor, 128)[0].permute(1, 2, 0).numpy() * deviation + mean
    assert np.abs(found * 255 - pillow).max() <= 1.001


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 38.96), ("small", 46.06), ("base_plus", 80.85), ("large", 224.45)]
)
def test_every_size_has_the_published_number_of_weights(size: str, millions: float) -> None:
    built = build_predictor(ARCHITECTURES[size], torch.device("cpu"))  # type: ignore[index]
    assert sum(weight.numel() for weight in built.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_hydra_is_not_needed() -> None:
    import sys

    build_predictor(TINY, torch.device("cpu"))
    assert "hydra" not in sys.modules
