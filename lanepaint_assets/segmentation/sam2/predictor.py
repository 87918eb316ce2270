"""SAM 2's video predictor on frames in memory: frames in, masks out, one object, one pass forwards.

Called by the engine. What is added to the package's classes: frames come as arrays and are resized on the device, the
image encoder takes several frames at once, the memory bank forgets what no later frame reads, and only masks leave the
device. Which points to prompt with, weights and devices are the engine's business; the network itself is the package's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lanepaint_assets.segmentation.sam2.package import enter_package

enter_package()

from sam2.sam2_video_predictor import SAM2VideoPredictor, SAM2VideoPredictorVOS  # noqa: E402

# Mean and deviation of ImageNet's pictures, sRGB 0..1: what the network was trained with.
PIXEL_MEAN, PIXEL_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The package addresses objects by number; the road is the only one.
ROAD = 1

# What the encoder's answer consists of, a tensor a level.
FEATURES = ("backbone_fpn", "vision_pos_enc")

# Logits above zero are the object.
FOREGROUND = 0.0


if TYPE_CHECKING:
    _Module = torch.nn.Module
else:
    # The package's predictors bring the module.
    _Module = object


class NotFiniteError(ValueError):
    """The network gave NaN or infinity."""


@dataclass(frozen=True)
class _Pending:
    """Masks on their way from the device."""

    part: slice
    masks: torch.Tensor
    arrived: torch.cuda.Event | None

    def store(self, result: NDArray[np.bool_]) -> None:
        if self.arrived is not None:
            self.arrived.synchronize()
        result[self.part] = self.masks.numpy()


class RoadPredictor(_Module):
    """What the package's two predictors get beside their own methods; `self` is one of them."""

    image_size: int

    @torch.inference_mode()
    def segment(
        self: Any, frames: NDArray[np.uint8], points_px: NDArray[np.int32], encoder_batch: int
    ) -> NDArray[np.bool_]:
        """Segment the road in a clip.

        Args:
            frames: (T, H, W, 3) sRGB uint8, at least one.
            points_px: (N, 2) x and y of places on the road in frame 0.
            encoder_batch: frames that the image encoder takes at once; its memory grows with it.

        Returns:
            (T, H, W), True where the road's logit is positive.

        Raises:
            NotFiniteError: a logit is NaN or infinite; names the first such frame.
        """
        state = self._state(frames.shape[0], frames.shape[1], frames.shape[2])
        masks = np.empty(frames.shape[:3], dtype=np.bool_)
        finite = torch.ones(frames.shape[0], dtype=torch.bool, device=self.device)
        pending: _Pending | None = None
        for first in range(0, frames.shape[0], encoder_batch):
            part = slice(first, min(first + encoder_batch, frames.shape[0]))
            found = []
            for index, (logits, score) in zip(
                range(part.start, part.stop), self._tracked(state, frames[part], first, points_px), strict=True
            ):
                # A score of NaN means "no object" to the package, which then overwrites the logits.
                finite[index] = torch.isfinite(logits).all() & torch.isfinite(score).all()
                found.append(self._get_orig_video_res_output(state, logits)[1][0, 0] > FOREGROUND)
            # The last part's masks are fetched while the device works on this one.
            if pending is not None:
                pending.store(masks)
            pending = self._leaving(torch.stack(found), part)
        if pending is not None:
            pending.store(masks)
        if not bool(finite.all()):
            raise NotFiniteError(f"the network's logits are NaN or infinite from frame {int(finite.int().argmin())} on")
        return masks

    def _state(self: Any, count: int, height: int, width: int) -> dict[str, Any]:
        """An empty inference state, as the package's methods expect one."""
        return {
            "num_frames": count,
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "video_height": height,
            "video_width": width,
            "device": self.device,
            "storage_device": self.device,
            "point_inputs_per_obj": {},
            "mask_inputs_per_obj": {},
            "cached_features": {},
            "constants": {},
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
            "output_dict_per_obj": {},
            "temp_output_dict_per_obj": {},
            "frames_tracked_per_obj": {},
        }

    def _tracked(
        self: Any, state: dict[str, Any], frames: NDArray[np.uint8], first: int, points_px: NDArray[np.int32]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Logits (1, 1, h, w) and object score (1, 1) of each of `frames`, which begin at index `first` of the clip."""
        pictures = network_pictures(on_device(frames, self.device), self.image_size)
        encoded = self.forward_image(pictures)
        for offset in range(frames.shape[0]):
            index = first + offset
            # Where the package looks for the features of the frame that it is at.
            state["cached_features"] = {
                index: (
                    pictures[offset : offset + 1],
                    {name: [level[offset : offset + 1] for level in encoded[name]] for name in FEATURES},
                )
            }
            found = self._prompted(state, points_px) if index == 0 else self._followed(state, index)
            yield found["pred_masks"], found["object_score_logits"]

    def _prompted(self: Any, state: dict[str, Any], points_px: NDArray[np.int32]) -> dict[str, torch.Tensor]:
        """What the package finds in frame 0, from the points."""
        labels = np.ones(len(points_px), dtype=np.int32)
        self.add_new_points_or_box(state, frame_idx=0, obj_id=ROAD, points=points_px.astype(np.float32), labels=labels)
        self.propagate_in_video_preflight(state)
        found: dict[str, torch.Tensor] = state["output_dict_per_obj"][0]["cond_frame_outputs"][0]
        return found

    def _followed(self: Any, state: dict[str, Any], index: int) -> dict[str, torch.Tensor]:
        """What it finds in a later frame, from the memory of those before."""
        outputs = state["output_dict_per_obj"][0]
        found: dict[str, torch.Tensor]
        found, _ = self._run_single_frame_inference(
            inference_state=state,
            output_dict=outputs,
            frame_idx=index,
            batch_size=1,
            is_init_cond_frame=False,
            point_inputs=None,
            mask_inputs=None,
            reverse=False,
            run_mem_encoder=True,
        )
        outputs["non_cond_frame_outputs"][index] = found
        # The next frame reads object pointers of the fifteen before it, and memories of the last six.
        outputs["non_cond_frame_outputs"].pop(index - (self.max_obj_ptrs_in_encoder - 1), None)
        return found

    def _leaving(self: Any, masks: torch.Tensor, part: slice) -> _Pending:
        if masks.device.type != "cuda":
            return _Pending(part, masks.cpu(), None)
        host = torch.empty(masks.shape, dtype=torch.bool, pin_memory=True)
        host.copy_(masks, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return _Pending(part, host, arrived)


class EagerRoadPredictor(RoadPredictor, SAM2VideoPredictor):
    """The package's plain predictor."""


class CompiledRoadPredictor(RoadPredictor, SAM2VideoPredictorVOS):
    """The package's `vos_optimized` predictor: every part compiled for one picture at a time."""


def on_device(frames: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Frames (B, H, W, 3) as a tensor (B, 3, H, W) uint8 on the device; does not wait for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(frames))
    if device.type == "cuda":
        # From pageable memory the copy would wait for all work before it.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True).permute(0, 3, 1, 2)


def network_pictures(frames: torch.Tensor, size: int) -> torch.Tensor:
    """What the network sees.

    Args:
        frames: (B, 3, H, W) sRGB uint8.
        size: side of the network's square picture, pixels.

    Returns:
        (B, 3, size, size) float32: resized with a bicubic kernel as wide as the reduction asks for, rounded to 8 bits
        (both as Pillow does, with which the package reads its JPEGs), and normalized.
    """
    pixels = frames.float()
    # Along rows, then along columns, with bytes between: torch's own kernel for bytes keeps fewer bits of its weights
    # and gives another value at one pixel in 200, this at one in 20,000.
    for extent in ((frames.shape[-2], size), (size, size)):
        if pixels.shape[-2:] != extent:
            pixels = torch.nn.functional.interpolate(
                pixels, size=extent, mode="bicubic", align_corners=False, antialias=True
            )
            pixels = pixels.round_().clamp_(0, 255)
    mean = torch.tensor(PIXEL_MEAN, device=frames.device).view(3, 1, 1)
    deviation = torch.tensor(PIXEL_DEVIATION, device=frames.device).view(3, 1, 1)
    return (pixels / 255.0 - mean) / deviation
