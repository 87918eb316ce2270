"""How the driver reaches the model: inside this process, or in a worker process of another Python environment.

`engine.py` chooses; both run the same code of `worker.py`, and neither knows what a question is about. Here a failure
becomes the item's or the step's: what one question caused fails its item, what no question could mend fails the step.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import IO, Protocol

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.evaluation.alpamayo import worker
from lanepaint_assets.evaluation.alpamayo.repositories import LocalCheckpoint
from lanepaint_assets.evaluation.alpamayo.worker import (
    AlpamayoModel,
    Answer,
    LoadError,
    ModelOptions,
    Question,
    WeightsError,
)
from lanepaint_assets.store.items import ItemError, StepError

log = logging.getLogger(__name__)

# 22 GB of weights at 12 MB/s, a slow network disk.
LOAD_TIMEOUT_S = 1800.0
# Of a worker's log, for a reason that people read in a table.
_LAST_WORDS = 600
# For a process that has closed its pipes to be gone.
_EXIT_S = 10.0

# Of our environment; in the model's own they would name other versions of its libraries.
_FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class Host(Protocol):
    """Where the model runs. One question at a time."""

    def ask(self, question: Question) -> Answer:
        """The model's answer; it is loaded at the first question.

        Raises:
            ItemError: this question has no answer.
            CheckpointError: its files are to blame that there is no model.
            StepError: the model cannot run here.
        """
        ...

    def close(self) -> None:
        """Give back memory, processes and files; the next question loads the model again."""
        ...


class InProcess:
    """The model in this process; its package must be installed beside LanePaint. A crash or a hang ends the step."""

    def __init__(self, checkpoint: LocalCheckpoint, options: ModelOptions) -> None:
        self._checkpoint = checkpoint
        self._options = options
        self._model: AlpamayoModel | None = None

    def ask(self, question: Question) -> Answer:
        if self._model is None:
            self._model = self._loaded()
        try:
            return self._model.drive(question)
        except Exception as error:
            raise ItemError(_failed(f"{type(error).__name__}: {error}")) from error

    def close(self) -> None:
        self._model = None
        gc.collect()
        if "torch" in sys.modules:
            import torch

            torch.cuda.empty_cache()

    def _loaded(self) -> AlpamayoModel:
        with tempfile.TemporaryDirectory(prefix="lanepaint-alpamayo-") as shared:
            hub = Path(shared) / worker.HUB_FOLDER
            self._checkpoint.link(hub)
            try:
                return AlpamayoModel.load(self._options, hub)
            except WeightsError as error:
                raise CheckpointError(_unable(str(error))) from error
            except LoadError as error:
                raise StepError(_unable(str(error))) from error


class WorkerProcess:
    """The model in a process of its own, started at the first question and again after one that failed.

    Args:
        python: the interpreter of the model's environment.
        checkpoint, options: of the model.
        timeout_s: longest wait for one answer.
        load_timeout_s: longest wait for the model to be loaded.
    """

    def __init__(
        self,
        python: str,
        checkpoint: LocalCheckpoint,
        options: ModelOptions,
        *,
        timeout_s: float,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._python = python
        self._checkpoint = checkpoint
        self._options = options
        self._timeout_s = timeout_s
        self._load_timeout_s = load_timeout_s
        self._running: _Process | None = None
        self._refusal: StepError | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None where there is none."""
        return None if self._running is None else self._running.pid

    def ask(self, question: Question) -> Answer:
        if self._refusal is not None:
            # Items that waited meanwhile must not each wait for the same failure.
            raise self._refusal
        try:
            if self._running is None:
                self._running = self._started()
                log.info("the driver's model runs in process %s of %s", self.pid, self._python)
            return self._answered(self._running, question)
        except StepError as refusal:
            self._refusal = refusal
            raise
        except BaseException:
            # It may be gone, still computing, or in a state that no question can rely on; so after an interrupt.
            self.close()
            raise

    def close(self) -> None:
        self._refusal = None
        if self._running is not None:
            self._running.end()
            self._running = None

    def _started(self) -> _Process:
        shared = Path(tempfile.mkdtemp(prefix="lanepaint-alpamayo-"))
        try:
            (shared / worker.OPTIONS_FILE).write_text(self._options.to_json())
            self._checkpoint.link(shared / worker.HUB_FOLDER)
            process = _Process(self._python, shared)
        except OSError as error:
            shutil.rmtree(shared, ignore_errors=True)
            raise StepError(
                _unable(
                    f"{self._python} cannot be started ({error}); LANEPAINT_ALPAMAYO_PYTHON must name an interpreter"
                )
            ) from error
        try:
            kind, reason = process.next_word(self._load_timeout_s)
        except _SilenceError as silence:
            kind, reason = "silent", f"{self._python} {silence} before the model was loaded"
        except BaseException:
            process.end()
            raise
        if kind != "ready":
            process.end()
            raise (CheckpointError if kind == "damaged" else StepError)(_unable(reason))
        return process

    def _answered(self, process: _Process, question: Question) -> Answer:
        question.save(process.shared / worker.QUESTION_FILE)
        try:
            process.tell("drive")
            kind, reason = process.next_word(self._timeout_s)
        except _SilenceError as silence:
            raise ItemError(_failed(f"its process {silence}; the next clip gets a new one")) from silence
        if kind != "answered":
            raise ItemError(_failed(reason))
        return Answer.load(process.shared / worker.ANSWER_FILE)


