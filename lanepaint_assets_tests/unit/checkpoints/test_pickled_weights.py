"""Pickled weights that would run code are refused by every reader of checkpoints, and the code is never run."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from upath import UPath

from lanepaint_assets_tests import torchvision_ops  # noqa: F401  # before transformers and diffusers

from diffusers import AutoencoderKL, FluxTransformer2DModel  # isort: skip
from transformers import T5EncoderModel  # isort: skip

from lanepaint_assets.checkpoints.completeness import check_complete
from lanepaint_assets.checkpoints.digest import list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.checkpoints.model_folder import local_model_folder
from lanepaint_assets.editing.engine import LoraWeights
from lanepaint_assets.editing.flux_fill.lora_adapters import use_lora
from lanepaint_assets.segmentation.sam2.architecture import build_predictor
from lanepaint_assets.segmentation.sam2.weights import load_checkpoint
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models.components import read_component
from lanepaint_assets.torch_models.text_encoder import encoder_identity
from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(autouse=True)
def never_run(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "ran").exists(), "code of a checkpoint was run"


class Payload:
    """Tells that it was unpickled, by a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self._folder / "ran"),)


def bare_pickle(file: Path, weights: dict[str, Any], payload: Payload) -> Path:
    """A pickle without an archive around it, as torch wrote until 2020."""
    file.write_bytes(pickle.dumps({"payload": payload, "model": {}}, protocol=2))
    return file


def archive(file: Path, weights: dict[str, Any], payload: Payload) -> Path:
    """As torch.save writes it, weights included."""
    torch.save({"payload": payload, **weights}, file)
    return file


FORMS = [bare_pickle, archive]


def newer_pickle(file: Path, payload: Payload) -> Path:
    """An archive whose pickle looks names up by an opcode that torch.save does not use."""
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(f"{file.stem}/data.pkl", pickle.dumps({"payload": payload}, protocol=4))
    return file


def look(file: Path) -> None:
    check_complete(list_checkpoint(UPath(file.parent), file.name), file.name)


@pytest.mark.parametrize("form", FORMS)
def test_the_payload_does_run_where_a_pickle_is_trusted(tmp_path: Path, form: Callable[..., Path]) -> None:
    form(tmp_path / "x.pt", {}, Payload(tmp_path))
    (pickle.loads if form is bare_pickle else torch_load_all)((tmp_path / "x.pt").read_bytes())
    assert (tmp_path / "ran").is_dir()
    (tmp_path / "ran").rmdir()


def torch_load_all(content: bytes) -> object:
    import io

    return torch.load(io.BytesIO(content), weights_only=False)


@pytest.mark.parametrize("form", FORMS)
def test_sam_2_is_not_read_and_its_file_not_taken(tmp_path: Path, form: Callable[..., Path]) -> None:
    predictor = build_predictor(TINY, torch.device("cpu"))
    file = form(tmp_path / "sam2.1_hiera_tiny.pt", {"model": predictor.state_dict()}, Payload(tmp_path))
    with pytest.raises(CheckpointError, match=r"sam2\.1_hiera_tiny\.pt: .*may run code|would run code when it is read"):
        look(file)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(predictor, file)


def test_names_that_are_looked_up_in_other_ways_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="would run code when it is read"):
        look(newer_pickle(tmp_path / "sam2.1_hiera_tiny.pt", Payload(tmp_path)))


@pytest.mark.parametrize("call", [torch.load, torch.hub.load, eval, os.system], ids=lambda call: call.__name__)
def test_no_function_is_harmless_because_it_is_torchs(tmp_path: Path, call: Callable[..., Any]) -> None:
    class Calling:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return call, ("x",)

    torch.save({"model": {}, "more": Calling()}, tmp_path / "sam2.1_hiera_tiny.pt")
    with pytest.raises(CheckpointError, match="would run code when it is read"):
        look(tmp_path / "sam2.1_hiera_tiny.pt")


