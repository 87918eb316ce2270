"""The files of one segmented clip, and the statistics that are shown beside them.

Called by the segmentation stage and by the command line; `read_masks` by whoever needs the masks again. The
VideoPainter folder is `vp_folder.py`; no mask is made or changed here.

What one item's folder holds:

| file | content |
|---|---|
| `masks/00000.png` ... | paint mask of each frame, 8-bit grey, 0 keep, 255 paint |
| `masks.lpm` | road and paint masks as compressed bits; the platform's own form, see `write_masks` |
| `all_masks.npz` | key `arr_0`, (T, H, W) uint8, 1 = paint; VideoPainter's form |
| `overlay.mp4` | the clip with the paint mask in green and its outline; objects on the road stay untinted |
| `preview.png` | the overlay at the clip's start, middle and end, side by side |
| `metadata.csv` | one line: the columns of `SegmentationStatistics`, then `<step>_s` for every timing given |
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.segmentation.bit_components import count_regions
from lanepaint_assets.segmentation.bit_masks import (
    Bits,
    default_workers,
    for_each_frame,
    pack_mask,
    unpack_video,
    words_across,
)
from lanepaint_assets.segmentation.npz_masks import write_npz_masks
from lanepaint_assets.segmentation.plausibility import Plausibility, road_plausibility

MASKS_FILE = "masks.lpm"
# The first bytes of that file: what it is, and the version of its form.
MASKS_MAGIC = b"lanepaint masks 1\n"
# Higher levels of zstd take longer and gain nothing on masks.
ZSTD_LEVEL = 1
ALL_MASKS_FILE = "all_masks.npz"
OVERLAY_FILE = "overlay.mp4"
# The overlay is looked at, not measured: three times as fast as the encoder's default, at twice the size.
OVERLAY_PRESET, OVERLAY_CRF = "ultrafast", 20
PREVIEW_FILE = "preview.png"
METADATA_FILE = "metadata.csv"
PICTURES_FOLDER = "masks"

ROAD_GREEN = (40, 220, 90)
OUTLINE_GREEN = (0, 255, 120)
OBJECT_AMBER = (255, 193, 70)
# Enough to see where the mask lies, little enough to judge the markings beneath it.
TINT = 0.35
# (256, 1, 3): what every value of each channel becomes under the tint.
_TINTED = np.rint(np.arange(256)[:, None, None] * (1 - TINT) + np.array(ROAD_GREEN) * TINT).astype(np.uint8)

WHITE = np.uint8(255)

PREVIEW_FRAME_WIDTH_PX = 480


@dataclass(frozen=True, eq=False)
class VideoMasks:
    """Masks of a clip: `road` and `paint`, each (T, H, W) bool, not to be changed; `paint` is a subset of `road`."""

    road: NDArray[np.bool_]
    paint: NDArray[np.bool_]

    @cached_property
    def bits(self) -> Bits:
        """(T, 2, H, words): `road`, then where `paint` differs from it; packed once for statistics and file."""
        frames, height, width = self.road.shape
        bits = np.empty((frames, 2, height, words_across(width)), dtype=np.uint64)

        def pack(index: int) -> None:
            road, unpainted = bits[index]
            pack_mask(self.road[index], road)
            pack_mask(self.paint[index], unpainted)
            np.bitwise_xor(road, unpainted, out=unpainted)

        for_each_frame(frames, pack)
        return bits

    def __post_init__(self) -> None:
        if self.road.shape != self.paint.shape or self.road.ndim != 3:
            raise ValueError(f"video masks have one shape (T, H, W), not {self.road.shape} and {self.paint.shape}")


@dataclass(frozen=True)
class SegmentationStatistics:
    """What a clip's masks look like in numbers.

    Attributes:
        frames: T.
        width: frame width in pixels.
        height: frame height in pixels.
        rate_hz: frames a second.
        road_share_mean: mean share of the frame that is road; also its least and greatest over the frames.
        paint_share_mean: mean share of the frame that may be painted.
        empty_frames: frames without any road.
        object_holes: objects left out of the paint mask, summed over the frames.
        temporal_iou_mean: mean overlap (intersection over union) of the road in neighbouring frames, 1 where nothing
            moves; a low value means that the mask flickers. Two empty frames count as 1.
        temporal_iou_min: the worst pair.
        confidence: 0 to 1, that the masks show a road at all (`plausibility.py`).
        doubt: why the confidence is low; empty where it is not.
    """

    frames: int
    width: int
    height: int
    rate_hz: float
    road_share_mean: float
    road_share_min: float
    road_share_max: float
    paint_share_mean: float
    empty_frames: int
    object_holes: int
    temporal_iou_mean: float
    temporal_iou_min: float
    confidence: float
    doubt: str


class MasksFileError(ValueError):
    """A masks file that cannot be read; the message names file, reason and remedy."""


def write_segmentation(
    folder: Path,
    frames: NDArray[np.uint8],
    masks: VideoMasks,
    rate_hz: float,
    timings_s: Mapping[str, float] | None = None,
) -> SegmentationStatistics:
    """Write all files of one segmented clip.

    Args:
        folder: an existing local folder, empty or to be overwritten.
        frames: (T, H, W, 3) sRGB uint8.
        masks: (T, H, W) each.
        rate_hz: frames a second of the overlay.
        timings_s: seconds by step, for `metadata.csv`; the name becomes the column `<step>_s`.

    Returns:
        The statistics written to `metadata.csv`.

    Raises:
        ValueError: frames and masks do not belong together, or there are no frames.

    Source: spec 4, multi-format output.
    """
    if frames.shape[:3] != masks.road.shape or frames.shape[0] == 0:
        raise ValueError(f"frames {frames.shape} and masks {masks.road.shape} do not belong to one clip with frames")
    statistics = mask_statistics(masks, rate_hz, road_plausibility(frames, masks.road))
    write_mask_pictures(folder / PICTURES_FOLDER, masks.paint)
    write_masks(folder / MASKS_FILE, masks)
    write_npz_masks(folder / ALL_MASKS_FILE, masks.paint)
    write_video(folder / OVERLAY_FILE, overlay_frames(frames, masks), rate_hz, crf=OVERLAY_CRF, preset=OVERLAY_PRESET)
    write_picture(folder / PREVIEW_FILE, preview(frames, masks))
    _write_metadata(folder / METADATA_FILE, statistics, timings_s or {})
    return statistics


def mask_statistics(masks: VideoMasks, rate_hz: float, plausibility: Plausibility) -> SegmentationStatistics:
    """Statistics of a clip's masks with at least one frame, the judgement on them included."""
    frames, height, width = masks.road.shape
    road, unpainted = masks.bits[:, 0], masks.bits[:, 1]
    road_px = _count(road)
    # Of two masks, the pixels in both are their union less those that are in one alone.
    different_px = _count(road[:-1] ^ road[1:])
    union_px = (road_px[:-1] + road_px[1:] + different_px) // 2
    overlaps = np.where(union_px > 0, 1 - different_px / np.maximum(union_px, 1), 1.0) if frames > 1 else np.ones(1)
    road_share = road_px / (height * width)
    return SegmentationStatistics(
        frames=frames,
        width=width,
        height=height,
        rate_hz=rate_hz,
        road_share_mean=float(road_share.mean()),
        road_share_min=float(road_share.min()),
        road_share_max=float(road_share.max()),
        paint_share_mean=float(_count(road ^ unpainted).mean() / (height * width)),
        empty_frames=int(np.count_nonzero(road_px == 0)),
        object_holes=sum(count_regions(objects, width) for objects in road & unpainted),
        temporal_iou_mean=float(overlaps.mean()),
        temporal_iou_min=float(overlaps.min()),
        confidence=plausibility.confidence,
        doubt=plausibility.reason,
    )


