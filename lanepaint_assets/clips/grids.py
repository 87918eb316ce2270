"""The frame grid of a clip: which source frame stands for which grid time (ARCHITECTURE, "Time, pictures and seeds").

Called by probing, and wherever other cameras are looked at at the same times. Plain arithmetic on timestamps: no files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ClipGridName, FrameGrid

# spec 4 works at 8 frames a second; the driving model was trained on frames 0.1 s apart.
_RATES_HZ: dict[ClipGridName, float] = {"spec_8fps": 8.0, "model_10hz": 10.0}


def grid_rate(name: ClipGridName) -> float:
    """Frames a second of the grid called `name`."""
    return _RATES_HZ[name]


def latest_at_or_before(source_timestamps_us: NDArray[np.int64], wanted_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the latest source frame at or before each wanted time; of equal timestamps the last one.

    Raises:
        ValueError: a wanted time lies before the first source frame, or the source times run backwards.
    """
    source = _checked(source_timestamps_us)
    wanted = np.asarray(wanted_us, dtype=np.int64)
    index = np.searchsorted(source, wanted, side="right").astype(np.int64) - 1
    if index.size and int(index.min()) < 0:
        raise ValueError(f"the first frame is at {int(source[0])} us, but {int(wanted.min())} us was asked for")
    return index


def frame_grid(source_timestamps_us: NDArray[np.int64], rate_hz: float, frame_limit: int) -> FrameGrid:
    """Lay a regular grid over a clip.

    Grid times are t_k = first source time + k / rate, for as long as a source frame is still shown: t_k lies before the
    last frame's time plus the median frame duration (exactly at the last frame's time where there is only one frame).
    At each, the latest source frame at or before it is used, so nothing is ever shown early. 30 frames a second at 8 Hz
    thus give source frames 0, 3, 7, 11, 15, 18, ...

    Args:
        source_timestamps_us: (N,) int64, non-decreasing, N >= 1; gaps and equal times are allowed.
        rate_hz: grid frames a second, above 0.
        frame_limit: most frames of the grid, at least 1.

    Raises:
        ValueError: no source frames, times that run backwards, or a rate or limit out of range.
    """
    source = _checked(source_timestamps_us)
    if not rate_hz > 0:
        raise ValueError(f"a frame grid needs a rate above 0, not {rate_hz}")
    if frame_limit < 1:
        raise ValueError(f"a frame grid needs room for at least 1 frame, not {frame_limit}")
    first, last = int(source[0]), int(source[-1])
    shown_us = int(np.median(np.diff(source))) if source.size > 1 else 0
    # Exclusive end; with a duration of 0 the last frame's own instant still counts.
    end = last + max(shown_us, 1)
    possible = min(frame_limit, int((end - first) * rate_hz / 1e6) + 2)
    offsets = np.rint(np.arange(possible) * 1e6 / rate_hz).astype(np.int64)
    times = first + offsets[offsets < end - first]
    index = latest_at_or_before(source, times)
    return FrameGrid(rate_hz=rate_hz, timestamps_us=times, source_index=index, source_timestamps_us=source[index])


def _checked(source_timestamps_us: NDArray[np.int64]) -> NDArray[np.int64]:
    source = np.asarray(source_timestamps_us, dtype=np.int64)
    if source.ndim != 1 or source.size == 0:
        raise ValueError("a frame grid needs at least one source frame")
    if np.any(np.diff(source) < 0):
        at = int(np.flatnonzero(np.diff(source) < 0)[0])
        raise ValueError(f"frame times run backwards after frame {at} ({int(source[at])} us)")
    return source
