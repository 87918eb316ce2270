"""The check of a new checkpoint: sound ones pass wherever the model runs; others are refused for good or for now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lanepaint_assets.checkpoints.damaged_files import damaged_weight
from lanepaint_assets.checkpoints.smoke_check import Outcome, in_this_process
from lanepaint_assets.engines import engine_named
from lanepaint_assets.evaluation.alpamayo import engine
from lanepaint_assets.evaluation.alpamayo.transport import WorkerProcess
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import WEIGHTS, interpreter, moment, save_checkpoint

ALPAMAYO = engine_named("driver", "alpamayo")
CRASH, RAISE, NOT_FINITE = 250, 252, 253


@pytest.fixture(params=["this process", "an environment of its own"])
def python(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The interpreter that the setting names."""
    if request.param == "this process":
        request.getfixturevalue("stand_in_importable")
        yield None
    else:
        yield interpreter(tmp_path)


def check(root: Path, python: str | None, model: str = "r1") -> Outcome:
    settings = Settings(
        root=str(root), alpamayo_python=python, alpamayo_model=model, alpamayo_device="cpu", alpamayo_timeout_s=60
    )
    return in_this_process(settings, ALPAMAYO)


def put(root: Path, model: str = "r1", config: str = "{}") -> Path:
    """Returns the file of weights."""
    return save_checkpoint(root / "checkpoints" / "alpamayo", model, config) / WEIGHTS[model] / "model.safetensors"


@pytest.mark.parametrize("model", ["r1", "1.5"])
def test_a_sound_checkpoint_passes_and_leaves_no_process(
    tmp_path: Path, python: str | None, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: list[WorkerProcess] = []
    close = WorkerProcess.close
    monkeypatch.setattr(WorkerProcess, "close", lambda host: (hosts.append(host), close(host))[1])
    put(tmp_path / "root", model)
    outcome = check(tmp_path / "root", python, model)
    assert (outcome.reason, outcome.is_final) == (None, True)
    assert all(host._running is None for host in hosts)
    assert bool(hosts) == (python is not None)


def test_weights_that_are_nan_are_refused_by_name_for_good(tmp_path: Path, python: str | None) -> None:
    weights = put(tmp_path / "root")
    save_file({"speed_mps": torch.tensor(float("nan"), dtype=torch.bfloat16)}, weights)
    outcome = check(tmp_path / "root", python)
    assert outcome.reason == "model.safetensors: speed_mps is NaN or infinite; copy the checkpoint again"
    assert outcome.is_final


def test_numbers_that_overflow_with_sound_weights_are_refused_for_good(
    tmp_path: Path, python: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "smoke_moment", lambda: moment(NOT_FINITE))
    put(tmp_path / "root")
    outcome = check(tmp_path / "root", python)
    assert "positions that are not finite" in (outcome.reason or "")
    assert outcome.is_final


def test_weights_that_the_package_refuses_are_refused_for_good(tmp_path: Path, python: str | None) -> None:
    put(tmp_path / "root", config=json.dumps({"unloadable": "size mismatch for expert"}))
    outcome = check(tmp_path / "root", python)
    assert "cannot be loaded on cpu (RuntimeError: size mismatch for expert)" in (outcome.reason or "")
    assert outcome.is_final


def test_a_model_that_fails_otherwise_may_be_tried_again(
    tmp_path: Path, python: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "smoke_moment", lambda: moment(RAISE))
    put(tmp_path / "root")
    outcome = check(tmp_path / "root", python)
    assert "device-side assert triggered" in (outcome.reason or "")
    assert not outcome.is_final


def test_a_crash_of_its_own_process_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "smoke_moment", lambda: moment(CRASH))
    put(tmp_path / "root")
    outcome = check(tmp_path / "root", interpreter(tmp_path))
    assert "was ended by SIGSEGV" in (outcome.reason or "")
    assert not outcome.is_final


def test_a_missing_package_is_not_held_against_the_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "alpamayo_r1.py").touch()
    put(tmp_path / "root")
    outcome = check(tmp_path / "root", interpreter(tmp_path, path=tmp_path / "empty"))
    assert "cannot import alpamayo_r1" in (outcome.reason or "")
    assert not outcome.is_final


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_that_is_no_number_is_found_in_every_format(tmp_path: Path, dtype: torch.dtype, number: float) -> None:
    largest = torch.full((3, 5), torch.finfo(dtype).max, dtype=dtype)
    sound = {"a": largest, "b": -largest, "c": torch.arange(4), "d": torch.zeros(0, dtype=dtype)}
    save_file(sound, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert damaged_weight(tmp_path) is None
    broken = largest.clone()
    broken[2, 3] = number
    save_file({**sound, "b": broken}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert damaged_weight(tmp_path) == "model.safetensors: b"


def test_a_weight_is_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanepaint_assets.checkpoints.damaged_files._BLOCK", 4)
    weight = torch.zeros(10)
    weight[9] = float("nan")
    save_file({"a": torch.zeros(10), "weight": weight}, tmp_path / "model.safetensors")
    assert damaged_weight(tmp_path) == "model.safetensors: weight"
