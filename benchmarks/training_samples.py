"""How fast training samples are made on the CPU, and how many of their attributes are right, on sample drives.

A sample is right in an attribute where its caption says what the drive's truth says of the ego lane's boundaries, as
`measured` sums them up: the value that all have, `mixed` where colours or patterns differ; where counts differ, for
which captions have no word, either one. Boundaries count as in part `inspector` of `cpu_engines`: where the pictures
that were looked at show enough of them. `unknown` is not right.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.cpu_engines.drives import SEEDS, DriveClip, DriveList, drive_clips
from benchmarks.cpu_engines.inspector import true_lines
from benchmarks.harness import Outcome, alternating_seconds, command_line, report
from lanepaint_assets.chunk_reader import ChunkReader
from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.lanes.attributes import Color, LaneStyle, Pattern
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import load_settings
from lanepaint_assets.training.frame_choice import EveryInterval, frames_by_time, parse_frame_choice
from lanepaint_assets.training.sample_steps import make_training_samples
from lanepaint_assets.training.samples import TrainingSample, clip_samples

NAME = "training_samples"
CHUNK = "chunk_0000"

Inspection = Literal["accumulated", "single"]
TARGET_RATE: dict[Inspection, float] = {"single": 8.0, "accumulated": 3.0}
TARGET_RIGHT = 0.98
# Whether a line is hidden throughout changes slowly: half a second at 8 Hz. As far as the inspector looks around.
VISIBILITY_STEP, VISIBILITY_REACH = 4, 60


class Drive:
    """One rendered drive as a chunk; every `platform` has a new store, so that nothing is reused."""

    def __init__(self, place: Path, scratch: Path) -> None:
        self._place = place
        self._scratch = scratch

    def platform(self, inspection: Inspection) -> Platform:
        """A platform with probed clips and no samples."""
        settings = load_settings(
            root=tempfile.mkdtemp(prefix="store-", dir=self._scratch),
            source=str(self._place),
            engines="cpu",
            training_inspection=inspection,
        )
        platform = Platform(settings, progress=lambda *_: None)
        clips = next(open_source(str(self._place), settings.cameras).chunks()).clips
        platform.store.save_chunk(ChunkMembership(key=CHUNK, source=str(self._place), clips=clips))
        make_raw_clips(platform, CHUNK, NAME)
        return platform


def make(platform: Platform) -> list[TrainingSample]:
    """The chunk's samples, through the step."""
    outcome = make_training_samples(platform, CHUNK, NAME)
    assert not outcome.failed, [row.reason for row in outcome.rows]
    return [sample for row in outcome.rows for sample in clip_samples(platform.store, CHUNK, row)]


def make_plainly(platform: Platform, inspection: Inspection, folder: Path) -> None:
    """The plain method: decode each clip, then one sample after the other."""
    reader = ChunkReader(platform, CHUNK, NAME)
    choice = parse_frame_choice(platform.settings.training_frames)
    assert isinstance(choice, EveryInterval)
    for key in reader.clip_keys:
        clip = reader.frames(key)
        for index in frames_by_time(choice, clip.timestamps_us).tolist():
            mask = reader.road_mask(clip.frames[index])
            if inspection == "single":
                only = slice(index, index + 1)
                view = RoadView(clip.frames[only], clip.taken_us[only], 0, reader.camera(key), road_masks=mask[None])
            else:
                geometry = reader.geometry(key)
                view = RoadView(clip.frames, clip.taken_us, index, geometry.camera, geometry.ego)
            platform.inspector.inspect(view)
            write_picture(folder / "image.png", clip.frames[index])
            write_picture(folder / "mask.png", mask.astype(np.uint8) * 255)


def measure_speed(outcome: Outcome, place: Path, scratch: Path, rounds: int) -> None:
    """Samples a second of one drive's clips, both ways of inspecting, against the plain method."""
    drive = Drive(place, scratch)
    for inspection, target in TARGET_RATE.items():
        # Compiles what is compiled at the first call.
        samples = len(make(drive.platform(inspection)))
        ready: dict[str, Iterator[Platform]] = {
            name: iter([drive.platform(inspection) for _ in range(rounds)]) for name in ("step", "plain")
        }
        seconds = alternating_seconds(
            {
                "step": lambda ready=ready: make(next(ready["step"])),  # type: ignore[misc]
                "plain": lambda ready=ready, inspection=inspection: make_plainly(  # type: ignore[misc]
                    next(ready["plain"]), inspection, scratch
                ),
            },
            rounds,
        )
        outcome.add(
            f"{inspection}: samples a second",
            samples / seconds["step"],
            "1/s",
            "higher",
            target=target,
            baseline=samples / seconds["plain"],
        )


