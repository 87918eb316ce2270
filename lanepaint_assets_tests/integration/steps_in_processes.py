"""A code location whose steps run in processes of their own, started as a cluster starts pods: the same executor class,
the same command line, the same events. Imported by `test_preemption.py`, and by the steps that it starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import numpy as np
from dagster._core.events import DagsterEvent
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from numpy.typing import NDArray

from lanepaint_assets import definitions, k8s_steps
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings, load_settings
from lanepaint_assets_tests.fixtures import AgreeingInspector, Journal, StripePainter, TrapezoidSegmenter

REPOSITORY = Path(__file__).resolve().parents[2]

# Of the test, not of the platform: how long a clip's masks take, and where each process notes what it begins and ends.
SECONDS_VARIABLE, NOTES_VARIABLE = "TEST_SECONDS_PER_CLIP", "TEST_NOTES"


class SlowSegmenter(TrapezoidSegmenter):
    """Takes a while for each clip, and notes when it begins and ends one."""

    def segment_video(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        self._note("begun")
        deadline = time.monotonic() + float(os.environ[SECONDS_VARIABLE])
        while time.monotonic() < deadline:
            time.sleep(0.02)
        self._note("done")
        return super().segment_video(frames)

    def _note(self, what: str) -> None:
        with Path(os.environ[NOTES_VARIABLE]).open("a") as notes:
            notes.write(f"{os.getpid()} {what}\n")


@dataclass
class StepProcesses(StepHandler):
    """Starts `dagster api execute_step` for each step, and tells when one is gone without a word."""

    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "processes"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        arguments = step_handler_context.execute_step_args
        program, *command = arguments.get_command_args()
        assert program == "dagster"
        # In a session of its own: as in a pod, the step's process and nothing else gets signals.
        self.running[_step(step_handler_context)] = subprocess.Popen(
            [sys.executable, "-m", "dagster", *command], cwd=REPOSITORY, start_new_session=True
        )
        return iter(())

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        process = self.running[_step(step_handler_context)]
        if process.poll() in (None, 0):
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(f"its process ended with {process.returncode}")

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        self.running[_step(step_handler_context)].send_signal(signal.SIGTERM)
        return iter(())


def _step(context: StepHandlerContext) -> str:
    (step,) = context.execute_step_args.step_keys_to_execute or ()
    return step


@dg.executor(name="processes", requirements=dg.multiple_process_executor_requirements())
def processes(_: Any) -> StepDelegatingExecutor:
    """The executor behind `k8s_job_executor`, over processes."""
    return StepDelegatingExecutor(
        StepProcesses(), retries=RetryMode.ENABLED, sleep_seconds=0.2, check_step_health_interval_seconds=1
    )


def build(settings: Settings) -> dg.Definitions:
    """The definitions as for a cluster, with fast engines, and no minute between two attempts."""
    journal = Journal()
    painter = StripePainter(journal)
    platform = Platform(
        settings,
        segmenter=SlowSegmenter(journal),
        first_frame_painter=painter,
        video_painter=painter,
        inspector=AgreeingInspector(),
        driver=ConstantVelocityDriver(),
    )
    # Read when a step is told to end, long after this; the test puts it back in its own process.
    k8s_steps.WAIT_S = 1
    with (
        patch.object(definitions, "_executor", lambda _: processes),
        patch.object(k8s_steps, "LOST_PODS", dg.RetryPolicy(max_retries=4, delay=1)),
    ):
        return definitions.build(settings, platform=platform)


@dg.definitions
def defs() -> dg.Definitions:
    """What the steps load."""
    return build(load_settings())


def sam2_only() -> dg.JobDefinition:
    """The job by name, as `dg.reconstructable` asks for it."""
    return build(load_settings()).resolve_job_def("sam2_only")
