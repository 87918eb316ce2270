"""Which frames of a clip become samples: the setting's three forms, and the rule of each.

Called by `settings.py`, which refuses a wrong form at the start, and by `sample_steps.py`. Frames that look alike are
`near_duplicates.py`'s business; nothing here reads a video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMS = "every:SECONDS (every:2.0), list:INDICES of grid frames (list:0,15,30) or scene:FRAMES (scene:6)"

# Key frames mostly stand whole seconds apart, as samples do, and a grid frame can miss one by a single source frame:
# then a grid step later spares two seconds of decoding.
INTERVAL_SLACK = 0.125

# A road, its surroundings and the traffic are told apart at this size; codec noise and road texture are not seen.
THUMBNAIL_PX = (32, 18)


@dataclass(frozen=True)
class EveryInterval:
    """Frames at least so far apart in time, from the first one on."""

    interval_us: int


@dataclass(frozen=True)
class ListedFrames:
    """These indices on the clip's frame grid, ascending; those behind the clip's end are left out."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class SceneSpread:
    """So many frames, as different from each other as the clip has them."""

    frames: int


FrameChoice = EveryInterval | ListedFrames | SceneSpread


def parse_frame_choice(text: str) -> FrameChoice:
    """Read the setting.

    Raises:
        ValueError: the text is of none of the three forms; the message says what is allowed.
    """
    kind, _, value = text.strip().partition(":")
    try:
        if kind == "every" and round(float(value) * 1e6) > 0:
            return EveryInterval(round(float(value) * 1e6))
        if kind == "list" and all(int(part) >= 0 for part in value.split(",")):
            return ListedFrames(tuple(sorted({int(part) for part in value.split(",")})))
        if kind == "scene" and int(value) > 0:
            return SceneSpread(int(value))
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"use {FORMS}")


def frames_by_time(
    choice: EveryInterval | ListedFrames, times_us: NDArray[np.int64], work: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Grid indices chosen without looking at a picture, ascending.

    Args:
        times_us: (T,) int64, the grid's times.
        work: (T,) what it takes to decode each frame alone. Where given, an interval may be up to `INTERVAL_SLACK`
            longer, so as to end at a frame that takes less: one right behind a key frame.
    """
    if isinstance(choice, ListedFrames):
        return np.array([index for index in choice.indices if index < len(times_us)], dtype=np.int64)
    slack_us = 0.0 if work is None else INTERVAL_SLACK * choice.interval_us
    chosen = [0] if len(times_us) else []
    while chosen:
        earliest = times_us[chosen[-1]] + choice.interval_us
        first, last = np.searchsorted(times_us, (earliest, earliest + slack_us))
        if first == len(times_us):
            break
        offered = np.arange(first, max(first + 1, last))
        chosen.append(int(offered[0 if work is None else np.argmin(work[offered])]))
    return np.array(chosen, dtype=np.int64)


def spread_frames(frames: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Indices of `count` frames of (T, H, W, 3) sRGB that differ most from each other, ascending; all where T is less.

    The first frame, then again and again the one that is least like any chosen so far: within a factor of two of the
    best choice there is, and the same for the same clip.
    """
    looks = _thumbnails(frames)
    nearest = np.full(len(frames), np.inf)
    chosen = [0] if len(frames) else []
    while len(chosen) < min(count, len(frames)):
        nearest = np.minimum(nearest, np.abs(looks - looks[chosen[-1]]).mean(axis=1))
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
    return np.array(sorted(chosen), dtype=np.int64)


def _thumbnails(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T, N) colours of small pictures."""
    import cv2

    small = [cv2.resize(frame, THUMBNAIL_PX, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.array(small, dtype=np.float32).reshape(len(small), THUMBNAIL_PX[0] * THUMBNAIL_PX[1] * 3)