def write_mask_pictures(folder: Path, paint: NDArray[np.bool_], stems: list[str] | None = None) -> None:
    """Write (T, H, W) masks as 8-bit PNGs, 0 keep and 255 paint, named `00000.png` and on, or by `stems`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = stems or [f"{index:05d}" for index in range(paint.shape[0])]
    if len(names) != len(paint):
        raise ValueError(f"{len(paint)} masks cannot be written under {len(names)} names")
    for_each_frame(len(names), lambda index: write_picture(folder / f"{names[index]}.png", paint[index] * WHITE))


class _MasksHeader(BaseModel):
    """The second line of a masks file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    planes: tuple[Literal["road"], Literal["unpainted"]] = ("road", "unpainted")


def write_masks(path: Path, masks: VideoMasks) -> None:
    """Write a masks file: the line `MASKS_MAGIC`, a line of JSON (`shape`, `planes`), a zstd frame with a checksum.

    The frame holds `VideoMasks.bits` as little-endian words: (T, 2, H, words), pixel x in bit x % 64 of word x // 64.
    The second plane is where the two masks differ, which is next to nothing.
    """
    header = _MasksHeader(shape=masks.road.shape).model_dump_json().encode() + b"\n"
    words = masks.bits.astype("<u8", copy=False)
    frame = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(words.reshape(-1).data)
    path.write_bytes(MASKS_MAGIC + header + frame)


