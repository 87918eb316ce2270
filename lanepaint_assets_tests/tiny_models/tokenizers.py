"""Text encoders' tokenizers of the real classes, with a token a character instead of a vocabulary to download.

Saved with `save_pretrained`, they load again with `from_pretrained`, as the released ones do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers.pre_tokenizers import ByteLevel

if TYPE_CHECKING:
    from transformers import CLIPTokenizer, T5Tokenizer

# What CLIP reads, as released.
CLIP_TOKENS = 77

# The mark of a word's first piece in SentencePiece vocabularies, and of a word's last one in CLIP's.
_WORD_BEGINS, _WORD_ENDS = "\u2581", "</w>"


def t5_tokenizer(max_length: int = 512) -> T5Tokenizer:
    """A T5 tokenizer of printable ASCII: n characters and w words give n + w + 1 tokens, spaces not counted.

    Ids 0, 1 and 2 are padding, end and unknown, as released; `max_length` is its own limit, which callers may undercut.
    """
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    # Log probabilities: all characters alike, the word mark more often.
    characters = [(_WORD_BEGINS, -2.0), *((chr(code), -3.0) for code in range(ord("!"), ord("~") + 1))]
    return T5Tokenizer(vocab=special + characters, extra_ids=0, model_max_length=max_length)


def clip_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of bytes: a token a character, between start and end, which also pads, as released."""
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(f"{symbol}{_WORD_ENDS}" for symbol in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CLIP_TOKENS)
