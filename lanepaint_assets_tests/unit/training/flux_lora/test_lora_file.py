"""The file that a training leaves, used as anybody would: through diffusers' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from numpy.typing import NDArray
from safetensors.torch import load_file

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE
from lanepaint_assets.training.flux_lora.adapter import TARGETS, attach_lora
from lanepaint_assets.training.flux_lora.run import train_lora
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux, tiny_architecture
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import CAPTION, RECIPE, job, road, samples


@pytest.fixture(scope="module")
def trained(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    scratch = tmp_path_factory.mktemp("trained")
    store = ArtifactStore(str(scratch / "store"))
    told = job(checkpoint, store, scratch)
    train_lora(told, samples(), store)
    return told.out


@pytest.fixture
def pipeline(checkpoint: Path) -> Any:
    kind: Any = FluxFillPipeline
    pipeline = kind.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def painted(pipeline: Any) -> NDArray[np.float32]:
    picture, mask = road(3)
    with torch.no_grad():
        return np.asarray(
            pipeline(
                image=torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255,
                mask_image=torch.from_numpy(mask)[None, None].float(),
                prompt=CAPTION,
                height=80,
                width=96,
                num_inference_steps=2,
                generator=torch.Generator().manual_seed(0),
                max_sequence_length=48,
                output_type="np",
            ).images[0]
        )


def test_the_lora_loads_in_diffusers_changes_the_picture_and_at_scale_0_is_the_base_exactly(
    trained: Path, pipeline: Any
) -> None:
    base = painted(pipeline)
    pipeline.load_lora_weights(str(trained), adapter_name="lane")
    with_lora = painted(pipeline)
    assert np.abs(with_lora - base).max() > 0.01
    pipeline.set_adapters(["lane"], [0.0])
    assert np.array_equal(painted(pipeline), base)
    pipeline.set_adapters(["lane"], [0.5])
    half = painted(pipeline)
    assert not np.array_equal(half, base)
    assert not np.array_equal(half, with_lora)
    pipeline.unload_lora_weights()
    assert np.array_equal(painted(pipeline), base)


def test_its_alpha_comes_back_with_it(trained: Path, pipeline: Any) -> None:
    pipeline.load_lora_weights(str(trained), adapter_name="lane")
    settings = pipeline.transformer.peft_config["lane"]
    assert (settings.r, settings.lora_alpha) == (RECIPE.rank, RECIPE.alpha)
    layer = pipeline.transformer.transformer_blocks[0].attn.to_q
    assert layer.scaling["lane"] == RECIPE.alpha / RECIPE.rank


def test_it_adapts_every_projection_of_attention_and_feed_forward_networks(trained: Path) -> None:
    layers = {name.rsplit(".lora_", 1)[0] for name in load_file(trained / WEIGHTS_FILE)}
    double = {f"transformer.transformer_blocks.0.{target}" for target in TARGETS}
    single = {
        f"transformer.single_transformer_blocks.{block}.attn.{name}"
        for block in range(2)
        for name in ("to_q", "to_k", "to_v")
    }
    assert layers == double | single


def test_the_log_has_every_step_and_the_base_models_loss_first(trained: Path) -> None:
    log = LossLog.read(trained)
    assert [row.step for row in log.training] == list(range(1, 11))
    assert [row.step for row in log.validation] == [0, 4, 8, 10]
    assert log.validation[-1].loss < log.validation[0].loss
    for row in log.training:
        assert row.loss == pytest.approx(row.painted + RECIPE.background_weight * row.background)


def test_pictures_show_the_sample_its_mask_and_the_painting_side_by_side(trained: Path) -> None:
    names = sorted(path.name for path in (trained / "pictures").iterdir())
    assert names == [f"step_{step:06d}_00.png" for step in (0, 4, 8, 10)]
    first, last = (read_picture((trained / "pictures" / name).read_bytes()) for name in (names[0], names[-1]))
    assert first.shape == (64, 3 * 64 + 8, 3)
    assert np.array_equal(first[:, :136], last[:, :136])
    assert not np.array_equal(first[:, 136:], last[:, 136:])


def test_a_base_model_that_takes_no_mask_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_flux(tmp_path / "base")
    text_to_image: Any = FluxTransformer2DModel
    text_to_image(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
    ).save_pretrained(folder / "transformer")
    store = ArtifactStore(str(tmp_path / "store"))
    with pytest.raises(CheckpointError, match=r"not FLUX\.1 Fill"):
        train_lora(job(folder, store, tmp_path / "run"), samples(), store)


def test_a_fresh_lora_changes_nothing_and_starts_alike_everywhere() -> None:
    def first_weights() -> tuple[Any, list[torch.Tensor]]:
        torch.manual_seed(0)
        transformer = tiny_architecture().build_transformer()
        torch.manual_seed(torch.seed())
        return transformer, [weight.detach().clone() for weight in attach_lora(transformer, 4, 4, seed=5)]

    transformer, weights = first_weights()
    _, again = first_weights()
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))
    trainable = [name for name, weight in transformer.named_parameters() if weight.requires_grad]
    assert len(trainable) == len(weights)
    assert all("lora_" in name for name in trainable)
    behind = [weight for name, weight in transformer.named_parameters() if "lora_B" in name]
    assert all(not weight.any() for weight in behind)
