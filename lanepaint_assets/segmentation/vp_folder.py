"""The folder that VideoPainter reads (spec 4): written for it, and read back when results are imported.

Called by the segmentation stage, by `lanepaint import`, and by stages that take the paint masks from it. Nothing here
knows how masks are made.

```
<folder>/meta.csv                              path,start_frame,end_frame,fps,mask_id,caption
<folder>/masks/<video_id>/all_masks.npz        key arr_0, (T, H, W) uint8, mask id 1 = paint
<folder>/raw_videos/<video_id>/<video_id>.0.mp4
```
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.segmentation.npz_masks import write_npz_masks

META_FILE = "meta.csv"
META_COLUMNS = ("path", "start_frame", "end_frame", "fps", "mask_id", "caption")
VIDEO_SUFFIX = ".0.mp4"
# The object number that `all_masks.npz` gives the region to paint; 0 is everything else.
PAINT_MASK_ID = 1

_VIDEO_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def video_painter_id(item_key: str) -> str:
    """A video id for an item key: dots become `__`, because VideoPainter cuts the id at the first dot of `path`."""
    return item_key.replace(".", "__")


class VideoPainterFolderError(ValueError):
    """A folder that VideoPainter could not read; the message names the file, the reason and the remedy."""


@dataclass(frozen=True)
class VideoPainterItem:
    """One video of a VideoPainter folder.

    Attributes:
        video_id: name of its folders.
        video: path of the mp4.
        masks: path of `all_masks.npz`.
        start_frame: first frame used.
        end_frame: one past the last frame used.
        rate_hz: frames a second.
        mask_id: the object number in `masks` that is painted.
        caption: what the video shows.
        shape: (T, H, W) of the masks.
    """

    video_id: str
    video: Path
    masks: Path
    start_frame: int
    end_frame: int
    rate_hz: float
    mask_id: int
    caption: str
    shape: tuple[int, int, int]

    def paint_masks(self) -> NDArray[np.bool_]:
        """(T, H, W), True where paint may go."""
        return read_vp_masks(self.masks, self.mask_id)


def write_vp_folder(
    folder: Path,
    video_id: str,
    frames: NDArray[np.uint8],
    paint_masks: NDArray[np.bool_],
    rate_hz: float,
    caption: str,
) -> None:
    """Write the VideoPainter folder of one clip.

    Args:
        folder: where `meta.csv` goes; made with its parents where absent.
        video_id: letters, digits, `_`, `-` and `.`; names the sub-folders and the video. VideoPainter itself takes
            what stands before the first dot, so give it `video_painter_id(item_key)`.
        frames: (T, H, W, 3) sRGB uint8.
        paint_masks: (T, H, W), True where paint may go.
        rate_hz: frames a second; a whole rate is written without a decimal point, as the trainer's own files have it.
        caption: what the video shows.

    Raises:
        ValueError: the id cannot be a folder name, or frames and masks do not belong together.

    Source: spec 4, VideoPainter-compatible preprocessing.
    """
    if not _VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"video id {video_id!r} cannot name a folder; use letters, digits, '_', '-' and '.'")
    if frames.shape[:3] != paint_masks.shape or frames.shape[0] == 0:
        raise ValueError(f"{video_id}: frames {frames.shape} and masks {paint_masks.shape} do not belong to one clip")
    masks_path = _masks_path(folder, video_id)
    video_path = _video_path(folder, video_id)
    masks_path.parent.mkdir(parents=True, exist_ok=True)
    video_path.parent.mkdir(parents=True, exist_ok=True)
    write_npz_masks(masks_path, paint_masks, PAINT_MASK_ID)
    write_video(video_path, frames, rate_hz)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(META_COLUMNS)
    writer.writerow([video_path.name, 0, frames.shape[0], _number(rate_hz), PAINT_MASK_ID, " ".join(caption.split())])
    # Last, so that a folder with a meta.csv is complete.
    (folder / META_FILE).write_text(text.getvalue(), encoding="utf-8")


def read_vp_folder(folder: Path) -> list[VideoPainterItem]:
    """Read and check a VideoPainter folder; other people's may hold several videos.

    Raises:
        VideoPainterFolderError: a file is missing or contradicts another; the message says which, why and what to do.
    """
    meta = folder / META_FILE
    if not meta.is_file():
        raise VideoPainterFolderError(f"{meta}: no such file; give the folder that holds {META_FILE}")
    try:
        rows = list(csv.reader(io.StringIO(meta.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise VideoPainterFolderError(f"{meta}: not a UTF-8 CSV file ({error}); save it as UTF-8") from error
    if not rows or tuple(rows[0]) != META_COLUMNS:
        raise VideoPainterFolderError(
            f"{meta}: columns are {','.join(rows[0]) if rows else 'missing'}, but VideoPainter reads by position; "
            f"write them as {','.join(META_COLUMNS)}"
        )
    items = [_read_row(folder, meta, line, row) for line, row in enumerate(rows[1:], start=2) if row]
    if not items:
        raise VideoPainterFolderError(f"{meta}: lists no video; write one line a video below the header")
    return items


def read_vp_masks(path: Path, mask_id: int = PAINT_MASK_ID) -> NDArray[np.bool_]:
    """Paint masks (T, H, W) of an `all_masks.npz`.

    Raises:
        VideoPainterFolderError: no archive with a three-dimensional whole-number array `arr_0`.
    """
    return np.asarray(_read_numbers(path) == mask_id)


def _read_row(folder: Path, meta: Path, line: int, row: list[str]) -> VideoPainterItem:
    where = f"{meta}, line {line}"
    if len(row) != len(META_COLUMNS):
        raise VideoPainterFolderError(
            f"{where}: {len(row)} fields instead of {len(META_COLUMNS)}; quote captions that hold commas"
        )
    name, start, end, rate, mask_id, caption = row
    video_id = name.removesuffix(VIDEO_SUFFIX)
    if video_id == name or not _VIDEO_ID.fullmatch(video_id):
        raise VideoPainterFolderError(f"{where}: path {name!r} is not <video_id>{VIDEO_SUFFIX}; rename the video")
    video, masks = _video_path(folder, video_id), _masks_path(folder, video_id)
    for path in (video, masks):
        if not path.is_file():
            raise VideoPainterFolderError(f"{path}: no such file, but {where} names it; copy it there")
    try:
        first, last, rate_hz, number = int(start), int(end), float(rate), int(mask_id)
    except ValueError as error:
        raise VideoPainterFolderError(
            f"{where}: {error}; start_frame, end_frame and mask_id are whole numbers, fps a number"
        ) from error
    numbers = _read_numbers(masks)
    frames, height, width = numbers.shape
    if not 0 <= first < last <= frames:
        raise VideoPainterFolderError(
            f"{where}: frames {first} to {last} are asked for, {masks.name} has {frames}; correct start and end_frame"
        )
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise VideoPainterFolderError(f"{where}: fps is {rate}; write the video's rate")
    if not (numbers == number).any():
        raise VideoPainterFolderError(
            f"{masks}: holds no pixel with mask_id {number} of {where}; it has {np.unique(numbers).tolist()}"
        )
    return VideoPainterItem(
        video_id, video, masks, first, last, rate_hz, number, caption, (int(frames), int(height), int(width))
    )


def _read_numbers(path: Path) -> NDArray[np.integer]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            numbers = archive["arr_0"]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise VideoPainterFolderError(
            f"{path}: not a masks archive with key arr_0 ({error}); write it with numpy.savez_compressed(path, masks)"
        ) from error
    if numbers.ndim != 3 or not (np.issubdtype(numbers.dtype, np.integer) or numbers.dtype == np.bool_):
        raise VideoPainterFolderError(
            f"{path}: arr_0 is {numbers.dtype} of shape {numbers.shape}; masks are whole numbers of shape (T, H, W)"
        )
    return np.asarray(numbers)


def _masks_path(folder: Path, video_id: str) -> Path:
    return folder / "masks" / video_id / "all_masks.npz"


def _video_path(folder: Path, video_id: str) -> Path:
    return folder / "raw_videos" / video_id / f"{video_id}{VIDEO_SUFFIX}"


def _number(rate_hz: float) -> str:
    return str(int(rate_hz)) if float(rate_hz).is_integer() else repr(float(rate_hz))
