"""The `videopainter` engine: a clip of any size and length, window by window through the video model.

Called through the `VideoPainter` role, from several threads at once: the device takes one phase of one clip at a time,
so a small GPU holds one phase's networks. Compositing under the feathered mask is the stage's, at the clip's own
resolution; what the model made of the rest of the picture is dropped there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from numpy.typing import NDArray
from torch import Tensor
from transformers import T5Tokenizer
from upath import UPath

from lanepaint_assets.checkpoints.model_folder import local_model_folder
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.frame_threads import in_order
from lanepaint_assets.editing.smoke_scene import SMOKE_INSTRUCTION, smoke_scene
from lanepaint_assets.editing.videopainter.architecture import COGVIDEOX_5B, CogVideoXArchitecture
from lanepaint_assets.editing.videopainter.branch import BranchedTransformer
from lanepaint_assets.editing.videopainter.cfg_split import SplitGuidance
from lanepaint_assets.editing.videopainter.parts import Denoisers, VideoParts, checkpoint_parts, random_parts
from lanepaint_assets.editing.videopainter.pipeline import (
    Anchor,
    MaskPooling,
    WindowDenoiser,
    WindowLatents,
    WindowSettings,
    decode_window,
    encode_window,
)
from lanepaint_assets.editing.videopainter.windows import OVERLAP_FRAMES, WindowPlan, plan_windows
from lanepaint_assets.rendering.mask_edges import DILATION_PX, SPEC_EDGES, MaskEdges, model_mask
from lanepaint_assets.store.items import ItemError, StepError
from lanepaint_assets.torch_models.acceleration import EXACT, Acceleration
from lanepaint_assets.torch_models.damaged_weights import damaged_weights_named
from lanepaint_assets.torch_models.devices import pick_device, use_kernel_cache
from lanepaint_assets.torch_models.out_of_memory import with_retry
from lanepaint_assets.torch_models.residency import GIB, Part, Residency

SPEC_SETTINGS = WindowSettings()

# Decoding 480 x 720 takes 14.7 GiB on an H200, for which torch's allocator asks for up to 16.9; 4.3 GiB in tiles.
# Encoding takes 8.1 GiB.
_AUTOENCODER_BYTES_A_PIXEL = 53_000
_TILED_BYTES = 5 * GIB

# Of one transformer block at 2 x 17,776 tokens: its widest layer is four times its width, and a few copies live at
# once. An estimate from above; what does not fit is tried again in halves.
_DENOISING_BYTES = 8 * GIB

Frames = NDArray[np.uint8]


class VideoPainterEngine:
    """CogVideoX with the VideoPainter branch as a `VideoPainter`.

    A result depends on the clip, its masks, the first frame, the caption and the seed, not on what was painted before.

    Args:
        parts: the networks.
        residency: of the device that they share with others.
        settings: of each window.
        edges: how far the mask that the model is shown grows, in the clip's own pixels.
        second: of another GPU, which then works on one half of guidance; the result is the same within rounding. Where
            memory is short on either, the first does both halves in turn.
        acceleration: as the parts'; for the second GPU's copies.
    """

    name = "videopainter"
    version = "2"

    def __init__(
        self,
        parts: VideoParts,
        residency: Residency,
        *,
        settings: WindowSettings = SPEC_SETTINGS,
        edges: MaskEdges = SPEC_EDGES,
        second: Residency | None = None,
        acceleration: Acceleration = EXACT,
    ) -> None:
        self._parts = parts
        self._residency = residency
        self._settings = settings
        self._edges = edges
        self._second = second
        self._acceleration = acceleration

    @classmethod
    def from_checkpoint(
        cls,
        folder: UPath,
        *,
        branch_folder: UPath,
        cache: Path | None = None,
        device: str = "auto",
        second_device: str | None = None,
        memory_gib: float | None = None,
        steps: int = SPEC_SETTINGS.steps,
        guidance: float = SPEC_SETTINGS.guidance,
        dynamic_guidance: bool = False,
        mask_pooling: MaskPooling = "max",
        dilation_px: int = DILATION_PX,
        compiled: bool = False,
        first_block_cache: float | None = None,
        fp8: bool = False,
    ) -> VideoPainterEngine:
        """The engine on released checkpoints.

        Args:
            folder: CogVideoX-5B image-to-video in diffusers' layout; on an object store it is copied to `cache` first.
            branch_folder: `config.json` and weights of VideoPainter's branch.
            cache: folder for compiled kernels and copies of remote checkpoints.
            device: see `pick_device`.
            second_device: another GPU, see the class; None for one alone.
            memory_gib: budget of each device; see `Residency`.
            steps, guidance, mask_pooling: see `WindowSettings`.
            dynamic_guidance: the `correct` form of it.
            dilation_px: how far the mask that the model is shown grows.
            compiled, first_block_cache, fp8: see `Acceleration`; on a CPU nothing is compiled.

        Raises:
            CheckpointError: a file is missing or damaged, or the two do not belong together. Weights are read at the
                first call.
        """
        model, branch = local_model_folder(folder, cache), local_model_folder(branch_folder, cache)
        use_kernel_cache(cache)
        residency = Residency.of(pick_device(device), memory_gib)
        acceleration = Acceleration(compiled and residency.device.type == "cuda", first_block_cache, fp8)
        return cls(
            checkpoint_parts(model, branch, residency, acceleration),
            residency,
            settings=WindowSettings(
                steps=steps,
                guidance=guidance,
                dynamic_guidance="correct" if dynamic_guidance else "off",
                mask_pooling=mask_pooling,
            ),
            edges=MaskEdges(dilation_px),
            second=_second(second_device, residency, memory_gib),
            acceleration=acceleration,
        )

    def prepare(self, captions: Sequence[str]) -> None:
        """Read captions that are about to be painted, all at once, and the empty one that each is held against."""
        self._parts.words.encode([*captions, ""], self._parts.size.tokens)

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:  # noqa: ARG002  # the role's
        """See `VideoPainter`."""
        tokens = self._parts.size.tokens
        if not self._parts.words.is_cut(instruction.caption, tokens):
            return ()
        return (f"the caption is longer than the {tokens} tokens that the video model reads: its end was not used",)

    def paint_video(self, scene: EditScene, first_frame: Frames, instruction: PaintInstruction) -> Frames:
        """See `VideoPainter`. Frame 0 is the model's own picture of `first_frame`, as sharp as the frames after it.

        Args:
            scene: of any size and length; clips shorter than a window are padded and cut back.
            first_frame: (H, W, 3), painted.
            instruction: its caption and seed count; longer captions than the model reads are cut, see `notes`.

        Raises:
            ItemError: nothing is to be painted, the first frame is of another size, the clip does not fit into the
                device's memory, or the network gave NaN.
        """
        self._check(scene, first_frame)
        size = self._parts.size
        # 1. Text: from memory, where `prepare` was told of the caption.
        text = self._parts.words.encode([instruction.caption, ""], size.tokens)
        # 2. The clip at the model's resolution; what is painted is laid over it.
        height, width = first_frame.shape[:2]
        masks = self._shown_masks(scene.paint_masks)
        source = _resized(scene.frames, size.height, size.width)
        painted = source.copy()
        painted[0] = _resized(first_frame[None], size.height, size.width)[0]
        # 3. Window by window; each starts from a frame that the one before has painted.
        plan = plan_windows(len(source), size.frames, size.frames - OVERLAP_FRAMES)
        latents: Tensor | None = None
        for index in range(len(plan.starts)):
            frames, window_masks = source[plan.sources(index)], masks[plan.sources(index)]
            frames[0] = painted[plan.starts[index]]
            if not window_masks[1:].any():
                # Nothing to paint from here on, for a while: the source stays.
                latents = None
                continue
            what = f"window {index + 1} of {len(plan.starts)} of {scene.item_key}"
            anchor = None if latents is None else _anchor(plan, index, latents)
            # Not one generator for all windows: a retry of one must not change those after it.
            seed = (instruction.seed + index) % 2**64
            latents, result = self._window(frames, window_masks, text, seed, anchor, what)
            plan.lay(index, result, onto=painted)
        # 4. The clip's own resolution.
        return _resized(painted, height, width)

    def release(self) -> None:
        """See `VideoPainter`. The weights stay in host memory."""
        self._residency.vacate()
        if self._second is not None:
            self._second.vacate()

    def smoke_check(self) -> None:
        """Read all weights of both checkpoints and paint one window, the only size that there is; see `Checkable`."""
        scene = smoke_scene()
        with damaged_weights_named():
            self.paint_video(scene, scene.frames[0], SMOKE_INSTRUCTION)

    def _window(
        self, frames: Frames, masks: NDArray[np.bool_], text: list[Tensor], seed: int, anchor: Anchor | None, what: str
    ) -> tuple[Tensor, Frames]:
        """Clean latents and frames of one window; each phase is tried again alone where memory is short."""
        generator = torch.Generator().manual_seed(seed)
        # Each try from the same numbers.
        begin = generator.get_state()
        encoded = with_retry(
            partial(self._encoded, frames, masks, generator, begin), self._residency, f"encoding {what}"
        )
        begin = generator.get_state()
        latents = with_retry(
            partial(self._denoised, encoded, text, generator, begin, anchor, what),
            self._residency,
            f"denoising {what}",
        )
        if not bool(torch.isfinite(latents).all()):
            raise ItemError(f"the network gave NaN for {what}; its weights may be damaged")
        decoded = with_retry(partial(self._decoded, latents), self._residency, f"decoding {what}")
        if not np.isfinite(decoded).all():
            raise ItemError(f"the autoencoder gave NaN for {what}; its weights may be damaged")
        return latents, np.rint(decoded * 255.0).astype(np.uint8)

    def _encoded(
        self, frames: Frames, masks: NDArray[np.bool_], generator: torch.Generator, begin: Tensor, tight: bool
    ) -> WindowLatents:
        generator.set_state(begin)
        with self._autoencoder_held(tight) as autoencoder:
            return encode_window(autoencoder, frames, masks, self._settings, generator)

    def _denoised(
        self,
        window: WindowLatents,
        text: list[Tensor],
        generator: torch.Generator,
        begin: Tensor,
        anchor: Anchor | None,
        what: str,
        tight: bool,
    ) -> Tensor:
        generator.set_state(begin)
        if tight and self._second is not None:
            # Either of the two devices was full. What is on the first one has left it already.
            self._second.release_all_but()
        here, there = self._parts.denoisers, None if tight else self._twins
        with ExitStack() as held:
            working_bytes = _DENOISING_BYTES // (2 if tight or there is not None else 1)
            for each in (here,) if there is None else (here, there):
                held.enter_context(_on_device(each.residency, working_bytes, each.transformer, each.branch))
            whole = here.model()
            model: BranchedTransformer | SplitGuidance = whole
            if there is not None or tight:
                model = SplitGuidance(whole, None if there is None else there.model())
            denoiser = WindowDenoiser.of(self._parts.autoencoder.module, model, self._parts.scheduler)
            try:
                return denoiser.denoise(window, self._settings, text[0], text[1], generator, anchor, what)
            finally:
                # The pipeline empties the caches of steps at its end, which a failed run does not reach.
                model._reset_stateful_cache()

    def _decoded(self, latents: Tensor, tight: bool) -> NDArray[np.float32]:
        with self._autoencoder_held(tight) as autoencoder:
            return decode_window(autoencoder, latents)

    @contextmanager
    def _autoencoder_held(self, tight: bool) -> Iterator[AutoencoderKLCogVideoX]:
        size = self._parts.size
        working_bytes = _TILED_BYTES if tight else size.height * size.width * _AUTOENCODER_BYTES_A_PIXEL
        with _on_device(self._residency, working_bytes, self._parts.autoencoder):
            part = self._parts.autoencoder
            # In tiles whose overlaps are blended, or whole.
            (part.module.enable_tiling if tight else part.module.disable_tiling)()
            yield part.module

    @cached_property
    def _twins(self) -> Denoisers | None:
        """Transformer and branch of the second device."""
        if self._second is None:
            return None
        twins = self._parts.denoisers.twin(self._second, self._acceleration)
        with self._residency.holding(), self._second.holding():
            # Now, before the first device has them: the twins shall share their weights in host memory.
            _ = twins.transformer.module, twins.branch.module
        return twins

    def _shown_masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What the model is told to paint: masks grown in the clip's own pixels, then brought to the model's size."""
        height, width = self._parts.size.height, self._parts.size.width

        def shown(frame: int) -> NDArray[np.bool_]:
            grown = model_mask(masks[frame], self._edges).astype(np.float32)
            # Shares of area: a pixel that is painted in part is painted, so that no thin line is lost.
            return _fitted(grown, height, width, cv2.INTER_NEAREST_EXACT) > 0

        return np.stack(list(in_order(shown, len(masks))))

    def _check(self, scene: EditScene, first_frame: Frames) -> None:
        if first_frame.shape != scene.frames.shape[1:]:
            raise ItemError(
                f"the first frame of {scene.item_key} is {first_frame.shape} but its frames are "
                f"{scene.frames.shape[1:]}; materialize first_frames again"
            )
        if not scene.paint_masks.any():
            raise ItemError(f"the paint masks of {scene.item_key} are empty: there is nothing to paint")


