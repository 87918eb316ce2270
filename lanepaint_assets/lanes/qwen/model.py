"""Qwen2.5-VL as something that is shown pictures, asked a question, and answers in text.

Called by `engine.py` and by the benchmark. Memory is its business: where the weights are, what a question may take, and
that nothing of a question stays. What is asked, and what an answer means, is not.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from lanepaint_assets.checkpoints.files import CheckpointError, folder_mark
from lanepaint_assets.lanes.qwen.placement import RESERVE_GIB, GpuMemory, place
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models.components import read_component
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import GIB, Part, Residency

Picture = NDArray[np.uint8]

# A patch has 14 pixels a side; the language model sees 2 x 2 patches as one token.
TOKEN_PIXELS = 28 * 28
# Of one picture, the upper end of the range that the model's card recommends: 1316x728 of a 16:9 frame, in which a lane
# line 10 m ahead is some ten pixels wide. More tokens cost time and memory, and add sky.
PIXEL_BUDGET = 1280 * TOKEN_PIXELS
MIN_PIXELS = 4 * TOKEN_PIXELS

# What a question takes beside the weights: two pictures and a thousand tokens of text keep 0.2 GiB of keys and values;
# the vision tower's widest layer over 10,000 patches and the first step's logits need the rest.
WORKING_BYTES = int(1.5 * GIB)

# What `config.json` calls this kind of model.
KIND = "qwen2_5_vl"
# Every tokenizer of that kind gives this back as it was, and its first token is where a picture goes.
PROBE = "<|image_pad|>road"


class QwenModel:
    """One Qwen2.5-VL and its processor on one device.

    The same question gives the same answer, whatever was asked before. Threads take turns.

    Weights that are split between device and host are in the residency's accounts during a question only. Between
    questions other models cannot send them away: `release` does, so engines that share such a device should call it.

    Args:
        processor: makes the tokenizer and picture processor; called at the first question.
        part: the network, of `residency`.
        residency: of the device.
        gpus: by default this machine's.
        pixel_budget: the most pixels of one picture that the network is shown; larger ones are shrunk.
    """

    def __init__(
        self,
        processor: Callable[[], Qwen2_5_VLProcessor],
        part: Part[Qwen2_5_VLForConditionalGeneration],
        residency: Residency,
        *,
        gpus: GpuMemory | None = None,
        pixel_budget: int = PIXEL_BUDGET,
    ) -> None:
        self._make_processor = processor
        self._part = part
        self._residency = residency
        self._gpus = gpus or GpuMemory.of_this_machine()
        self._pixel_budget = pixel_budget
        # Bytes of weights on the device, once they were split between it and the host.
        self._split_bytes: int | None = None
        # The library's tokenizers fail when two threads use one.
        self._preparing = threading.Lock()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        device: torch.device,
        *,
        memory_gib: float | None = None,
        reserve_gib: float = RESERVE_GIB,
        pixel_budget: int = PIXEL_BUDGET,
    ) -> QwenModel:
        """A released checkpoint; its weights are read at the first question.

        Args:
            folder: on this machine's disk, in transformers' layout.
            device: where it runs.
            memory_gib: the budget of all models on the device; see `Residency.of`.
            reserve_gib: see `GpuMemory`.
            pixel_budget: see the class.

        Raises:
            CheckpointError: the folder holds another kind of model.
        """
        _config(folder)
        residency = Residency.of(device, memory_gib)
        part = residency.part(
            f"qwen {folder} {folder_mark(folder)}", lambda: _read_network(folder, inference_dtype(device))
        )
        gpus = GpuMemory.of_this_machine(reserve_gib)
        return cls(lambda: _read_processor(folder), part, residency, gpus=gpus, pixel_budget=pixel_budget)

    @property
    def loads(self) -> int:
        """How often the weights were read."""
        return self._part.loads

    def ask(self, pictures: Sequence[Picture], text: str, max_new_tokens: int, temperature: float) -> str:
        """The model's answer.

        Args:
            pictures: (H, W, 3) sRGB uint8 each; the model knows them as "Picture 1", "Picture 2", ...
            text: the question.
            max_new_tokens: the answer is cut there.
            temperature: of sampling, which is seeded from the question; 0 takes the likeliest word each time.

        Raises:
            ItemError: the question does not fit into the device's memory, even with pictures of half the pixels, or
                the network gave NaN or infinity.
            CheckpointError: at the first question, where the checkpoint cannot be read.
        """

        def attempt(tight: bool) -> str:
            pixels = self._pixel_budget // 2 if tight else self._pixel_budget
            return self._answer(pictures, text, max_new_tokens, temperature, pixels)

        sizes = " and ".join(f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures)
        return with_retry(attempt, self._residency, f"a question to Qwen2.5-VL about pictures of {sizes}")

    def release(self) -> None:
        """Give the weights' memory back, the device's and the host's; the next question reads them again."""
        self._residency.release(self._part, forget=True)
        self._split_bytes = None
        if self._residency.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def _processor(self) -> Qwen2_5_VLProcessor:
        return self._make_processor()

    def _answer(
        self, pictures: Sequence[Picture], text: str, max_new_tokens: int, temperature: float, pixels: int
    ) -> str:
        # 1. Words and pictures as the network takes them; the device is not needed yet.
        with self._preparing:
            question = self._question(pictures, text, pixels)
        # 2. The answer, token by token; nothing of it stays on the device.
        with self._on_device() as network:
            device = self._residency.device
            next_word = NextWord(temperature, question_seed(pictures, text), device)
            with torch.inference_mode():
                tokens = network.generate(
                    **{name: value.to(device) for name, value in question.items()},
                    max_new_tokens=max_new_tokens,
                    logits_processor=LogitsProcessorList([next_word]),
                ).cpu()
            # The network remembers where the last question's words stood.
            network.model.rope_deltas = None
        # 3. Back to text, without the question.
        said = tokens[:, question["input_ids"].shape[1] :]
        processor: Any = self._processor
        with self._preparing:
            return str(processor.batch_decode(said, skip_special_tokens=True)[0])

    def _question(self, pictures: Sequence[Picture], text: str, pixels: int) -> dict[str, Tensor]:
        """Tokens on the host, and patches of the pictures in the network's number format."""
        content: list[dict[str, str]] = []
        for number in range(1, len(pictures) + 1):
            content += [{"type": "text", "text": f"Picture {number}:"}, {"type": "image"}]
        # Marks of the chat's form, such as the one where a picture goes, are no words of a question.
        content.append({"type": "text", "text": text.replace("<|", "< |")})
        processor: Any = self._processor
        chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        batch = processor(
            text=[chat],
            images=[torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in pictures],
            images_kwargs={"size": {"shortest_edge": MIN_PIXELS, "longest_edge": pixels}},
            return_tensors="pt",
        )
        # Half the bytes over the bus; the vision tower's first layer would round them all the same.
        patches = batch["pixel_values"].to(inference_dtype(self._residency.device))
        return {**batch, "pixel_values": patches}

    @contextmanager
    def _on_device(self) -> Iterator[Any]:
        """The network, ready to compute: whole on the device, or split between it and the host."""
        # From here on one thread at a time; the weights are read at the first question.
        with self._residency.holding():
            if self._split_bytes is None:
                device = self._residency.device
                limit_bytes = (self._residency.budget_bytes or 0) - WORKING_BYTES
                most_bytes = self._gpus.split(device, self._part.bytes, limit_bytes)
                if most_bytes is None:
                    with self._residency.holding(self._part, working_bytes=WORKING_BYTES):
                        yield self._part.module
                    return
                # Split weights stay until they are released: spreading them again costs seconds a question.
                with self._residency.holding(working_bytes=most_bytes[device.index or 0]):
                    self._split_bytes = self._placed(most_bytes)
            with self._residency.holding(working_bytes=self._split_bytes + WORKING_BYTES):
                yield self._part.module

    def _placed(self, most_bytes: dict[int | str, int]) -> int:
        try:
            return place(self._part.module, most_bytes, self._residency.device)
        except torch.OutOfMemoryError:
            # Weights that lie neither here nor there cannot be placed again.
            self.release()
            raise


