"""The driver on the stand-in package, in this process and in a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from lanepaint_assets.evaluation.alpamayo.engine import CAMERAS, AlpamayoDriver
from lanepaint_assets.evaluation.alpamayo.worker import AlpamayoModel, Answer, ModelOptions, Question, common_seed
from lanepaint_assets.evaluation.driver import DriverError, ask
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.store.seeds import seeds
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import (
    FRONT,
    interpreter,
    moment,
    resized,
    save_checkpoint,
)

SEEDS = seeds(0, "driver", "clip", 6)
NOT_FINITE, CHATTER = 253, 254


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UPath]:
    return {model: UPath(save_checkpoint(tmp_path_factory.mktemp("checkpoint"), model)) for model in ("r1", "1.5")}


@pytest.fixture(scope="module")
def in_process(checkpoints: dict[str, UPath], stand_in_importable: None) -> AlpamayoDriver:
    return AlpamayoDriver.from_checkpoint(checkpoints["r1"])


@pytest.fixture(scope="module")
def release_1_5(checkpoints: dict[str, UPath], stand_in_importable: None) -> AlpamayoDriver:
    return AlpamayoDriver.from_checkpoint(checkpoints["1.5"], model="1.5")


@pytest.fixture(scope="module")
def in_worker(checkpoints: dict[str, UPath], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlpamayoDriver]:
    driver = AlpamayoDriver.from_checkpoint(
        checkpoints["r1"], python=interpreter(tmp_path_factory.mktemp("python")), timeout_s=60
    )
    yield driver
    driver.release()


def test_both_transports_give_the_same_answer(in_process: AlpamayoDriver, in_worker: AlpamayoDriver) -> None:
    here, there = ask(in_process, moment(), SEEDS), ask(in_worker, moment(), SEEDS)
    assert here.trajectories_m.shape == (6, 64, 3)
    np.testing.assert_array_equal(here.trajectories_m, there.trajectories_m)
    assert here.reasoning == there.reasoning
    assert len(set(here.reasoning)) == 6
    assert here.reasoning[0].startswith("word")


@pytest.mark.parametrize("transport", ["in_process", "in_worker"])
def test_a_reasoning_one_token_shorter_leaves_the_flow_noise_as_it_is(
    transport: str, request: pytest.FixtureRequest
) -> None:
    driver = request.getfixturevalue(transport)
    original, shorter = driver.predict(moment(20), SEEDS), driver.predict(moment(19), SEEDS)
    assert [len(text.split()) for text in original.reasoning] == [20] * 6
    assert [len(text.split()) for text in shorter.reasoning] == [19] * 6
    np.testing.assert_array_equal(original.trajectories_m, shorter.trajectories_m)


def test_with_one_seed_for_both_a_shorter_reasoning_would_move_the_stand_ins_trajectories(
    in_process: AlpamayoDriver,
) -> None:
    """What the test above rests on: the stand-in draws words and noise from one generator, as the real model does."""
    network = import_module("alpamayo_r1.models.alpamayo_r1").AlpamayoR1(torch.tensor(12.0))
    paths = []
    for length in (20, 19):
        torch.manual_seed(0)
        network._reason(length, 6, 0.6, 0.98)
        paths.append(network.diffusion.sample(6, network._path, "cpu").detach())
    assert float((paths[0] - paths[1]).norm(dim=-1).mean()) > 0.3


def test_the_same_seeds_repeat_the_answer_whatever_was_asked_before_and_others_change_it(
    in_worker: AlpamayoDriver,
) -> None:
    first = in_worker.predict(moment(), SEEDS)
    in_worker.predict(moment(40), SEEDS[:2])
    again = in_worker.predict(moment(), SEEDS)
    other = in_worker.predict(moment(), seeds(0, "driver", "another clip", 6))
    np.testing.assert_array_equal(first.trajectories_m, again.trajectories_m)
    assert first.reasoning == again.reasoning
    assert np.abs(first.trajectories_m - other.trajectories_m).max() > 0.1
    assert first.reasoning != other.reasoning


def test_samples_are_drawn_chunk_by_chunk_from_their_own_seeds(
    checkpoints: dict[str, UPath], stand_in_importable: None
) -> None:
    driver = AlpamayoDriver.from_checkpoint(checkpoints["r1"], chunk=2)
    all_six, first_four = driver.predict(moment(), SEEDS), driver.predict(moment(), SEEDS[:4])
    np.testing.assert_array_equal(all_six.trajectories_m[:4], first_four.trajectories_m)
    assert all_six.reasoning[:4] == first_four.reasoning
    assert len(np.unique(all_six.trajectories_m[:, -1, 1])) == 6


def test_asking_leaves_the_random_numbers_of_this_process_alone(in_process: AlpamayoDriver) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    in_process.predict(moment(), SEEDS)
    assert torch.equal(torch.rand(3), expected)


def test_no_seeds_are_no_samples(in_process: AlpamayoDriver) -> None:
    output = in_process.predict(moment(), ())
    assert (output.trajectories_m.shape, output.reasoning) == ((0, 64, 3), ())


def test_numbers_that_are_not_finite_are_the_drivers_error(in_worker: AlpamayoDriver) -> None:
    with pytest.raises(DriverError, match="driver alpamayo 1 gave positions that are not finite"):
        ask(in_worker, moment(NOT_FINITE), SEEDS)
    assert np.isfinite(ask(in_worker, moment(), SEEDS).trajectories_m).all()


def test_what_libraries_print_is_no_answer(in_worker: AlpamayoDriver) -> None:
    assert len(in_worker.predict(moment(CHATTER), SEEDS).reasoning) == 6


def test_r1_refuses_a_clip_that_lacks_one_of_its_cameras(in_process: AlpamayoDriver) -> None:
    assert not in_process.accepts_one_camera
    with pytest.raises(ItemError, match=r"needs all of its 4 cameras; .* camera_front_tele_30fov is not there"):
        in_process.predict(moment(cameras=CAMERAS[:3]), SEEDS)


def test_1_5_is_told_which_cameras_it_is_shown_and_takes_one(release_1_5: AlpamayoDriver) -> None:
    assert release_1_5.accepts_one_camera
    assert release_1_5.cameras == CAMERAS
    alone = release_1_5.predict(moment(cameras=(FRONT,)), SEEDS)
    assert alone.decisions == ("keep lane, seen by camera 1",) * 6
    assert alone.note == f"shown {FRONT} alone"
    whole = release_1_5.predict(moment(), SEEDS)
    assert whole.decisions == ("keep lane, seen by camera 0 and camera 1 and camera 2 and camera 6",) * 6
    assert whole.note is None


def test_a_clip_with_none_of_its_cameras_is_refused_by_1_5_too(release_1_5: AlpamayoDriver) -> None:
    with pytest.raises(ItemError, match="none of Alpamayo's cameras"):
        release_1_5.predict(moment(cameras=("dashcam",)), SEEDS)


class Recorder:
    """Answers nothing of its own and keeps the question."""

    def ask(self, question: Question) -> Answer:
        self.question = question
        return Answer(np.zeros((len(question.seeds), 64, 3), np.float32), ("",), ("",))

    def close(self) -> None: ...


def test_every_camera_is_shown_in_the_row_of_its_number() -> None:
    host = Recorder()
    given = moment()
    for value, name in enumerate(CAMERAS):
        given.frames[name][:] = 50 * value
        given.frames[name][3, 5, 7] = (1, 2, 3)
    AlpamayoDriver(host, "r1").predict(replace(given, frames=dict(reversed(given.frames.items()))), SEEDS[:1])
    shown = host.question
    assert shown.camera_indices.tolist() == [0, 1, 2, 6]
    assert (shown.frames.shape, shown.frames.dtype) == ((4, 4, 3, 32, 64), np.uint8)
    assert [int(rows[0, 0, 0, 0]) for rows in shown.frames] == [0, 50, 100, 150]
    assert shown.frames[:, 3, :, 5, 7].tolist() == [[1, 2, 3]] * 4
    assert shown.frames[:, :3, :, 5, 7].tolist() != shown.frames[:, 1:, :, 5, 7].tolist()
    np.testing.assert_array_equal(shown.history_xyz_m, given.history_xyz_m.astype(np.float32))
    assert shown.seeds.tolist() == [SEEDS[0]]


def test_a_reasoning_without_named_action_decides_by_its_first_sentence() -> None:
    class Two(Recorder):
        def ask(self, question: Question) -> Answer:
            texts = ("Keep the lane. The line is solid.", "Slow down to 2.5 m/s")
            return Answer(np.zeros((2, 64, 3), np.float32), texts, ("", ""))

    output = AlpamayoDriver(Two(), "r1").predict(moment(), SEEDS[:2])
    assert output.decisions == ("Keep the lane.", "Slow down to 2.5 m/s")
    assert AlpamayoDriver(Recorder(), "r1").predict(moment(), SEEDS[:1]).decisions is None


def test_a_camera_of_another_size_is_shown_at_the_size_of_the_largest(in_process: AlpamayoDriver) -> None:
    plain = in_process.predict(moment(), SEEDS)
    mixed = in_process.predict(resized(moment(), CAMERAS[0], 32, 16), SEEDS)
    np.testing.assert_array_equal(plain.trajectories_m, mixed.trajectories_m)


def test_a_package_that_draws_its_noise_elsewhere_is_refused() -> None:
    class Elsewhere:
        class diffusion:
            @staticmethod
            def sample() -> None: ...

        def sample_trajectories_from_data_with_vlm_rollout(self, **_: object) -> tuple[torch.Tensor, None, dict]:
            return torch.zeros(1, 1, 1, 64, 3), None, {}

    class Processor:
        def apply_chat_template(self, *_: object, **__: object) -> dict[str, torch.Tensor]:
            return {"input_ids": torch.zeros(1, 1)}

    class Helper:
        @staticmethod
        def create_message(frames: torch.Tensor) -> list[object]:
            return []

    options = ModelOptions("r1", "", "cpu", 0.6, 0.98, 256, 6)
    model = AlpamayoModel(Elsewhere(), Processor(), Helper(), options, torch.device("cpu"))
    question = Question(
        np.zeros((1, 4, 3, 8, 8), np.uint8),
        np.array([1]),
        np.zeros((16, 3), np.float32),
        np.zeros((16, 3, 3), np.float32),
        np.array([1], np.uint64),
    )
    with pytest.raises(RuntimeError, match=r"did not call diffusion\.sample"):
        model.drive(question)


def test_seeds_of_words_and_of_noise_differ_and_follow_the_whole_chunk() -> None:
    drawn = {common_seed(purpose, chunk) for purpose in ("flow", "reasoning") for chunk in ([1, 2], [2, 1], [1], [12])}
    assert len(drawn) == 8
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_a_question_and_its_seeds_come_back_from_the_file(tmp_path: Path) -> None:
    question = Question(
        np.full((1, 4, 3, 2, 2), 7, np.uint8),
        np.array([6]),
        np.ones((16, 3), np.float32),
        np.ones((16, 3, 3), np.float32),
        np.array([2**64 - 1, 0], np.uint64),
    )
    question.save(tmp_path / "question.npz")
    found = Question.load(tmp_path / "question.npz")
    assert found.seeds.tolist() == [2**64 - 1, 0]
    np.testing.assert_array_equal(found.frames, question.frames)
