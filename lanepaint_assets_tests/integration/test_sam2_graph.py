"""The `sam2` engine in the asset graph: what is reused, what a changed checkpoint renews, how failures are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch

from lanepaint_assets import engines
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.outputs import MASKS_FILE, read_masks
from lanepaint_assets.segmentation.sam2 import engine as sam2_engine
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES, build_predictor
from lanepaint_assets_tests.fixtures import FEW_FRAMES, Graph
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY

CHECKPOINT = "sam2.1_hiera_tiny.pt"


class Sam2Graph(Graph):
    """The graph as settings build it, with the tiny network under the name of SAM 2.1's smallest."""

    def platform(self, **changes: Any) -> Platform:
        return Platform(self.settings(segmenter="sam2", sam2_model="tiny", device="cpu", **changes))

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoints" / "sam2" / CHECKPOINT

    def put_checkpoint(self, seed: int) -> None:
        torch.manual_seed(seed)
        weights = build_predictor(TINY, torch.device("cpu")).state_dict()
        weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(5.0)
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": weights}, self.checkpoint)

    def rows(self, asset: str = "road_masks") -> dict[str, Any]:
        (chunk,) = self.store.chunk_keys()
        return dict(self.store.manifest(asset, chunk).rows)


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None:
    """Two clips at a time would fight for the cores."""


@pytest.fixture
def graph(tmp_path: Path, tiny_drive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sam2Graph]:
    named = replace(TINY, name=ARCHITECTURES["tiny"].name)
    monkeypatch.setattr(sam2_engine, "ARCHITECTURES", {**ARCHITECTURES, "tiny": named})
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sam2Graph(tmp_path / "root", tiny_drive, instance)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return event.step_failure_data.user_failure_data.description


def test_masks_and_the_videopainter_folder_are_made_and_named_after_the_engine(graph: Sam2Graph) -> None:
    graph.put_checkpoint(seed=0)
    (chunk,) = graph.register()
    assert graph.run("sam2_vp", chunk).success
    for asset in ("road_masks", "vp_inputs"):
        assert {row.status for row in graph.rows(asset).values()} == {"ok"}
    for row in graph.rows().values():
        assert row.engine == "sam2 1"
        with graph.store.local_file(row, MASKS_FILE) as path:
            masks = read_masks(path)
        assert masks.road.shape == (FEW_FRAMES, 108, 192)
        assert masks.road.any()


def test_only_a_changed_checkpoint_or_another_frame_limit_computes_masks_anew(graph: Sam2Graph) -> None:
    graph.put_checkpoint(seed=0)
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk)
    first = graph.rows()

    loaded = graph.checkpoint.stat().st_mtime
    graph.checkpoint.touch()
    assert graph.checkpoint.stat().st_mtime != loaded
    graph.run("sam2_only", chunk)
    assert graph.rows() == first

    graph.run("sam2_only", chunk, frame_limit=4)
    trimmed = graph.rows()
    assert {row.facts["frames"] for row in trimmed.values()} == {4}

    graph.put_checkpoint(seed=1)
    graph.run("sam2_only", chunk)
    renewed = graph.rows()
    assert all(renewed[key].fingerprint != first[key].fingerprint for key in first)

    graph.put_checkpoint(seed=0)
    graph.run("sam2_only", chunk)
    assert {key: row.fingerprint for key, row in graph.rows().items()} == {
        key: row.fingerprint for key, row in first.items()
    }


def test_a_missing_checkpoint_fails_the_step_with_the_file_to_copy(graph: Sam2Graph) -> None:
    (chunk,) = graph.register()
    result = graph.run("sam2_only", chunk, raise_on_error=False)
    assert not result.success
    assert CHECKPOINT in failure(result)
    assert "there is no such checkpoint; copy it there" in failure(result)
    assert graph.rows() == {}


def test_a_checkpoint_of_another_model_fails_the_step_once_and_no_clip(graph: Sam2Graph) -> None:
    graph.checkpoint.parent.mkdir(parents=True)
    torch.save({"model": {"weight": torch.zeros(3)}}, graph.checkpoint)
    (chunk,) = graph.register()
    result = graph.run("sam2_only", chunk, raise_on_error=False)
    assert not result.success
    assert "it holds another model than sam2.1_hiera_tiny" in failure(result)
    assert graph.rows() == {}


def test_a_network_that_sees_no_road_fails_its_clips_with_that_reason(graph: Sam2Graph) -> None:
    graph.put_checkpoint(seed=0)
    content = torch.load(graph.checkpoint, weights_only=True)
    content["model"]["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(-50.0)
    torch.save(content, graph.checkpoint)
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk, raise_on_error=False)
    rows = graph.rows()
    assert {row.status for row in rows.values()} == {"failed"}
    assert {row.reason for row in rows.values()} == {f"sam2 1 found no road in any of {FEW_FRAMES} frames"}


def test_a_run_that_reuses_everything_reads_no_weights(graph: Sam2Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.put_checkpoint(seed=0)
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk)
    built: list[object] = []
    monkeypatch.setattr(engines.EngineEntry, "build", lambda *_, **__: built.append(1))
    assert graph.run("sam2_only", chunk).success
    assert built == []
