"""Whether a model loads and computes, found out in a process of its own, once for each state of its files.

Called by observations. A broken checkpoint may crash or hang whoever loads it, and a good one fills memory: both end
with the child process (`smoke_child.py`). What one forward pass is, is the engine's (`engines.Checkable`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.engines import Checkable, EngineEntry, lacking_packages
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings, SettingsError
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import DeviceMemoryError, ItemError, StepError
from lanepaint_assets.store.replace import AtomicFile, atomic_file

CheckMode = Literal["load", "header", "off"]

CHILD: Final = (sys.executable, "-m", "lanepaint_assets.checkpoints.smoke_child")

# What says nothing about the files (a busy GPU, a killed process, a missing package) is tried again so much later: a
# person who mends it waits at most that long, and loading 60 GB takes minutes.
RETRY_AFTER = timedelta(hours=1)

# Results that are kept; a dozen checkpoints change some times a year.
_KEPT = 64

# One denoising step shows whether weights are numbers, and compiling takes minutes that no second picture repays.
_LIGHT: Final = {"flux_steps": 1, "video_steps": 1, "compile_editing": False, "sam2_compile": False}

# Where Linux shows NVIDIA's GPUs, and WSL its own.
_GPU_FILES: Final = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")


class Outcome(BaseModel):
    """What a check came to.

    Attributes:
        reason: why the checkpoint is refused; None where it passed.
        is_final: whether the same files would fail again.
        seconds: how long it took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str | None
    is_final: bool
    seconds: float


class _Remembered(BaseModel):
    files: str
    outcome: Outcome
    at: datetime


class _Memory(BaseModel):
    checks: dict[str, _Remembered] = {}


def check_mode(settings: Settings, entry: EngineEntry) -> CheckMode:
    """What a new version of an engine's checkpoint must pass on this machine.

    Where the settings leave it open, models are loaded only where their engine's packages and a GPU are at hand: an
    orchestrator has neither, and a model of 5 billion weights takes hours for one window on a CPU.
    """
    if settings.checkpoint_check is not None:
        return settings.checkpoint_check
    if lacking_packages(entry, settings) or not any(Path(file).exists() for file in _GPU_FILES):
        return "header"
    return "load"


def remembered(platform: Platform, entry: EngineEntry, versions: Mapping[str, str]) -> Outcome | None:
    """What the last check of these files with these settings came to; None where there was none.

    Args:
        platform: whose settings, and whose store keeps the results.
        entry: the engine.
        versions: of each of its checkpoints, by asset.
    """
    found = _read(platform.store).checks.get(_key(platform.settings, entry, versions))
    return None if found is None else found.outcome


def last_passed(platform: Platform, entry: EngineEntry, versions: Mapping[str, str]) -> Outcome | None:
    """The last check that these files passed, with whatever settings; None where there was none."""
    files = _files_key(entry, versions)
    passed = [
        each for each in _read(platform.store).checks.values() if each.files == files and each.outcome.reason is None
    ]
    return max(passed, key=lambda each: each.at).outcome if passed else None


def smoke_check(platform: Platform, entry: EngineEntry, versions: Mapping[str, str], now: datetime) -> Outcome:
    """Load an engine's model and compute once, unless it is known what comes of these files with these settings.

    Args:
        platform: whose checkpoints and settings.
        entry: the engine.
        versions: of each of its checkpoints, by asset.
        now: the moment.
    """
    key = _key(platform.settings, entry, versions)
    held = _read(platform.store).checks.get(key)
    if held is not None and (held.outcome.is_final or now < held.at + RETRY_AFTER):
        return held.outcome
    outcome, files = in_child(platform.settings, entry), _files_key(entry, versions)

    def entered(content: bytes | None) -> bytes:
        checks = {**_parsed(content).checks, key: _Remembered(files=files, outcome=outcome, at=now)}
        newest = sorted(checks, key=lambda each: checks[each].at)[-_KEPT:]
        return _Memory(checks={each: checks[each] for each in newest}).model_dump_json(indent=1).encode()

    _file(platform.store).update(entered)
    return outcome


def in_this_process(settings: Settings, entry: EngineEntry) -> Outcome:
    """Build the engine, load its weights, compute one small input."""
    started = time.perf_counter()
    reason, is_final = None, True
    try:
        engine = Platform(settings.model_copy(update=_LIGHT)).engine_of(entry)
        if not isinstance(engine, Checkable):
            raise AssertionError(f"{entry.label} reads checkpoints and has no smoke check")
        engine.smoke_check()
    except DeviceMemoryError as error:
        reason, is_final = str(error), False
    except (CheckpointError, ItemError) as error:
        reason = str(error)
    except (StepError, SettingsError) as error:
        reason, is_final = str(error), False
    except Exception as error:  # noqa: BLE001  # libraries raise anything at all over damaged files
        reason, is_final = f"{type(error).__name__}: {error}", False
    return Outcome(reason=reason, is_final=is_final, seconds=round(time.perf_counter() - started, 1))


def in_child(settings: Settings, entry: EngineEntry) -> Outcome:
    """As `in_this_process`, in a process of its own, which is ended when its time is over or this one ends."""
    started, limit_s = time.perf_counter(), 60 * settings.checkpoint_check_minutes
    with tempfile.TemporaryDirectory(prefix="lanepaint_check_") as folder, Path(folder, "log").open("w+b") as log:
        result = Path(folder, "result.json")
        order = {"settings": settings.model_dump(mode="json"), "engine": entry.label, "result": str(result)}
        process = subprocess.Popen(
            CHILD, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if process.stdin is None:
                raise AssertionError("asked for with PIPE")
            # Not closed: the child takes its end for ours.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            code = process.wait(limit_s)
            reason = f"the process that loaded it ended with {_ending(code)}{_last_line(log)}"
        except subprocess.TimeoutExpired:
            reason = f"it was not loaded and run within {settings.checkpoint_check_minutes:g} minutes"
        finally:
            _end(process)
        if result.exists():
            with contextlib.suppress(ValidationError):
                return Outcome.model_validate_json(result.read_bytes())
    return Outcome(reason=reason, is_final=False, seconds=round(time.perf_counter() - started, 1))


def _end(process: subprocess.Popen[bytes]) -> None:
    """The child and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps for want of host memory" if -code == signal.SIGKILL else name


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:500]}" if lines else ""


def _key(settings: Settings, entry: EngineEntry, versions: Mapping[str, str]) -> str:
    """What decides how a check ends: the files, and how and where the engine computes.

    Another device, interpreter or precision may take what this one refused.
    """
    checked = settings.model_copy(update=_LIGHT)
    names = sorted({*entry.deciding.values(), *entry.other.values()})
    chosen = json.dumps({name: getattr(checked, name) for name in names})
    return hashlib.sha256(f"{_files_key(entry, versions)}\0{chosen}".encode()).hexdigest()


def _files_key(entry: EngineEntry, versions: Mapping[str, str]) -> str:
    told = "\0".join([entry.label, *(f"{asset}={versions[asset]}" for asset in sorted(versions))])
    return hashlib.sha256(told.encode()).hexdigest()


def _read(store: ArtifactStore) -> _Memory:
    return _parsed(_file(store).read())


def _parsed(content: bytes | None) -> _Memory:
    if content is None:
        return _Memory()
    try:
        return _Memory.model_validate_json(content)
    except ValidationError:
        # All of it can be found out again.
        return _Memory()


def _file(store: ArtifactStore) -> AtomicFile:
    return atomic_file(store.root / "observed" / "smoke_checks.json")
