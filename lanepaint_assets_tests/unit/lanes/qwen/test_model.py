"""`QwenModel` on the real classes, tiny and untrained: answers depend on the question alone, memory is given back."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.lanes.qwen.model import (
    MIN_PIXELS,
    PIXEL_BUDGET,
    TOKEN_PIXELS,
    NextWord,
    QwenModel,
    question_seed,
)
from lanepaint_assets.lanes.qwen.placement import GpuMemory
from lanepaint_assets.lanes.qwen.random_weights import build_network, config_7b, random_qwen
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models.residency import GIB, Residency
from lanepaint_assets_tests.tiny_models.qwen import qwen_processor, tiny_qwen

CPU = torch.device("cpu")
WORDS = 24

# Of a saved configuration; the released ones have none of them.
NEWER_FIELDS = ("model_type", "rope_parameters", "layer_types", "pad_token_id", "in_channels")


def picture(seed: int, width: int = 160, height: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fresh(seed: int = 0, **options: Any) -> QwenModel:
    """A model of its own, with weights from a seed."""
    processor = qwen_processor()
    residency = Residency(CPU)
    part = residency.part("tiny", lambda: tiny_qwen(processor, seed))
    return QwenModel(lambda: processor, part, residency, **options)


@pytest.fixture
def model() -> QwenModel:
    return fresh()


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy: models of one folder are one model in a process."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "qwen"))


def test_the_answer_depends_on_every_picture_their_order_and_the_words(model: QwenModel) -> None:
    a, b, c = picture(1), picture(2), picture(3)
    questions = [([a, b], "count?"), ([b, a], "count?"), ([a, c], "count?"), ([a], "count?"), ([a, b], "color?")]
    answers = [model.ask(pictures, text, WORDS, 0.0) for pictures, text in questions]
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize("temperature", [0.0, 0.1, 2.0])
def test_the_same_question_gets_the_same_answer_whatever_was_asked_before(temperature: float) -> None:
    model, a, b = fresh(), picture(1), picture(2)
    first = model.ask([a, b], "count?", WORDS, temperature)
    model.ask([b], "something else?", WORDS, temperature)
    assert model.ask([a.copy(), b.copy()], "count?", WORDS, temperature) == first
    assert fresh().ask([a, b], "count?", WORDS, temperature) == first


def test_sampling_is_bolder_at_a_higher_temperature(model: QwenModel) -> None:
    cold = model.ask([picture(1)], "count?", WORDS, 0.0)
    assert model.ask([picture(1)], "count?", WORDS, 1e-4) == cold
    assert model.ask([picture(1)], "count?", WORDS, 3.0) != cold


def test_sampling_leaves_the_process_own_random_numbers_alone(model: QwenModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.ask([picture(1)], "count?", WORDS, 1.0)
    assert torch.equal(torch.rand(3), expected)


def test_the_seed_is_of_words_and_pictures() -> None:
    a, b = picture(1), picture(2)
    turned = np.ascontiguousarray(a.reshape(160, 90, 3))
    questions = [([a, b], "x"), ([b, a], "x"), ([a, b], "y"), ([a], "x"), ([turned, b], "x"), ([], "x")]
    seeds = [question_seed(pictures, text) for pictures, text in questions]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_answer_is_cut_at_its_limit(model: QwenModel) -> None:
    lengths = [len(model.ask([picture(1)], "count?", limit, 0.0).encode(errors="replace")) for limit in (1, 4)]
    assert lengths[0] < lengths[1]


def test_marks_of_the_chat_in_a_question_are_words(model: QwenModel) -> None:
    question = model._question([picture(1)], "<|image_pad|><|im_end|> <|video_pad|>", PIXEL_BUDGET)
    # 90x160 is shown as 84x168: 3 x 6 tokens.
    ids = model._processor.tokenizer.convert_tokens_to_ids
    assert int((question["input_ids"] == ids("<|image_pad|>")).sum()) == 18
    assert int((question["input_ids"] == ids("<|video_pad|>")).sum()) == 0
    model.ask([picture(1)], "<|image_pad|>", 2, 0.0)


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (3848, 2168), (1080, 1920), (720, 480), (20, 14)])
def test_a_picture_is_shown_within_its_budget_of_pixels(width: int, height: int, model: QwenModel) -> None:
    for budget in (PIXEL_BUDGET, PIXEL_BUDGET // 2):
        question = model._question([picture(0, width, height)], "x", budget)
        _, rows, columns = question["image_grid_thw"][0].tolist()
        shown = rows * columns * 14 * 14
        assert min(MIN_PIXELS, width * height) <= shown <= budget
        if width * height > budget:
            assert shown > 0.9 * budget
        assert columns / rows == pytest.approx(width / height, rel=0.15)
        assert shown % TOKEN_PIXELS == 0


def test_pictures_are_shown_upright_in_their_colours_and_order(model: QwenModel) -> None:
    red_over_blue = np.zeros((56, 112, 3), dtype=np.uint8)
    red_over_blue[:28, :, 0] = red_over_blue[28:, :, 2] = 255
    patches = model._question([red_over_blue, red_over_blue[::-1]], "x", PIXEL_BUDGET)["pixel_values"]
    # A patch is its channels one after another; those of a picture go from top to bottom.
    red, _, blue = patches.view(2, 32, 3, -1).mean(-1).unbind(-1)
    top, bottom = slice(0, 16), slice(16, 32)
    assert (red[0, top] > blue[0, top]).all()
    assert (red[0, bottom] < blue[0, bottom]).all()
    assert (red[1, top] < blue[1, top]).all()
    assert (red[1, bottom] > blue[1, bottom]).all()


def test_pictures_that_cannot_be_written_to_and_views_are_taken(model: QwenModel) -> None:
    frames = np.stack([picture(1), picture(2)])
    frames.setflags(write=False)
    expected = model.ask([picture(2)[:, ::-1].copy()], "x", 4, 0.0)
    assert model.ask([frames[1][:, ::-1]], "x", 4, 0.0) == expected


def test_a_checkpoint_answers_as_the_model_that_was_saved(checkpoint: Path) -> None:
    reloaded = QwenModel.from_folder(checkpoint, CPU)
    assert reloaded.loads == 0
    for text in ("count?", "color?", "pattern?"):
        assert reloaded.ask([picture(1)], text, WORDS, 0.1) == fresh().ask([picture(1)], text, WORDS, 0.1)
    assert reloaded.loads == 1
    assert fresh(seed=1).ask([picture(1)], "count?", WORDS, 0.1) != fresh().ask([picture(1)], "count?", WORDS, 0.1)


def test_released_weights_are_gone_and_read_again(checkpoint: Path) -> None:
    model = QwenModel.from_folder(checkpoint, CPU)
    answer = model.ask([picture(1)], "count?", WORDS, 0.1)
    weight = weakref.ref(next(model._part.module.parameters()))
    model.release()
    assert weight() is None
    assert model.ask([picture(1)], "count?", WORDS, 0.1) == answer
    assert model.loads == 2


def test_files_as_they_were_released_give_the_same_answers(checkpoint: Path) -> None:
    """Released files are older than the library: one flat configuration, and sampling that punishes repetition."""
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    text = {name: value for name, value in config.pop("text_config").items() if name not in NEWER_FIELDS}
    vision = {name: value for name, value in config["vision_config"].items() if name not in NEWER_FIELDS}
    released = {
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "sliding_window": 32768,
    }
    vision |= {"in_chans": 3, "spatial_patch_size": 14}
    path.write_text(json.dumps({**text, **config, **released, "vision_config": vision, "torch_dtype": "bfloat16"}))
    path = checkpoint / "generation_config.json"
    end = json.loads(path.read_text())["eos_token_id"]
    choice = {"do_sample": True, "repetition_penalty": 1.5, "temperature": 1e-6, "top_k": 1, "top_p": 0.001}
    path.write_text(json.dumps({"eos_token_id": [end, 256], "pad_token_id": 256, "bos_token_id": 256, **choice}))
    answer = QwenModel.from_folder(checkpoint, CPU).ask([picture(1)], "count?", 64, 0.0)
    assert answer == fresh().ask([picture(1)], "count?", 64, 0.0)


def test_threads_take_turns_and_read_the_weights_once() -> None:
    model, pictures = fresh(), [picture(seed) for seed in range(4)]
    expected = [fresh().ask([one], "count?", WORDS, 0.1) for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: model.ask([one], "count?", WORDS, 0.1), pictures)) == expected
    assert model.loads == 1


def running_out(model: QwenModel, times: int, budgets: list[int]) -> Callable[..., str]:
    answer = model._answer

    def attempt(pictures: Any, text: str, words: int, temperature: float, pixels: int) -> str:
        budgets.append(pixels)
        if len(budgets) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return answer(pictures, text, words, temperature, pixels)

    return attempt


def test_out_of_memory_is_tried_again_with_half_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, budgets = fresh(pixel_budget=40 * TOKEN_PIXELS), list[int]()
    monkeypatch.setattr(model, "_answer", running_out(model, 1, budgets))
    large = picture(1, 320, 180)
    answer = model.ask([large], "count?", WORDS, 0.1)
    assert budgets == [40 * TOKEN_PIXELS, 20 * TOKEN_PIXELS]
    assert answer == fresh(pixel_budget=20 * TOKEN_PIXELS).ask([large], "count?", WORDS, 0.1)


def test_out_of_memory_twice_fails_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh()
    monkeypatch.setattr(model, "_answer", running_out(model, 2, []))
    with pytest.raises(ItemError, match=r"a question to Qwen2\.5-VL about pictures of 160x90 and 80x60 does not fit"):
        model.ask([picture(1), picture(2, 80, 60)], "count?", WORDS, 0.1)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_nan_fails_the_item_and_leaves_the_model_usable(model: QwenModel, temperature: float) -> None:
    good = model.ask([picture(1)], "count?", WORDS, temperature)
    head = model._part.module.lm_head.weight
    kept = head.detach().clone()
    head.data.fill_(torch.nan)
    with pytest.raises(ItemError, match=r"gave NaN .* the checkpoint may be damaged"):
        model.ask([picture(1)], "count?", WORDS, temperature)
    head.data.copy_(kept)
    assert model.ask([picture(1)], "count?", WORDS, temperature) == good


@pytest.mark.parametrize("temperature", [0.0, 0.1])
@pytest.mark.parametrize("logit", [torch.nan, torch.inf])
def test_one_word_without_a_finite_chance_fails_the_item(model: QwenModel, logit: float, temperature: float) -> None:
    good = model.ask([picture(1)], "count?", WORDS, temperature)
    word = torch.tensor([7])
    damage = model._part.module.lm_head.register_forward_hook(
        lambda layer, hidden, logits: logits.index_fill(-1, word, logit)
    )
    with pytest.raises(ItemError, match=r"gave NaN or infinity .* the checkpoint may be damaged"):
        model.ask([picture(1)], "count?", WORDS, temperature)
    damage.remove()
    assert model.ask([picture(1)], "count?", WORDS, temperature) == good


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_masked_words_are_not_chosen_and_one_must_be_left(temperature: float) -> None:
    next_word, words = NextWord(temperature, 1, CPU), torch.zeros(1, 1, dtype=torch.long)
    masked = torch.full((1, 9), -torch.inf)
    left = masked.index_fill(1, torch.tensor([4]), 2.0)
    assert next_word(words, left).argmax() == 4
    with pytest.raises(ItemError, match="the checkpoint may be damaged"):
        next_word(words, masked)


class SmallGpu(GpuMemory):
    """Has no room for the weights, which visit it from the host."""

    def split(self, device: torch.device, weights_bytes: int, limit_bytes: int) -> dict[int | str, int] | None:
        assert weights_bytes > 100_000
        return {0: 0, "cpu": GIB}


def test_split_weights_answer_as_whole_ones_and_can_be_released(
    model: QwenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a GPU accelerate keeps everything in one place, which needs no visits.
    towers = {"model.visual": "cpu", "model.language_model": "cpu", "lm_head": "cpu"}
    monkeypatch.setattr("accelerate.infer_auto_device_map", lambda *_, **__: towers)
    split = fresh(gpus=SmallGpu(()))
    for text in ("count?", "color?"):
        assert split.ask([picture(1)], text, WORDS, 0.1) == model.ask([picture(1)], text, WORDS, 0.1)
    assert {weight.device.type for weight in split._part.module.parameters()} == {"meta"}
    assert split.loads == 1
    weight = weakref.ref(next(split._part.module.parameters()))
    split.release()
    assert weight() is None
    assert split.ask([picture(1)], "count?", WORDS, 0.1) == model.ask([picture(1)], "count?", WORDS, 0.1)
    assert split.loads == 2


def test_a_checkpoint_of_another_model_is_refused_at_once(checkpoint: Path) -> None:
    config = checkpoint / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "qwen2_vl"}))
    with pytest.raises(CheckpointError, match=r"config\.json: it is of a 'qwen2_vl' model; a 'qwen2_5_vl' one"):
        QwenModel.from_folder(checkpoint, CPU)


def test_a_folder_without_a_configuration_is_refused_at_once(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: this file of the checkpoint is missing"):
        QwenModel.from_folder(checkpoint, CPU)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("tokenizer.json", "the tokenizer's vocabulary is missing"),
        ("processor_config.json", "its tokenizer or picture processor cannot be read"),
        ("chat_template.jinja", "the chat template is missing"),
    ],
)
def test_a_checkpoint_without_a_part_of_its_processor_is_refused(checkpoint: Path, file: str, reason: str) -> None:
    (checkpoint / file).unlink()
    with pytest.raises(CheckpointError, match=f"qwen: {reason}"):
        QwenModel.from_folder(checkpoint, CPU).ask([picture(1)], "count?", WORDS, 0.1)


def test_weights_that_are_missing_are_named_and_not_drawn_at_random(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    missing = next(name for name in weights if "q_proj.weight" in name)
    del weights[missing]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(.*q_proj\.weight\)"):
        QwenModel.from_folder(checkpoint, CPU).ask([picture(1)], "count?", WORDS, 0.1)


def test_weights_of_another_shape_are_refused(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if "q_proj.weight" in name)
    weights[name] = weights[name][:4].clone()
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are of another shape \(\S*q_proj\.weight: \[4, 32\] inst"):
        QwenModel.from_folder(checkpoint, CPU).ask([picture(1)], "count?", WORDS, 0.1)


def test_weights_that_were_cut_short_are_refused(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="qwen: not a readable Qwen2_5_VL"):
        QwenModel.from_folder(checkpoint, CPU).ask([picture(1)], "count?", WORDS, 0.1)


def test_the_full_size_architecture_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        network = build_network(config_7b(qwen_processor()))
    assert sum(weight.numel() for weight in network.parameters()) / 1e9 == pytest.approx(8.292, abs=0.001)


def test_random_weights_are_drawn_at_the_first_question_and_leave_the_process_own_random_numbers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = tiny_qwen(qwen_processor()).config
    monkeypatch.setattr("lanepaint_assets.lanes.qwen.random_weights.config_7b", lambda _: small)
    model = random_qwen(qwen_processor(), CPU, seed=99)
    assert model.loads == 0
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.ask([picture(1)], "count?", WORDS, 0.1)
    assert model.loads == 1
    assert torch.equal(torch.rand(3), expected)
