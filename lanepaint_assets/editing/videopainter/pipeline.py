"""One window through the video model: pixels to latents, denoising under the branch, latents to pixels.

Called by `engine.py`, phase by phase, so that only a phase's own model has to be on the device. Which frames make a
window and how windows meet is `windows.py`; resolutions and files are not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import CogVideoXImageToVideoPipeline
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from numpy.typing import NDArray
from torch import Tensor

from lanepaint_assets.editing.videopainter.branch import CONDITION, BranchCondition, BranchedTransformer
from lanepaint_assets.editing.videopainter.exact_kernel import fastest_torch_kernel
from lanepaint_assets.editing.videopainter.sampler import HostNoiseSampler
from lanepaint_assets.loop_progress import LoopProgress

if TYPE_CHECKING:
    from lanepaint_assets.editing.videopainter.cfg_split import SplitGuidance

# Of the released autoencoder: a latent covers 8 x 8 pixels of 4 frames, the first one those of 1 frame.
SPATIAL_RATIO = 8
TEMPORAL_RATIO = 4

DynamicGuidance = Literal["off", "correct", "stock"]
MaskPooling = Literal["max", "nearest"]


@dataclass(frozen=True)
class WindowSettings:
    """How a window is painted. The defaults are the released model's, except where a reason is given.

    Attributes:
        steps: denoising steps; fewer are quicker and less detailed.
        guidance: weight of the caption against the empty one.
        dynamic_guidance: `correct` raises the weight from 1 to `guidance` + 1 over the steps; `stock` is the form of
            diffusers 0.42, which takes the noise level for the step number, so that the weight jumps; for comparison.
        masked_pixels: what the branch sees where there is paint to come: `grey` as in the published inference, `black`
            as in the published training.
        mask_pooling: `max`: a latent is painted where any of its pixels is; `nearest` as published, looks at one pixel
            in 256 and loses lines of a few pixels.
        latents: `mode` of the autoencoder's distribution, or a `sample` as published; the mode
            does not depend on the seed.
        replace_known: put the source back where nothing is to be painted, after every step. The source is encoded
            whole, not with its masked pixels blanked.
        mask_add: see `BranchCondition`.
        branch_scale: see `BranchCondition`.
    """

    steps: int = 50
    guidance: float = 6.0
    dynamic_guidance: DynamicGuidance = "off"
    masked_pixels: Literal["grey", "black"] = "grey"
    mask_pooling: MaskPooling = "max"
    latents: Literal["mode", "sample"] = "mode"
    replace_known: bool = True
    mask_add: bool = True
    branch_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.guidance > 1.0:
            raise ValueError(
                f"{self.steps} steps with guidance {self.guidance}: at least 1, and more than 1, are needed"
            )


@dataclass(frozen=True, eq=False)
class WindowLatents:
    """What denoising needs of a window's pixels; (1, F, C, h, w) each, F = 1 + (frames - 1) / 4.

    Attributes:
        first_frame: of the painted first frame alone, F = 1. Not the first of `known`: the encoder normalises over the
            frames that it is given, and the model was trained with a still picture's latent.
        masked: of the window with its masked pixels blanked.
        known: of the window as it is, its first frame painted.
        mask: C = 1, 1 where a latent covers pixels to paint; 0 in the first latent, which is painted already.
    """

    first_frame: Tensor
    masked: Tensor
    known: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Anchor:
    """Latents of an earlier window where the new one overlaps it.

    Attributes:
        latents: (1, F, C, h, w) of the new window; read where `hold` is above 0.
        hold: (F,) below 1: for what share of the steps, from the noisiest on, each latent is put back to the earlier
            window's. A share of the steps rather than of the value: the mean of two noisy latents has less noise than
            the model expects.
    """

    latents: Tensor
    hold: Tensor


def encode_window(
    vae: AutoencoderKLCogVideoX,
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    settings: WindowSettings,
    generator: torch.Generator,
) -> WindowLatents:
    """Encode a window.

    Args:
        vae: where it is, and in what it computes, is where and how this is computed.
        frames: (T, H, W, 3) sRGB, T = 1 + 8k, sides multiples of 8; frame 0 is painted, the others are the source.
        masks: (T, H, W), True where paint is to come; the first frame's is not looked at.
        settings: how.
        generator: for `latents="sample"`.

    Raises:
        ValueError: sizes that the autoencoder has no latents for.
    """
    count, height, width = masks.shape
    # After the first latent the autoencoder works on pairs: an even number of latents would decode to 3 frames more.
    if count % (2 * TEMPORAL_RATIO) != 1 or height % SPATIAL_RATIO or width % SPATIAL_RATIO or len(frames) != count:
        raise ValueError(f"{len(frames)} frames and {count} masks of {width}x{height} do not make whole latents")
    to_paint = masks.copy()
    to_paint[0] = False
    pixels = _pixels(frames).to(vae.device)
    blank = torch.tensor(0.0 if settings.masked_pixels == "grey" else -1.0, device=vae.device)
    hidden = torch.from_numpy(to_paint).to(vae.device)[None, None]
    first = _latents(vae, pixels[:, :, :1], settings, generator)
    if vae.config["invert_scale_latents"]:
        # Of CogVideoX-5B image-to-video: it was trained with first frames scaled the other way round.
        first = first / vae.config["scaling_factor"] ** 2
    return WindowLatents(
        first_frame=first,
        masked=_latents(vae, torch.where(hidden, blank, pixels), settings, generator),
        known=_latents(vae, pixels, settings, generator),
        mask=mask_to_latents(to_paint, settings.mask_pooling).to(vae.device, vae.dtype),
    )


def mask_to_latents(masks: NDArray[np.bool_], pooling: MaskPooling = "max") -> Tensor:
    """Bring a mask to the latents' grid.

    Args:
        masks: (T, H, W), T = 1 + 4k, sides multiples of 8.
        pooling: see `WindowSettings.mask_pooling`.

    Returns:
        (1, F, 1, H / 8, W / 8) float32, 0 or 1; latent 0 is of frame 0, latent i of frames 4i - 3 to 4i.
    """
    count, height, width = masks.shape
    pixels = torch.from_numpy(masks)[None, None].float()
    if pooling == "nearest":
        size = (1 + (count - 1) // TEMPORAL_RATIO, height // SPATIAL_RATIO, width // SPATIAL_RATIO)
        return torch.nn.functional.interpolate(pixels, size=size, mode="nearest").transpose(1, 2)
    # Frame 0 three times more, so that it fills a group of its own.
    pixels = torch.cat([pixels[:, :, :1].expand(-1, -1, TEMPORAL_RATIO - 1, -1, -1), pixels], dim=2)
    return torch.nn.functional.max_pool3d(pixels, (TEMPORAL_RATIO, SPATIAL_RATIO, SPATIAL_RATIO)).transpose(1, 2)


def decode_window(vae: AutoencoderKLCogVideoX, latents: Tensor) -> NDArray[np.float32]:
    """Latents (1, F, C, h, w) to frames (T, H, W, 3), 0..1."""
    with torch.no_grad():
        video = vae.decode(latents.to(vae.device, vae.dtype).transpose(1, 2) / vae.config["scaling_factor"]).sample
    frames: NDArray[np.float32] = ((video[0] + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0).float().cpu().numpy()
    return frames


def dynamic_guidance(guidance: float, step: int, steps: int) -> float:
    """Weight of a step: from 1 at the first, hardly rising over the first half, towards 1 + `guidance` at the end.

    Source: CogVideoX, whose released sampler counts steps from the noisiest.
    """
    return 1.0 + guidance * (1.0 - math.cos(math.pi * (step / steps) ** 5.0)) / 2.0


class WindowDenoiser(CogVideoXImageToVideoPipeline):
    """Denoises one window: diffusers' own loop, with the first frame encoded beforehand and the branch as its guide.

    Its state is one window's, so make one for each; nothing heavy happens then.
    """

    _steps_done = 0

    @classmethod
    def of(
        cls, vae: AutoencoderKLCogVideoX, model: BranchedTransformer | SplitGuidance, scheduler: CogVideoXDPMScheduler
    ) -> Self:
        """A denoiser.

        Args:
            vae: only its configuration is read.
            model: backbone and branch, on the device to work on.
            scheduler: its configuration is taken, its state is not touched.
        """
        kind: Any = cls
        denoiser: Self = kind(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            transformer=model,
            scheduler=HostNoiseSampler.from_config(scheduler.config),
        )
        return denoiser

    @torch.no_grad()
    def denoise(
        self,
        window: WindowLatents,
        settings: WindowSettings,
        text: Tensor,
        empty_text: Tensor,
        generator: torch.Generator,
        anchor: Anchor | None = None,
        label: str = "denoising",
    ) -> Tensor:
        """Paint the window.

        Args:
            window: of the pixels.
            settings: how.
            text: (1, L, D) embeddings of the caption.
            empty_text: of the empty caption.
            generator: on the host, so that a seed means the same on every device.
            anchor: of the window before, or None.
            label: stands before the bar with the time left; no bar where standard error is no terminal.

        Returns:
            (1, F, C, h, w) clean latents.
        """
        device, dtype = self.transformer.device, self.transformer.dtype
        _, latent_frames, _, height, width = window.known.shape
        # 1. The noise to start from; known latents get the same, so that they fit to the painted ones at every step.
        # In float32, in which the levels of late steps still differ.
        noise = torch.randn(window.known.shape, generator=generator).to(device)
        # 2. What stays as it is: the source where there is no paint, the window before where the two overlap.
        painted = (window.mask > 0).to(device)
        settled = window.known.to(device, torch.float32)
        hold = torch.zeros_like(painted, dtype=torch.float32)
        if anchor is not None:
            settled = torch.where(painted, anchor.latents.to(settled), settled)
            hold = hold + anchor.hold.to(device)[None, :, None, None, None]
        hold = torch.where(painted, hold, float(settings.replace_known))
        self._first_frame = window.first_frame.to(device, dtype)
        self._noise, self._settled, self._hold = noise, settled, hold
        self._settings, self._progress = settings, LoopProgress(label, settings.steps)
        # 3. Step by step; `_settle` puts back what stays.
        condition = BranchCondition(
            window.masked.to(device, dtype), window.mask.to(device, dtype), settings.mask_add, settings.branch_scale
        )
        configure_bar: Any = self.set_progress_bar_config
        configure_bar(disable=None, leave=False, desc=label, unit="step")
        with fastest_torch_kernel(device):
            result = self(
                # Looked at for its kind only: `prepare_latents` has the encoded first frame.
                image=torch.zeros(1, 3, SPATIAL_RATIO * height, SPATIAL_RATIO * width),
                height=SPATIAL_RATIO * height,
                width=SPATIAL_RATIO * width,
                num_frames=1 + TEMPORAL_RATIO * (latent_frames - 1),
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                use_dynamic_cfg=settings.dynamic_guidance == "stock",
                prompt_embeds=text.to(device, dtype),
                negative_prompt_embeds=empty_text.to(device, dtype),
                generator=generator,
                attention_kwargs={CONDITION: condition},
                callback_on_step_end=self._settle,
                output_type="latent",
            )
        latents: Tensor = result.frames
        return latents

    def prepare_latents(self, *_given: Any) -> tuple[Tensor, Tensor]:
        """Called by the loop before its first step: the noise, and the first frame's latent before empty ones."""
        first = self._first_frame
        later = first.new_zeros(1, self._noise.shape[1] - 1, *first.shape[2:])
        noise = self._noise.to(first.dtype) * self.scheduler.init_noise_sigma
        return noise, torch.cat([first, later], dim=1)

    @property
    def guidance_scale(self) -> float:
        """Read by the loop at every step."""
        if self._settings.dynamic_guidance == "correct":
            return dynamic_guidance(self._settings.guidance, self._steps_done, self._settings.steps)
        return self._guidance_scale

    @property
    def _execution_device(self) -> torch.device:
        """Where the loop works. Stock pipelines look for their first model, which may wait in host memory here."""
        device: torch.device = self.transformer.device
        return device

    def _settle(self, _pipe: Any, step: int, _timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Called by the loop after every step: put known and held latents back, with the noise of the next step."""
        latents = tensors["latents"]
        self._steps_done = step + 1
        self._progress.done(self._steps_done)
        share_done = self._steps_done / self._settings.steps
        settled = self._settled
        if self._steps_done < len(self.scheduler.timesteps):
            next_timestep = self.scheduler.timesteps[self._steps_done : self._steps_done + 1]
            settled = self.scheduler.add_noise(settled, self._noise, next_timestep)
        return {"latents": torch.where(self._hold >= share_done, settled.to(latents.dtype), latents)}


def _pixels(frames: NDArray[np.uint8]) -> Tensor:
    """(T, H, W, 3) uint8 to (1, 3, T, H, W) float32, -1..1."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0


@torch.no_grad()
def _latents(
    vae: AutoencoderKLCogVideoX, pixels: Tensor, settings: WindowSettings, generator: torch.Generator
) -> Tensor:
    """(1, 3, T, H, W) to (1, F, C, h, w), scaled as the transformer expects."""
    found = vae.encode(pixels.to(vae.dtype)).latent_dist
    latents: Tensor = found.mode() if settings.latents == "mode" else found.sample(generator)
    scaling: float = vae.config["scaling_factor"]
    return latents.transpose(1, 2) * scaling
