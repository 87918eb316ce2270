"""The sidecar beside every edited video: which source frame and which time each of its frames stands for.

Editing writes it, evaluation reads it to put edited frames back by timestamp. Choosing the frames is the frame grid's
business (`records.FrameGrid`), not this file's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lanepaint_assets.clips.records import FrameGrid


class SidecarFrame(BaseModel):
    """One frame of the edited video.

    Attributes:
        source_frame_idx: index of the source frame that it was made from.
        timestamp_us: its grid time on the data set's clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_frame_idx: int = Field(ge=0)
    timestamp_us: int


class FrameSidecar(RootModel[tuple[SidecarFrame, ...]]):
    """One entry a frame, in the order of the video; a plain JSON list on disk.

    Grid times rise strictly; source indices never fall (a slow source shows one frame at several grid times).
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _frames_are_in_order(self) -> FrameSidecar:
        for index, (before, after) in enumerate(pairwise(self.root), start=1):
            if after.timestamp_us <= before.timestamp_us or after.source_frame_idx < before.source_frame_idx:
                raise ValueError(
                    f"entry {index} (source frame {after.source_frame_idx} at {after.timestamp_us} us) does not follow "
                    f"entry {index - 1} (source frame {before.source_frame_idx} at {before.timestamp_us} us)"
                )
        return self

    def __len__(self) -> int:
        return len(self.root)

    @property
    def timestamps_us(self) -> NDArray[np.int64]:
        """(T,) int64, the time of each frame of the video."""
        return np.array([frame.timestamp_us for frame in self.root], dtype=np.int64)

    @property
    def source_index(self) -> NDArray[np.int64]:
        """(T,) int64, the source frame of each frame of the video."""
        return np.array([frame.source_frame_idx for frame in self.root], dtype=np.int64)

    @classmethod
    def of_grid(cls, grid: FrameGrid, frame_count: int | None = None) -> FrameSidecar:
        """The sidecar of a video that shows the first `frame_count` grid frames (None: all).

        Raises:
            ValueError: the grid has fewer frames than the video.
        """
        count = len(grid) if frame_count is None else frame_count
        if count > len(grid):
            raise ValueError(f"the video has {count} frames but its clip's grid only {len(grid)}")
        return cls(
            tuple(
                SidecarFrame(source_frame_idx=int(source), timestamp_us=int(time))
                for source, time in zip(grid.source_index[:count], grid.timestamps_us[:count], strict=True)
            )
        )

    def to_json(self) -> str:
        """The file's text: a JSON list of {source_frame_idx, timestamp_us}."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "timestamps sidecar") -> FrameSidecar:
        """Read a sidecar back.

        Args:
            text: the file's content.
            name: how to call the file in an error.

        Raises:
            ValueError: the text is not a sidecar; the message names the file, the entry and the remedy.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise ValueError(
                f"{name} is not a list of {{source_frame_idx, timestamp_us}} ({place}: {first['msg']}); "
                "materialize `edited_videos` of this clip again"
            ) from error
