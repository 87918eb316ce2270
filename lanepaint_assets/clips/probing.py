"""Looking into a clip once, before anyone works on it: its facts, or the reason why it cannot be used.

Called by the `raw_clips` asset. Decodes a single frame; everything else is read from packets.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import frame_times
from lanepaint_assets.clips.grids import frame_grid, grid_rate
from lanepaint_assets.clips.records import ClipFacts, ClipGridName, ClipRef
from lanepaint_assets.clips.sources import ClipSource, ClipSourceError
from lanepaint_assets.clips.video_file import (
    InvalidClipError,
    colour_names,
    open_video_file,
    quarter_turns,
    read_timeline,
)

__all__ = ["MIN_GRID_FRAMES", "InvalidClipError", "probe_clip"]

# A driver sees four frames a camera (ARCHITECTURE, "Time, pictures and seeds"): a clip with fewer serves nobody.
MIN_GRID_FRAMES = 4

# Gaps that differ by more than this from the median mean a variable rate; containers with a millisecond clock already
# jitter by 1 ms.
STEADY_GAP_US = 2_000


def probe_clip(source: ClipSource, ref: ClipRef, grid_name: ClipGridName, frame_limit: int) -> ClipFacts:
    """Probe one clip.

    Args:
        source: where the clip comes from.
        ref: the clip.
        grid_name: which frame grid to lay.
        frame_limit: most grid frames.

    Raises:
        InvalidClipError: the clip cannot be used; the message says why.
    """
    try:
        with source.open_video(ref) as path:
            with open_video_file(path) as (container, stream):
                timeline = read_timeline(container, stream)
                codec = stream.codec_context.name
            with open_video_file(path) as (container, stream):
                first = _first_frame(container.decode(stream))
        times = frame_times(timeline, source.frame_timestamps_us(ref))
        has_egomotion = source.egomotion(ref) is not None
        has_calibration = source.camera(ref) is not None
    except FileNotFoundError as error:
        raise InvalidClipError(f"no such file: {ref.uri}") from error
    except ClipSourceError as error:
        raise InvalidClipError(str(error)) from error
    try:
        grid = frame_grid(times, grid_rate(grid_name), frame_limit)
    except ValueError as error:
        raise InvalidClipError(str(error)) from error
    if len(grid) < MIN_GRID_FRAMES:
        raise InvalidClipError(
            f"too short: {len(times)} frames give {len(grid)} at {grid.rate_hz:g} Hz, "
            f"at least {MIN_GRID_FRAMES} are needed"
        )
    fps, duration_s, variable = _rate(times)
    turns = quarter_turns(first)
    width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
    matrix, levels = colour_names(first)
    return ClipFacts(
        ref=ref,
        fps=fps,
        frame_count=len(timeline),
        duration_s=duration_s,
        width=width,
        height=height,
        codec=codec,
        pixel_format=first.format.name,
        color_space=matrix,
        color_range=levels,
        rotation_deg=turns * 90,
        variable_frame_rate=variable,
        has_egomotion=has_egomotion,
        has_calibration=has_calibration,
        grid_name=grid_name,
        grid_rate_hz=grid.rate_hz,
        grid_timestamps_us=tuple(grid.timestamps_us.tolist()),
        grid_source_index=tuple(grid.source_index.tolist()),
        grid_source_timestamps_us=tuple(grid.source_timestamps_us.tolist()),
        source_kind=source.kind,
    )


def _first_frame(frames: Iterator[VideoFrame]) -> VideoFrame:
    try:
        frame = next(frames, None)
    except av.FFmpegError as error:
        raise InvalidClipError(f"unreadable: its first frame cannot be decoded ({error.strerror})") from error
    if frame is None:
        raise InvalidClipError("unreadable: not one of its frames can be decoded")
    return frame


def _rate(times: NDArray[np.int64]) -> tuple[float, float, bool]:
    """Mean frames a second, duration in seconds with the last frame's, and whether the gaps differ."""
    gaps = np.diff(times)
    median = float(np.median(gaps))
    span_us = int(times[-1] - times[0])
    fps = gaps.size * 1e6 / span_us if span_us else 0.0
    variable = bool(np.max(np.abs(gaps - median)) > STEADY_GAP_US)
    return round(fps, 6), (span_us + median) / 1e6, variable
