"""Pictures out of video files, as upright sRGB arrays.

Called by every stage that looks at frames: `read_frames` for a probed clip, `read_frames_at` for the other cameras of a
moment. One pass over the file, and only the wanted frames are converted. No listing, no probing, no resizing.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lanepaint_assets.clips.grids import latest_at_or_before
from lanepaint_assets.clips.records import ClipFacts, ClipFrames, FrameGrid
from lanepaint_assets.clips.video_file import (
    InvalidClipError,
    Timeline,
    colour_matrix,
    colour_range,
    open_video_file,
    quarter_turns,
    read_timeline,
)

# Without the last three the converter rounds chroma down and repeats it over pixel pairs: up to 2 levels off on flat
# colours instead of 1 (measured on saturated patches).
CONVERSION = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)

# Frames that decoding on passes over more cheaply than a seek, after which the decoder's threads start anew.
SEEK_FRAMES = 8

# Planes of their own take the converter a third of the time that interleaved pixels take, for the same values (1080p:
# 6 against 17 ms of CPU); interleaving them afterwards takes 1 ms.
PLANES = "gbrp"


def read_frames(path: Path, facts: ClipFacts, indices: slice | NDArray[np.int64] | None = None) -> ClipFrames:
    """Decode a clip's grid frames.

    Args:
        path: local file with the clip's bytes.
        facts: what probing found; its grid says which source frames are wanted.
        indices: which grid frames, of an array ascending ones; all where None.

    Returns:
        (T, H, W, 3) sRGB uint8, full range, upright, and their part of the grid.

    Raises:
        InvalidClipError: the file is not the one probed (fewer frames, another size) or cannot be decoded.
    """
    grid = facts.grid
    part = slice(None) if indices is None else indices
    grid = FrameGrid(
        rate_hz=grid.rate_hz,
        timestamps_us=grid.timestamps_us[part],
        source_index=grid.source_index[part],
        source_timestamps_us=grid.source_timestamps_us[part],
    )
    with open_video_file(path) as (container, stream):
        timeline = read_timeline(container, stream)
    if len(timeline) != facts.frame_count:
        raise InvalidClipError(
            f"{facts.ref.item_key}: the file has {len(timeline)} frames, but {facts.frame_count} when it was probed; "
            "it changed since, materialize raw_clips again"
        )
    if not len(grid):
        return ClipFrames(frames=np.zeros((0, facts.height, facts.width, 3), dtype=np.uint8), grid=grid)
    frames = _collect(path, timeline, grid.source_index)
    if frames.shape[1:3] != (facts.height, facts.width):
        raise InvalidClipError(
            f"{facts.ref.item_key}: its pictures are {frames.shape[2]}x{frames.shape[1]}, but {facts.width}x"
            f"{facts.height} when it was probed; it changed since, materialize raw_clips again"
        )
    return ClipFrames(frames=frames, grid=grid)


def frames_to_decode(path: Path, facts: ClipFacts) -> NDArray[np.int64]:
    """How many source frames must be decoded before each grid frame: (T,) int64, 0 for key frames.

    Raises:
        InvalidClipError: the file cannot be read.
    """
    with open_video_file(path) as (container, stream):
        timeline = read_timeline(container, stream)
    return np.asarray(facts.grid.source_index - _last_key_frames(timeline, facts.grid.source_index), dtype=np.int64)


def read_frames_at(
    path: Path, source_timestamps_us: NDArray[np.int64] | None, wanted_us: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Decode, for each wanted time, the latest frame at or before it.

    Args:
        path: local video file.
        source_timestamps_us: (N,) the data set's time of each source frame; None: presentation time less the first.
        wanted_us: (M,) times on the same clock, in any order.

    Returns:
        (M, H, W, 3) sRGB uint8, upright.

    Raises:
        InvalidClipError: a time lies before the first frame or after the last one has ended, the number of timestamps
            is not that of the frames, or the file cannot be decoded.
        ValueError: `wanted_us` is empty.
    """
    with open_video_file(path) as (container, stream):
        timeline = read_timeline(container, stream)
    source = frame_times(timeline, source_timestamps_us)
    wanted = np.asarray(wanted_us, dtype=np.int64)
    if not wanted.size:
        raise ValueError("no times were asked for")
    end = int(source[-1]) + timeline.frame_duration_us
    if int(wanted.max()) > end:
        raise InvalidClipError(f"its last frame ends at {end} us, but {int(wanted.max())} us was asked for")
    try:
        index = latest_at_or_before(source, wanted)
    except ValueError as error:
        raise InvalidClipError(str(error)) from error
    return _collect(path, timeline, index)


def read_all_frames(path: Path) -> NDArray[np.uint8]:
    """Decode every frame of a short video: (T, H, W, 3) sRGB uint8, upright.

    Raises:
        InvalidClipError: the file cannot be decoded.
    """
    with open_video_file(path) as (container, stream):
        timeline = read_timeline(container, stream)
    return _collect(path, timeline, np.arange(len(timeline)))


