"""The editing models in the asset graph, on tiny checkpoints of the real classes: every phase and file, read once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.evaluation.quality_steps import make_video_quality
from lanepaint_assets.platform import Platform
from lanepaint_assets_tests import torchvision_ops  # noqa: F401
from lanepaint_assets_tests.fixtures import Graph, TrapezoidSegmenter, assert_files_are_whole

PROMPT = "single_white_dashed"
PAINTED = (PROMPT, "repaint_as_measured")
MODELS = {"first_frame_painter": "flux_fill", "video_painter": "videopainter", "inspector": "qwen2_5_vl"}


class ModelsGraph(Graph):
    """The graph as settings build it, but for the road: tiny models below ROOT/checkpoints, one step each."""

    def platform(self, **changes: Any) -> Platform:
        chosen = dict.fromkeys(("flux_device", "cog_device", "qwen_device"), "cpu")
        steps = {"flux_steps": 1, "video_steps": 1, "refine_iterations": 2}
        self.last = Platform(
            self.settings(**{**MODELS, **chosen, **steps, **changes}), segmenter=TrapezoidSegmenter(self.journal)
        )
        return self.last

    def checkpoint(self, asset: str) -> Path:
        return self.root / "checkpoints" / CHECKPOINT_FOLDERS[asset]

    def put_checkpoints(self) -> None:
        from lanepaint_assets_tests.tiny_models.cogvideox import save_tiny_branch, save_tiny_cogvideox
        from lanepaint_assets_tests.tiny_models.flux_fill import save_tiny_flux
        from lanepaint_assets_tests.tiny_models.qwen import save_tiny_qwen

        save_tiny_flux(self.checkpoint("flux_fill_checkpoint"))
        save_tiny_cogvideox(self.checkpoint("cogvideox_checkpoint"), shards=True)
        save_tiny_branch(self.checkpoint("videopainter_branch_checkpoint"))
        save_tiny_qwen(self.checkpoint("qwen_vl_checkpoint"))

    def rows(self, asset: str) -> dict[str, Any]:
        (chunk,) = self.store.chunk_keys()
        manifest = self.store.manifest(asset, chunk)
        assert_files_are_whole(self.root, manifest)
        return {key: row for key, row in manifest.rows.items() if key != "_chunk"}


def digests(row: Any) -> set[str]:
    return {record.sha256 for record in row.files if record.name.endswith(".mp4")}


@pytest.fixture(autouse=True)
def one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture
def graph(tmp_path: Path, tiny_drive: Path) -> Iterator[ModelsGraph]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = ModelsGraph(tmp_path / "root", tiny_drive, instance)
        graph.put_checkpoints()
        yield graph


def test_first_frames_and_videos_are_made_by_models_that_are_read_once(graph: ModelsGraph) -> None:
    (chunk,) = graph.register()
    assert graph.run("sam2_vp", chunk).success
    firsts, videos = graph.rows("first_frames"), graph.rows("edited_videos")
    assert {row.status for row in (*firsts.values(), *videos.values())} == {"ok"}
    assert {row.engine for row in firsts.values()} == {"flux_fill 1 + qwen2_5_vl 1"}
    assert {row.engine for row in videos.values()} == {"videopainter 2"}
    judged = [row for row in firsts.values() if row.facts["verdict"] is not None]
    assert len(judged) == 2
    for row in judged:
        # Untrained judges answer with nonsense, which is a FAIL and says so.
        refinement = json.loads(graph.store.read_bytes(row, "refinement.json"))
        assert refinement["stopped_because"] == "iterations_used_up"
        assert "malformed twice" in refinement["iterations"][0]["attributes"][0]["reason"]
        assert PROMPT.split("_")[1] in row.facts["caption"]
    for key, row in videos.items():
        assert (row.facts["changed_share"] > 0.01) == key.endswith(PAINTED)
    painter, video, inspector = graph.last.first_frame_painter, graph.last.video_painter, graph.last.inspector
    flux: Any = painter
    cog: Any = video
    qwen: Any = inspector
    parts = [flux._parts.words._encoder, flux._parts.clip, flux._parts.transformer, flux._parts.autoencoder]
    parts += [cog._parts.denoisers.transformer, cog._parts.denoisers.branch, cog._parts.autoencoder]
    assert [part.loads for part in parts] == [1] * len(parts)
    assert qwen.loads == 1
    # The driver is next on the device.
    assert flux._residency.resident == cog._residency.resident == ()

    # The inspector that refined the edits was Qwen, so another one verifies the videos: measured, without weights.
    quality = make_video_quality(graph.last, chunk, "run", ())
    assert not quality.failed
    for row in quality.rows:
        assert row.engine == ("measured 3" if row.key.endswith(PROMPT) else None)
    verified = [row for row in quality.rows if row.engine is not None]
    assert len(verified) == 2
    for row in verified:
        # Networks with random weights paint no lane.
        assert row.facts["verified"] is False
        assert "measured 3 finds the wanted style at 0 of 3 moments" in str(row.facts["verification"])
        assert "painter's own output" not in str(row.facts["notes"]), "such painters change everything: it was measured"
    assert qwen.loads == 1


def test_a_second_run_reads_no_model_and_another_branch_renews_videos_alone(graph: ModelsGraph) -> None:
    from lanepaint_assets_tests.tiny_models.cogvideox import save_tiny_branch

    (chunk,) = graph.register()
    graph.run("sam2_vp", chunk)
    firsts, videos = graph.rows("first_frames"), graph.rows("edited_videos")
    assert graph.run("vp_only", chunk).success
    assert graph.rows("edited_videos") == videos
    assert graph.last._engines.keys() == {"segmenter"}
    save_tiny_branch(graph.checkpoint("videopainter_branch_checkpoint"), seed=1)
    assert graph.run("vp_only", chunk).success
    assert graph.rows("first_frames") == firsts
    renewed = graph.rows("edited_videos")
    assert all(renewed[key].fingerprint != row.fingerprint for key, row in videos.items())
    # The new weights were really read: what a process remembers of a checkpoint is not its folder alone.
    painted = [key for key in videos if key.endswith(PAINTED)]
    assert all(digests(renewed[key]) != digests(videos[key]) for key in painted)


def test_a_half_copied_checkpoint_fails_the_step_and_names_the_file(graph: ModelsGraph) -> None:
    (chunk,) = graph.register()
    weights = next((graph.checkpoint("flux_fill_checkpoint") / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    result = graph.run("sam2_vp", chunk, raise_on_error=False)
    assert not result.success
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert (
        f"{weights.name}: this file of the checkpoint is damaged"
        in event.step_failure_data.user_failure_data.description
    )
    assert graph.rows("first_frames") == {}
