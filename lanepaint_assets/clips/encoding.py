"""Writing video: the one encoder setting that all arms of a comparison share.

Called wherever the platform writes an mp4. Whatever is drawn into the frames is the caller's business.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Measured on a 960x540 highway clip: CRF 16 keeps 43 dB against the frames. 100 frames take 1.9 s of CPU with
# `veryfast`, 1.3 s with `superfast`, 0.6 s with `ultrafast` at twice the size of `veryfast`.
DEFAULT_CRF = 16
DEFAULT_PRESET = "superfast"

# x264's output depends on its number of threads, so the number is fixed: the same bytes on any number of cores.
ENCODER_THREADS = 2

# Videos that are watched are encoded alone, several pictures at a time: slices of one picture, the default, leave a
# core idle whenever one ends early, and take a quarter longer on two cores. One thread more than most machines have
# cores, since a picture waits for the rows of the one before.
PICTURES_THREADS = 3
PICTURES_THREAD_TYPE = ThreadType.FRAME

# With macroblock-tree rate control, x264's vector code gives other bytes for the same frames from time to time (150
# encodings of 18 frames of 192x108: 31 different files; none differ without it).
ENCODER_PARAMETERS = "mbtree=0"

# A key frame every 2 s, so that a player in a report can jump; x264's own 250 frames are half a minute at 8 Hz.
KEYFRAME_INTERVAL_S = 2.0

# Pictures drawn and converted ahead of the encoder, which then never waits; 50 MB of two 1080p panels.
PICTURES_AHEAD = 8

_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]] | NDArray[np.uint8],
    rate_hz: float,
    *,
    crf: int = DEFAULT_CRF,
    preset: str = DEFAULT_PRESET,
) -> None:
    """Encode frames as H.264 in MP4: yuv420p, BT.709 limited range and tagged so, index at the front.

    4:2:0 pictures have even sides: an odd width or height grows by one pixel, a copy of the last column or row.
    The file appears at `path` in one step; a failure leaves what was there before. The same frames give the same bytes
    with the same build of the encoder.

    Args:
        path: where to; its folder must exist.
        frames: (H, W, 3) sRGB uint8 pictures of one size, at least one.
        rate_hz: frames a second, above 0.
        crf: x264's quality, 0 (best) to 51.
        preset: x264's effort.

    Raises:
        ValueError: no frames, sizes that differ, another shape or type, or a rate of 0.
    """
    if not rate_hz > 0:
        raise ValueError(f"a video needs a rate above 0, not {rate_hz}")
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path.name}: a video needs at least one frame")
    _check(first, first.shape, 0, path)
    pictures = itertools.chain([first], pictures)
    size = (first.shape[1] + first.shape[1] % 2, first.shape[0] + first.shape[0] % 2)
    options = {"crf": str(crf), "preset": preset}
    _write(path, _converted(pictures, first.shape, path), size, rate_hz, options, ENCODER_THREADS, ThreadType.SLICE)


def write_pictures(path: Path, pictures: Iterable[av.VideoFrame], rate_hz: float, *, qp: int, preset: str) -> None:
    """Encode pictures that are yuv420p already (`planes.new_frame`), at one quantizer; in all else as `write_video`.

    A constant quantizer spares x264 the estimate of each picture's cost, which only one thread can do: a 3840x1080
    picture takes 23 ms of CPU instead of 29, and looks better at the same size.

    Args:
        path: where to; its folder must exist.
        pictures: of one size, at least one.
        rate_hz: frames a second, above 0.
        qp: x264's quantizer, 0 (best) to 51.
        preset: its effort.

    Raises:
        ValueError: no pictures, or a rate of 0.
    """
    if not rate_hz > 0:
        raise ValueError(f"a video needs a rate above 0, not {rate_hz}")
    remaining = iter(pictures)
    first = next(remaining, None)
    if first is None:
        raise ValueError(f"{path.name}: a video needs at least one frame")
    size, options = (first.width, first.height), {"qp": str(qp), "preset": preset}
    _write(path, itertools.chain([first], remaining), size, rate_hz, options, PICTURES_THREADS, PICTURES_THREAD_TYPE)


def _write(
    path: Path,
    pictures: Iterator[av.VideoFrame],
    size: tuple[int, int],
    rate_hz: float,
    options: Mapping[str, str],
    threads: int,
    thread_type: ThreadType,
) -> None:
    # 1001 is the largest denominator that video rates use (30000/1001).
    rate = Fraction(rate_hz).limit_denominator(1001)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}.", suffix=".partial", delete=False) as file:
        partial = Path(file.name)
    try:
        _encode(partial, pictures, size, rate, options, threads, thread_type)
        partial.chmod(0o644)  # temporary files are private; videos are read by players of other users
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(
    partial: Path,
    pictures: Iterator[av.VideoFrame],
    size: tuple[int, int],
    rate: Fraction,
    options: Mapping[str, str],
    threads: int,
    thread_type: ThreadType,
) -> None:
    with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        _configure(stream, *size, rate, options)
        stream.codec_context.thread_count, stream.codec_context.thread_type = threads, thread_type
        for index, picture in enumerate(_ahead(pictures)):
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _converted(frames: Iterator[NDArray[np.uint8]], shape: tuple[int, ...], path: Path) -> Iterator[av.VideoFrame]:
    """The pictures as the encoder takes them."""
    height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    converter = VideoReformatter()
    for index, original in enumerate(frames):
        frame = original
        _check(frame, shape, index, path)
        if (height, width) != shape[:2]:
            frame = np.pad(frame, ((0, height - shape[0]), (0, width - shape[1]), (0, 0)), mode="edge")
        yield converter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_CONVERSION,
        )


def _ahead(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same pictures, made in a thread of their own while the encoder works on earlier ones."""
    with ThreadPoolExecutor(1) as maker:
        waiting: deque[Future[av.VideoFrame | None]] = deque()
        try:
            for _ in range(PICTURES_AHEAD):
                waiting.append(maker.submit(next, pictures, None))
            while (picture := waiting.popleft().result()) is not None:
                waiting.append(maker.submit(next, pictures, None))
                yield picture
        finally:
            maker.shutdown(cancel_futures=True)


def _configure(stream: VideoStream, width: int, height: int, rate: Fraction, options: Mapping[str, str]) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {**options, "x264-params": ENCODER_PARAMETERS}
    context = stream.codec_context
    context.gop_size = max(1, round(KEYFRAME_INTERVAL_S * float(rate)))
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


def _check(frame: NDArray[np.uint8], shape: tuple[int, ...], index: int, path: Path) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"{path.name}: frame {index} is {frame.dtype} {frame.shape}, not uint8 (H, W, 3)")
    if frame.shape != shape:
        raise ValueError(f"{path.name}: frame {index} is {frame.shape[1]}x{frame.shape[0]}, not {shape[1]}x{shape[0]}")