def test_files_of_weights_in_all_formats_are_taken(tmp_path: Path) -> None:
    formats = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
    weights: dict[str, Any] = {str(each): torch.zeros(3, dtype=each) for each in formats}
    weights |= {"parameter": torch.nn.Parameter(torch.zeros(2)), "step": 3, "names": ["a"], "shape": torch.Size([1])}
    torch.save({"model": weights}, tmp_path / "sam2.1_hiera_tiny.pt")
    look(tmp_path / "sam2.1_hiera_tiny.pt")


@pytest.fixture(scope="module")
def saved_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_flux(tmp_path_factory.mktemp("flux") / "flux_inp")


PARTS = [
    ("transformer", FluxTransformer2DModel, "diffusion_pytorch_model"),
    ("vae", AutoencoderKL, "diffusion_pytorch_model"),
    ("text_encoder_2", T5EncoderModel, "pytorch_model"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("part", "kind", "name"), PARTS, ids=lambda value: str(value))
def test_a_part_with_pickled_weights_alone_is_neither_taken_nor_read(
    saved_flux: Path, tmp_path: Path, part: str, kind: Any, name: str, form: Callable[..., Path]
) -> None:
    folder = Path(shutil.copytree(saved_flux, tmp_path / "flux_inp"))
    (weights,) = (folder / part).glob("*.safetensors")
    form(folder / part / f"{name}.bin", load_file(weights), Payload(tmp_path))
    # Beside safetensors it is not read.
    local_model_folder(UPath(folder))
    read_component(kind, folder / part, torch.float32)
    weights.unlink()
    with pytest.raises(CheckpointError, match=rf"{part}/{name}\.bin: this model comes with pickled weights alone"):
        local_model_folder(UPath(folder))
    with pytest.raises(CheckpointError, match=f"not a readable {kind.__name__}"):
        read_component(kind, folder / part, torch.float32)


@pytest.mark.parametrize(
    ("part", "kind"), [("transformer", FluxTransformer2DModel), ("text_encoder_2", T5EncoderModel)]
)
def test_an_index_that_names_pickled_shards_is_neither_taken_nor_read(
    saved_flux: Path, tmp_path: Path, part: str, kind: Any
) -> None:
    folder = Path(shutil.copytree(saved_flux, tmp_path / "flux_inp"))
    (weights,) = (folder / part).glob("*.safetensors")
    tensors = load_file(weights)
    archive(folder / part / "shard.bin", tensors, Payload(tmp_path))
    weights.unlink()
    index = folder / part / f"{weights.name}.index.json"
    index.write_text('{"weight_map": {' + ", ".join(f'"{name}": "shard.bin"' for name in tensors) + "}}")
    with pytest.raises(CheckpointError, match=r"index\.json: it names shard\.bin, and only safetensors are read"):
        local_model_folder(UPath(folder))
    with pytest.raises(CheckpointError, match=f"not a readable {kind.__name__}"):
        read_component(kind, folder / part, torch.float32)
    if part == "text_encoder_2":
        with pytest.raises(CheckpointError, match="not a readable T5 encoder"):
            encoder_identity(folder / part)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["lora.bin", "lora.safetensors"])
def test_a_lora_is_read_as_safetensors_whatever_it_is_called(
    saved_flux: Path, tmp_path: Path, name: str, form: Callable[..., Path]
) -> None:
    transformer = read_component(FluxTransformer2DModel, saved_flux / "transformer", torch.float32)
    lora = form(tmp_path / name, {"transformer.proj_out.lora_A.weight": torch.zeros(2, 2)}, Payload(tmp_path))
    with pytest.raises(ItemError, match="not a readable LoRA of FLUX"):
        use_lora(transformer, LoraWeights(lora, 1.0))


def test_alpamayo_is_not_read_from_pickled_weights(tmp_path: Path) -> None:
    from lanepaint_assets.evaluation.alpamayo.repositories import local_checkpoint
    from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import save_checkpoint

    folder = save_checkpoint(tmp_path / "alpamayo")
    weights = folder / "Alpamayo-R1-10B" / "model.safetensors"
    archive(weights.with_name("pytorch_model.bin"), load_file(weights), Payload(tmp_path))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: this model comes with pickled weights alone"):
        local_checkpoint(UPath(folder), "r1", None)
