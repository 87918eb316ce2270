"""T5 embeddings of captions, computed once for all engines that read them: FLUX.1 Fill and CogVideoX have one encoder.

Called by `flux_fill` and `videopainter`. What the embeddings steer is theirs; CLIP is FLUX's own and not here.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.torch_models.components import random_component, read_component, read_tokenizer
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import GIB, Part, Residency

# Captions that the encoder takes at once: 8 x 512 tokens fill a GPU.
BATCH = 8

# Embeddings kept: a caption of 512 tokens is 4 MiB in bfloat16, so this is a step of 100 clips with 10 prompts.
CACHE_BYTES = 4 * GIB

# Bytes beside the weights for each pair of tokens that attend to each other in one head: scores and their softmax in
# float32, the softmax again in the weights' format, and the rest of the layer; 12.8 were measured at 8 x 512 tokens.
BYTES_A_PAIR = 14

# What makes a T5 encoder this one, of the entries of its config.json.
_ARCHITECTURE = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "feed_forward_proj",
    "layer_norm_epsilon",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
)

# FLUX.1 is released with both forms of the vocabulary, CogVideoX with SentencePiece's.
_VOCABULARIES = (("tokenizer.json",), ("spiece.model",))

# Some releases store the embedding of tokens a second time, under this name.
_TIED = "encoder.embed_tokens.weight"

# Tokenizers that agree on their pieces and on these cut captions alike: words, spaces, capitals, marks, other scripts.
_PROBE = "Double  Yellow solid lane-markings; a wet road, 50 km/h (3.5 m wide).\nÉtroite ﬁn Straße ½ 車線 <extra_id_0>"


@dataclass(frozen=True)
class T5Architecture:
    """A T5 v1.1 encoder, by numbers of its config.json; checkpoints bring their own."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    head_width: int
    feedforward: int

    def build(self) -> T5EncoderModel:
        """The encoder with random weights."""
        return T5EncoderModel(
            T5Config(
                vocab_size=self.vocabulary,
                d_model=self.width,
                d_kv=self.head_width,
                d_ff=self.feedforward,
                num_layers=self.layers,
                num_heads=self.heads,
                feed_forward_proj="gated-gelu",
            )
        )


# google/t5-v1_1-xxl, config.json: the encoder of FLUX.1 and CogVideoX; 4.76 billion weights.
T5_XXL = T5Architecture(vocabulary=32128, width=4096, layers=24, heads=64, head_width=64, feedforward=10240)


