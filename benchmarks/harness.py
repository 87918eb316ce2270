"""What every benchmark shares: figures with targets, fair timing, a table for people and JSON for machines.

Called by the modules beside it. What is measured, and on what data, is theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

Better = Literal["higher", "lower"]

# Versions that move figures: the compilers and codecs beneath the CPU engines.
REPORTED_PACKAGES = ("lanepaint", "numpy", "numba", "opencv-python-headless", "av", "scipy")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, unique within a benchmark.
        value: finite.
        unit: of value, target and baseline alike.
        better: which direction is better.
        target: what it should reach, where one was set.
        baseline: the plain method's value, measured in the same run.
    """

    name: str
    value: float
    unit: str
    better: Better
    target: float | None = None
    baseline: float | None = None

    def __post_init__(self) -> None:
        numbers = {"value": self.value, "target": self.target, "baseline": self.baseline}
        for what, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{what} of figure {self.name!r} is {number}; list it as skipped, with the reason")

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


@dataclass(frozen=True)
class Skipped:
    """A figure that could not be measured here, and why."""

    name: str
    reason: str


@dataclass
class Outcome:
    """What a benchmark found; filled as it goes."""

    figures: list[Figure] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        better: Better,
        *,
        target: float | None = None,
        baseline: float | None = None,
    ) -> None:
        """Record a figure.

        Raises:
            ValueError: a number is not finite, or the name is taken.
        """
        self._check_new(name)
        self.figures.append(Figure(name, value, unit, better, target, baseline))

    def skip(self, name: str, reason: str) -> None:
        """Record that a figure is left out.

        Raises:
            ValueError: the name is taken.
        """
        self._check_new(name)
        self.skipped.append(Skipped(name, reason))

    def _check_new(self, name: str) -> None:
        if name in {*(figure.name for figure in self.figures), *(entry.name for entry in self.skipped)}:
            raise ValueError(f"figure {name!r} is recorded twice")


@dataclass(frozen=True)
class Machine:
    """Where the figures were measured."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    python: str
    packages: Mapping[str, str]

    @classmethod
    def here(cls) -> Machine:
        """The machine that runs the program, as far as it tells."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(
            system=f"{platform.system()} {platform.machine()}",
            processor=_processor(),
            cores=usable,
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            python=platform.python_version(),
            packages={name: found for name in REPORTED_PACKAGES if (found := _version(name)) is not None},
        )


def alternating_seconds(methods: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall-clock seconds of each method, all of them once a round.

    Rounds rather than blocks: a machine that slows down, or another program that starts, then hits every method.

    Raises:
        ValueError: fewer than one round, or no method.
    """
    if rounds < 1 or not methods:
        raise ValueError(f"{rounds} rounds of {len(methods)} methods measure nothing")
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            started = perf_counter()
            method()
            seconds[name].append(perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


def as_json(benchmark: str, machine: Machine, outcome: Outcome) -> str:
    """The machine-readable form: benchmark, machine, figures, skipped."""
    record = {
        "benchmark": benchmark,
        "machine": asdict(machine),
        "figures": [asdict(figure) for figure in outcome.figures],
        "skipped": [asdict(entry) for entry in outcome.skipped],
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def as_table(benchmark: str, machine: Machine, outcome: Outcome) -> str:
    """The same for people: aligned columns, the target with its verdict, then what was skipped and why."""
    head = ("figure", "value", "unit", "target", "", "baseline")
    rows = [head, *(_row(figure) for figure in outcome.figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    right = {1, 3, 5}
    title = (
        f"{benchmark} on {machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}, Python {machine.python}"
    )
    lines = [title]
    for row in rows if outcome.figures else []:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines += [f"skipped {entry.name}: {entry.reason}" for entry in outcome.skipped]
    return "\n".join(lines)


def command_line(benchmark: str, description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has: `--json` and `--rounds`; a benchmark may add its own."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures for machines")
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over this many (default %(default)s)")
    return parser


def report(benchmark: str, outcome: Outcome, json_file: Path | None) -> None:
    """Print the table, and write the JSON where a file is named."""
    machine = Machine.here()
    print(as_table(benchmark, machine, outcome))
    if json_file is not None:
        json_file.write_text(as_json(benchmark, machine, outcome))


def _row(figure: Figure) -> Sequence[str]:
    target = "" if figure.target is None else f"{'>=' if figure.better == 'higher' else '<='} {figure.target:g}"
    verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
    baseline = "" if figure.baseline is None else f"{figure.baseline:.4g}"
    return (figure.name, f"{figure.value:.4g}", figure.unit, target, verdict, baseline)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's model name; Python itself knows it on few systems."""
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
