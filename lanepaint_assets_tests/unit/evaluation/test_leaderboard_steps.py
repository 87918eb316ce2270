from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.evaluation.leaderboard_steps import ALL_CHUNKS, make_prompt_leaderboard
from lanepaint_assets.evaluation.outcomes import PromptOutcome, outcomes_table
from lanepaint_assets.evaluation.report_steps import METRICS_FILE
from lanepaint_assets.evaluation.statistics import summarize
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, run_items
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets_tests.unit.evaluation.outcome_rows import CONTROL, EDIT, line_of, outcome


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(Settings(root=str(tmp_path), source=str(tmp_path)))


def rows_of(clips: range) -> list[PromptOutcome]:
    noise = np.random.default_rng(clips.start).normal(0.0, 0.3, (2, len(clips)))
    return [
        outcome(clip, prompt, float(shift + shifts[index]))
        for prompt, shift, shifts in ((EDIT, 0.4, noise[0]), (CONTROL, 0.0, noise[1]))
        for index, clip in enumerate(clips)
    ]


def report(platform: Platform, chunk: str, table: pd.DataFrame | None, reason: str = "the disk is full") -> None:
    """A registered chunk with a report; one that failed without a table."""
    clip = ClipRef(clip_id="clip", camera="front", uri=f"{platform.settings.source}/{chunk}.mp4", size=1, etag="1")
    store = platform.store
    store.save_chunk(ChunkMembership(key=chunk, source=str(platform.settings.source), clips=(clip,)))
    state = fingerprint(
        asset="test", item_key=chunk, upstream={}, engine=None, params={"rows": 0 if table is None else table.to_json()}
    )

    def write(task: ItemTask, folder: Path) -> ItemOutput:
        if table is None:
            raise ItemError(reason)
        table.to_parquet(folder / METRICS_FILE, index=False)
        return ItemOutput()

    run_items(store, "trajectory_reports", chunk, [ItemTask(CHUNK_ROW, state)], write, run_id="night")


def made(platform: Platform, name: str) -> bytes:
    make_prompt_leaderboard(platform, "night")
    return platform.store.read_bytes(platform.store.manifest("prompt_leaderboard", ALL_CHUNKS).rows[CHUNK_ROW], name)


def test_all_chunks_are_one_study(platform: Platform) -> None:
    first, second = rows_of(range(8)), rows_of(range(8, 20))
    report(platform, "chunk_0000", outcomes_table(first))
    report(platform, "chunk_0001", outcomes_table(second))
    expected = summarize([*first, *second])
    document = json.loads(made(platform, "leaderboard.json"))
    assert document["chunks"] == ["chunk_0000", "chunk_0001"]
    assert document["lines"] == json.loads(json.dumps([asdict(line) for line in expected.lines]))
    table = pd.read_parquet(io.BytesIO(made(platform, "leaderboard.parquet")))
    line = table[table.role == "primary"].iloc[0]
    assert (line.clips, line.verdict) == (20, "effect")
    assert line["clips_needed_0.2m"] == line_of(expected).clips_needed[1].clips
    page = made(platform, "leaderboard.html").decode()
    assert "Of 1 prompt: 1 changed the plan." in page
    assert "files of your own" in page


def test_chunks_without_a_readable_report_are_named_with_their_reasons(platform: Platform) -> None:
    report(platform, "chunk_0000", outcomes_table(rows_of(range(8))))
    report(platform, "chunk_0001", None)
    report(platform, "chunk_0002", outcomes_table(rows_of(range(3))).drop(columns="painter"))
    left_out = json.loads(made(platform, "leaderboard.json"))["left_out"]
    assert left_out == {
        "chunk_0001": "the disk is full",
        "chunk_0002": (
            "not a table of outcomes of this version: it lacks painter; materialize its `trajectory_reports` again"
        ),
    }
    assert "chunk_0002: not a table of outcomes" in " ".join(made(platform, "leaderboard.txt").decode().split())


def test_it_is_known_by_what_left_a_chunk_out_and_not_by_the_places_that_the_reason_names(platform: Platform) -> None:
    report(platform, "chunk_0000", outcomes_table(rows_of(range(8))))

    def made_of(reason: str) -> bool:
        report(platform, "chunk_0001", None, reason)
        return CHUNK_ROW in make_prompt_leaderboard(platform, "night").computed

    assert made_of("the disk of /data/7 is full")
    assert not made_of("the disk of /data/12 is full")
    assert made_of("the disk of /data/12 is gone")


def test_terms_are_those_of_what_the_edits_were_made_from_and_judged_by(platform: Platform) -> None:
    rows = [
        outcome(0, source_kind="physical_ai_av", judges="qwen2_5_vl, lpips", driver="alpamayo 1"),
        outcome(1, source_kind="sample_drive"),
    ]
    report(platform, "chunk_0000", outcomes_table(rows))
    page = made(platform, "leaderboard.html").decode()
    for part in ("PhysicalAI-Autonomous-Vehicles", "sample drive", "Alpamayo", "Qwen2.5-VL", "LPIPS with AlexNet"):
        assert part in page
    assert "files of your own" not in page


def test_a_leaderboard_without_any_report_says_so(platform: Platform) -> None:
    assert "No chunk has a report with edits yet" in made(platform, "leaderboard.html").decode()
    assert pd.read_parquet(io.BytesIO(made(platform, "leaderboard.parquet"))).empty


def test_it_is_made_again_exactly_if_a_report_changed(platform: Platform) -> None:
    report(platform, "chunk_0000", outcomes_table(rows_of(range(8))))
    assert make_prompt_leaderboard(platform, "night").computed == (CHUNK_ROW,)
    assert make_prompt_leaderboard(platform, "night").reused == (CHUNK_ROW,)
    report(platform, "chunk_0000", outcomes_table(rows_of(range(9))))
    assert make_prompt_leaderboard(platform, "night").computed == (CHUNK_ROW,)
