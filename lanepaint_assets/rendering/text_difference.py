"""What differs between the words of two arms, for pages that show them side by side.

Called by the report. Texts come in pairs, because sample i of both arms shares its random numbers. How large a
difference is, as a figure, is the evaluation's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

# A word with the white space after it, so that the parts joined are the text again.
_WORDS = re.compile(r"\s*\S+\s*|\s+")


@dataclass(frozen=True)
class TextPart:
    """A piece of a text; `changed` where the other arm does not have it."""

    text: str
    changed: bool


@dataclass(frozen=True)
class TextPair:
    """What samples said in both arms; equal pairs stand together.

    Attributes:
        samples: their numbers from 1, in words.
        original, edited: the texts in pieces; both the same where nothing changed.
    """

    samples: str
    original: tuple[TextPart, ...]
    edited: tuple[TextPart, ...]

    @property
    def same(self) -> bool:
        """True where no word changed."""
        return not any(part.changed for part in (*self.original, *self.edited))


def marked(original: str, edited: str) -> tuple[tuple[TextPart, ...], tuple[TextPart, ...]]:
    """Both texts in pieces, word by word, the pieces that only one of them has marked.

    Joined pieces give each text back. Words count as equal whatever white space follows them.
    """
    before, after = _WORDS.findall(original), _WORDS.findall(edited)
    # Python's heuristic for long texts would take frequent words for noise.
    matcher = SequenceMatcher(None, [word.strip() for word in before], [word.strip() for word in after], autojunk=False)
    left: list[TextPart] = []
    right: list[TextPart] = []
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        changed = kind != "equal"
        if i_end > i:
            left += _parts("".join(before[i:i_end]), changed)
        if j_end > j:
            right += _parts("".join(after[j:j_end]), changed)
    return tuple(left), tuple(right)


def _parts(text: str, changed: bool) -> list[TextPart]:
    """A piece, with the white space after a change set apart: it did not change."""
    words = text.rstrip()
    if not changed or words in ("", text):
        return [TextPart(text, changed)]
    return [TextPart(words, True), TextPart(text[len(words) :], False)]


def paired(original: Sequence[str], edited: Sequence[str]) -> tuple[TextPair, ...]:
    """The texts of both arms by sample, changed pairs first; a sample that one arm lacks has an empty text there."""
    samples: dict[tuple[str, str], list[int]] = {}
    for number, pair in enumerate(zip_longest(original, edited, fillvalue=""), start=1):
        samples.setdefault(pair, []).append(number)
    pairs = [TextPair(_listed(numbers), *marked(*pair)) for pair, numbers in samples.items()]
    return tuple(sorted(pairs, key=lambda pair: pair.same))


def _listed(numbers: Sequence[int]) -> str:
    word = "sample" if len(numbers) == 1 else "samples"
    return f"{word} {', '.join(map(str, numbers))}"
