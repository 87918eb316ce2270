"""The constants of the full size: the released models' numbers of weights, counted without drawing them."""

from __future__ import annotations

import pytest
import torch

from lanepaint_assets.editing.videopainter.architecture import COGVIDEOX_5B


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        (COGVIDEOX_5B.build_transformer, 5570.5),
        (COGVIDEOX_5B.build_branch, 301.6),
        (COGVIDEOX_5B.build_autoencoder, 215.6),
    ],
)
def test_networks_have_the_released_number_of_weights(build: object, millions: float) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_window_is_what_the_positions_were_learned_for() -> None:
    with torch.device("meta"):
        positions = COGVIDEOX_5B.build_transformer().patch_embed.pos_embedding
    # 226 words, and 13 latent frames of 30 x 45 tokens.
    assert positions.shape == (1, 226 + 13 * 30 * 45, 3072)
