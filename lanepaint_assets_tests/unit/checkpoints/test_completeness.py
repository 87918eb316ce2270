"""Half-copied checkpoints are told by the file that is missing, unfinished or cut short, and whole ones pass."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from upath import UPath

from lanepaint_assets.checkpoints.completeness import check_complete
from lanepaint_assets.checkpoints.digest import list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline, write_torch_file, written


def check(folder: Path | UPath, file: str | None = None, **options: bool) -> None:
    check_complete(list_checkpoint(UPath(folder), file), file, **options)


def test_a_whole_pipeline_passes_on_every_file_system(pipeline: Path) -> None:
    check(pipeline)
    remote = UPath(f"memory://{uuid.uuid4().hex}/flux")
    for path in pipeline.rglob("*"):
        if path.is_file():
            (remote / path.relative_to(pipeline).as_posix()).write_bytes(path.read_bytes())
    check(remote)


FILES = sorted(
    path.relative_to("/x").as_posix()
    for path in (
        Path("/x/model_index.json"),
        Path("/x/transformer/config.json"),
        Path("/x/transformer/diffusion_pytorch_model.safetensors.index.json"),
        Path("/x/transformer/diffusion_pytorch_model-00001-of-00002.safetensors"),
        Path("/x/transformer/diffusion_pytorch_model-00002-of-00002.safetensors"),
        Path("/x/vae/config.json"),
        Path("/x/vae/diffusion_pytorch_model.safetensors"),
        Path("/x/scheduler/scheduler_config.json"),
        Path("/x/tokenizer/tokenizer_config.json"),
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrived=st.sets(st.sampled_from(FILES), max_size=len(FILES) - 1))
def test_a_copy_that_stopped_after_any_of_its_files_is_not_taken(
    tmp_path_factory: pytest.TempPathFactory, arrived: set[str]
) -> None:
    folder = write_pipeline(tmp_path_factory.mktemp("half") / "pipeline")
    for name in set(FILES) - arrived:
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        check(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_weights_cut_anywhere_are_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = write_pipeline(tmp_path_factory.mktemp("cut") / "pipeline")
    weights = folder / data.draw(st.sampled_from([name for name in FILES if name.endswith(".safetensors")]))
    content = weights.read_bytes()
    weights.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError, match=rf"{weights.name}: this file of the checkpoint is damaged or cut short"):
        check(folder)


@pytest.mark.parametrize("arrived", ["transformer", "vae", "scheduler", "tokenizer", "*"])
def test_a_pipeline_without_its_index_is_not_taken_for_a_model_without_configuration(
    pipeline: Path, arrived: str
) -> None:
    for path in [path for path in pipeline.rglob("*") if path.is_file()]:
        if path.parent == pipeline or not path.parent.match(arrived):
            path.unlink()
    # Released folders have more beside their components.
    (pipeline / "flux1-fill-dev.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"pipeline/model_index\.json: this file of the checkpoint is missing"):
        check(pipeline)


def test_a_model_without_configuration_is_no_pipeline(tmp_path: Path) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model-00001-of-00001.safetensors")
    written(tmp_path / "1_Pooling" / "config.json", {})
    with pytest.raises(CheckpointError, match=r"/config\.json: this file of the checkpoint is missing"):
        check(tmp_path)


def test_a_file_that_is_still_being_copied_is_named(pipeline: Path) -> None:
    (pipeline / "vae" / "diffusion_pytorch_model.safetensors.part").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.part: this file is still being copied; .* delete"):
        check(pipeline)


def test_a_shard_that_no_index_names_yet_is_missed_by_its_number(pipeline: Path) -> None:
    text = pipeline / "text_encoder"
    text.mkdir()
    save_file({"a": np.ones(2, np.float32)}, text / "model-00001-of-00003.safetensors")
    with pytest.raises(CheckpointError, match=r"text_encoder/model-00002-of-00003\.safetensors: .* is missing"):
        check(pipeline)


def test_an_index_and_shards_of_different_copies_are_told(pipeline: Path) -> None:
    shard = pipeline / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    save_file({"other": np.ones((4, 4), np.float32)}, shard)
    with pytest.raises(CheckpointError, match=r"it lacks b, which .*index\.json says is in it"):
        check(pipeline)


def test_a_head_longer_than_one_request_is_read_whole(tmp_path: Path) -> None:
    written(tmp_path / "config.json", {})
    tensors = {f"blocks.{number}.attention.to_query.weight": np.ones(1, np.float32) for number in range(2500)}
    save_file(tensors, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") > 1 << 17
    check(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="cut short"):
        check(tmp_path)


def test_an_index_that_is_no_index_is_named(pipeline: Path) -> None:
    index = pipeline / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": 3}))
    with pytest.raises(CheckpointError, match=r"index\.json: it names no weights"):
        check(pipeline)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_torch_file_cut_anywhere_is_not_taken(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = write_torch_file(tmp_path_factory.mktemp("torch") / "sam2.1_hiera_large.pt", bytes(range(256)) * 8)
    check(path.parent, path.name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"sam2\.1_hiera_large\.pt: this file of the checkpoint is"):
        check(path.parent, path.name)


def test_a_page_that_says_404_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "sam2.pt").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match="is no checkpoint of torch"):
        check(tmp_path, "sam2.pt")


def test_a_collection_needs_weights_and_may_have_models_without_them(tmp_path: Path) -> None:
    companion = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    written(tmp_path / "Qwen3-VL-8B-Instruct" / "model.safetensors.index.json", companion)
    with pytest.raises(CheckpointError, match="no weights"):
        check(tmp_path, is_collection=True)
    weights = tmp_path / "Alpamayo-R1-10B" / "model-00001-of-00001.safetensors"
    weights.parent.mkdir()
    save_file({"a": np.ones(2, np.float32)}, weights)
    check(tmp_path, is_collection=True)
    written(
        weights.parent / "model.safetensors.index.json",
        {"weight_map": {"a": weights.name, "b": "model-00002-of-00002.safetensors"}},
    )
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: .* is missing"):
        check(tmp_path, is_collection=True)
