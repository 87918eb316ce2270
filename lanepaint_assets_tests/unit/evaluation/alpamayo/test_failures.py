"""What happens when the model fails: which item it costs, what people read, and that no process or file is left."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from lanepaint_assets.evaluation.alpamayo import worker
from lanepaint_assets.evaluation.alpamayo.engine import AlpamayoDriver
from lanepaint_assets.evaluation.alpamayo.repositories import local_checkpoint
from lanepaint_assets.evaluation.alpamayo.transport import WorkerProcess
from lanepaint_assets.evaluation.alpamayo.worker import ModelOptions, Question
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemError, ItemOutput, ItemTask, StepError, run_items
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import interpreter, moment, save_checkpoint

CRASH, HANG, RAISE = 250, 251, 252
SEEDS = (1, 2)


@pytest.fixture
def folder(tmp_path: Path) -> UPath:
    return UPath(save_checkpoint(tmp_path / "checkpoint"))


@pytest.fixture
def driver(folder: UPath, tmp_path: Path) -> Iterator[AlpamayoDriver]:
    built = AlpamayoDriver.from_checkpoint(folder, python=interpreter(tmp_path), timeout_s=60)
    yield built
    built.release()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def running_pid(host: WorkerProcess) -> int:
    assert host.pid is not None
    return host.pid


def shared_folders(of: Path) -> list[Path]:
    return list(of.glob("lanepaint-alpamayo-*"))


def test_a_crash_and_an_error_fail_their_items_alone(driver: AlpamayoDriver, tmp_path: Path) -> None:
    """Four items through the loop that assets run: the second crashes the process, the third raises in it."""
    asked = {"a": 20, "b": CRASH, "c": RAISE, "d": 20}
    answers = {}

    def compute(task: ItemTask, staged: Path) -> ItemOutput:
        answers[task.key] = driver.predict(moment(asked[task.key]), SEEDS)
        return ItemOutput()

    tasks = [
        ItemTask(key, fingerprint(asset="test", item_key=key, upstream={}, engine=None, params={})) for key in asked
    ]
    store = ArtifactStore(str(tmp_path / "root"))
    outcome = run_items(store, "original_trajectories", "chunk_0001", tasks, compute, run_id="run", workers=2)
    reasons = {row.key: row.reason for row in outcome.rows if row.status == "failed"}
    assert reasons.keys() == {"b", "c"}
    assert "was ended by SIGSEGV" in reasons["b"]
    assert reasons["c"] == "Alpamayo gave no answer: RuntimeError: device-side assert triggered"
    np.testing.assert_array_equal(answers["a"].trajectories_m, answers["d"].trajectories_m)


def test_after_a_hang_the_next_question_gets_a_new_process_which_ends_with_its_holder(
    folder: UPath, tmp_path: Path
) -> None:
    host = worker_process(folder, interpreter(tmp_path), timeout_s=1.5)
    with pytest.raises(ItemError, match=r"did not answer within 1\.5 s"):
        host.ask(question(HANG))
    assert host.pid is None
    host.ask(question())
    pid = running_pid(host)
    del host
    assert eventually(lambda: not is_running(pid))


def test_release_ends_the_process_and_removes_its_files(
    folder: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    host = worker_process(folder, interpreter(tmp_path))
    host.ask(question())
    pid = running_pid(host)
    assert is_running(pid)
    assert shared_folders(tmp_path)
    AlpamayoDriver(host, "r1").release()
    assert not is_running(pid)
    assert not shared_folders(tmp_path)


PARENT = """
import sys, threading
from upath import UPath
from lanepaint_assets_tests.unit.evaluation.alpamayo import test_failures as tests
host = tests.worker_process(UPath(sys.argv[1]), sys.argv[2])
host.ask(tests.question())
print(host.pid, flush=True)
host.ask(tests.question({signal}))
"""


def test_a_busy_process_ends_when_the_step_is_killed(folder: UPath, tmp_path: Path) -> None:
    """SIGKILL leaves a step no time to tidy up, and this worker is in the middle of an answer that takes an hour."""
    script = PARENT.format(signal=HANG)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), interpreter(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        [shared] = shared_folders(tmp_path)
        assert eventually(lambda: (shared / "question.npz").exists())
        assert is_running(pid)
        parent.kill()
        parent.wait()
        assert eventually(lambda: not is_running(pid))
        assert eventually(lambda: not shared_folders(tmp_path))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_an_interrupt_while_waiting_ends_the_process(folder: UPath, tmp_path: Path) -> None:
    host = worker_process(folder, interpreter(tmp_path))
    host.ask(question())
    pid = running_pid(host)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        host.ask(question(HANG))
    assert not is_running(pid)
    assert host.pid is None


@pytest.mark.parametrize("own_environment", [False, True])
def test_a_missing_package_fails_the_step_with_its_remedy(
    folder: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_environment: bool
) -> None:
    # Both hide the real package where there is one.
    (tmp_path / "alpamayo_r1.py").touch()
    monkeypatch.setitem(sys.modules, "alpamayo_r1", None)
    python = interpreter(tmp_path, path=tmp_path) if own_environment else None
    driver = AlpamayoDriver.from_checkpoint(folder, python=python)
    with pytest.raises(StepError, match="cannot import alpamayo_r1") as failed:
        driver.predict(moment(), SEEDS)
    assert "Alpamayo cannot run" in str(failed.value)
    assert "name its interpreter in LANEPAINT_ALPAMAYO_PYTHON" in str(failed.value)


def test_an_interpreter_that_is_none_fails_the_step(folder: UPath, tmp_path: Path) -> None:
    driver = AlpamayoDriver.from_checkpoint(folder, python=str(tmp_path / "nowhere" / "python"))
    with pytest.raises(StepError, match=r"nowhere/python cannot be started .*LANEPAINT_ALPAMAYO_PYTHON"):
        driver.predict(moment(), SEEDS)


def test_an_interpreter_that_only_fails_gives_its_last_words(folder: UPath, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'libpython3.12.so: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    driver = AlpamayoDriver.from_checkpoint(folder, python=str(broken))
    with pytest.raises(StepError, match=r"exit code 127; its last words: libpython3\.12\.so: cannot open"):
        driver.predict(moment(), SEEDS)


def test_a_model_that_does_not_load_in_time_fails_the_step(folder: UPath, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 3600\n")
    slow.chmod(0o755)
    host = worker_process(folder, str(slow), load_timeout_s=0.3)
    with pytest.raises(StepError, match=r"did not answer within 0\.3 s before the model was loaded"):
        host.ask(question())
    assert host.pid is None
    # Items that waited for it need not wait again.
    slow.unlink()
    with pytest.raises(StepError, match=r"did not answer within 0\.3 s"):
        host.ask(question())
    host.close()
    with pytest.raises(StepError, match="cannot be started"):
        host.ask(question())


def test_weights_that_the_package_refuses_fail_the_step(tmp_path: Path, stand_in_importable: None) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", config=json.dumps({"unloadable": "size mismatch for expert"}))
    driver = AlpamayoDriver.from_checkpoint(UPath(folder), device="cpu")
    with pytest.raises(StepError, match=r"cannot be loaded on cpu \(RuntimeError: size mismatch for expert\)"):
        driver.predict(moment(), SEEDS)


def test_a_device_that_is_not_there_fails_the_step(folder: UPath, stand_in_importable: None) -> None:
    driver = AlpamayoDriver.from_checkpoint(folder, device="cuda:63")
    with pytest.raises(StepError, match="there is no device 'cuda:63'"):
        driver.predict(moment(), SEEDS)


def test_an_error_in_this_process_fails_its_item_alone(folder: UPath, stand_in_importable: None) -> None:
    driver = AlpamayoDriver.from_checkpoint(folder, device="cpu")
    with pytest.raises(ItemError, match="Alpamayo gave no answer: RuntimeError: device-side assert triggered"):
        driver.predict(moment(RAISE), SEEDS)
    assert len(driver.predict(moment(), SEEDS).reasoning) == 2


def test_the_workers_script_needs_no_lanepaint() -> None:
    tree = ast.parse(Path(worker.__file__).read_text())
    tops = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    tops |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert tops - set(sys.stdlib_module_names) == {"numpy", "torch"}


def worker_process(folder: UPath, python: str, timeout_s: float = 600.0, load_timeout_s: float = 60.0) -> WorkerProcess:
    checkpoint = local_checkpoint(folder, "r1", None)
    options = ModelOptions("r1", str(checkpoint.weights), "cpu", 0.6, 0.98, 256, 6)
    return WorkerProcess(python, checkpoint, options, timeout_s=timeout_s, load_timeout_s=load_timeout_s)


def question(signal_pixel: int = 20) -> Question:
    frames = np.zeros((4, 4, 3, 8, 8), np.uint8)
    frames[1, :, :, 0, 0] = (signal_pixel, 7, 9)
    return Question(
        frames,
        np.array([0, 1, 2, 6]),
        np.zeros((16, 3), np.float32),
        np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        np.array([1, 2], np.uint64),
    )
