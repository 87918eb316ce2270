"""The loss log of a training: what it holds, its two tables, and the curve that people look at.

Called by the trainer, which carries it from checkpoint to checkpoint, and by the step, which shows it. No torch here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

TRAINING_FILE = "loss.csv"
VALIDATION_FILE = "validation_loss.csv"

# A single step's loss is mostly its noise level's: the curve is shown averaged over this share of the training.
_SMOOTHED_SHARE = 0.05

# Of the curve in the Dagster UI.
_INCHES, _DPI = (8.0, 4.2), 100

Row = TypeVar("Row")


@dataclass(frozen=True)
class StepLoss:
    """Loss of one training step; `step` counts finished steps, from 1.

    Attributes:
        loss: painted + background weight x background.
        painted, background: mean squared error inside and outside the mask.
        learning_rate: of the step.
    """

    step: int
    loss: float
    painted: float
    background: float
    learning_rate: float


@dataclass(frozen=True)
class ValidationLoss:
    """Loss on the held-out samples with the same noise every time, after `step` steps; 0 is the base model's."""

    step: int
    loss: float
    painted: float
    background: float


@dataclass
class LossLog:
    """Both tables, in the order of steps."""

    training: list[StepLoss] = field(default_factory=list)
    validation: list[ValidationLoss] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the two tables; numbers come back to the last bit."""
        (folder / TRAINING_FILE).write_text(_csv(StepLoss, self.training))
        (folder / VALIDATION_FILE).write_text(_csv(ValidationLoss, self.validation))

    @classmethod
    def read(cls, folder: Path) -> LossLog:
        """The log that was written to a folder."""
        return cls(
            _rows(StepLoss, (folder / TRAINING_FILE).read_text()),
            _rows(ValidationLoss, (folder / VALIDATION_FILE).read_text()),
        )

    def curve_png(self, title: str) -> bytes:
        """The loss over the steps: every step, their running mean, and the held-out samples."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        steps = np.array([row.step for row in self.training])
        losses = np.array([row.loss for row in self.training])
        axes.plot(steps, losses, color="0.8", linewidth=0.7, label="each step")
        axes.plot(steps, _running_mean(losses), color="tab:blue", label="running mean")
        if self.validation:
            axes.plot(
                [row.step for row in self.validation],
                [row.loss for row in self.validation],
                color="tab:orange",
                marker="o",
                markersize=4,
                label="held-out samples, same noise",
            )
        axes.set(title=title, xlabel="step", ylabel="loss")
        axes.set_ylim(bottom=0.0)
        axes.grid(color="0.92")
        axes.legend()
        png = io.BytesIO()
        figure.savefig(png, format="png")
        return png.getvalue()


def _running_mean(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the steps around each one; at the ends over those that there are."""
    half = max(1, round(_SMOOTHED_SHARE * len(losses) / 2))
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    places = np.arange(len(losses))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(losses))
    return np.asarray((sums[last] - sums[first]) / (last - first), dtype=np.float64)


def _csv(kind: type, rows: Sequence[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([entry.name for entry in fields(kind)])
    writer.writerows(map(astuple, rows))
    return text.getvalue()


def _rows(kind: type[Row], text: str) -> list[Row]:
    table = csv.reader(io.StringIO(text))
    next(table)
    return [kind(int(step), *map(float, numbers)) for step, *numbers in table]  # type: ignore[call-arg]
