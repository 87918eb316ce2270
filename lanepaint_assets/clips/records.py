"""The plain records that say what a clip is: its address, its facts, its frame grid.

Called by every stage. No decoding and no listing here: `sources.py` finds clips, `decoding.py` opens them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

ClipGridName = Literal["spec_8fps", "model_10hz"]

# Whose clips they are, which is what decides under which terms they may be used.
SourceKind = Literal["sample_drive", "physical_ai_av", "own_files"]

# Characters of a clip id; with camera, prompt and ending a file's name stays below the 255 that file systems allow.
_LONGEST_ID = 120
# No leading dash: programs would read a name like that as an option.
PLAIN_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{_LONGEST_ID - 1}}}")

CHUNK_KEY = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


class ClipRef(BaseModel):
    """One video of one camera, as a source lists it.

    `uri` is what the source needs to open the file again; `etag` changes when the bytes do.
    """

    model_config = ConfigDict(frozen=True)

    clip_id: str
    camera: str
    uri: str
    size: int
    etag: str

    @property
    def item_key(self) -> str:
        """`<clip_id>.<camera>`, the key of the clip's items in every manifest."""
        return f"{self.clip_id}.{self.camera}"


class ChunkMembership(BaseModel):
    """The clips of one `clip_chunk` partition, fixed when the chunk is registered."""

    model_config = ConfigDict(frozen=True)

    key: str
    source: str
    clips: tuple[ClipRef, ...]


class ClipFacts(BaseModel):
    """What probing a clip found: the row of `raw_clips`.

    Widths and heights are those of the upright picture, after the rotation flag. `source_kind` is found out while the
    source is at hand: whoever reads the facts later may have no way to it.
    """

    model_config = ConfigDict(frozen=True)

    ref: ClipRef
    fps: float
    frame_count: int
    duration_s: float
    width: int
    height: int
    codec: str
    pixel_format: str
    color_space: str
    color_range: str
    rotation_deg: int
    variable_frame_rate: bool
    has_egomotion: bool
    has_calibration: bool
    grid_name: ClipGridName
    grid_rate_hz: float
    grid_timestamps_us: tuple[int, ...]
    grid_source_index: tuple[int, ...]
    grid_source_timestamps_us: tuple[int, ...]
    # Of facts written without it nobody knows whose clip it is; a person's own is what has the strictest terms.
    source_kind: SourceKind = "own_files"

    @property
    def grid(self) -> FrameGrid:
        """The frame grid as arrays."""
        return FrameGrid(
            rate_hz=self.grid_rate_hz,
            timestamps_us=np.asarray(self.grid_timestamps_us, dtype=np.int64),
            source_index=np.asarray(self.grid_source_index, dtype=np.int64),
            source_timestamps_us=np.asarray(self.grid_source_timestamps_us, dtype=np.int64),
        )


@dataclass(frozen=True)
class FrameGrid:
    """The frames of a clip that the platform uses (ARCHITECTURE, "Time, pictures and seeds").

    Attributes:
        rate_hz: grid frames a second.
        timestamps_us: (T,) int64, grid times on the data set's clock.
        source_index: (T,) int64, the source frame shown at each grid time: the latest one at or before it.
        source_timestamps_us: (T,) int64, the times of those source frames.
    """

    rate_hz: float
    timestamps_us: NDArray[np.int64]
    source_index: NDArray[np.int64]
    source_timestamps_us: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.timestamps_us.size)


@dataclass(frozen=True)
class ClipFrames:
    """Decoded grid frames: (T, H, W, 3) sRGB uint8, full range, and the grid they lie on."""

    frames: NDArray[np.uint8]
    grid: FrameGrid

    @property
    def timestamps_us(self) -> NDArray[np.int64]:
        """(T,) grid times: when each frame is shown, and what stages find it by."""
        return self.grid.timestamps_us

    @property
    def taken_us(self) -> NDArray[np.int64]:
        """(T,) when each frame was taken, up to a source frame's duration earlier: what ego poses are looked up at."""
        return self.grid.source_timestamps_us


def flat_clip_id(stem: str, uri: str) -> str:
    """Clip id of a file in a flat folder: sanitized stem plus 8 hex digits of the uri's SHA-256."""
    clean = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_").lstrip("_-") or "clip"
    digest = hashlib.sha256(uri.encode()).hexdigest()[:8]
    return f"{clean[: _LONGEST_ID - len(digest) - 1]}_{digest}"
