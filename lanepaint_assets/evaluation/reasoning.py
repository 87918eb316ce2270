"""How far the words of two arms differ: reasoning texts and named decisions, paired sample by sample.

`results.py` calls it once an edited arm. Words only: what a changed decision does to the path is `metrics.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class ReasoningDifference:
    """Sample i of the edited arm against sample i of the original arm, which share their seed.

    Attributes:
        changed_share: 0..1, share of samples whose text differs in more than white space.
        similarity: 0..1, mean over samples of the matching share of words; 1 where no text changed.
        decision_changed_share: 0..1, share of samples whose named decision differs, whatever its upper and lower case;
            None for a driver that names no decisions.
    """

    changed_share: float
    similarity: float
    decision_changed_share: float | None


def reasoning_difference(
    original: Sequence[str],
    edited: Sequence[str],
    original_decisions: Sequence[str] | None = None,
    edited_decisions: Sequence[str] | None = None,
) -> ReasoningDifference:
    """Compare the texts of two arms, K >= 1 each.

    Raises:
        ValueError: the arms have no texts, or not the same number of them.
    """
    if not original:
        raise ValueError("arms without samples have no reasoning to compare")
    pairs = [(before.split(), after.split()) for before, after in zip(original, edited, strict=True)]
    decision_changed_share = None
    if original_decisions is not None and edited_decisions is not None:
        decided = zip(original_decisions, edited_decisions, strict=True)
        decision_changed_share = float(
            np.mean([before.casefold().split() != after.casefold().split() for before, after in decided])
        )
    return ReasoningDifference(
        changed_share=float(np.mean([before != after for before, after in pairs])),
        # Python's heuristic for long texts would leave frequent words out of the comparison.
        similarity=float(np.mean([SequenceMatcher(None, *pair, autojunk=False).ratio() for pair in pairs])),
        decision_changed_share=decision_changed_share,
    )