@dataclass
class Score:
    """Attributes of captions against the truth."""

    samples: int = 0
    asked: int = 0
    right: int = 0
    stated: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, said: LaneStyle, true: list[LaneStyle]) -> None:
        colors, patterns = {style.color for style in true}, {style.pattern for style in true}
        right = (
            said.count in {style.count for style in true},
            said.color == (colors.pop() if len(colors) == 1 else Color.MIXED),
            said.pattern == (patterns.pop() if len(patterns) == 1 else Pattern.MIXED),
        )
        self.samples += 1
        self.asked += 3
        self.right += sum(right)
        self.stated += sum(word != "unknown" for word in (said.count, said.color, said.pattern))
        if not all(right):
            self.wrong.append(f"{name}: {said.key}, true {', '.join(style.key for style in true)}")


def measure_captions(outcome: Outcome, folder: Path, drives: DriveList, scratch: Path, seeds: int | None) -> None:
    """Attributes right in the samples of the drives' clips, both ways of inspecting."""
    scores: dict[Inspection, Score] = {"accumulated": Score(), "single": Score()}
    truths = {clip.facts.ref.item_key: clip for clip in drive_clips(folder, drives, Platform(load_settings()), seeds)}
    for seed in SEEDS[drives][:seeds]:
        drive = Drive(folder / f"seed_{seed}", scratch)
        for inspection, score in scores.items():
            for sample in make(drive.platform(inspection)):
                facts = sample.facts
                assert facts is not None
                true = _truth(truths[facts.item], facts.frame, inspection)
                if true:
                    score.add(f"{facts.item} frame {facts.frame}", sample.style, true)
    for inspection, score in scores.items():
        if not score.asked:
            outcome.skip(f"{inspection}: attributes right", "no sample shows a boundary")
            continue
        outcome.add(f"{inspection}: samples with a known truth", score.samples, "samples", "higher")
        outcome.add(
            f"{inspection}: attributes right",
            score.right / score.asked,
            "share",
            "higher",
            target=TARGET_RIGHT if inspection == "accumulated" else None,
        )
        outcome.add(f"{inspection}: attributes stated", score.stated / score.asked, "share", "higher")
        if drives == "development":
            for wrong in score.wrong:
                print(f"{inspection} {wrong}")


def _truth(clip: DriveClip, frame: int, inspection: Inspection) -> list[LaneStyle]:
    """The ego lane's boundaries that the pictures show."""
    grid = clip.facts.grid
    times = grid.source_timestamps_us
    near = range(frame % VISIBILITY_STEP, len(grid), VISIBILITY_STEP)
    shown = [frame] if inspection == "single" else [at for at in near if abs(at - frame) < VISIBILITY_REACH]
    camera = clip.source.camera(clip.facts.ref)
    assert camera is not None
    counted, _ = true_lines(
        clip.truth,
        camera.resized(clip.facts.width, clip.facts.height),
        int(times[frame]),
        {int(grid.source_index[at]): int(times[at]) for at in shown},
    )
    return [seen.style for seen in counted if seen.line.role != "other"]


def measure(options: argparse.Namespace) -> Outcome:
    """Render or reuse the drives, then measure."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as kept:
        scratch = Path(kept)
        folder: Path = options.folder or scratch / "drives"
        drives: DriveList = options.drives
        if not options.captions_only:
            next(drive_clips(folder, drives, Platform(load_settings()), 1))
            measure_speed(outcome, folder / f"seed_{SEEDS[drives][0]}", scratch, options.rounds)
        if not options.speed_only:
            measure_captions(outcome, folder, drives, scratch, options.seeds)
    return outcome


if __name__ == "__main__":
    parser = command_line(NAME, "Training samples a second of the CPU engines, and how many attributes are right.")
    parser.add_argument("--folder", type=Path, help="keep rendered drives here")
    parser.add_argument("--drives", choices=tuple(SEEDS), default="evaluation", help="default %(default)s")
    parser.add_argument("--seeds", type=int, help="use the first so many drives only")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--captions-only", action="store_true")
    only.add_argument("--speed-only", action="store_true")
    chosen = parser.parse_args()
    report(NAME, measure(chosen), chosen.json)