def random_cogvideox(
    tokenizer: T5Tokenizer,
    *,
    architecture: CogVideoXArchitecture = COGVIDEOX_5B,
    device: str = "auto",
    second_device: str | None = None,
    cache: Path | None = None,
    memory_gib: float | None = None,
    settings: WindowSettings = SPEC_SETTINGS,
    acceleration: Acceleration = EXACT,
    seed: int = 0,
) -> VideoPainterEngine:
    """The engine with random weights, for measurements of speed and memory: what it paints is noise.

    Args:
        tokenizer: any whose tokens the architecture's vocabulary holds.
        architecture: by default the released one, 21.9 GB of weights in bfloat16 with the text encoder.
        device: computes, and draws the weights.
        second_device: see the class.
        cache: folder for compiled kernels.
        memory_gib: budget of each device; see `Residency`.
        settings: of each window.
        acceleration: of transformer and branch.
        seed: of the weights.
    """
    use_kernel_cache(cache)
    residency = Residency.of(pick_device(device), memory_gib)
    return VideoPainterEngine(
        random_parts(architecture, tokenizer, residency, acceleration, seed),
        residency,
        settings=settings,
        second=_second(second_device, residency, memory_gib),
        acceleration=acceleration,
    )


def _second(name: str | None, first: Residency, memory_gib: float | None) -> Residency | None:
    """The residency of another device than the first."""
    if name is None:
        return None
    device = pick_device(name)
    if device == first.device:
        raise StepError(
            f"the second device of CogVideoX, {name}, is {device}, where it runs already; name another GPU, such as "
            "cuda:1, or none (LANEPAINT_COG_SECOND_DEVICE)"
        )
    return Residency.of(device, memory_gib)


