"""What a part of this benchmark is. The parts are in modules of their own, listed in `__main__`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchmarks.cpu_engines.drives import DriveClip
from benchmarks.harness import Outcome


class Part(Protocol):
    """Scores one engine: sees every clip of the sample drives, then the real data, then says its figures."""

    def see(self, clip: DriveClip) -> None:
        """Score one clip. Whatever is computed of it that other parts use too is kept by the clip."""
        ...

    def see_real(self, data: Path) -> None:
        """Score real pictures under `data`; a set that is not there is named as skipped in `conclude`."""
        ...

    def conclude(self, outcome: Outcome) -> None:
        """Add the figures, with targets and baselines, and what was skipped, with reasons."""
        ...


def missing(folder: Path) -> str:
    """The reason for a figure on a data set that is not here."""
    return f"no data at {folder}"
