"""The `sam2` engine: one predictor a step, all clips through it, one at a time.

Called through the `RoadSegmenter` role, from several threads at once: while one clip is on the device, others are
decoded, cleaned and written. Clean-up and files are not its business.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from upath import UPath

from lanepaint_assets.checkpoints.files import local_file
from lanepaint_assets.segmentation.point_grid import SPEC_GRID, PointGrid, grid_points
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES, Architecture, ModelSize, build_predictor
from lanepaint_assets.segmentation.sam2.graphs import GraphReplay
from lanepaint_assets.segmentation.sam2.predictor import NotFiniteError, RoadPredictor
from lanepaint_assets.segmentation.sam2.weights import RandomWeights, load_checkpoint, show_object
from lanepaint_assets.store.items import DeviceMemoryError, ItemError
from lanepaint_assets.torch_models.devices import pick_device, use_kernel_cache

Mask = NDArray[np.bool_]

# Frames that the image encoder takes at once on a GPU: enough to fill one, at less than 3 GiB for the large encoder.
ENCODER_BATCH = 8

# Height and width of a smoke check's pictures. The network scales every picture to its own size.
SMOKE_SIZE = (96, 160)

# From this compute capability on, bfloat16 runs on the tensor cores; older GPUs have float16 there.
BFLOAT16_CAPABILITY = (8, 0)


class Sam2RoadSegmenter:
    """SAM 2.1 as a `RoadSegmenter`.

    Weights are read at the first clip. Results do not depend on how many clips came before, nor on the calling thread.

    Args:
        weights: a checkpoint file, or random numbers.
        architecture: what the weights are for.
        device: `cpu`, `cuda`, `cuda:1`, ..., or `auto`: a GPU where there is one.
        compiled: the package's `vos_optimized` form. It takes the least memory and is no faster than the default, and
            its first clip waits minutes for the compiler, also where `cache` has its results.
        cache: folder that keeps compiled kernels between processes.
        encoder_batch: frames that the image encoder takes at once; by default 8 on a GPU, 1 elsewhere or compiled.
        grid: the points on the road in frame 0.
    """

    name = "sam2"
    version = "1"

    def __init__(
        self,
        weights: Path | RandomWeights,
        architecture: Architecture,
        *,
        device: str = "auto",
        compiled: bool = False,
        cache: Path | None = None,
        encoder_batch: int | None = None,
        grid: PointGrid = SPEC_GRID,
    ) -> None:
        self._weights = weights
        self._architecture = architecture
        self._device = device
        self._compiled = compiled
        self._cache = cache
        self._encoder_batch = encoder_batch
        self._grid = grid
        # The device is one, and so is the predictor's state.
        self._busy = threading.Lock()

    @classmethod
    def from_checkpoint(
        cls,
        folder: UPath,
        *,
        sam2_model: ModelSize = "large",
        sam2_compile: bool = False,
        device: str = "auto",
        cache: Path | None = None,
    ) -> Sam2RoadSegmenter:
        """The engine on a released checkpoint.

        Args:
            folder: holds `sam2.1_hiera_<size>.pt`; on an object store it is copied to `cache` first.
            sam2_model: which size.
            sam2_compile: see `compiled`.
            device: see the class.
            cache: folder for compiled kernels and copies of remote checkpoints.

        Raises:
            CheckpointError: the file is not there.
        """
        architecture = ARCHITECTURES[sam2_model]
        path = local_file(folder / f"{architecture.name}.pt", cache)
        return cls(path, architecture, device=device, compiled=sam2_compile, cache=cache)

    def segment_picture(self, frame: NDArray[np.uint8]) -> Mask:
        """Raw road mask (H, W) of one sRGB frame (H, W, 3)."""
        return np.asarray(self.segment_video(frame[None])[0])

    def segment_video(self, frames: NDArray[np.uint8]) -> Mask:
        """Raw road masks (T, H, W) of sRGB frames (T, H, W, 3), propagated from the points on frame 0.

        Raises:
            CheckpointError: at the first call, where the checkpoint is not one of this architecture.
            ItemError: the network gave NaN, or the clip does not fit into the device's memory.
        """
        if not len(frames):
            return np.zeros(frames.shape[:3], dtype=np.bool_)
        points = grid_points(frames.shape[2], frames.shape[1], self._grid)
        with self._busy:
            predictor = self._predictor
            try:
                with torch.autocast(self.device.type, dtype=self._precision, enabled=self._precision is not None):
                    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                    return predictor.segment(frames, points, self._batch)
            except NotFiniteError as error:
                failure = ItemError(
                    f"{error} (computed in {self._precision or torch.float32}); the checkpoint may be damaged"
                )
            except torch.cuda.OutOfMemoryError as error:
                failure = DeviceMemoryError(
                    f"the clip ({frames.shape[2]}x{frames.shape[1]}) does not fit into the memory of {self.device} "
                    f"({str(error).splitlines()[0]}); choose a smaller LANEPAINT_SAM2_MODEL, or a larger GPU"
                )
            # Here, after the exception and all tensors that its traceback held are gone.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise failure

    def smoke_check(self) -> None:
        """Read the weights and follow the road through two small pictures; see `Checkable`."""
        self.segment_video(np.random.default_rng(0).integers(0, 256, (2, *SMOKE_SIZE, 3), dtype=np.uint8))

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return pick_device(self._device)

    @property
    def _batch(self) -> int:
        if self._encoder_batch is not None:
            return self._encoder_batch
        return ENCODER_BATCH if self.device.type == "cuda" and not self._compiled else 1

    @cached_property
    def _precision(self) -> torch.dtype | None:
        """What autocast computes in; None for float32."""
        if self.device.type != "cuda":
            return None
        capable = torch.cuda.get_device_capability(self.device) >= BFLOAT16_CAPABILITY
        return torch.bfloat16 if capable else torch.float16

    @cached_property
    def _predictor(self) -> RoadPredictor:
        if self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= BFLOAT16_CAPABILITY:
            # For what autocast leaves in float32.
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        if self._compiled:
            use_kernel_cache(self._cache)
            _take_products_from_libraries()
        if isinstance(self._weights, RandomWeights):
            torch.manual_seed(self._weights.seed)
        predictor = build_predictor(self._architecture, self.device, compiled=self._compiled)
        if isinstance(self._weights, RandomWeights):
            show_object(predictor)
        else:
            load_checkpoint(predictor, self._weights)
        if self.device.type == "cuda" and not self._compiled:
            _replay_small_parts(predictor)
        return predictor


def _take_products_from_libraries() -> None:
    """Multiply and convolve with cuBLAS and cuDNN, as without compiling.

    The package has the compiler try twenty kernels of its own for every matrix product; on an H200 that had not ended
    after nine minutes.
    """
    from torch._inductor import config

    config.max_autotune_gemm_backends = "ATEN"
    config.max_autotune_conv_backends = "ATEN"


def _replay_small_parts(predictor: Any) -> None:
    """Run once a frame, on shapes that repeat: each of these is hundreds of kernels of microseconds."""
    pool = torch.cuda.graph_pool_handle()
    for part in (
        predictor.memory_attention,
        predictor.memory_encoder,
        predictor.sam_prompt_encoder,
        predictor.sam_mask_decoder,
    ):
        part.forward = GraphReplay(part.forward, pool)
