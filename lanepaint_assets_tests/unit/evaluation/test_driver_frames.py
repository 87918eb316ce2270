"""Which source frame reaches the driver, read from the pictures themselves, through every stage between.

Each source frame carries its number as a bar code at the top, which painting leaves alone. What the driver is given is
compared with a table made from the files' own presentation times with fractions: no code of the platform takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.evaluation.driver import DriverInput
from lanepaint_assets_tests.unit.clips.mirror import CLOCK_START_US, TELE, WIDE, frame_times_us, write_mirror
from lanepaint_assets_tests.unit.clips.videos import numbers_of, write_numbered
from lanepaint_assets_tests.unit.evaluation.study import CHUNK, RecordingDriver, Study

SECONDS = 3
RATES_HZ: dict[ClipGridName, int] = {"spec_8fps": 8, "model_10hz": 10}


@dataclass(frozen=True)
class Timing:
    """Presentation times of a clip, in units of `tick_s`."""

    pts: tuple[int, ...]
    tick_s: Fraction

    @property
    def shown_s(self) -> list[Fraction]:
        """Time of each frame since the first one."""
        return [(tick - self.pts[0]) * self.tick_s for tick in self.pts]

    def source_frames(self, grid_hz: int) -> list[int]:
        """The four source frames up to t0: at each grid time the last one that has begun.

        A plain file has no ego motion: it is estimated between the first and the last frame that the grid shows, so t0
        is the last grid time inside that span.
        """
        shown = self.shown_s
        steps = sorted(after - before for before, after in pairwise(shown))
        middle = len(steps) // 2
        median = steps[middle] if len(steps) % 2 else (steps[middle - 1] + steps[middle]) / 2
        grid = [Fraction(k, grid_hz) for k in range(200) if Fraction(k, grid_hz) < shown[-1] + median]
        on_grid = [max(i for i, begins in enumerate(shown) if begins <= time) for time in grid]
        t0 = max(k for k, time in enumerate(grid) if time <= shown[on_grid[-1]])
        return on_grid[t0 - 3 : t0 + 1]


def constant(rate: Fraction | int, first: int = 0) -> Timing:
    return Timing(tuple(range(first, first + int(SECONDS * rate))), Fraction(1) / rate)


def variable() -> Timing:
    """Milliseconds: steps of 11 to 90 ms with a gap of 310 ms, near the end too; it starts 5 s late."""
    steps = np.random.default_rng(4).integers(11, 91, 58)
    steps[[20, 52]] = 310
    return Timing(tuple(int(tick) for tick in 5_000 + np.concatenate([[0], np.cumsum(steps)])), Fraction(1, 1000))


# Their widths tell clips apart in what the driver is given: every clip has one of its own.
TIMINGS = {
    64: constant(20),
    72: constant(24),
    80: constant(Fraction(30_000, 1001)),
    88: constant(30),
    96: constant(60),
    104: variable(),
    112: constant(25, first=90),
}


def shown(study: Study, driver: RecordingDriver) -> tuple[list[DriverInput], list[DriverInput]]:
    """What the driver was shown in the original arms and in the edited ones."""
    platform = study.platform(driver)
    study.make_edits(platform)
    assert set(study.original(platform).values()) == {"ok"}
    original = driver.moments.copy()
    driver.moments.clear()
    assert set(study.edited(platform).values()) == {"ok"}
    return original, driver.moments


def is_painted(moment: DriverInput) -> bool:
    """Whether the painter's white stripe is in the pictures; without paint all is grey below the bar code."""
    frames = moment.frames[WIDE]
    return bool(frames[:, -6:, frames.shape[2] // 2].mean() > 180)


@pytest.mark.parametrize("grid", ["spec_8fps", "model_10hz"])
def test_the_driver_sees_the_source_frames_of_the_grid_in_both_arms_at_every_frame_rate(
    tmp_path: Path, grid: ClipGridName
) -> None:
    folder = tmp_path / "source" / WIDE / CHUNK
    folder.mkdir(parents=True)
    for width, timing in TIMINGS.items():
        write_numbered(folder / f"clip_{width}.mp4", rate=30, pts=timing.pts, time_base=timing.tick_s, size=(width, 48))
    # As many clips are remembered from step to step as there are workers.
    study = Study(tmp_path / "root", tmp_path / "source", clip_grid=grid, workers=len(TIMINGS))
    original, edited = shown(study, RecordingDriver())
    for width, timing in TIMINGS.items():
        wanted = timing.source_frames(RATES_HZ[grid])
        before = [moment for moment in original if moment.frames[WIDE].shape[2] == width]
        after = [moment for moment in edited if moment.frames[WIDE].shape[2] == width]
        # The original arm and two null arms; the two control prompts, of which one repaints, and the edit.
        assert (len(before), len(after)) == (3, 3)
        for moment in before + after:
            assert numbers_of(moment.frames[WIDE]) == wanted, f"{width}: {timing.tick_s}"
            assert np.diff(moment.frame_timestamps_us).tolist() == [1_000_000 // RATES_HZ[grid]] * 3
        assert [is_painted(moment) for moment in before] == [False] * 3
        assert sorted(is_painted(moment) for moment in after) == [False, True, True]


@pytest.mark.parametrize("grid", ["spec_8fps", "model_10hz"])
def test_every_camera_shows_its_own_latest_frame_on_the_data_sets_clock(tmp_path: Path, grid: ClipGridName) -> None:
    """The mirror's clock starts at 7 s, its second camera fires 500 us after the edited one."""
    source = write_mirror(tmp_path / "mirror", {0: ["clip-a"]})
    study = Study(tmp_path / "root", source, clip_grid=grid, cameras=(WIDE,))
    original, edited = shown(study, RecordingDriver((WIDE, TELE)))
    step_us = 1_000_000 // RATES_HZ[grid]
    # 45 frames of 30 a second end at 1.5 s; recorded ego motion goes on behind them, but not for 6.4 s.
    last = (1_500_000 - 1) // step_us
    times = [CLOCK_START_US + step_us * k for k in range(last - 3, last + 1)]
    for moment in original + edited:
        assert moment.frame_timestamps_us.tolist() == times
        for camera in (WIDE, TELE):
            begins = frame_times_us(camera)
            assert numbers_of(moment.frames[camera]) == [int(np.count_nonzero(begins <= time)) - 1 for time in times]
    assert (len(original), len(edited)) == (3, 3)
    assert sorted(is_painted(moment) for moment in edited) == [False, True, True]
