"""Which frames of a clip become samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.settings import SettingsError, load_settings
from lanepaint_assets.training.frame_choice import (
    EveryInterval,
    ListedFrames,
    SceneSpread,
    frames_by_time,
    parse_frame_choice,
    spread_frames,
)


@given(
    gaps_us=st.lists(st.integers(1, 3_000_000), max_size=80),
    interval_us=st.integers(10_000, 5_000_000),
)
def test_samples_are_at_least_the_interval_apart_and_no_frame_is_left_out_without_need(
    gaps_us: list[int], interval_us: int
) -> None:
    times_us = np.cumsum([0, *gaps_us]).astype(np.int64)
    chosen = frames_by_time(EveryInterval(interval_us), times_us).tolist()
    assert chosen[0] == 0
    assert np.all(np.diff(times_us[chosen]) >= interval_us)
    for index in set(range(len(times_us))) - set(chosen):
        last = max(c for c in chosen if c < index)
        assert times_us[index] - times_us[last] < interval_us


def test_an_eight_hertz_clip_gives_a_sample_every_two_seconds() -> None:
    times_us = np.arange(50, dtype=np.int64) * 125_000
    assert frames_by_time(parse_frame_choice("every:2.0"), times_us).tolist() == [0, 16, 32, 48]  # type: ignore[arg-type]


def test_listed_frames_are_taken_in_order_and_those_behind_the_end_are_left_out() -> None:
    choice = parse_frame_choice("list:30,0,15,15,99")
    assert choice == ListedFrames((0, 15, 30, 99))
    assert frames_by_time(ListedFrames((0, 15, 30, 99)), np.arange(50, dtype=np.int64)).tolist() == [0, 15, 30]


EVERY = ("every", "every:", "every:0", "every:-1", "every:nan", "every:inf", "every:two")
OTHERS = ("", "each:2.0", "2.0", "list:", "list:-1", "list:1;2", "list:1.5", "scene:0", "scene:-2", "scene:six")


@pytest.mark.parametrize("text", [*EVERY, *OTHERS])
def test_a_wrong_choice_is_refused_with_the_three_forms_when_settings_are_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"every:SECONDS .* list:INDICES .* scene:FRAMES"):
        parse_frame_choice(text)
    if text:
        with pytest.raises(SettingsError, match=r"LANEPAINT_TRAINING_FRAMES=.* is not allowed: use every:SECONDS"):
            load_settings(training_frames=text)


def test_scene_spread_takes_one_frame_of_each_scene_before_a_second_one_of_any() -> None:
    scenes = (10, 90, 170, 250)
    frames = np.concatenate(
        [np.full((6, 36, 64, 3), level, np.uint8) + np.arange(6)[:, None, None, None] // 3 for level in scenes]
    )
    chosen = spread_frames(frames.astype(np.uint8), 4)
    assert {int(index) // 6 for index in chosen} == {0, 1, 2, 3}
    assert chosen[0] == 0
    assert np.all(np.diff(chosen) > 0)


@given(frames=st.integers(0, 12), count=st.integers(1, 15), seed=st.integers(0, 9))
def test_scene_spread_gives_so_many_different_frames_or_all_there_are(frames: int, count: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 3, (frames, 18, 32, 3)).astype(np.uint8)
    chosen = spread_frames(pictures, count)
    assert len(set(chosen.tolist())) == min(frames, count)


def test_the_forms_are_told_apart() -> None:
    assert parse_frame_choice(" scene:6 ") == SceneSpread(6)
    assert parse_frame_choice("every:0.5") == EveryInterval(500_000)


@given(
    steps_us=st.lists(st.integers(50_000, 200_000), min_size=1, max_size=80),
    interval_us=st.integers(100_000, 3_000_000),
    key_every=st.integers(1, 30),
)
def test_frames_that_are_cheap_to_decode_are_at_least_the_interval_and_at_most_an_eighth_more_apart(
    steps_us: list[int], interval_us: int, key_every: int
) -> None:
    times_us = np.cumsum([0, *steps_us]).astype(np.int64)
    work = np.arange(len(times_us), dtype=np.int64) % key_every
    chosen = frames_by_time(EveryInterval(interval_us), times_us, work)
    gaps_us = np.diff(times_us[chosen])
    assert np.all(gaps_us >= interval_us)
    assert np.all(gaps_us <= max(interval_us * 1.125, interval_us + max(steps_us)))


def test_a_frame_right_behind_a_key_frame_is_preferred_to_the_one_before_it() -> None:
    times_us = np.arange(40, dtype=np.int64) * 125_000
    work = (np.arange(40, dtype=np.int64) - 1) % 16
    assert frames_by_time(EveryInterval(2_000_000), times_us, work).tolist() == [0, 17, 33]
