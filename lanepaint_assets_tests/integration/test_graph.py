"""The asset graph on a tiny drive, with fast engines: real source, real store, real Dagster instance."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.definitions import build
from lanepaint_assets.editing.loras import catalogue_version
from lanepaint_assets.evaluation.independent_verdict import CONTROL_PROMPT, NOT_VERIFIED
from lanepaint_assets.evaluation.quality_steps import QUALITY_SUFFIX, make_video_quality
from lanepaint_assets.evaluation.video_quality import QualityRecord
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets_tests.fixtures import (
    FEW_FRAMES,
    Graph,
    assert_files_are_whole,
    data_versions,
    materializations,
    statuses,
)
from lanepaint_assets_tests.unit.checkpoints.conftest import write_torch_file
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CHUNK = "chunk_0000"
ALL_ASSETS = [asset for assets in STAGE_ASSETS.values() for asset in assets]
ITEM_CHECKS = ("no_failed_items", "complete")
OWN_CHECKS = {
    "road_masks": ("mask_coverage", "mask_stability", "no_empty_masks"),
    "first_frames": ("verdict_rate",),
    "edited_videos": ("frames_equal_source", "background_unchanged"),
    "original_trajectories": ("trajectories_finite", "null_arm_zero"),
    "edited_trajectories": ("trajectories_finite",),
    "video_quality": ("background_unchanged", "independent_verdict_rate"),
}
EDIT_ASSETS = ("first_frames", "edited_videos", "edited_trajectories", "video_quality", "trajectory_videos")

MY_PROMPTS = """
prompts:
  - key: my_white
    instruction: {instruction}
    style: {{count: single, color: white, pattern: solid}}
  - key: my_yellow
    instruction: Paint one yellow dashed line.
    style: {{count: single, color: yellow, pattern: dashed}}
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def graph(tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance) -> Graph:
    made = Graph(tmp_path / "root", tiny_drive, instance)
    assert made.register() == [CHUNK]
    return made


def test_the_master_pipeline_makes_every_item_and_a_second_run_computes_nothing(graph: Graph) -> None:
    first = graph.run("master_pipeline", CHUNK)
    asked = graph.journal.take()
    assert sum(entry[0] == "segment" for entry in asked) == 2
    assert sum(entry[0] == "video" for entry in asked) == 4  # two clips, one prompt and repaint_as_measured
    for asset in ALL_ASSETS:
        manifest = graph.store.manifest(asset, CHUNK)
        assert set(statuses(manifest).values()) == {"ok"}, asset
        assert_files_are_whole(graph.root, manifest)
    assert len(graph.store.manifest("edited_videos", CHUNK).rows) == 6

    second = graph.run("master_pipeline", CHUNK)
    assert graph.journal.take() == []
    assert data_versions(second) == data_versions(first)
    assert set(data_versions(first)) == set(ALL_ASSETS)
    for made in materializations(second).values():
        assert made.metadata["computed"].value == 0


def test_a_materialization_carries_what_a_person_wants_to_see(graph: Graph) -> None:
    result = graph.run("master_pipeline", CHUNK)
    told = materializations(result)
    for asset in ALL_ASSETS:
        metadata = told[asset].metadata
        assert metadata["complete"].value is True, asset
        table = metadata["rows"].value
        assert [column.name for column in table.schema.columns], asset
        assert table.records, asset
        assert Path(metadata["manifest"].value).is_file()
        timings = metadata["timings"].value
        assert {column.name for column in timings.schema.columns} >= {"phase", "total_s", "mean_s"}
    for asset in ("road_masks", "first_frames", "edited_videos"):
        assert "(data:image/" in told[asset].metadata["preview"].value
    assert "classical 2" in str(told["road_masks"].metadata["engines"].value)
    assert "lane_follow 3" in str(told["edited_trajectories"].metadata["engines"].value)
    assert told["video_quality"].metadata["mean_outside_psnr_db"].value > 38
    assert Path(told["trajectory_reports"].metadata["report"].value).is_file()
    checks = {
        (check.asset_key.to_user_string(), check.check_name): check.passed
        for check in result.get_asset_check_evaluations()
    }
    assert set(checks) == {(asset, name) for asset in ALL_ASSETS for name in (*OWN_CHECKS.get(asset, ()), *ITEM_CHECKS)}
    assert [check for check, passed in checks.items() if not passed] == []


