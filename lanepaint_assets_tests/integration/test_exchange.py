"""Results leave as the spec's plain trees, and such trees enter as items that stand."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.commands.errors import CommandError, person_errors
from lanepaint_assets.commands.exchange import export, import_results
from lanepaint_assets.commands.launch import Session
from lanepaint_assets_tests.fixtures import Graph, assert_files_are_whole, statuses
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CHUNK = "chunk_0000"
PROMPT = "single_white_dashed"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def graph(tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance) -> Graph:
    made = Graph(tmp_path / "root", tiny_drive, instance)
    made.register()
    return made


@dataclass(frozen=True)
class Fresh:
    """Another root with nothing in it, and a session on it."""

    graph: Graph
    session: Session

    def import_from(self, folder: Path, chunk: str = CHUNK, prompt: str | None = None) -> str:
        said: list[str] = []
        import_results(self.session, folder, chunk, prompt, said.append)
        return "\n".join(said)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    with dg.DagsterInstance.ephemeral() as opened:
        graph = Graph(tmp_path / "fresh", tmp_path / "fresh" / "input" / "data", opened)
        platform = graph.platform()
        yield Fresh(graph, Session(platform.settings, platform, opened))


def _export(graph: Graph, folder: Path, run_id: str | None = None) -> str:
    platform = graph.platform()
    said: list[str] = []
    export(Session(platform.settings, platform, graph.instance), folder, [CHUNK], run_id, said.append)
    return "\n".join(said)


def test_an_export_is_the_specs_tree(graph: Graph, tmp_path: Path) -> None:
    graph.run("master_pipeline", CHUNK)
    out = tmp_path / "out"
    assert "items in" in _export(graph, out, "night")
    assert sorted(path.name for path in out.iterdir()) == ["alpamayo", "preprocessed_data_vp", "sam2", "vp"]
    clip_key = next(iter(graph.store.manifest("raw_clips", CHUNK).rows))
    video_id = clip_key.replace(".", "__")
    folder = out / "preprocessed_data_vp" / "night" / video_id
    assert (folder / "masks" / video_id / "all_masks.npz").is_file()
    assert (folder / "raw_videos" / video_id / f"{video_id}.0.mp4").is_file()
    with (folder / "meta.csv").open() as file:
        assert len(list(csv.reader(file))) == 2
    assert list((out / "vp" / "night" / PROMPT).rglob(f"{clip_key}_vp_edit_sample0_generated.mp4"))
    names = {path.name.removeprefix(f"{clip_key}_vp_edit_sample0_generated_") for path in (out / "alpamayo").rglob("*")}
    assert {"inference.json", "quality.json", "vis_data.npz", "overlay.mp4", "comparison.mp4", "report.html"} <= names
    exported = sum(path.is_file() for path in out.rglob("*"))
    listed = sum(
        len(row.files)
        for asset in (
            "road_masks",
            "vp_inputs",
            "edited_videos",
            "edited_trajectories",
            "video_quality",
            "trajectory_videos",
            "trajectory_reports",
        )
        for row in graph.store.manifest(asset, CHUNK).rows.values()
    )
    assert exported == listed, "no file may overwrite another one's"


def test_what_was_exported_enters_a_fresh_root_and_stands(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    _export(graph, tmp_path / "out")
    said = fresh.import_from(tmp_path / "out")
    assert said == f"chunk {CHUNK}: 2 clip(s) with masks and 6 edited video(s) are there now"
    store = fresh.graph.store
    for asset in ("raw_clips", "road_masks", "vp_inputs", "first_frames", "edited_videos"):
        manifest = store.manifest(asset, CHUNK)
        assert set(statuses(manifest).values()) == {"ok"}, asset
        assert_files_are_whole(fresh.graph.root, manifest)
    assert {row.engine for row in store.manifest("road_masks", CHUNK).rows.values()} == {"imported"}
    assert {row.engine for row in store.manifest("edited_videos", CHUNK).rows.values()} == {"imported"}

    imported = {key: row.folder for key, row in store.manifest("edited_videos", CHUNK).rows.items()}
    segmented = fresh.graph.run("sam2_only", CHUNK)
    painted = fresh.graph.run("vp_only", CHUNK)
    assert fresh.graph.journal.take() == []
    checks = [*segmented.get_asset_check_evaluations(), *painted.get_asset_check_evaluations()]
    # Nobody here judged the first frames, nor saw the videos before they were encoded.
    assert {(check.check_name, check.severity) for check in checks if not check.passed} == {
        ("verdict_rate", dg.AssetCheckSeverity.WARN),
        ("background_unchanged", dg.AssetCheckSeverity.WARN),
    }
    assert {key: row.folder for key, row in store.manifest("edited_videos", CHUNK).rows.items()} == imported

    fresh.graph.run("alpamayo_only", CHUNK)
    assert set(statuses(store.manifest("edited_trajectories", CHUNK)).values()) == {"ok"}
    quality = [row for row in store.manifest("video_quality", CHUNK).rows.values() if not row.facts["is_control"]]
    assert len(quality) == 2
    for row in quality:
        assert row.facts["verified"] is True
        assert "who refined it is not known" in str(row.facts["verification"])
        assert "the painter's output is not known" in str(row.facts["notes"])
    report = store.manifest("trajectory_reports", CHUNK).rows["_chunk"]
    text = store.read_bytes(report, "report.txt").decode()
    assert "painter imported (made elsewhere)" in text
    assert "painter imported (CPU)" not in text


def test_a_new_chunk_that_cannot_be_listed_is_refused_before_anything_is_copied(
    graph: Graph, fresh: Fresh, tmp_path: Path
) -> None:
    graph.run("sam2_only", CHUNK)
    _export(graph, tmp_path / "out")
    with pytest.raises(CommandError, match="like chunk_0001"):
        fresh.import_from(tmp_path / "out", chunk="nights")
    assert not (fresh.graph.root / "input").exists()
    assert "2 clip(s) with masks" in fresh.import_from(tmp_path / "out", chunk="chunk_0042")


def test_importing_twice_changes_nothing(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    _export(graph, tmp_path / "out")
    fresh.import_from(tmp_path / "out")
    before = fresh.graph.store.manifest("edited_videos", CHUNK)
    fresh.import_from(tmp_path / "out")
    assert fresh.graph.store.manifest("edited_videos", CHUNK) == before


def test_inputs_alone_can_be_imported_and_edited_here(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_only", CHUNK)
    _export(graph, tmp_path / "out")
    assert "2 clip(s) with masks and 0 edited" in fresh.import_from(tmp_path / "out")
    fresh.graph.run("vp_only", CHUNK)
    assert set(statuses(fresh.graph.store.manifest("edited_videos", CHUNK)).values()) == {"ok"}


def test_edited_videos_outside_prompt_folders_need_the_prompt_told(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    (video, *_) = (out / "vp" / CHUNK / PROMPT).rglob("*.mp4")
    flat = out / "vp" / "flat"
    flat.mkdir()
    shutil.move(video, flat / video.name)
    for other in (out / "vp" / CHUNK,):
        shutil.rmtree(other)
    with pytest.raises(CommandError, match="say which it is: --prompt KEY"):
        fresh.import_from(out)
    assert "1 edited video(s)" in fresh.import_from(out, prompt=PROMPT)


def test_an_export_never_mixes_with_one_that_is_there(graph: Graph, tmp_path: Path) -> None:
    graph.run("sam2_only", CHUNK)
    _export(graph, tmp_path / "out", "night")
    with pytest.raises(CommandError, match="exists already; choose another --run-id"):
        _export(graph, tmp_path / "out", "night")
    _export(graph, tmp_path / "out", "morning")


def test_nothing_to_export_is_said(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"nothing to export from {CHUNK}"):
        _export(graph, tmp_path / "out")


def test_a_run_id_with_a_path_in_it_is_refused(graph: Graph, tmp_path: Path) -> None:
    graph.run("sam2_only", CHUNK)
    with pytest.raises(CommandError, match="--run-id"):
        _export(graph, tmp_path / "out", "../../elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_without_the_tree_is_refused(fresh: Fresh, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match=r"preprocessed_data_vp/<run_id>/<video_id>/meta\.csv"):
        fresh.import_from(tmp_path / "empty")


def test_a_chunk_name_that_is_no_key_is_refused(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_only", CHUNK)
    _export(graph, tmp_path / "out")
    with pytest.raises(CommandError, match="cannot be a partition key"):
        fresh.import_from(tmp_path / "out", chunk="Chunk One")


@pytest.mark.parametrize("damage", ["masks_lost", "meta_broken", "video_lost"])
def test_a_damaged_tree_is_refused_in_words_for_people(graph: Graph, fresh: Fresh, tmp_path: Path, damage: str) -> None:
    graph.run("sam2_only", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    (folder, *_) = (out / "preprocessed_data_vp" / CHUNK).iterdir()
    if damage == "masks_lost":
        next(folder.rglob("all_masks.npz")).unlink()
    elif damage == "video_lost":
        next(folder.rglob("*.mp4")).unlink()
    else:
        (folder / "meta.csv").write_text("nonsense\n")
    with pytest.raises(person_errors()) as refused:
        fresh.import_from(out)
    assert folder.name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_video_of_another_name_is_refused_with_the_expected_form(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    write_numbered(out / "vp" / CHUNK / PROMPT / "holiday.mp4", count=5)
    with pytest.raises(CommandError, match=r"holiday.mp4.*_vp_edit_sample0_generated.mp4"):
        fresh.import_from(out)


def test_an_edited_video_of_another_size_is_refused(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    (video, *_) = (out / "vp" / CHUNK / PROMPT).rglob("*.mp4")
    write_numbered(video, count=5, size=(64, 48))
    with pytest.raises(CommandError, match="64x48, its clip 18 of 192x108"):
        fresh.import_from(out)


def test_an_edit_of_a_clip_that_the_chunk_does_not_hold_is_refused(graph: Graph, fresh: Fresh, tmp_path: Path) -> None:
    graph.run("sam2_vp", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    (video, *_) = (out / "vp" / CHUNK / PROMPT).rglob("*.mp4")
    video.rename(video.with_name(f"another_day.{video.name.split('.', 1)[1]}"))
    with pytest.raises(CommandError, match=r"another_day.*is an edit of clip 'another_day'.*does not hold"):
        fresh.import_from(out)
    assert not fresh.graph.store.manifest("edited_videos", CHUNK).rows


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (lambda frames: frames[:-1], r"has 18 frames, but timestamps.json beside it 17 entries"),
        (lambda frames: [{**f, "timestamp_us": f["timestamp_us"] * 4 // 5} for f in frames], "another frame grid"),
        (lambda frames: frames[::-1], r"timestamps.json is not a list"),
    ],
    ids=["shorter", "other_grid", "backwards"],
)
def test_an_edited_video_that_does_not_fit_its_sidecar_is_refused(
    graph: Graph, fresh: Fresh, tmp_path: Path, entries: Callable[[list[dict[str, int]]], object], message: str
) -> None:
    graph.run("sam2_vp", CHUNK)
    out = tmp_path / "out"
    _export(graph, out)
    (sidecar, *_) = (out / "vp" / CHUNK / PROMPT).rglob("timestamps.json")
    sidecar.write_text(json.dumps(entries(json.loads(sidecar.read_text()))))
    with pytest.raises(CommandError, match=message):
        fresh.import_from(out)
