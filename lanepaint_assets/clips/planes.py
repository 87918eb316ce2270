"""Pictures as H.264 holds them: one full and two half planes, BT.709 limited range, without a detour through RGB.

Called by `rendering`, which draws on frames that come from one video and go into another: converting 1080p to RGB and
back costs as much as encoding it. Whoever looks at colours uses `decoding.py` and `encoding.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import CONVERSION, upright_rgb
from lanepaint_assets.clips.video_file import InvalidClipError

Plane = NDArray[np.uint8]

PIXEL_FORMAT = "yuv420p"

# ITU-R BT.709, limited range: rows Y, Cb, Cr over R, G, B of 0 to 255, and what black maps to.
RGB_TO_YUV = (
    np.array(
        [
            [0.2126 * 219, 0.7152 * 219, 0.0722 * 219],
            [-0.2126 / 1.8556 * 224, -0.7152 / 1.8556 * 224, 0.5 * 224],
            [0.5 * 224, -0.7152 / 1.5748 * 224, -0.0722 / 1.5748 * 224],
        ]
    )
    / 255
)
BLACK_YUV = np.array([16.0, 128.0, 128.0])


@dataclass(frozen=True, eq=False)
class Planes:
    """One picture, or a part of one: views that can be drawn into.

    Attributes:
        y: (H, W) uint8, luma, H and W even.
        u, v: (H / 2, W / 2) uint8, chroma.
    """

    y: Plane
    u: Plane
    v: Plane

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Planes:
        """Views into a yuv420p frame's own memory."""
        y, u, v = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        )
        return cls(y, u, v)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return int(self.y.shape[1]), int(self.y.shape[0])

    @property
    def all(self) -> tuple[Plane, Plane, Plane]:
        """Luma, then both chroma planes."""
        return self.y, self.u, self.v

    def part(self, x: int, y: int, width: int, height: int) -> Planes:
        """The views of a rectangle inside the picture; all four numbers are even."""
        half = np.s_[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2]
        return Planes(self.y[y : y + height, x : x + width], self.u[half], self.v[half])

    def take(self, other: Planes) -> None:
        """Overwrite with a picture of the same size."""
        for mine, theirs in zip(self.all, other.all, strict=True):
            np.copyto(mine, theirs)

    def to_rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) sRGB uint8, as a player shows it."""
        frame = new_frame(*self.size)
        Planes.of(frame).take(self)
        return upright_rgb(frame, VideoReformatter())


def new_frame(width: int, height: int) -> av.VideoFrame:
    """An uninitialized picture of even sides, tagged as what its planes hold."""
    frame = av.VideoFrame(width, height, PIXEL_FORMAT)
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
    return frame


def yuv_of(rgb: NDArray[np.uint8] | tuple[int, int, int]) -> NDArray[np.float64]:
    """(..., 3) luma and chroma of (..., 3) sRGB, not rounded."""
    values: NDArray[np.float64] = np.asarray(rgb, dtype=np.float64) @ RGB_TO_YUV.T + BLACK_YUV
    return values


def frame_count(video: bytes) -> int:
    """How many frames a video file in memory says it has.

    Raises:
        InvalidClipError: it is no video.
    """
    try:
        with av.open(io.BytesIO(video), "r") as container:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except (av.FFmpegError, IndexError) as error:
        raise InvalidClipError(f"it is not a video ({error})") from error


def decoded_planes(video: bytes) -> Iterator[Planes]:
    """The frames of a video file in memory, in order. They belong to the decoder: copy them, do not draw into them.

    Raises:
        InvalidClipError: it cannot be decoded.
    """
    converter = VideoReformatter()
    try:
        with av.open(io.BytesIO(video), "r") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.format.name != PIXEL_FORMAT:
                    frame = converter.reformat(frame, format=PIXEL_FORMAT, interpolation=CONVERSION)
                yield Planes.of(frame)
    except (av.FFmpegError, IndexError) as error:
        raise InvalidClipError(f"damaged: it cannot be decoded ({error})") from error
