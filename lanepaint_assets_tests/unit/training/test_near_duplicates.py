"""Frames that look alike."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lanepaint_assets.training.near_duplicates import distinct, perceptual_hash


def _scene(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_a_little_noise_and_light_stay_the_same_picture_and_another_scene_does_not() -> None:
    scene = _scene(1)
    noise = np.random.default_rng(2).normal(0, 3, scene.shape)
    again = np.clip(scene * 0.95 + noise, 0, 255).astype(np.uint8)
    assert _apart(perceptual_hash(scene), perceptual_hash(again)) <= 4
    assert _apart(perceptual_hash(scene), perceptual_hash(_scene(3))) > 12


def test_a_hash_is_sixteen_hex_digits() -> None:
    digits = perceptual_hash(_scene(4))
    assert len(digits) == 16
    assert int(digits, 16) >= 0


@given(values=st.lists(st.integers(0, 2**64 - 1), max_size=30), bits=st.integers(0, 32))
def test_what_is_kept_is_far_from_all_else_kept_and_what_is_dropped_is_near_something_kept_earlier(
    values: list[int], bits: int
) -> None:
    keep = distinct([f"{value:016x}" for value in values], bits)
    for at, value in enumerate(values):
        earlier = [other for other, kept in zip(values[:at], keep[:at], strict=True) if kept]
        nearest = min(((value ^ other).bit_count() for other in earlier), default=65)
        assert keep[at] == (nearest > bits)
