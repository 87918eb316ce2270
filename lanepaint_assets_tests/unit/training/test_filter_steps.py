"""Subsets of a chunk's samples by lane style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.partitions import LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, StepError, run_chunk_item, run_items
from lanepaint_assets.training.filter_steps import make_filtered_samples, removal_table, style_removals
from lanepaint_assets.training.samples import (
    SampleFacts,
    TrainingSample,
    clip_samples,
    facts_csv,
    row_samples,
    style_samples,
    train_csv,
)

CHUNK = "chunk_0001"
WHITE_SOLID = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID).caption
DOUBLE = LaneStyle(Count.DOUBLE, Color.WHITE, Pattern.SOLID).caption
MIXED = LaneStyle(Count.SINGLE, Color.MIXED, Pattern.SOLID).caption
UNKNOWN = UNKNOWN_STYLE.caption


def samples_of(captions: Sequence[str], task: ItemTask) -> list[TrainingSample]:
    return [
        TrainingSample(
            f"images/{at}.png",
            f"masks/{at}.png",
            text,
            text,
            SampleFacts(CHUNK, task.key, task.fingerprint, "x", at, at, 0.1 * (at + 1), 0.3, f"{at:016x}"),
        )
        for at, text in enumerate(captions)
    ]


def write(folder: Path, samples: Sequence[TrainingSample]) -> None:
    (folder / "train.csv").write_text(train_csv(samples))
    (folder / "facts.csv").write_text(facts_csv(samples))


def store_with(name: str, captions: Mapping[str, Sequence[str]]) -> ArtifactStore:
    """A chunk whose clips have samples of these captions; asked again, with others."""
    store = ArtifactStore(f"memory://filtered_{name}")
    refs = tuple(ClipRef(clip_id=clip, camera="front", uri=f"{clip}.mp4", size=1, etag="1") for clip in captions)
    store.save_chunk(ChunkMembership(key=CHUNK, source="nowhere", clips=refs))

    def made_of(key: str, what: Sequence[str]) -> str:
        return fingerprint(
            asset="training_samples", item_key=key, upstream={}, engine=None, params={"captions": list(what)}
        )

    stated = {f"{clip}.front": texts for clip, texts in captions.items()}

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        samples = samples_of(stated[task.key], task)
        for sample in samples:
            for file in (sample.image, sample.mask):
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(f"{task.key} {file}".encode())
        write(folder, samples)
        return ItemOutput()

    tasks = [ItemTask(key, made_of(key, texts)) for key, texts in stated.items()]
    outcome = run_items(store, "training_samples", CHUNK, tasks, compute, run_id="test", progress=lambda *_: None)

    def assemble(_: ItemTask, folder: Path) -> ItemOutput:
        write(folder, [sample for row in outcome.rows for sample in clip_samples(store, CHUNK, row)])
        return ItemOutput()

    table = made_of("_chunk", [row.fingerprint for row in outcome.rows])
    run_chunk_item(store, "training_samples", CHUNK, table, assemble, run_id="test")
    return store


def platform_on(store: ArtifactStore, **settings: Any) -> Platform:
    return Platform(Settings(root="unused", **settings), store=store)


def kept(store: ArtifactStore, **settings: Any) -> dict[str, list[str]]:
    """Prompts of the non-empty subsets."""
    outcome = make_filtered_samples(platform_on(store, **settings), CHUNK, "run", LANE_STYLES)
    subsets = {row.key: [sample.prompt for sample in row_samples(store, row)] for row in outcome.rows}
    return {key: prompts for key, prompts in subsets.items() if prompts}


def test_a_subset_holds_exactly_the_samples_that_state_its_style_and_the_table_says_why_others_are_out() -> None:
    store = store_with("subset", {"one": [WHITE_SOLID, UNKNOWN, DOUBLE], "two": [WHITE_SOLID, MIXED]})
    outcome = make_filtered_samples(platform_on(store), CHUNK, "run", LANE_STYLES)
    assert len(outcome.rows) == 8
    samples = row_samples(store, outcome.manifest.rows["single_white_solid"])
    assert [sample.image.split("/")[0] for sample in samples] == ["one.front", "two.front"]
    (row,) = [row for row in removal_table(outcome) if row["style"] == "single_white_solid"]
    told = {"samples": 5, "kept": 2, "clear_road": 1, "count": 1, "color": 1, "pattern": 0}
    assert {name: row[name] for name in told} == told


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [
        ({}, [WHITE_SOLID, WHITE_SOLID]),
        ({"filter_color": "any"}, [WHITE_SOLID, WHITE_SOLID, MIXED]),
        ({"filter_count": "any"}, [WHITE_SOLID, DOUBLE, WHITE_SOLID]),
        ({"filter_count": "any", "filter_color": "any"}, [WHITE_SOLID, DOUBLE, WHITE_SOLID, MIXED]),
        (
            dict.fromkeys(("filter_count", "filter_color", "filter_pattern"), "any"),
            [WHITE_SOLID, DOUBLE, WHITE_SOLID, MIXED],
        ),
        (
            dict.fromkeys(("filter_count", "filter_color", "filter_pattern"), "any")
            | {"filter_require_clear_road": False},
            [WHITE_SOLID, UNKNOWN, DOUBLE, WHITE_SOLID, MIXED],
        ),
        ({"filter_min_confidence": 0.15}, []),
        ({"filter_min_mask_share": 0.31}, []),
    ],
)
def test_settings_loosen_and_tighten_every_styles_rules(settings: dict[str, Any], prompts: list[str]) -> None:
    captions = {"one": [WHITE_SOLID, UNKNOWN, DOUBLE], "two": [WHITE_SOLID, MIXED]}
    store = store_with(f"rules_{sorted(settings.items())}", captions)
    assert kept(store, **settings).get("single_white_solid", []) == prompts


def test_training_reads_the_files_of_a_styles_samples() -> None:
    store = store_with("training", {"one": [DOUBLE, WHITE_SOLID], "two": [WHITE_SOLID]})
    kept(store)
    found = style_samples(platform_on(store), "single_white_solid")
    assert [sample.read_image(store) for sample in found] == [b"one.front images/1.png", b"two.front images/0.png"]
    assert [sample.read_mask(store) for sample in found] == [b"one.front masks/1.png", b"two.front masks/0.png"]
    assert [sample.prompt for sample in found] == [WHITE_SOLID] * 2
    assert {sample.fingerprint for sample in found} == {
        store.manifest("training_samples", CHUNK).rows[key].fingerprint for key in ("one.front", "two.front")
    }


def test_training_leaves_a_chunk_out_whose_samples_are_newer_than_its_subsets() -> None:
    kept(store_with("newer", {"one": [WHITE_SOLID]}))
    store = store_with("newer", {"one": [WHITE_SOLID, WHITE_SOLID]})
    assert style_samples(platform_on(store), "single_white_solid") == []
    kept(store)
    assert len(style_samples(platform_on(store), "single_white_solid")) == 2


def test_a_style_without_samples_says_which_rules_removed_them() -> None:
    store = store_with("none", {"one": [WHITE_SOLID, UNKNOWN]})
    kept(store)
    assert style_samples(platform_on(store), "double_yellow_dashed") == []
    assert style_removals(platform_on(store), "double_yellow_dashed") == (
        "of 2 samples, clear_road removed 1 (an attribute is unknown), count removed 1 (another count)"
    )


def test_subsets_stand_until_samples_or_rules_change() -> None:
    store = store_with("stand", {"one": [WHITE_SOLID]})
    first = make_filtered_samples(platform_on(store), CHUNK, "run", LANE_STYLES)
    again = make_filtered_samples(platform_on(store), CHUNK, "run", LANE_STYLES)
    assert (len(first.computed), again.computed) == (8, ())
    assert again.data_version == first.data_version
    stricter = make_filtered_samples(platform_on(store, filter_min_confidence=0.2), CHUNK, "run", LANE_STYLES)
    assert len(stricter.computed) == 8


def test_a_caption_that_is_not_normalized_is_removed_and_counted() -> None:
    store = store_with("caption", {"one": ["a lovely road", WHITE_SOLID]})
    assert kept(store) == {"single_white_solid": [WHITE_SOLID]}
    assert "caption removed 1 (the prompt is no normalized caption)" in style_removals(
        platform_on(store), "single_white_solid"
    )


def test_a_chunk_without_a_table_of_samples_is_refused() -> None:
    store = ArtifactStore("memory://filtered_no_table")
    store.save_chunk(ChunkMembership(key=CHUNK, source="nowhere", clips=()))
    task = ItemTask("one.front", "a" * 64)
    run_items(store, "training_samples", CHUNK, [task], lambda *_: ItemOutput(), run_id="test")
    with pytest.raises(StepError, match="the table of training_samples in chunk_0001 cannot be used: it is missing"):
        make_filtered_samples(platform_on(store), CHUNK, "run", LANE_STYLES)
