"""The report of a chunk, made from rows of a real store: complete, with holes, and with nothing but failures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lanepaint_assets.clips.records import ChunkMembership, ClipFacts, ClipRef
from lanepaint_assets.evaluation.independent_verdict import IndependentVerdict
from lanepaint_assets.evaluation.outcomes import outcomes_of
from lanepaint_assets.evaluation.report_lineage import wording
from lanepaint_assets.evaluation.report_steps import METRICS_FILE, REPORT_FILE, TEXT_FILE, make_trajectory_reports
from lanepaint_assets.evaluation.video_quality import QualityRecord
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.previews import before_after
from lanepaint_assets.rendering.region_quality import RegionQuality
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.upstream import MissingUpstreamError
from lanepaint_assets_tests.unit.evaluation.drives import FRONT
from lanepaint_assets_tests.unit.evaluation.test_results import a_result

CHUNK = "chunk_0000"
CLIPS = ("clip-1", "clip-2")
EDIT, REPAINT = "double_yellow_solid", "repaint_as_measured"
GRID_US = tuple(range(0, 12_000_000, 125_000))
SHIFTS_M = {EDIT: 0.5, REPAINT: 0.1}
Files = Mapping[str, bytes | str]


class Chunk:
    """A store with two clips, to which a test adds the assets that it wants."""

    def __init__(self, folder: Path) -> None:
        source = folder / "source"
        source.mkdir()
        self.platform = Platform(Settings(root=str(folder / "root"), source=str(source), prompts=(EDIT, REPAINT)))
        refs = tuple(ClipRef(clip_id=clip, camera=FRONT, uri=clip, size=1, etag="1") for clip in CLIPS)
        self.platform.store.save_chunk(ChunkMembership(key=CHUNK, source=str(source), clips=refs))
        self.keys = [f"{ref.item_key}/{prompt}" for ref in refs for prompt in (EDIT, REPAINT)]
        self.refs = refs

    def add(
        self,
        asset: str,
        files: Mapping[str, Files | str],
        facts: Mapping[str, object] | None = None,
        engine: str | None = None,
    ) -> None:
        """Rows of an asset: files by item key, or the reason why there are none, which is no part of what is asked."""

        def compute(task: ItemTask, folder: Path) -> ItemOutput:
            content = files[task.key]
            if isinstance(content, str):
                raise ItemError(content)
            for name, data in content.items():
                (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
            return ItemOutput(facts=dict(facts or {}))  # type: ignore[arg-type]

        tasks = [
            ItemTask(
                key=key,
                fingerprint=fingerprint(
                    asset=asset,
                    item_key=key,
                    upstream={"content": "none" if isinstance(files[key], str) else repr(files[key])},
                    engine=engine,
                    params={},
                ),
                engine=engine,
            )
            for key in files
        ]
        run_items(self.platform.store, asset, CHUNK, tasks, compute, run_id="tonight")

    def add_clips(self, refused: Mapping[str, str] | None = None) -> None:
        facts = {
            ref.item_key: (refused or {}).get(ref.item_key) or {"clip.json": clip_facts(ref).model_dump_json()}
            for ref in self.refs
        }
        self.add("raw_clips", facts)
        self.add("road_masks", {ref.item_key: {"m": "m"} for ref in self.refs}, engine="classical 2")

    def add_trajectories(self, failed: Mapping[str, str] | None = None) -> None:
        files: dict[str, Files | str] = {}
        for key in self.keys:
            clip, _, prompt = key.partition(f".{FRONT}/")
            result = a_result(shift_m=SHIFTS_M[prompt])
            result = result.model_copy(update={"clip_id": clip, "prompt_key": prompt})
            files[key] = (failed or {}).get(key) or {f"{stem(key)}_inference.json": result.to_json()}
        self.add("edited_trajectories", files, engine="constant_velocity 1")

    def add_edits(self) -> None:
        attempt = {
            "caption": "road with double yellow solid lane markings",
            "picture": "iteration_00.png",
            "verdict": "FAIL",
            "score": 0.5,
            "attributes": [{"attribute": "count", "passed": False, "reason": "the lines are single"}],
            "revised_caption": "x",
        }
        record = {
            "passed": False,
            "chosen_iteration": 0,
            "stopped_because": "iterations_used_up",
            "iterations": [attempt],
        }
        files: dict[str, Files | str] = {}
        for key in self.keys:
            files[key] = {"refinement.json": json.dumps(record), "iteration_00.png": picture()}
        facts = {
            "verdict": "FAIL",
            "reasons": "count: the lines are single",
            "caption": attempt["caption"],
            "iterations": 1,
        }
        self.add("first_frames", files, facts, engine="procedural 3 + measured 3")
        sheet = before_after(np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160, 3), np.uint8))
        self.add("edited_videos", {key: {"before_after.png": sheet} for key in self.keys}, engine="procedural 3")

    def add_quality(self, lpips: float | None = None) -> None:
        region = RegionQuality(psnr_db=44.4, identical=False, ssim=0.987, lpips=lpips)
        record = QualityRecord(
            outside=region,
            inside=None,
            region_reason="nothing is inside",
            outside_raw=None,
            inside_raw=None,
            raw_reason="not kept",
            temporal_warp_error=0.001,
            temporal_warp_error_original=0.002,
            warp_reason=None,
            lpips_reason="no weights" if lpips is None else None,
            frames=96,
            ssim_frames=10,
            lpips_frames=0,
            warp_pairs=95,
            verdict=IndependentVerdict(
                inspector="qwen2_5_vl 1", agrees=False, found="single white", text="qwen2_5_vl 1 disagrees"
            ),
        )
        files = {key: {f"{stem(key)}_quality.json": record.to_json()} for key in self.keys}
        self.add("video_quality", files, engine="qwen2_5_vl 1")

    def add_videos(self) -> None:
        names = ("_comparison_preview.mp4", "_comparison.mp4", "_overlay.mp4")
        self.add("trajectory_videos", {key: {f"{stem(key)}{name}": b"mp4" for name in names} for key in self.keys})

    def report(self) -> dict[str, str]:
        """Make the report; its files as text."""
        row = make_trajectory_reports(self.platform, CHUNK, "tonight").manifest.rows[CHUNK_ROW]
        assert row.status == "ok", row.reason
        return {name: self.platform.store.read_bytes(row, name).decode() for name in (REPORT_FILE, TEXT_FILE)}

    def table(self) -> pd.DataFrame:
        row = self.platform.store.manifest("trajectory_reports", CHUNK).rows[CHUNK_ROW]
        return pd.read_parquet(io.BytesIO(self.platform.store.read_bytes(row, METRICS_FILE)))


def stem(key: str) -> str:
    return f"{key.partition('/')[0]}_vp_edit_sample0_generated"


def picture() -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((90, 160, 3), np.uint8))[1].tobytes())


def clip_facts(ref: ClipRef) -> ClipFacts:
    return ClipFacts(
        ref=ref,
        fps=30.0,
        frame_count=360,
        duration_s=12.0,
        width=160,
        height=90,
        codec="h264",
        pixel_format="yuv420p",
        color_space="bt709",
        color_range="limited",
        rotation_deg=0,
        variable_frame_rate=False,
        has_egomotion=True,
        has_calibration=True,
        grid_name="spec_8fps",
        grid_rate_hz=8.0,
        grid_timestamps_us=GRID_US,
        grid_source_index=tuple(range(len(GRID_US))),
        grid_source_timestamps_us=GRID_US,
    )


@pytest.fixture
def chunk(tmp_path: Path) -> Chunk:
    return Chunk(tmp_path)


def test_a_complete_chunk_shows_all_that_earlier_assets_found(chunk: Chunk) -> None:
    chunk.add_clips()
    for add in (chunk.add_trajectories, chunk.add_edits, chunk.add_quality, chunk.add_videos):
        add()
    page = chunk.report()[REPORT_FILE]
    for part in ("44.4", "0.987", "no LPIPS: no weights", "qwen2_5_vl 1 disagrees", "single white"):
        assert part in page
    for part in ("the lines are single", "none passed", "iterations used up", "data:image/webp", "data:video/mp4"):
        assert part in page
    for part in ("segmenter classical 2", "painter procedural 3", "inspector measured 3", "driver constant_velocity 1"):
        assert part in page
    # 0.5 m less the 0.1 m of the painter's own repainting.
    assert "+0.40" in page
    assert "edited_videos" in page
    assert "null, same seeds" in page


def test_the_table_beside_it_is_what_the_leaderboard_reads(chunk: Chunk) -> None:
    chunk.add_clips()
    for add in (chunk.add_trajectories, chunk.add_edits, chunk.add_quality, chunk.add_videos):
        add()
    chunk.report()
    rows = {(row.clip_id, row.prompt): row for row in outcomes_of(chunk.table())}
    assert set(rows) == {(clip, prompt) for clip in CLIPS for prompt in (EDIT, REPAINT)}
    row = rows["clip-1", EDIT]
    assert row.lateral_shift_3s_m == pytest.approx(0.5, abs=0.05)
    assert row.judge_passed is False
    assert row.verification == "qwen2_5_vl 1 disagrees"
    assert row.painter == "procedural 3"
    assert not row.is_outdated


def test_without_videos_and_quality_a_report_is_written_and_says_what_is_not_there(chunk: Chunk) -> None:
    chunk.add_clips()
    chunk.add_trajectories()
    files = chunk.report()
    for text in (files[REPORT_FILE], " ".join(files[TEXT_FILE].split())):
        assert "its videos are not made yet" in text
        assert "its video quality is not made yet" in text
        assert "not independently verified" in text
    assert all(row.verification == "not independently verified" for row in outcomes_of(chunk.table()))


def test_failed_items_and_refused_clips_are_listed_with_their_reasons(chunk: Chunk) -> None:
    chunk.add_clips(refused={chunk.refs[1].item_key: "the file has no picture"})
    chunk.add_trajectories(failed={chunk.keys[0]: "the driver answered NaN"})
    page = chunk.report()[REPORT_FILE]
    assert "the driver answered NaN" in page
    assert "the file has no picture" in page
    # The control `roundtrip` is always called for, and is not made yet.
    assert "2 of 3 items failed" in page
    assert "not made yet" in page
    assert [row.prompt for row in outcomes_of(chunk.table())] == [REPAINT]


def test_a_chunk_in_which_everything_failed_has_a_report_too(chunk: Chunk) -> None:
    chunk.add_clips()
    chunk.add_trajectories(failed=dict.fromkeys(chunk.keys, "no driver"))
    page = chunk.report()[REPORT_FILE]
    assert "6 of 6 items failed" in page
    assert chunk.table().empty


def test_a_file_of_another_version_fails_its_item_and_not_the_report(chunk: Chunk) -> None:
    chunk.add_clips()
    old: dict[str, Files | str] = {key: {f"{stem(key)}_inference.json": '{"format_version": 0}'} for key in chunk.keys}
    chunk.add("edited_trajectories", old)
    assert "materialize edited_trajectories of the chunk again" in chunk.report()[REPORT_FILE]


def test_without_any_trajectory_the_command_that_makes_them_is_named(chunk: Chunk) -> None:
    chunk.add_clips()
    with pytest.raises(MissingUpstreamError, match="lanepaint run --stages 3"):
        make_trajectory_reports(chunk.platform, CHUNK, "tonight")


def test_the_report_stays_until_something_that_it_shows_changes(chunk: Chunk) -> None:
    chunk.add_clips()
    chunk.add_trajectories()

    def made() -> bool:
        return CHUNK_ROW in make_trajectory_reports(chunk.platform, CHUNK, "tonight").computed

    assert made()
    assert not made()
    for add in (chunk.add_edits, chunk.add_quality, chunk.add_videos):
        add()
        assert made(), add.__name__
        assert not made()


def test_a_report_is_known_by_what_a_reason_says_and_not_by_the_places_that_it_names(chunk: Chunk) -> None:
    def made(reason: str) -> tuple[str, str]:
        chunk.add_trajectories(failed=dict.fromkeys(chunk.keys, reason))
        page = chunk.report()[REPORT_FILE]
        return chunk.platform.store.manifest("trajectory_reports", CHUNK).rows[CHUNK_ROW].fingerprint, page

    chunk.add_clips()
    first, page = made("the worker of process 4711 ended (see /scratch/lanepaint-1x7/log): out of memory")
    assert "process 4711" in page
    assert made("the worker of process 12 ended (see /scratch/lanepaint-b/log): out of memory")[0] == first
    other, page = made("the worker of process 12 ended (see /scratch/lanepaint-b/log): no such device")
    assert other != first
    assert "no such device" in page


def test_the_wording_of_a_reason_has_neither_paths_nor_numbers_nor_names_of_files_and_hosts() -> None:
    reason = "OSError: [Errno 28] No space left on 'gpu-7.cluster.local' at 12:03: '/data/a b/x.mp4', C:\\x; try_again."
    assert wording(reason) == "OSError No space left on at"
    assert wording(None) == ""


def test_a_report_does_not_depend_on_where_its_source_can_be_seen(chunk: Chunk, tmp_path: Path) -> None:
    chunk.add_clips()
    chunk.add_trajectories()
    chunk.report()
    (tmp_path / "source").rmdir()
    assert make_trajectory_reports(chunk.platform, CHUNK, "tonight").reused == (CHUNK_ROW,)


def test_whose_clips_they_are_is_what_probing_found(chunk: Chunk) -> None:
    chunk.add_clips()
    facts = {
        ref.item_key: {"clip.json": clip_facts(ref).model_copy(update={"source_kind": kind}).model_dump_json()}
        for ref, kind in zip(chunk.refs, ("sample_drive", "physical_ai_av"), strict=True)
    }
    chunk.add("raw_clips", facts)
    chunk.add_trajectories()
    page = chunk.report()[REPORT_FILE]
    for part in ("LanePaint&#39;s sample drive", "NVIDIA Autonomous Vehicle Dataset License Agreement"):
        assert part in page
    assert "files of your own" not in page
    assert {row.clip_id: row.source_kind for row in outcomes_of(chunk.table())} == {
        "clip-1": "sample_drive",
        "clip-2": "physical_ai_av",
    }


def test_what_judged_and_measured_is_named_with_its_terms_and_did_not_make_the_video(chunk: Chunk) -> None:
    chunk.add_clips()
    for add in (chunk.add_trajectories, chunk.add_edits):
        add()
    chunk.add_quality(lpips=0.12)
    files = chunk.report()
    for part in ("verifying inspector qwen2_5_vl 1", "LPIPS with AlexNet", "Qwen2.5-VL-7B-Instruct", "BSD-2-Clause"):
        assert part in files[REPORT_FILE]
    assert "verifying inspector qwen2_5_vl 1" in files[TEXT_FILE]
    assert {row.judges for row in outcomes_of(chunk.table())} == {"qwen2_5_vl, lpips"}
    assert all("qwen" not in row.engines for row in outcomes_of(chunk.table()))


def test_a_folder_of_a_persons_own_is_theirs_to_know(chunk: Chunk) -> None:
    chunk.add_clips()
    chunk.add_trajectories()
    page = chunk.report()[REPORT_FILE]
    assert "Clips: files of your own" in page
    assert "SAM 2.1" not in page
