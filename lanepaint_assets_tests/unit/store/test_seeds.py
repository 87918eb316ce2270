from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.store.seeds import seed, seeds


def test_a_seed_is_the_first_64_bits_of_the_canonical_text_and_never_changes() -> None:
    digest = hashlib.sha256(b'[7,"driver","abc.camera_front_wide_120fov",2]').hexdigest()
    assert seed(7, "driver", "abc.camera_front_wide_120fov", 2) == int(digest[:16], 16)


@given(st.integers(-(2**40), 2**40), st.text(max_size=20), st.text(max_size=20), st.integers(0, 10**6))
def test_every_argument_changes_the_seed(study: int, role: str, clip: str, index: int) -> None:
    base = seed(study, role, clip, index)
    assert 0 <= base < 2**64
    others = {
        seed(study + 1, role, clip, index),
        seed(study, role + "x", clip, index),
        seed(study, role, clip + "x", index),
        seed(study, role, clip, index + 1),
    }
    assert base not in others
    assert len(others) == 4


def test_moving_a_letter_from_role_to_clip_gives_another_seed() -> None:
    assert seed(1, "ab", "c", 0) != seed(1, "a", "bc", 0)


def test_more_samples_keep_the_first_ones() -> None:
    assert seeds(3, "driver", "clip", 16)[:6] == seeds(3, "driver", "clip", 6)
