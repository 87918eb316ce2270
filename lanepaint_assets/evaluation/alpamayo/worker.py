"""Where Alpamayo computes: what it is asked, what it answers, how its package is called, and a process that does it.

As a script it runs under the interpreter of the model's own environment, which has numpy, torch and the model's
package but not LanePaint: this file imports nothing else. `transport.py` starts it, or uses the same classes in its own
process. Which cameras are shown, and what a wrong answer means for an item, are not its business.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# Files of the folder that both processes share. One question is asked at a time.
OPTIONS_FILE, HUB_FOLDER, QUESTION_FILE, ANSWER_FILE = "options.json", "hub", "question.npz", "answer.npz"


class LoadError(Exception):
    """The model cannot be used here at all; the message says why."""


class WeightsError(LoadError):
    """The files of the model are to blame, and would be anywhere."""


@dataclass(frozen=True)
class Release:
    """How one release of the model is called.

    Attributes:
        package: the top module.
        module, class_name: where its model class is.
        names_cameras: its prompt names the cameras, so it is told which they are and may be shown any number of them.
        load_options: what `from_pretrained` needs beside the number format.
    """

    package: str
    module: str
    class_name: str
    names_cameras: bool
    load_options: Mapping[str, str] = field(default_factory=dict)


# R1 loads PyTorch's attention by itself; 1.5 asks for flash-attn, and fails without it, unless told otherwise.
RELEASES = {
    "r1": Release("alpamayo_r1", "alpamayo_r1.models.alpamayo_r1", "AlpamayoR1", names_cameras=False),
    "1.5": Release(
        "alpamayo1_5",
        "alpamayo1_5.models.alpamayo1_5",
        "Alpamayo1_5",
        names_cameras=True,
        load_options={"attn_implementation": "sdpa"},
    ),
}


@dataclass(frozen=True)
class ModelOptions:
    """What stays the same for a step.

    Attributes:
        release: a key of `RELEASES`.
        weights: folder with the model's configuration and weights.
        device: `cpu`, `cuda`, `cuda:1`, ..., or `auto`: a GPU where there is one.
        temperature, top_p, max_tokens: of the reasoning.
        chunk: samples computed at once; random numbers are drawn a chunk.
    """

    release: str
    weights: str
    device: str
    temperature: float
    top_p: float
    max_tokens: int
    chunk: int

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelOptions:
        """Read the file back."""
        return cls(**json.loads(text))


@dataclass(frozen=True, eq=False)
class Question:
    """One moment.

    Attributes:
        frames: (N, 4, 3, H, W) sRGB uint8, a row a camera, oldest first; the processor scales values, so never floats.
        camera_indices: (N,) int64, PhysicalAI-AV's numbers, rising.
        history_xyz_m: (16, 3) float32, rig frame at t0.
        history_rotation: (16, 3, 3) float32.
        seeds: (K,) uint64, one a sample.
    """

    frames: NDArray[np.uint8]
    camera_indices: NDArray[np.int64]
    history_xyz_m: NDArray[np.float32]
    history_rotation: NDArray[np.float32]
    seeds: NDArray[np.uint64]

    def save(self, path: Path) -> None:
        """Write the file; not compressed, which would take longer than the model."""
        np.savez(
            path,
            frames=self.frames,
            camera_indices=self.camera_indices,
            history_xyz_m=self.history_xyz_m,
            history_rotation=self.history_rotation,
            seeds=self.seeds,
        )

    @classmethod
    def load(cls, path: Path) -> Question:
        """Read the file back."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model says.

    Attributes:
        trajectories_m: (K, 64, 3) float32, rig frame at t0; neither shape nor numbers are checked here.
        reasoning: K texts.
        meta_actions: K texts, empty where the model names none.
    """

    trajectories_m: NDArray[np.float32]
    reasoning: tuple[str, ...]
    meta_actions: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the file."""
        texts = json.dumps({"reasoning": self.reasoning, "meta_actions": self.meta_actions})
        np.savez(path, trajectories_m=self.trajectories_m, texts=np.array(texts))

    @classmethod
    def load(cls, path: Path) -> Answer:
        """Read the file back."""
        with np.load(path, allow_pickle=False) as arrays:
            texts = json.loads(str(arrays["texts"]))
            return cls(arrays["trajectories_m"], tuple(texts["reasoning"]), tuple(texts["meta_actions"]))