class TextEncoder:
    """A T5 encoder and what it has said of captions so far; engines whose encoders are the same share one.

    Args:
        tokenizer: of the encoder.
        encoder: its network.
        residency: of the device that it computes on.
        batch: captions that it takes at once.
    """

    _all: ClassVar[WeakValueDictionary[tuple[Residency, str], TextEncoder]] = WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, tokenizer: T5Tokenizer, encoder: Part[T5EncoderModel], residency: Residency, batch: int = BATCH
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._residency = residency
        self._batch = batch
        self._embeddings: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._bytes = 0
        # Held for moments, never while waiting for the device: a thread that has the device may ask for embeddings.
        self._memory = threading.Lock()
        # A tokenizer keeps the limits of the call that it is in.
        self._tokenizing = threading.Lock()

    @classmethod
    def of(cls, encoder_folder: Path, tokenizer_folder: Path, residency: Residency) -> TextEncoder:
        """The encoder of a checkpoint on this machine's disk: one object for equal encoders on one device.

        Raises:
            CheckpointError: the folders do not hold a T5 encoder and its tokenizer. Weights are read later.
        """
        tokenizer = read_tokenizer(T5Tokenizer, tokenizer_folder, _VOCABULARIES)
        identity = f"{encoder_identity(encoder_folder)} {_tokenizer_identity(tokenizer)}"
        with cls._guard:
            known = cls._all.get((residency, identity))
            if known is None:
                load = partial(read_component, T5EncoderModel, encoder_folder, inference_dtype(residency.device))
                known = cls(tokenizer, residency.part(f"t5 {identity}", load), residency)
                cls._all[residency, identity] = known
            return known

    @classmethod
    def random(
        cls, tokenizer: T5Tokenizer, residency: Residency, architecture: T5Architecture = T5_XXL, seed: int = 0
    ) -> TextEncoder:
        """An encoder with random weights, for measurements: one object for equal architecture and seed on one device.

        Args:
            tokenizer: any whose tokens the architecture's vocabulary holds; that of the first call is used.
            residency: of the device that computes, and draws the weights.
            architecture: by default the released one.
            seed: of the weights.
        """
        identity = f"random {seed} {architecture}"
        with cls._guard:
            known = cls._all.get((residency, identity))
            if known is None:
                dtype = inference_dtype(residency.device)
                load = partial(random_component, architecture.build, residency.device, dtype, seed)
                known = cls(tokenizer, residency.part(f"t5 {identity}", load), residency)
                cls._all[residency, identity] = known
            return known

    def encode(self, captions: Sequence[str], max_length: int) -> list[Tensor]:
        """Embeddings of captions, each computed once; those that are new go through the network together.

        Neither FLUX nor CogVideoX masks the padding, so another length gives other embeddings.

        Args:
            captions: any number, repetitions allowed.
            max_length: tokens that each is padded or cut to, the end mark included.

        Returns:
            For each caption (1, max_length, d) in host memory, in the format that the network computes in. Shared with
            other callers: not to be written to.

        Raises:
            ItemError: the device's memory does not suffice for a single caption.
        """
        found = self._known(captions, max_length)
        missing = [caption for caption in dict.fromkeys(captions) if caption not in found]
        if missing:
            found |= with_retry(
                lambda tight: self._computed(missing, max_length, 1 if tight else self._batch),
                self._residency,
                f"the text of {len(missing)} captions",
            )
        return [found[caption] for caption in captions]

    def is_cut(self, caption: str, max_length: int) -> bool:
        """Whether a caption has more tokens, with the end mark, than `max_length`: the last ones are not read then."""
        with self._tokenizing:
            return len(self._tokenizer(caption, verbose=False).input_ids) > max_length

    def _computed(self, captions: Sequence[str], max_length: int, batch: int) -> dict[str, Tensor]:
        config = self._encoder.module.config
        working_bytes = batch * config.num_heads * max_length**2 * BYTES_A_PAIR
        with self._residency.holding(self._encoder, working_bytes=working_bytes):
            # Another thread may have computed them while this one waited for the device.
            found = self._known(captions, max_length)
            missing = [caption for caption in captions if caption not in found]
            for first in range(0, len(missing), batch):
                part = missing[first : first + batch]
                for caption, embedding in zip(part, self._network(part, max_length, batch), strict=True):
                    found[caption] = embedding
                    self._remember(caption, max_length, embedding)
        return found

    @torch.no_grad()
    def _network(self, captions: Sequence[str], max_length: int, batch: int) -> list[Tensor]:
        # Always a full batch: with its size the order of sums changes, and an embedding's last bits would depend on
        # which captions were asked for together.
        filled = [*captions, *[""] * (batch - len(captions))]
        with self._tokenizing:
            tokens = self._tokenizer(
                filled, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
            )
        embeddings = self._encoder.module(tokens.input_ids.to(self._residency.device)).last_hidden_state.cpu()
        # Copies, because a view would keep the whole batch alive.
        return [embeddings[index : index + 1].clone() for index in range(len(captions))]

    def _known(self, captions: Sequence[str], max_length: int) -> dict[str, Tensor]:
        with self._memory:
            found = {}
            for caption in captions:
                if (caption, max_length) in self._embeddings:
                    self._embeddings.move_to_end((caption, max_length))
                    found[caption] = self._embeddings[caption, max_length]
            return found

    def _remember(self, caption: str, max_length: int, embedding: Tensor) -> None:
        with self._memory:
            self._embeddings[caption, max_length] = embedding
            self._bytes += embedding.nbytes
            while self._bytes > CACHE_BYTES and len(self._embeddings) > 1:
                _, oldest = self._embeddings.popitem(last=False)
                self._bytes -= oldest.nbytes


def encoder_identity(folder: Path) -> str:
    """A digest that equal T5 encoders share, however their weights are spread over files, named and stored.

    It covers the architecture, all vectors (the norms' weights) and the first row of every matrix, as bfloat16: every
    layer of a network that was trained further or quantized differs in some of these million numbers, and reading them
    takes milliseconds where reading the 9.5 GB of a T5-XXL takes seconds to minutes.

    Raises:
        CheckpointError: a file is missing or not readable.
    """
    try:
        config = T5Config.from_dict(json.loads((folder / "config.json").read_bytes()))
        digest = hashlib.sha256(json.dumps([getattr(config, name) for name in _ARCHITECTURE]).encode())
        for name, sample in sorted(_samples(folder).items()):
            digest.update(f"{name}\0".encode())
            digest.update(sample.view(torch.int16).numpy().tobytes())
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a readable T5 encoder ({error}); copy it again") from error
    return digest.hexdigest()


def _samples(folder: Path) -> dict[str, Tensor]:
    """Of each weight all numbers, or those of the first row; bfloat16."""
    index = folder / "model.safetensors.index.json"
    files = {"model.safetensors"}
    if index.exists():
        files = set(json.loads(index.read_bytes())["weight_map"].values())
    samples = {}
    for file in files:
        with safe_open(folder / file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it is no mapping
                if name != _TIED:
                    values = weights.get_slice(name)
                    first = values[:] if len(values.get_shape()) < 2 else values[:1]
                    samples[name] = first.to(torch.bfloat16).contiguous()
    return samples


def _tokenizer_identity(tokenizer: T5Tokenizer) -> str:
    pieces = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([pieces, tokenizer(_PROBE, verbose=False).input_ids]).encode()).hexdigest()