def frame_times(timeline: Timeline, source_timestamps_us: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The clip's clock: the data set's timestamps where it has them, else the file's own.

    Raises:
        InvalidClipError: the data set has another number of timestamps than the file has frames.
    """
    if source_timestamps_us is None:
        return timeline.timestamps_us
    if source_timestamps_us.size != len(timeline):
        raise InvalidClipError(
            f"the data set gives {source_timestamps_us.size} frame timestamps, the file has {len(timeline)} frames"
        )
    return source_timestamps_us


def upright_rgb(frame: VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert one decoded frame to (H, W, 3) sRGB uint8, full range, turned upright."""
    matrix = colour_matrix(frame)
    picture = converter.reformat(
        frame,
        format=PLANES,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour_range(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=CONVERSION,
    )
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in picture.planes
    )
    pixels = np.asarray(cv2.merge([red, green, blue]), dtype=np.uint8)
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _collect(path: Path, timeline: Timeline, index: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The source frames `index` (repeats and any order allowed) as one array."""
    wanted = np.unique(index)
    frames: NDArray[np.uint8] | None = None
    found = 0
    for number, pixels in _decode(path, timeline, wanted):
        if frames is None:
            frames = np.empty((index.size, *pixels.shape), dtype=np.uint8)
        if pixels.shape != frames.shape[1:]:
            raise InvalidClipError(f"the picture size changes at frame {number}")
        frames[index == number] = pixels
        found += 1
    if frames is None or found < wanted.size:
        raise InvalidClipError(f"damaged: only {found} of {wanted.size} wanted frames could be decoded")
    return frames


def _decode(
    path: Path, timeline: Timeline, wanted: NDArray[np.int64], *, from_start: bool = False
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode the wanted frames, each run of them from the last key frame before it."""
    converter = VideoReformatter()
    needed = {int(number) for number in wanted}
    with open_video_file(path) as (container, stream):
        try:
            for run in [wanted] if from_start else _runs(timeline, wanted):
                first, last = int(run[0]), int(run[-1])
                is_at_start = from_start or not _seek(container, stream, timeline, first)
                for number, frame in _numbered(container, stream, timeline, needed):
                    if number > first and first in needed and not is_at_start:
                        # Containers that seek by decoding time can land behind a key frame that is shown later.
                        break
                    if number in needed:
                        if frame.is_corrupt:
                            raise InvalidClipError(f"damaged: frame {number} is incomplete")
                        needed.discard(number)
                        yield number, upright_rgb(frame, converter)
                    if number >= last:
                        break
        except av.FFmpegError as error:
            raise InvalidClipError(f"damaged: a frame cannot be decoded ({error.strerror})") from error
    if needed and not from_start:
        yield from _decode(path, timeline, np.asarray(sorted(needed), dtype=np.int64), from_start=True)


def _runs(timeline: Timeline, wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Wanted frames that are best decoded in one go: between two runs lies a key frame that is worth seeking."""
    keys = _last_key_frames(timeline, wanted)
    return np.split(wanted, np.flatnonzero(keys[1:] - wanted[:-1] > SEEK_FRAMES) + 1)


def _last_key_frames(timeline: Timeline, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the last key frame at or before each source frame; 0 where times are unknown."""
    if timeline.pts is None or not timeline.keyframe_pts.size:
        return np.zeros_like(numbers)
    keys = np.searchsorted(timeline.pts, timeline.keyframe_pts)
    at = np.searchsorted(keys, numbers, side="right") - 1
    return np.asarray(np.where(at < 0, 0, keys[np.maximum(at, 0)]), dtype=np.int64)


def _decoded(container: InputContainer, stream: VideoStream, needed_pts: Set[int]) -> Iterator[VideoFrame]:
    """Frames of the stream; those that neither `needed_pts` nor other frames need may be left out."""
    for packet in container.demux(stream):
        skipped = packet.pts is not None and packet.pts not in needed_pts
        # Half of an x264 stream's frames are B frames that nothing refers to.
        stream.codec_context.skip_frame = "NONREF" if skipped else "DEFAULT"
        yield from packet.decode()


def _seek(container: InputContainer, stream: VideoStream, timeline: Timeline, first: int) -> bool:
    """Go to the last key frame at or before frame `first`; False where that is the start, or times are unknown."""
    if timeline.pts is None:
        return False
    key = int(np.searchsorted(timeline.keyframe_pts, timeline.pts[first], side="right")) - 1
    if key > 0:
        container.seek(int(timeline.keyframe_pts[key]), stream=stream)
    return key > 0


def _numbered(
    container: InputContainer, stream: VideoStream, timeline: Timeline, needed: Set[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their number in presentation order, from where the container stands; all of `needed`."""
    if timeline.pts is None:  # frames can only be counted; the container stands at the start
        yield from enumerate(container.decode(stream))
        return
    seen: dict[int, int] = {}  # frames already met of each time: equal times are told apart by their order
    for frame in _decoded(container, stream, {int(timeline.pts[number]) for number in needed}):
        if frame.pts is None:
            continue
        lower = int(np.searchsorted(timeline.pts, frame.pts, side="left"))
        if lower == len(timeline) or int(timeline.pts[lower]) != frame.pts:
            continue  # hidden by an edit list
        number = lower + seen.get(frame.pts, 0)
        seen[frame.pts] = seen.get(frame.pts, 0) + 1
        yield number, frame
