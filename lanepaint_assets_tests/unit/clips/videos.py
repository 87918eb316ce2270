"""Small videos made in code. Each frame carries its number as a bar code: a test can prove which frame it got."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

BITS = 8


def numbered_picture(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    cell = width // BITS
    for bit in range(BITS):
        picture[: height // 2, bit * cell : (bit + 1) * cell] = 255 if number >> bit & 1 else 0
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    height, width = picture.shape[:2]
    cell = width // BITS
    inner = slice(height // 8, height // 2 - height // 8)
    return sum(
        1 << bit
        for bit in range(BITS)
        if picture[inner, bit * cell + cell // 4 : (bit + 1) * cell - cell // 4].mean() > 128
    )


def numbers_of(frames: NDArray[np.uint8]) -> list[int]:
    return [number_of(frame) for frame in frames]


def write_numbered(
    path: Path,
    count: int | None = None,
    rate: int = 30,
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    size: tuple[int, int] = (64, 48),
    rotation: float | None = None,
    pixel_format: str = "yuv420p",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    faststart: bool = False,
    form: str = "mp4",
) -> Path:
    """Write `count` numbered frames at `rate`, or one at each of `pts` in units of `time_base`."""
    ticks = list(range(count or 0)) if pts is None else list(pts)
    base = time_base or Fraction(1, rate)
    with av.open(str(path), "w", format=form, options={"movflags": "+faststart"} if faststart else {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base
        stream.options = options if options is not None else {"crf": "12", "preset": "ultrafast"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24").reformat(
                format=pixel_format
            )
            frame.pts, frame.time_base = tick, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_coloured(
    path: Path,
    colours: NDArray[np.uint8],
    matrix: Colorspace,
    levels: ColorRange,
    *,
    tag_matrix: int | None,
    tag_range: int | None,
    lines: int = 64,
) -> Path:
    """Eight frames of vertical stripes in `colours` (N, 3), really made with `matrix` and `levels`, tagged as asked."""
    stripes = np.repeat(colours[None], lines, axis=0).repeat(32, axis=1)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = stripes.shape[1], stripes.shape[0], "yuv420p"
        stream.options = {"crf": "1", "preset": "ultrafast"}
        if tag_matrix is not None:
            stream.codec_context.colorspace = tag_matrix
        if tag_range is not None:
            stream.codec_context.color_range = tag_range
        converter = VideoReformatter()
        for index in range(8):
            picture = converter.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(stripes), format="rgb24"),
                format="yuv420p",
                src_colorspace=matrix,
                dst_colorspace=matrix,
                src_color_range=ColorRange.JPEG,
                dst_color_range=levels,
            )
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000)
        for block in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, block * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