class AlpamayoModel:
    """A loaded model.

    Random numbers are common to all arms of a comparison: a chunk of samples has one seed for its reasoning and another
    one for the flow that draws its trajectories, so that a reasoning of another length leaves the flow's noise alone.
    With one seed for both, a reasoning that is one token shorter moved trajectories as far as another seed did.

    Args:
        network: of the release's class, on `device`.
        processor: of the release's `helper.get_processor`.
        helper: the release's module `helper`.
        options: how to sample.
        device: where the network is.
    """

    def __init__(self, network: Any, processor: Any, helper: Any, options: ModelOptions, device: torch.device) -> None:
        self._network = network
        self._processor = processor
        self._helper = helper
        self._options = options
        self._device = device
        self._release = RELEASES[options.release]
        self._chunk: Sequence[int] = ()
        self._flows = 0
        self._flow_sample = network.diffusion.sample
        network.diffusion.sample = self._seeded_flow_sample

    @classmethod
    def load(cls, options: ModelOptions, hub: Path) -> AlpamayoModel:
        """Read the model from disk, without network.

        Args:
            options: which, and where.
            hub: a cache of Hugging Face's hub with the two repositories that the package asks for by name.

        Raises:
            LoadError: torch, the package or the device is not there, or memory does not suffice.
            WeightsError: a file cannot be read, is pickled, or its weights are not the package's.
        """
        with offline_hub(hub):
            release = RELEASES[options.release]
            module, helper = _imported(release.module), _imported(f"{release.package}.helper")
            torch = _imported("torch")
            device = _device(options.device)
            # Half the memory, as the weights were released; processors without a GPU compute float32 faster.
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            try:
                network_class = getattr(module, release.class_name)
                network = _read_network(network_class, options, dtype, release)
                network = network.to(device).eval()
                processor = helper.get_processor(network.tokenizer)
                return cls(network, processor, helper, options, device)
            except WeightsError:
                raise
            except Exception as error:
                raise LoadError(_not_loaded(options, str(device), error)) from error

    def drive(self, question: Question) -> Answer:
        """Sample one trajectory a seed, `chunk` of them at a time."""
        import torch

        tokens = self._tokens(question)
        # Batch of one, one group of samples.
        history_xyz = torch.from_numpy(question.history_xyz_m)[None, None].to(self._device)
        history_rotation = torch.from_numpy(question.history_rotation)[None, None].to(self._device)
        seeds = [int(seed) for seed in question.seeds]
        chunks = [seeds[start : start + self._options.chunk] for start in range(0, len(seeds), self._options.chunk)]
        answers = [self._sampled(tokens, history_xyz, history_rotation, chunk) for chunk in chunks]
        return Answer(
            np.concatenate([answer.trajectories_m for answer in answers]),
            tuple(text for answer in answers for text in answer.reasoning),
            tuple(text for answer in answers for text in answer.meta_actions),
        )

    def _tokens(self, question: Question) -> dict[str, Any]:
        """Pictures and text as the network takes them."""
        import torch

        named = {"camera_indices": torch.from_numpy(question.camera_indices)} if self._release.names_cameras else {}
        message = self._helper.create_message(torch.from_numpy(question.frames).flatten(0, 1), **named)
        return dict(
            self._processor.apply_chat_template(
                message,
                tokenize=True,
                add_generation_prompt=False,
                continue_final_message=True,
                return_dict=True,
                return_tensors="pt",
            )
        )

    def _sampled(
        self, tokens: Mapping[str, Any], history_xyz: torch.Tensor, history_rotation: torch.Tensor, seeds: Sequence[int]
    ) -> Answer:
        import torch

        options = self._options
        on_gpu = self._device.type == "cuda"
        # The network takes entries out of its input.
        copies = {
            name: value.detach().clone().to(self._device) if isinstance(value, torch.Tensor) else value
            for name, value in tokens.items()
        }
        self._chunk, self._flows = seeds, 0
        with (
            torch.cuda.device(self._device if on_gpu else -1),
            torch.random.fork_rng(devices=[self._device] if on_gpu else []),
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=on_gpu),
        ):
            torch.manual_seed(common_seed("reasoning", seeds))
            xyz, _, extra = self._network.sample_trajectories_from_data_with_vlm_rollout(
                data={"tokenized_data": copies, "ego_history_xyz": history_xyz, "ego_history_rot": history_rotation},
                top_p=options.top_p,
                top_k=None,
                temperature=options.temperature,
                num_traj_samples=len(seeds),
                # More sets than one fail in both releases.
                num_traj_sets=1,
                diffusion_kwargs=None,
                max_generation_length=options.max_tokens,
                return_extra=True,
            )
        if not self._flows:
            raise RuntimeError(
                f"{self._release.package} did not call diffusion.sample, whose noise must be common to all arms; this "
                "version of the package is not supported"
            )
        # Of the one batch and the one set.
        trajectories = xyz[0, 0].float().cpu().numpy()
        return Answer(trajectories, _texts(extra, "cot", len(seeds)), _texts(extra, "meta_action", len(seeds)))

    def _seeded_flow_sample(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own `diffusion.sample`, on random numbers that depend on the chunk alone."""
        import torch

        self._flows += 1
        torch.manual_seed(common_seed("flow", [*self._chunk, self._flows]))
        return self._flow_sample(*args, **kwargs)


def common_seed(purpose: str, seeds: Sequence[int]) -> int:
    """One 63-bit seed of a chunk of samples, another for each purpose."""
    digest = hashlib.sha256(json.dumps([purpose, *seeds]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def offline_hub(hub: Path) -> Iterator[None]:
    """Hugging Face's libraries find repositories in `hub` and nowhere else while this is open."""
    wanted: dict[str, Any] = {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    # Where the library was imported before, it has read its variables already.
    constants = sys.modules.get("huggingface_hub.constants")
    read = {"HF_HUB_CACHE": str(hub), "HUGGINGFACE_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": True}
    read_before = {name: getattr(constants, name) for name in read if hasattr(constants, name)}
    for name in read_before:
        setattr(constants, name, read[name])
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for name, value in read_before.items():
            setattr(constants, name, value)


def _read_network(network_class: Any, options: ModelOptions, dtype: torch.dtype, release: Release) -> Any:
    """Into host memory, whatever the device: what fails here is a file's fault, a missing package's or the host's."""
    try:
        # Never a pickle, which may run code of its own.
        return network_class.from_pretrained(options.weights, dtype=dtype, use_safetensors=True, **release.load_options)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise WeightsError(_not_loaded(options, "cpu", error)) from error


def _not_loaded(options: ModelOptions, device: str, error: Exception) -> str:
    return f"the model in {options.weights} cannot be loaded on {device} ({type(error).__name__}: {error})"


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:
        reason = f"{sys.executable} cannot import {module} ({type(error).__name__}: {error})"
        remedy = f"install {module.split('.')[0]} in a Python environment of its own and name its interpreter in"
        raise LoadError(f"{reason}; {remedy} LANEPAINT_ALPAMAYO_PYTHON (README, Alpamayo)") from error


def _device(name: str) -> torch.device:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if gpus else "cpu") if name == "auto" else name)
    if device.type != "cuda":
        return device
    if (device.index or 0) >= gpus:
        raise LoadError(
            f"there is no device {name!r}: torch {torch.__version__} of {sys.executable} sees {gpus} GPU(s)"
        )
    return torch.device("cuda", device.index or 0)


