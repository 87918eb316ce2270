"""One window: equal to the original's numbers, known pixels stay, thin lines survive, guidance counts its steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lanepaint_assets.editing.videopainter.pipeline import (
    WindowSettings,
    decode_window,
    dynamic_guidance,
    encode_window,
    mask_to_latents,
)
from lanepaint_assets_tests.tiny_models.videopainter_reference import Reference, window_difference

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.read("pipeline_level")


@pytest.mark.parametrize(("replace_known", "expected"), [(True, "out.one"), (False, "out.one_noreplace")])
def test_a_window_equals_the_original_s(reference: Reference, replace_known: bool, expected: str) -> None:
    assert window_difference(reference, expected, replace_known=replace_known) <= TOLERANCE
