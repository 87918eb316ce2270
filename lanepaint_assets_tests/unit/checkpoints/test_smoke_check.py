"""The process in which a model is loaded: whatever happens to it is told, ends in time, and is found out once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lanepaint_assets.checkpoints import smoke_check
from lanepaint_assets.checkpoints.smoke_check import Outcome, in_child, last_passed, remembered
from lanepaint_assets.engines import EngineEntry, engine_named
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings

SAM2 = engine_named("segmenter", "sam2")
NOW = datetime(2026, 5, 1, tzinfo=UTC)

# What every child does first.
ORDER = "import json, os, signal, sys, time; order = json.loads(sys.stdin.readline()); "


def child(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(smoke_check, "CHILD", (sys.executable, "-c", ORDER + script))


def settings(root: Path, minutes: float = 0.5) -> Settings:
    return Settings(root=str(root), checkpoint_check_minutes=minutes)


def test_the_child_is_told_settings_and_engine_and_its_result_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(
        monkeypatch,
        "reason = order['settings']['root'] + ' ' + order['engine']; "
        "json.dump({'reason': reason, 'is_final': True, 'seconds': 1.5}, open(order['result'], 'w'))",
    )
    outcome = in_child(settings(tmp_path), SAM2)
    assert outcome == Outcome(reason=f"{tmp_path} sam2 1", is_final=True, seconds=1.5)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended with SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended with SIGKILL, perhaps for want of host memory"),
        ("sys.exit('CUDA error: an illegal memory access')", "exit code 1: CUDA error: an illegal memory access"),
        ("open(order['result'], 'w').write('{half')", "ended with exit code 0"),
    ],
)
def test_a_crash_is_told_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    child(monkeypatch, script)
    outcome = in_child(settings(tmp_path), SAM2)
    assert told in (outcome.reason or "")
    assert not outcome.is_final


def test_a_child_that_reads_no_order_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke_check, "CHILD", (sys.executable, "-c", "raise SystemExit(3)"))
    assert "exit code 3" in (in_child(settings(tmp_path), SAM2).reason or "")


def test_a_hang_ends_in_time_with_all_that_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(
        monkeypatch,
        "import subprocess; helper = subprocess.Popen(['sleep', '300']); "
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{helper.pid}}'); time.sleep(300)",
    )
    started = time.monotonic()
    outcome = in_child(settings(tmp_path, minutes=1.0 / 60), SAM2)
    assert time.monotonic() - started < 10
    assert "not loaded and run within 0.0166667 minutes" in (outcome.reason or "")
    for pid in (tmp_path / "pids").read_text().split():
        assert not is_running(int(pid))


def is_running(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def test_a_child_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    code = (
        "import threading, time, sys\n"
        "from lanepaint_assets.checkpoints.smoke_child import _end_with_parent\n"
        "threading.Thread(target=_end_with_parent, daemon=True).start()\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()
    assert process.wait(10) == 1


def test_a_check_runs_once_for_each_state_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform(settings(tmp_path))
    outcomes = iter(
        [
            Outcome(reason="NaN", is_final=True, seconds=1.0),
            Outcome(reason="busy", is_final=False, seconds=1.0),
            Outcome(reason=None, is_final=True, seconds=1.0),
        ]
    )
    monkeypatch.setattr(smoke_check, "in_child", lambda *_: next(outcomes))

    def check(version: str, minutes: int = 0) -> str | None:
        return smoke_check.smoke_check(
            platform, SAM2, {"sam2_checkpoint": version}, NOW + timedelta(minutes=minutes)
        ).reason

    assert check("a") == "NaN"
    assert check("a", minutes=1000) == "NaN"
    assert check("b") == "busy"
    assert check("b", minutes=59) == "busy"
    assert check("b", minutes=60) is None
    assert check("b", minutes=10000) is None
    assert check("a", minutes=10000) == "NaN"
    assert remembered(platform, SAM2, {"sam2_checkpoint": "c"}) is None


@pytest.mark.parametrize(
    "changed", [{"device": "cpu"}, {"sam2_model": "tiny"}], ids=lambda changed: next(iter(changed))
)
def test_a_refusal_holds_only_for_the_settings_that_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    outcomes = iter(
        [
            Outcome(reason="no kernel image for this device", is_final=True, seconds=1.0),
            Outcome(reason=None, is_final=True, seconds=2.0),
        ]
    )
    monkeypatch.setattr(smoke_check, "in_child", lambda *_: next(outcomes))
    versions = {"sam2_checkpoint": "a"}
    before, after = Platform(settings(tmp_path)), Platform(settings(tmp_path).model_copy(update=changed))
    assert smoke_check.smoke_check(before, SAM2, versions, NOW).reason is not None
    assert remembered(after, SAM2, versions) is None
    assert last_passed(before, SAM2, versions) is None
    assert smoke_check.smoke_check(after, SAM2, versions, NOW).reason is None
    assert remembered(before, SAM2, versions) is not None
    assert last_passed(before, SAM2, versions) == remembered(after, SAM2, versions)


@pytest.mark.parametrize("changed", [{"sam2_compile": True}, {"flux_device": "cpu"}, {"samples": 2}])
def test_settings_that_a_check_does_not_compute_with_leave_its_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    monkeypatch.setattr(smoke_check, "in_child", lambda *_: Outcome(reason="NaN", is_final=True, seconds=1.0))
    versions = {"sam2_checkpoint": "a"}
    smoke_check.smoke_check(Platform(settings(tmp_path)), SAM2, versions, NOW)
    after = Platform(settings(tmp_path).model_copy(update=changed))
    assert remembered(after, SAM2, versions) is not None


def test_the_memory_of_checks_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform(settings(tmp_path))
    monkeypatch.setattr(smoke_check, "in_child", lambda *_: Outcome(reason=None, is_final=True, seconds=1.0))
    monkeypatch.setattr(smoke_check, "_KEPT", 3)
    for number in range(5):
        smoke_check.smoke_check(platform, SAM2, {"sam2_checkpoint": f"{number}"}, NOW + timedelta(minutes=number))
    kept = json.loads((tmp_path / "observed" / "smoke_checks.json").read_text())["checks"]
    assert len(kept) == 3
    assert remembered(platform, SAM2, {"sam2_checkpoint": "0"}) is None
    assert remembered(platform, SAM2, {"sam2_checkpoint": "4"}) is not None


def test_an_engine_whose_packages_are_missing_is_not_held_against_the_files(tmp_path: Path) -> None:
    ghost = EngineEntry("segmenter", "ghost", "1", "no_such_module:Ghost", "sam2", "models", SAM2.checkpoints)
    outcome = smoke_check.in_this_process(settings(tmp_path), ghost)
    assert "install it with" in (outcome.reason or "")
    assert not outcome.is_final


def test_the_real_child_says_what_is_missing(tmp_path: Path) -> None:
    outcome = in_child(settings(tmp_path, minutes=1.0), SAM2)
    assert "sam2.1_hiera_large.pt: there is no such checkpoint" in (outcome.reason or "")
    assert outcome.is_final
