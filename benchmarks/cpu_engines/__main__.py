"""The command line: `python -m benchmarks.cpu_engines [--json FILE]`. What is measured is in the modules beside it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.cpu_engines.driver import DriverPart
from benchmarks.cpu_engines.drives import CLIPS_PER_SEED, SEEDS, DriveList, drive_clips
from benchmarks.cpu_engines.inspector import InspectorPart
from benchmarks.cpu_engines.judge import JudgePart
from benchmarks.cpu_engines.painter import PainterPart
from benchmarks.cpu_engines.painter_looks import PainterLooksPart
from benchmarks.cpu_engines.parts import Part
from benchmarks.cpu_engines.road import RoadPart
from benchmarks.harness import Outcome, command_line, report
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import load_settings

NAME = "cpu_engines"
PARTS: dict[str, Callable[[], Part]] = {
    "road": RoadPart,
    "inspector": InspectorPart,
    "judge": JudgePart,
    "painter": PainterPart,
    "looks": PainterLooksPart,
    "driver": DriverPart,
}
# Where the tests look for real data too.
REAL_DATA = Path(os.environ.get("LANEPAINT_TEST_DATA", "../shared/data"))


def measure(folder: Path, drives: DriveList, parts: list[str], limit: int | None, data: Path) -> Outcome:
    """Every chosen part on every clip, then on the real data.

    Args:
        folder: rendered drives are kept in it.
        drives: which list of seeds.
        parts: names from `PARTS`.
        limit: the first so many seeds only.
        data: real pictures; what is missing there is listed as skipped.
    """
    platform = Platform(load_settings(root=str(folder / "root"), engines="cpu"))
    chosen = [PARTS[name]() for name in parts]
    total = len(SEEDS[drives][:limit]) * CLIPS_PER_SEED
    for number, clip in enumerate(drive_clips(folder, drives, platform, limit), start=1):
        started = perf_counter()
        for part in chosen:
            part.see(clip)
        print(f"clip {number} of {total}, {clip.name}: {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    outcome = Outcome()
    for part in chosen:
        part.see_real(data)
        part.conclude(outcome)
    return outcome


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-benchmark-") as scratch:
        folder: Path = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report(NAME, measure(folder, options.drives, options.parts, options.seeds, options.data), options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Quality of the CPU engines on sample drives with known truth and on real pictures.")
    parser.add_argument("--folder", type=Path, help="keep the rendered drives here (60 MB a seed)")
    parser.add_argument(
        "--drives",
        choices=list(SEEDS),
        default="evaluation",
        help="development is for setting constants by, evaluation for figures (default %(default)s)",
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which engines")
    parser.add_argument("--seeds", type=int, help="the first so many seeds only")
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="real pictures (default %(default)s)")
    main(parser.parse_args())
