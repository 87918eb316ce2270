"""Opening a video file and reading its timeline, without decoding more than is asked for.

Called by `probing.py` and `decoding.py`, which share one meaning of "source frame n": the n-th picture in the order of
presentation times that the container shows (pictures that an edit list hides do not count). Nothing about data sets,
grids or encoding here.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Untagged pictures of at least this many lines are BT.709, smaller ones BT.601.
BT709_FROM_LINES = 720

# A packet of any compressing codec starts with a length or a start code; this many zero bytes mean that this part of
# the file was never written.
ZERO_HEAD_BYTES = 16

# AVColorSpace number of a frame -> the matrix that the converter knows. Others (RGB, reserved, YCgCo) are absent.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_MATRIX_NAMES = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
}
_RANGE_NAMES = {1: "limited", 2: "full"}


class InvalidClipError(ValueError):
    """A clip cannot be used. The message is the reason, in words for the clip's row."""


@dataclass(frozen=True)
class Timeline:
    """When each source frame is shown.

    Attributes:
        timestamps_us: (N,) int64, non-decreasing, first frame at 0.
        pts: (N,) int64 presentation times in units of `time_base`, sorted; None where the container stores none and
            frames can only be counted.
        keyframe_pts: (K,) int64, sorted; places where decoding can start.
        time_base: seconds a unit.
        frame_duration_us: how long a frame is shown, the median over the file.
    """

    timestamps_us: NDArray[np.int64]
    pts: NDArray[np.int64] | None
    keyframe_pts: NDArray[np.int64]
    time_base: Fraction
    frame_duration_us: int

    def __len__(self) -> int:
        return int(self.timestamps_us.size)


# Several clips are decoded at a time, so a thread a core would only cost memory and waiting.
DECODER_THREADS = 4


@contextmanager
def open_video_file(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `path` and choose its video stream (a cover picture does not count as one).

    Raises:
        InvalidClipError: no such file, empty, cut off before its index, not a video, audio only, no decoder, or
            pictures of zero size.
    """
    if not path.is_file():
        raise InvalidClipError("no such file")
    if path.stat().st_size == 0:
        raise InvalidClipError("the file is empty (0 bytes)")
    try:
        container = av.open(str(path), mode="r")
    except (av.FFmpegError, UnicodeDecodeError, ValueError) as error:
        raise InvalidClipError(_why_unopened(path, error)) from error
    except OSError as error:
        raise InvalidClipError(f"the file cannot be read: {error.strerror or error}") from error
    with container:
        stream = _video_stream(container)
        # Both of PyAV's ways of threading: frame threads are what makes one-pass reading fast.
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = DECODER_THREADS
        yield container, stream


def read_timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """Read every packet's times, without decoding.

    Raises:
        InvalidClipError: packets are cut off or missing, or neither times nor a frame rate are stored.
    """
    shown: list[int | None] = []
    keys: list[int] = []
    packets = 0
    # Uncompressed black pictures are zeros too.
    blank_means_missing = stream.codec_context.name != "rawvideo"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # the flush mark at the end
                continue
            blank = blank_means_missing and not any(memoryview(packet)[:ZERO_HEAD_BYTES])
            if packet.is_corrupt or blank:
                raise InvalidClipError(f"truncated: its data end or are blank after {packets} frames")
            packets += 1
            if packet.is_discard:
                continue
            shown.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
    except av.FFmpegError as error:
        raise InvalidClipError(f"truncated or damaged after {packets} frames ({error.strerror})") from error
    # Only MP4's index promises a count; other containers store estimates.
    if "mp4" in container.format.name and packets < stream.frames:
        raise InvalidClipError(f"truncated: it announces {stream.frames} frames and holds {packets}")
    if not shown:
        raise InvalidClipError("it has a video stream without a single frame")
    time_base = stream.time_base or Fraction(1, av.time_base)
    known = [pts for pts in shown if pts is not None]
    if len(known) == len(shown):
        pts = np.sort(np.asarray(known, dtype=np.int64))
        # Python integers: ticks times a million can pass 63 bits in files with a nanosecond clock.
        microseconds = [round((int(tick) - int(pts[0])) * time_base * 1_000_000) for tick in pts]
        return Timeline(
            timestamps_us=np.asarray(microseconds, dtype=np.int64),
            pts=pts,
            keyframe_pts=np.sort(np.asarray(keys, dtype=np.int64)),
            time_base=time_base,
            frame_duration_us=_frame_duration_us(microseconds, stream),
        )
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise InvalidClipError("it stores neither frame times nor a frame rate")
    counted = [round(index * 1_000_000 / rate) for index in range(len(shown))]
    return Timeline(
        timestamps_us=np.asarray(counted, dtype=np.int64),
        pts=None,
        keyframe_pts=np.zeros(0, dtype=np.int64),
        time_base=time_base,
        frame_duration_us=round(1_000_000 / rate),
    )


def colour_matrix(frame: VideoFrame) -> Colorspace:
    """The YUV matrix a frame was made with: its tag, or by its number of lines where it has none."""
    by_size = Colorspace.ITU709 if frame.height >= BT709_FROM_LINES else Colorspace.ITU601
    return _MATRICES.get(int(frame.colorspace), by_size)


def colour_range(frame: VideoFrame) -> ColorRange:
    """Whether a frame's levels span 16 to 235 (MPEG, also where untagged) or 0 to 255 (JPEG)."""
    full = int(frame.color_range) == ColorRange.JPEG or frame.format.name.startswith("yuvj") or frame.format.is_rgb
    return ColorRange.JPEG if full else ColorRange.MPEG


def colour_names(frame: VideoFrame) -> tuple[str, str]:
    """The tags as stored: matrix (`bt709`, ..., `unspecified`) and range (`limited`, `full`, `unspecified`)."""
    return (
        _MATRIX_NAMES.get(int(frame.colorspace), "unspecified"),
        _RANGE_NAMES.get(int(frame.color_range), "unspecified"),
    )


def quarter_turns(frame: VideoFrame) -> int:
    """How many quarter turns counter-clockwise (0 to 3) make the stored picture upright."""
    return round(frame.rotation / 90) % 4


def _video_stream(container: InputContainer) -> VideoStream:
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        if container.streams.audio:
            raise InvalidClipError("it has audio only, no video stream")
        raise InvalidClipError("it is not a video: no video stream in it")
    stream = pictures[0]
    if stream.codec_context is None:
        raise InvalidClipError("its codec is not supported here")
    if stream.codec_context.width <= 0 or stream.codec_context.height <= 0:
        raise InvalidClipError("its pictures have zero size")
    return stream


def _why_unopened(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "truncated: the MP4 index (moov box) is missing or broken; copy or record the file again"
    if not any(head):
        return "the file starts with zeros: an unfinished copy"
    return f"it is not a video ({getattr(error, 'strerror', None) or error})"


def _frame_duration_us(timestamps_us: list[int], stream: VideoStream) -> int:
    if len(timestamps_us) > 1:
        return round(statistics.median(b - a for a, b in itertools.pairwise(timestamps_us)))
    rate = stream.average_rate
    return round(1_000_000 / rate) if rate else 0
