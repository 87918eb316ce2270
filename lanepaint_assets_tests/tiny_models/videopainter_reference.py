"""Numbers of the original VideoPainter on tiny random weights, and models with those weights.

The files and how they were made: `lanepaint_assets_tests/data/reference_videopainter/README.md`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from safetensors import safe_open

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
    from torch import Tensor, nn

    from lanepaint_assets.editing.videopainter.branch import VideoPainterBranch
    from lanepaint_assets.editing.videopainter.pipeline import WindowDenoiser

FOLDER = Path(__file__).resolve().parent.parent / "data" / "reference_videopainter"

Level = Literal["branch_level", "pipeline_level"]
M = TypeVar("M", bound="nn.Module")


@dataclass(frozen=True, eq=False)
class Reference:
    """One file of reference numbers: its tensors by name, and the configurations of the models that made them."""

    level: Level
    tensors: dict[str, Tensor]
    configs: dict[str, str]

    @classmethod
    def read(cls, level: Level) -> Reference:
        with safe_open(FOLDER / f"{level}.safetensors", "pt") as file:
            return cls(level, {name: file.get_tensor(name) for name in file.keys()}, file.metadata())  # noqa: SIM118

    def transformer(self) -> CogVideoXTransformer3DModel:
        from diffusers import CogVideoXTransformer3DModel

        return self._filled(CogVideoXTransformer3DModel(**self._config("transformer")), "transformer.")

    def vae(self) -> AutoencoderKLCogVideoX:
        from diffusers import AutoencoderKLCogVideoX

        return self._filled(AutoencoderKLCogVideoX(**self._config("vae")), "vae.")

    def scheduler(self) -> CogVideoXDPMScheduler:
        from diffusers import CogVideoXDPMScheduler

        return CogVideoXDPMScheduler(**self._config("scheduler"))

    @property
    def branch_folder(self) -> Path:
        """The branch as the original saves it."""
        return FOLDER / f"{self.level}_branch"

    def branch(self) -> VideoPainterBranch:
        from lanepaint_assets.editing.videopainter.branch import VideoPainterBranch

        return VideoPainterBranch.from_pretrained(self.branch_folder).eval()

    def _config(self, model: str) -> dict[str, object]:
        config: dict[str, object] = json.loads(self.configs[f"{model}_config"])
        return config

    def _filled(self, model: M, prefix: str) -> M:
        weights = {
            name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)
        }
        model.load_state_dict(weights)
        return model.eval()


def branch_differences(reference: Reference) -> dict[str, float]:
    """Largest differences of the branch's residuals, and of what the branched transformer predicts with them."""
    import torch

    from lanepaint_assets.editing.videopainter.branch import (
        CONDITION,
        BranchCondition,
        BranchedTransformer,
        with_branch_blocks,
    )

    given, branch = reference.tensors, reference.branch()
    rotary = (given["rope_cos"], given["rope_sin"])
    model = BranchedTransformer(with_branch_blocks(reference.transformer(), len(branch.branch_blocks)), branch)
    everywhere = BranchCondition(given["masked"], given["mask"], mask_add=False)
    outside = BranchCondition(given["masked"], given["mask"], mask_add=True)
    differences = {}
    with torch.no_grad():
        residuals = branch(given["lat"], given["text"], given["t"], everywhere, rotary)
        for index, residual in enumerate(residuals):
            differences[f"residual {index} of the branch"] = _difference(residual, given[f"residual.{index}"])
        for name, condition, expected in (
            ("transformer without a branch", None, "out.nobranch"),
            ("transformer, branch added everywhere", everywhere, "out.plain"),
            ("transformer, branch added outside the mask", outside, "out.mask_add"),
        ):
            latents = torch.cat([given["lat"], given["img"]], dim=2)
            passed = None if condition is None else {CONDITION: condition}
            (result,) = model(latents, given["text"], given["t"], rotary, passed)
            differences[name] = _difference(result, given[expected])
    return differences


def window_difference(reference: Reference, expected: str, *, replace_known: bool) -> float:
    """Largest difference, in picture values 0..1, between a window painted here and the original's."""
    import torch

    from lanepaint_assets.editing.videopainter.branch import BranchedTransformer, with_branch_blocks
    from lanepaint_assets.editing.videopainter.pipeline import WindowSettings, decode_window, encode_window

    given, vae, branch = reference.tensors, reference.vae(), reference.branch()
    model = BranchedTransformer(with_branch_blocks(reference.transformer(), len(branch.branch_blocks)), branch)
    settings = WindowSettings(steps=3, dynamic_guidance="stock", mask_pooling="nearest", replace_known=replace_known)
    generator = torch.Generator().manual_seed(1)
    # The original puts back what it was given: the video with its masked pixels black.
    window = encode_window(vae, given["masked_video"].numpy(), given["mask"].numpy()[..., 0] > 0, settings, generator)
    denoiser = _original_grid().of(vae, model, reference.scheduler())
    text, empty_text = given["prompt_embeds"], given["negative_prompt_embeds"]
    latents = denoiser.denoise(window, settings, text, empty_text, generator)
    return float(np.abs(decode_window(vae, latents) - given[expected].numpy()).max())


def _original_grid() -> type[WindowDenoiser]:
    """The denoiser with the rotary positions of the original, which takes 720 x 480 for the base at every size.

    At that size the two are equal; only these tiny pictures need it.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import get_resize_crop_region_for_grid

    from lanepaint_assets.editing.videopainter.pipeline import WindowDenoiser

    class OriginalGrid(WindowDenoiser):
        def _prepare_rotary_positional_embeddings(
            self, height: int, width: int, num_frames: int, device: torch.device
        ) -> tuple[Tensor, Tensor]:
            grid = (height // 16, width // 16)
            return get_3d_rotary_pos_embed(
                embed_dim=self.transformer.config.attention_head_dim,
                crops_coords=get_resize_crop_region_for_grid(grid, 45, 30),
                grid_size=grid,
                temporal_size=num_frames,
                device=device,
            )

    return OriginalGrid


def _difference(result: Tensor, expected: Tensor) -> float:
    if result.shape != expected.shape:
        raise ValueError(f"the result is {tuple(result.shape)}, the original's {tuple(expected.shape)}")
    return float((result - expected).abs().max())