def read_masks(path: Path) -> VideoMasks:
    """Read what `write_masks` wrote.

    Raises:
        MasksFileError: the file is none of these, is truncated or damaged, or its parts contradict each other.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MasksFileError(f"{path}: not readable ({error}); materialize road_masks again") from error
    if not data.startswith(MASKS_MAGIC):
        raise MasksFileError(
            f"{path}: begins with {data[: len(MASKS_MAGIC)]!r}, not with {MASKS_MAGIC!r}; materialize road_masks again"
        )
    end = data.find(b"\n", len(MASKS_MAGIC)) + 1
    try:
        header = _MasksHeader.model_validate_json(data[len(MASKS_MAGIC) : end])
        frames, height, width = header.shape
        shape = (frames, 2, height, words_across(width))
        size = zstandard.get_frame_parameters(data[end:]).content_size
        # Before decompressing: a damaged size could ask for any amount of memory.
        if size != 8 * math.prod(shape):
            raise MasksFileError(
                f"{path}: {size} bytes of bits contradict its shape {header.shape}; materialize road_masks again"
            )
        words = zstandard.ZstdDecompressor().decompress(memoryview(data)[end:], allow_extra_data=False)
    except (zstandard.ZstdError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise MasksFileError(f"{path}: truncated or damaged ({reason}); materialize road_masks again") from error
    bits = np.frombuffer(words, dtype="<u8").astype(np.uint64, copy=False).reshape(shape)
    road, unpainted = bits[:, 0], bits[:, 1]
    return VideoMasks(unpack_video(road, width), unpack_video(road ^ unpainted, width))


def overlay_frames(frames: NDArray[np.uint8], masks: VideoMasks) -> Iterator[NDArray[np.uint8]]:
    """The clip's frames with the paint mask in green, one (H, W, 3) picture at a time, drawn some ahead."""
    ahead = 2 * default_workers()
    with ThreadPoolExecutor(max_workers=default_workers()) as pool:
        for start in range(0, len(frames), ahead):
            part = slice(start, start + ahead)
            yield from pool.map(draw_masks, frames[part], masks.road[part], masks.paint[part])


def draw_masks(frame: NDArray[np.uint8], road: NDArray[np.bool_], paint: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One sRGB frame (H, W, 3) with `paint` tinted and outlined in green; objects on the road outlined in amber."""
    drawn = frame.copy()
    cv2.copyTo(cv2.LUT(frame, _TINTED), paint.view(np.uint8), drawn)
    line_px = max(1, round(frame.shape[0] / 360))
    for mask, color in ((road, OUTLINE_GREEN), (road & ~paint, OBJECT_AMBER)):
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, contours, -1, color, line_px, cv2.LINE_AA)
    return drawn


def preview(frames: NDArray[np.uint8], masks: VideoMasks) -> NDArray[np.uint8]:
    """The overlay at the clip's start, middle and end side by side, each at most 480 px wide."""
    count = frames.shape[0]
    pictures = []
    for index in (0, count // 2, count - 1):
        drawn = draw_masks(frames[index], masks.road[index], masks.paint[index])
        scale = min(1.0, PREVIEW_FRAME_WIDTH_PX / drawn.shape[1])
        pictures.append(cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return np.concatenate(pictures, axis=1).astype(np.uint8)


def _write_metadata(path: Path, statistics: SegmentationStatistics, timings_s: Mapping[str, float]) -> None:
    row = {**asdict(statistics), **{f"{step}_s": round(seconds, 4) for step, seconds in timings_s.items()}}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    path.write_text(text.getvalue(), encoding="utf-8")


def _count(bits: Bits) -> NDArray[np.int64]:
    """(T,), pixels that are set in each of (T, H, words)."""
    return np.asarray(np.bitwise_count(bits).sum(axis=(1, 2), dtype=np.int64))