class NextWord(LogitsProcessor):
    """Chooses each next token with its own random numbers: the library's sampling draws from the process's global ones.

    Args:
        temperature: 0 leaves the choice to the caller, who takes the likeliest.
        seed: of the random numbers.
        device: where the logits are.
    """

    def __init__(self, temperature: float, seed: int, device: torch.device) -> None:
        self._temperature = temperature
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Logits (1, V) in which nothing but the chosen token is possible.

        Raises:
            ItemError: they are not numbers. Drawing from them would take a GPU down for the whole process.
        """
        logits = scores.float() / (self._temperature or 1.0)
        # Masked words have -inf. The largest logit is NaN where any is, and -inf only where no word is left.
        if not bool(torch.isfinite(logits.max())):
            raise ItemError(
                f"Qwen2.5-VL gave NaN or infinity (computed in {scores.dtype}); the checkpoint may be damaged"
            )
        if self._temperature == 0:
            return scores
        chances = torch.softmax(logits, dim=-1)
        token = torch.multinomial(chances, 1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def question_seed(pictures: Sequence[Picture], text: str) -> int:
    """63 bits of a SHA-256 over words and pictures."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for picture in pictures:
        digest.update(f"{picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def plain_generation(network: Any, end: int | list[int], padding: int) -> None:
    """Let nothing but the network choose words.

    The released settings punish repetition, but an answer in JSON repeats its names by design.
    """
    settings: Any = GenerationConfig
    network.generation_config = settings(eos_token_id=end, pad_token_id=padding, do_sample=False)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path}: this file of the checkpoint is missing; copy the checkpoint again")
    config: dict[str, Any] = json.loads(path.read_bytes())
    if config.get("model_type") != KIND:
        raise CheckpointError(f"{path}: it is of a {config.get('model_type')!r} model; a {KIND!r} one is needed")
    return config


def _read_processor(folder: Path) -> Qwen2_5_VLProcessor:
    reader: Any = AutoProcessor
    try:
        processor = reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder}: its tokenizer or picture processor cannot be read ({reason})") from error
    if not isinstance(processor, Qwen2_5_VLProcessor):
        raise CheckpointError(f"{folder}: it holds a {type(processor).__name__}, which cannot be shown pictures")
    if processor.chat_template is None:
        raise CheckpointError(f"{folder}: the chat template is missing; copy the checkpoint again")
    # The library makes an empty tokenizer where the vocabulary is missing.
    tokenizer: Any = processor.tokenizer
    tokens = tokenizer(PROBE).input_ids
    if tokenizer.decode(tokens) != PROBE or tokens[0] != _config(folder).get("image_token_id"):
        raise CheckpointError(f"{folder}: the tokenizer's vocabulary is missing or of another model; copy it again")
    return processor


def _read_network(folder: Path, dtype: torch.dtype) -> Any:
    network: Any = read_component(Qwen2_5_VLForConditionalGeneration, folder, dtype)
    released = network.generation_config
    end = released.eos_token_id if released.eos_token_id is not None else network.config.text_config.eos_token_id
    padding = released.pad_token_id if released.pad_token_id is not None else network.config.text_config.pad_token_id
    plain_generation(network, end, padding)
    return network
