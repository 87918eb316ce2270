"""Captions are read once, in batches, by one encoder that engines share where their checkpoints hold the same one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models import text_encoder
from lanepaint_assets.torch_models.residency import Residency
from lanepaint_assets.torch_models.text_encoder import T5_XXL, TextEncoder, encoder_identity
from lanepaint_assets_tests.tiny_models.flux_fill import tiny_architecture
from lanepaint_assets_tests.tiny_models.tokenizers import t5_tokenizer

CPU = torch.device("cpu")
CAPTIONS = ["a road with one white line", "two yellow lines", "no lines at all", "a wet road", "a dry road"]


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return tiny_architecture().text.build().eval()


def encoder(batch: int = 8) -> tuple[TextEncoder, Any]:
    residency = Residency(CPU)
    part = residency.part("t5", network)
    return TextEncoder(t5_tokenizer(), part, residency, batch), part.module


@contextmanager
def counted(module: Any) -> Iterator[list[int]]:
    """How many captions each pass through the network takes."""
    sizes: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


def saved(folder: Path, module: Any | None = None, **save: Any) -> Path:
    """An encoder's folder beside its tokenizer's."""
    (module or network()).save_pretrained(folder / "encoder", **save)
    t5_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def of(folder: Path, residency: Residency) -> TextEncoder:
    return TextEncoder.of(folder / "encoder", folder / "tokenizer", residency)


def test_embeddings_are_the_networks_own() -> None:
    words, module = encoder(batch=2)
    tokens = t5_tokenizer()(CAPTIONS[:2], padding="max_length", max_length=40, return_tensors="pt")
    with torch.no_grad():
        expected = module(tokens.input_ids).last_hidden_state
    found = words.encode(CAPTIONS[:2], 40)
    assert [embedding.shape for embedding in found] == [(1, 40, 32)] * 2
    torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=0)


def test_each_caption_is_computed_once_and_new_ones_together() -> None:
    words, module = encoder(batch=2)
    with counted(module) as passes:
        first = words.encode([CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]], 40)
        assert len(passes) == 1
        words.encode(CAPTIONS, 40)
        assert len(passes) == 3
        again = words.encode(CAPTIONS[:2], 40)
        assert len(passes) == 3
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], again[1])


def test_an_embedding_does_not_depend_on_the_captions_beside_it() -> None:
    together = encoder()[0].encode(CAPTIONS, 40)
    alone = [encoder()[0].encode([caption], 40)[0] for caption in CAPTIONS]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_another_length_is_another_embedding() -> None:
    words, _ = encoder()
    short, long = words.encode(CAPTIONS[:1], 40)[0], words.encode(CAPTIONS[:1], 60)[0]
    assert (short.shape[1], long.shape[1]) == (40, 60)
    assert not torch.allclose(short, long[:, :40])


def test_no_captions_need_no_network() -> None:
    residency = Residency(CPU)
    part = residency.part("t5", network)
    assert TextEncoder(t5_tokenizer(), part, residency).encode([], 40) == []
    assert part.loads == 0


@pytest.mark.parametrize(("letters", "cut"), [(37, False), (38, False), (39, True), (400, True)])
def test_a_caption_is_cut_where_its_tokens_and_the_end_mark_exceed_the_length(letters: int, cut: bool) -> None:
    # A word mark, the letters, the end mark.
    assert encoder()[0].is_cut("x" * letters, 40) is cut


def test_what_is_cut_is_not_read() -> None:
    words, _ = encoder()
    long, longer = words.encode(["x" * 60, "x" * 60 + " and more"], 40)
    assert torch.equal(long, longer)


def test_the_memory_of_captions_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    words, module = encoder(batch=1)
    monkeypatch.setattr(text_encoder, "CACHE_BYTES", 2 * 40 * 32 * 4)
    words.encode(CAPTIONS[:2], 40)
    words.encode(CAPTIONS[:1], 40)
    words.encode(CAPTIONS[2:3], 40)
    with counted(module) as passes:
        words.encode([CAPTIONS[0], CAPTIONS[2]], 40)
        assert passes == []
        words.encode([CAPTIONS[1]], 40)
        assert passes == [1]


def test_out_of_memory_is_tried_again_one_caption_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    words, module = encoder()
    expected = encoder(batch=1)[0].encode(CAPTIONS, 40)
    forward = module.forward

    def forward_of_one(tokens: torch.Tensor) -> Any:
        if len(tokens) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return forward(tokens)

    monkeypatch.setattr(module, "forward", forward_of_one)
    found = words.encode(CAPTIONS, 40)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_captions_that_never_fit_fail_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    words, module = encoder()

    def too_large(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(module, "forward", too_large)
    with pytest.raises(ItemError, match=r"the text of 5 captions does not fit into the memory of cpu"):
        words.encode(CAPTIONS, 40)
    monkeypatch.undo()
    assert len(words.encode(CAPTIONS, 40)) == 5


def test_threads_share_one_encoder() -> None:
    expected = encoder()[0].encode(CAPTIONS, 40)
    words, module = encoder()

    def ask(turn: int) -> bool:
        caption = CAPTIONS[turn % len(CAPTIONS)]
        assert not words.is_cut(caption, 40)
        return torch.equal(words.encode([caption], 40)[0], expected[turn % len(CAPTIONS)])

    with counted(module) as passes, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))
    assert len(passes) == len(CAPTIONS)


# Which encoders are the same.


def test_two_checkpoints_with_the_same_encoder_share_it_and_read_it_once(tmp_path: Path) -> None:
    flux = saved(tmp_path / "flux")
    cogvideox = saved(tmp_path / "cogvideox", max_shard_size="20KB")
    assert (cogvideox / "encoder" / "model.safetensors.index.json").exists()
    residency = Residency(CPU)
    one, other = of(flux, residency), of(cogvideox, residency)
    assert one is other
    assert one._encoder.loads == 0
    assert torch.equal(one.encode(CAPTIONS, 40)[0], other.encode(CAPTIONS, 40)[0])
    assert one._encoder.loads == 1


def test_devices_do_not_share(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert of(folder, Residency(CPU)) is not of(folder, Residency(CPU))


def test_storing_in_another_format_is_the_same_encoder(tmp_path: Path) -> None:
    rounded = network().to(torch.bfloat16)
    plain = saved(tmp_path / "bfloat16", rounded)
    wide = saved(tmp_path / "float32", rounded.to(torch.float32))
    assert encoder_identity(plain / "encoder") == encoder_identity(wide / "encoder")


def test_storing_the_token_embedding_twice_is_the_same_encoder(tmp_path: Path) -> None:
    once, twice = saved(tmp_path / "once"), saved(tmp_path / "twice")
    file = twice / "encoder" / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "encoder.embed_tokens.weight": weights["shared.weight"].clone()}, file, {"format": "pt"})
    assert encoder_identity(once / "encoder") == encoder_identity(twice / "encoder")


@pytest.mark.parametrize("name", ["final_layer_norm.weight", "block.1.layer.1.DenseReluDense.wo.weight"])
def test_a_network_trained_further_is_another_encoder(tmp_path: Path, name: str) -> None:
    trained = network()
    with torch.no_grad():
        trained.encoder.get_parameter(name).mul_(1.02)
    residency = Residency(CPU)
    assert of(saved(tmp_path / "a"), residency) is not of(saved(tmp_path / "b", trained), residency)


def test_the_same_weights_in_another_architecture_are_another_encoder(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b")
    config = other / "encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "relative_attention_max_distance": 64}))
    assert encoder_identity(one / "encoder") != encoder_identity(other / "encoder")


def test_a_tokenizer_that_cuts_otherwise_is_another_encoder(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b")
    file = other / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    pieces = content["model"]["vocab"]
    pieces[-1], pieces[-2] = pieces[-2], pieces[-1]
    file.write_text(json.dumps(content))
    residency = Residency(CPU)
    assert of(one, residency) is not of(other, residency)


@pytest.mark.parametrize("missing", ["config.json", "model-00002-of-00005.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = saved(tmp_path, max_shard_size="20KB")
    (folder / "encoder" / missing).unlink()
    with pytest.raises(CheckpointError, match=rf"encoder: not a readable T5 encoder .*{missing}.*copy it again"):
        of(folder, Residency(CPU))


def test_a_tokenizer_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"its vocabulary is missing \(tokenizer\.json, or spiece\.model\)"):
        of(folder, Residency(CPU))


def test_a_vocabulary_that_is_not_readable_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "tokenizer" / "tokenizer.json").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match="tokenizer: not a readable T5Tokenizer"):
        of(folder, Residency(CPU))


def test_a_sentencepiece_vocabulary_is_the_same_tokenizer_as_its_converted_form(tmp_path: Path) -> None:
    """CogVideoX is released with the one, FLUX.1 with both."""
    import sentencepiece
    from transformers import T5Tokenizer

    released, converted = saved(tmp_path / "released"), saved(tmp_path / "converted")
    (released / "tokenizer" / "tokenizer.json").unlink()
    (tmp_path / "corpus.txt").write_text("\n".join(CAPTIONS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(released / "tokenizer" / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    T5Tokenizer.from_pretrained(released / "tokenizer").save_pretrained(converted / "tokenizer")
    assert (converted / "tokenizer" / "tokenizer.json").exists()
    residency = Residency(CPU)
    assert of(released, residency) is of(converted, residency)


def test_the_released_encoder_has_its_published_size() -> None:
    with torch.device("meta"):
        built = T5_XXL.build()
    assert sum(weight.numel() for weight in built.parameters()) / 1e9 == pytest.approx(4.762, abs=0.001)