class _SilenceError(Exception):
    """The process said nothing more: it ended, or the time is up."""


class _Process:
    """One worker process and the folder that it shares with this one. Both are gone after `end`, and with this process.

    The worker ends by itself when its pipe closes, so that killing this process leaves none behind.
    """

    def __init__(self, python: str, shared: Path) -> None:
        self.shared = shared
        self._log = shared / "log.txt"
        environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
        # The script's own folder holds modules of ours, which must not hide any of the environment's.
        environment["PYTHONSAFEPATH"] = "1"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, str(Path(worker.__file__)), str(shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                errors="replace",
                # A group of its own, so that what the worker starts goes with it.
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._words: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=_pass_on, args=(self._process.stdout, self._words), daemon=True).start()
        self.end = weakref.finalize(self, _end, self._process, shared)

    def tell(self, word: str) -> None:
        """Send a line.

        Raises:
            _SilenceError: the process is gone.
        """
        try:
            print(word, file=self._process.stdin, flush=True)
        except OSError:
            raise _SilenceError(self._how_it_ended()) from None

    def next_word(self, timeout_s: float) -> tuple[str, str]:
        """What the process says next: a kind and a reason.

        Raises:
            _SilenceError: it ended, or said nothing for so long.
        """
        until = monotonic() + timeout_s
        while True:
            try:
                line = self._words.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                raise _SilenceError(f"did not answer within {timeout_s:g} s") from None
            if line is None:
                raise _SilenceError(self._how_it_ended())
            try:
                word = json.loads(line)
                return str(word["kind"]), str(word["reason"])
            except (ValueError, TypeError, KeyError):
                # A line of someone else's, such as a shell script around the interpreter.
                continue

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            return f"closed its pipe{self._last_words()}"
        if code >= 0:
            return f"ended with exit code {code}{self._last_words()}"
        hint = ", as when memory runs out" if code == -signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{hint}{self._last_words()}"

    def _last_words(self) -> str:
        words = " ".join(self._log.read_text(errors="replace").split()) if self._log.exists() else ""
        if len(words) > _LAST_WORDS:
            words = f"... {words[-_LAST_WORDS:]}"
        return f"; its last words: {words}" if words else ""


def _pass_on(pipe: IO[str], words: SimpleQueue[str | None]) -> None:
    """The process's lines, then None when there will be no more."""
    try:
        with pipe:
            for line in pipe:
                words.put(line)
    finally:
        words.put(None)


def _end(process: subprocess.Popen[str], shared: Path) -> None:
    """Kill the process with all that it started, and remove the folder; there is nothing to be saved."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_EXIT_S)
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    shutil.rmtree(shared, ignore_errors=True)


def _failed(reason: str) -> str:
    return f"Alpamayo gave no answer: {reason}"


def _unable(reason: str) -> str:
    return f"Alpamayo cannot run: {reason}"