def test_a_run_narrowed_to_a_prompt_makes_only_that_prompt_and_says_that_it_is_incomplete(graph: Graph) -> None:
    prompts = ("single_white_dashed", "double_yellow_solid")
    graph.run("sam2_only", CHUNK)
    graph.journal.take()

    narrowed = graph.run("vp_only", CHUNK, narrowed_to=["double_yellow_solid"], prompts=prompts)
    assert {entry[2] for entry in graph.journal.take()} == {"road with double yellow solid lane markings"}
    for made in materializations(narrowed).values():
        assert made.metadata["complete"].value is False
    incomplete = [c for c in narrowed.get_asset_check_evaluations() if c.check_name == "complete"]
    assert len(incomplete) == 2
    assert not any(check.passed for check in incomplete)
    assert {check.severity for check in incomplete} == {dg.AssetCheckSeverity.WARN}
    made = {key: row.folder for key, row in graph.store.manifest("edited_videos", CHUNK).rows.items()}
    assert {key.rpartition("/")[2] for key in made} == {"double_yellow_solid"}

    full = graph.run("vp_only", CHUNK, prompts=prompts)
    assert all(entry[2] != "road with double yellow solid lane markings" for entry in graph.journal.take())
    assert all(made.metadata["complete"].value for made in materializations(full).values())
    rows = graph.store.manifest("edited_videos", CHUNK).rows
    assert len(rows) == 8
    assert {key: rows[key].folder for key in made} == made


def test_rows_outside_a_narrowed_run_stay_and_are_marked_where_they_no_longer_stand(graph: Graph) -> None:
    prompts = ("single_white_dashed", "double_yellow_solid")
    full = graph.run("sam2_vp", CHUNK, prompts=prompts)
    narrowed = graph.run(
        "vp_only", CHUNK, narrowed_to=["double_yellow_solid"], prompts=prompts, mask_dilation_px=4, refine_iterations=3
    )
    rows = graph.store.manifest("edited_videos", CHUNK).rows
    for key, row in rows.items():
        assert row.status == ("ok" if key.endswith("double_yellow_solid") else "outdated"), key
        assert row.files
    assert data_versions(narrowed)["edited_videos"] != data_versions(full)["edited_videos"]

    back = graph.run("vp_only", CHUNK, prompts=prompts)
    assert data_versions(back)["edited_videos"] == data_versions(full)["edited_videos"]
    assert set(statuses(graph.store.manifest("edited_videos", CHUNK)).values()) == {"ok"}


def test_what_is_made_from_an_outdated_item_is_outdated_until_a_full_run(graph: Graph) -> None:
    prompts = ("single_white_dashed", "double_yellow_solid")
    made_of_edits = ("first_frames", *EDIT_ASSETS[1:])
    graph.run("master_pipeline", CHUNK, prompts=prompts)
    # Of the refinement only first frames are made: what is below keeps the fingerprints of outdated ones.
    graph.run("vp_alpamayo", CHUNK, narrowed_to=["double_yellow_solid"], prompts=prompts, refine_iterations=3)
    for asset in made_of_edits:
        of_others = {
            key.rpartition("/")[2]: status
            for key, status in statuses(graph.store.manifest(asset, CHUNK)).items()
            if key.endswith(prompts)
        }
        assert of_others == {"single_white_dashed": "outdated", "double_yellow_solid": "ok"}, asset
    graph.journal.take()

    graph.run("vp_alpamayo", CHUNK, prompts=prompts)
    assert {entry[2] for entry in graph.journal.take() if entry[0] in ("first_frame", "video")} == {
        "road with double yellow solid lane markings"
    }
    for asset in made_of_edits:
        assert set(statuses(graph.store.manifest(asset, CHUNK)).values()) == {"ok"}, asset


