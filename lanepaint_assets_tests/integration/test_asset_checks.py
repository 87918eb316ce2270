"""Asset checks on the graph itself: engines that go wrong, rows that were doctored, and what goes on all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.definitions import build
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.evaluation.driver import DriverInput, DriverOutput
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import AttributeVerdict, RoadView, Verdict
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.layout import manifest_path
from lanepaint_assets_tests.fixtures import (
    AgreeingInspector,
    Graph,
    JournallingDriver,
    StripePainter,
    TrapezoidSegmenter,
    materializations,
    statuses,
)

CHUNK = "chunk_0000"

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


class Flickering(TrapezoidSegmenter):
    """Loses the road's left side in every other frame."""

    def segment_video(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        road = super().segment_video(frames).copy()
        road[::2, :, : road.shape[2] // 2] = False
        return road


class Overpainting(StripePainter):
    """Brightens a row of the sky too."""

    def paint_video(
        self, scene: EditScene, first_frame: NDArray[np.uint8], instruction: PaintInstruction
    ) -> NDArray[np.uint8]:
        painted = super().paint_video(scene, first_frame, instruction).copy()
        painted[:, 2] = 255
        return painted


class NeverContent(AgreeingInspector):
    """Finds the colour wrong, always."""

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        return Verdict(False, 0.2, (AttributeVerdict("color", False, "it is grey"),), caption)


class Erratic(JournallingDriver):
    """Answers differently each time, and with NaN once it has been asked so many times."""

    def __init__(self, *arguments: Any, good_answers: int) -> None:
        super().__init__(*arguments)
        self._good_answers, self._asked = good_answers, 0

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        output = super().predict(moment, seeds)
        self._asked += 1
        shift = 0.01 * self._asked if self._asked <= self._good_answers else np.nan
        return DriverOutput(output.trajectories_m + shift, output.reasoning)


class DoctoredGraph(Graph):
    """The graph with engines that go wrong, each in its own way."""

    def platform(self, **changes: Any) -> Platform:
        painter = Overpainting(self.journal)
        return Platform(
            self.settings(**changes),
            segmenter=Flickering(self.journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=NeverContent(),
            # Two clips have three original arms each; after two edited ones it breaks down.
            driver=Erratic(self.journal, good_answers=8),
        )


def _checks(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check for check in result.get_asset_check_evaluations()
    }


def _failed(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckSeverity]:
    return {key: check.severity for key, check in _checks(result).items() if not check.passed}


def test_engines_that_go_wrong_fail_the_checks_of_what_they_did_and_stop_nothing(
    tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance
) -> None:
    graph = DoctoredGraph(
        tmp_path / "root", tiny_drive, instance, keep_masked_pixels=False, workers=1, refine_iterations=1
    )
    graph.register()
    result = graph.run("master_pipeline", CHUNK)
    assert result.success
    assert _failed(result) == {
        ("road_masks", "mask_stability"): WARN,
        ("first_frames", "verdict_rate"): WARN,
        # What is painted is kept as a person asked for, so its background is no fault of the platform.
        ("edited_videos", "background_unchanged"): WARN,
        ("video_quality", "background_unchanged"): ERROR,
        ("original_trajectories", "null_arm_zero"): ERROR,
        ("edited_trajectories", "trajectories_finite"): ERROR,
        ("edited_trajectories", "no_failed_items"): WARN,
        ("trajectory_videos", "no_failed_items"): WARN,
    }
    checks = _checks(result)
    assert all(check.partition == CHUNK for check in checks.values())
    finite = checks["edited_trajectories", "trajectories_finite"]
    assert (finite.metadata["judged_items"].value, finite.metadata["failed_items"].value) == (6, 4)
    assert "not finite" in str(finite.description)
    assert sorted(statuses(graph.store.manifest("edited_trajectories", CHUNK)).values()) == ["failed"] * 4 + ["ok"] * 2
    null_arm = checks["original_trajectories", "null_arm_zero"]
    assert null_arm.metadata["null_arm_ade_m_max"].value == pytest.approx(0.01 * 2**0.5, abs=1e-5)
    psnr: Any = checks["video_quality", "background_unchanged"].metadata["outside_psnr_db_min"].value
    assert psnr < 32


# Facts as the worst of engines and encoders would leave them.
DOCTORED: dict[str, dict[str, Any]] = {
    "road_masks": {"road_share_mean": 0.9, "temporal_iou_min": 0.1, "empty_frames": 2},
    "first_frames": {"verdict": "FAIL", "reasons": "color: it is grey"},
    "edited_videos": {"frames": 17, "background_changed_px": 4},
    "original_trajectories": {"farthest_m": 9e5, "null_same_seeds_ade_m": 0.2},
    "edited_trajectories": {"farthest_m": 9e5},
    "video_quality": {"outside_psnr_db": 20.0, "verified": False},
}


def test_reused_items_are_judged_too_without_computing_or_decoding(
    tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph(tmp_path / "root", tiny_drive, instance)
    graph.register()
    good = graph.run("master_pipeline", CHUNK)
    assert _failed(good) == {}
    own = [key for key in _checks(good) if key[1] not in ("no_failed_items", "complete")]
    assert {asset for asset, _ in own} == set(DOCTORED)

    for asset, facts in DOCTORED.items():
        path = graph.root / manifest_path(asset, CHUNK)
        manifest = json.loads(path.read_text())
        for row in manifest["rows"].values():
            row["facts"] |= facts
        path.write_text(json.dumps(manifest))
    graph.journal.take()
    monkeypatch.setattr("lanepaint_assets.chunk_reader.ChunkReader.frames", None)
    doctored = graph.run("master_pipeline", CHUNK)
    assert graph.journal.take() == []
    assert all(made.metadata["computed"].value == 0 for made in materializations(doctored).values())
    assert set(_failed(doctored)) == set(own)


def test_a_chunk_that_passes_does_not_hide_one_that_does_not(definitions: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    for asset in definitions.assets or []:
        assert isinstance(asset, dg.AssetsDefinition | dg.SourceAsset)
        if isinstance(asset, dg.AssetsDefinition):
            for check in asset.check_specs:
                assert check.partitions_def == specs[check.asset_key.to_user_string()].partitions_def, check.key
                assert not check.blocking, check.key


@pytest.fixture
def definitions(tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance) -> dg.Definitions:
    platform = Graph(tmp_path / "root", tiny_drive, instance).platform()
    return build(platform.settings, platform=platform)
