"""A killed training goes on as if nothing had happened, from what is in the store alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.store import publishing
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE
from lanepaint_assets.training.flux_lora import run as training
from lanepaint_assets.training.flux_lora.run import TrainingResult, train_lora
from lanepaint_assets.training.lora_checkpoints import CheckpointShelf, StopRequest
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import RECIPE, STYLE, TRAINING, job, samples

REPOSITORY = Path(__file__).resolve().parents[4]

# Of float32 on a CPU. Most runs are equal to the bit; where an array happens to lie in memory decides now and then
# how a sum is split up, which moves its last digit, and with it a rounded pixel.
MOST_DIFFERENCE = 1e-6
MOST_PIXEL_DIFFERENCE = 1


@pytest.fixture(scope="module")
def undisturbed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a training that nothing disturbed: 5 samples, 2 epochs, 10 steps."""
    torch.set_num_threads(1)
    scratch = tmp_path_factory.mktemp("undisturbed")
    store = ArtifactStore(str(scratch / "store"))
    told = job(checkpoint, store, scratch)
    assert train_lora(told, samples(), store) == TrainingResult(steps=10, steps_meant=10, stopped=False)
    return told.out


def assert_same(first: Path, second: Path) -> None:
    one, other = load_file(first / WEIGHTS_FILE), load_file(second / WEIGHTS_FILE)
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) <= MOST_DIFFERENCE
    for table in ("training", "validation"):
        logs = [np.array([astuple(row) for row in getattr(LossLog.read(out), table)]) for out in (first, second)]
        np.testing.assert_allclose(logs[0], logs[1], rtol=0, atol=MOST_DIFFERENCE)
    names = sorted(picture.name for picture in (first / "pictures").iterdir())
    assert names == sorted(picture.name for picture in (second / "pictures").iterdir())
    for name in names:
        pictures = [read_picture((out / "pictures" / name).read_bytes()).astype(int) for out in (first, second)]
        assert abs(pictures[0] - pictures[1]).max() <= MOST_PIXEL_DIFFERENCE


def killed_at(event: str, checkpoint: Path, store: ArtifactStore, scratch: Path) -> None:
    """Run the training in a process of its own, and kill it, by its id, at its n-th event of that kind."""
    kind, _, number = event.partition(" #")
    program = [sys.executable, "-m", "lanepaint_assets_tests.unit.training.flux_lora.paused_training"]
    process = subprocess.Popen(
        [*program, str(checkpoint), str(store.root), str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    left = int(number or 1)
    for line in process.stdout:
        left -= line.strip() == kind
        if left == 0:
            break
        process.stdin.write("\n")
        process.stdin.flush()
    process.kill()
    process.communicate()
    assert left == 0, f"it ended before {event}"
    assert process.returncode == -9


@pytest.mark.parametrize(
    ("event", "goes_on_after"),
    [
        ("step 5", 3),
        pytest.param("step 1", 0, marks=pytest.mark.slow),
        pytest.param("step 3", 3, marks=pytest.mark.slow),
        pytest.param("step 9", 9, marks=pytest.mark.slow),
        pytest.param("files published", 0, marks=pytest.mark.slow),
        pytest.param("files published #2", 3, marks=pytest.mark.slow),
        pytest.param("done", 10, marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_any_moment_ends_with_the_weights_of_an_undisturbed_one(
    event: str, goes_on_after: int, checkpoint: Path, undisturbed: Path, tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    killed_at(event, checkpoint, store, tmp_path / "first")
    shelf = CheckpointShelf(store, STYLE, TRAINING, "test")
    assert shelf.latest_step() == goes_on_after
    # Another machine: nothing of the first run but the store.
    again = job(checkpoint, store, tmp_path / "second")
    assert train_lora(again, samples(), store).steps == 10
    assert_same(undisturbed, again.out)


def test_a_training_killed_twice_is_still_the_same(checkpoint: Path, undisturbed: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))

    class Killed(BaseException):
        pass

    for attempt, after in enumerate((4, 5)):
        steps = []

        class Dying(training.Trainer):
            def run_step(self, steps: list[int] = steps, after: int = after) -> None:
                steps.append(self.state.step)
                if len(steps) > after:
                    raise Killed
                super().run_step()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "Trainer", Dying)
            with pytest.raises(Killed):
                train_lora(job(checkpoint, store, tmp_path / str(attempt)), samples(), store)
    last = job(checkpoint, store, tmp_path / "last")
    train_lora(last, samples(), store)
    assert_same(undisturbed, last.out)


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint_leaves_the_one_before_valid(
    checkpoint: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    whole, calls = publishing._copy_tree, []

    def filling_up(staged: Path, target: Path):  # type: ignore[no-untyped-def]
        calls.append(staged)
        for number, record in enumerate(whole(staged, target)):
            if len(calls) == 2 and number == 2:
                raise OSError(28, "No space left on device")
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_copy_tree", filling_up)
        with pytest.raises(StepError, match=r"after step 6 could not be written.*step 3 stays"):
            train_lora(job(checkpoint, store, tmp_path / "first"), samples(), store)
    assert CheckpointShelf(store, STYLE, TRAINING, "test").latest_step() == 3
    again = job(checkpoint, store, tmp_path / "again")
    train_lora(again, samples(), store)
    assert_same(undisturbed, again.out)


def test_a_request_to_stop_ends_a_training_after_its_step_and_keeps_what_it_learnt(
    checkpoint: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    StopRequest(store, STYLE).make()  # an old one, which is not meant for this training
    monkeypatch.setattr(training, "_STOP_EVERY_S", 0.0)

    class Asked(training.Trainer):
        def run_step(self) -> None:
            super().run_step()
            if self.state.step == 5:
                StopRequest(store, STYLE).make()

    monkeypatch.setattr(training, "Trainer", Asked)
    told = job(checkpoint, store, tmp_path / "run")
    assert train_lora(told, samples(), store) == TrainingResult(steps=5, steps_meant=10, stopped=True)
    kept, whole = LossLog.read(told.out), LossLog.read(undisturbed)
    assert kept.training == whole.training[:5]
    assert [row.step for row in kept.validation] == [0, 4, 5]
    assert (told.out / WEIGHTS_FILE).exists()


def test_a_checkpoint_of_another_rank_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    train_lora(job(checkpoint, store, tmp_path / "first"), samples(), store)
    other = job(checkpoint, store, tmp_path / "second", recipe=replace(RECIPE, rank=8))
    with pytest.raises(StepError, match="another base model or rank"):
        train_lora(other, samples(), store)