@contextmanager
def _on_device(residency: Residency, working_bytes: int, *parts: Part[Any]) -> Iterator[None]:
    """Hold parts for a phase. Where the budget leaves less than it wants, it is tried all the same, then in tiles."""
    # Alone first: parts are read from disk here, which only one thread may do.
    with residency.holding():
        weights, budget = sum(part.bytes for part in parts), residency.budget_bytes
        promised = 0 if budget is None else max(min(working_bytes, budget - weights), 0)
        with residency.holding(*parts, working_bytes=promised):
            yield


def _anchor(plan: WindowPlan, index: int, earlier: Tensor) -> Anchor:
    """The earlier window's latents at their places in the window `index`."""
    shift, shared = plan.latent_shift(index), plan.shared_latents(index)
    latents = torch.zeros_like(earlier)
    latents[:, 1 : 1 + shared] = earlier[:, 1 + shift : 1 + shift + shared]
    return Anchor(latents, torch.from_numpy(plan.hold(index)))


def _resized(frames: Frames, height: int, width: int) -> Frames:
    """(T, H, W, 3) to another size; a copy, also where the size is the same."""
    if frames.shape[1:3] == (height, width):
        return frames.copy()
    resized = in_order(lambda frame: _fitted(frames[frame], height, width, cv2.INTER_CUBIC), len(frames))
    return np.stack(list(resized))


def _fitted(picture: NDArray[Any], height: int, width: int, enlarging: int) -> NDArray[Any]:
    """A picture or mask of another size: means over areas where pixels get fewer, else interpolated.

    One axis after the other: OpenCV leaves areas out of account in both where only one axis gets longer.
    """
    rows, columns = picture.shape[:2]
    high = cv2.resize(picture, (columns, height), interpolation=cv2.INTER_AREA if height < rows else enlarging)
    return cv2.resize(high, (width, height), interpolation=cv2.INTER_AREA if width < columns else enlarging)
