"""The `flux_fill` engine: FLUX.1 Fill paints the first frame of a clip, from a caption and the mask.

Called through the `FirstFramePainter` role. Text is read first, for many captions at once, then pictures are painted:
so that the encoders need not share the device with the transformer. Compositing under the feathered mask is the
stage's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxFillPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer, T5Tokenizer
from upath import UPath

from lanepaint_assets.checkpoints.model_folder import local_model_folder
from lanepaint_assets.editing.engine import EditScene, LoraWeights, PaintInstruction
from lanepaint_assets.editing.flux_fill.lora_adapters import use_lora
from lanepaint_assets.editing.smoke_scene import SMOKE_INSTRUCTION, smoke_scene
from lanepaint_assets.loop_progress import LoopProgress
from lanepaint_assets.rendering.mask_edges import DILATION_PX, SPEC_EDGES, MaskEdges, model_mask
from lanepaint_assets.store.items import ItemError
from lanepaint_assets.torch_models.acceleration import EXACT, Acceleration
from lanepaint_assets.torch_models.damaged_weights import damaged_weights_named
from lanepaint_assets.torch_models.devices import pick_device, use_kernel_cache
from lanepaint_assets.torch_models.flux.architecture import FLUX_FILL, FluxArchitecture
from lanepaint_assets.torch_models.flux.parts import FluxParts, checkpoint_parts, random_parts
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import GIB, Residency

# Spec 5: what FluxFill is asked for.
STEPS = 50
GUIDANCE = 30.0

# The most that the transformer reads, and what it was trained with; longer captions are cut.
CAPTION_TOKENS = 512

# Pixels a side that the autoencoder (8) and the transformer's tokens (2) make one number of.
GRAIN_PX = 16

# The autoencoder's widest layers hold about 256 channels of bfloat16 in a few copies for each pixel: an estimate from
# above. In tiles it stays below the other figure, whatever the picture's size.
_BYTES_A_PIXEL = 4096
_TILED_BYTES = 2 * GIB

# Side of the tiles: those of the model's configuration (1024) are half of a 1080p frame and save too little.
_TILE_PX = 512


@dataclass(frozen=True, eq=False)
class _Order:
    """One picture to paint: what messages call it, what the model sees of it, and what it is to become.

    `picture` (H, W, 3) uint8 and `mask` (H, W) bool have sides that are multiples of 16; `words` and `summary` are the
    caption's embeddings in host memory.
    """

    what: str
    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    words: Tensor
    summary: Tensor
    seed: int
    lora: LoraWeights | None


class FluxFillPainter:
    """FLUX.1 Fill as a `FirstFramePainter`.

    A picture depends on frame, mask, caption, seed and LoRA, not on what was painted before. Calls may come from any
    thread; the device takes one at a time.

    Args:
        parts: the networks.
        residency: of the device that they share with others.
        steps: denoising steps.
        guidance: how closely the caption is followed; an input of this model, not two passes.
        edges: how far the mask that the model is shown grows.
    """

    name = "flux_fill"
    version = "1"

    def __init__(
        self,
        parts: FluxParts,
        residency: Residency,
        *,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        edges: MaskEdges = SPEC_EDGES,
    ) -> None:
        if steps < 1:
            raise ValueError(f"a picture takes at least one denoising step, not {steps}")
        self._parts = parts
        self._residency = residency
        self._steps = steps
        self._guidance = guidance
        self._edges = edges
        self._summaries: dict[str, Tensor] = {}

    @classmethod
    def from_checkpoint(
        cls,
        folder: UPath,
        *,
        cache: Path | None = None,
        device: str = "auto",
        memory_gib: float | None = None,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        dilation_px: int = DILATION_PX,
        compiled: bool = False,
        first_block_cache: float | None = None,
        fp8: bool = False,
    ) -> FluxFillPainter:
        """The engine on a released checkpoint.

        Args:
            folder: FLUX.1-Fill-dev in diffusers' layout; on an object store it is copied to `cache` first.
            cache: folder for compiled kernels and copies of remote checkpoints.
            device: see `pick_device`.
            memory_gib: budget of the device; see `Residency`.
            steps, guidance: see the class.
            dilation_px: how far the mask that the model is shown grows.
            compiled, first_block_cache, fp8: see `Acceleration`; on a CPU nothing is compiled.

        Raises:
            CheckpointError: a file is missing or damaged. Weights are read at the first call.
        """
        local = local_model_folder(folder, cache)
        use_kernel_cache(cache)
        residency = Residency.of(pick_device(device), memory_gib)
        acceleration = Acceleration(compiled and residency.device.type == "cuda", first_block_cache, fp8)
        parts = checkpoint_parts(local, residency, acceleration)
        return cls(parts, residency, steps=steps, guidance=guidance, edges=MaskEdges(dilation_px))

    def prepare(self, captions: Sequence[str]) -> None:
        """Read captions that are about to be painted, all at once."""
        self._parts.words.encode(captions, CAPTION_TOKENS)
        self._summarized(captions)

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        """See `FirstFramePainter`. The whole picture comes from the model, also outside the mask.

        Raises:
            ItemError: nothing may be painted, the LoRA does not fit, the picture does not fit into the device's memory,
                or the network gave NaN.
        """
        frame, mask = scene.frames[0], scene.paint_masks[0]
        if not mask.any():
            raise ItemError(
                f"the paint mask of {scene.item_key} is empty in the first frame: there is nothing to paint"
            )
        height, width = mask.shape
        what = f"the first frame of {scene.item_key} ({width}x{height})"
        # 1. Text: from memory, where `prepare` was told of the caption.
        words = self._parts.words.encode([instruction.caption], CAPTION_TOKENS)[0]
        summary = self._summarized([instruction.caption])[0]
        # 2. What the model sees.
        picture, shown = on_grain(frame), on_grain(model_mask(mask, self._edges))
        # 3. Paint.
        order = _Order(what, picture, shown, words, summary, instruction.seed, instruction.lora)
        painted = with_retry(partial(self._painted, order), self._residency, what)
        return painted[:height, :width]

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:  # noqa: ARG002  # the role's
        """See `FirstFramePainter`."""
        if not self._parts.words.is_cut(instruction.caption, CAPTION_TOKENS):
            return ()
        return (f"the caption is longer than the {CAPTION_TOKENS} tokens that FLUX reads: its end was not painted",)

    def release(self) -> None:
        """See `FirstFramePainter`. The weights stay in host memory."""
        self._residency.vacate()

    def smoke_check(self) -> None:
        """Read all weights and paint a small picture; see `Checkable`."""
        with damaged_weights_named():
            self.paint_first_frame(smoke_scene(), SMOKE_INSTRUCTION)

    def _painted(self, order: _Order, tight: bool) -> NDArray[np.uint8]:
        """The pipeline's picture (H, W, 3); H and W are multiples of 16."""
        transformer, autoencoder = self._parts.transformer, self._parts.autoencoder
        height, width = order.mask.shape
        wanted_bytes = _TILED_BYTES if tight else height * width * _BYTES_A_PIXEL
        with self._residency.holding(transformer, autoencoder, working_bytes=min(wanted_bytes, self._spare_bytes)):
            device, pipeline = self._residency.device, self._pipeline()
            use_lora(transformer.module, order.lora)
            _set_tiling(autoencoder.module, tight)
            pipeline.set_progress_bar_config(disable=None, leave=False, desc=order.what)
            progress = LoopProgress(order.what, self._steps)

            def tell(_pipe: object, step: int, _timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
                progress.done(step + 1)
                return tensors

            try:
                # The caches of steps, where there are any, ask for a context.
                with transformer.module.cache_context("fill"):
                    result: Tensor = pipeline(
                        image=torch.from_numpy(order.picture).permute(2, 0, 1)[None].float() / 255.0,
                        mask_image=torch.from_numpy(order.mask)[None, None].float(),
                        height=height,
                        width=width,
                        prompt_embeds=order.words.to(device),
                        pooled_prompt_embeds=order.summary.to(device),
                        num_inference_steps=self._steps,
                        guidance_scale=self._guidance,
                        max_sequence_length=CAPTION_TOKENS,
                        # On the host, so that every device starts from the same noise.
                        generator=torch.Generator().manual_seed(order.seed),
                        callback_on_step_end=tell,
                        output_type="pt",
                    ).images[0]
            finally:
                # The pipeline empties them at its end, which a failed run does not reach.
                transformer.module._reset_stateful_cache()
            if not bool(torch.isfinite(result).all()):
                lora = "" if order.lora is None else f" with {order.lora.path}"
                raise ItemError(f"the network gave NaN for {order.what}{lora}; its weights may be damaged")
            return result.permute(1, 2, 0).float().mul(255.0).round().to(torch.uint8).cpu().numpy()

    def _pipeline(self) -> Any:
        """Diffusers' pipeline around the parts; it is given embeddings and has no text encoders of its own.

        Made for each picture, in a millisecond: kept, it would hold the weights that a part has forgotten.
        """
        return FluxFillPipeline(  # type: ignore[no-untyped-call]
            scheduler=self._parts.scheduler,
            vae=self._parts.autoencoder.module,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            transformer=self._parts.transformer.module,
        )

    def _summarized(self, captions: Sequence[str]) -> list[Tensor]:
        """CLIP's summary of each caption, (1, d) in host memory; it reads the first 77 tokens, as FLUX was trained."""
        missing = [caption for caption in dict.fromkeys(captions) if caption not in self._summaries]
        if missing:
            # The second try takes them one by one as well, on a device that is otherwise empty.
            with_retry(lambda _: self._summarize(missing), self._residency, f"the summary of {len(missing)} captions")
        return [self._summaries[caption] for caption in captions]

    def _summarize(self, captions: Sequence[str]) -> None:
        clip = self._parts.clip
        with self._residency.holding(clip), torch.no_grad():
            # One by one: the last bits must not depend on which captions come together, and it is a small network.
            for caption in captions:
                tokens = self._parts.clip_tokenizer(
                    caption,
                    padding="max_length",
                    max_length=clip.module.config.max_position_embeddings,
                    truncation=True,
                    return_tensors="pt",
                )
                summary = clip.module(tokens.input_ids.to(self._residency.device)).pooler_output
                self._summaries[caption] = summary.cpu()

    @property
    def _spare_bytes(self) -> int:
        """What the budget leaves beside the weights; more is not promised, but tried in tiles when it is lacking."""
        budget = self._residency.budget_bytes
        weights = self._parts.transformer.bytes + self._parts.autoencoder.bytes
        return max(budget - weights, 0) if budget is not None else 0


def on_grain(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture or mask (H, W, ...) continued to multiples of 16 pixels, mirrored at its right and lower edge."""
    height, width = picture.shape[:2]
    missing = [(0, -height % GRAIN_PX), (0, -width % GRAIN_PX)]
    return np.pad(picture, missing + [(0, 0)] * (picture.ndim - 2), mode="symmetric")


def random_flux(
    clip_tokenizer: CLIPTokenizer,
    t5_tokenizer: T5Tokenizer,
    *,
    architecture: FluxArchitecture = FLUX_FILL,
    device: str = "auto",
    cache: Path | None = None,
    memory_gib: float | None = None,
    steps: int = STEPS,
    acceleration: Acceleration = EXACT,
    seed: int = 0,
) -> FluxFillPainter:
    """The engine with random weights, for measurements of speed and memory: its pictures are noise.

    Args:
        clip_tokenizer, t5_tokenizer: any whose tokens the architecture's vocabularies hold.
        architecture: by default the released one, 33.7 GB of weights in bfloat16.
        device: computes, and draws the weights.
        cache: folder for compiled kernels.
        memory_gib: budget of the device; see `Residency`.
        steps: denoising steps.
        acceleration: of the transformer.
        seed: of the weights.
    """
    use_kernel_cache(cache)
    residency = Residency.of(pick_device(device), memory_gib)
    parts = random_parts(architecture, clip_tokenizer, t5_tokenizer, residency, acceleration, seed)
    return FluxFillPainter(parts, residency, steps=steps)


def _set_tiling(autoencoder: AutoencoderKL, tiled: bool) -> None:
    """Have pictures larger than a tile encoded and decoded in tiles whose overlaps are blended, or whole."""
    model: Any = autoencoder
    if tiled:
        model.enable_tiling()
    else:
        model.disable_tiling()
    model.tile_sample_min_size = _TILE_PX
    model.tile_latent_min_size = _TILE_PX // 2 ** (len(model.config.block_out_channels) - 1)
