"""Training samples and their subsets by lane style (spec 7 and 8)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.lanes.attributes import UNKNOWN_STYLE, Color, Count, LaneStyle, Pattern
from lanepaint_assets.partitions import LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_items
from lanepaint_assets.store.upstream import MissingUpstreamError
from lanepaint_assets.training.steps import (
    SAMPLES_FILE,
    TrainingSample,
    as_csv,
    make_filtered_samples,
    make_training_samples,
    sample_indices,
)

CHUNK = "chunk_0001"
WHITE_SOLID = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)
MIXED = LaneStyle(Count.SINGLE, Color.MIXED, Pattern.SOLID)


@given(
    gaps_us=st.lists(st.integers(1, 3_000_000), max_size=80),
    interval_s=st.floats(0.01, 5.0, allow_nan=False),
)
def test_samples_are_at_least_the_interval_apart_and_no_frame_is_left_out_without_need(
    gaps_us: list[int], interval_s: float
) -> None:
    times_us = np.cumsum([0, *gaps_us]).astype(np.int64)
    chosen = sample_indices(times_us, interval_s)
    assert chosen[0] == 0
    assert np.all(np.diff(times_us[chosen]) >= interval_s * 1e6)
    for index in set(range(len(times_us))) - set(chosen):
        last = max(c for c in chosen if c < index)
        assert times_us[index] - times_us[last] < interval_s * 1e6


def test_an_eight_hertz_clip_gives_a_sample_every_two_seconds() -> None:
    assert sample_indices(np.arange(50, dtype=np.int64) * 125_000, 2.0) == [0, 16, 32, 48]


def test_train_csv_has_the_columns_of_the_spec_with_the_caption_twice() -> None:
    text = as_csv([TrainingSample("images/a.png", "masks/a.png", WHITE_SOLID.caption)])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {
        "image": "images/a.png",
        "mask": "masks/a.png",
        "prompt": "road with single white solid lane markings",
        "prompt_2": "road with single white solid lane markings",
    }


def _platform(name: str, captions: dict[str, list[str]]) -> Platform:
    """A chunk whose clips have samples of these captions already."""
    store = ArtifactStore(f"memory://training_{name}")
    platform = Platform(Settings(root="unused"), store=store)
    refs = tuple(ClipRef(clip_id=clip, camera="front", uri=f"{clip}.mp4", size=1, etag="1") for clip in captions)
    store.save_chunk(ChunkMembership(key=CHUNK, source="nowhere", clips=refs))
    tasks = [
        ItemTask(
            f"{clip}.front",
            fingerprint(
                asset="training_samples",
                item_key=f"{clip}.front",
                upstream={},
                engine=None,
                params={"captions": list(stated)},
            ),
        )
        for clip, stated in captions.items()
    ]

    def compute(task: ItemTask, folder: Path) -> ItemOutput:
        stated = captions[task.key.removesuffix(".front")]
        samples = [TrainingSample(f"images/{i}.png", f"masks/{i}.png", text) for i, text in enumerate(stated)]
        (folder / SAMPLES_FILE).write_text(as_csv(samples))
        return ItemOutput()

    run_items(store, "training_samples", CHUNK, tasks, compute, run_id="test")
    return platform


def test_a_subset_holds_exactly_the_samples_that_state_its_style() -> None:
    platform = _platform(
        "subset",
        {"one": [WHITE_SOLID.caption, UNKNOWN_STYLE.caption], "two": [WHITE_SOLID.caption, MIXED.caption]},
    )
    outcome = make_filtered_samples(platform, CHUNK, "run", LANE_STYLES)
    assert len(outcome.rows) == 8
    row = outcome.manifest.rows["single_white_solid"]
    assert row.facts == {"samples": 4, "kept": 2, "unclear": 1, "other_style": 1}
    kept = list(csv.DictReader(io.StringIO(platform.store.read_bytes(row, "train.csv").decode())))
    assert [line["image"].split("/")[0] for line in kept] == ["one.front", "two.front"]
    assert outcome.manifest.rows["double_yellow_solid"].facts["kept"] == 0


def test_subsets_stand_until_the_samples_change() -> None:
    platform = _platform("stand", {"one": [WHITE_SOLID.caption]})
    first = make_filtered_samples(platform, CHUNK, "run", LANE_STYLES)
    again = make_filtered_samples(platform, CHUNK, "run", LANE_STYLES)
    assert len(first.computed) == 8
    assert again.computed == ()
    assert again.data_version == first.data_version


def test_a_caption_that_is_not_normalized_fails_with_what_it_should_be() -> None:
    platform = _platform("caption", {"one": ["a lovely road"]})
    outcome = make_filtered_samples(platform, CHUNK, "run", LANE_STYLES)
    assert len(outcome.failed) == 8
    assert "'a lovely road' is not of the form" in (outcome.rows[0].reason or "")


def test_samples_need_probed_clips() -> None:
    store = ArtifactStore("memory://training_missing")
    store.save_chunk(ChunkMembership(key=CHUNK, source="nowhere", clips=()))
    platform = Platform(Settings(root="unused"), store=store)
    with pytest.raises(MissingUpstreamError, match=f"lanepaint run --stages 1 --chunks {CHUNK}"):
        make_training_samples(platform, CHUNK, "run")