def test_a_changed_prompt_text_recomputes_only_that_prompt(graph: Graph, tmp_path: Path) -> None:
    catalogue = tmp_path / "prompts.yaml"
    catalogue.write_text(MY_PROMPTS.format(instruction="Paint one white line."))
    chosen = {"prompt_file": str(catalogue), "prompts": ("my_white", "my_yellow")}
    graph.run("master_pipeline", CHUNK, **chosen)
    before = {asset: graph.store.manifest(asset, CHUNK).rows for asset in EDIT_ASSETS}
    graph.journal.take()

    catalogue.write_text(MY_PROMPTS.format(instruction="Paint a single continuous white line."))
    graph.run("master_pipeline", CHUNK, **chosen)
    asked = graph.journal.take()
    assert {entry[2] for entry in asked if entry[0] in ("first_frame", "video")} == {
        "road with single white solid lane markings"
    }
    assert sum(entry[0] == "video" for entry in asked) == 2
    assert not [entry for entry in asked if entry[0] == "segment"]
    for asset in EDIT_ASSETS:
        after = graph.store.manifest(asset, CHUNK).rows
        changed = {key for key in after if after[key].fingerprint != before[asset][key].fingerprint}
        assert {key.rpartition("/")[2] for key in changed} == {"my_white"}, asset


def test_a_prompt_that_is_taken_out_is_retired_and_comes_back_without_work(graph: Graph) -> None:
    both = ("single_white_dashed", "double_yellow_solid")
    graph.run("sam2_vp", CHUNK, prompts=both)
    graph.run("vp_only", CHUNK, prompts=("single_white_dashed",))
    rows = graph.store.manifest("edited_videos", CHUNK).rows
    assert {key.rpartition("/")[2] for key, row in rows.items() if row.status == "retired"} == {"double_yellow_solid"}
    graph.journal.take()
    graph.run("vp_only", CHUNK, prompts=both)
    assert graph.journal.take() == []
    assert set(statuses(graph.store.manifest("edited_videos", CHUNK)).values()) == {"ok"}


def _failure_texts(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    ]


def test_editing_without_masks_fails_with_the_chunk_and_the_command_that_makes_them(graph: Graph) -> None:
    result = graph.run("vp_only", CHUNK, raise_on_error=False)
    assert not result.success
    (text,) = _failure_texts(result)
    assert text == (
        f"chunk '{CHUNK}' has no vp_inputs, which first_frames are made from; "
        f"make them with: lanepaint run --stages 1 --chunks {CHUNK}"
    )


def test_a_prompt_that_the_catalogue_lacks_fails_with_those_it_has(graph: Graph) -> None:
    graph.run("sam2_only", CHUNK)
    result = graph.run("vp_only", CHUNK, narrowed_to=["pink_dots"], raise_on_error=False)
    (text,) = _failure_texts(result)
    assert "no prompt 'pink_dots' in the catalogue" in text
    assert "double_yellow_solid" in text


def test_another_driver_recomputes_trajectories_and_what_shows_them_and_nothing_else(graph: Graph) -> None:
    graph.run("master_pipeline", CHUNK)
    graph.journal.take()
    before = {asset: graph.store.manifest(asset, CHUNK).rows for asset in ALL_ASSETS}
    graph.run("master_pipeline", CHUNK, driver="constant_velocity")
    assert {entry[0] for entry in graph.journal.take()} == {"drive"}
    changed = {
        asset
        for asset in ALL_ASSETS
        if {k: r.fingerprint for k, r in graph.store.manifest(asset, CHUNK).rows.items()}
        != {k: r.fingerprint for k, r in before[asset].items()}
    }
    assert changed == {"original_trajectories", "edited_trajectories", "trajectory_videos", "trajectory_reports"}
    for row in graph.store.manifest("edited_trajectories", CHUNK).rows.values():
        assert row.engine == "constant_velocity 1"


