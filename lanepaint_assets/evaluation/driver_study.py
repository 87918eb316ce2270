"""What a reader must know of one driver's outcomes before any of their statistics: who took part, and what is mixed.

Called by `statistics.py`. Counts and sentences only; comparisons are not made here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lanepaint_assets.evaluation.bridge import grid_note
from lanepaint_assets.evaluation.outcomes import PromptOutcome


@dataclass(frozen=True)
class DriverStudy:
    """What a reader must know of all lines of one driver.

    Attributes:
        driver, is_foundation_model: who answered.
        clips, edits, controls: in the study.
        samples, clip_grids, study_seeds, painters: all that occur; more than one is a mixture, and `warnings` say so.
        cpu_engines: engines without a foundation model that had a part.
        noise_floor_lateral_3s_m, noise_floor_ade_m: means over clips of what other seeds alone do.
        null_same_seeds_ade_m: the largest distance that the same seeds gave; 0 for a deterministic driver.
        judged, passed: edits, without controls, that the refining inspector was asked about and that it passed.
        verified, agreed: those that another inspector was asked about and that it agrees with.
        warnings: sentences.
    """

    driver: str
    is_foundation_model: bool
    clips: int
    edits: int
    controls: int
    samples: tuple[int, ...]
    clip_grids: tuple[str, ...]
    study_seeds: tuple[int, ...]
    painters: tuple[str, ...]
    cpu_engines: tuple[str, ...]
    noise_floor_lateral_3s_m: float | None
    noise_floor_ade_m: float | None
    null_same_seeds_ade_m: float | None
    judged: int
    passed: int
    verified: int
    agreed: int
    warnings: tuple[str, ...]


def driver_study(outcomes: Sequence[PromptOutcome]) -> DriverStudy:
    """The facts of one driver's outcomes, at least one; outdated ones are counted only.

    Raises:
        ValueError: there are no outcomes, or of several drivers.
    """
    drivers = {outcome.driver for outcome in outcomes}
    if len(drivers) != 1:
        raise ValueError(f"one driver's outcomes are needed, not those of {sorted(drivers)}")
    current = [outcome for outcome in outcomes if not outcome.is_outdated]
    edits = [outcome for outcome in current if not outcome.is_control]
    samples = tuple(sorted({outcome.samples for outcome in current}))
    grids = tuple(sorted({outcome.clip_grid for outcome in current}))
    seeds = tuple(sorted({outcome.study_seed for outcome in current}))
    painters = tuple(sorted({outcome.painter for outcome in current if outcome.painter is not None}))
    cpu_engines = tuple(sorted({name for outcome in current for name in outcome.cpu_engines.split(", ") if name}))
    floors = [outcome.null_same_seeds_ade_m for outcome in current if outcome.null_same_seeds_ade_m is not None]
    repeated = max(floors, default=None)
    places = Counter((outcome.clip_id, outcome.camera, outcome.prompt) for outcome in current)
    estimated = {outcome.clip_id for outcome in current if outcome.ego_quality == "estimated"}
    warnings = []
    modes = tuple(
        sorted({"edited camera only" if outcome.edited_camera_only else "all cameras" for outcome in current})
    )
    mixtures: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("numbers of samples", samples),
        ("frame grids", grids),
        ("study seeds", seeds),
        ("video painters", painters),
        ("cameras of the driver", modes),
    )
    for what, values in mixtures:
        if len(values) > 1:
            warnings.append(f"Mixed {what} in one line: {', '.join(map(str, values))}.")
    warnings += [f"Off the training distribution: {note}." for grid in grids if (note := grid_note(grid)) is not None]
    if repeated:
        warnings.append(
            f"The driver is not deterministic: the same frames and seeds gave plans up to {repeated:.2g} m apart."
        )
    if estimated:
        warnings.append(f"{len(estimated)} clips have estimated ego motion and no ground truth.")
    if len(current) < len(outcomes):
        warnings.append(
            f"{len(outcomes) - len(current)} outdated edits are left out: their inputs changed since they were made."
        )
    if sum(places.values()) > len(places):
        warnings.append(
            f"{sum(places.values()) - len(places)} edits exist twice, in two chunks; each counts once, as a mean."
        )
    return DriverStudy(
        driver=drivers.pop(),
        is_foundation_model=outcomes[0].is_foundation_model,
        clips=len({outcome.clip_id for outcome in current}),
        edits=len(edits),
        controls=len(current) - len(edits),
        samples=samples,
        clip_grids=grids,
        study_seeds=seeds,
        painters=painters,
        cpu_engines=cpu_engines,
        noise_floor_lateral_3s_m=_clip_mean(current, "noise_floor_lateral_3s_m"),
        noise_floor_ade_m=_clip_mean(current, "noise_floor_ade_m"),
        null_same_seeds_ade_m=repeated,
        judged=sum(edit.judge_passed is not None for edit in edits),
        passed=sum(bool(edit.judge_passed) for edit in edits),
        verified=sum(edit.verified is not None for edit in edits),
        agreed=sum(bool(edit.verified) for edit in edits),
        warnings=tuple(warnings),
    )


def _clip_mean(
    outcomes: Iterable[PromptOutcome], name: Literal["noise_floor_lateral_3s_m", "noise_floor_ade_m"]
) -> float | None:
    """Mean over clips of a number that all prompts of a clip share."""
    of_clip: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        value: float | None = getattr(outcome, name)
        if value is not None:
            of_clip[outcome.clip_id].append(value)
    return float(np.mean([np.mean(values) for values in of_clip.values()])) if of_clip else None