def _texts(extra: Mapping[str, Any], name: str, count: int) -> tuple[str, ...]:
    """`count` texts of an array of any shape; empty ones where the model gives none of that name."""
    found = extra.get(name)
    if found is None:
        return ("",) * count
    texts = tuple(str(text).strip() for text in np.asarray(found, dtype=object).reshape(-1))
    if len(texts) != count:
        raise RuntimeError(f"the model gave {len(texts)} texts of {name!r} for {count} samples")
    return texts


def main(shared: Path) -> int:
    """Load, then answer questions until the parent goes; after a failure, the parent starts another process.

    What this process says is lines of JSON: `ready`, `unable`, `damaged`, `answered` or `failed`, with a reason.
    """
    # Libraries print and read as they like: they get the log and nothing, the parent its own two pipes.
    said = os.fdopen(os.dup(1), "w", buffering=1)
    heard = os.fdopen(os.dup(0))
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    questions: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(heard, questions, shared), daemon=True).start()
    try:
        model = AlpamayoModel.load(ModelOptions.from_json((shared / OPTIONS_FILE).read_text()), shared / HUB_FOLDER)
    except LoadError as error:
        traceback.print_exc()
        _say(said, "damaged" if isinstance(error, WeightsError) else "unable", str(error))
        return 1
    _say(said, "ready")
    while True:
        questions.get()
        try:
            model.drive(Question.load(shared / QUESTION_FILE)).save(shared / ANSWER_FILE)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this question's reason, with its trace in the log
            traceback.print_exc()
            _say(said, "failed", f"{type(error).__name__}: {error}")
            return 1
        _say(said, "answered")


def _listen(heard: TextIO, questions: SimpleQueue[str], shared: Path) -> None:
    """Pass on lines. When the parent closes the pipe or is killed, nobody waits for an answer: end at once."""
    for line in heard:
        questions.put(line)
    shutil.rmtree(shared, ignore_errors=True)
    os._exit(0)


def _say(said: TextIO, kind: str, reason: str = "") -> None:
    said.write(json.dumps({"kind": kind, "reason": reason}) + "\n")
    said.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