def test_a_changed_clip_recomputes_that_clip_and_a_vanished_one_is_retired(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        write_numbered(folder / f"clip_{number}.mp4", count=30, rate=10)
    graph = Graph(tmp_path / "root", folder, instance)
    (chunk,) = graph.register()
    graph.run("sam2_only", chunk)
    before = graph.store.manifest("road_masks", chunk).rows
    graph.journal.take()

    write_numbered(folder / "clip_0.mp4", count=25, rate=10)
    (folder / "clip_2.mp4").unlink()
    graph.run("sam2_only", chunk)
    after = graph.store.manifest("road_masks", chunk).rows
    assert len(graph.journal.take()) == 1
    by_clip = {key.split("_")[1]: key for key in after}
    assert after[by_clip["0"]].fingerprint != before[by_clip["0"]].fingerprint
    assert after[by_clip["1"]] == before[by_clip["1"]]
    for asset in ("raw_clips", "road_masks", "vp_inputs"):
        row = graph.store.manifest(asset, chunk).rows[by_clip["2"]]
        assert row.status == "retired", asset
        assert row.files, asset


def test_a_partition_fails_only_past_its_share_of_failed_items(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_numbered(folder / "good.mp4", count=30, rate=10)
    (folder / "bad.mp4").write_bytes(b"not a video at all")
    graph = Graph(tmp_path / "root", folder, instance)
    (chunk,) = graph.register()
    assert graph.run("sam2_only", chunk).success
    refused = graph.run("sam2_only", chunk, raise_on_error=False, max_failed_share=0.4)
    assert not refused.success
    (text,) = _failure_texts(refused)
    assert "1 of 2 items of raw_clips" in text
    assert "bad" in text


def test_the_leaderboard_sums_up_every_chunk_with_a_report(graph: Graph) -> None:
    graph.run("master_pipeline", CHUNK)
    platform = graph.platform()
    result = dg.materialize(
        list(build(platform.settings, platform=platform).assets or []),
        selection=["prompt_leaderboard"],
        instance=graph.instance,
        resources={"platform": platform},
    )
    table = materializations(result)["prompt_leaderboard"].metadata["leaderboard"].value
    assert {record.data["prompt_key"] for record in table.records} >= {"single_white_dashed"}
    row = graph.store.manifest("prompt_leaderboard", "all").rows[CHUNK_ROW]
    frame = pd.read_parquet(io.BytesIO(graph.store.read_bytes(row, "leaderboard.parquet")))
    assert len(frame) == len(table.records)
    page = graph.store.read_bytes(row, "leaderboard.html").decode()
    assert "single_<wbr>white_<wbr>dashed" in page
    assert "These results come from CPU engines" in page
    assert "below 6 clips no test can reach 5 %" in graph.store.read_bytes(row, "leaderboard.txt").decode()
    assert json.loads(graph.store.read_bytes(row, "leaderboard.json"))["chunks"] == [CHUNK]


def test_edits_are_measured_against_their_clips_and_one_that_does_not_fit_its_clip_fails_alone(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.run("sam2_vp", CHUNK)
    platform = graph.platform()
    reader = ChunkReader(platform, CHUNK, "a test")
    outcome = make_video_quality(platform, CHUNK, "run", ())
    records = {}
    for row in outcome.rows:
        stem = Path(reader.edited_name(row.key.rpartition("/")[0])).stem
        records[row.key] = QualityRecord.from_json(platform.store.read_bytes(row, f"{stem}{QUALITY_SUFFIX}"))
    assert len(records) == 6
    for key, record in records.items():
        painted = not key.endswith("/roundtrip")
        assert record.outside is not None
        assert record.inside is not None
        # The codec's loss alone: nothing else touches what lies outside.
        assert record.outside.psnr_db is not None
        assert record.outside.psnr_db > 38
        assert record.inside.psnr_db is not None
        assert (record.inside.psnr_db < 33) == painted
        assert record.raw_reason == (
            "the painter changed nothing outside its region" if painted else "nothing was painted"
        )
        assert record.temporal_warp_error is not None
        assert record.temporal_warp_error_original is not None
        assert record.warp_pairs == FEW_FRAMES - 1
        assert record.verdict.text == (NOT_VERIFIED if key.endswith("/single_white_dashed") else CONTROL_PROMPT)
        assert (record.verdict.inspector, record.verdict.agrees, record.verdict.found) == (None, None, None)

    short, broken = (key for key in records if key.endswith("/single_white_dashed"))
    row = reader.manifest("edited_videos").rows[broken]
    frames, times_us = reader.edited_frames(short)
    write_video(graph.root / (row.folder or "") / reader.edited_name(broken.rpartition("/")[0]), frames[:10], 8.0)
    edited_frames = ChunkReader.edited_frames

    def ten_frames_of_one(chunk: ChunkReader, key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        # As of an imported edit that is shorter than its clip.
        return (frames[:10], times_us[:10]) if key == short else edited_frames(chunk, key)

    monkeypatch.setattr(ChunkReader, "edited_frames", ten_frames_of_one)
    again = make_video_quality(graph.platform(mask_dilation_px=6), CHUNK, "run", ())
    assert again.failed == (broken,)
    rows = {row.key: row for row in again.rows}
    assert "10" in str(rows[broken].reason)
    stem = Path(reader.edited_name(short.rpartition("/")[0])).stem
    record = QualityRecord.from_json(platform.store.read_bytes(rows[short], f"{stem}{QUALITY_SUFFIX}"))
    assert (record.frames, record.warp_pairs) == (10, 9)


def test_training_data_is_made_of_the_same_clips(graph: Graph) -> None:
    graph.run("training_data", CHUNK)
    samples = graph.store.manifest("training_samples", CHUNK)
    train = graph.store.read_bytes(samples.rows[CHUNK_ROW], "train.csv").decode().splitlines()
    assert train[0] == "image,mask,prompt,prompt_2"
    assert len(train) > 2
    folder = graph.root / "outputs" / "training" / CHUNK / "training_samples"
    image, mask, caption, same = train[1].split(",")
    assert (folder / image).is_file()
    assert (folder / mask).is_file()
    assert caption == same == "road with single white dashed lane markings"
    kept = {key: row.facts["kept"] for key, row in graph.store.manifest("filtered_samples", CHUNK).rows.items()}
    assert kept.pop("single_white_dashed") == len(train) - 1
    assert set(kept.values()) == {0}
    graph.journal.take()
    assert materializations(graph.run("training_data", CHUNK))["training_samples"].metadata["computed"].value == 0


def test_checkpoints_and_the_catalogue_are_observed(graph: Graph, tmp_path: Path) -> None:
    write_torch_file(graph.root / "checkpoints" / "sam2" / "sam2.1_hiera_large.pt")
    platform = graph.platform(checkpoint_stable_minutes=0, checkpoint_check="header")
    definitions = build(platform.settings, platform=platform)
    chosen = list(definitions.resolve_asset_graph().observable_asset_keys)
    observed = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=chosen, instance=graph.instance
    )
    versions = {
        event.asset_key.to_user_string(): event.asset_observation_data.asset_observation.data_version
        for event in observed.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    }
    assert versions["flux_fill_checkpoint"] == "absent"
    assert versions["sam2_checkpoint"] not in (None, "absent")
    assert versions["prompt_catalogue"] == catalogue_version(platform.catalogue, {})


def test_a_lora_training_without_samples_says_so(graph: Graph) -> None:
    platform = graph.platform()
    job = build(platform.settings, platform=platform).resolve_job_def("lora_training")
    result = job.execute_in_process(partition_key="double_yellow_solid", instance=graph.instance, raise_on_error=False)
    (text,) = _failure_texts(result)
    assert "no samples to train the LoRA of double_yellow_solid" in text


def test_the_same_step_can_make_the_folder_alone_from_masks_that_exist(graph: Graph) -> None:
    graph.run("sam2_only", CHUNK)
    graph.journal.take()
    before = graph.store.manifest("vp_inputs", CHUNK)
    shutil.rmtree(graph.root / "outputs" / "preprocessed_data_vp")
    platform = graph.platform()
    result = dg.materialize(
        list(build(platform.settings, platform=platform).assets or []),
        selection=["vp_inputs"],
        partition_key=CHUNK,
        instance=graph.instance,
        resources={"platform": platform},
    )
    assert result.success
    assert set(materializations(result)) == {"vp_inputs"}
    assert graph.journal.take() == []
    after = graph.store.manifest("vp_inputs", CHUNK)
    assert {key: row.fingerprint for key, row in after.rows.items()} == {
        key: row.fingerprint for key, row in before.rows.items()
    }
