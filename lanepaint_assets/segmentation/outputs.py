"""The files of one segmented clip, and the statistics that are shown beside them.

Called by the segmentation stage and by the command line; `read_masks` by every stage that needs the masks again. The
VideoPainter folder is `vp_folder.py`; no mask is made or changed here.

What one item's folder holds:

| file | content |
|---|---|
| `masks/00000.png` ... | paint mask of each frame, 8-bit grey, 0 keep, 255 paint |
| `masks.npz` | road and paint masks as packed bits; the platform's own form |
| `all_masks.npz` | key `arr_0`, (T, H, W) uint8, 1 = paint; VideoPainter's form |
| `overlay.mp4` | the clip with the paint mask in green and its outline; objects on the road stay untinted |
| `preview.png` | the overlay at the clip's start, middle and end, side by side |
| `metadata.csv` | one line: the columns of `SegmentationStatistics`, then `<step>_s` for every timing given |
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.segmentation.cleanup import CleanedMasks, count_objects
from lanepaint_assets.segmentation.plausibility import Plausibility, road_plausibility

MASKS_FILE = "masks.npz"
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

PREVIEW_FRAME_WIDTH_PX = 480


@dataclass(frozen=True, eq=False)
class VideoMasks:
    """Masks of a clip: `road` and `paint`, each (T, H, W) bool; `paint` is a subset of `road`."""

    road: NDArray[np.bool_]
    paint: NDArray[np.bool_]

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
    np.savez_compressed(folder / ALL_MASKS_FILE, masks.paint.astype(np.uint8))
    write_video(folder / OVERLAY_FILE, overlay_frames(frames, masks), rate_hz, crf=OVERLAY_CRF, preset=OVERLAY_PRESET)
    write_picture(folder / PREVIEW_FILE, preview(frames, masks))
    _write_metadata(folder / METADATA_FILE, statistics, timings_s or {})
    return statistics


def mask_statistics(masks: VideoMasks, rate_hz: float, plausibility: Plausibility) -> SegmentationStatistics:
    """Statistics of a clip's masks with at least one frame, the judgement on them included."""
    frames, height, width = masks.road.shape
    road_share = masks.road.mean(axis=(1, 2))
    overlaps = [_iou(before, after) for before, after in zip(masks.road[:-1], masks.road[1:], strict=True)] or [1.0]
    return SegmentationStatistics(
        frames=frames,
        width=width,
        height=height,
        rate_hz=rate_hz,
        road_share_mean=float(road_share.mean()),
        road_share_min=float(road_share.min()),
        road_share_max=float(road_share.max()),
        paint_share_mean=float(masks.paint.mean()),
        empty_frames=int(np.count_nonzero(road_share == 0)),
        object_holes=sum(
            count_objects(CleanedMasks(road, paint)) for road, paint in zip(masks.road, masks.paint, strict=True)
        ),
        temporal_iou_mean=float(np.mean(overlaps)),
        temporal_iou_min=float(np.min(overlaps)),
        confidence=plausibility.confidence,
        doubt=plausibility.reason,
    )


def write_mask_pictures(folder: Path, paint: NDArray[np.bool_], stems: list[str] | None = None) -> None:
    """Write (T, H, W) masks as 8-bit PNGs, 0 keep and 255 paint, named `00000.png` and on, or by `stems`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = stems or [f"{index:05d}" for index in range(paint.shape[0])]
    for name, mask in zip(names, paint, strict=True):
        write_picture(folder / f"{name}.png", mask.astype(np.uint8) * 255)


def write_masks(path: Path, masks: VideoMasks) -> None:
    """Write `masks.npz`: keys `road` and `paint` (bits packed along the flattened masks) and `shape` (T, H, W)."""
    np.savez_compressed(
        path,
        road=np.packbits(masks.road),
        paint=np.packbits(masks.paint),
        shape=np.asarray(masks.road.shape, dtype=np.int64),
    )


def read_masks(path: Path) -> VideoMasks:
    """Read what `write_masks` wrote.

    Raises:
        MasksFileError: the file is no such archive, is truncated, or its parts contradict each other.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            shape = tuple(int(size) for size in archive["shape"])
            road, paint = archive["road"], archive["paint"]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise MasksFileError(f"{path}: not a readable masks archive ({error}); materialize road_masks again") from error
    size = int(np.prod(shape))
    if len(shape) != 3 or road.size * 8 < size or paint.size * 8 < size:
        raise MasksFileError(
            f"{path}: {road.size} and {paint.size} bytes are too few for masks of shape {shape}; "
            "materialize road_masks again"
        )
    return VideoMasks(
        np.unpackbits(road, count=size).reshape(shape).astype(np.bool_),
        np.unpackbits(paint, count=size).reshape(shape).astype(np.bool_),
    )


def overlay_frames(frames: NDArray[np.uint8], masks: VideoMasks) -> Iterator[NDArray[np.uint8]]:
    """The clip's frames with the paint mask in green, one (H, W, 3) picture at a time."""
    for frame, road, paint in zip(frames, masks.road, masks.paint, strict=True):
        yield draw_masks(frame, road, paint)


def draw_masks(frame: NDArray[np.uint8], road: NDArray[np.bool_], paint: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One sRGB frame (H, W, 3) with `paint` tinted and outlined in green; objects on the road outlined in amber."""
    tinted = cv2.addWeighted(frame, 1 - TINT, np.full_like(frame, ROAD_GREEN), TINT, 0)
    drawn = np.where(paint[..., None], tinted, frame)
    line_px = max(1, round(frame.shape[0] / 360))
    for mask, color in ((road, OUTLINE_GREEN), (road & ~paint, OBJECT_AMBER)):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
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


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0
