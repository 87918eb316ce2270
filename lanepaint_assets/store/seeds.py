"""Where every random number of a study comes from: one function from what is done to a 64-bit seed.

Painters, drivers and trainers call it. Arm and prompt are left out of a driver's seed, and the prompt out of a
painter's, by the caller: that is what makes random numbers common between the arms of a comparison.
"""

from __future__ import annotations

import hashlib
import json


def seed(study_seed: int, role: str, clip: str, sample_index: int = 0) -> int:
    """First 64 bits of the SHA-256 of the canonical JSON list of the arguments, in 0 .. 2**64 - 1.

    Args:
        study_seed: the study's one number, from the settings.
        role: who draws, for example `driver` or `painter`.
        clip: item key of the clip, the same for every arm and prompt.
        sample_index: which of several draws of the role for the clip.

    Source: ARCHITECTURE, "Time, pictures and seeds".
    """
    text = json.dumps([study_seed, role, clip, sample_index], separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")


def seeds(study_seed: int, role: str, clip: str, count: int) -> tuple[int, ...]:
    """`count` seeds of one role and clip: sample indices 0 .. count - 1, so that more samples keep the first ones."""
    return tuple(seed(study_seed, role, clip, index) for index in range(count))
